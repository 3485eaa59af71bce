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
  if (verdict.denied) return false;
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
      if (!rule->allow) return false;
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
  if (allowed) return true;
  return !mentioned && byDefault(asker, folded(operation), resource.kind);
}

bool RuleSet::permitsSomewhere(const Asker& asker, Operation operation, ResourceKind kind) const {
  if (!settings_.denyByDefault) return true;
  return std::ranges::any_of(rules_, [&](const AccessRule& rule) {
    return rule.kind == kind && about(rule, asker) && allows(rule, folded(operation));
  });
}

bool RuleSet::permitsAddress(const Asker& asker, BytesView text) const {
  const Resource resource = addressed(text);
  const Verdict verdict = judge(asker, Operation::kRead, ResourceKind::kTopic, resource.name);
  return settle(verdict, asker, Operation::kRead, resource);
}

bool RuleSet::permitsSome(const Asker& asker, const TopicFilter& filter) const {
  if (auto address = exactly(filter)) return permitsAddress(asker, *address);
  const FilterLevel& first = filter.levels.front();
  bool anyAllows = false;
  bool refused = false;
  auto weigh = [&](const AccessRule& rule, const TopicFilter& levels) {
    if (!about(rule, asker) || levels.levels.empty()) return;
    if (allows(rule, Operation::kRead) && overlap(levels, filter)) anyAllows = true;
    if (denies(rule, Operation::kRead) && covers(levels, filter)) refused = true;
  };
  for (const Filter& each : filters_) weigh(*each.rule, levelsFor(*each.rule, asker));
  if (refused) return false;
  if (first.kind == Kind::kLiteral) {
    const Verdict verdict = judge(asker, Operation::kRead, ResourceKind::kTopic, first.text);
    if (verdict.denied) return false;
    if (verdict.allowed || anyAllows) return true;
    return !verdict.mentioned && byDefault(asker, Operation::kRead, ResourceKind::kTopic);
  }
  auto topics = kinds_.find(ResourceKind::kTopic);
  if (topics == kinds_.end()) return anyAllows || !settings_.denyByDefault;
  const ByName& names = topics->second;
  auto says = [&](const AccessRule* rule, auto judgement) {
    return about(*rule, asker) && judgement(*rule, Operation::kRead);
  };
  for (const AccessRule* rule : names.everything) {
    if (says(rule, denies)) return false;
    if (says(rule, allows)) return true;
  }
  if (anyAllows || !settings_.denyByDefault) return true;
  for (const auto& [name, rules] : names.literal) {
    if (std::ranges::any_of(rules, [&](auto* rule) { return says(rule, allows); })) return true;
  }
  return std::ranges::any_of(names.prefixed, [&](auto* rule) { return says(rule, allows); });
}

bool RuleSet::permitsAll(const Asker& asker, const TopicFilter& filter) const {
  if (auto address = exactly(filter)) return permitsAddress(asker, *address);
  const FilterLevel& first = filter.levels.front();
  bool covered = false;
  bool mentioned = false;
  for (const Filter& each : filters_) {
    TopicFilter own = levelsFor(*each.rule, asker);
    bool mine = about(*each.rule, asker) && !own.levels.empty();
    if (mine && denies(*each.rule, Operation::kRead) && overlap(own, filter)) return false;
    if (mine && allows(*each.rule, Operation::kRead) && covers(own, filter)) covered = true;
    mentioned = mentioned || (each.rule->allow &&
                              (overlap(each.levels, filter) || each.rule->name.contains('%')));
  }
  if (first.kind == Kind::kLiteral) {
    const Verdict verdict = judge(asker, Operation::kRead, ResourceKind::kTopic, first.text);
    if (verdict.denied) return false;
    if (verdict.allowed || covered) return true;
    return !mentioned && !verdict.mentioned &&
           byDefault(asker, Operation::kRead, ResourceKind::kTopic);
  }
  auto topics = kinds_.find(ResourceKind::kTopic);
  if (topics == kinds_.end()) return covered || (!mentioned && !settings_.denyByDefault);
  // A right to some topics, or a rule about some, settles nothing about all of them.
  const ByName& names = topics->second;
  auto denied = [&](const AccessRule* rule) {
    return about(*rule, asker) && denies(*rule, Operation::kRead);
  };
  if (std::ranges::any_of(names.everything, denied) ||
      std::ranges::any_of(names.prefixed, denied)) {
    return false;
  }
  for (const auto& [name, rules] : names.literal) {
    if (std::ranges::any_of(rules, denied)) return false;
  }
  auto allowed = [&](const AccessRule* rule) {
    return about(*rule, asker) && allows(*rule, Operation::kRead);
  };
  if (covered || std::ranges::any_of(names.everything, allowed)) return true;
  auto closes = [](const AccessRule* rule) { return rule->allow; };
  mentioned = mentioned || std::ranges::any_of(names.everything, closes) ||
              std::ranges::any_of(names.prefixed, closes);
  for (const auto& [name, rules] : names.literal) {
    mentioned = mentioned || std::ranges::any_of(rules, closes);
  }
  return !mentioned && byDefault(asker, Operation::kRead, ResourceKind::kTopic);
}

}  // namespace polylog::router
