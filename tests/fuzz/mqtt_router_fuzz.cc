// MQTT clients that behave, and some that don't, against whole sessions over the router and a store
// in memory: connections that come, go and take over, sleeping sessions, shared groups, writes that
// fail, crashes. What the broker sends has to be what the protocol allows at that point: answers to
// what was asked and once, packet identifiers that aren't in use, no more in flight than the
// client's Receive Maximum, the same message under the same identifier after a reconnect.
//
// The input is a script: an octet says what happens and to whom, the next one how.
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "codecs/mqtt/decoder.h"
#include "codecs/mqtt/encoder.h"
#include "codecs/mqtt/limits.h"
#include "codecs/mqtt/registration.h"
#include "core/base/log.h"
#include "router/router.h"
#include "tests/fuzz/check.h"
#include "tests/support/fake_log_store.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"

namespace {

using namespace polylog;
using namespace polylog::mqtt;
using polylog::test::check;
using polylog::test::FakeClock;
using polylog::test::FakeLogStore;
using polylog::test::FakeTransport;
using polylog::test::ManualDispatcher;

class FixedRandom final : public Random {
 public:
  uint64_t next() override { return value_ += 0x9E3779B97F4A7C15U; }

 private:
  uint64_t value_ = 0;
};

/// What a client remembers of its session.
struct Memory {
  bool kept = false;
  bool tainted = false;         ///< it has sent what it mustn't, perhaps acknowledgements
  const void* owner = nullptr;  ///< its latest connection
  std::map<uint16_t, std::string> unacknowledged;  ///< deliveries, by packet identifier
  std::set<uint16_t> accepted;  ///< PUBREC was sent for them, and perhaps PUBCOMP
  std::set<uint16_t> released;  ///< PUBREL came for them
};

/// One connection: the client's end of it, and what it knows.
class Peer {
 public:
  Peer(ManualDispatcher& loop, const SessionFactory& factory, Memory& memory, std::string id,
       Version version, uint8_t how)
      : transport(loop), session(factory(transport)), memory_(memory), version_(version) {
    decoder_.use(version);
    memory.owner = this;
    ConnectPacket packet;
    packet.level = static_cast<uint8_t>(version);
    packet.clientId = id;
    packet.cleanStart = (how & 1U) != 0;
    kept_ = version == Version::k311 ? !packet.cleanStart : (how & 2U) != 0;
    if (version == Version::k5) {
      receiveMaximum_ = 1U + (how >> 3U & 7U);
      packet.properties.add(PropertyId::kReceiveMaximum, static_cast<uint32_t>(receiveMaximum_));
      if (kept_) packet.properties.add(PropertyId::kSessionExpiry, 1000);
    }
    if ((how & 4U) != 0) packet.will = WillFields{"t/will", "gone", uint8_t{1}, false, {}};
    send(packet);
  }
  ~Peer() { gone(); }

  bool open() const { return session && connected_ && !transport.closed; }
  void gone() {
    if (!session) return;
    session->onClosed("gone");
    session.reset();
  }
  void deliver() {
    if (!session || transport.paused || transport.closed || input_.empty()) return;
    const size_t used = session->onBytes(SharedBytes::copyOf(input_));
    check(used <= input_.size());
    input_.erase(0, used);
  }
  void raw(std::string octets) {
    sloppy_ = memory_.tainted = true;
    input_ += octets;
    deliver();
  }
  void send(const Packet& packet) {
    ByteWriter writer;
    encode(writer, version_, packet);
    input_ += writer.view();
    deliver();
  }

  void publish(std::string topic, std::string payload, uint8_t qos, bool retain) {
    PublishPacket packet;
    packet.topic = topic;
    packet.payload = payload;
    packet.qos = qos;
    packet.retain = retain;
    if (qos > 0) packet.packetId = unused();
    if (qos > 0) published_[packet.packetId] = qos;
    send(packet);
  }
  void subscribe(std::string filter, uint8_t options) {
    SubscribePacket packet{unused(), {}, {}};
    SubscribeEntry entry;
    entry.filter = filter;
    entry.qos = static_cast<uint8_t>(options % 3);
    if (version_ == Version::k5) {
      entry.noLocal = (options & 8U) != 0 && !filter.starts_with('$');
      entry.retainHandling = static_cast<uint8_t>((options >> 4U) % 3);
      if ((options & 4U) != 0) packet.properties.add(PropertyId::kSubscriptionId, 1U + options);
    }
    packet.entries.push_back(entry);
    asked_[packet.packetId] = PacketType::kSuback;
    send(packet);
  }
  void unsubscribe(std::string filter) {
    UnsubscribePacket packet{unused(), {}, {filter}};
    asked_[packet.packetId] = PacketType::kUnsuback;
    send(packet);
  }
  void ping() {
    ++pings_;
    send(PingPacket{PacketType::kPingreq});
  }
  /// The next step for one of the deliveries at hand.
  void acknowledge(uint8_t which, bool refuse) {
    if (inFlight_.empty()) return;
    auto at = std::next(inFlight_.begin(), which % static_cast<int64_t>(inFlight_.size()));
    const uint16_t id = at->first;
    switch (at->second) {
      case Due::kPuback:
        inFlight_.erase(at);
        memory_.unacknowledged.erase(id);
        return send(AckPacket{PacketType::kPuback, id, {}, {}});
      case Due::kPubrec:
        memory_.unacknowledged.erase(id);
        if (refuse && version_ == Version::k5) {
          inFlight_.erase(at);
          return send(AckPacket{PacketType::kPubrec, id, ReasonCode::kUnspecifiedError, {}});
        }
        at->second = Due::kPubrel;
        memory_.accepted.insert(id);
        return send(AckPacket{PacketType::kPubrec, id, {}, {}});
      case Due::kPubrel: return;  // the broker's turn
      case Due::kPubcomp:
        inFlight_.erase(at);
        memory_.released.erase(id);
        return send(AckPacket{PacketType::kPubcomp, id, {}, {}});
    }
  }
  void release() {
    if (received_.empty()) return;
    const uint16_t id = *received_.begin();
    received_.erase(received_.begin());
    released_.insert(id);
    send(AckPacket{PacketType::kPubrel, id, {}, {}});
  }
  void disconnect() { send(DisconnectPacket{}); }

  /// Takes what has come.
  void receive() {
    const std::string sent = transport.takeSent();
    BytesView rest = sent;
    while (!rest.empty()) {
      check(!said_);  // nothing behind DISCONNECT
      Decoded decoded = decoder_.next(rest);
      auto* whole = std::get_if<DecodedPacket>(&decoded);
      check(whole != nullptr);
      take(whole->packet);
      rest.remove_prefix(whole->size);
    }
  }

  FakeTransport transport;
  std::unique_ptr<ProtocolSession> session;

 private:
  enum class Due : uint8_t { kPuback, kPubrec, kPubrel, kPubcomp };

  uint16_t unused() const {
    uint16_t id = 1;
    while (published_.contains(id) || received_.contains(id) || released_.contains(id) ||
           asked_.contains(id)) {
      ++id;
    }
    return id;
  }

  void take(const Packet& packet) {
    if (const auto* connack = std::get_if<ConnackPacket>(&packet)) return accept(*connack);
    check(connected_);
    if (const auto* publish = std::get_if<PublishPacket>(&packet)) return take(*publish);
    if (const auto* ack = std::get_if<AckPacket>(&packet)) return take(*ack);
    if (std::holds_alternative<DisconnectPacket>(packet)) {
      check(version_ == Version::k5);
      said_ = true;
      return;
    }
    if (sloppy_) return;
    if (const auto* suback = std::get_if<SubackPacket>(&packet)) {
      auto at = asked_.find(suback->packetId);
      check(at != asked_.end() && at->second == suback->type);
      check(suback->codes.size() == (bare(*suback) ? 0U : 1U));
      asked_.erase(at);
      return;
    }
    check(std::holds_alternative<PingPacket>(packet) && pings_-- > 0);
  }
  bool bare(const SubackPacket& packet) const {
    return version_ == Version::k311 && packet.type == PacketType::kUnsuback;
  }
  void accept(const ConnackPacket& packet) {
    check(!connected_);
    if (packet.code != 0) {
      said_ = true;
      return;
    }
    connected_ = true;
    if (memory_.owner != this) return;
    check(!packet.sessionPresent || memory_.kept);
    if (!packet.sessionPresent) {
      memory_ = {};
      memory_.owner = this;
    }
    memory_.kept = kept_;
  }
  void take(const PublishPacket& packet) {
    if (packet.qos == 0) return check(packet.packetId == 0 && !packet.dup);
    if (sloppy_ || memory_.owner != this) return;
    const uint16_t id = packet.packetId;
    check(id != 0 && !inFlight_.contains(id));
    inFlight_[id] = packet.qos == 1 ? Due::kPuback : Due::kPubrec;
    check(inFlight_.size() <= receiveMaximum_);
    if (id > kOwnPacketIds || memory_.tainted) return;  // those of groups may go to another member
    check(!memory_.released.contains(id));              // after PUBREL there is no PUBLISH
    memory_.accepted.erase(id);                         // PUBREC was lost, or it is another message
    auto [at, fresh] = memory_.unacknowledged.try_emplace(id, packet.payload);
    check(fresh || (packet.dup && at->second == packet.payload));
  }
  void take(const AckPacket& packet) {
    const uint16_t id = packet.packetId;
    if (packet.type == PacketType::kPubrel) {
      if (sloppy_ || memory_.tainted || memory_.owner != this) return;
      auto at = inFlight_.find(id);
      check(memory_.accepted.contains(id));
      check(at == inFlight_.end() || at->second == Due::kPubrel);
      inFlight_[id] = Due::kPubcomp;
      memory_.released.insert(id);
      return;
    }
    if (sloppy_) return;
    if (packet.type == PacketType::kPubcomp) return check(released_.erase(id) == 1);
    auto at = published_.find(id);
    check(at != published_.end());
    check(at->second == (packet.type == PacketType::kPuback ? 1 : 2));
    published_.erase(at);
    if (packet.type == PacketType::kPubrec && !isError(packet.code)) received_.insert(id);
  }

  Memory& memory_;
  Version version_;
  Decoder decoder_{Side::kClient, size_t{1} << 28};
  std::string input_;
  bool kept_ = false;
  bool connected_ = false;
  bool said_ = false;    ///< the broker has said that it ends
  bool sloppy_ = false;  ///< the client has sent what it mustn't: answers may be to that
  size_t receiveMaximum_ = 65'535;
  std::map<uint16_t, uint8_t> published_;
  std::set<uint16_t> received_, released_;
  std::map<uint16_t, PacketType> asked_;
  std::map<uint16_t, Due> inFlight_;
  int pings_ = 0;
};

/// The broker, its disk and its clients.
class World {
 public:
  World() { start(); }
  ~World() { stop(); }

  void play(const uint8_t* data, size_t size) {
    for (size_t at = 0; at + 1 < size; at += 2) {
      step(data[at], data[at + 1], {reinterpret_cast<const char*>(data + at), size - at});
      for (auto& peer : peers_) {
        if (peer) peer->receive();
      }
    }
    settle();
  }

 private:
  static constexpr std::array kTopics{"t/a", "t/b", "t", "other", "$SYS/x", "t/a/b"};
  static constexpr std::array kFilters{"t/#", "t/a", "#", "+/b", "$share/g/t/#", "$share/g/#"};

  void start() {
    loop_ = std::make_unique<ManualDispatcher>(clock_);
    scope_ = std::make_unique<ManualDispatcher::Scope>(*loop_);
    const std::array<Dispatcher*, 1> loops{loop_.get()};
    auto made = router::makeRouter(*store_, loops, clock_, random_, router::RouterOptions{});
    check(made.has_value());
    router_ = std::move(*made);
    router_->start();
    MqttOptions options;
    options.random = &random_;
    options.maxInflight = 6;
    factory_ = makeSessionFactory(*router_, options);
    settle();
  }
  /// In the order that router.h asks for.
  void stop() {
    for (auto& peer : peers_) peer = nullptr;
    store_->close();
    while (loop_->runAll() > 0) {
    }
    factory_ = nullptr;
    router_ = nullptr;
    scope_ = nullptr;
    loop_ = nullptr;
  }
  void run() {
    while (loop_->runAll() > 0) {
    }
    for (auto& peer : peers_) {
      if (!peer) continue;
      peer->deliver();
      peer->receive();
      if (peer->transport.closed) peer = nullptr;
    }
  }
  void settle() {
    run();
    while (store_->pending() > 0) {
      store_->commit();
      run();
    }
  }
  void crash() {
    auto durable = store_->afterCrash();
    stop();
    store_ = std::move(durable);
    start();
  }

  void step(uint8_t what, uint8_t how, BytesView rest) {
    auto& peer = peers_[what % peers_.size()];
    switch (what >> 4U) {
      case 6: return store_->commit();
      case 7: return (how & 7U) == 0 ? store_->failPending({ErrorKind::kIo, "fuzz"}) : run();
      case 11: return loop_->advance(int64_t{1000} << (how % 28));
      case 12: return how == 0 ? crash() : settle();
      case 13: return run();
      default: break;
    }
    if (!peer) {
      // A name may be another connection's: that is taken over then.
      const size_t name = (what >> 2U) % memories_.size();
      peer = std::make_unique<Peer>(*loop_, factory_, memories_[name],
                                    std::string(1, static_cast<char>('a' + name)),
                                    (how & 0x40U) != 0 ? Version::k5 : Version::k311, how);
      return settle();
    }
    if (!peer->open()) return run();
    act(*peer, what, how, rest);
    if (peer->transport.closed) run();
  }
  void act(Peer& peer, uint8_t what, uint8_t how, BytesView rest) {
    switch (what >> 4U) {
      case 0:
      case 1: {
        std::string payload = (how & 0x80U) != 0 ? std::string() : std::to_string(++messages_);
        return peer.publish(kTopics[how % kTopics.size()], payload,
                            static_cast<uint8_t>((how >> 3U) % 3), (how & 0x40U) != 0);
      }
      case 2: return peer.subscribe(kFilters[how % kFilters.size()], how);
      case 3: return peer.unsubscribe(kFilters[how % kFilters.size()]);
      case 4: return peer.acknowledge(how >> 1U, (how & 1U) != 0);
      case 5: return peer.release();
      case 8: peer.gone(); return;
      case 9: return peer.disconnect();
      case 10:
        peer.transport.isCongested = (how & 1U) != 0;
        if (!peer.transport.isCongested) peer.session->onDrained();
        return;
      case 14: return peer.raw(std::string(rest.substr(0, how & 0x1FU)));
      default: return peer.ping();
    }
  }

  FakeClock clock_;
  FixedRandom random_;
  std::unique_ptr<FakeLogStore> store_ = std::make_unique<FakeLogStore>();
  std::unique_ptr<ManualDispatcher> loop_;
  std::unique_ptr<ManualDispatcher::Scope> scope_;
  std::unique_ptr<router::Router> router_;
  SessionFactory factory_;
  std::array<Memory, 3> memories_;
  std::array<std::unique_ptr<Peer>, 4> peers_;
  int messages_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  setLogLevel(LogLevel::kError);
  World().play(data, std::min<size_t>(size, 4096));
  return 0;
}
