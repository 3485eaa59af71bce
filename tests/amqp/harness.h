// One AMQP client's end of a connection, without a socket: encodes frames into a Session as a
// Connection would feed it (what is not used up comes again with more behind it, nothing while
// reading is paused) and takes apart what comes back.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/amqp/content.h"
#include "codecs/amqp/field_table.h"
#include "codecs/amqp/frame.h"
#include "codecs/amqp/methods.h"
#include "codecs/amqp/registration.h"
#include "tests/support/fake_broker.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"
#include "tests/support/seeded_random.h"

namespace polylog::amqp::test {

using polylog::test::FakeBroker;
using polylog::test::FakeClock;
using polylog::test::FakeTransport;
using polylog::test::ManualDispatcher;
using polylog::test::SeededRandom;

/// A broker and the thread's loop, shared by a test's clients.
struct World {
  World() { options.random = &random; }
  FakeClock clock;
  ManualDispatcher dispatcher{clock};
  ManualDispatcher::Scope scope{dispatcher};
  SeededRandom random{1};
  FakeBroker broker;
  AmqpOptions options;
};

/// A table's octets without its length, as methods carry it.
inline std::string tableOf(const Table& table) {
  ByteWriter out;
  encodeTable(table, out);
  return out.take().substr(4);
}

inline std::string propertiesOf(const BasicProperties& properties) {
  ByteWriter out;
  encodeProperties(properties, out);
  return out.take();
}

inline const std::string kNoProperties("\0\0", 2);

template <class M>
std::string methodFrame(uint16_t channel, const M& method) {
  ByteWriter out;
  const size_t at = beginFrame(FrameType::kMethod, channel, out);
  encode(method, out);
  endFrame(at, out);
  return out.take();
}

inline std::string headerFrame(uint16_t channel, uint64_t bodySize,
                               BytesView properties = kNoProperties) {
  ByteWriter out;
  const size_t at = beginFrame(FrameType::kHeader, channel, out);
  out.u16(60);
  out.u16(0);
  out.u64(bodySize);
  out.bytes(properties);
  endFrame(at, out);
  return out.take();
}

inline std::string frameOf(FrameType type, uint16_t channel, BytesView payload) {
  ByteWriter out;
  const size_t at = beginFrame(type, channel, out);
  out.bytes(payload);
  endFrame(at, out);
  return out.take();
}

inline BasicPublish publishTo(BytesView exchange, BytesView key, bool mandatory = false) {
  BasicPublish method;
  method.exchange = exchange;
  method.routingKey = key;
  method.mandatory = mandatory;
  return method;
}

inline std::string publishFrames(uint16_t channel, const BasicPublish& method, BytesView body,
                                 BytesView properties = kNoProperties, size_t piece = 100'000) {
  std::string out = methodFrame(channel, method) + headerFrame(channel, body.size(), properties);
  for (size_t at = 0; at < body.size(); at += piece) {
    out += frameOf(FrameType::kBody, channel, body.substr(at, piece));
  }
  return out;
}

struct Client {
  explicit Client(World& worldRef) : world(worldRef), transport(world.dispatcher) {
    session = makeSessionFactory(world.broker, world.options)(transport);
  }
  ~Client() {
    if (session) drop("test over");
  }

  // ---- towards the server

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
  template <class M>
  void send(const M& method, uint16_t channel = 1) {
    feed(methodFrame(channel, method));
  }
  template <class M>
  void sendAndRun(const M& method, uint16_t channel = 1) {
    send(method, channel);
    run();
  }
  void publish(const BasicPublish& method, BytesView body, BytesView properties = kNoProperties) {
    feed(publishFrames(1, method, body, properties));
  }

  // ---- the handshake

  ConnectionStartOk startOk() {
    ConnectionStartOk ok;
    ok.clientProperties = clientProperties;
    ok.mechanism = mechanism;
    ok.response = response;
    ok.locale = "en_US";
    return ok;
  }
  ConnectionTuneOk tuneOk() const {
    ConnectionTuneOk ok;
    ok.channelMax = channelMax;
    ok.frameMax = frameMax;
    ok.heartbeat = heartbeat;
    return ok;
  }
  /// Up to connection.open-ok and, unless there are to be none, one channel open.
  void open(bool channel = true) {
    feed(kProtocolHeader);
    next<ConnectionStart>(0);
    send(startOk(), 0);
    next<ConnectionTune>(0);
    send(tuneOk(), 0);
    ConnectionOpen method;
    method.virtualHost = "/";
    send(method, 0);
    next<ConnectionOpenOk>(0);
    EXPECT_TRUE(transport.handshakeIsDone);
    if (channel) openChannel(1);
  }
  void openChannel(uint16_t number) {
    send(ChannelOpen{}, number);
    next<ChannelOpenOk>(number);
  }

  // ---- from the server

  struct Received {
    Frame frame;
    std::string payload;
  };
  void collect() {
    const std::string sent = transport.takeSent();
    BytesView rest = sent;
    if (protocolHeaderDue && rest == kProtocolHeader) return;
    while (!rest.empty()) {
      const FrameResult result = readFrame(rest, 1 << 24);
      if (result.error != FrameError::kNone) {
        ADD_FAILURE() << "the server sent something that is no frame";
        return;
      }
      received.push_back({result.frame, std::string(result.frame.payload)});
      rest.remove_prefix(result.frame.size);
    }
  }
  size_t pending() {
    collect();
    return received.size();
  }
  void expectNothing() { EXPECT_EQ(pending(), 0U); }
  /// The next frame's payload; kept until the client goes.
  BytesView take(FrameType type, uint16_t channel) {
    collect();
    if (received.empty()) {
      ADD_FAILURE() << "nothing came";
      return {};
    }
    kept.push_back(std::move(received.front()));
    received.pop_front();
    EXPECT_EQ(kept.back().frame.type, type);
    EXPECT_EQ(kept.back().frame.channel, channel);
    largestFrame = std::max(largestFrame, kept.back().frame.size);
    return kept.back().payload;
  }
  /// The next frame, which must be an M.
  template <class M>
  M next(uint16_t channel = 1) {
    auto method = decodeMethod(take(FrameType::kMethod, channel));
    if (!method || !std::holds_alternative<M>(*method)) {
      ADD_FAILURE() << "not a " << M::kName << " but a "
                    << (kept.empty() ? BytesView() : methodName(idOf(kept.back().payload)));
      return M{};
    }
    return std::get<M>(*method);
  }
  struct Body {
    std::string properties;
    std::string octets;
    size_t frames = 0;
  };
  /// The content behind a method that carries one.
  Body nextBody(uint16_t channel = 1) {
    Body body;
    const auto header = decodeContentHeader(take(FrameType::kHeader, channel));
    if (!header) {
      ADD_FAILURE() << "no content header";
      return body;
    }
    body.properties = std::string(header->properties);
    while (body.octets.size() < header->bodySize && !received.empty()) {
      body.octets.append(take(FrameType::kBody, channel));
      ++body.frames;
    }
    EXPECT_EQ(body.octets.size(), header->bodySize);
    return body;
  }
  void expectChannelClosed(ReplyCode code, const std::string& text, uint16_t channel = 1) {
    const auto close = next<ChannelClose>(channel);
    EXPECT_EQ(close.replyCode, static_cast<uint16_t>(code));
    EXPECT_EQ(close.replyText, std::string(replyName(code)) + " - " + text);
    classId = close.classId;
    methodId = close.methodId;
  }
  void expectConnectionClosed(ReplyCode code, const std::string& text) {
    const auto close = next<ConnectionClose>(0);
    EXPECT_EQ(close.replyCode, static_cast<uint16_t>(code));
    EXPECT_EQ(close.replyText, std::string(replyName(code)) + " - " + text);
    classId = close.classId;
    methodId = close.methodId;
  }
  /// The connection is gone, as the network has it.
  void drop(std::string_view why) {
    session->onClosed(why);
    session.reset();
  }

  World& world;
  FakeTransport transport;
  std::unique_ptr<ProtocolSession> session;
  std::string input;
  std::deque<Received> received;
  std::deque<Received> kept;
  size_t largestFrame = 0;
  bool protocolHeaderDue = false;
  uint16_t classId = 0;  ///< of the last close
  uint16_t methodId = 0;

  // What the client says in the handshake.
  std::string clientProperties;
  std::string mechanism = "PLAIN";
  std::string response{"\0guest\0guest", 12};
  uint16_t channelMax = 2047;
  uint32_t frameMax = 131'072;
  uint16_t heartbeat = 0;
};

// ---- what tests do all the time

inline void declareQueue(Client& client, BytesView name, const Table& arguments = {},
                         bool durable = true) {
  const std::string table = tableOf(arguments);
  QueueDeclare method;
  method.queue = name;
  method.durable = durable;
  method.arguments = table;
  client.sendAndRun(method);
  EXPECT_EQ(client.next<QueueDeclareOk>().queue, name);
}

inline BasicConsume consumeOf(BytesView queue, BytesView tag, bool noAck = false) {
  BasicConsume method;
  method.queue = queue;
  method.consumerTag = tag;
  method.noAck = noAck;
  return method;
}

inline BasicAck ackOf(uint64_t tag, bool multiple = false) {
  BasicAck method;
  method.deliveryTag = tag;
  method.multiple = multiple;
  return method;
}

inline BasicQos qosOf(uint16_t count, bool global = false) {
  BasicQos method;
  method.prefetchCount = count;
  method.global = global;
  return method;
}

}  // namespace polylog::amqp::test
