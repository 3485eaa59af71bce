#include "mapping/rewrites.h"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "mapping/mqtt.h"

namespace polylog::mapping {
namespace {

/// $1 to $9, as in EMQX.
constexpr size_t kMaxCaptures = 9;
/// Of memory that one expression may take.
constexpr int64_t kExpressionBytes = 1 << 20;
constexpr BytesView kBlanks = " \t";
constexpr const char* kForm = "write publish|subscribe|all FILTER [EXPRESSION] -> DESTINATION";

using Captures = std::vector<BytesView>;

std::unexpected<Error> wrong(BytesView rule, const std::string& why) {
  return fail(ErrorKind::kInvalid, "rewrite '" + std::string(rule) + "': " + why);
}

BytesView trimmed(BytesView text) {
  const size_t from = text.find_first_not_of(kBlanks);
  if (from == BytesView::npos) return {};
  return text.substr(from, text.find_last_not_of(kBlanks) - from + 1);
}

BytesView takeWord(BytesView& text) {
  text = trimmed(text);
  const BytesView word = text.substr(0, text.find_first_of(kBlanks));
  text = trimmed(text.substr(word.size()));
  return word;
}

/// Whether the levels of `name`, wildcards in it taken as they are written, are as the filter says;
/// and what its wildcards stand for.
bool matches(const TopicFilter& filter, BytesView name, Captures& captures) {
  std::optional<BytesView> rest = name;
  for (const FilterLevel& level : filter.levels) {
    if (level.kind == FilterLevel::Kind::kRest) {
      captures.push_back(rest.value_or(BytesView()));
      return true;
    }
    if (!rest) return false;
    const size_t slash = rest->find('/');
    const BytesView here = rest->substr(0, slash);
    if (level.kind == FilterLevel::Kind::kOne) {
      captures.push_back(here);
    } else if (here != level.text) {
      return false;
    }
    rest = slash == BytesView::npos ? std::nullopt : std::optional(rest->substr(slash + 1));
  }
  return !rest;
}

bool matches(const re2::RE2& expression, BytesView name, Captures& captures) {
  const int groups = std::min<int>(expression.NumberOfCapturingGroups(), kMaxCaptures);
  re2::StringPiece found[kMaxCaptures + 1];
  const re2::StringPiece text(name.data(), name.size());
  if (!expression.Match(text, 0, text.size(), re2::RE2::UNANCHORED, found, groups + 1)) {
    return false;
  }
  captures.clear();
  for (int i = 1; i <= groups; ++i) {
    captures.push_back(found[i].data() == nullptr ? BytesView()
                                                  : BytesView(found[i].data(), found[i].size()));
  }
  return true;
}

}  // namespace

std::string filledIn(BytesView text, BytesView clientId, BytesView user) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '%' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'c' || next == 'u') {
      out += next == 'c' ? clientId : user;
      ++i;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

Result<TopicRewrites> TopicRewrites::parse(std::span<const std::string> texts) {
  TopicRewrites out;
  for (const std::string& text : texts) {
    auto rule = parseRule(trimmed(text));
    if (!rule) return std::unexpected(std::move(rule.error()));
    out.rules_.push_back(std::move(*rule));
  }
  return out;
}

Result<TopicRewrites::Rule> TopicRewrites::parseRule(BytesView text) {
  constexpr BytesView kArrow = " -> ";
  const size_t arrow = text.rfind(kArrow);
  if (arrow == BytesView::npos) return wrong(text, std::string("has no '->'; ") + kForm);
  BytesView left = text.substr(0, arrow);
  const BytesView action = takeWord(left);
  Rule rule;
  rule.publish = action == "publish" || action == "all";
  rule.subscribe = action == "subscribe" || action == "all";
  if (!rule.publish && !rule.subscribe) {
    return wrong(text, std::string("doesn't begin with publish, subscribe or all; ") + kForm);
  }
  auto filter = parseMqttFilter(takeWord(left));
  if (!filter) return wrong(text, filter.error().text + "; " + kForm);
  rule.filter = std::move(*filter);
  auto captures =
      static_cast<size_t>(std::ranges::count_if(rule.filter.levels, [](const FilterLevel& level) {
        return level.kind != FilterLevel::Kind::kLiteral;
      }));
  if (!left.empty()) {
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kExpressionBytes);
    rule.expression =
        std::make_shared<const re2::RE2>(re2::StringPiece(left.data(), left.size()), options);
    if (!rule.expression->ok()) {
      return wrong(
          text, "'" + std::string(left) + "' is no expression of RE2: " + rule.expression->error());
    }
    captures = static_cast<size_t>(rule.expression->NumberOfCapturingGroups());
  }
  auto destination = parseDestination(trimmed(text.substr(arrow + kArrow.size())), text, captures);
  if (!destination) return std::unexpected(std::move(destination.error()));
  rule.destination = std::move(*destination);
  return rule;
}

Result<std::vector<TopicRewrites::Piece>> TopicRewrites::parseDestination(BytesView text,
                                                                          BytesView rule,
                                                                          size_t captures) {
  if (text.empty()) return wrong(rule, std::string("has nothing after '->'; ") + kForm);
  std::vector<Piece> pieces(1);
  auto end = [&](Piece::Kind kind, size_t capture = 0) {
    pieces.back().kind = kind;
    pieces.back().capture = capture;
    pieces.emplace_back();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (text[i] == '$' && next >= '1' && next <= '9') {
      const auto capture = static_cast<size_t>(next - '1');
      if (capture >= captures) {
        return wrong(rule, std::string("there is nothing that $") + next +
                               " could stand for; remove it or add a group or wildcard");
      }
      end(Piece::Kind::kCapture, capture);
      ++i;
    } else if (text[i] == '%' && (next == 'c' || next == 'u')) {
      end(next == 'c' ? Piece::Kind::kClientId : Piece::Kind::kUser);
      ++i;
    } else {
      pieces.back().text.push_back(text[i]);
    }
  }
  return pieces;
}

std::optional<std::string> TopicRewrites::apply(Action action, BytesView name,
                                                const Client& client) const {
  Captures captures;
  for (const Rule& rule : rules_) {
    if (!(action == Action::kPublish ? rule.publish : rule.subscribe)) continue;
    captures.clear();
    if (!matches(rule.filter, name, captures)) continue;
    if (rule.expression && !matches(*rule.expression, name, captures)) continue;
    std::string out;
    for (const Piece& piece : rule.destination) {
      out += piece.text;
      switch (piece.kind) {
        case Piece::Kind::kNothing: break;
        case Piece::Kind::kCapture: out += captures[piece.capture]; break;
        case Piece::Kind::kClientId: out += client.clientId; break;
        case Piece::Kind::kUser: out += client.user; break;
      }
    }
    return out;
  }
  return std::nullopt;
}

}  // namespace polylog::mapping
