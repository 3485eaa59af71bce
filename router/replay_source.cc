#include "router/replay_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/log.h"
#include "router/subscription_trie.h"

namespace polylog::router {
namespace {

/// Offsets looked through at a time, backwards.
constexpr int64_t kLeastBack = 512;
constexpr int64_t kMostBack = 1024;

/// The levels of an address, one after the other.
class Levels {
 public:
  explicit Levels(const Address& address) : rest_(address.topic), key_(address.key) {}
  /// False: there are no more.
  bool next(BytesView& level) {
    if (!more_) return false;
    size_t slash = rest_.find('/');
    level = rest_.substr(0, slash);
    if (slash != BytesView::npos) {
      rest_ = rest_.substr(slash + 1);
    } else if (key_) {
      rest_ = *std::exchange(key_, std::nullopt);
    } else {
      more_ = false;
    }
    return true;
  }

 private:
  BytesView rest_;
  std::optional<BytesView> key_;
  bool more_ = true;
};

}  // namespace

bool filterMatches(const TopicFilter& filter, const Address& address) {
  using Kind = FilterLevel::Kind;
  if (filter.levels.front().kind != Kind::kLiteral && hiddenFromWildcards(address.topic)) {
    return false;
  }
  Levels levels(address);
  BytesView level;
  for (const FilterLevel& wanted : filter.levels) {
    if (wanted.kind == Kind::kRest) return true;
    if (!levels.next(level)) return false;
    if (wanted.kind == Kind::kLiteral && wanted.text != level) return false;
  }
  return !levels.next(level);
}

ReplaySource::ReplaySource(Core& core, uint32_t itsReplay, PartitionId itsPartition,
                           ReplayCursor cursor)
    : replay(itsReplay), partition(itsPartition), core_(core) {
  moveTo(cursor);
}

void ReplaySource::belongsTo(const TopicRef& topic, int32_t number) {
  name_ = {topic, &topic->name};
  number_ = number;
}

ReplayCursor ReplaySource::cursor() const {
  return begun_ ? ReplayCursor{ReplayCursor::Phase::kAt, next_, 0} : start_;
}

void ReplaySource::moveTo(const ReplayCursor& cursor) {
  rest();
  start_ = cursor;
  offsetKnown_ = false;
  lookedTo_ = -1;
  found_ = 0;
  begun_ = false;
  if (cursor.phase == ReplayCursor::Phase::kAt) beginAt(cursor.value);
}

void ReplaySource::beginAt(int64_t offset) {
  next_ = offset;
  begun_ = true;
}

ReplaySource::Found ReplaySource::advance(Worker& worker, const TopicFilter& filter,
                                          ReplayBudget& budget) {
  using Read = PartitionReader::Found;
  if (!reader_) reader_ = std::make_unique<PartitionReader>(core_, partition, name_);
  while (!budget.spent()) {
    if (!begun_ && !offsetKnown_) {
      if (Found found = begin(worker, filter, budget); found != Found::kRecord) return found;
      continue;
    }
    switch (reader_->find(worker, next_)) {
      case Read::kRecord:
        --budget.records;
        budget.bytes -= static_cast<int64_t>(reader_->bytes());
        begun_ = begun_ || !tooEarly();
        if (begun_ && filterMatches(filter, reader_->record()->address)) return Found::kRecord;
        ++next_;
        continue;
      case Read::kEnd: return Found::kEnd;
      case Read::kGone: next_ = reader_->logStart(); continue;
      case Read::kGap:
        --budget.records;
        next_ = reader_->gapEnd();
        continue;
      case Read::kDamaged: damaged(); continue;
      case Read::kDeleted: return Found::kDeleted;
      case Read::kFailed:
        logError(fmt::format("topic '{}': offset {} can't be read for a replay: {}", *name_, next_,
                             reader_->error().text));
        return Found::kFailed;
    }
  }
  return Found::kSpent;
}

/// The index knows times by the batch: of the first one, those before are passed over.
bool ReplaySource::tooEarly() const {
  return next_ < start_.end && reader_->record()->record.timestampMs < start_.value;
}

void ReplaySource::damaged() {
  logError(fmt::format("topic '{}': offsets {} to {} can't be read and are not replayed: {}",
                       *name_, next_, reader_->damagedEnd() - 1, reader_->error().text));
  core_.metrics.dropped(DropReason::kDamaged).add();
  next_ = std::max(next_ + 1, reader_->damagedEnd());
}

/// Finds where to begin. kRecord: it is known, or nearer.
ReplaySource::Found ReplaySource::begin(Worker& worker, const TopicFilter& filter,
                                        ReplayBudget& budget) {
  if (start_.phase == ReplayCursor::Phase::kLast) return lookBack(worker, filter, budget);
  --budget.records;
  auto offset = core_.store.offsetAt(partition, start_.value);
  if (!offset) {
    return offset.error().kind == ErrorKind::kNotFound ? Found::kDeleted : Found::kFailed;
  }
  next_ = start_.end;
  if (*offset) next_ = std::min(next_, (*offset)->value());
  offsetKnown_ = true;
  return Found::kRecord;
}

ReplaySource::Found ReplaySource::lookBack(Worker& worker, const TopicFilter& filter,
                                           ReplayBudget& budget) {
  using Read = PartitionReader::Found;
  auto ends = core_.store.ends(partition);
  if (!ends) return Found::kDeleted;
  int64_t logStart = ends->logStart.value();
  int64_t to = lookedTo_ < 0 ? start_.end : lookedTo_;
  int64_t from = std::max(logStart, to - std::clamp(start_.value, kLeastBack, kMostBack));
  std::vector<int64_t> matching;
  bool over = false;
  for (int64_t at = from; at < to && !over;) {
    --budget.records;
    switch (reader_->find(worker, at)) {
      case Read::kRecord:
        budget.bytes -= static_cast<int64_t>(reader_->bytes());
        if (filterMatches(filter, reader_->record()->address)) matching.push_back(at);
        ++at;
        break;
      case Read::kGone: at = std::max(at + 1, reader_->logStart()); break;
      case Read::kGap: at = std::max(at + 1, reader_->gapEnd()); break;
      case Read::kDamaged: at = std::max(at + 1, reader_->damagedEnd()); break;
      case Read::kEnd: over = true; break;
      case Read::kDeleted: return Found::kDeleted;
      case Read::kFailed: return Found::kFailed;
    }
  }
  int64_t missing = start_.value - found_;
  if (static_cast<int64_t>(matching.size()) >= missing) {
    beginAt(matching[matching.size() - static_cast<size_t>(missing)]);
  } else if (from <= logStart) {
    beginAt(from);
  } else {
    found_ += static_cast<int64_t>(matching.size());
    lookedTo_ = from;
  }
  return Found::kRecord;
}

}  // namespace polylog::router
