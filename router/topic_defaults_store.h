// What is set for topics that set nothing themselves: kept in the state table kTopicDefaults, a row
// a layer, changed through the journal one after the other. A change is durable before it is in
// force, and in force for every topic (Catalogue::putDefaults) before anybody is told.
//
// current() may be called on any thread; the rest on a worker's.
#pragma once

#include <memory>

#include "core/model/topic_defaults.h"
#include "router/change_queue.h"

namespace polylog::router {

class TopicDefaultsStore final : public DynamicDefaults {
 public:
  explicit TopicDefaultsStore(Core& core) : core_(core), changes_(core) {}
  /// Before the catalogue's: its topics follow what this reads.
  Result<> load();

  Result<> mayAlter(const PrincipalRef& principal) const override;
  void alter(const PrincipalRef& principal, DefaultsScope scope, Change change,
             Done<Result<>> done) override;
  std::shared_ptr<const TopicDefaults> current() const override;

 private:
  Result<ChangeQueue::Prepared> prepared(DefaultsScope scope, Change& change);

  Core& core_;
  ChangeQueue changes_;
};

}  // namespace polylog::router
