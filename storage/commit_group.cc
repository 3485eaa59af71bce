#include "storage/commit_group.h"

#include <algorithm>
#include <utility>

namespace polylog::storage {

void Completions::add(CompletionSink* sink, std::move_only_function<void()> task) {
  if (sink == nullptr || !task) return;
  auto found = std::find_if(sinks_.begin(), sinks_.end(),
                            [sink](const Sink& known) { return known.sink == sink; });
  if (found == sinks_.end()) found = sinks_.insert(sinks_.end(), Sink{sink, {}});
  found->tasks.push_back(std::move(task));
}

void Completions::deliver() {
  for (Sink& sink : std::exchange(sinks_, {})) sink.sink->completed(std::move(sink.tasks));
}

}  // namespace polylog::storage
