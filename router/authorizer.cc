#include "router/authorizer.h"

#include <string>
#include <unordered_map>
#include <utility>

#include "router/access_rules.h"

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

bool Authorizer::permits(const PrincipalRef& principal, Operation operation,
                         const Resource& resource) const {
  if (isRevoked(principal)) return false;
  if (!restricts() && resource.kind != ResourceKind::kCluster) return true;
  static const Principal kNobody;
  const Principal& who = principal ? *principal : kNobody;
  if (who.trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(who);
  if (rules.superuser(asker.user)) return true;
  Memory& mine = memory;
  const bool cluster = resource.kind == ResourceKind::kCluster;
  const BytesView name = cluster ? BytesView(kClusterName) : resource.name;
  putKey(mine.key, asker, operation, resource);
  auto found = mine.verdicts.find(mine.key);
  if (found == mine.verdicts.end()) {
    if (mine.verdicts.size() >= kRemembered) mine.verdicts.clear();
    Verdict verdict = rules.judge(asker, operation, resource.kind, name);
    found = mine.verdicts.emplace(mine.key, std::move(verdict)).first;
  }
  return rules.settle(found->second, asker, operation, resource);
}

bool Authorizer::permitsSome(const PrincipalRef& principal, const TopicFilter& filter) const {
  if (isRevoked(principal)) return false;
  if (!restricts() || filter.levels.empty() || principal->trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(*principal);
  return rules.superuser(asker.user) || rules.permitsSome(asker, filter);
}

bool Authorizer::permitsSomewhere(const PrincipalRef& principal, Operation operation,
                                  ResourceKind kind) const {
  if (isRevoked(principal)) return false;
  if (!restricts() || principal->trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(*principal);
  return rules.superuser(asker.user) || rules.permitsSomewhere(asker, operation, kind);
}

bool Authorizer::permitsAll(const PrincipalRef& principal, const TopicFilter& filter) const {
  if (isRevoked(principal)) return false;
  if (!restricts() || filter.levels.empty() || principal->trusted) return true;
  const RuleSet& rules = current();
  const Asker asker = askerOf(*principal);
  return rules.superuser(asker.user) || rules.permitsAll(asker, filter);
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
