#include "router/feed_router.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/model/record_batch.h"
#include "router/address_tags.h"
#include "router/batch_cache.h"
#include "router/catalogue.h"
#include "router/live_fanout.h"
#include "router/publisher.h"
#include "router/queue.h"
#include "router/session.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

/// Batches routed in one go, before the worker's other work has its turn.
constexpr size_t kBatchesAtATime = 64;
constexpr size_t kBytesAtATime = 4U << 20;
constexpr int64_t kRetryMicros = 1'000'000;
constexpr int64_t kTickMicros = 1'000'000;
/// Octets of journal without anything to route after which the position is moved on all the same,
/// so that a restart does not read them for nothing.
constexpr uint64_t kQuietBytes = 8U << 20;
constexpr int kAttempts = 4;
constexpr uint32_t kRecordsAtATime = 1024;

void addPosition(Position position, storage::AppendRequest& request) {
  request.state.push_back(
      {storage::StateTable::kMeta, kRoutedPosition, encodeNumber(position.value())});
}

void addWithin(Position marker, Offset next, storage::AppendRequest& request) {
  ByteWriter value;
  value.u64(marker.value());
  value.i64(next.value());
  request.state.push_back({storage::StateTable::kMeta, kRoutedWithin, value.take()});
}

Position endOf(const storage::CommittedBatch& batch) {
  return batch.batch.place.position + batch.batch.place.length;
}

}  // namespace

/// The inboxes that one batch goes to.
struct FeedRouter::Links {
  storage::AppendRequest request;
  storage::LinkPart part;
  std::unordered_map<const void*, size_t> last;    ///< its latest target
  std::vector<std::shared_ptr<Session>> sessions;  ///< of each target; null for queues
  std::vector<uint32_t> counts;                    ///< of each target's records, once moved
  int64_t octets = 0;                              ///< of each record
  std::vector<uint32_t> freshTags;

  std::vector<InboxRoom> rooms(std::span<const Offset> offsets) const;
};

FeedRouter::FeedRouter(Core& core) : core_(core) {}
FeedRouter::~FeedRouter() = default;

Result<> FeedRouter::load() {
  if (auto value = core_.store.getState(storage::StateTable::kMeta, kRoutedPosition)) {
    auto position = decodeNumber(*value, kRoutedPosition);
    if (!position) return std::unexpected(position.error());
    routedTo_ = scanFrom_ = journaledTo_ = Position(*position);
  }
  if (auto value = core_.store.getState(storage::StateTable::kMeta, kRoutedWithin)) {
    ByteReader in(*value);
    Within within{Position(in.u64()), Offset(in.i64())};
    if (!in.complete()) return fail(ErrorKind::kCorrupt, "state routed_within can't be read");
    if (within.marker >= routedTo_) {
      within_ = journaledWithin_ = within;
      routedTo_ = journaledTo_ = within.marker;
    }
  }
  liveTo_ = std::max(within_, Within{routedTo_, {}});
  core_.store.setCommitFeed(
      [this](std::vector<storage::CommittedBatch> batches) { onCommitted(std::move(batches)); });
  return {};
}

void FeedRouter::start(Worker& worker) {
  positionTimer_ = worker.dispatcher.makeTimer([this] { journalPosition(); });
  retryTimer_ = worker.dispatcher.makeTimer([this] { goOn(); });
  failures_ = core_.store.failures();
  tick_ = worker.dispatcher.makeTimer([this] { onTick(); });
  tick_->start(kTickMicros);
  std::lock_guard lock(mutex_);
  started_ = true;
  schedule();
}

void FeedRouter::stop(Worker&) {
  positionTimer_ = nullptr;
  retryTimer_ = nullptr;
  tick_ = nullptr;
  {
    std::lock_guard lock(mutex_);
    started_ = false;
    queue_.clear();
    behind_ = true;
  }
  journalPosition();
}

bool FeedRouter::wants(const Topic& topic) const {
  if (core_.trie->size() == 0) return false;
  // Rules may give a record any address.
  return core_.options.addressOf || core_.trie->couldMatchTopic(topic.name);
}

// ---------------------------------------------------------------- the queue

void FeedRouter::onCommitted(std::vector<storage::CommittedBatch> batches) {
  std::lock_guard lock(mutex_);
  if (behind_) return schedule();
  for (storage::CommittedBatch& batch : batches) {
    queueBytes_ += batch.batch.batch.size();
    queue_.push_back(std::move(batch));
  }
  if (queue_.size() > core_.options.routingBacklogBatches ||
      queueBytes_ > core_.options.routingBacklogBytes) {
    queue_.clear();
    queueBytes_ = 0;
    behind_ = true;
  }
  schedule();
}

/// With the lock held.
void FeedRouter::schedule() {
  if (scheduled_ || !started_ || waiting_) return;
  scheduled_ = true;
  core_.workers.front()->post([this] { run(); });
}

void FeedRouter::run() {
  std::vector<storage::CommittedBatch> batches;
  {
    std::lock_guard lock(mutex_);
    scheduled_ = false;
    if (!started_ || waiting_) return;
    if (!behind_) {
      batches = std::exchange(queue_, {});
      queueBytes_ = 0;
    }
  }
  if (batches.empty()) {
    bool behind = false;
    {
      std::lock_guard lock(mutex_);
      behind = behind_;
    }
    if (behind) catchUp();
    return;
  }
  size_t bytes = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    if (i >= kBatchesAtATime || bytes > kBytesAtATime) {
      // The rest goes back to the front of the queue.
      std::lock_guard lock(mutex_);
      if (!behind_) {
        for (size_t j = i; j < batches.size(); ++j) queueBytes_ += batches[j].batch.batch.size();
        queue_.insert(queue_.begin(),
                      std::make_move_iterator(batches.begin() + static_cast<std::ptrdiff_t>(i)),
                      std::make_move_iterator(batches.end()));
      }
      return schedule();
    }
    bytes += batches[i].batch.batch.size();
    if (!route(batches[i])) return;
  }
}

void FeedRouter::catchUp() {
  {
    // From here on the feed is kept: what it brings twice is known by its position.
    std::lock_guard lock(mutex_);
    behind_ = false;
  }
  size_t batches = 0;
  size_t bytes = 0;
  bool more = false;
  bool failed = false;
  auto reached = core_.store.scanRouted(scanFrom_, [&](const storage::CommittedBatch& batch) {
    if (!route(batch)) {
      failed = true;
      return false;
    }
    bytes += batch.batch.batch.size();
    more = ++batches >= kBatchesAtATime || bytes > kBytesAtATime;
    return !more;
  });
  if (failed) return;  // fallBack() has seen to it
  if (!reached) return fallBack(routedTo_, within_, reached.error());
  if (!more) {
    advanced(std::max(routedTo_, *reached));
    liveTo_ = std::max(liveTo_, Within{*reached, {}});
    return;
  }
  goOnLater();
}

/// After the worker's other work, from the journal.
void FeedRouter::goOnLater() {
  std::lock_guard lock(mutex_);
  behind_ = true;
  queue_.clear();
  queueBytes_ = 0;
  schedule();
}

void FeedRouter::fallBack(Position to, Within within, const Error& error) {
  routedTo_ = std::min(routedTo_, to);
  scanFrom_ = std::min(scanFrom_, to);
  within_ = std::min(within_, within);
  if (error.kind == ErrorKind::kShutdown || !retryTimer_) return;
  logWarning(fmt::format("routing of produced records waits: {}", error.text));
  std::lock_guard lock(mutex_);
  behind_ = true;
  queue_.clear();
  queueBytes_ = 0;
  waiting_ = true;
  retryTimer_->start(kRetryMicros);
}

void FeedRouter::goOn() {
  // Where to go on from is known when all links are through or have failed.
  if (linksUnderway_ > 0) return retryTimer_->start(kRetryMicros);
  failures_ = core_.store.failures();
  std::lock_guard lock(mutex_);
  waiting_ = false;
  schedule();
}

// ---------------------------------------------------------------- one batch

bool FeedRouter::route(const storage::CommittedBatch& batch) {
  Position position = batch.batch.place.position;
  if (position < routedTo_) return true;
  auto header = parseRecordBatchHeader(batch.batch.batch.view());
  if (header && header->control()) return routeTransaction(batch, header->producerId);
  return routeOne(batch, {position, {}, std::nullopt});
}

/// What the marker commits in its partition. Its attributes hold where that begins, modulo 2^32.
bool FeedRouter::routeTransaction(const storage::CommittedBatch& marker, int64_t producer) {
  Position position = marker.batch.place.position;
  if (position < within_.marker) return true;
  Offset end = marker.batch.baseOffset;
  auto length = static_cast<uint32_t>(end.value()) - marker.batch.attributes;
  Offset next = end - int64_t{length};
  if (within_.marker == position) next = std::max(next, within_.next);
  size_t batches = 0;
  while (next < end) {
    auto read = core_.store.read(marker.partition, next, kBytesAtATime);
    if (!read && read.error().kind == ErrorKind::kOutOfRange) {
      auto ends = core_.store.ends(marker.partition);
      next = ends && ends->logStart > next ? ends->logStart : end;
      continue;
    }
    if (!read && read.error().kind == ErrorKind::kCorrupt) {
      logError(fmt::format("partition {}: offset {} can't be read and does not reach subscribers",
                           marker.partition.value(), next.value()));
      core_.metrics.dropped(DropReason::kDamaged).add();
      ++next;
      continue;
    }
    if (!read && read.error().kind != ErrorKind::kNotFound) {
      fallBack(marker.entry, {position, next}, read.error());
      return false;
    }
    if (!read || read->empty()) break;
    for (storage::ReadBatch& one : *read) {
      if (one.baseOffset >= end) break;
      Step step{position, one.baseOffset, one.baseOffset + one.count};
      next = *step.behind;
      auto header = parseRecordBatchHeader(one.batch.view());
      bool ours =
          header && header->transactional() && !header->control() && header->producerId == producer;
      storage::CommittedBatch batch{marker.partition, std::move(one), marker.entry};
      if (!ours) continue;
      if (!routeOne(batch, step)) return false;
      if (++batches < kBatchesAtATime) continue;
      goOnLater();
      return false;
    }
  }
  passed(marker, {position, end, end + 1});
  return true;
}

bool FeedRouter::routeOne(const storage::CommittedBatch& batch, const Step& step) {
  TopicRef topic = core_.catalogue->findByPartition(batch.partition);
  if (!topic) {
    passed(batch, step);
    return true;
  }
  BlockSource source;
  source.stored = true;
  source.place = batch.batch.place;
  source.partition = batch.partition;
  source.base = batch.batch.baseOffset;
  source.topic = {topic, &topic->name};
  source.origin = Protocol::kKafka;
  auto block = openBlock(batch.batch.batch, std::move(source), core_.options);
  if (!block) {
    logError(
        fmt::format("topic '{}': a batch at offset {} can't be opened and does not reach "
                    "subscribers: {}",
                    topic->name, batch.batch.baseOffset.value(), block.error().text));
    core_.metrics.dropped(DropReason::kDamaged).add(batch.batch.count);
    passed(batch, step);
    return true;
  }
  Result<> linked;
  for (int i = 0; i < kAttempts; ++i) {
    linked = link(batch, *block, step);
    if (linked || linked.error().kind != ErrorKind::kNotFound) break;
  }
  // Live subscribers get it once, even if the inboxes' part has to be tried again.
  if (Within{step.position, step.from} >= liveTo_) {
    deliverLive(*block, step.position);
    liveTo_ = step.behind ? Within{step.position, *step.behind} : Within{endOf(batch), {}};
  }
  if (!linked && linked.error().kind != ErrorKind::kNotFound) {
    fallBack(batch.entry, {step.position, step.from}, linked.error());
    return false;
  }
  passed(batch, step);
  return true;
}

void FeedRouter::deliverLive(const RoutedBlockRef& block, Position position) {
  Worker& worker = *core_.workers.front();
  Matcher& matcher = core_.publisher->matcher();
  matcher.begin(worker);
  Recipient narrowed;
  for (uint32_t i = 0; i < block->records.size(); ++i) {
    // Now and then what is remembered and what is gathered is let go: batches may be huge.
    if (i % kRecordsAtATime == kRecordsAtATime - 1) {
      core_.fanout->flush(worker);
      matcher.begin(worker);
    }
    const MatchResult& match = matcher.match(worker, block->records[i].address);
    for (const Recipient& known : match.recipients) {
      if (!known.session->connected()) continue;
      const Recipient* recipient = &known;
      if (position < match.latestSince) {
        auto due = [position](const TrieEntry& entry) { return entry.since <= position; };
        if (!Matcher::narrow(match, known, due, narrowed)) continue;
        recipient = &narrowed;
      }
      bool plain = recipient->guarantee == DeliveryGuarantee::kAtMostOnce;
      if (!plain && known.session->persistent()) continue;  // through its inbox
      LiveItem item;
      item.block = block;
      item.index = i;
      item.guarantee = plain ? DeliveryGuarantee::kAtMostOnce : DeliveryGuarantee::kAtLeastOnce;
      item.subscriptionIds = recipient->ids;
      core_.fanout->add(worker, known.session, std::move(item));
    }
  }
  core_.fanout->flush(worker);
}

Result<> FeedRouter::link(const storage::CommittedBatch& batch, const RoutedBlockRef& block,
                          const Step& step) {
  Worker& worker = *core_.workers.front();
  Matcher& matcher = core_.publisher->matcher();
  matcher.begin(worker);
  Links links;
  links.part.batch = batch.batch.place;
  const auto records = static_cast<int64_t>(std::max<size_t>(1, block->records.size()));
  links.octets = (int64_t{batch.batch.place.length} + records - 1) / records;
  for (uint32_t i = 0; i < block->records.size(); ++i) {
    if (i % kRecordsAtATime == kRecordsAtATime - 1) matcher.begin(worker);
    const MatchResult& match = matcher.match(worker, block->records[i].address);
    if (!match.anyInbox && match.queues.empty()) continue;
    auto added = addTargets(links, match, step.position, i, *block->source.topic);
    if (added) {
      added = addQueueTargets(links, match, batch, step.position, i, *block->source.topic);
    }
    if (added) continue;
    giveRoomBack(links);
    return added;
  }
  if (links.part.targets.empty()) return {};
  for (const storage::Target& target : links.part.targets) links.counts.push_back(target.count);
  links.request.links.push_back(std::move(links.part));
  addPosition(step.behind ? batch.entry : endOf(batch), links.request);
  if (step.behind) addWithin(step.position, *step.behind, links.request);
  links.request.durability = storage::Durability::kSynced;
  links.request.ifFailures = failures_;
  links.request.sink = &worker.sink;
  Within before{step.position, step.from};
  std::shared_ptr<std::vector<InboxRoom>> rooms;  // null where nobody asked for room
  if (core_.options.inboxDropsNew) rooms = std::make_shared<std::vector<InboxRoom>>();
  links.request.done = [this, entry = batch.entry, before, fresh = std::move(links.freshTags),
                        rooms](const Result<storage::Appended>& result) {
    --linksUnderway_;
    if (rooms) {
      for (const InboxRoom& room : *rooms) room.settle(result.has_value());
    }
    if (result) return core_.tags->journaled(fresh);
    ++core_.writeFailures;
    journaledTo_ = std::min(journaledTo_, entry);
    journaledWithin_ = std::min(journaledWithin_, before);
    fallBack(entry, before, result.error());
  };
  auto appended = core_.store.append(std::move(links.request));
  if (!appended) {
    giveRoomBack(links);
    return std::unexpected(appended.error());
  }
  ++linksUnderway_;
  journaledTo_ = step.behind ? step.position : endOf(batch);
  if (step.behind) journaledWithin_ = {step.position, *step.behind};
  if (rooms) {
    *rooms = links.rooms(appended->offsets);
    for (const InboxRoom& room : *rooms) room.sequenced();
  } else {
    for (const InboxRoom& room : links.rooms(appended->offsets)) {
      room.session->appended(room.end, room.octets);
    }
  }
  return {};
}

/// What inboxes are given, where in them it stands from `offsets` on.
std::vector<InboxRoom> FeedRouter::Links::rooms(std::span<const Offset> offsets) const {
  std::vector<InboxRoom> all;
  for (size_t i = 0; i < sessions.size(); ++i) {
    if (!sessions[i]) continue;
    const int64_t count = counts.empty() ? part.targets[i].count : counts[i];
    const Offset end = i < offsets.size() ? offsets[i] + count : Offset();
    all.push_back({sessions[i], count, octets * count, end});
  }
  return all;
}

/// In inboxes that let in what was not appended after all.
void FeedRouter::giveRoomBack(Links& links) {
  if (!core_.options.inboxDropsNew) return;
  for (const InboxRoom& room : links.rooms({})) room.settle(false);
}

Result<> FeedRouter::addTargets(Links& links, const MatchResult& match, Position position,
                                uint32_t index, const std::string& topic) {
  Recipient narrowed;
  static constexpr uint32_t kNone[] = {0};
  for (const Recipient& known : match.recipients) {
    if (!known.session->persistent()) continue;
    const Recipient* recipient = &known;
    if (position < match.latestSince) {
      auto due = [position](const TrieEntry& entry) { return entry.since <= position; };
      if (!Matcher::narrow(match, known, due, narrowed)) continue;
      recipient = &narrowed;
    }
    if (recipient->guarantee < DeliveryGuarantee::kAtLeastOnce) continue;
    std::span<const uint32_t> ids = recipient->ids;
    if (ids.empty()) ids = kNone;
    for (uint32_t id : ids) {
      auto tag =
          core_.tags->tagFor(topic, id, Protocol::kKafka, links.request.state, links.freshTags);
      if (!tag) return std::unexpected(tag.error());
      if (core_.options.inboxDropsNew && !known.session->admits(links.octets)) continue;
      uint32_t attributes = inboxAttributes(DeliveryGuarantee::kAtLeastOnce, false, *tag);
      auto [at, isNew] = links.last.try_emplace(known.session.get(), links.part.targets.size());
      if (!isNew) {
        storage::Target& before = links.part.targets[at->second];
        if (ids.size() == 1 && before.attributes == attributes &&
            before.firstRecord + before.count == index) {
          ++before.count;
          continue;
        }
        at->second = links.part.targets.size();
      }
      links.part.targets.push_back({known.session->inbox(), index, 1, attributes});
      links.sessions.push_back(known.session);
    }
  }
  return {};
}

/// Queues and streams bound to amq.topic. Of a stream's own topic nothing is put there again.
Result<> FeedRouter::addQueueTargets(Links& links, const MatchResult& match,
                                     const storage::CommittedBatch& batch, Position position,
                                     uint32_t index, const std::string& topic) {
  for (const BoundQueue& bound : match.queues) {
    if (position < bound.since) continue;
    PartitionId partition;
    uint32_t attributes = originAttribute(Protocol::kKafka);
    const void* who = bound.queue.get();
    if (bound.queue) {
      auto tag =
          core_.tags->tagFor(topic, 0, Protocol::kKafka, links.request.state, links.freshTags);
      if (!tag) return std::unexpected(tag.error());
      attributes = inboxAttributes(DeliveryGuarantee::kAtLeastOnce, false, *tag);
      partition = bound.queue->partition();
    } else {
      TopicRef stream = core_.catalogue->find(bound.stream);
      if (!stream || stream->name == topic) continue;
      // As many partitions or not, a partition's order is kept.
      partition = stream->partitions[batch.partition.value() % stream->partitions.size()];
      who = stream.get();
    }
    auto [at, isNew] = links.last.try_emplace(who, links.part.targets.size());
    if (!isNew) {
      storage::Target& before = links.part.targets[at->second];
      if (before.attributes == attributes && before.firstRecord + before.count == index) {
        ++before.count;
        continue;
      }
      at->second = links.part.targets.size();
    }
    links.part.targets.push_back({partition, index, 1, attributes});
    links.sessions.push_back(nullptr);
  }
  return {};
}

// ---------------------------------------------------------------- the routed position

/// All below `to` is through, where an entry begins.
void FeedRouter::advanced(Position to) {
  routedTo_ = std::max(routedTo_, to);
  scanFrom_ = std::max(scanFrom_, to);
  positionMoved();
}

void FeedRouter::passed(const storage::CommittedBatch& batch, const Step& step) {
  if (!step.behind) return advanced(endOf(batch));
  // The entry may hold further markers.
  routedTo_ = std::max(routedTo_, step.position);
  scanFrom_ = std::max(scanFrom_, batch.entry);
  within_ = std::max(within_, Within{step.position, *step.behind});
  positionMoved();
}

void FeedRouter::positionMoved() {
  bool journaled = routedTo_ <= journaledTo_ && within_ <= journaledWithin_;
  if (journaled || positionDue_ || !positionTimer_) return;
  positionDue_ = true;
  positionTimer_->start(core_.options.routedPositionMillis * 1000);
}

void FeedRouter::journalPosition() {
  positionDue_ = false;
  if (routedTo_ <= journaledTo_ && within_ <= journaledWithin_) return;
  storage::AppendRequest request;
  addPosition(scanFrom_, request);
  if (within_.marker >= scanFrom_) addWithin(within_.marker, within_.next, request);
  request.durability = storage::Durability::kUnwaited;
  request.ifFailures = failures_;
  // If it fails, a restart reads a little more.
  if (!core_.store.append(std::move(request))) return;
  journaledTo_ = routedTo_;
  journaledWithin_ = within_;
}

void FeedRouter::onTick() {
  Position fed = core_.store.fedEnd();  // before the queue: what it covers has been put there
  bool idle = false;
  {
    std::lock_guard lock(mutex_);
    idle = !behind_ && queue_.empty() && !scheduled_;
  }
  if (idle && linksUnderway_ == 0 && fed > routedTo_ + kQuietBytes) {
    routedTo_ = scanFrom_ = fed;
    liveTo_ = {fed, {}};
    journalPosition();
  }
  tick_->start(kTickMicros);
}

}  // namespace polylog::router
