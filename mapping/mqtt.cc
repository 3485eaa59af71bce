#include "mapping/mqtt.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace polylog::mapping {
namespace {

std::unexpected<Error> invalid(const char* what, BytesView text, const char* why) {
  std::string shown;
  for (char c : text.substr(0, 128)) {
    bool plain = static_cast<unsigned char>(c) >= 0x20 && c != 0x7F;
    shown.push_back(plain ? c : '?');
  }
  return fail(ErrorKind::kInvalid, std::string(what) + " '" + shown + "': " + why);
}

bool hasWildcard(BytesView name) {
  return name.find('+') != BytesView::npos || name.find('#') != BytesView::npos;
}

/// Whether a topic or key has to be marked to stand in an MQTT topic name.
bool needsMqttMark(BytesView part) {
  return isMarked(part) || hasWildcard(part) || !isText(part);
}

/// The same for the topic, which can be empty only before a key: MQTT has no empty name.
bool topicNeedsMqttMark(BytesView topic, bool keyed) {
  return needsMqttMark(topic) || (topic.empty() && !keyed);
}

void appendPart(BytesView part, bool mark, std::string& out) {
  if (mark) {
    appendMarked(part, out);
  } else {
    out.append(part);
  }
}

constexpr const char* kBadMark =
    "a part that begins with enc-- must be the marked form of a name that MQTT can't express";

/// The slow way of splitMqttTopic(): `address` has a marked part.
Result<Address> splitMarked(const Address& address, BytesView name, std::string& scratch) {
  std::string topic(address.topic);
  std::optional<std::string> key;
  if (address.key) key = std::string(*address.key);
  if (isMarked(address.topic)) {
    std::optional<std::string> inner = decodeMarked(address.topic);
    if (!inner || !canonicalTopicPossible(*inner) || !topicNeedsMqttMark(*inner, key.has_value())) {
      return invalid("topic name", name, kBadMark);
    }
    topic = std::move(*inner);
  }
  if (key && isMarked(*key)) {
    std::optional<std::string> inner = decodeMarked(*key);
    if (!inner || !needsMqttMark(*inner)) return invalid("topic name", name, kBadMark);
    key = std::move(*inner);
  }
  scratch = topic;
  if (!key) return Address{scratch, std::nullopt};
  scratch += *key;
  BytesView both = scratch;
  return Address{both.substr(0, topic.size()), both.substr(topic.size())};
}

constexpr BytesView kShare = "$share/";
constexpr BytesView kExclusive = "$exclusive/";
constexpr BytesView kReplay = "$replay/";

constexpr const char* kTooManyLevels = "has more than 256 levels";

/// Calls `add` with each level of `text` and whether it is the last; stops at the first that
/// returns what is wrong with it.
template <class Add>
const char* eachLevel(BytesView text, Add add) {
  for (size_t from = 0;;) {
    size_t slash = text.find('/', from);
    bool last = slash == BytesView::npos;
    BytesView level = text.substr(from, last ? slash : slash - from);
    if (const char* wrong = add(level, last)) return wrong;
    if (last) return nullptr;
    from = slash + 1;
  }
}

const char* addLiterals(BytesView text, std::vector<FilterLevel>& levels) {
  return eachLevel(text, [&](BytesView level, bool) {
    if (levels.size() == kMqttMaxFilterLevels) return kTooManyLevels;
    levels.push_back({FilterLevel::Kind::kLiteral, std::string(level)});
    return static_cast<const char*>(nullptr);
  });
}

/// Adds the levels of a piece of a filter; `atEnd`: nothing comes behind it. Null, or what is
/// wrong.
const char* addLevels(BytesView text, bool atEnd, std::vector<FilterLevel>& levels) {
  return eachLevel(text, [&](BytesView level, bool last) {
    if (levels.size() == kMqttMaxFilterLevels) return kTooManyLevels;
    if (level == "+") {
      levels.push_back({FilterLevel::Kind::kOne, {}});
    } else if (level == "#" && last && atEnd) {
      levels.push_back({FilterLevel::Kind::kRest, {}});
    } else if (hasWildcard(level)) {
      return "+ and # stand alone in a level, # in the last";
    } else {
      levels.push_back({FilterLevel::Kind::kLiteral, std::string(level)});
    }
    return static_cast<const char*>(nullptr);
  });
}

// ---- properties -------------------------------------------------------------------------------

bool fits(BytesView text) {
  return text.size() <= kMqttMaxString;
}

bool validPayloadFormat(BytesView value, const Record& record, uint8_t& out) {
  if (value == kPayloadFormatBytes) {
    out = 0;
    return true;
  }
  if (value != kPayloadFormatText) return false;
  // Receivers may cut the connection over a payload that isn't what the property says. MQTT's own
  // publishers answer for theirs.
  if (!publishedByMqtt(record) && !isUtf8(mqttPayload(record))) return false;
  out = 1;
  return true;
}

uint32_t remainingSeconds(int64_t expiry, int64_t nowMs) {
  // Rounded up: a second that has only begun is still there, and what arrives at once arrives with
  // the interval that was sent.
  uint64_t seconds = (static_cast<uint64_t>(expiry) - static_cast<uint64_t>(nowMs) + 999) / 1000;
  return static_cast<uint32_t>(std::min<uint64_t>(seconds, std::numeric_limits<uint32_t>::max()));
}

/// True when `header` has become (one of the first four) a property of MQTT's own in `out`.
bool takeProperty(const Header& header, const Record& record, MqttProperties& out) {
  if (!header.value || !fits(*header.value)) return false;
  BytesView value = *header.value;
  if (header.name == kContentType) {
    if (out.contentType || !isText(value)) return false;
    out.contentType = value;
    return true;
  }
  if (header.name == kCorrelationId) {
    if (out.correlationData) return false;
    out.correlationData = value;
    return true;
  }
  if (header.name == kReplyTo) {
    if (out.responseTopic || !validMqttTopicName(value)) return false;
    out.responseTopic = value;
    return true;
  }
  if (header.name == kPayloadFormat) {
    uint8_t format = 0;
    if (out.payloadFormat || !validPayloadFormat(value, record, format)) return false;
    out.payloadFormat = format;
    return true;
  }
  return false;
}

void addUserProperty(const Header& header, MqttProperties& out, TextArena& arena) {
  BytesView name = unescaped(header.name, Protocol::kMqtt).value_or(header.name);
  BytesView nameText = textOfName(name, arena);
  BytesView valueText = textOf(header.value, arena);
  if (fits(nameText) && fits(valueText)) out.userProperties.emplace_back(nameText, valueText);
}

}  // namespace

bool validMqttTopicName(BytesView name) {
  return !name.empty() && name.size() <= kMqttMaxString && !hasWildcard(name) && isText(name);
}

Result<Address> splitMqttTopic(BytesView name, std::string& scratch) {
  if (!validMqttTopicName(name)) {
    return invalid("topic name", name, "must be 1 to 65,535 octets of UTF-8 without NUL, + and #");
  }
  if (name.starts_with('$')) {
    return invalid("topic name", name, "names that begin with $ are the broker's own");
  }
  Address address = splitAddress(name);
  if (isMarked(address.topic) || (address.key && isMarked(*address.key))) {
    return splitMarked(address, name, scratch);
  }
  return address;
}

int64_t MqttDelay::timeFrom(int64_t nowMs) const {
  if (atMs != 0) return atMs > nowMs ? atMs : 0;
  return seconds == 0 ? 0 : nowMs + int64_t{seconds} * 1000;
}

Result<MqttDelay> takeMqttDelay(BytesView& name, int64_t nowMs) {
  constexpr BytesView kDelayed = "$delayed/";
  constexpr int64_t kMost = kMqttMaxDelaySeconds;
  if (!name.starts_with(kDelayed)) return MqttDelay{};
  BytesView rest = name.substr(kDelayed.size());
  const size_t slash = rest.find('/');
  const BytesView digits = rest.substr(0, slash);
  uint64_t number = 0;
  const char* end = digits.data() + digits.size();
  auto [at, error] = std::from_chars(digits.data(), end, number);
  if (slash == BytesView::npos || error != std::errc() || at != end) {
    return invalid("topic name", name,
                   "must be $delayed/SECONDS/TOPIC or $delayed/UNIX_TIME/TOPIC");
  }
  MqttDelay delay;
  if (number <= kMqttMaxDelaySeconds) {
    delay.seconds = static_cast<uint32_t>(number);
  } else {
    const int64_t now = nowMs / 1000;
    if (number > static_cast<uint64_t>(now + kMost) || static_cast<int64_t>(number) < now - kMost) {
      return invalid("topic name", name,
                     "must be delayed by at most 42949669 seconds, or to a time in seconds since "
                     "1970 that is no further from now");
    }
    delay.atMs = static_cast<int64_t>(number) * 1000;
  }
  name = rest.substr(slash + 1);
  return delay;
}

bool appendMqttTopic(const Address& address, std::string& out) {
  size_t before = out.size();
  appendPart(address.topic, topicNeedsMqttMark(address.topic, address.key.has_value()), out);
  if (address.key) {
    out.push_back('/');
    appendPart(*address.key, needsMqttMark(*address.key), out);
  }
  if (out.size() - before <= kMqttMaxString) return true;
  out.resize(before);
  return false;
}

Result<TopicFilter> parseMqttFilter(BytesView filter) {
  if (filter.empty() || filter.size() > kMqttMaxString || !isText(filter)) {
    return invalid("topic filter", filter, "must be 1 to 65,535 octets of UTF-8 without NUL");
  }
  Address parts = splitAddress(filter);
  TopicFilter out;
  if (isMarked(parts.topic) && !hasWildcard(parts.topic)) {
    std::optional<std::string> inner = decodeMarked(parts.topic);
    if (!inner || !canonicalTopicPossible(*inner)) return invalid("topic filter", filter, kBadMark);
    out.levels.push_back({FilterLevel::Kind::kLiteral, std::move(*inner)});
  } else if (const char* wrong = addLevels(parts.topic, !parts.key, out.levels)) {
    return invalid("topic filter", filter, wrong);
  }
  if (!parts.key) return out;
  const char* wrong = nullptr;
  if (isMarked(*parts.key) && !hasWildcard(*parts.key)) {
    // A marked key is one name, whatever number of levels it stands for. With wildcards in it, it
    // is no marked name and matches as it is written.
    std::optional<std::string> inner = decodeMarked(*parts.key);
    wrong = inner ? addLiterals(*inner, out.levels) : kBadMark;
  } else {
    wrong = addLevels(*parts.key, true, out.levels);
  }
  if (wrong != nullptr) return invalid("topic filter", filter, wrong);
  return out;
}

BytesView mqttSubscriptionPrefix(BytesView text) {
  if (text.starts_with(kExclusive)) return text.substr(0, kExclusive.size());
  for (BytesView named : {kShare, kReplay}) {
    if (!text.starts_with(named)) continue;
    const size_t slash = text.find('/', named.size());
    return slash == BytesView::npos ? BytesView() : text.substr(0, slash + 1);
  }
  return {};
}

Result<ReplayStart> parseReplayStart(BytesView text) {
  using Kind = ReplayStart::Kind;
  constexpr const char* kForms =
      "must be earliest, offset=N, last=N, time=MILLISECONDS since 1970 or time=-N with s, m, h or "
      "d behind it";
  if (text == "earliest") return ReplayStart{};
  constexpr std::pair<BytesView, Kind> kKinds[] = {{"offset=", Kind::kOffset},
                                                   {"last=", Kind::kLast},
                                                   {"time=-", Kind::kAgo},
                                                   {"time=", Kind::kTime}};
  for (const auto& [name, kind] : kKinds) {
    if (!text.starts_with(name)) continue;
    BytesView number = text.substr(name.size());
    int64_t unit = 1;
    if (kind == Kind::kAgo) {
      constexpr std::pair<char, int64_t> kUnits[] = {
          {'s', 1000}, {'m', 60'000}, {'h', 3'600'000}, {'d', 86'400'000}};
      const auto* at = std::ranges::find(kUnits, number.empty() ? '\0' : number.back(),
                                         &std::pair<char, int64_t>::first);
      if (at == std::end(kUnits)) break;
      unit = at->second;
      number.remove_suffix(1);
    }
    auto value = decimal(number);
    if (!value || *value > INT64_MAX / unit) break;
    return ReplayStart{kind, *value * unit};
  }
  return invalid("replay", text, kForms);
}

Result<MqttSubscription> parseMqttSubscription(BytesView text) {
  MqttSubscription out;
  BytesView filter = text;
  if (text.starts_with(kExclusive)) {
    out.exclusive = true;
    filter = text.substr(kExclusive.size());
    if (filter.starts_with(kShare)) {
      return invalid("exclusive subscription", text, "can't be shared");
    }
    if (filter.starts_with(kReplay)) {
      return invalid("exclusive subscription", text, "can't be of a replay");
    }
  } else if (text.starts_with(kShare)) {
    BytesView rest = text.substr(kShare.size());
    size_t slash = rest.find('/');
    BytesView name = rest.substr(0, slash);
    if (slash == BytesView::npos || name.empty() || hasWildcard(name) || !isText(name)) {
      return invalid("shared subscription", text, "must be $share/NAME/FILTER");
    }
    out.shareName = name;
    filter = rest.substr(slash + 1);
    if (filter.starts_with(kReplay)) {
      return invalid("shared subscription", text, "can't be of a replay");
    }
  } else if (text.starts_with(kReplay)) {
    BytesView rest = text.substr(kReplay.size());
    size_t slash = rest.find('/');
    if (slash == BytesView::npos) return invalid("replay", text, "must be $replay/START/FILTER");
    auto start = parseReplayStart(rest.substr(0, slash));
    if (!start) return std::unexpected(std::move(start.error()));
    out.replay = *start;
    filter = rest.substr(slash + 1);
    if (filter.starts_with('$')) {
      return invalid("replay", text, "of topics beginning with '$' nothing is stored");
    }
  }
  Result<TopicFilter> parsed = parseMqttFilter(filter);
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  out.filter = std::move(*parsed);
  return out;
}

void MqttProperties::clear() {
  payloadFormat.reset();
  messageExpirySeconds.reset();
  contentType.reset();
  responseTopic.reset();
  correlationData.reset();
  userProperties.clear();
}

void headersFromMqtt(const MqttProperties& properties, int64_t nowMs, std::vector<Header>& out,
                     TextArena& arena) {
  if (properties.empty()) return;
  out.reserve(out.size() + 5 + properties.userProperties.size());
  if (properties.payloadFormat) {
    out.push_back({kPayloadFormat,
                   *properties.payloadFormat == 0 ? kPayloadFormatBytes : kPayloadFormatText});
  }
  if (properties.messageExpirySeconds) {
    int64_t expiry = nowMs + int64_t{*properties.messageExpirySeconds} * 1000;
    out.push_back({kExpiry, arena.keep(std::to_string(expiry))});
  }
  if (properties.contentType) out.push_back({kContentType, *properties.contentType});
  if (properties.responseTopic) out.push_back({kReplyTo, *properties.responseTopic});
  if (properties.correlationData) out.push_back({kCorrelationId, *properties.correlationData});
  for (const auto& [nameText, valueText] : properties.userProperties) {
    BytesView name = nameOfText(nameText, arena);
    if (needsEscape(name, Protocol::kMqtt)) {
      std::string escaped(kUserPrefix);
      escaped += name;
      name = arena.keep(std::move(escaped));
    }
    out.push_back({name, valueOfText(valueText, arena)});
  }
}

Deliverable mqttFromHeaders(const Record& record, int64_t nowMs, MqttProperties& out,
                            TextArena& arena) {
  out.clear();
  for (const Header& header : record.headers) {
    if (header.name.starts_with(kReservedHeaderPrefix)) continue;
    if (!out.messageExpirySeconds) {
      if (std::optional<int64_t> expiry = expiryOf(header)) {
        if (*expiry <= nowMs) return Deliverable::kExpired;
        out.messageExpirySeconds = remainingSeconds(*expiry, nowMs);
        continue;
      }
    }
    if (!takeProperty(header, record, out)) addUserProperty(header, out, arena);
  }
  if (record.timestampMs >= 0 && !publishedByMqtt(record)) {
    out.userProperties.emplace_back(kTimestampProperty,
                                    arena.keep(std::to_string(record.timestampMs)));
  }
  return Deliverable::kYes;
}

}  // namespace polylog::mapping
