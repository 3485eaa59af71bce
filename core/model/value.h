// Typed values as arguments and header tables hold them (AMQP's field tables, JMS-like headers), in
// no protocol's encoding. Plain data.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace polylog {

struct Value;

/// Names and values in the order given; names may repeat.
using Table = std::vector<std::pair<std::string, Value>>;

struct Value {
  struct Decimal {
    uint8_t scale = 0;  ///< digits behind the point
    uint32_t digits = 0;
    bool operator==(const Decimal&) const = default;
  };
  struct Timestamp {
    uint64_t seconds = 0;  ///< since 1970 UTC
    bool operator==(const Timestamp&) const = default;
  };
  struct Octets {
    std::string bytes;
    bool operator==(const Octets&) const = default;
  };
  using Array = std::vector<Value>;

  /// Nothing; whatever its width on the wire, an integer is an int64_t and a float a double.
  using Any = std::variant<std::monostate, bool, int64_t, double, std::string, Octets, Decimal,
                           Timestamp, Array, Table>;
  Any is;

  // Not inline: a value holds tables of values, which are no complete type before this one is.
  Value();
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;
  ~Value();
  template <class T>
  requires(!std::same_as<std::remove_cvref_t<T>, Value>) explicit Value(T&& value)
      : is(std::forward<T>(value)) {}

  bool operator==(const Value& other) const;
};

/// The first value of that name, or null.
inline const Value* find(const Table& table, std::string_view name) {
  for (const auto& [key, value] : table) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace polylog
