// Any octets as an AMQP field table: never out of bounds or deeper than allowed, and what is taken
// comes back the same from the table that we write of it, whose octets are then settled.
#include <bit>
#include <cstdint>
#include <variant>

#include "codecs/amqp/field_table.h"
#include "tests/fuzz/check.h"

namespace {

using namespace polylog;
using namespace polylog::amqp;
using polylog::test::check;

constexpr size_t kLength = 4;

/// Equal, a number that is none included.
void checkSame(const Value& a, const Value& b);

void checkSame(const Table& a, const Table& b) {
  check(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    check(a[i].first == b[i].first);
    checkSame(a[i].second, b[i].second);
  }
}

void checkSame(const Value& a, const Value& b) {
  check(a.is.index() == b.is.index());
  if (const auto* table = std::get_if<Table>(&a.is)) {
    checkSame(*table, std::get<Table>(b.is));
  } else if (const auto* array = std::get_if<Value::Array>(&a.is)) {
    const auto& other = std::get<Value::Array>(b.is);
    check(array->size() == other.size());
    for (size_t i = 0; i < array->size(); ++i) checkSame((*array)[i], other[i]);
  } else if (const auto* number = std::get_if<double>(&a.is)) {
    check(std::bit_cast<uint64_t>(*number) == std::bit_cast<uint64_t>(std::get<double>(b.is)));
  } else {
    check(a == b);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto table = decodeTable(BytesView(reinterpret_cast<const char*>(data), size));
  if (!table) return 0;
  ByteWriter once;
  encodeTable(*table, once);
  const auto again = decodeTable(once.view().substr(kLength));
  check(again.has_value());
  checkSame(*table, *again);
  ByteWriter twice;
  encodeTable(*again, twice);
  check(once.view() == twice.view());
  return 0;
}
