#include "mapping/amqp.h"

#include <algorithm>

#include "core/base/byte_reader.h"

namespace polylog::mapping {
namespace {

constexpr uint8_t kOriginalVersion = 1;

std::unexpected<Error> invalid(const char* what, BytesView key, const char* why) {
  std::string shown;
  for (char c : key.substr(0, 128)) {
    bool plain = static_cast<unsigned char>(c) >= 0x20 && c != 0x7F;
    shown.push_back(plain ? c : '?');
  }
  return fail(ErrorKind::kInvalid, std::string(what) + " '" + shown + "': " + why);
}

constexpr const char* kTooLong = "has more than 255 octets";
constexpr const char* kBadMark =
    "a part that begins with enc-- must be the marked form of a name that AMQP can't express";

bool hasWildcard(BytesView name) {
  return name.find_first_of("*#") != BytesView::npos;
}

/// Whether a topic or key has to be marked to stand in a routing key: binding keys couldn't name it,
/// or clients that take routing keys for text couldn't read it.
bool needsAmqpMark(BytesView part) {
  return isMarked(part) || hasWildcard(part) || !isUtf8(part);
}

/// Routing keys are divided at '.', addresses at '/'; what the other divides at is a plain letter.
void swapSeparators(std::string& text, size_t from = 0) {
  for (size_t i = from; i < text.size(); ++i) {
    if (text[i] == '.') {
      text[i] = '/';
    } else if (text[i] == '/') {
      text[i] = '.';
    }
  }
}

/// A routing or binding key divided at the first '.', nothing else changed.
Address splitAtDot(BytesView key) {
  size_t dot = key.find('.');
  if (dot == BytesView::npos) return {key, std::nullopt};
  return {key.substr(0, dot), key.substr(dot + 1)};
}

/// The slow way of addressFromRoutingKey(): a part is marked. What a mark stands for is canonical
/// already.
Result<Address> addressOfMarked(const Address& parts, BytesView key, std::string& scratch) {
  std::string topic(parts.topic);
  swapSeparators(topic);
  if (isMarked(parts.topic)) {
    std::optional<std::string> inner = decodeMarked(parts.topic);
    if (!inner || !canonicalTopicPossible(*inner) || !needsAmqpMark(*inner)) {
      return invalid("routing key", key, kBadMark);
    }
    topic = std::move(*inner);
  }
  size_t length = topic.size();
  scratch = std::move(topic);
  if (!parts.key) return Address{scratch, std::nullopt};
  if (isMarked(*parts.key)) {
    std::optional<std::string> inner = decodeMarked(*parts.key);
    if (!inner || !needsAmqpMark(*inner)) return invalid("routing key", key, kBadMark);
    scratch += *inner;
  } else {
    scratch += *parts.key;
    swapSeparators(scratch, length);
  }
  BytesView both = scratch;
  return Address{both.substr(0, length), both.substr(length)};
}

void appendPart(BytesView part, std::string& out) {
  if (needsAmqpMark(part)) {
    appendMarked(part, out);
    return;
  }
  size_t from = out.size();
  out.append(part);
  swapSeparators(out, from);
}

/// Calls `add` with each piece of `text` between `separator`s.
template <class Add>
void eachPiece(BytesView text, char separator, Add add) {
  for (;;) {
    size_t end = text.find(separator);
    add(text.substr(0, end));
    if (end == BytesView::npos) return;
    text.remove_prefix(end + 1);
  }
}

void addLiterals(BytesView canonical, TopicFilter& out) {
  eachPiece(canonical, '/', [&](BytesView level) {
    out.levels.push_back({FilterLevel::Kind::kLiteral, std::string(level)});
  });
}

void addWords(BytesView words, TopicFilter& out) {
  eachPiece(words, '.', [&](BytesView word) {
    if (word == "*") {
      out.levels.push_back({FilterLevel::Kind::kOne, {}});
    } else if (word == "#") {
      // "#.#" is no more than "#".
      bool again = !out.levels.empty() && out.levels.back().kind == FilterLevel::Kind::kRest;
      if (!again) out.levels.push_back({FilterLevel::Kind::kRest, {}});
    } else {
      std::string level(word);
      swapSeparators(level);
      out.levels.push_back({FilterLevel::Kind::kLiteral, std::move(level)});
    }
  });
}

}  // namespace

void appendAmqpOriginal(BytesView exchange, BytesView routingKey, BytesView properties,
                        std::string& out) {
  out.reserve(out.size() + 3 + exchange.size() + routingKey.size() + properties.size());
  out.push_back(static_cast<char>(kOriginalVersion));
  for (BytesView name : {exchange, routingKey}) {
    out.push_back(static_cast<char>(name.size()));
    out.append(name);
  }
  out.append(properties);
}

std::optional<AmqpOriginal> amqpOriginal(const Record& record) {
  auto header = std::ranges::find(record.headers, kAmqpOriginal, &Header::name);
  if (header == record.headers.end() || !header->value) return std::nullopt;
  ByteReader in(*header->value);
  if (in.u8() != kOriginalVersion) return std::nullopt;
  AmqpOriginal out;
  out.exchange = in.bytes(in.u8());
  out.routingKey = in.bytes(in.u8());
  out.properties = in.rest();
  if (!in.ok() || out.properties.size() < 2) return std::nullopt;
  return out;
}

Result<Address> addressFromRoutingKey(BytesView key, std::string& scratch) {
  if (key.size() > kAmqpMaxShortString) return invalid("routing key", key, kTooLong);
  Address parts = splitAtDot(key);
  if (parts.topic.starts_with('$')) {
    return invalid("routing key", key, "names that begin with $ are the broker's own");
  }
  if (isMarked(parts.topic) || (parts.key && isMarked(*parts.key))) {
    return addressOfMarked(parts, key, scratch);
  }
  bool plain = parts.topic.find('/') == BytesView::npos &&
               (!parts.key || parts.key->find_first_of("./") == BytesView::npos);
  if (plain) return parts;
  scratch = key;
  swapSeparators(scratch);
  return splitAddress(scratch);
}

bool appendRoutingKey(const Address& address, std::string& out) {
  size_t before = out.size();
  // Nothing gets shorter, so what is too long needs no marking first.
  size_t atLeast = address.topic.size() + (address.key ? 1 + address.key->size() : 0);
  if (atLeast > kAmqpMaxShortString) return false;
  appendPart(address.topic, out);
  if (address.key) {
    out.push_back('.');
    appendPart(*address.key, out);
  }
  if (out.size() - before <= kAmqpMaxShortString) return true;
  out.resize(before);
  return false;
}

Result<TopicFilter> filterFromBindingKey(BytesView key) {
  if (key.size() > kAmqpMaxShortString) return invalid("binding key", key, kTooLong);
  Address parts = splitAtDot(key);
  TopicFilter out;
  if (isMarked(parts.topic) && !hasWildcard(parts.topic)) {
    std::optional<std::string> inner = decodeMarked(parts.topic);
    if (!inner || !canonicalTopicPossible(*inner)) return invalid("binding key", key, kBadMark);
    out.levels.push_back({FilterLevel::Kind::kLiteral, std::move(*inner)});
  } else {
    addWords(parts.topic, out);
  }
  if (!parts.key) return out;
  if (isMarked(*parts.key) && !hasWildcard(*parts.key)) {
    // A marked key is one name, whatever number of levels it stands for.
    std::optional<std::string> inner = decodeMarked(*parts.key);
    if (!inner) return invalid("binding key", key, kBadMark);
    addLiterals(*inner, out);
  } else {
    addWords(*parts.key, out);
  }
  return out;
}

}  // namespace polylog::mapping
