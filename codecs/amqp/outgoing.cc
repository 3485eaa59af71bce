#include "codecs/amqp/outgoing.h"

#include <algorithm>

#include "codecs/amqp/content.h"
#include "codecs/amqp/field_table.h"
#include "core/model/exchange.h"

namespace polylog::amqp {
namespace {

constexpr uint16_t kBasicClass = 60;
constexpr BytesView kStreamOffset = "x-stream-offset";
constexpr size_t kTableLength = 4;
constexpr size_t kKeptOctets = 4096;
constexpr size_t kKeptHeaders = 64;
constexpr size_t kContentHeader = 12;  // class, weight and body size

/// A table's octets (without its length), and one entry more.
void appendOffset(BytesView table, int64_t offset, ByteWriter& out) {
  out.clear();
  out.bytes(table);
  out.u8(static_cast<uint8_t>(kStreamOffset.size()));
  out.bytes(kStreamOffset);
  out.u8('l');
  out.i64(offset);
}

void beginBody(Link& link, uint16_t channel, size_t length) {
  link.out.u8(static_cast<uint8_t>(FrameType::kBody));
  link.out.u16(channel);
  link.out.u32(static_cast<uint32_t>(length));
}

}  // namespace

std::optional<Undeliverable> Outgoing::describe(const RoutedRecord& record, int64_t nowMs,
                                                std::optional<int64_t> streamOffset,
                                                size_t frameMax) {
  body = SharedBytes(record.owner.owner(), mapping::amqpBody(record.record));
  properties_.clear();
  const size_t largest = frameMax - kFrameOverhead - kContentHeader;
  if (useOriginal(record, streamOffset, largest)) {
    if (mapping::isExpired(record.record, nowMs)) return Undeliverable::kExpired;
    return std::nullopt;
  }
  exchange = kTopicsExchange;
  routingKey_.clear();
  if (!mapping::appendRoutingKey(record.address, routingKey_)) return Undeliverable::kUnnameable;
  routingKey = routingKey_;
  arena_.clear();
  switch (mapping::amqpFromHeaders(record.record, nowMs, mapped_, arena_, largest)) {
    case mapping::Deliverable::kYes: break;
    case mapping::Deliverable::kExpired: return Undeliverable::kExpired;
    case mapping::Deliverable::kTooLarge: return Undeliverable::kTooLarge;
  }
  useHeaders(streamOffset);
  if (properties.size() > largest) return Undeliverable::kTooLarge;
  return std::nullopt;
}

/// False unless an AMQP client published the record. A Kafka producer can write such a header too,
/// so it is looked at before anyone gets it.
bool Outgoing::useOriginal(const RoutedRecord& record, std::optional<int64_t> streamOffset,
                           size_t largest) {
  const auto original = mapping::amqpOriginal(record.record);
  if (!original) return false;
  const bool ours = record.origin == Protocol::kAmqp;
  if (!ours && original->properties.size() > largest) return false;
  auto decoded = decodeProperties(original->properties);
  if (!decoded) return false;
  if (!ours && decoded->headers && !decodeTable(*decoded->headers)) return false;
  exchange = original->exchange;
  routingKey = original->routingKey;
  if (!streamOffset) {
    properties = original->properties;
    return true;
  }
  appendOffset(decoded->headers.value_or(BytesView()), *streamOffset, table_);
  decoded->headers = table_.view();
  encodeProperties(*decoded, properties_);
  properties = properties_.view();
  return true;
}

void Outgoing::useHeaders(std::optional<int64_t> streamOffset) {
  BasicProperties out;
  out.contentType = mapped_.contentType;
  out.contentEncoding = mapped_.contentEncoding;
  out.correlationId = mapped_.correlationId;
  out.replyTo = mapped_.replyTo;
  out.messageId = mapped_.messageId;
  out.type = mapped_.type;
  out.userId = mapped_.userId;
  out.appId = mapped_.appId;
  out.deliveryMode = mapped_.deliveryMode;
  out.priority = mapped_.priority;
  std::string expiration;
  if (mapped_.expirationMs) {
    expiration = std::to_string(*mapped_.expirationMs);
    out.expiration = expiration;
  }
  if (mapped_.timestampSeconds) {
    out.timestamp = static_cast<uint64_t>(std::max<int64_t>(*mapped_.timestampSeconds, 0));
  }
  if (streamOffset) mapped_.headers.emplace_back(kStreamOffset, Value{*streamOffset});
  if (!mapped_.headers.empty()) {
    table_.clear();
    encodeTable(mapped_.headers, table_);
    out.headers = table_.view().substr(kTableLength);
  }
  encodeProperties(out, properties_);
  properties = properties_.view();
}

void Outgoing::release() {
  body = {};
  if (properties_.size() > kKeptOctets) properties_ = ByteWriter();
  if (table_.size() > kKeptOctets) table_ = ByteWriter();
  if (mapped_.headers.capacity() > kKeptHeaders) mapped_.headers = {};
  arena_.clear();
}

void sendContent(Link& link, uint16_t channel, BytesView properties, const SharedBytes& body) {
  ByteWriter& out = link.out;
  const size_t at = beginFrame(FrameType::kHeader, channel, out);
  out.u16(kBasicClass);
  out.u16(0);  // weight
  out.u64(body.size());
  out.bytes(properties);
  endFrame(at, out);
  const size_t piece = link.frameMax - kFrameOverhead;
  for (size_t sent = 0; sent < body.size(); sent += piece) {
    const size_t length = std::min(piece, body.size() - sent);
    beginBody(link, channel, length);
    if (length >= kByReferenceBytes && body.owner() != nullptr) {
      link.flush();
      link.transport.send(body.slice(sent, length));
    } else {
      out.bytes(body.view().substr(sent, length));
    }
    out.u8(kFrameEnd);
  }
  link.flushIfLarge();
}

}  // namespace polylog::amqp
