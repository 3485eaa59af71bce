#include "router/id_allocator.h"

#include <utility>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "router/core.h"

namespace polylog::router {
namespace {

storage::StateChange blockEnd(const char* key, uint64_t end) {
  ByteWriter out;
  out.u64(end);
  return {storage::StateTable::kMeta, key, out.take()};
}

}  // namespace

Result<> IdAllocator::load() {
  for (Block* block : {&partitions_, &tags_, &producers_}) {
    if (Result<> loaded = loadBlock(*block); !loaded) return loaded;
  }
  return {};
}

Result<> IdAllocator::loadBlock(Block& block) {
  std::optional<std::string> value = core_.store.getState(storage::StateTable::kMeta, block.key);
  if (!value) return {};
  ByteReader in(*value);
  block.next = block.end = in.u64();
  if (!in.complete()) return fail(ErrorKind::kCorrupt, std::string("state ") + block.key);
  return {};
}

void IdAllocator::passOver(Block& block, uint64_t used) {
  if (used < block.end) return;
  block.next = block.end = used + 1;
}

/// With the lock held: journals the block's end. The numbers below it may be used at once: what uses
/// them stands behind this.
Result<> IdAllocator::reserve(Block& block) {
  storage::AppendRequest request;
  request.state.push_back(blockEnd(block.key, block.end));
  request.durability = storage::Durability::kUnwaited;
  request.sink = &core_.workers[0]->sink;
  request.done = [this, &block](const Result<storage::Appended>& result) {
    if (result || core_.stopping.load()) return;
    // Some of what is not reserved after all may have been given, and be used from here on.
    std::lock_guard lock(mutex_);
    if (!reserve(block)) block.next = block.end;
  };
  auto done = core_.store.append(std::move(request));
  if (!done) return std::unexpected(done.error());
  return {};
}

Result<uint64_t> IdAllocator::next(Block& block) {
  std::lock_guard lock(mutex_);
  if (block.next == block.end) {
    block.end += block.size;
    if (Result<> reserved = reserve(block); !reserved) {
      block.end = block.next;
      return std::unexpected(reserved.error());
    }
  }
  return block.next++;
}

Result<PartitionId> IdAllocator::nextPartition() {
  Result<uint64_t> id = next(partitions_);
  if (!id) return std::unexpected(id.error());
  return PartitionId(*id);
}

Result<uint32_t> IdAllocator::nextTag() {
  Result<uint64_t> id = next(tags_);
  if (!id) return std::unexpected(id.error());
  return static_cast<uint32_t>(*id);
}

void IdAllocator::nextProducer(std::move_only_function<void(Result<int64_t>)> done) {
  Worker& worker = core_.here();
  std::lock_guard lock(mutex_);
  if (producers_.next < producers_.end) {
    auto id = static_cast<int64_t>(producers_.next++);
    worker.later([done = std::move(done), id]() mutable { done(id); });
    return;
  }
  waiting_.push_back({worker.index, std::move(done)});
  if (reserving_) return;
  if (Result<> reserved = reserveProducers(); !reserved) {
    Waiting mine = std::move(waiting_.back());
    waiting_.pop_back();
    worker.later([mine = std::move(mine), error = reserved.error()]() mutable {
      mine.done(std::unexpected(error));
    });
  }
}

Result<> IdAllocator::reserveProducers() {
  uint64_t end = producers_.end + producers_.size;
  storage::AppendRequest request;
  request.state.push_back(blockEnd(producers_.key, end));
  request.durability = storage::Durability::kSynced;
  request.sink = &core_.here().sink;
  request.done = [this, end](Result<storage::Appended> result) {
    producersReserved(std::move(result), end);
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    return std::unexpected(appended.error());
  }
  reserving_ = true;
  return {};
}

void IdAllocator::producersReserved(Result<storage::Appended> result, uint64_t end) {
  std::lock_guard lock(mutex_);
  reserving_ = false;
  if (result) producers_.end = end;
  std::vector<Waiting> waiting = std::exchange(waiting_, {});
  for (Waiting& one : waiting) {
    if (result && producers_.next == producers_.end) {
      // More waited than a block holds: the next block is theirs.
      waiting_.push_back(std::move(one));
      continue;
    }
    Result<int64_t> answer = std::unexpected(Error{});
    if (result) {
      answer = static_cast<int64_t>(producers_.next++);
    } else {
      answer = std::unexpected(result.error());
    }
    core_.workers[one.worker]->post([done = std::move(one.done), answer]() mutable { done(answer); });
  }
  if (waiting_.empty()) return;
  if (Result<> reserved = reserveProducers(); !reserved) {
    for (Waiting& one : waiting_) {
      core_.workers[one.worker]->post([done = std::move(one.done), error = reserved.error()]() mutable {
        done(std::unexpected(error));
      });
    }
    waiting_.clear();
  }
}

}  // namespace polylog::router
