#include "router/access_rules.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace polylog::router {
namespace {

using Kind = FilterLevel::Kind;

uint64_t nextGeneration() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

/// What a rule must say to deny the operation.
bool denies(const AccessRule& rule, Operation operation) {
  return !rule.allow && (rule.operation == Operation::kAll || rule.operation == operation);
}

/// What a rule must say to allow it: who may read, write, delete or alter may see it too.
bool allows(const AccessRule& rule, Operation operation) {
  if (!rule.allow) return false;
  if (rule.operation == Operation::kAll || rule.operation == operation) return true;
  if (operation == Operation::kDescribeConfigs) {
    return rule.operation == Operation::kAlterConfigs;
  }
  if (operation != Operation::kDescribe) return false;
  return rule.operation == Operation::kRead || rule.operation == Operation::kWrite ||
         rule.operation == Operation::kDelete || rule.operation == Operation::kAlter;
}

bool about(const AccessRule& rule, const Asker& asker) {
  return (rule.user == "*" || rule.user == asker.user) &&
         (rule.host == "*" || rule.host == asker.host);
}

/// Of `address` level by level: the topic, then the key's.
class Levels {
 public:
  explicit Levels(const Address& address) : first_(address.topic), rest_(address.key) {}
  std::optional<BytesView> next() {
    if (first_) return std::exchange(first_, std::nullopt);
    if (!rest_) return std::nullopt;
    size_t slash = rest_->find('/');
    BytesView level = rest_->substr(0, slash);
    rest_ = slash == BytesView::npos ? std::nullopt : std::optional(rest_->substr(slash + 1));
    return level;
  }

 private:
  std::optional<BytesView> first_;
  std::optional<BytesView> rest_;
};

bool matches(const TopicFilter& filter, const Address& address) {
  Levels levels(address);
  for (const FilterLevel& level : filter.levels) {
    if (level.kind == Kind::kRest) return true;
    auto there = levels.next();
    if (!there || (level.kind == Kind::kLiteral && level.text != *there)) return false;
  }
  return !levels.next();
}

/// Whether some address matches both.
bool overlap(const TopicFilter& a, const TopicFilter& b) {
  for (size_t i = 0;; ++i) {
    const FilterLevel* x = i < a.levels.size() ? &a.levels[i] : nullptr;
    const FilterLevel* y = i < b.levels.size() ? &b.levels[i] : nullptr;
    if ((x && x->kind == Kind::kRest) || (y && y->kind == Kind::kRest)) return true;
    if (x == nullptr || y == nullptr) return x == y;
    if (x->kind == Kind::kLiteral && y->kind == Kind::kLiteral && x->text != y->text) return false;
  }
}

/// Whether every address that `b` matches is one that `a` does. (May say no where it is so.)
bool covers(const TopicFilter& a, const TopicFilter& b) {
  for (size_t i = 0;; ++i) {
    const FilterLevel* x = i < a.levels.size() ? &a.levels[i] : nullptr;
    const FilterLevel* y = i < b.levels.size() ? &b.levels[i] : nullptr;
    if (x && x->kind == Kind::kRest) return true;
    if (x == nullptr || y == nullptr) return x == y;
    if (y->kind == Kind::kRest) return false;
    if (x->kind == Kind::kLiteral && (y->kind != Kind::kLiteral || x->text != y->text))
      return false;
  }
}

/// Everything in a topic: "name/#".
TopicFilter wholeTopic(BytesView name) {
  return {{{Kind::kLiteral, std::string(name)}, {Kind::kRest, {}}}};
}

/// Whether a filter may be about addresses in the topic.
bool reaches(const TopicFilter& filter, BytesView topic) {
  const FilterLevel& first = filter.levels.front();
  // The client's own name may come in there.
  bool open = first.kind != Kind::kLiteral || first.text.find('%') != std::string::npos;
  return open || first.text == topic;
}

/// The one address that a filter without wildcards matches, as text; nothing of others.
std::optional<std::string> exactly(const TopicFilter& filter) {
  std::string text;
  for (const FilterLevel& level : filter.levels) {
    if (level.kind != Kind::kLiteral) return std::nullopt;
    if (&level != filter.levels.data()) text.push_back('/');
    text += level.text;
  }
  return text;
}

Resource addressed(BytesView text) {
  size_t slash = text.find('/');
  Address address{text.substr(0, slash), std::nullopt};
  if (slash != BytesView::npos) address.key = text.substr(slash + 1);
  return {ResourceKind::kTopic, address.topic, address};
}

Operation folded(Operation operation) {
  return operation == Operation::kJoin ? Operation::kRead : operation;
}

}  // namespace

Asker askerOf(const Principal& principal) {
  BytesView host = principal.peer;
  host = host.substr(0, host.rfind(':'));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return {principal.user.empty() ? BytesView(kAnonymousUser) : BytesView(principal.user), host,
          principal.clientId};
}

TopicFilter parseRuleFilter(BytesView text) {
  TopicFilter filter;
  while (true) {
    size_t slash = text.find('/');
    BytesView level = text.substr(0, slash);
    if (level == "#" || level == "+") {
      filter.levels.push_back({level == "#" ? Kind::kRest : Kind::kOne, {}});
    } else {
      filter.levels.push_back({Kind::kLiteral, std::string(level)});
    }
    if (slash == BytesView::npos) return filter;
    text.remove_prefix(slash + 1);
  }
}

RuleSet::RuleSet(std::vector<AccessRule> rules, Settings settings)
    : rules_(std::move(rules)),
      settings_(std::move(settings)),
      generation_(nextGeneration()),
      superusers_(settings_.superusers.begin(), settings_.superusers.end()) {
  for (const AccessRule& rule : rules_) {
    if (rule.pattern == PatternKind::kFilter) {
      filters_.push_back({&rule, parseRuleFilter(rule.name)});
      continue;
    }
    ByName& names = kinds_[rule.kind];
    if (rule.pattern == PatternKind::kPrefixed) {
      names.prefixed.push_back(&rule);
    } else if (rule.name == "*") {
      names.everything.push_back(&rule);
    } else {
      names.literal[rule.name].push_back(&rule);
    }
  }
}

bool RuleSet::byDefault(const Asker& asker, Operation operation, ResourceKind kind) const {
  // A client's own session is no secret of others': SessionRegistry keeps users' sessions apart.
  if (kind == ResourceKind::kSession && operation == Operation::kRead) return true;
  if (settings_.denyByDefault) return false;
  // Who hasn't logged in makes no users, once there are some.
  bool administers = kind == ResourceKind::kCluster &&
                     (operation == Operation::kAlter || operation == Operation::kAlterConfigs);
  return !(administers && settings_.anyUsers && asker.user == kAnonymousUser);
}

Verdict RuleSet::judge(const Asker& asker, Operation operation, ResourceKind kind,
                       BytesView name) const {
  operation = folded(operation);
  Verdict verdict;
  auto weigh = [&](const AccessRule& rule) {
    verdict.mentioned = verdict.mentioned || rule.allow;
    if (!about(rule, asker)) return;
    verdict.denied = verdict.denied || denies(rule, operation);
    verdict.allowed = verdict.allowed || allows(rule, operation);
  };
  if (auto found = kinds_.find(kind); found != kinds_.end()) {
    const ByName& names = found->second;
    for (const AccessRule* rule : names.everything) weigh(*rule);
    if (auto same = names.literal.find(std::string(name)); same != names.literal.end()) {
      for (const AccessRule* rule : same->second) weigh(*rule);
    }
    for (const AccessRule* rule : names.prefixed) {
      if (name.starts_with(rule->name)) weigh(*rule);
    }
  }
  if (kind != ResourceKind::kTopic) return verdict;
  for (const Filter& filter : filters_) {
    if (!reaches(filter.levels, name)) continue;
    verdict.filtered = true;
    if (!about(*filter.rule, asker)) continue;
    if (denies(*filter.rule, operation) || allows(*filter.rule, operation)) {
      verdict.filters.push_back(filter.rule);
    }
  }
  return verdict;
}

const TopicFilter& RuleSet::levelsOf(const AccessRule& rule) const {
  return std::ranges::find(filters_, &rule, &Filter::rule)->levels;
}

/// With the asker's own names in it. A name that would change the filter's shape (it holds '/', '+'
/// or '#') is nobody's to be allowed, and widens what is denied.
TopicFilter RuleSet::levelsFor(const AccessRule& rule, const Asker& asker) const {
  TopicFilter filter = levelsOf(rule);
  for (FilterLevel& level : filter.levels) {
    for (size_t at = 0; (at = level.text.find('%', at)) != std::string::npos;) {
      char which = at + 1 < level.text.size() ? level.text[at + 1] : '\0';
      if (which != 'c' && which != 'u') {
        ++at;
        continue;
      }
      BytesView own = which == 'c' ? asker.clientId : asker.user;
      if (own.empty() || own.find_first_of("/+#") != BytesView::npos) {
        if (rule.allow) return {};
        level = {Kind::kOne, {}};
        break;
      }
      level.text.replace(at, 2, own);
      at += own.size();
    }
  }
  return filter;
}

bool RuleSet::settle(const Verdict& verdict, const Asker& asker, Operation operation,
                     const Resource& resource) const {
  const Judgement judgement = weigh(verdict, asker, resource);
  if (judgement != Judgement::kOpen) return judgement == Judgement::kAllowed;
  return byDefault(asker, folded(operation), resource.kind);
}

Judgement RuleSet::weigh(const Verdict& verdict, const Asker& asker,
                         const Resource& resource) const {
  if (verdict.denied) return Judgement::kDenied;
  bool allowed = verdict.allowed;
  bool mentioned = verdict.mentioned;
  if (verdict.filtered) {
    const TopicFilter whole = resource.address ? TopicFilter{} : wholeTopic(resource.name);
    for (const AccessRule* rule : verdict.filters) {
      TopicFilter own = levelsFor(*rule, asker);
      if (own.levels.empty()) continue;
      bool hit = resource.address ? matches(own, *resource.address)
                 : rule->allow    ? covers(own, whole)
                                  : overlap(own, whole);
      if (!hit) continue;
      if (!rule->allow) return Judgement::kDenied;
      allowed = true;
    }
    if (!allowed && !mentioned) {
      mentioned = std::ranges::any_of(filters_, [&](const Filter& filter) {
        if (!filter.rule->allow) return false;
        // Whose name would stand there doesn't matter: somebody's.
        TopicFilter any = filter.levels;
        for (FilterLevel& level : any.levels) {
          if (level.text.find('%') != std::string::npos) level = {Kind::kOne, {}};
        }
        return resource.address ? matches(any, *resource.address) : overlap(any, whole);
      });
    }
  }
  if (allowed) return Judgement::kAllowed;
  return mentioned ? Judgement::kClosed : Judgement::kOpen;
}

bool RuleSet::permitsSomewhere(const Asker& asker, Operation operation, ResourceKind kind) const {
  if (!settings_.denyByDefault) return true;
  return std::ranges::any_of(rules_, [&](const AccessRule& rule) {
    return rule.kind == kind && about(rule, asker) && allows(rule, folded(operation));
  });
}

bool RuleSet::permitsAddress(const Asker& asker, BytesView text, Default standard) const {
  const Resource resource = addressed(text);
  const Judgement found = judgement(asker, Operation::kRead, resource);
  if (found != Judgement::kOpen) return found == Judgement::kAllowed;
  return standard == Default::kApplies && byDefault(asker, Operation::kRead, ResourceKind::kTopic);
}

bool RuleSet::forbids(const Asker& asker, const TopicFilter& filter, Extent extent) const {
  const bool all = extent == Extent::kAll;
  for (const Filter& each : filters_) {
    if (!about(*each.rule, asker) || !router::denies(*each.rule, Operation::kRead)) continue;
    const TopicFilter own = levelsFor(*each.rule, asker);
    if (all ? covers(own, filter) : overlap(own, filter)) return true;
  }
  const FilterLevel& first = filter.levels.front();
  if (first.kind == Kind::kLiteral) {
    return judge(asker, Operation::kRead, ResourceKind::kTopic, first.text).denied;
  }
  auto topics = kinds_.find(ResourceKind::kTopic);
  if (topics == kinds_.end()) return false;
  const ByName& names = topics->second;
  auto denied = [&](const AccessRule* rule) {
    return about(*rule, asker) && router::denies(*rule, Operation::kRead);
  };
  if (std::ranges::any_of(names.everything, denied)) return true;
  if (all) return false;
  return std::ranges::any_of(names.prefixed, denied) ||
         std::ranges::any_of(names.literal, [&](const auto& named) {
           return std::ranges::any_of(named.second, denied);
         });
}

bool RuleSet::permitsSome(const Asker& asker, const TopicFilter& filter, Default standard) const {
  if (auto address = exactly(filter)) return permitsAddress(asker, *address, standard);
  if (forbids(asker, filter, Extent::kAll)) return false;
  const bool applies = standard == Default::kApplies;
  const FilterLevel& first = filter.levels.front();
  const bool anyAllows = std::ranges::any_of(filters_, [&](const Filter& each) {
    if (!about(*each.rule, asker) || !allows(*each.rule, Operation::kRead)) return false;
    const TopicFilter own = levelsFor(*each.rule, asker);
    return !own.levels.empty() && overlap(own, filter);
  });
  if (anyAllows) return true;
  if (first.kind == Kind::kLiteral) {
    const Verdict verdict = judge(asker, Operation::kRead, ResourceKind::kTopic, first.text);
    if (verdict.allowed) return true;
    return applies && !verdict.mentioned &&
           byDefault(asker, Operation::kRead, ResourceKind::kTopic);
  }
  if (applies && !settings_.denyByDefault) return true;
  auto topics = kinds_.find(ResourceKind::kTopic);
  if (topics == kinds_.end()) return false;
  const ByName& names = topics->second;
  auto allowed = [&](const AccessRule* rule) {
    return about(*rule, asker) && allows(*rule, Operation::kRead);
  };
  return std::ranges::any_of(names.everything, allowed) ||
         std::ranges::any_of(names.prefixed, allowed) ||
         std::ranges::any_of(names.literal, [&](const auto& named) {
           return std::ranges::any_of(named.second, allowed);
         });
}

bool RuleSet::permitsAll(const Asker& asker, const TopicFilter& filter, Default standard) const {
  if (auto address = exactly(filter)) return permitsAddress(asker, *address, standard);
  if (forbids(asker, filter, Extent::kAny)) return false;
  const bool applies = standard == Default::kApplies;
  const FilterLevel& first = filter.levels.front();
  bool mentioned = false;
  for (const Filter& each : filters_) {
    if (!each.rule->allow) continue;
    mentioned = mentioned || overlap(each.levels, filter) || each.rule->name.contains('%');
    if (!about(*each.rule, asker) || !allows(*each.rule, Operation::kRead)) continue;
    const TopicFilter own = levelsFor(*each.rule, asker);
    if (!own.levels.empty() && covers(own, filter)) return true;
  }
  if (first.kind == Kind::kLiteral) {
    const Verdict verdict = judge(asker, Operation::kRead, ResourceKind::kTopic, first.text);
    if (verdict.allowed) return true;
    return applies && !mentioned && !verdict.mentioned &&
           byDefault(asker, Operation::kRead, ResourceKind::kTopic);
  }
  if (auto topics = kinds_.find(ResourceKind::kTopic); topics != kinds_.end()) {
    // A right to some topics, or a rule about some, settles nothing about all of them.
    const ByName& names = topics->second;
    auto allowed = [&](const AccessRule* rule) {
      return about(*rule, asker) && allows(*rule, Operation::kRead);
    };
    if (std::ranges::any_of(names.everything, allowed)) return true;
    auto closes = [](const AccessRule* rule) { return rule->allow; };
    mentioned = mentioned || std::ranges::any_of(names.everything, closes) ||
                std::ranges::any_of(names.prefixed, closes) ||
                std::ranges::any_of(names.literal, [&](const auto& named) {
                  return std::ranges::any_of(named.second, closes);
                });
  }
  return applies && !mentioned && byDefault(asker, Operation::kRead, ResourceKind::kTopic);
}

}  // namespace polylog::router
