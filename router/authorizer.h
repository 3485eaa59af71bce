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

class Authorizer {
 public:
  /// Until use() is called everybody may do everything.
  Authorizer();
  ~Authorizer();
  void use(std::shared_ptr<const RuleSet> rules);

  bool permits(const PrincipalRef& principal, Operation operation, const Resource& resource) const;
  /// False: every permits() about records says yes to everybody whose user is there. For loops that
  /// would ask once a record.
  bool restricts() const { return restricts_.load(std::memory_order_acquire); }
  /// Whether some address that the filter matches may be read. (Each is judged when it is
  /// delivered.)
  bool permitsSome(const PrincipalRef& principal, const TopicFilter& filter) const;
  /// Whether some resource of the kind may be: where the ones at hand are checked later.
  bool permitsSomewhere(const PrincipalRef& principal, Operation operation,
                        ResourceKind kind) const;
  /// Whether every address that the filter matches may be read.
  bool permitsAll(const PrincipalRef& principal, const TopicFilter& filter) const;

 private:
  /// Valid until this thread asks again.
  const RuleSet& current() const;

  std::atomic<bool> restricts_{false};
  std::atomic<uint64_t> generation_;
  mutable std::mutex lock_;
  std::shared_ptr<const RuleSet> rules_;
};

/// The answer to a call that was not permitted.
Error notPermitted(const Resource& resource);

}  // namespace polylog::router
