// AMQP 0-9-1's strings (4.2.5.3) on top of ByteReader and ByteWriter, for the generated methods and
// content properties.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "mapping/address.h"

namespace polylog::amqp::wire {

inline constexpr size_t kMaxShortString = 255;

/// A short string: an octet of length, that many octets.
inline BytesView readShortString(ByteReader& in) {
  return in.bytes(in.u8());
}

/// As above; fails unless it is UTF-8, as the specification wants and RabbitMQ checks wherever
/// names are made.
inline BytesView readShortText(ByteReader& in) {
  const BytesView text = readShortString(in);
  if (!mapping::isUtf8(text)) in.fail();
  return text;
}

/// Cut at 255 octets, as there is no way to write more.
inline void writeShortString(BytesView text, ByteWriter& out) {
  text = text.substr(0, kMaxShortString);
  out.u8(static_cast<uint8_t>(text.size()));
  out.bytes(text);
}

}  // namespace polylog::amqp::wire
