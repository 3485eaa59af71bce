#include "router/token_rights.h"

namespace polylog::router {
namespace {

std::shared_ptr<const RuleSet> setOf(std::vector<AccessRule> rules) {
  RuleSet::Settings settings;
  settings.denyByDefault = true;  // a claim is a list of what is allowed
  return std::make_shared<const RuleSet>(std::move(rules), std::move(settings));
}

}  // namespace

TokenRights::TokenRights(std::optional<std::vector<AccessRule>> rules)
    : rules_(rules ? setOf(std::move(*rules)) : nullptr) {}

OwnVerdict Authorizer::ownVerdict(const PrincipalRef& principal, Operation operation,
                                  const Resource& resource) const {
  const auto own = principal == nullptr ? nullptr : ownRules(*principal);
  if (own == nullptr || resource.kind != ResourceKind::kTopic) return OwnVerdict::kNone;
  const Judgement judgement = own->judgement(askerOf(*principal), operation, resource);
  return judgement == Judgement::kAllowed ? OwnVerdict::kAllows : OwnVerdict::kRefuses;
}

LoginRightsRef rightsRemembered(OwnVerdict verdict) {
  if (verdict == OwnVerdict::kNone) return nullptr;
  std::vector<AccessRule> rules;
  if (verdict == OwnVerdict::kAllows) {
    AccessRule rule;
    rule.user = "*";
    rule.pattern = PatternKind::kFilter;
    rule.name = "#";
    rules.push_back(std::move(rule));
  }
  return std::make_shared<const TokenRights>(std::move(rules));
}

}  // namespace polylog::router
