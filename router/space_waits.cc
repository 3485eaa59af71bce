#include "router/space_waits.h"

#include <utility>

namespace polylog::router {

struct SpaceWaits::Waiting final : WaitHandle {
  Waiting(std::shared_ptr<List> where, uint64_t number) : list(std::move(where)), id(number) {}
  ~Waiting() override { list->wakes.erase(id); }
  const std::shared_ptr<List> list;
  const uint64_t id;
};

SpaceWaits::SpaceWaits(Core& core) : core_(core) {
  for (size_t i = 0; i < core.workers.size(); ++i) lists_.push_back(std::make_shared<List>());
  core_.store.setSpaceFeed([this] {
    for (const auto& worker : core_.workers) {
      worker->post([list = lists_[worker->index]] { list->wakeAll(); });
    }
  });
}

SpaceWaits::~SpaceWaits() = default;

std::unique_ptr<WaitHandle> SpaceWaits::wait(std::move_only_function<void()> wake) {
  const auto& list = lists_[core_.here().index];
  auto waiting = std::make_unique<Waiting>(list, list->next++);
  list->wakes.emplace(waiting->id, std::move(wake));
  return waiting;
}

/// Whoever wakes may end others, or begin to wait again: the latter is for the next time.
void SpaceWaits::List::wakeAll() {
  const uint64_t end = next;
  while (!wakes.empty() && wakes.begin()->first < end) {
    auto wake = std::move(wakes.begin()->second);
    wakes.erase(wakes.begin());
    wake();
  }
}

}  // namespace polylog::router
