// Field tables (AMQP 0-9-1, 4.2.5.5) with RabbitMQ's type letters, decoded to and from core/model's
// Table. On the way to disk and back to AMQP consumers tables stay the octets they came as.
#pragma once

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/error.h"
#include "core/model/value.h"

namespace polylog::amqp {

/// Tables and arrays inside one another, at most.
inline constexpr int kMaxTableDepth = 32;

/// `octets` is the table without its length. kInvalid when malformed, nested too deep, or a name or
/// value runs over the end. Types: t b B s u I i l L f d D S x A T F V; `L` is signed, as RabbitMQ
/// has it. What comes out may be some forty times the octets: a value of one octet is a Value.
Result<Table> decodeTable(BytesView octets);

/// Appends the table with its length. Integers are written as `l` (`I` where they fit 32 bits),
/// floats as `d`, texts as `S`, octets as `x`. Names are cut at 255 octets.
void encodeTable(const Table& table, ByteWriter& out);

}  // namespace polylog::amqp
