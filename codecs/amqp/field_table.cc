#include "codecs/amqp/field_table.h"

#include <bit>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "codecs/amqp/wire/primitives.h"

namespace polylog::amqp {
namespace {

// Both fail the reader they are given where the octets inside are malformed. `depth` counts the
// tables and arrays around them.
Table readTable(ByteReader& outer, BytesView octets, int depth);
Value::Array readArray(ByteReader& outer, BytesView octets, int depth);

Value::Decimal readDecimal(ByteReader& in) {
  Value::Decimal decimal;
  decimal.scale = in.u8();
  decimal.digits = in.u32();
  return decimal;
}

Value integer(int64_t number) {
  return Value(number);
}

/// The letters are RabbitMQ's: `s` is 16 bits (not a short string), `l` and `L` both signed.
Value readValue(ByteReader& in, int depth) {
  switch (in.u8()) {
    case 't': return Value(in.u8() != 0);
    case 'b': return integer(in.i8());
    case 'B': return integer(in.u8());
    case 's': return integer(in.i16());
    case 'u': return integer(in.u16());
    case 'I': return integer(in.i32());
    case 'i': return integer(in.u32());
    case 'l':
    case 'L': return integer(in.i64());
    case 'f': return Value(static_cast<double>(std::bit_cast<float>(in.u32())));
    case 'd': return Value(std::bit_cast<double>(in.u64()));
    case 'D': return Value(readDecimal(in));
    case 'T': return Value(Value::Timestamp{in.u64()});
    case 'S': return Value(std::string(in.bytes32()));
    case 'x': return Value(Value::Octets{std::string(in.bytes32())});
    case 'A': return Value(readArray(in, in.bytes32(), depth + 1));
    case 'F': return Value(readTable(in, in.bytes32(), depth + 1));
    case 'V': return {};
    default: in.fail(); return {};
  }
}

Value::Array readArray(ByteReader& outer, BytesView octets, int depth) {
  Value::Array array;
  ByteReader in(octets);
  if (depth > kMaxTableDepth) in.fail();
  while (in.remaining() > 0) array.push_back(readValue(in, depth));
  if (!in.ok()) outer.fail();
  return array;
}

Table readTable(ByteReader& outer, BytesView octets, int depth) {
  Table table;
  ByteReader in(octets);
  if (depth > kMaxTableDepth) in.fail();
  while (in.remaining() > 0) {
    std::string name(wire::readShortString(in));
    table.emplace_back(std::move(name), readValue(in, depth));
  }
  if (!in.ok()) outer.fail();
  return table;
}

void writeEntries(const Table& table, ByteWriter& out);
void writeValue(const Value& value, ByteWriter& out);

/// A length, then what `write` appends.
template <class F>
void writeMeasured(ByteWriter& out, F&& write) {
  const size_t at = out.size();
  out.u32(0);
  write();
  out.patchU32(at, static_cast<uint32_t>(out.size() - at - sizeof(uint32_t)));
}

void writeInteger(int64_t number, ByteWriter& out) {
  const bool fits = number >= std::numeric_limits<int32_t>::min() &&
                    number <= std::numeric_limits<int32_t>::max();
  out.u8(fits ? 'I' : 'l');
  if (fits) {
    out.i32(static_cast<int32_t>(number));
  } else {
    out.i64(number);
  }
}

void writeText(char letter, BytesView text, ByteWriter& out) {
  out.u8(static_cast<uint8_t>(letter));
  out.bytes32(text);
}

/// One overload a type that a Value may hold.
struct ValueWriter {
  ByteWriter& out;

  void operator()(std::monostate) const { out.u8('V'); }
  void operator()(bool value) const {
    out.u8('t');
    out.u8(value ? 1 : 0);
  }
  void operator()(int64_t number) const { writeInteger(number, out); }
  void operator()(double number) const {
    out.u8('d');
    out.u64(std::bit_cast<uint64_t>(number));
  }
  void operator()(const std::string& text) const { writeText('S', text, out); }
  void operator()(const Value::Octets& octets) const { writeText('x', octets.bytes, out); }
  void operator()(const Value::Decimal& decimal) const {
    out.u8('D');
    out.u8(decimal.scale);
    out.u32(decimal.digits);
  }
  void operator()(const Value::Timestamp& time) const {
    out.u8('T');
    out.u64(time.seconds);
  }
  void operator()(const Value::Array& array) const {
    out.u8('A');
    writeMeasured(out, [&] {
      for (const Value& value : array) writeValue(value, out);
    });
  }
  void operator()(const Table& table) const {
    out.u8('F');
    encodeTable(table, out);
  }
};

void writeValue(const Value& value, ByteWriter& out) {
  std::visit(ValueWriter{out}, value.is);
}

void writeEntries(const Table& table, ByteWriter& out) {
  for (const auto& [name, value] : table) {
    wire::writeShortString(name, out);
    writeValue(value, out);
  }
}

}  // namespace

Result<Table> decodeTable(BytesView octets) {
  ByteReader verdict({});
  Table table = readTable(verdict, octets, 1);
  if (!verdict.ok()) {
    return fail(ErrorKind::kInvalid, "field table malformed or nested too deep");
  }
  return table;
}

void encodeTable(const Table& table, ByteWriter& out) {
  writeMeasured(out, [&] { writeEntries(table, out); });
}

}  // namespace polylog::amqp
