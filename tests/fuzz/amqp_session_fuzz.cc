// A whole AMQP session against a hostile peer: any octets in any pieces, with deliveries, late
// answers, congestion, time, deleted queues and lost connections in between. Nothing may crash or
// leak, what the server sends must be whole frames, and nothing is sent after the end.
//
// The input is a script: each step is one octet that says what happens and, for input, a length.
#include <cstdint>
#include <memory>
#include <string>

#include "codecs/amqp/frame.h"
#include "codecs/amqp/methods.h"
#include "codecs/amqp/registration.h"
#include "core/base/log.h"
#include "tests/fuzz/check.h"
#include "tests/support/fake_broker.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"
#include "tests/support/seeded_random.h"

namespace {

using namespace polylog;
using namespace polylog::amqp;
using polylog::test::check;
using polylog::test::FakeBroker;
using polylog::test::FakeClock;
using polylog::test::FakeTransport;
using polylog::test::ManualDispatcher;

template <class M>
std::string methodFrame(uint16_t channel, const M& method) {
  ByteWriter out;
  const size_t at = beginFrame(FrameType::kMethod, channel, out);
  encode(method, out);
  endFrame(at, out);
  return out.take();
}

/// What a client says to get to an open channel, so that the script needn't find it out.
std::string handshake(uint16_t heartbeat) {
  ConnectionStartOk start;
  start.mechanism = "PLAIN";
  start.response = BytesView("\0u\0p", 4);
  ConnectionTuneOk tune;
  tune.channelMax = 4;
  tune.frameMax = 4096;
  tune.heartbeat = heartbeat;
  ConnectionOpen open;
  open.virtualHost = "/";
  return std::string(kProtocolHeader) + methodFrame(0, start) + methodFrame(0, tune) +
         methodFrame(0, open) + methodFrame(1, ChannelOpen{});
}

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
  void checkOutput() {
    const std::string sent = transport.takeSent();
    BytesView rest = sent;
    if (rest == kProtocolHeader) return;
    while (!rest.empty()) {
      const FrameResult result = readFrame(rest, size_t{1} << 24);
      check(result.error == FrameError::kNone);
      if (result.frame.type == FrameType::kMethod)
        check(decodeMethod(result.frame.payload).has_value());
      rest.remove_prefix(result.frame.size);
    }
  }

  FakeTransport transport;
  std::unique_ptr<ProtocolSession> session;
  std::string input;
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

/// A well-formed frame of what the script says, most likely a method of some sense.
std::string frameFrom(Script& script, uint8_t what) {
  constexpr FrameType kTypes[] = {FrameType::kMethod, FrameType::kMethod, FrameType::kHeader,
                                  FrameType::kBody};
  ByteWriter out;
  const size_t at = beginFrame(kTypes[what & 3U], what >> 2 & 3U, out);
  out.bytes(script.take(script.next()));
  endFrame(at, out);
  return out.take();
}

void deliverSomething(FakeBroker& broker, uint8_t what) {
  for (auto& [name, queue] : broker.queues.queues) {
    std::vector<std::pair<std::string, std::string>> headers;
    if ((what & 8U) != 0) headers.emplace_back("expiry", std::string(1 + (what & 3U) * 6U, '9'));
    broker.queues.put(*queue, polylog::test::makeRouted("t", std::string(what & 7U, 'k'),
                                                        std::string(what * 500U, 'v'), headers));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  setLogLevel(LogLevel::kError);
  FakeClock clock;
  ManualDispatcher dispatcher(clock);
  ManualDispatcher::Scope scope(dispatcher);
  polylog::test::SeededRandom random(1);
  FakeBroker broker;
  broker.recordLimit = 10'000;
  broker.queues.most = 8;
  AmqpOptions options;
  options.random = &random;
  const SessionFactory factory = makeSessionFactory(broker, options);
  auto peer = std::make_unique<Peer>(dispatcher, factory);

  Script script{data, data + size};
  while (!script.over()) {
    const uint8_t step = script.next();
    switch (step >> 4) {
      case 0:
      case 1: {
        const size_t length = static_cast<size_t>(step & 0x1FU) * 16 + (script.next() & 0x0FU);
        peer->input += script.take(length);
        peer->deliver();
        break;
      }
      case 2:
      case 3:
      case 4:
      case 5:
        peer->input += frameFrom(script, step & 0x0FU);
        if ((step & 0x10U) == 0) peer->deliver();
        break;
      case 6:
        peer->input += handshake((step & 1U) != 0 ? 2 : 0);
        peer->deliver();
        break;
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
      case 12: dispatcher.advance(int64_t{100'000} << (step & 0x0FU)); break;
      case 13:  // the peer comes back
        peer->gone();
        peer = std::make_unique<Peer>(dispatcher, factory);
        break;
      case 14:
        if (!broker.queues.queues.empty()) {
          broker.queues.remove(std::string(broker.queues.queues.begin()->first));
        }
        break;
      default:
        if ((step & 1U) != 0) {
          if (peer->session) peer->session->onShutdown();
        } else {
          broker.judge = [step](const auto& record) {
            PublishResult result;
            if ((step & 2U) != 0) result.error = Error{ErrorKind::kNoSpace, "fuzz"};
            if ((step & 4U) != 0) result.error = Error{ErrorKind::kUnauthorized, "fuzz"};
            if (record.value && record.value->size() % 2 == 0) result.error.reset();
            return result;
          };
        }
        break;
    }
    peer->checkOutput();
  }
  return 0;
}
