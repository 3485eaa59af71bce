#include "router/partition_reader.h"

#include <algorithm>
#include <utility>

#include "core/model/record_batch.h"
#include "router/address_tags.h"
#include "router/batch_cache.h"

namespace polylog::router {
namespace {

/// Octets read at a time: enough that small records come by the hundred, little enough that ten
/// thousand readers may read at once.
constexpr size_t kReadBytes = 64U << 10;

}  // namespace

PartitionReader::Found PartitionReader::find(Worker& worker, int64_t id) {
  while (!ahead_.empty() && ahead_.front().baseOffset.value() + ahead_.front().count <= id) {
    ahead_.pop_front();
    block_ = nullptr;
  }
  if (ahead_.empty() || ahead_.front().baseOffset.value() > id) {
    if (Found found = load(id); found != Found::kRecord) return found;
  }
  const storage::ReadBatch& front = ahead_.front();
  damagedEnd_ = front.baseOffset.value() + front.count;
  if (!open(worker)) return Found::kDamaged;
  auto delta = static_cast<int32_t>(front.firstRecord + (id - front.baseOffset.value()));
  index_ = block_->indexOf(delta);
  if (index_ < block_->records.size() && block_->deltaOf(index_) > delta) {
    damagedEnd_ = std::min(damagedEnd_, id + (block_->deltaOf(index_) - delta));
    return Found::kGap;
  }
  if (index_ >= block_->records.size()) {
    // A compacted batch keeps its last offset, though not its last record.
    if (block_->compacted()) return Found::kGap;
    damagedEnd_ = id + 1;
    error_ = {ErrorKind::kCorrupt, "a batch with fewer records than its targets name"};
    return Found::kDamaged;
  }
  return Found::kRecord;
}

PartitionReader::Found PartitionReader::load(int64_t id) {
  ahead_.clear();
  block_ = nullptr;
  auto read = core_.store.read(partition_, Offset(id), kReadBytes);
  // A topic's own records may be in transactions; what is linked to a queue or inbox is committed.
  if (read && ownTopic_ && !read->empty()) {
    int64_t reached = read->back().baseOffset.value() + read->back().count;
    if (auto kept = keepCommitted(*read, id); !kept) {
      read = std::unexpected(kept.error());
    } else if (read->empty() && *kept > id) {
      damagedEnd_ = std::min(reached, *kept);
      return Found::kGap;
    }
  }
  if (read) {
    if (read->empty()) return Found::kEnd;
    for (auto& batch : *read) ahead_.push_back(std::move(batch));
    int64_t first = ahead_.front().baseOffset.value();
    if (first <= id) return Found::kRecord;
    damagedEnd_ = first;
    return Found::kGap;
  }
  error_ = read.error();
  switch (error_.kind) {
    case ErrorKind::kOutOfRange: {
      auto ends = core_.store.ends(partition_);
      if (!ends || ends->logStart.value() <= id) return Found::kEnd;
      logStart_ = ends->logStart.value();
      return Found::kGone;
    }
    case ErrorKind::kCorrupt: damagedEnd_ = id + 1; return Found::kDamaged;
    case ErrorKind::kNotFound:
    case ErrorKind::kShutdown: return Found::kDeleted;
    default: return Found::kFailed;
  }
}

/// Takes out what readers of committed records don't see; returns the last stable offset.
Result<int64_t> PartitionReader::keepCommitted(std::vector<storage::ReadBatch>& batches,
                                               int64_t from) const {
  Offset end = batches.back().baseOffset + batches.back().count;
  auto stability = core_.store.stability(partition_, Offset(from), end);
  if (!stability) return std::unexpected(stability.error());
  std::erase_if(batches, [&](const storage::ReadBatch& batch) {
    if (batch.baseOffset >= stability->ends.lastStable) return true;
    auto header = parseRecordBatchHeader(batch.batch.view());
    return header && hiddenFromCommitted(*header, batch.baseOffset, stability->aborted);
  });
  return stability->ends.lastStable.value();
}

bool PartitionReader::open(Worker& worker) {
  if (block_) return true;
  const storage::ReadBatch& front = ahead_.front();
  describe(front.attributes);
  BlockSource source;
  source.stored = true;
  source.place = front.place;
  source.partition = partition_;
  source.base = front.baseOffset;
  source.topic = topic_;
  source.origin = origin_;
  Result<RoutedBlockRef> block = core_.batches->open(worker, front.batch, std::move(source));
  if (!block) {
    error_ = block.error();
    return false;
  }
  block_ = std::move(*block);
  return true;
}

void PartitionReader::describe(uint32_t attributes) {
  if (ownTopic_) {
    topic_ = ownTopic_;
    origin_ = originOf(attributes, ownOrigin_);
    return;
  }
  uint32_t tag = tagOf(attributes);
  if (tagKnown_ && tag_ == tag) return;
  AddressTag meaning = core_.tags->find(tag);
  tag_ = tag;
  tagKnown_ = true;
  topic_ = std::move(meaning.topic);
  subscriptionId_ = meaning.subscriptionId;
  origin_ = meaning.origin;
}

}  // namespace polylog::router
