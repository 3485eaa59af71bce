#include "router/replay_table.h"

#include <utility>

#include "router/replay_lane.h"

namespace polylog::router {

ReplayTable::ReplayTable(Core& core) : core_(core) {
  for (size_t i = 0; i < core.workers.size(); ++i) {
    perWorker_.push_back(std::make_unique<PerWorker>());
  }
}

void ReplayTable::join(Worker& worker, ReplayLane& lane) {
  PerWorker& mine = *perWorker_[worker.index];
  if (mine.lanes.insert(&lane).second) ++mine.count;
}

void ReplayTable::leave(Worker& worker, ReplayLane& lane) {
  PerWorker& mine = *perWorker_[worker.index];
  if (mine.lanes.erase(&lane) > 0) --mine.count;
}

void ReplayTable::topicAdded(const TopicRef& topic) {
  for (size_t i = 0; i < perWorker_.size(); ++i) {
    PerWorker& theirs = *perWorker_[i];
    if (theirs.count.load() == 0) continue;
    std::lock_guard lock(theirs.mutex);
    theirs.added.push_back(topic);
    if (theirs.added.size() > 1) continue;
    core_.workers[i]->post([this, &theirs] { tell(theirs); });
  }
}

void ReplayTable::tell(PerWorker& mine) {
  std::vector<TopicRef> added;
  {
    std::lock_guard lock(mine.mutex);
    added = std::exchange(mine.added, {});
  }
  for (ReplayLane* lane : mine.lanes) {
    for (const TopicRef& topic : added) lane->topicAdded(topic);
  }
}

}  // namespace polylog::router
