#include "router/batch_cache.h"

#include <utility>

namespace polylog::router {
namespace {

/// Octets that the cache of one worker keeps alive at most.
constexpr size_t kMostBytes = 8U << 20;

bool same(const RoutedBlock& block, const BlockSource& source) {
  return block.source.place.position == source.place.position &&
         block.source.origin == source.origin && *block.source.topic == *source.topic;
}

}  // namespace

Result<RoutedBlockRef> BatchCache::open(Worker& worker, const SharedBytes& batch,
                                        BlockSource source) {
  PerWorker& mine = perWorker_[worker.index];
  for (const RoutedBlockRef& block : mine.blocks) {
    if (block && same(*block, source)) return block;
  }
  Result<RoutedBlockRef> opened = openBlock(batch, std::move(source), core_.options);
  if (!opened || (*opened)->bytes > kMostBytes / 2) return opened;
  auto replace = [&mine](RoutedBlockRef with) {
    RoutedBlockRef& slot = mine.blocks[mine.next];
    mine.next = (mine.next + 1) % mine.blocks.size();
    if (slot) mine.bytes -= slot->bytes;
    if (with) mine.bytes += with->bytes;
    slot = std::move(with);
  };
  for (size_t i = 0; i < mine.blocks.size() && mine.bytes + (*opened)->bytes > kMostBytes; ++i) {
    replace(nullptr);
  }
  replace(*opened);
  return opened;
}

}  // namespace polylog::router
