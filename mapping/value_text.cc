#include "mapping/value_text.h"

#include <charconv>
#include <cmath>

#include "mapping/address.h"

namespace polylog::mapping {
namespace {

template <class... F>
struct Visitor : F... {
  using F::operator()...;
};

template <class Number>
void appendNumber(Number number, std::string& out) {
  char text[32];  // an int64_t has 20 letters, the shortest form of any double 24
  auto [end, error] = std::to_chars(text, text + sizeof text, number);
  out.append(text, end);
}

/// 12345 with scale 3 is 12.345, with scale 7 0.0012345.
void appendDecimal(const Value::Decimal& decimal, std::string& out) {
  std::string digits = std::to_string(decimal.digits);
  const size_t scale = decimal.scale;
  if (digits.size() <= scale) digits.insert(0, scale + 1 - digits.size(), '0');
  out += digits.substr(0, digits.size() - scale);
  if (scale == 0) return;
  out.push_back('.');
  out += digits.substr(digits.size() - scale);
}

void appendString(BytesView string, std::string& out) {
  constexpr BytesView kHex = "0123456789abcdef";
  TextArena arena;
  out.push_back('"');
  for (char c : textOfName(string, arena)) {
    auto octet = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (octet < 0x20) {
      out += "\\u00";
      out.push_back(kHex[octet >> 4]);
      out.push_back(kHex[octet & 15U]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

/// `[1,2]`, `{"a":1}`: calls `add` for every element.
template <class Elements, class Add>
void appendList(const Elements& elements, const char* brackets, std::string& out, Add add) {
  out.push_back(brackets[0]);
  bool first = true;
  for (const auto& element : elements) {
    if (!first) out.push_back(',');
    first = false;
    add(element);
  }
  out.push_back(brackets[1]);
}

}  // namespace

void appendText(const Value& value, std::string& out) {
  std::visit(Visitor{
                 [](std::monostate) {},
                 [&](bool is) { out += is ? "true" : "false"; },
                 [&](int64_t number) { appendNumber(number, out); },
                 [&](double number) { appendNumber(number, out); },
                 [&](const std::string& text) { out += text; },
                 [&](const Value::Octets& octets) { out += octets.bytes; },
                 [&](const Value::Decimal& decimal) { appendDecimal(decimal, out); },
                 [&](const Value::Timestamp& time) { appendNumber(time.seconds, out); },
                 [&](const Value::Array&) { appendJson(value, out); },
                 [&](const Table&) { appendJson(value, out); },
             },
             value.is);
}

void appendJson(const Value& value, std::string& out) {
  std::visit(Visitor{
                 [&](std::monostate) { out += "null"; },
                 [&](const std::string& text) { appendString(text, out); },
                 [&](const Value::Octets& octets) { appendString(octets.bytes, out); },
                 [&](double number) {
                   if (!std::isfinite(number)) out.push_back('"');
                   appendNumber(number, out);
                   if (!std::isfinite(number)) out.push_back('"');
                 },
                 [&](const Value::Array& array) {
                   appendList(array, "[]", out,
                              [&](const Value& element) { appendJson(element, out); });
                 },
                 [&](const Table& table) {
                   appendList(table, "{}", out, [&](const auto& entry) {
                     appendString(entry.first, out);
                     out.push_back(':');
                     appendJson(entry.second, out);
                   });
                 },
                 [&](const auto&) { appendText(value, out); },
             },
             value.is);
}

}  // namespace polylog::mapping
