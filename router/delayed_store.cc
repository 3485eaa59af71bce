#include "router/delayed_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/batch_cache.h"
#include "router/id_allocator.h"
#include "router/publisher.h"
#include "router/retained_store.h"
#include "router/session_registry.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kEphemeral = 1;
constexpr unsigned kOwnShift = 1;  // OwnVerdict
constexpr unsigned kOwnMask = 3;

/// Being published at one time, and the octets of their bodies.
constexpr size_t kInFlight = 512;
constexpr size_t kInFlightBytes = 8U << 20;
constexpr int64_t kRetryMillis = 1000;
/// The wall clock may be set: it is looked at again after so long.
constexpr int64_t kLongestSleepMs = 10'000;

/// Whether another try may succeed; nothing of the publish has been appended then.
bool mayPass(ErrorKind kind) {
  return kind == ErrorKind::kIo || kind == ErrorKind::kNoSpace || kind == ErrorKind::kBusy ||
         kind == ErrorKind::kShutdown;
}

}  // namespace

// ---------------------------------------------------------------- as it stands

std::string delayedKey(PartitionId partition, Offset offset) {
  ByteWriter out;
  out.u64(partition.value());
  out.i64(offset.value());
  return out.take();
}

std::optional<std::pair<PartitionId, Offset>> parseDelayedKey(BytesView key) {
  ByteReader in(key);
  PartitionId partition(in.u64());
  Offset offset(in.i64());
  if (!in.complete()) return std::nullopt;
  return std::pair(partition, offset);
}

std::string encodeDelayed(const Publish& publish, const Principal& principal, OwnVerdict own) {
  std::string address;
  appendAddressText(publish.address, address);
  ByteWriter out;
  out.u8(kVersion);
  out.u8(static_cast<uint8_t>((publish.ephemeral ? kEphemeral : 0) | static_cast<uint8_t>(own)
                                                                         << kOwnShift));
  out.u8(static_cast<uint8_t>(principal.protocol));
  out.u32(publish.partitionHash);
  putText(out, address);
  putText(out, publish.topic);
  putText(out, principal.user);
  putText(out, principal.clientId);
  putText(out, principal.peer);
  return out.take();
}

bool decodeDelayed(BytesView value, Publish& publish, Principal& principal, std::string& text) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  const uint8_t flags = in.u8();
  publish.ephemeral = (flags & kEphemeral) != 0;
  principal.rights = rightsRemembered(static_cast<OwnVerdict>(flags >> kOwnShift & kOwnMask));
  principal.protocol = static_cast<Protocol>(std::min<uint8_t>(in.u8(), 4));
  publish.partitionHash = in.u32();
  const std::string address = getText(in);
  text = address + getText(in);
  principal.user = getText(in);
  principal.clientId = getText(in);
  principal.peer = getText(in);
  publish.address = splitAddressText(BytesView(text).substr(0, address.size()));
  publish.topic = BytesView(text).substr(address.size());
  return in.complete();
}

// ---------------------------------------------------------------- life

struct DelayedStore::Found {
  RoutedBlockRef block;
  size_t index = 0;
  const Record& record() const { return block->records[index].record; }
};

DelayedStore::DelayedStore(Core& core) : core_(core) {}

DelayedStore::~DelayedStore() {
  core_.metrics.delayed.add(-static_cast<int64_t>(pending_.load()));
}

Result<> DelayedStore::load() {
  using storage::StateTable;
  auto value = core_.store.getState(StateTable::kMeta, kDelayedPartition);
  if (!value) return {};
  auto partition = decodeNumber(*value, kDelayedPartition);
  if (!partition) return std::unexpected(partition.error());
  partition_ = PartitionId(*partition);
  core_.ids->seen(*partition_);
  Result<> result;
  core_.store.scanState(StateTable::kDelayed, "", [&](BytesView key, BytesView due) {
    auto parsed = parseDelayedKey(key);
    auto dueMs = decodeNumber(due, "delayed");
    if (!parsed || !dueMs) result = fail(ErrorKind::kCorrupt, "a delayed publish can't be read");
    if (result) heap_.push_back({static_cast<int64_t>(*dueMs), parsed->second.value()});
    return result.has_value();
  });
  std::make_heap(heap_.begin(), heap_.end());
  pending_ = heap_.size();
  core_.metrics.delayed.add(static_cast<int64_t>(heap_.size()));
  return result;
}

void DelayedStore::start(Worker& worker) {
  timer_ = worker.dispatcher.makeTimer([this] {
    held_ = false;
    runDue();
  });
  arm();
}

void DelayedStore::stop() {
  timer_ = nullptr;
}

// ---------------------------------------------------------------- taking

bool DelayedStore::reserve() {
  size_t before = pending_.load();
  do {
    if (before >= core_.options.maxDelayed) return false;
  } while (!pending_.compare_exchange_weak(before, before + 1));
  core_.metrics.delayed.add(1);
  return true;
}

void DelayedStore::release(size_t count) {
  pending_ -= count;
  core_.metrics.delayed.add(-static_cast<int64_t>(count));
}

/// Where the next record will stand. Under the lock, with which all appends to it are made.
Result<Offset> DelayedStore::nextOffset(storage::AppendRequest& request) {
  request.ifFailures = core_.store.failures();
  if (partition_) {
    auto ends = core_.store.ends(*partition_);
    if (ends) return ends->end;
    if (ends.error().kind != ErrorKind::kNotFound) return std::unexpected(ends.error());
  }
  // The first one ever, or the entry that made the partition has failed.
  auto id = core_.ids->nextPartition();
  if (!id) return std::unexpected(id.error());
  partition_ = *id;
  request.state.push_back(storage::partitionConfigured(*id, {}));
  request.state.push_back(
      {storage::StateTable::kMeta, kDelayedPartition, encodeNumber(id->value())});
  return Offset(0);
}

Result<storage::Appended> DelayedStore::append(
    Worker& worker, storage::AppendRequest request, SharedBytes batch, std::vector<int64_t> dueMs,
    std::move_only_function<void(const Result<storage::Appended>&)> told) {
  std::lock_guard lock(mutex_);
  auto next = nextOffset(request);
  if (!next) return std::unexpected(next.error());
  for (size_t i = 0; i < dueMs.size(); ++i) {
    request.state.push_back({storage::StateTable::kDelayed,
                             delayedKey(*partition_, *next + static_cast<int64_t>(i)),
                             encodeNumber(static_cast<uint64_t>(dueMs[i]))});
  }
  request.messages.push_back({std::move(batch), {{*partition_, 0, 0, 0}}});
  request.sink = &worker.sink;
  request.done = [this, base = next->value(), due = std::move(dueMs),
                  told = std::move(told)](const Result<storage::Appended>& result) mutable {
    if (result) {
      core_.onWorker(*core_.workers[0], [this, base, due] {
        for (size_t i = 0; i < due.size(); ++i) add(due[i], base + static_cast<int64_t>(i));
        arm();
      });
    } else {
      release(due.size());
    }
    told(result);
  };
  return core_.store.append(std::move(request));
}

void DelayedStore::add(int64_t dueMs, int64_t offset) {
  heap_.push_back({dueMs, offset});
  std::push_heap(heap_.begin(), heap_.end());
}

// ---------------------------------------------------------------- due

void DelayedStore::arm() {
  if (!timer_ || heap_.empty() || held_) return;
  if (inFlight_ >= kInFlight || inFlightBytes_ >= kInFlightBytes) return;  // done() goes on
  int64_t wait =
      std::clamp<int64_t>(heap_.front().dueMs - core_.clock.wallMillis(), 0, kLongestSleepMs);
  timer_->start(wait * 1000);
}

/// Others need not wait for one that must be tried again; they all do while the disk is full.
void DelayedStore::runDue() {
  const int64_t now = core_.clock.wallMillis();
  if (core_.store.full() && timer_) {
    held_ = true;
    return timer_->start(kRetryMillis * 1000);
  }
  while (timer_ && !heap_.empty() && heap_.front().dueMs <= now && inFlight_ < kInFlight &&
         inFlightBytes_ < kInFlightBytes) {
    std::pop_heap(heap_.begin(), heap_.end());
    Item item = heap_.back();
    heap_.pop_back();
    publish(item);
  }
  arm();
}

Result<DelayedStore::Found> DelayedStore::read(int64_t offset) {
  auto batches = core_.store.read(*partition_, Offset(offset), 1);
  if (!batches) return std::unexpected(batches.error());
  if (batches->empty() || batches->front().baseOffset.value() > offset) {
    return fail(ErrorKind::kCorrupt, "it is not there");
  }
  const storage::ReadBatch& batch = batches->front();
  static const auto kNowhere = std::make_shared<const std::string>();
  BlockSource source{true,     batch.place,        *partition_, batch.baseOffset,
                     kNowhere, Protocol::kInternal};
  auto block = core_.batches->open(*core_.workers[0], batch.batch, std::move(source));
  if (!block) return std::unexpected(block.error());
  int64_t delta = batch.firstRecord + offset - batch.baseOffset.value();
  Found found{std::move(*block), static_cast<size_t>(delta)};
  if (found.index >= found.block->records.size()) {
    return fail(ErrorKind::kCorrupt, "it is not in its batch");
  }
  return found;
}

void DelayedStore::publish(Item item) {
  Result<Found> found = read(item.offset);
  if (!found) return settled(item, std::unexpected(found.error()));
  Publish publish;
  publish.record = found->record();
  Principal principal;
  std::string text;
  auto& headers = publish.record.headers;
  auto meta = std::ranges::find(headers, kDelayedHeader, &Header::name);
  if (meta == headers.end() || !meta->value ||
      !decodeDelayed(*meta->value, publish, principal, text)) {
    return settled(item, fail(ErrorKind::kCorrupt, "it can't be read"));
  }
  headers.erase(meta);
  publish.record.timestampMs = -1;
  // For "no local", where it still is.
  const std::shared_ptr<Session> self = core_.sessions->find(principal.clientId);
  const size_t bytes = sizeOf(publish.record);
  ++inFlight_;
  inFlightBytes_ += bytes;
  auto done = [this, item, bytes](const std::vector<PublishResult>& results) {
    --inFlight_;
    inFlightBytes_ -= bytes;
    Result<> result;
    if (results.front().error) result = std::unexpected(*results.front().error);
    settled(item, result);
    runDue();
  };
  core_.publisher->publish(
      std::make_shared<const Principal>(std::move(principal)), self, {&publish, 1}, std::move(done),
      {{storage::StateTable::kDelayed, delayedKey(*partition_, Offset(item.offset)), std::nullopt}},
      true);
}

void DelayedStore::settled(Item item, const Result<>& result) {
  if (result) return finish(item);
  if (mayPass(result.error().kind)) return retry(item);
  const bool denied = result.error().kind == ErrorKind::kUnauthorized;
  core_.metrics.dropped(denied ? DropReason::kDenied : DropReason::kDamaged).add();
  logWarning(fmt::format("a delayed publish was dropped when it was due: {}", result.error().text));
  core_.appendEventually(*core_.workers[0],
                         {{storage::StateTable::kDelayed,
                           delayedKey(*partition_, Offset(item.offset)), std::nullopt}});
  finish(item);
}

void DelayedStore::retry(Item item) {
  add(core_.clock.wallMillis() + kRetryMillis, item.offset);
}

/// What nobody waits for any more needs no place: when none is left the partition's records may go
/// as a whole, before that by what the keys say (liveness.h).
void DelayedStore::finish(Item item) {
  finishedEnd_ = std::max(finishedEnd_, item.offset + 1);
  release(1);
  // What is reserved later comes to stand behind all that was.
  if (pending_.load() != 0 || core_.stopping.load()) return;
  core_.appendEventually(*core_.workers[0],
                         {storage::logStartMoved(*partition_, Offset(finishedEnd_))});
}

}  // namespace polylog::router
