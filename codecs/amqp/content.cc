#include "codecs/amqp/content.h"

#include "codecs/amqp/wire/primitives.h"
#include "core/base/byte_reader.h"

namespace polylog::amqp {
namespace {

// The flags' two lowest bits: one property more than the class has, and another word of flags.
constexpr uint16_t kNoProperty = 0x0003;

/// Calls visitor(flag, property) for each, in the order of the list: the first has the highest bit.
template <class Properties, class Visitor>
void forEach(Properties& properties, Visitor&& visitor) {
  uint16_t flag = 0x8000;
  const auto next = [&](auto& property) {
    visitor(flag, property);
    flag = static_cast<uint16_t>(flag >> 1);
  };
  next(properties.contentType);
  next(properties.contentEncoding);
  next(properties.headers);
  next(properties.deliveryMode);
  next(properties.priority);
  next(properties.correlationId);
  next(properties.replyTo);
  next(properties.expiration);
  next(properties.messageId);
  next(properties.timestamp);
  next(properties.type);
  next(properties.userId);
  next(properties.appId);
  next(properties.clusterId);
}

void read(ByteReader& in, std::optional<uint8_t>& property) {
  property = in.u8();
}
void read(ByteReader& in, std::optional<uint64_t>& property) {
  property = in.u64();
}

void write(uint8_t property, ByteWriter& out) {
  out.u8(property);
}
void write(uint64_t property, ByteWriter& out) {
  out.u64(property);
}

}  // namespace

Result<ContentHeader> decodeContentHeader(BytesView payload) {
  ByteReader in(payload);
  ContentHeader header;
  header.classId = in.u16();
  const uint16_t weight = in.u16();
  header.bodySize = in.u64();
  header.properties = in.rest();
  if (!in.ok()) return fail(ErrorKind::kInvalid, "content header cut short");
  if (weight != 0) return fail(ErrorKind::kInvalid, "content header with a weight");
  return header;
}

Result<BasicProperties> decodeProperties(BytesView properties) {
  ByteReader in(properties);
  BasicProperties out;
  const uint16_t flags = in.u16();
  if ((flags & kNoProperty) != 0) in.fail();
  forEach(out, [&](uint16_t flag, auto& property) {
    if ((flags & flag) == 0) return;
    if constexpr (requires { read(in, property); }) {
      read(in, property);
    } else {
      property = &property == &out.headers ? in.bytes32() : wire::readShortString(in);
    }
  });
  if (!in.complete()) return fail(ErrorKind::kInvalid, "malformed content properties");
  return out;
}

void encodeProperties(const BasicProperties& properties, ByteWriter& out) {
  uint16_t flags = 0;
  forEach(properties, [&](uint16_t flag, const auto& property) {
    if (property) flags = static_cast<uint16_t>(flags | flag);
  });
  out.u16(flags);
  forEach(properties, [&](uint16_t, const auto& property) {
    if (!property) return;
    if constexpr (requires { write(*property, out); }) {
      write(*property, out);
    } else if (&property == &properties.headers) {
      out.bytes32(*property);
    } else {
      wire::writeShortString(*property, out);
    }
  });
}

}  // namespace polylog::amqp
