// A JSON text read into memory: bodies of the admin API and its answers, tokens, keys. Bounded in
// depth and in number of values whatever the text's length: hostile input costs a small multiple of
// its size. Plain data, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace polylog {

class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Object = std::vector<std::pair<std::string, JsonValue>>;

  static constexpr size_t kMaxDepth = 32;
  static constexpr size_t kMaxValues = 1'000'000;

  /// Nothing when `text` is not one JSON value, or beyond the bounds.
  static std::optional<JsonValue> parse(std::string_view text);

  JsonValue() = default;  ///< null
  explicit JsonValue(bool value) : value_(value) {}
  explicit JsonValue(int64_t value) : value_(value) {}
  explicit JsonValue(double value) : value_(value) {}
  explicit JsonValue(std::string value) : value_(std::move(value)) {}
  explicit JsonValue(Array value) : value_(std::move(value)) {}
  explicit JsonValue(Object value) : value_(std::move(value)) {}

  bool isNull() const { return std::holds_alternative<std::monostate>(value_); }
  /// Null when it is something else.
  const std::string* text() const { return std::get_if<std::string>(&value_); }
  const Array* array() const { return std::get_if<Array>(&value_); }
  const Object* object() const { return std::get_if<Object>(&value_); }
  std::optional<int64_t> number() const;
  std::optional<double> real() const;  ///< of whole numbers too
  std::optional<bool> flag() const;
  /// An object's first member of that name; null when there is none, or this is no object.
  const JsonValue* find(std::string_view name) const;

 private:
  friend class JsonBuilder;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace polylog
