// A Kafka client without a socket: writes requests into a session, reads answers from its
// transport.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/registration.h"
#include "codecs/kafka/wire/all.h"
#include "core/model/record_batch.h"
#include "tests/kafka/log_broker.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"

namespace polylog::kafka::test {

using polylog::test::FakeClock;
using polylog::test::FakeTransport;
using polylog::test::LogBroker;
using polylog::test::ManualDispatcher;

/// A whole request frame, its length included.
template <class Request>
std::string frameOf(const Request& request, int16_t version, int32_t correlation,
                    BytesView client = "tester") {
  wire::Encoder out;
  out.u32(0);
  out.i16(Request::kApiKey);
  out.i16(version);
  out.i32(correlation);
  out.string(client, false);
  if (version >= Request::kFlexibleFrom) out.varuint(0);
  request.encode(out, version);
  out.patchU32(0, static_cast<uint32_t>(out.size() - 4));
  return out.take();
}

/// A batch of records with the given values.
inline std::string batchOf(const std::vector<std::string>& values,
                           Compression codec = Compression::kNone, int64_t timestamp = 1000) {
  RecordBatchBuilder builder;
  for (const std::string& value : values) {
    Record record;
    record.value = value;
    record.timestampMs = timestamp++;
    builder.add(record);
  }
  return builder.finish(codec);
}

/// `batch` with a header field overwritten and the CRC made good again.
std::string withField(std::string batch, size_t at, BytesView octets);

class KafkaTest : public testing::Test {
 protected:
  KafkaTest() { connect(); }
  ~KafkaTest() override {
    if (session_) session_->onClosed("the test is over");
  }

  void connect(KafkaOptions options = {}) {
    if (session_) session_->onClosed("connected anew");
    session_.reset();
    transport_ = std::make_unique<FakeTransport>(dispatcher_);
    session_ = makeSessionFactory(broker_, std::move(options))(*transport_);
    input_.clear();
  }
  void disconnect() {
    session_->onClosed("gone");
    session_.reset();
  }

  /// Feeds octets; keeps what the session leaves. Runs what was posted unless told not to.
  void feed(BytesView octets) {
    input_.append(octets);
    if (!transport_->paused) deliver();
  }
  void deliver() {
    size_t used = session_->onBytes(SharedBytes::copyOf(input_));
    ASSERT_LE(used, input_.size());
    input_.erase(0, used);
  }
  void run() {
    do {
      dispatcher_.runAll();
      if (!input_.empty() && !transport_->paused && !transport_->closed) deliver();
    } while (!dispatcher_.idle());
  }

  template <class Request>
  int32_t send(const Request& request, int16_t version = Request::kMaxVersion) {
    feed(frameOf(request, version, ++correlation_));
    return correlation_;
  }

  size_t answersWaiting() const {
    size_t answers = 0;
    BytesView rest = transport_->sent;
    while (rest.size() >= 4) {
      rest.remove_prefix(4 + ByteReader(rest).u32());
      ++answers;
    }
    return answers;
  }

  /// The next answer, which must be to request `correlation`. Its views live until the next call.
  template <class Response>
  Response receive(int32_t correlation, int16_t version = Response::kMaxVersion) {
    Response response;
    if (transport_->sent.size() < 4) {
      ADD_FAILURE() << "no answer";
      return response;
    }
    size_t size = ByteReader(transport_->sent).u32();
    frame_ = std::make_unique<std::string>(transport_->sent.substr(4, size));
    EXPECT_EQ(frame_->size(), size) << "an answer cut short";
    transport_->sent.erase(0, 4 + size);
    wire::Decoder in(*frame_);
    EXPECT_EQ(in.i32(), correlation);
    if (version >= Response::kFlexibleFrom && Response::kApiKey != 18) in.skipTagged();
    response.decode(in, version);
    EXPECT_TRUE(in.complete()) << in.remaining() << " octets left";
    return response;
  }

  /// Sends, lets the broker answer, receives.
  template <class Response, class Request>
  Response ask(const Request& request, int16_t version = Request::kMaxVersion) {
    int32_t id = send(request, version);
    run();
    return receive<Response>(id, version);
  }

  wire::ProduceRequest produceRequest(BytesView topic, const std::string& batch,
                                      int16_t acks = -1) {
    wire::ProduceRequest request;
    request.acks = acks;
    request.timeoutMs = 1000;
    auto known = broker_.byName.find(std::string(topic));
    TopicId id = known == broker_.byName.end() ? TopicId{} : known->second->id;
    request.topics.push_back({topic, id, {{0, {BytesView(batch), 0}}}});
    return request;
  }
  wire::FetchRequest fetchRequest(BytesView topic, int64_t offset, int32_t maxWaitMs = 500) {
    wire::FetchRequest request;
    request.maxWaitMs = maxWaitMs;
    request.minBytes = 1;
    request.maxBytes = 1 << 24;
    auto& asked = request.topics.emplace_back();
    asked.name = topic;
    auto& partition = asked.partitions.emplace_back();
    partition.fetchOffset = offset;
    partition.maxBytes = 1 << 20;
    return request;
  }

  FakeClock clock_;
  ManualDispatcher dispatcher_{clock_};
  ManualDispatcher::Scope scope_{dispatcher_};
  LogBroker broker_;
  std::unique_ptr<FakeTransport> transport_;
  std::unique_ptr<ProtocolSession> session_;
  std::string input_;
  std::unique_ptr<std::string> frame_;
  int32_t correlation_ = 0;
};

}  // namespace polylog::kafka::test
