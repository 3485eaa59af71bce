// A whole MQTT session against a hostile peer: any octets in any pieces, with deliveries, late
// answers, congestion, time, take-overs and lost connections in between. Nothing may crash or leak,
// what the server sends must be decodable, and nothing is sent after the end.
//
// The input is a script: each step is one octet that says what happens and, for input, a length.
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "codecs/mqtt/decoder.h"
#include "codecs/mqtt/registration.h"
#include "core/base/log.h"
#include "tests/fuzz/check.h"
#include "tests/support/fake_broker.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"

namespace {

using namespace polylog;
using namespace polylog::mqtt;
using polylog::test::check;
using polylog::test::FakeBroker;
using polylog::test::FakeClock;
using polylog::test::FakeTransport;
using polylog::test::ManualDispatcher;

constexpr uint16_t kMostAliases = 2;

class FixedRandom final : public Random {
 public:
  uint64_t next() override { return ++value_; }

 private:
  uint64_t value_ = 0;
};

/// One connection as a socket's owner would drive it.
struct Peer {
  Peer(ManualDispatcher& dispatcher, const SessionFactory& factory)
      : transport(dispatcher), session(factory(transport)) {}
  ~Peer() { gone(); }

  void deliver() {
    if (!session || transport.paused || transport.closed || input.empty()) return;
    const size_t used = session->onBytes(SharedBytes::copyOf(input));
    check(used <= input.size());
    input.erase(0, used);
  }
  void gone() {
    if (!session) return;
    session->onClosed("gone");
    session.reset();
  }
  /// All that was sent must be whole packets of the version that CONNECT named.
  void checkOutput(Version spoken) {
    Decoder decoder(Side::kClient, size_t{1} << 28);
    decoder.use(spoken);
    const std::string sent = transport.takeSent();
    BytesView rest = sent;
    while (!rest.empty()) {
      Decoded decoded = decoder.next(rest);
      auto* whole = std::get_if<DecodedPacket>(&decoded);
      check(whole != nullptr);
      rest.remove_prefix(whole->size);
      if (const auto* publish = std::get_if<PublishPacket>(&whole->packet)) checkAlias(*publish);
    }
  }
  /// A name may be left out only where it has been told what stands for it.
  void checkAlias(const PublishPacket& publish) {
    const auto alias = publish.properties.number(PropertyId::kTopicAlias);
    check(!alias || (*alias >= 1 && *alias <= kMostAliases));
    if (alias && !publish.topic.empty()) told.insert(*alias);
    check(!publish.topic.empty() || (alias && told.contains(*alias)));
  }

  FakeTransport transport;
  std::unique_ptr<ProtocolSession> session;
  std::string input;
  std::optional<Version> version;
  std::set<uint32_t> told;  ///< the aliases
};

struct Script {
  const uint8_t* at;
  const uint8_t* end;
  bool over() const { return at == end; }
  uint8_t next() { return over() ? uint8_t{0} : *at++; }
  std::string take(size_t length) {
    const auto left = static_cast<size_t>(end - at);
    std::string out(reinterpret_cast<const char*>(at), std::min(length, left));
    at += out.size();
    return out;
  }
};

void deliverSomething(FakeBroker& broker, uint8_t what) {
  for (auto& [id, session] : broker.sessions) {
    session->deliver("t", std::string(what & 7U, 'k'), std::string(what * 20U, 'v'),
                     static_cast<DeliveryGuarantee>(1 + what % 3),
                     (what & 8U) != 0 ? std::vector<std::pair<std::string, std::string>>{{"h", "x"}}
                                      : std::vector<std::pair<std::string, std::string>>{});
    if ((what & 4U) == 0) continue;
    Delivery shared;
    shared.record = polylog::test::makeRouted("t", {}, std::string(what * 5U, 's'), {});
    shared.guarantee = static_cast<DeliveryGuarantee>(2 + what % 2);
    shared.id = session->nextSharedId++;
    session->deliver(std::move(shared));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  setLogLevel(LogLevel::kError);
  FakeClock clock;
  ManualDispatcher dispatcher(clock);
  ManualDispatcher::Scope scope(dispatcher);
  FakeBroker broker;
  FixedRandom random;
  MqttOptions options;
  options.random = &random;
  options.receiveMaximum = 8;
  options.maxInflight = 8;
  options.outboundTopicAliases = kMostAliases;
  options.checkPayloadFormat = true;
  options.responseInformation = "re/%c/";
  const SessionFactory factory = makeSessionFactory(broker, options);
  auto peer = std::make_unique<Peer>(dispatcher, factory);

  Script script{data, data + size};
  while (!script.over()) {
    const uint8_t step = script.next();
    switch (step >> 4) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
      case 6: {
        const size_t length = static_cast<size_t>(step & 0x0FU) * 16 + (script.next() & 0x0FU);
        peer->input += script.take(length);
        if (!peer->version) peer->version = namedVersion(peer->input);
        peer->deliver();
        break;
      }
      case 7:
        dispatcher.runAll();
        peer->deliver();
        break;
      case 8: deliverSomething(broker, step & 0x0FU); break;
      case 9: broker.holdAnswers = (step & 1U) != 0; break;
      case 10:
        if (broker.unanswered() > 0) (step & 1U) != 0 ? broker.answerOne() : broker.answerLast();
        break;
      case 11:
        peer->transport.isCongested = (step & 1U) != 0;
        if (!peer->transport.isCongested && peer->session) peer->session->onDrained();
        break;
      case 12: dispatcher.advance(int64_t{1'000'000} << (step & 0x0FU)); break;
      case 13:  // the peer comes back
        peer->gone();
        peer = std::make_unique<Peer>(dispatcher, factory);
        break;
      case 14:
        if (!broker.sessions.empty()) {
          broker.deleteSession(nullptr, broker.sessions.begin()->first, [](auto) {});
        }
        break;
      default:
        if ((step & 1U) != 0) {
          if (peer->session) peer->session->onShutdown();
        } else {
          broker.sessionError =
              (step & 2U) != 0 ? std::optional(Error{ErrorKind::kIo, "fuzz"}) : std::nullopt;
        }
        break;
    }
    if (peer->version) {
      peer->checkOutput(*peer->version);
    } else {
      peer->transport.takeSent();
    }
  }
  return 0;
}
