#include "router/authorizer.h"

#include <string>
#include <unordered_map>
#include <utility>

#include "router/access_rules.h"
#include "router/token_rights.h"

namespace polylog::router {
namespace {

/// Verdicts remembered a thread; beyond it all are forgotten.
constexpr size_t kRemembered = 8192;

/// What one thread knows of one set of rules. Sets are told apart by their generation, which no two
/// ever share.
struct Memory {
  uint64_t generation = 0;
  std::shared_ptr<const RuleSet> rules;
  std::unordered_map<std::string, Verdict> verdicts;
  std::string key;
};

thread_local Memory memory;

void putKey(std::string& key, const Asker& asker, Operation operation, const Resource& resource) {
  key.clear();
  key.push_back(static_cast<char>(operation));
  key.push_back(static_cast<char>(resource.kind));
  key.append(asker.user).push_back('\0');
  key.append(asker.host).push_back('\0');
  key.append(resource.name);
}

bool isRevoked(const PrincipalRef& principal) {
  return principal != nullptr && principal->isRevoked();
}

}  // namespace

Authorizer::Authorizer() {
  use(std::make_shared<const RuleSet>(std::vector<AccessRule>{}, RuleSet::Settings{}));
}

Authorizer::~Authorizer() = default;

void Authorizer::use(std::shared_ptr<const RuleSet> rules) {
  std::lock_guard hold(lock_);
  rules_ = std::move(rules);
  generation_.store(rules_->generation(), std::memory_order_release);
  restricts_.store(!rules_->open(), std::memory_order_release);
}

const RuleSet& Authorizer::current() const {
  Memory& mine = memory;
  if (mine.generation != generation_.load(std::memory_order_acquire)) {
    std::lock_guard hold(lock_);
    mine.rules = rules_;
    mine.generation = rules_->generation();
    mine.verdicts.clear();
  }
  return *mine.rules;
}

bool Authorizer::judges(const Principal& principal) const {
  return restricts() || principal.isRevoked() || ownRules(principal) != nullptr;
}

bool Authorizer::permits(const PrincipalRef& principal, Operation operation,
                         const Resource& resource) const {
  if (isRevoked(principal)) return false;
  static const Principal kNobody;
  const Principal& who = principal ? *principal : kNobody;
  const bool cluster = resource.kind == ResourceKind::kCluster;
  const auto own = resource.kind == ResourceKind::kTopic ? ownRules(who) : nullptr;
  if (!restricts() && !cluster && own == nullptr) return true;
  if (who.trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(who);
  if (rules.superuser(asker.user)) return true;
  Memory& mine = memory;
  const BytesView name = cluster ? BytesView(kClusterName) : resource.name;
  putKey(mine.key, asker, operation, resource);
  auto found = mine.verdicts.find(mine.key);
  if (found == mine.verdicts.end()) {
    if (mine.verdicts.size() >= kRemembered) mine.verdicts.clear();
    Verdict verdict = rules.judge(asker, operation, resource.kind, name);
    found = mine.verdicts.emplace(mine.key, std::move(verdict)).first;
  }
  if (own == nullptr) return rules.settle(found->second, asker, operation, resource);
  const Judgement broker = rules.weigh(found->second, asker, resource);
  const Judgement token = own->judgement(asker, operation, resource);
  if (broker == Judgement::kDenied || token == Judgement::kDenied) return false;
  return broker == Judgement::kAllowed || token == Judgement::kAllowed;
}

bool Authorizer::permitsSome(const PrincipalRef& principal, const TopicFilter& filter) const {
  if (isRevoked(principal)) return false;
  const auto own = ownRules(*principal);
  if ((!restricts() && own == nullptr) || filter.levels.empty() || principal->trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(*principal);
  if (rules.superuser(asker.user)) return true;
  if (own == nullptr) return rules.permitsSome(asker, filter, RuleSet::Default::kApplies);
  if (rules.forbids(asker, filter, RuleSet::Extent::kAll) ||
      own->forbids(asker, filter, RuleSet::Extent::kAll)) {
    return false;
  }
  return own->permitsSome(asker, filter, RuleSet::Default::kDoesNot) ||
         rules.permitsSome(asker, filter, RuleSet::Default::kDoesNot);
}

bool Authorizer::permitsSomewhere(const PrincipalRef& principal, Operation operation,
                                  ResourceKind kind) const {
  if (isRevoked(principal)) return false;
  if (!restricts() || principal->trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(*principal);
  const auto own = kind == ResourceKind::kTopic ? ownRules(*principal) : nullptr;
  return rules.superuser(asker.user) || rules.permitsSomewhere(asker, operation, kind) ||
         (own != nullptr && own->permitsSomewhere(asker, operation, kind));
}

bool Authorizer::permitsAll(const PrincipalRef& principal, const TopicFilter& filter) const {
  if (isRevoked(principal)) return false;
  const auto own = ownRules(*principal);
  if ((!restricts() && own == nullptr) || filter.levels.empty() || principal->trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(*principal);
  if (rules.superuser(asker.user)) return true;
  if (own == nullptr) return rules.permitsAll(asker, filter, RuleSet::Default::kApplies);
  if (rules.forbids(asker, filter, RuleSet::Extent::kAny) ||
      own->forbids(asker, filter, RuleSet::Extent::kAny)) {
    return false;
  }
  return own->permitsAll(asker, filter, RuleSet::Default::kDoesNot) ||
         rules.permitsAll(asker, filter, RuleSet::Default::kDoesNot);
}

Error notPermitted(const Resource& resource) {
  const char* kind = "cluster";
  switch (resource.kind) {
    case ResourceKind::kTopic: kind = "topic"; break;
    case ResourceKind::kGroup: kind = "group"; break;
    case ResourceKind::kSession: kind = "session"; break;
    case ResourceKind::kQueue: kind = "queue"; break;
    case ResourceKind::kExchange: kind = "exchange"; break;
    case ResourceKind::kTransaction: kind = "transactional id"; break;
    case ResourceKind::kCluster: break;
  }
  return {ErrorKind::kUnauthorized,
          std::string("not permitted on ") + kind + " '" + std::string(resource.name) + "'"};
}

}  // namespace polylog::router
