// A bridge's connection against a hostile server: any octets in any pieces, with deliveries, late
// answers, congestion, time and lost connections in between. Nothing may crash or leak, and what
// the bridge sends must be decodable.
//
// The first octet chooses the version, whether CONNACK is given, and whether that allows only
// packets of 1 to 15 octets; then each step is one octet that says what happens and, for input, a
// length.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "codecs/mqtt/bridge_session.h"
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

class Store final : public BridgeStore {
 public:
  explicit Store(FakeBroker& broker) : broker_(broker) {}
  std::vector<std::string> names() const override { return {}; }
  std::optional<std::string> find(const std::string&) const override { return std::nullopt; }
  void store(const std::string&, std::string, Done<Result<>> done) override {
    broker_.answer([done = std::move(done)]() mutable { done({}); });
  }
  void remove(const std::string&, Done<Result<>> done) override {
    broker_.answer([done = std::move(done)]() mutable { done({}); });
  }
  void backlog(const std::string&, Done<std::optional<Backlog>>) override {}

 private:
  FakeBroker& broker_;
};

class Observer final : public BridgeObserver {
 public:
  void onBridgeUp() override {}
  void onBridgeNotice(std::string) override {}
  void onBridgeEnd(BridgeEnd) override { ++ends; }
  int ends = 0;
};

struct Server {
  Server(const uint8_t* data, size_t size) : at(data), end(data + size) {
    const uint8_t first = next();
    auto made = std::make_shared<BridgeOptions>();
    made->name = "fuzz";
    made->clientId = "fuzz";
    made->version = (first & 1U) != 0 ? Version::k5 : Version::k311;
    made->brokerId = "us";
    made->topics =
        BridgeTopics({*BridgeTopic::parse("# both 2"), *BridgeTopic::parse("a out 1 x y")});
    made->principal = std::make_shared<const Principal>();
    MqttOptions limits;
    limits.receiveMaximum = limits.maxInflight = 8;
    made->mqtt = std::make_shared<const MqttOptions>(withLimits(broker, limits));
    options = std::move(made);
    memory.record.cleaned = (first & 2U) != 0;
    memory.record.clientId = "fuzz";
    connect();
    if ((first & 4U) == 0) return;
    ByteWriter connack;
    ConnackPacket packet{(first & 8U) != 0, 0, {}};
    if (const unsigned most = first >> 4; most > 0) {
      maximumPacket = most;
      packet.properties.add(PropertyId::kMaximumPacketSize, most);
    }
    encode(connack, options->version, packet);
    input = connack.take();
    deliver();
    dispatcher.runAll();
  }
  ~Server() { gone(); }

  uint8_t next() { return at == end ? uint8_t{0} : *at++; }
  void connect() {
    gone();
    input.clear();
    maximumPacket = SIZE_MAX;
    transport = std::make_unique<FakeTransport>(dispatcher);
    session =
        std::make_unique<BridgeSession>(*transport, broker, options, memory, counters, observer);
    dispatcher.runAll();  // CONNECT follows once it is kept that there will be one
  }
  void gone() {
    if (!session) return;
    const int before = observer.ends;
    session->onClosed("gone");
    session.reset();
    check(observer.ends == before + 1);
  }
  void deliver() {
    if (!session || transport->paused || transport->closed || input.empty()) return;
    const size_t used = session->onBytes(SharedBytes::copyOf(input));
    check(used <= input.size());
    input.erase(0, used);
  }
  void checkOutput() {
    Decoder decoder(Side::kServer, size_t{1} << 28);
    const std::string sent = transport->takeSent();
    BytesView rest = sent;
    while (!rest.empty()) {
      if (static_cast<uint8_t>(rest[0]) >> 4 != 1) decoder.use(options->version);
      Decoded decoded = decoder.next(rest);
      auto* whole = std::get_if<DecodedPacket>(&decoded);
      check(whole != nullptr);
      const bool connect = std::holds_alternative<ConnectPacket>(whole->packet);
      check(connect || options->version == Version::k311 || whole->size <= maximumPacket);
      rest.remove_prefix(whole->size);
    }
  }
  void step() {
    const uint8_t what = next();
    switch (what & 7U) {
      case 0:
      case 1: {
        const size_t length = std::min<size_t>(what >> 1, static_cast<size_t>(end - at));
        input.append(reinterpret_cast<const char*>(at), length);
        at += length;
        deliver();
        break;
      }
      case 2:
        for (auto& [id, inbox] : broker.sessions) {
          inbox->deliver("t", "k", std::string(what, 'v'),
                         static_cast<DeliveryGuarantee>(1 + what % 3));
        }
        break;
      case 3: broker.holdAnswers = !broker.holdAnswers; break;
      case 4: broker.answerAll(); break;
      case 5:
        transport->isCongested = !transport->isCongested;
        if (!transport->isCongested && session && !transport->closed) session->onDrained();
        break;
      case 6: clock.advance(int64_t{what} * 1'000'000); break;
      default:
        if ((what & 8U) != 0) connect();
        broker.isFull = false;
    }
    dispatcher.runAll();
    deliver();
    checkOutput();
  }

  const uint8_t* at;
  const uint8_t* end;
  FakeClock clock;
  ManualDispatcher dispatcher{clock};
  ManualDispatcher::Scope scope{dispatcher};
  FakeBroker broker;
  Store store{broker};
  Observer observer;
  std::shared_ptr<const BridgeOptions> options;
  BridgeMemory memory{"fuzz", store};
  BridgeCounters counters{"fuzz"};
  std::unique_ptr<FakeTransport> transport;
  std::unique_ptr<BridgeSession> session;
  std::string input;
  size_t maximumPacket = SIZE_MAX;  ///< of this connection
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  setLogLevel(LogLevel::kError);
  Server server(data, size);
  while (server.at != server.end) server.step();
  return 0;
}
