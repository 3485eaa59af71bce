// The one authorization point: every Broker call passes it with the canonical name it is about,
// publishes and deliveries alike. Judges by the rules in force (access_rules.h), of which
// AccessStore gives it a new set at each change.
//
// Thread-safe. Where there are no rules and the default is to allow, a check is an atomic load.
// Else what a user may do with a resource is remembered a thread, until the rules change.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/access.h"
#include "core/model/principal.h"
#include "core/model/record.h"
#include "core/model/topic_filter.h"

namespace polylog::router {

using polylog::Operation;
using polylog::ResourceKind;

class RuleSet;

struct Resource {
  ResourceKind kind;
  BytesView name;  ///< canonical; empty = all of the kind, or the one cluster; topics aside
  /// Of a topic: the record's address, where it is about one record. Nothing: the topic as a whole.
  std::optional<Address> address = std::nullopt;
};

/// What a login's own rights (a token's claim) say of something. The octets are on disk: never
/// renumber.
enum class OwnVerdict : uint8_t { kNone = 0, kRefuses = 1, kAllows = 2 };

class Authorizer {
 public:
  /// Until use() is called everybody may do everything.
  Authorizer();
  ~Authorizer();
  void use(std::shared_ptr<const RuleSet> rules);

  bool permits(const PrincipalRef& principal, Operation operation, const Resource& resource) const;
  /// False: every permits() about records says yes to that principal. For loops that would ask once
  /// a record.
  bool judges(const Principal& principal) const;
  /// Another number whenever the rules have changed.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  /// Whether some address that the filter matches may be read. (Each is judged when it is
  /// delivered.)
  bool permitsSome(const PrincipalRef& principal, const TopicFilter& filter) const;
  /// Whether some resource of the kind may be: where the ones at hand are checked later.
  bool permitsSomewhere(const PrincipalRef& principal, Operation operation,
                        ResourceKind kind) const;
  /// Whether every address that the filter matches may be read.
  bool permitsAll(const PrincipalRef& principal, const TopicFilter& filter) const;
  /// For what is published when the login may be gone: goes with it, and back in by
  /// rightsRemembered().
  OwnVerdict ownVerdict(const PrincipalRef& principal, Operation operation,
                        const Resource& resource) const;

 private:
  bool restricts() const { return restricts_.load(std::memory_order_acquire); }
  /// Valid until this thread asks again.
  const RuleSet& current() const;

  std::atomic<bool> restricts_{false};
  std::atomic<uint64_t> generation_;
  mutable std::mutex lock_;
  std::shared_ptr<const RuleSet> rules_;
};

/// Rights that say the same of everything. Null for kNone.
LoginRightsRef rightsRemembered(OwnVerdict verdict);

/// The answer to a call that was not permitted.
Error notPermitted(const Resource& resource);

}  // namespace polylog::router
