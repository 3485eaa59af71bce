// The rules in force, prepared for judging: immutable, any thread. A name is judged by
//   1. deny rules: one that is about it, the user and the operation settles it;
//   2. allow rules, likewise;
//   3. otherwise no, if any rule allows anybody anything with the name, and the default if none does.
// A filter is about the addresses that it matches. A question about a topic as a whole is refused
// if a filter denies any part of it, and allowed by filters that match all of it only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/model/access.h"
#include "core/model/topic_filter.h"
#include "router/authorizer.h"

namespace polylog::router {

/// Who asks, as rules see it.
struct Asker {
  BytesView user;  ///< kAnonymousUser of those without
  BytesView host;
  BytesView clientId;
};
/// Views into the principal.
Asker askerOf(const Principal& principal);

/// "a/+/#" divided into levels.
TopicFilter parseRuleFilter(BytesView text);

/// What is found of a name, before filters that need the address.
struct Verdict {
  bool denied = false;
  bool allowed = false;
  bool mentioned = false;  ///< some rule allows something with it, to whomever
  /// Rules with filters that may be about addresses in the topic, of this asker and operation.
  std::vector<const AccessRule*> filters;
  bool filtered = false;  ///< filters of anybody's may be about addresses in it
};

/// What rules say, before the default.
enum class Judgement : uint8_t {
  kDenied,
  kAllowed,
  kClosed,  ///< others are let in
  kOpen,    ///< nothing
};

class RuleSet {
 public:
  struct Settings {
    bool denyByDefault = false;
    std::vector<std::string> superusers;
    bool anyUsers = false;
  };
  RuleSet(std::vector<AccessRule> rules, Settings settings);
  RuleSet(const RuleSet&) = delete;
  RuleSet& operator=(const RuleSet&) = delete;

  /// No rules, and allowed by default: only the cluster's administration is ever refused.
  bool open() const { return rules_.empty() && !settings_.denyByDefault; }
  bool superuser(BytesView user) const { return superusers_.contains(std::string(user)); }
  uint64_t generation() const { return generation_; }

  Verdict judge(const Asker& asker, Operation operation, ResourceKind kind, BytesView name) const;
  /// What a verdict comes to for one address, or for the name as a whole.
  Judgement weigh(const Verdict& verdict, const Asker& asker, const Resource& resource) const;
  /// judge() and weigh() in one.
  Judgement judgement(const Asker& asker, Operation operation, const Resource& resource) const {
    return weigh(judge(asker, operation, resource.kind, resource.name), asker, resource);
  }
  /// weigh() with the default.
  bool settle(const Verdict& verdict, const Asker& asker, Operation operation,
              const Resource& resource) const;
  /// Whether some resource of the kind may be.
  bool permitsSomewhere(const Asker& asker, Operation operation, ResourceKind kind) const;
  /// Whether the default is asked where no rule says anything.
  enum class Default : uint8_t { kApplies, kDoesNot };
  bool permitsSome(const Asker& asker, const TopicFilter& filter, Default standard) const;
  bool permitsAll(const Asker& asker, const TopicFilter& filter, Default standard) const;
  enum class Extent : uint8_t { kAny, kAll };
  /// Whether rules deny reading any of the addresses that the filter matches, or all of them.
  bool forbids(const Asker& asker, const TopicFilter& filter, Extent extent) const;

 private:
  struct Filter {
    const AccessRule* rule;
    TopicFilter levels;
  };
  struct ByName {
    std::unordered_map<std::string, std::vector<const AccessRule*>> literal;
    std::vector<const AccessRule*> everything;
    std::vector<const AccessRule*> prefixed;
  };
  bool permitsAddress(const Asker& asker, BytesView text, Default standard) const;
  bool byDefault(const Asker& asker, Operation operation, ResourceKind kind) const;
  const TopicFilter& levelsOf(const AccessRule& rule) const;
  TopicFilter levelsFor(const AccessRule& rule, const Asker& asker) const;

  const std::vector<AccessRule> rules_;
  const Settings settings_;
  const uint64_t generation_;
  std::unordered_set<std::string> superusers_;
  std::unordered_map<ResourceKind, ByName> kinds_;
  std::vector<Filter> filters_;
};

}  // namespace polylog::router
