// What is set for topics that set nothing themselves: kept in the state table kTopicDefaults, a row
// a layer, changed through the journal one after the other. A change is durable before it is in
// force, and in force for every topic (Catalogue::putDefaults) before anybody is told.
//
// current() may be called on any thread; the rest on a worker's.
#pragma once

#include <deque>
#include <memory>
#include <mutex>

#include "core/model/topic_defaults.h"
#include "router/core.h"

namespace polylog::router {

class TopicDefaultsStore final : public DynamicDefaults {
 public:
  explicit TopicDefaultsStore(Core& core) : core_(core) {}
  /// Before the catalogue's: its topics follow what this reads.
  Result<> load();

  Result<> mayAlter(const PrincipalRef& principal) const override;
  void alter(const PrincipalRef& principal, DefaultsScope scope, Change change,
             Done<Result<>> done) override;
  std::shared_ptr<const TopicDefaults> current() const override;

 private:
  struct Turn {
    Worker& worker;
    DefaultsScope scope;
    Change change;
    Done<Result<>> done;
  };
  using TurnRef = std::shared_ptr<Turn>;

  void take(const TurnRef& turn);
  void putInForce(const TurnRef& turn, TopicConfig layer);
  void finish(Turn& turn, const Result<>& result);

  Core& core_;
  std::mutex lock_;
  std::deque<TurnRef> turns_;  ///< the first one is under way; guarded by lock_
};

}  // namespace polylog::router
