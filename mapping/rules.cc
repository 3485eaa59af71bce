#include "mapping/rules.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "mapping/address.h"
#include "mapping/mqtt.h"

namespace polylog::mapping {
namespace {

constexpr size_t kMaxWildcards = 16;
constexpr size_t kMaxTopic = 249;
constexpr BytesView kBlanks = " \t";

BytesView trimmed(BytesView text) {
  size_t from = text.find_first_not_of(kBlanks);
  if (from == BytesView::npos) return {};
  return text.substr(from, text.find_last_not_of(kBlanks) - from + 1);
}

std::unexpected<Error> wrong(BytesView rule, const std::string& why) {
  return fail(ErrorKind::kInvalid, "rule '" + std::string(rule) + "': " + why);
}

/// Takes `word` and the blanks behind it off the front of `text`.
bool takeWord(BytesView& text, BytesView word) {
  if (!text.starts_with(word)) return false;
  BytesView rest = text.substr(word.size());
  if (!rest.empty() && kBlanks.find(rest.front()) == BytesView::npos) return false;
  text = trimmed(rest);
  return true;
}

/// Takes the text up to the next '/' off the front; `text` is nothing after the last.
BytesView takeLevel(std::optional<BytesView>& text) {
  size_t slash = text->find('/');
  BytesView level = text->substr(0, slash);
  if (slash == BytesView::npos) {
    text.reset();
  } else {
    text->remove_prefix(slash + 1);
  }
  return level;
}

bool endsWithRest(const TopicFilter& filter) {
  return filter.levels.back().kind == FilterLevel::Kind::kRest;
}

}  // namespace

/// What each wildcard stood for; nothing for a '#' that stood for no level at all.
struct Rules::Captures {
  std::array<std::optional<BytesView>, kMaxWildcards> texts;
  size_t count = 0;
  void add(const std::optional<BytesView>& text) { texts[count++] = text; }
};

// ---- parsing ----------------------------------------------------------------------------------

Result<Rules> Rules::parse(std::span<const std::string> texts) {
  Rules out;
  for (const std::string& text : texts) {
    Result<Rule> rule = parseRule(trimmed(text));
    if (!rule) return std::unexpected(std::move(rule.error()));
    out.rules_.push_back(std::move(*rule));
  }
  return out;
}

Result<Rules::Rule> Rules::parseRule(BytesView text) {
  constexpr BytesView kArrow = "->";
  size_t arrow = text.find(kArrow);
  if (arrow == BytesView::npos) {
    return wrong(text,
                 "has no '->'; write FILTER -> topic NAME, key TEMPLATE or "
                 "FILTER -> ephemeral");
  }
  Result<TopicFilter> filter = parseMqttFilter(trimmed(text.substr(0, arrow)));
  if (!filter) {
    return wrong(text, filter.error().text + "; write an MQTT topic filter before '->'");
  }
  Rule rule;
  rule.filter = std::move(*filter);
  const FilterLevel& first = rule.filter.levels.front();
  if (first.kind == FilterLevel::Kind::kLiteral && first.text.starts_with('$')) {
    return wrong(text, "nobody can publish to names that begin with $; remove the rule");
  }
  auto wildcards = std::ranges::count_if(rule.filter.levels, [](const FilterLevel& level) {
    return level.kind != FilterLevel::Kind::kLiteral;
  });
  if (static_cast<size_t>(wildcards) > kMaxWildcards) {
    return wrong(text, "has more than 16 wildcards; use # for the last levels");
  }
  rule.wildcards = static_cast<int>(wildcards);
  Result<> target = parseTarget(trimmed(text.substr(arrow + kArrow.size())), text, rule);
  if (!target) return std::unexpected(std::move(target.error()));
  rule.oneToOne = isOneToOne(rule);
  return rule;
}

Result<> Rules::parseTarget(BytesView target, BytesView text, Rule& rule) {
  if (target == "ephemeral") {
    rule.ephemeral = true;
    return {};
  }
  if (!takeWord(target, "topic")) {
    return wrong(text, "says neither 'topic NAME' nor 'ephemeral' after '->'; write one of them");
  }
  size_t comma = target.find(',');
  BytesView topic = trimmed(target.substr(0, comma));
  bool marked = isMarked(topic) || !isText(topic) || topic.find_first_of("{}+#") != BytesView::npos;
  if (topic.empty() || topic.size() > kMaxTopic || marked || !canonicalTopicPossible(topic)) {
    return wrong(text, "'" + std::string(topic) +
                           "' can't be a topic's name; give 1 to 249 octets "
                           "without / + # { } and without $ or enc-- before them");
  }
  rule.topic = std::string(topic);
  if (comma == BytesView::npos) {
    rule.key.push_back({{}, 0});  // the whole address
    return {};
  }
  BytesView key = trimmed(target.substr(comma + 1));
  if (!takeWord(key, "key") || key.empty()) {
    return wrong(text,
                 "expected 'key TEMPLATE' after the comma; write for example 'key {1}', "
                 "'key {0}' for the whole address, or 'key none'");
  }
  if (key == "none") {
    rule.keyed = false;
    return {};
  }
  Result<std::vector<Piece>> pieces = parseKey(key, text, rule.wildcards);
  if (!pieces) return std::unexpected(std::move(pieces.error()));
  rule.key = std::move(*pieces);
  // A lone # stands for the whole address.
  if (rule.filter.levels.front().kind == FilterLevel::Kind::kRest) {
    for (Piece& piece : rule.key) piece.wildcard = std::min(piece.wildcard, 0);
  }
  return {};
}

Result<std::vector<Rules::Piece>> Rules::parseKey(BytesView key, BytesView text, int wildcards) {
  std::vector<Piece> pieces;
  while (!key.empty()) {
    size_t brace = key.find_first_of("{}");
    if (brace > 0) {
      pieces.push_back({std::string(key.substr(0, brace)), -1});
      if (brace == BytesView::npos) break;
      key.remove_prefix(brace);
    }
    size_t close = key.find('}');
    bool braced = key.front() == '{' && close != BytesView::npos;
    BytesView number = braced ? key.substr(1, close - 1) : BytesView();
    int wildcard = -1;
    auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), wildcard);
    bool whole = error == std::errc() && stop == number.data() + number.size();
    if (!whole || wildcard < 0 || wildcard > wildcards) {
      return wrong(text, "'" + std::string(key) +
                             "' in the key is no placeholder of a wildcard; the "
                             "filter has " +
                             std::to_string(wildcards) + ", so write {0} (the whole address) to {" +
                             std::to_string(wildcards) + "}");
    }
    pieces.push_back({{}, wildcard});
    key.remove_prefix(close + 1);
  }
  return pieces;
}

// ---- applying ---------------------------------------------------------------------------------

bool Rules::matches(const TopicFilter& filter, const Address& address, Captures& captures) {
  captures.count = 0;
  std::optional<BytesView> rest = address.key;
  for (size_t i = 0; i < filter.levels.size(); ++i) {
    const FilterLevel& level = filter.levels[i];
    bool first = i == 0;
    if (first && level.kind != FilterLevel::Kind::kLiteral &&
        (address.topic.starts_with('_') || address.topic.starts_with('$'))) {
      return false;
    }
    if (level.kind == FilterLevel::Kind::kRest) {
      captures.add(rest);
      return true;
    }
    if (!first && !rest) return false;
    BytesView text = first ? address.topic : takeLevel(rest);
    if (level.kind == FilterLevel::Kind::kOne) {
      captures.add(text);
    } else if (text != level.text) {
      return false;
    }
  }
  return !rest;
}

/// False for a null key.
bool Rules::fillKey(const Rule& rule, const Address& address, const Captures& captures,
                    std::string& out) {
  out.clear();
  if (!rule.keyed) return false;
  for (const Piece& piece : rule.key) {
    if (piece.wildcard < 0) {
      out += piece.text;
    } else if (piece.wildcard == 0) {
      appendAddress(address, out);
    } else if (const auto& text = captures.texts[static_cast<size_t>(piece.wildcard) - 1]) {
      out += *text;
    } else if (rule.key.size() == 1) {
      return false;
    } else if (out.ends_with('/')) {
      out.pop_back();  // "a/#" matches "a": no level, so no '/' before it
    }
  }
  return true;
}

std::vector<std::string> Rules::topics() const {
  std::vector<std::string> all;
  for (const Rule& rule : rules_) {
    if (!rule.ephemeral) all.push_back(rule.topic);
  }
  std::ranges::sort(all);
  auto twice = std::ranges::unique(all);
  all.erase(twice.begin(), twice.end());
  return all;
}

Route Rules::apply(const Address& address, std::string& scratch) const {
  Captures captures;
  for (const Rule& rule : rules_) {
    if (!matches(rule.filter, address, captures)) continue;
    if (rule.ephemeral) return {address.topic, address.key, true, true};
    Route route{rule.topic, std::nullopt, false, true};
    if (fillKey(rule, address, captures, scratch)) route.key = scratch;
    return route;
  }
  return {address.topic, address.key, false, false};
}

// ---- the way back -----------------------------------------------------------------------------

/// Whether the key (and the topic, which is fixed) tells every wildcard's text: each is in the key
/// once, no two in one level, and what # stood for is the key's end.
bool Rules::isOneToOne(const Rule& rule) {
  if (rule.ephemeral) return false;
  if (!rule.keyed) return rule.wildcards == 0;
  if (rule.key.size() == 1 && rule.key.front().wildcard == 0) return true;
  std::array<int, kMaxWildcards + 1> used{};
  bool levelTaken = false;
  for (size_t i = 0; i < rule.key.size(); ++i) {
    const Piece& piece = rule.key[i];
    if (piece.wildcard < 0) {
      if (piece.text.find('/') != std::string::npos) levelTaken = false;
      continue;
    }
    if (piece.wildcard == 0 || levelTaken) return false;
    levelTaken = true;
    ++used[static_cast<size_t>(piece.wildcard)];
    if (piece.wildcard == rule.wildcards && endsWithRest(rule.filter)) {
      bool aloneInLevel = i == 0 || rule.key[i - 1].text.ends_with('/');
      if (!aloneInLevel || i + 1 != rule.key.size()) return false;
    }
  }
  return std::all_of(used.begin() + 1, used.begin() + 1 + rule.wildcards,
                     [](int times) { return times == 1; });
}

/// Sets `address` to the text of the one that could have given `key`. The caller checks it by
/// apply(); this only has to find it where there is one.
bool Rules::invert(const Rule& rule, const std::optional<BytesView>& key, std::string& address) {
  Captures captures;
  if (rule.key.size() == 1 && rule.key.front().wildcard == 0) {
    if (!key) return false;
    address = *key;
    return true;
  }
  size_t at = 0;
  for (size_t i = 0; i < rule.key.size(); ++i) {
    const Piece& piece = rule.key[i];
    if (!key) break;  // only a lone # gives no key, and it captured nothing
    if (piece.wildcard < 0) {
      BytesView text = piece.text;
      bool last = i + 2 == rule.key.size() && text.ends_with('/') && endsWithRest(rule.filter);
      // "x/{1}" with nothing for # is "x".
      if (last && key->substr(at) == text.substr(0, text.size() - 1)) {
        at = key->size();
        break;
      }
      if (!key->substr(at).starts_with(text)) return false;
      at += text.size();
      continue;
    }
    auto wildcard = static_cast<size_t>(piece.wildcard);
    size_t end = key->size();
    if (piece.wildcard != rule.wildcards || !endsWithRest(rule.filter)) {
      end = std::min(key->find('/', at), key->size());
      BytesView behind = i + 1 < rule.key.size() ? BytesView(rule.key[i + 1].text) : BytesView();
      size_t fixed = behind.substr(0, behind.find('/')).size();
      if (end - at < fixed) return false;
      end -= fixed;
    }
    captures.texts[wildcard - 1] = key->substr(at, end - at);
    at = end;
  }
  if (key && (at != key->size() || !rule.keyed)) return false;
  address.clear();
  size_t wildcard = 0;
  for (size_t i = 0; i < rule.filter.levels.size(); ++i) {
    const FilterLevel& level = rule.filter.levels[i];
    std::optional<BytesView> text = level.text;
    if (level.kind != FilterLevel::Kind::kLiteral) text = captures.texts[wildcard++];
    if (!text && level.kind == FilterLevel::Kind::kOne) return false;
    if (!text) break;
    if (i > 0) address.push_back('/');
    address += *text;
  }
  return true;
}

Address Rules::addressOf(BytesView topic, const std::optional<BytesView>& key,
                         std::string& scratch) const {
  const Address stored{topic, key};
  std::string candidate;
  std::string check;
  bool found = false;
  for (const Rule& rule : rules_) {
    if (rule.ephemeral || rule.topic != topic) continue;
    if (!rule.oneToOne) return stored;
    if (!invert(rule, key, candidate)) continue;
    Route route = apply(splitAddress(candidate), check);
    if (!route.byRule || route.ephemeral || !sameAddress({route.topic, route.key}, stored))
      continue;
    if (found && candidate != scratch) return stored;
    found = true;
    scratch = candidate;
  }
  return found ? splitAddress(scratch) : stored;
}

}  // namespace polylog::mapping
