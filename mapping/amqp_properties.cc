// The properties' half of mapping/amqp.h.
#include <algorithm>
#include <limits>

#include "mapping/amqp.h"
#include "mapping/value_text.h"

namespace polylog::mapping {
namespace {

constexpr uint8_t kTransient = 1;
constexpr uint8_t kPersistent = 2;
constexpr BytesView kTrue = "true";
constexpr BytesView kFalse = "false";

/// The properties that are short strings.
struct TextPlace {
  BytesView name;
  std::optional<BytesView> AmqpProperties::*place;
};
constexpr TextPlace kTextPlaces[] = {
    {kContentType, &AmqpProperties::contentType},
    {kContentEncoding, &AmqpProperties::contentEncoding},
    {kCorrelationId, &AmqpProperties::correlationId},
    {kReplyTo, &AmqpProperties::replyTo},
    {kMessageId, &AmqpProperties::messageId},
    {kType, &AmqpProperties::type},
    {kUserId, &AmqpProperties::userId},
    {kAppId, &AmqpProperties::appId},
};

std::optional<BytesView> valueOf(const Value& value, TextArena& arena) {
  if (std::holds_alternative<std::monostate>(value.is)) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(&value.is)) return *text;
  if (const auto* octets = std::get_if<Value::Octets>(&value.is)) return octets->bytes;
  std::string text;
  appendText(value, text);
  return arena.keep(std::move(text));
}

Value valueFor(const std::optional<BytesView>& value) {
  if (!value) return {};
  if (isUtf8(*value)) return Value(std::string(*value));
  return Value(Value::Octets{std::string(*value)});
}

bool takeText(const TextPlace& text, BytesView value, AmqpProperties& out, TextArena& arena) {
  std::optional<BytesView>& place = out.*text.place;
  if (place || value.size() > kAmqpMaxShortString) return false;
  BytesView shortString = textOfName(value, arena);
  if (shortString.size() > kAmqpMaxShortString) return false;
  place = shortString;
  return true;
}

/// True when `header` has become a property of AMQP's own in `out` (the expiry apart).
bool takeProperty(const Header& header, AmqpProperties& out, TextArena& arena) {
  if (!header.value) return false;
  BytesView value = *header.value;
  const auto* text = std::ranges::find(kTextPlaces, header.name, &TextPlace::name);
  if (text != std::end(kTextPlaces)) return takeText(*text, value, out, arena);
  if (header.name == kPriority) {
    std::optional<int64_t> priority = decimal(value);
    if (out.priority || !priority || *priority > 255) return false;
    out.priority = static_cast<uint8_t>(*priority);
    return true;
  }
  if (header.name == kDurable) {
    if (out.deliveryMode || (value != kTrue && value != kFalse)) return false;
    out.deliveryMode = value == kTrue ? kPersistent : kTransient;
    return true;
  }
  return false;
}

/// Returns the octets that the entry takes in a field table (AMQP 0-9-1, 4.2.5.5), at least.
size_t addHeader(const Header& header, AmqpProperties& out, TextArena& arena) {
  constexpr size_t kNameLengthAndType = 2;
  BytesView name = unescaped(header.name, Protocol::kAmqp).value_or(header.name);
  if (name.size() > kAmqpMaxShortString) return 0;
  BytesView nameText = textOfName(name, arena);
  if (nameText.size() > kAmqpMaxShortString) return 0;
  out.headers.emplace_back(std::string(nameText), valueFor(header.value));
  return kNameLengthAndType + nameText.size() + (header.value ? header.value->size() : 0);
}

void addTimestamp(const Record& record, AmqpProperties& out) {
  out.timestampSeconds = record.timestampMs / 1000;
  out.headers.emplace_back(std::string(kAmqpTimestampHeader), Value(record.timestampMs));
}

}  // namespace

void AmqpProperties::clear() {
  for (const TextPlace& text : kTextPlaces) (this->*text.place).reset();
  deliveryMode.reset();
  priority.reset();
  expirationMs.reset();
  timestampSeconds.reset();
  headers.clear();
}

void headersFromAmqp(const AmqpProperties& properties, int64_t nowMs, std::vector<Header>& out,
                     TextArena& arena) {
  for (const TextPlace& text : kTextPlaces) {
    if (const std::optional<BytesView>& value = properties.*text.place) {
      out.push_back({text.name, nameOfText(*value, arena)});
    }
  }
  if (properties.deliveryMode == kPersistent) out.push_back({kDurable, kTrue});
  if (properties.deliveryMode == kTransient) out.push_back({kDurable, kFalse});
  if (properties.priority) {
    out.push_back({kPriority, arena.keep(std::to_string(*properties.priority))});
  }
  if (properties.expirationMs) {
    int64_t most = std::numeric_limits<int64_t>::max() - nowMs;
    int64_t expiry = nowMs + std::clamp<int64_t>(*properties.expirationMs, 0, most);
    out.push_back({kExpiry, arena.keep(std::to_string(expiry))});
  }
  for (const auto& [nameText, value] : properties.headers) {
    BytesView name = nameOfText(nameText, arena);
    if (needsEscape(name, Protocol::kAmqp)) {
      std::string escaped(kUserPrefix);
      escaped += name;
      name = arena.keep(std::move(escaped));
    }
    out.push_back({name, valueOf(value, arena)});
  }
}

Deliverable amqpFromHeaders(const Record& record, int64_t nowMs, AmqpProperties& out,
                            TextArena& arena, size_t largest) {
  out.clear();
  size_t octets = 0;
  for (const Header& header : record.headers) {
    if (header.name.starts_with(kReservedHeaderPrefix)) continue;
    if (!out.expirationMs) {
      if (std::optional<int64_t> expiry = expiryOf(header)) {
        if (*expiry <= nowMs) return Deliverable::kExpired;
        out.expirationMs = std::min(*expiry - nowMs, kAmqpMaxExpirationMs);
        continue;
      }
    }
    if (takeProperty(header, out, arena)) continue;
    // A few octets may become many times their memory: no more of it than can be sent.
    octets += addHeader(header, out, arena);
    if (octets > largest) return Deliverable::kTooLarge;
  }
  if (record.timestampMs >= 0 && !amqpOriginal(record)) addTimestamp(record, out);
  return Deliverable::kYes;
}

}  // namespace polylog::mapping
