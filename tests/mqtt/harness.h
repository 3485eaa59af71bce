// One MQTT client's end of a connection, without a socket: encodes packets into a Session as a
// Connection would feed it (what is not used up comes again with more behind it, nothing while
// reading is paused) and decodes what comes back.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/mqtt/decoder.h"
#include "codecs/mqtt/encoder.h"
#include "codecs/mqtt/registration.h"
#include "tests/support/fake_broker.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"

namespace polylog::mqtt::test {

using polylog::test::FakeBroker;
using polylog::test::FakeClock;
using polylog::test::FakeSession;
using polylog::test::FakeTransport;
using polylog::test::ManualDispatcher;

/// A broker and the thread's loop, shared by a test's clients.
struct World {
  FakeClock clock;
  ManualDispatcher dispatcher{clock};
  ManualDispatcher::Scope scope{dispatcher};
  FakeBroker broker;
  MqttOptions options;
};

struct Client {
  explicit Client(World& worldRef, Version v = Version::k5)
      : world(worldRef), version(v), transport(world.dispatcher) {
    session = makeSessionFactory(world.broker, world.options)(transport);
    decoder.use(v);
  }
  ~Client() {
    if (session) drop("test over");
  }

  /// Raw octets, not yet processed beyond onBytes().
  void feed(BytesView bytes) {
    input.append(bytes);
    deliver();
  }
  void deliver() {
    if (transport.paused || transport.closed || !session || input.empty()) return;
    const SharedBytes shared = SharedBytes::copyOf(input);
    const size_t used = session->onBytes(shared);
    ASSERT_LE(used, input.size());
    input.erase(0, used);
  }
  /// Runs the loop to its end, feeding again whenever reading goes on.
  void run() {
    for (int round = 0; round < 1000; ++round) {
      const size_t ran = world.dispatcher.runAll();
      const size_t before = input.size();
      deliver();
      if (ran == 0 && input.size() == before) return;
    }
    FAIL() << "never comes to rest";
  }
  std::string encoded(const Packet& packet) const {
    ByteWriter writer;
    encode(writer, version, packet);
    return writer.take();
  }
  void send(const Packet& packet) { feed(encoded(packet)); }
  void sendAndRun(const Packet& packet) {
    send(packet);
    run();
  }

  ConnackPacket connect(ConnectPacket packet) {
    sendAndRun(packet);
    return next<ConnackPacket>();
  }
  ConnackPacket connect(std::string clientId = "c1", bool clean = true, uint32_t expiry = 0) {
    ConnectPacket packet;
    names.push_back(std::move(clientId));
    packet.clientId = names.back();
    packet.cleanStart = clean;
    if (expiry > 0) packet.properties.add(PropertyId::kSessionExpiry, expiry);
    return connect(std::move(packet));
  }
  FakeSession& broker(const std::string& clientId = "c1") {
    return *world.broker.sessions.at(clientId);
  }

  /// All packets that came, decoded; views into `received`.
  std::vector<Packet> packets() {
    received.push_back(transport.takeSent());
    std::vector<Packet> out;
    BytesView rest = received.back();
    while (!rest.empty()) {
      Decoded decoded = decoder.next(rest);
      auto* packet = std::get_if<DecodedPacket>(&decoded);
      if (packet == nullptr) {
        ADD_FAILURE() << "the server sent something undecodable";
        return out;
      }
      out.push_back(std::move(packet->packet));
      rest.remove_prefix(packet->size);
    }
    return out;
  }
  /// The one packet that came, which must be a P.
  template <class P>
  P next() {
    std::vector<Packet> all = packets();
    if (all.size() != 1 || !std::holds_alternative<P>(all[0])) {
      ADD_FAILURE() << "expected one packet of a kind, got " << all.size();
      return P{};
    }
    return std::get<P>(std::move(all[0]));
  }
  /// The packets of type P among those that came; there must be no others.
  template <class P>
  std::vector<P> all() {
    std::vector<P> out;
    for (Packet& packet : packets()) {
      if (!std::holds_alternative<P>(packet)) {
        ADD_FAILURE() << "a packet of another kind";
        continue;
      }
      out.push_back(std::get<P>(std::move(packet)));
    }
    return out;
  }
  void expectClosed(ReasonCode code) {
    EXPECT_TRUE(transport.closed);
    if (version == Version::k5) {
      EXPECT_EQ(next<DisconnectPacket>().code, code);
    } else {
      EXPECT_TRUE(transport.takeSent().empty());
    }
  }
  /// The connection is gone, as the network has it.
  void drop(std::string_view why) {
    session->onClosed(why);
    session.reset();
  }

  World& world;
  Version version;
  FakeTransport transport;
  std::unique_ptr<ProtocolSession> session;
  Decoder decoder{Side::kClient, 1 << 28};
  std::string input;
  std::deque<std::string> received;
  std::deque<std::string> names;
};

inline PublishPacket publishOf(BytesView topic, BytesView payload, uint8_t qos = 0,
                               uint16_t id = 0) {
  PublishPacket packet;
  packet.topic = topic;
  packet.payload = payload;
  packet.qos = qos;
  packet.packetId = id;
  return packet;
}

inline AckPacket ackOf(PacketType type, uint16_t id, ReasonCode code = ReasonCode::kSuccess) {
  return AckPacket{type, id, code, {}};
}

}  // namespace polylog::mqtt::test
