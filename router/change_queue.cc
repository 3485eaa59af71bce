#include "router/change_queue.h"

#include <utility>

namespace polylog::router {
namespace {

constexpr size_t kMaxWaiting = 1000;

}  // namespace

void ChangeQueue::add(Prepare prepare, Done<Result<>> done) {
  Worker& worker = core_.here();
  auto change = std::make_shared<Change>(worker, std::move(prepare), std::move(done));
  {
    std::lock_guard hold(lock_);
    if (changes_.size() < kMaxWaiting) {
      changes_.push_back(change);
      if (changes_.size() == 1) worker.later([this, change] { start(change); });
      return;
    }
  }
  refuse({ErrorKind::kBusy, "too many changes of this kind wait: try again"},
         std::move(change->done));
}

void ChangeQueue::refuse(Error error, Done<Result<>> done) {
  core_.here().later([error = std::move(error), done = std::move(done)]() mutable {
    done(std::unexpected(std::move(error)));
  });
}

/// On the change's worker, as everything below.
void ChangeQueue::start(const ChangeRef& change) {
  auto prepared = change->prepare();
  if (!prepared) return finish(*change, std::unexpected(prepared.error()));
  if (prepared->state.empty()) return finish(*change, {});
  storage::AppendRequest request;
  request.state = std::move(prepared->state);
  request.durability = storage::Durability::kSynced;
  request.sink = &change->worker.sink;
  request.done = [this, change, apply = std::move(prepared->apply)](
                     const Result<storage::Appended>& result) mutable {
    if (result) return apply([this, change] { finish(*change, {}); });
    ++core_.writeFailures;
    finish(*change, std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    finish(*change, std::unexpected(appended.error()));
  }
}

void ChangeQueue::finish(Change& change, const Result<>& result) {
  change.done(result);
  std::lock_guard hold(lock_);
  changes_.pop_front();
  if (changes_.empty()) return;
  const ChangeRef& next = changes_.front();
  core_.onWorker(next->worker, [this, next] { start(next); });
}

}  // namespace polylog::router
