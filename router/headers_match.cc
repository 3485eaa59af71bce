#include "router/headers_match.h"

#include <algorithm>
#include <optional>

#include "core/base/bytes.h"

namespace polylog::router {
namespace {

constexpr std::string_view kMatchArgument = "x-match";

/// Numbers are compared as numbers, whatever they are on the wire; so RabbitMQ does.
std::optional<double> numberOf(const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value.is)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&value.is)) return *real;
  if (const auto* time = std::get_if<Value::Timestamp>(&value.is)) {
    return static_cast<double>(time->seconds);
  }
  return std::nullopt;
}

std::optional<BytesView> bytesOf(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value.is)) return *text;
  if (const auto* octets = std::get_if<Value::Octets>(&value.is)) return octets->bytes;
  return std::nullopt;
}

bool sameValue(const Value& a, const Value& b) {
  if (a == b) return true;
  // Text and octets are told apart on the wire, not here.
  if (auto text = bytesOf(a)) return text == bytesOf(b);
  std::optional<double> number = numberOf(a);
  return number && a.is.index() != b.is.index() && number == numberOf(b);
}

}  // namespace

HeadersByName::HeadersByName(const Table* headers) {
  if (headers == nullptr) return;
  entries_.reserve(headers->size());
  for (const auto& entry : *headers) entries_.push_back(&entry);
  // Equal names keep their order, which is that of their addresses.
  std::ranges::sort(entries_, {}, [](const auto* entry) {
    return std::pair<std::string_view, const void*>(entry->first, entry);
  });
}

const Value* HeadersByName::find(std::string_view name) const {
  auto at = std::ranges::lower_bound(
      entries_, name, {}, [](const auto* entry) { return std::string_view(entry->first); });
  return at != entries_.end() && (*at)->first == name ? &(*at)->second : nullptr;
}

bool headersMatch(const Table& arguments, const HeadersByName& headers) {
  bool any = false;
  bool withX = false;
  if (const Value* mode = polylog::find(arguments, kMatchArgument)) {
    if (const auto* text = std::get_if<std::string>(&mode->is)) {
      any = text->starts_with("any");
      withX = text->ends_with("-with-x");
    }
  }
  for (const auto& [name, wanted] : arguments) {
    if (name == kMatchArgument || (!withX && name.starts_with("x-"))) continue;
    const Value* there = headers.find(name);
    // A binding's value of nothing asks only that the header be there.
    bool matches = there != nullptr &&
                   (std::holds_alternative<std::monostate>(wanted.is) || sameValue(*there, wanted));
    if (matches && any) return true;
    if (!matches && !any) return false;
  }
  return !any;
}

}  // namespace polylog::router
