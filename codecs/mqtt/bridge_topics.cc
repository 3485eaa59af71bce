#include "codecs/mqtt/bridge_topics.h"

#include <fmt/format.h>

#include <algorithm>

#include "mapping/mqtt.h"

namespace polylog::mqtt {
namespace {

constexpr const char* kForm =
    "give FILTER DIRECTION QOS [LOCAL-PREFIX [REMOTE-PREFIX]], the direction out, in or both, the "
    "QoS 0 to 2, and \"\" for an empty prefix";

std::vector<std::string> wordsOf(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t blank = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, blank);
    if (!word.empty()) words.emplace_back(word == "\"\"" ? "" : word);
    text.remove_prefix(std::min(text.size(), blank + 1));
  }
  return words;
}

std::unexpected<Error> wrong(std::string_view text, std::string_view why) {
  return fail(ErrorKind::kInvalid, fmt::format("`{}`: {}", text, why));
}

/// A prefix is the beginning of a name, or all of it.
Result<> checkPrefix(std::string_view text, std::string_view which, const std::string& prefix) {
  if (prefix.empty() || mapping::validMqttTopicName(prefix)) return {};
  return wrong(text,
               fmt::format("the {} prefix `{}` has a wildcard, or is no name: a prefix is the "
                           "beginning of a topic name, without + and #",
                           which, prefix));
}

/// A filter that is subscribed to on one of the sides, and whose matches are named on the other.
Result<> checkSide(const BridgeTopic& topic, const std::string& from, const std::string& to,
                   std::string_view where) {
  if (!mapping::parseMqttFilter(from) || !mapping::mqttSubscriptionPrefix(from).empty()) {
    return wrong(topic.text, fmt::format("`{}` is no topic filter: + and # stand alone between "
                                         "slashes, # at the end, and $share, $exclusive and "
                                         "$replay are not for bridges",
                                         from));
  }
  if (to.starts_with('$')) {
    return wrong(topic.text,
                 fmt::format("`{}` begins with $: nothing can be published there; give a {} prefix",
                             to, where));
  }
  return {};
}

BytesView level(BytesView& rest, bool& more) {
  const size_t slash = rest.find('/');
  const BytesView found = rest.substr(0, slash);
  more = slash != BytesView::npos;
  rest.remove_prefix(more ? slash + 1 : rest.size());
  return found;
}

bool wild(BytesView part) {
  return part == "+" || part == "#";
}

bool renamed(BytesView topic, const std::string& from, const std::string& to, std::string& name) {
  if (!topic.starts_with(from)) return false;
  name.assign(to).append(topic.substr(from.size()));
  // A name that begins with $ behind its prefix would be something else without it.
  return !name.empty() && !name.starts_with('$') && name.size() <= mapping::kMqttMaxString;
}

void addFilter(BridgeTopics::Filters& filters, std::string filter, uint8_t qos) {
  uint8_t& granted = filters.emplace(std::move(filter), qos).first->second;
  granted = std::max(granted, qos);
}

}  // namespace

Result<BridgeTopic> BridgeTopic::parse(std::string_view text) {
  const std::vector<std::string> words = wordsOf(text);
  if (words.size() < 3 || words.size() > 5) return wrong(text, kForm);
  BridgeTopic topic;
  topic.text = std::string(text);
  topic.pattern = words[0];
  if (words[1] == "out") {
    topic.direction = Direction::kOut;
  } else if (words[1] == "in") {
    topic.direction = Direction::kIn;
  } else if (words[1] == "both") {
    topic.direction = Direction::kBoth;
  } else {
    return wrong(text, fmt::format("`{}` is no direction: {}", words[1], kForm));
  }
  if (words[2].size() != 1 || words[2][0] < '0' || words[2][0] > '2') {
    return wrong(text, fmt::format("`{}` is no QoS: {}", words[2], kForm));
  }
  topic.qos = static_cast<uint8_t>(words[2][0] - '0');
  if (words.size() > 3) topic.localPrefix = words[3];
  if (words.size() > 4) topic.remotePrefix = words[4];
  if (auto sound = checkPrefix(text, "local", topic.localPrefix); !sound) {
    return std::unexpected(sound.error());
  }
  if (auto sound = checkPrefix(text, "remote", topic.remotePrefix); !sound) {
    return std::unexpected(sound.error());
  }
  const std::string local = topic.localFilter();
  const std::string remote = topic.remoteFilter();
  if (topic.out()) {
    if (auto sound = checkSide(topic, local, remote, "remote"); !sound) {
      return std::unexpected(sound.error());
    }
  }
  if (topic.in()) {
    if (auto sound = checkSide(topic, remote, local, "local"); !sound) {
      return std::unexpected(sound.error());
    }
  }
  return topic;
}

BridgeTopics::BridgeTopics(std::vector<BridgeTopic> topics) : topics_(std::move(topics)) {
  for (const BridgeTopic& topic : topics_) {
    if (topic.out()) addFilter(local_, topic.localFilter(), topic.qos);
    if (topic.in()) addFilter(remote_, topic.remoteFilter(), topic.qos);
  }
}

bool BridgeTopics::outward(BytesView topic, std::string& name) const {
  for (const BridgeTopic& each : topics_) {
    if (!each.out() || !filterMatches(each.localFilter(), topic)) continue;
    return renamed(topic, each.localPrefix, each.remotePrefix, name);
  }
  return false;
}

bool BridgeTopics::inward(BytesView topic, std::string& name) const {
  for (const BridgeTopic& each : topics_) {
    if (!each.in() || !filterMatches(each.remoteFilter(), topic)) continue;
    return renamed(topic, each.remotePrefix, each.localPrefix, name);
  }
  return false;
}

bool filterMatches(BytesView filter, BytesView topic) {
  if (topic.starts_with('$') && !filter.starts_with('$')) return false;  // 4.7.2
  bool moreFilter = true;
  bool moreTopic = true;
  while (moreFilter && moreTopic) {
    const BytesView wanted = level(filter, moreFilter);
    if (wanted == "#") return true;
    const BytesView given = level(topic, moreTopic);
    if (wanted != "+" && wanted != given) return false;
  }
  if (moreFilter) return filter == "#";  // "a/#" matches "a"
  return !moreTopic;
}

bool filtersOverlap(BytesView one, BytesView other) {
  const bool apart = one.starts_with('$') != other.starts_with('$');
  if (apart) return false;
  bool moreOne = true;
  bool moreOther = true;
  while (moreOne && moreOther) {
    const BytesView a = level(one, moreOne);
    const BytesView b = level(other, moreOther);
    if (a == "#" || b == "#") return true;
    if (!wild(a) && !wild(b) && a != b) return false;
  }
  if (moreOne) return one == "#";
  if (moreOther) return other == "#";
  return true;
}

std::optional<std::string> loopOf(const BridgeTopic& one, const BridgeTopic& other,
                                  bool sameBridge) {
  const bool local = filtersOverlap(one.localFilter(), other.localFilter());
  const bool remote = filtersOverlap(one.remoteFilter(), other.remoteFilter());
  const bool both = one.out() && one.in() && other.out() && other.in();
  const bool through = local && remote && ((one.out() && other.in()) || (one.in() && other.out()));
  // Within one bridge what has come in is not sent out, and the remote is told the same; but by two
  // names for one message, each side would keep both.
  if (!(sameBridge ? both && (local || remote) : through)) return std::nullopt;
  return fmt::format(
      "`{}` and `{}` overlap: a message that {} out by the one comes back by the other; give them "
      "filters or prefixes that have no name in common, or one direction each",
      one.text, other.text, sameBridge ? "has gone" : "goes");
}

}  // namespace polylog::mqtt
