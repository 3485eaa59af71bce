#include "core/base/json_value.h"

#include <limits>

#include "core/base/rapidjson.h"

namespace polylog {

/// Takes RapidJSON's events and puts the values together. (Its own document type is not used: clang
/// 19 rejects its header, and a value costs it memory that nobody has bounded.)
class JsonBuilder {
 public:
  bool Null() { return add(JsonValue()); }
  bool Bool(bool value) { return add(JsonValue(value)); }
  bool Int(int value) { return add(JsonValue(int64_t{value})); }
  bool Uint(unsigned value) { return add(JsonValue(int64_t{value})); }
  bool Int64(int64_t value) { return add(JsonValue(value)); }
  bool Uint64(uint64_t value) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return add(JsonValue(static_cast<double>(value)));
    }
    return add(JsonValue(static_cast<int64_t>(value)));
  }
  bool Double(double value) { return add(JsonValue(value)); }
  bool RawNumber(const char* /*text*/, rapidjson::SizeType /*length*/, bool /*copy*/) {
    return false;  // only with a flag that isn't set
  }
  bool String(const char* text, rapidjson::SizeType length, bool /*copy*/) {
    return add(JsonValue(std::string(text, length)));
  }
  bool Key(const char* text, rapidjson::SizeType length, bool /*copy*/) {
    open_.back().name.assign(text, length);
    return true;
  }
  bool StartObject() { return begin(JsonValue(JsonValue::Object())); }
  bool StartArray() { return begin(JsonValue(JsonValue::Array())); }
  bool EndObject(rapidjson::SizeType /*members*/) { return end(); }
  bool EndArray(rapidjson::SizeType /*elements*/) { return end(); }

  JsonValue take() { return std::move(root_); }

 private:
  struct Open {
    JsonValue value;
    std::string name;  ///< of the member that comes next
  };

  bool add(JsonValue value) {
    if (++count_ > JsonValue::kMaxValues) return false;
    if (open_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Open& parent = open_.back();
    if (auto* array = std::get_if<JsonValue::Array>(&parent.value.value_)) {
      array->push_back(std::move(value));
    } else {
      std::get<JsonValue::Object>(parent.value.value_)
          .emplace_back(std::move(parent.name), std::move(value));
    }
    return true;
  }
  bool begin(JsonValue value) {
    if (open_.size() >= JsonValue::kMaxDepth) return false;
    open_.push_back({std::move(value), {}});
    return true;
  }
  bool end() {
    JsonValue value = std::move(open_.back().value);
    open_.pop_back();
    return add(std::move(value));
  }

  std::vector<Open> open_;
  JsonValue root_;
  size_t count_ = 0;
};

std::optional<JsonValue> JsonValue::parse(std::string_view text) {
  rapidjson::MemoryStream stream(text.data(), text.size());
  rapidjson::Reader reader;
  JsonBuilder builder;
  if (!reader.Parse<rapidjson::kParseIterativeFlag>(stream, builder)) return std::nullopt;
  return builder.take();
}

std::optional<int64_t> JsonValue::number() const {
  const int64_t* value = std::get_if<int64_t>(&value_);
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<double> JsonValue::real() const {
  if (const double* value = std::get_if<double>(&value_)) return *value;
  if (auto whole = number()) return static_cast<double>(*whole);
  return std::nullopt;
}

std::optional<bool> JsonValue::flag() const {
  const bool* value = std::get_if<bool>(&value_);
  return value == nullptr ? std::nullopt : std::optional(*value);
}

const JsonValue* JsonValue::find(std::string_view name) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  for (const auto& [key, value] : *members) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace polylog
