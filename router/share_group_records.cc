// ShareGroup's records: who gets what, what becomes of it, and who waits.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/base/log.h"
#include "core/model/record_batch.h"
#include "router/share_group.h"

namespace polylog::router {
namespace {

/// Damaged offsets that one look at a partition passes over.
constexpr int kMaxDamaged = 1000;
constexpr int64_t kEnough = -1;

std::unexpected<Error> noPartition(int32_t partition) {
  return fail(ErrorKind::kNotFound,
              fmt::format("there is no such topic or no partition {} of it", partition));
}

bool onlyRenews(const ShareSettlement& settlement) {
  return std::ranges::all_of(settlement.batches, [](const ShareVerdicts& batch) {
    return std::ranges::all_of(batch.verdicts,
                               [](ShareVerdict one) { return one == ShareVerdict::kRenew; });
  });
}

}  // namespace

/// One look for records for a member.
struct ShareGroup::Taking {
  /// A partition of which all has been looked at.
  struct RanOut {
    SharePlace place;
    PartitionId partition;
    Offset offset;
  };

  const PrincipalRef& who;
  const ShareAcquire& asked;
  ShareTerms terms;
  SharePartition::Member member;
  int64_t deadline = 0;
  int64_t records = 0;  ///< still wanted
  size_t bytes = 0;
  ShareAcquired got;
  bool unborn = false;  ///< some partition isn't in the journal yet
  std::vector<RanOut> ranOut;

  size_t bytesGot() const { return asked.maxBytes - bytes; }
};

/// One read of a partition.
struct ShareGroup::Looking {
  bool committed = false;
  int64_t at = 0;
  int64_t limit = 0;  ///< nothing from here on is to be given out
  std::vector<AbortedTransaction> aborted;
};

// ---------------------------------------------------------------- acquiring

void ShareGroup::acquire(uint64_t id, const PrincipalRef& who, ShareAcquire asked,
                         AcquireReply reply) {
  if (dead_) return reply(std::unexpected(*dead_));
  Taking taking = take(who, asked);
  if (asked.maxWaitMs <= 0 || keeps(taking)) return answer(std::move(taking), std::move(reply));
  if (!dirtyPartitions_.empty()) flush([](const Result<>&) {});
  watch(taking);
  Waiter& waiter = waiters_.emplace_back();
  waiter.id = id;
  waiter.who = who;
  waiter.timer = host_.makeTimer([weak = weak_from_this(), id] {
    auto self = weak.lock();
    if (!self) return;
    self->host_.later([weak, id] {
      if (auto again = weak.lock()) again->giveUp(id);
    });
  });
  waiter.timer->start(asked.maxWaitMs * 1000);
  waiter.asked = std::move(asked);
  waiter.reply = std::move(reply);
}

/// The time is over: what there is has to do.
void ShareGroup::giveUp(uint64_t id) {
  auto at = std::ranges::find(waiters_, id, &Waiter::id);
  if (at == waiters_.end()) return;
  if (host_.mayTakePart(at->who, name_)) {
    answer(take(at->who, at->asked), std::move(at->reply));
  } else {
    at->reply(fail(ErrorKind::kUnauthorized, "group '" + name_ + "' may not be joined"));
  }
  cancel(id);
}

/// Whether it is what the member waits for; else it is put back.
bool ShareGroup::keeps(Taking& taking) {
  bool failed = std::ranges::any_of(taking.got.parts,
                                    [](const auto& part) { return part.error.has_value(); });
  bool enough = taking.bytesGot() >= taking.asked.minBytes || taking.records <= 0;
  if (failed || (enough && !taking.got.empty())) return true;
  for (const ShareAcquired::Part& part : taking.got.parts) {
    auto at = partitions_.find(part.place);
    if (at != partitions_.end()) at->second.undo(taking.member, part.ranges);
  }
  taking.got.parts.clear();
  return false;
}

void ShareGroup::cancel(uint64_t id) {
  std::erase_if(waiters_, [id](const Waiter& waiter) { return waiter.id == id; });
  if (waiters_.empty()) unwatchAll();
}

ShareGroup::Taking ShareGroup::take(const PrincipalRef& who, const ShareAcquire& asked) {
  Taking taking{who, asked, host_.shareTermsOf(name_), nullptr, 0, 0, 0, {}, false, {}};
  taking.member = std::make_shared<const std::string>(asked.memberId);
  taking.deadline = host_.monotonicMicros() + int64_t{taking.terms.lockMs} * 1000;
  taking.records = asked.maxRecords;
  taking.bytes = asked.maxBytes;
  taking.got.grant = taking.member;
  taking.got.lockMs = taking.terms.lockMs;
  for (const SharePlace& place : asked.places) {
    if (taking.records <= 0 || taking.bytes == 0) break;
    ShareAcquired::Part part;
    part.place = place;
    if (Result<> taken = takePart(taking, part); !taken) part.error = taken.error();
    if (part.error || !part.ranges.empty()) taking.got.parts.push_back(std::move(part));
  }
  return taking;
}

Result<> ShareGroup::takePart(Taking& taking, ShareAcquired::Part& part) {
  const SharePlace& place = part.place;
  TopicRef topic = host_.findTopic(place.topic);
  if (!topic || place.partition < 0 ||
      static_cast<size_t>(place.partition) >= topic->partitions.size()) {
    return noPartition(place.partition);
  }
  if (!host_.mayRead(taking.who, topic->name)) {
    return fail(ErrorKind::kUnauthorized, "topic '" + topic->name + "' may not be read");
  }
  PartitionId id = topic->partitions[static_cast<size_t>(place.partition)];
  auto partition = partitionFor(place, id);
  if (!partition) return std::unexpected(partition.error());
  if (unborn_.contains(place)) taking.unborn = true;
  return readPart(taking, **partition, id, part);
}

/// What the group knows of a partition. One that it hasn't read yet begins where it is set to, from
/// this moment on.
Result<SharePartition*> ShareGroup::partitionFor(const SharePlace& place, PartitionId id) {
  auto at = partitions_.find(place);
  if (at != partitions_.end()) return &at->second;
  if (partitions_.size() >= host_.shareTermsOf(name_).maxPartitions) {
    return fail(ErrorKind::kBusy, "group '" + name_ + "' reads as many partitions as are allowed");
  }
  auto first = firstOffset(id);
  if (!first) return std::unexpected(first.error());
  unborn_.insert(place);
  dirtyPartitions_.insert(place);
  return &partitions_.emplace(place, SharePartition(*first)).first->second;
}

Result<int64_t> ShareGroup::firstOffset(PartitionId id) const {
  auto ends = host_.store().ends(id);
  if (!ends) return std::unexpected(ends.error());
  int64_t ago = host_.shareTermsOf(name_).resetAgoMs;
  if (ago == ShareReset::kLatest) return ends->highWatermark.value();
  if (ago == ShareReset::kEarliest) return ends->logStart.value();
  auto since = host_.store().offsetAt(id, host_.wallMillis() - ago);
  if (!since) return std::unexpected(since.error());
  return *since ? (*since)->value() : ends->highWatermark.value();
}

/// Takes what there is for the member in one partition, batch by batch, what was given back first.
Result<> ShareGroup::readPart(Taking& taking, SharePartition& partition, PartitionId id,
                              ShareAcquired::Part& part) {
  storage::LogStore& store = host_.store();
  int damaged = 0;
  for (int64_t at = partition.start(); taking.records > 0 && taking.bytes > 0;) {
    auto ends = store.ends(id);
    if (!ends) return std::unexpected(ends.error());
    partition.raiseStart(ends->logStart.value());
    Looking looking;
    looking.committed = taking.terms.committedOnly;
    looking.limit = (looking.committed ? ends->lastStable : ends->highWatermark).value();
    at = looking.at = partition.nextAvailable(at);
    bool full = partition.held() >= taking.terms.recordLocks;
    if (at >= partition.end() && full) return {};  // until something is settled
    if (at >= looking.limit) {
      taking.ranOut.push_back({part.place, id, Offset(at)});
      return {};
    }
    auto read = store.read(id, Offset(at), taking.bytes);
    bool behind = !read && read.error().kind == ErrorKind::kOutOfRange;
    auto now = store.ends(id);
    if (behind && now && now->logStart.value() > at) continue;  // retention was faster
    if (!read && read.error().kind == ErrorKind::kCorrupt && ++damaged <= kMaxDamaged) {
      logWarning(fmt::format("group '{}' passes over damaged offset {} of partition {}", name_, at,
                             id.value()));
      partition.skip(at, at);
      continue;
    }
    if (!read) return std::unexpected(read.error());
    if (read->empty()) return {};
    Offset end = read->back().baseOffset + read->back().count;
    auto stability = store.stability(id, Offset(at), end);
    if (!stability) return std::unexpected(stability.error());
    looking.aborted = std::move(stability->aborted);
    auto next = takeBatches(taking, partition, std::move(*read), looking, part);
    if (!next) return std::unexpected(next.error());
    if (*next <= at) return {};  // kEnough, or a batch that isn't there
    at = *next;
  }
  return {};
}

/// Of batches that were read from looking.at on. Where to go on; kEnough if the member has enough.
Result<int64_t> ShareGroup::takeBatches(Taking& taking, SharePartition& partition,
                                        std::vector<storage::ReadBatch> batches,
                                        const Looking& looking, ShareAcquired::Part& part) {
  int64_t at = looking.at;
  int64_t room = taking.terms.recordLocks - partition.held();
  for (storage::ReadBatch& batch : batches) {
    int64_t first = batch.baseOffset.value();
    int64_t last = first + batch.count - 1;
    int64_t begins = std::min(first, looking.limit);
    if (begins > at) partition.skip(at, begins - 1);  // compacted away
    if (first >= looking.limit) return looking.limit;
    auto header = parseRecordBatchHeader(batch.batch.view());
    if (!header) return std::unexpected(header.error());
    first = std::max(first, at);
    at = last + 1;
    bool hidden = looking.committed
                      ? hiddenFromCommitted(*header, batch.baseOffset, looking.aborted)
                      : header->control();
    if (hidden) {
      partition.skip(first, last);
      continue;
    }
    // Whole batches, unless the member wants no more than so many.
    SharePartition::Terms terms{taking.member, taking.deadline, last - first + 1, room};
    if (taking.asked.exactly) terms.most = std::min(terms.most, taking.records);
    int64_t taken = partition.acquire(first, last, terms, part.ranges);
    room = terms.mostNew;
    taking.records -= taken;
    if (taken > 0) {
      taking.bytes -= std::min(taking.bytes, batch.batch.size());
      part.fetched.batches.push_back(
          {std::move(batch.batch), batch.baseOffset, batch.firstRecord, batch.count});
    }
    if (partition.end() <= last) return kEnough;  // or the partition is full
    if (taking.records <= 0 || taking.bytes == 0) return kEnough;
  }
  return at;
}

/// Where a partition begins has to be known before anybody hears of its records.
void ShareGroup::answer(Taking taking, AcquireReply reply) {
  int64_t records = 0;
  for (const ShareAcquired::Part& part : taking.got.parts) {
    for (const ShareRange& range : part.ranges) records += range.last - range.first + 1;
  }
  if (records > 0) {
    armLocks(taking.deadline);
    host_.handedOut(taking.who, records, static_cast<int64_t>(taking.bytesGot()));
  }
  if (!taking.unborn) return reply(std::move(taking.got));
  flush([self = shared_from_this(), got = std::move(taking.got),
         reply = std::move(reply)](const Result<>& stored) mutable {
    if (stored) return reply(std::move(got));
    self->giveBack(got);
    reply(std::unexpected(stored.error()));
  });
}

void ShareGroup::giveBack(const ShareAcquired& got) {
  bool any = false;
  for (const ShareAcquired::Part& part : got.parts) {
    auto at = partitions_.find(part.place);
    if (at != partitions_.end() && at->second.undo(got.grant, part.ranges)) any = true;
  }
  if (any) pumpSoon();
}

void ShareGroup::releaseMember(const std::string& memberId) {
  bool any = false;
  for (auto& [place, partition] : partitions_) {
    if (partition.release(memberId)) any = true;
  }
  if (any) pumpSoon();
}

// ---------------------------------------------------------------- settling

void ShareGroup::settle(const PrincipalRef& who, const std::string& memberId,
                        const std::vector<ShareSettlement>& settlements, SettleReply reply) {
  if (dead_) return reply(std::unexpected(*dead_));
  ShareTerms terms = host_.shareTermsOf(name_);
  int64_t deadline = host_.monotonicMicros() + int64_t{terms.lockMs} * 1000;
  auto member = std::make_shared<const std::string>(memberId);
  auto one = [&](const ShareSettlement& settlement) -> Result<> {
    const SharePlace& place = settlement.place;
    TopicRef topic = host_.findTopic(place.topic);
    if (!topic || place.partition < 0 ||
        static_cast<size_t>(place.partition) >= topic->partitions.size()) {
      return noPartition(place.partition);
    }
    if (!host_.mayRead(who, topic->name)) {
      return fail(ErrorKind::kUnauthorized, "topic '" + topic->name + "' may not be read");
    }
    auto at = partitions_.find(place);
    if (at == partitions_.end()) {
      return fail(ErrorKind::kLocked, "group '" + name_ + "' has given out nothing of it");
    }
    auto settled = at->second.settle(member, settlement.batches, terms.deliveries, deadline);
    if (!settled) return std::unexpected(settled.error());
    if (!onlyRenews(settlement)) dirtyPartitions_.insert(place);
    if (!settled->empty()) std::ranges::move(*settled, std::back_inserter(settled_[place]));
    return {};
  };
  ShareSettled settled;
  settled.lockMs = terms.lockMs;
  for (const ShareSettlement& settlement : settlements) settled.results.push_back(one(settlement));
  pumpSoon();
  flush([settled = std::move(settled), reply = std::move(reply)](const Result<>& stored) mutable {
    for (Result<>& result : settled.results) {
      if (result && !stored) result = std::unexpected(stored.error());
    }
    reply(std::move(settled));
  });
}

// ---------------------------------------------------------------- waiting

void ShareGroup::watch(const Taking& taking) {
  using WatchFor = storage::LogStore::WatchFor;
  WatchFor what = taking.terms.committedOnly ? WatchFor::kStable : WatchFor::kVisible;
  for (const Taking::RanOut& at : taking.ranOut) {
    if (watches_.contains(at.place)) continue;
    Watch& watch = watches_[at.place];
    watch.partition = at.partition;
    watch.round = ++rounds_;
    auto wake = [weak = weak_from_this(), place = at.place, round = watch.round] {
      auto self = weak.lock();
      if (!self) return;
      auto mine = self->watches_.find(place);
      if (mine == self->watches_.end() || mine->second.round != round) return;
      self->watches_.erase(mine);
      self->pumpSoon();
    };
    watch.id = host_.store().watch(at.partition, at.offset, host_.sink(), std::move(wake), what);
  }
}

void ShareGroup::unwatchAll() {
  for (const auto& [place, watch] : watches_) host_.store().unwatch(watch.partition, watch.id);
  watches_.clear();
}

void ShareGroup::lookAgain() {
  if (waiters_.empty()) return;
  unwatchAll();
  pumpSoon();
}

void ShareGroup::pumpSoon() {
  if (std::exchange(pumpDue_, true)) return;
  host_.later([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->pump();
  });
}

/// Something may have come for those who wait.
void ShareGroup::pump() {
  pumpDue_ = false;
  if (dead_) return;
  for (auto at = waiters_.begin(); at != waiters_.end();) {
    if (!host_.mayTakePart(at->who, name_)) {
      at->reply(fail(ErrorKind::kUnauthorized, "group '" + name_ + "' may not be joined"));
      at = waiters_.erase(at);
      continue;
    }
    Taking taking = take(at->who, at->asked);
    if (!keeps(taking)) {
      if (!dirtyPartitions_.empty()) flush([](const Result<>&) {});
      watch(taking);
      ++at;
      continue;
    }
    answer(std::move(taking), std::move(at->reply));
    at = waiters_.erase(at);
  }
  if (waiters_.empty()) unwatchAll();
}

// ---------------------------------------------------------------- locks

/// Looks after what is with members at `deadline`, if not before.
void ShareGroup::armLocks(int64_t deadline) {
  if (deadline >= lockTimerAt_) return;
  lockTimerAt_ = deadline;
  if (!lockTimer_) {
    lockTimer_ = host_.makeTimer([weak = weak_from_this()] {
      if (auto self = weak.lock()) self->expireLocks();
    });
  }
  lockTimer_->start(std::max<int64_t>(deadline - host_.monotonicMicros(), 0));
}

void ShareGroup::expireLocks() {
  lockTimerAt_ = INT64_MAX;
  if (dead_) return;
  int64_t now = host_.monotonicMicros();
  int32_t limit = host_.shareTermsOf(name_).deliveries;
  bool any = false;
  std::optional<int64_t> next;
  for (auto& [place, partition] : partitions_) {
    if (partition.expire(now, limit)) {
      dirtyPartitions_.insert(place);
      any = true;
    }
    auto deadline = partition.nextDeadline();
    if (deadline && (!next || *deadline < *next)) next = deadline;
  }
  if (next) armLocks(*next);
  if (!any) return;
  // Nobody waits for that; after a crash they have been delivered once less.
  flush([](const Result<>&) {});
  pumpSoon();
}

// ---------------------------------------------------------------- offsets

std::vector<ShareOffset> ShareGroup::offsets() const {
  std::vector<ShareOffset> all;
  for (const auto& [place, partition] : partitions_) {
    TopicRef topic = host_.findTopic(place.topic);
    if (topic) all.push_back(offsetOf(topic->name, place.partition));
  }
  std::ranges::sort(all, {}, [](const ShareOffset& one) {
    return std::pair<const std::string&, int32_t>(one.topic, one.partition);
  });
  return all;
}

/// Kafka's lag counts what is neither accepted nor archived (KIP-1226).
ShareOffset ShareGroup::offsetOf(const std::string& topic, int32_t partition) const {
  ShareOffset offset;
  offset.topic = topic;
  offset.partition = partition;
  TopicRef found = host_.findTopic(topic);
  if (!found || partition < 0 || static_cast<size_t>(partition) >= found->partitions.size()) {
    offset.error = noPartition(partition).error();
    return offset;
  }
  offset.id = found->id;
  auto at = partitions_.find({found->id, partition});
  if (at == partitions_.end()) return offset;
  auto ends = host_.store().ends(found->partitions[static_cast<size_t>(partition)]);
  if (!ends) {
    offset.error = ends.error();
    return offset;
  }
  SharePartition::Progress now = at->second.progress(ends->logStart.value());
  offset.start = now.start;
  offset.lag = std::max<int64_t>(ends->highWatermark.value() - now.start - now.finished, 0);
  return offset;
}

void ShareGroup::alterOffsets(const std::vector<ShareOffset>& offsets, ResultsReply reply) {
  if (dead_) return reply(std::unexpected(*dead_));
  if (hasMembers()) {
    return reply(fail(ErrorKind::kGroupNotEmpty, "group '" + name_ + "' has members"));
  }
  size_t most = host_.shareTermsOf(name_).maxPartitions;
  auto one = [&](const ShareOffset& offset) -> Result<> {
    TopicRef topic = host_.findTopic(offset.topic);
    if (!topic || offset.partition < 0 ||
        static_cast<size_t>(offset.partition) >= topic->partitions.size()) {
      return noPartition(offset.partition);
    }
    if (offset.start < 0) return fail(ErrorKind::kInvalid, "an offset is 0 or more");
    SharePlace place{topic->id, offset.partition};
    if (!partitions_.contains(place) && partitions_.size() >= most) {
      return fail(ErrorKind::kBusy,
                  "group '" + name_ + "' reads as many partitions as are allowed");
    }
    partitions_.insert_or_assign(place, SharePartition(offset.start));
    dirtyPartitions_.insert(place);
    keepSettled(place);
    return {};
  };
  Results results;
  for (const ShareOffset& offset : offsets) results.push_back(one(offset));
  lookAgain();
  flush([results = std::move(results), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) return reply(std::unexpected(stored.error()));
    reply(std::move(results));
  });
}

void ShareGroup::deleteOffsets(const std::vector<std::string>& topics, ResultsReply reply) {
  if (dead_) return reply(std::unexpected(*dead_));
  if (hasMembers()) {
    return reply(fail(ErrorKind::kGroupNotEmpty, "group '" + name_ + "' has members"));
  }
  Results results;
  for (const std::string& name : topics) {
    TopicRef topic = host_.findTopic(name);
    results.push_back(topic ? Result<>() : fail(ErrorKind::kNotFound, "no topic '" + name + "'"));
    if (!topic) continue;
    auto at = partitions_.lower_bound({topic->id, INT32_MIN});
    while (at != partitions_.end() && at->first.topic == topic->id) {
      dirtyPartitions_.insert(at->first);
      unborn_.erase(at->first);
      keepSettled(at->first);
      at = partitions_.erase(at);
    }
  }
  flush([results = std::move(results), reply = std::move(reply)](const Result<>& stored) mutable {
    if (!stored) return reply(std::unexpected(stored.error()));
    reply(std::move(results));
  });
}

void ShareGroup::dropTopics() {
  size_t before = partitions_.size();
  std::erase_if(partitions_, [&](const auto& entry) {
    if (host_.findTopic(entry.first.topic)) return false;
    dirtyPartitions_.insert(entry.first);
    unborn_.erase(entry.first);
    keepSettled(entry.first);
    return true;
  });
  if (partitions_.size() == before) return;
  flush([](const Result<>&) {});
  pumpSoon();
}

}  // namespace polylog::router
