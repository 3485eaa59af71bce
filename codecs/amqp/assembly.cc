#include "codecs/amqp/assembly.h"

#include <fmt/format.h>

#include <algorithm>

#include "codecs/amqp/content.h"

namespace polylog::amqp {
namespace {

Fault unexpected(std::string text) {
  Fault out = fault(ReplyCode::kUnexpectedFrame, std::move(text));
  out.classId = BasicPublish::kClassId;
  out.methodId = BasicPublish::kMethodId;
  return out;
}

Fault notAHeader() {
  return unexpected(
      fmt::format("expected content header for class {}, got non content header frame instead",
                  BasicPublish::kClassId));
}

constexpr size_t kContentHeader = 12;

/// What a channel keeps of a buffer from one publish to the next.
constexpr size_t kKeptBuffer = 4096;

void release(std::string& buffer) {
  if (buffer.capacity() > kKeptBuffer) buffer = {};
  buffer.clear();
}

}  // namespace

void Assembly::begin(const BasicPublish& method) {
  abandon();
  content_ = {};
  content_.exchange = method.exchange;
  content_.routingKey = method.routingKey;
  content_.mandatory = method.mandatory;
  state_ = State::kHeader;
}

Outcome Assembly::add(const Frame& frame) {
  if (state_ == State::kIdle) {
    return fault(ReplyCode::kUnexpectedFrame,
                 "expected method frame, got non method frame instead");
  }
  if (state_ == State::kHeader) {
    if (frame.type != FrameType::kHeader) return notAHeader();
    return header(frame.payload);
  }
  if (frame.type != FrameType::kBody) {
    return unexpected("expected content body, got non content body frame instead");
  }
  return body(frame.payload);
}

Outcome Assembly::header(BytesView payload) {
  const auto decoded = decodeContentHeader(payload);
  if (!decoded) {
    if (payload.size() >= kContentHeader) return notAHeader();
    return badFrame(static_cast<uint8_t>(FrameType::kHeader), payload, "unknown_frame");
  }
  if (decoded->classId != BasicPublish::kClassId) {
    return unexpected(
        fmt::format("expected content header for class {}, got one for class {} instead",
                    BasicPublish::kClassId, decoded->classId));
  }
  const auto largest = static_cast<uint64_t>(std::max<int64_t>(link_.broker.maxRecordBytes(), 0));
  if (decoded->bodySize > largest) {
    abandon();
    Fault out = fault(ReplyCode::kPreconditionFailed,
                      fmt::format("message size {} is larger than configured max size {}",
                                  decoded->bodySize, largest));
    out.classId = BasicPublish::kClassId;
    out.methodId = BasicPublish::kMethodId;
    return out;
  }
  content_.properties = decoded->properties;
  missing_ = decoded->bodySize;
  state_ = missing_ == 0 ? State::kWhole : State::kBody;
  return account(payload.size());
}

Outcome Assembly::body(BytesView payload) {
  if (payload.size() > missing_) {
    return unexpected("content body is longer than its header said");
  }
  const bool first = !content_.bodyKept;
  missing_ -= payload.size();
  if (missing_ == 0 && first) {
    content_.body = payload;
    state_ = State::kWhole;
    return {};
  }
  if (payload.empty()) return {};
  content_.bodyKept = true;
  body_.append(payload);
  content_.body = body_;
  if (missing_ == 0) state_ = State::kWhole;
  return account(payload.size());
}

/// All channels' unfinished contents together are held to the largest body and some.
Outcome Assembly::account(size_t octets) {
  accounted_ += octets;
  link_.unfinishedBytes += octets;
  const auto largest = static_cast<size_t>(std::max<int64_t>(link_.broker.maxRecordBytes(), 0));
  if (link_.unfinishedBytes <= largest + kUnfinishedSlack) return {};
  return fault(ReplyCode::kResourceError, "too much unfinished content on this connection");
}

Content Assembly::take() {
  link_.unfinishedBytes -= std::exchange(accounted_, 0);
  state_ = State::kIdle;
  return content_;
}

void Assembly::keep() {
  if (state_ == State::kIdle) return;
  if (!content_.namesKept) {
    exchange_ = content_.exchange;
    routingKey_ = content_.routingKey;
    content_.exchange = exchange_;
    content_.routingKey = routingKey_;
    content_.namesKept = true;
  }
  if (state_ == State::kHeader || content_.propertiesKept) return;
  properties_ = content_.properties;
  content_.properties = properties_;
  content_.propertiesKept = true;
}

void Assembly::abandon() {
  link_.unfinishedBytes -= std::exchange(accounted_, 0);
  state_ = State::kIdle;
  release(exchange_);
  release(routingKey_);
  release(properties_);
  release(body_);
}

}  // namespace polylog::amqp
