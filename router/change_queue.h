// Changes of one kind of state that all brokers' clients see alike (users and rules, quotas,
// defaults), made one after the other. Each is worked out when its turn has come, from what those
// before it have left; it is durable before it is in force, and in force before anybody is told.
//
// add() on a worker's thread; all of a change runs there, later.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "router/core.h"

namespace polylog::router {

class ChangeQueue {
 public:
  explicit ChangeQueue(Core& core) : core_(core) {}
  ChangeQueue(const ChangeQueue&) = delete;
  ChangeQueue& operator=(const ChangeQueue&) = delete;

  /// What a change comes to.
  struct Prepared {
    std::vector<storage::StateChange> state;  ///< none: nothing is to be done
    /// Puts it in force, and runs `inForce` on the same worker when that is so.
    std::move_only_function<void(Task inForce)> apply;
  };
  using Prepare = std::move_only_function<Result<Prepared>()>;
  /// `done`: what `prepare` has failed with, kBusy if too many changes wait, or the write's error.
  void add(Prepare prepare, Done<Result<>> done);
  /// What may not be asked takes no turn; `done` later, as for any other.
  void refuse(Error error, Done<Result<>> done);

 private:
  struct Change {
    Worker& worker;
    Prepare prepare;
    Done<Result<>> done;
  };
  using ChangeRef = std::shared_ptr<Change>;

  void start(const ChangeRef& change);
  void finish(Change& change, const Result<>& result);

  Core& core_;
  std::mutex lock_;
  std::deque<ChangeRef> changes_;  ///< the first one is under way; guarded by lock_
};

}  // namespace polylog::router
