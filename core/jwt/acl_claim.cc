#include "core/jwt/acl_claim.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>

namespace polylog::jwt {
namespace {

std::unexpected<Error> no(std::string why) {
  return fail(ErrorKind::kUnauthorized, "the token's acl claim: " + std::move(why));
}

void replaceAll(std::string& text, std::string_view what, std::string_view with) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
}

/// A filter in the rules' own form. `eq ` says that wildcards are none, which the rules can't.
std::optional<std::string> filterOf(const std::string& text) {
  constexpr std::string_view kExactly = "eq ";
  std::string filter = text;
  if (filter.starts_with(kExactly)) {
    filter.erase(0, kExactly.size());
    if (filter.find_first_of("+#") != std::string::npos) return std::nullopt;
  }
  replaceAll(filter, "${clientid}", "%c");
  replaceAll(filter, "${username}", "%u");
  if (filter.empty() || filter.find("${") != std::string::npos) return std::nullopt;
  return filter;
}

class Collector {
 public:
  Result<> add(bool allow, std::string_view action, const JsonValue& topic) {
    auto filter = topic.text() == nullptr ? std::nullopt : filterOf(*topic.text());
    if (!filter) return no("a topic that is no filter, or has a placeholder that isn't known");
    const bool all = action == "all";
    if (all || action == "subscribe") put(allow, *filter, Operation::kRead);
    if (all || action == "publish") {
      put(allow, *filter, Operation::kWrite);
      // As a publish does in MQTT, which needs no right of its own for it.
      put(allow, *filter, Operation::kCreate);
    }
    if (rules.size() > 3 * kMaxClaimRules) {
      return no(fmt::format("more than {} topics", kMaxClaimRules));
    }
    return {};
  }
  std::vector<AccessRule> rules;

 private:
  void put(bool allow, const std::string& filter, Operation operation) {
    AccessRule rule;
    rule.allow = allow;
    rule.user = "*";
    rule.pattern = PatternKind::kFilter;
    rule.name = filter;
    rule.operation = operation;
    rules.push_back(std::move(rule));
  }
};

/// `{"pub": [...], "sub": [...], "all": [...]}`.
Result<> takeLists(const JsonValue::Object& lists, Collector& out) {
  for (const auto& [name, topics] : lists) {
    const char* action = name == "pub"   ? "publish"
                         : name == "sub" ? "subscribe"
                         : name == "all" ? "all"
                                         : nullptr;
    if (action == nullptr || topics.array() == nullptr) {
      return no("give lists of topics named pub, sub and all");
    }
    for (const JsonValue& topic : *topics.array()) {
      if (auto taken = out.add(true, action, topic); !taken) return taken;
    }
  }
  return {};
}

/// `{"permission": ..., "action": ..., "topic": ...}`.
Result<> takeRule(const JsonValue& rule, Collector& out) {
  if (rule.object() == nullptr) return no("a rule that is no object");
  const JsonValue* topic = rule.find("topic");
  std::string permission;
  std::string action;
  for (const auto& [name, value] : *rule.object()) {
    if (name == "topic") continue;
    std::string* part = name == "permission" ? &permission : name == "action" ? &action : nullptr;
    if (part == nullptr || value.text() == nullptr) {
      return no(fmt::format("a rule with `{}`, which this broker doesn't judge by", name));
    }
    *part = *value.text();
  }
  if (topic == nullptr || (permission != "allow" && permission != "deny") ||
      (action != "publish" && action != "subscribe" && action != "all")) {
    return no("a rule has permission (allow, deny), action (publish, subscribe, all) and topic");
  }
  return out.add(permission == "allow", action, *topic);
}

}  // namespace

Result<std::vector<AccessRule>> rulesOfClaim(const JsonValue& claim) {
  Collector out;
  Result<> taken;
  if (claim.object() != nullptr) {
    taken = takeLists(*claim.object(), out);
  } else if (claim.array() != nullptr) {
    for (const JsonValue& rule : *claim.array()) {
      if (taken = takeRule(rule, out); !taken) break;
    }
  } else {
    taken = no("give an object or a list");
  }
  if (!taken) return std::unexpected(taken.error());
  return std::move(out.rules);
}

}  // namespace polylog::jwt
