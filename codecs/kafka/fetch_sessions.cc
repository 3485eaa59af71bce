#include "codecs/kafka/fetch_sessions.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "core/base/metrics.h"

namespace polylog::kafka {
namespace {

Metric& sessionsGauge() {
  static Metric& metric =
      gauge("polylog_kafka_fetch_sessions", "Incremental fetch sessions of Kafka consumers.");
  return metric;
}
Metric& evictions() {
  static Metric& metric = counter("polylog_kafka_fetch_session_evictions_total",
                                  "Fetch sessions that another one has taken the place of.");
  return metric;
}

/// Never 0 or -1, which begin and end a session.
int32_t epochAfter(int32_t epoch) {
  return epoch == std::numeric_limits<int32_t>::max() ? 1 : epoch + 1;
}

}  // namespace

// ---------------------------------------------------------------- one session

size_t FetchSession::Hash::operator()(const FetchKey& key) const {
  std::string_view id(reinterpret_cast<const char*>(key.id.data()), key.id.size());
  std::hash<std::string_view> hash;
  return hash(key.topic) * 31 + hash(id) * 17 + static_cast<size_t>(key.index);
}

FetchSession::FetchSession(int32_t id, bool byId, std::vector<FetchEntry> entries)
    : id_(id), byId_(byId) {
  for (FetchEntry& entry : entries) put(std::move(entry));
}

void FetchSession::put(FetchEntry entry) {
  auto at = places_.find(entry.key);
  if (at == places_.end()) {
    order_.push_back(std::move(entry));
    places_.emplace(order_.back().key, std::prev(order_.end()));
    return;
  }
  at->second->offset = entry.offset;
  at->second->maxBytes = entry.maxBytes;
}

/// With its lock.
Code FetchSession::update(int32_t epoch, bool byId, std::vector<FetchEntry> changed,
                          const std::vector<FetchKey>& forgotten) {
  if (epoch != epoch_) return Code::kInvalidFetchSessionEpoch;
  if (byId != byId_) return Code::kFetchSessionTopicIdError;
  for (FetchEntry& entry : changed) put(std::move(entry));
  for (const FetchKey& key : forgotten) {
    auto at = places_.find(key);
    if (at == places_.end()) continue;
    order_.erase(at->second);
    places_.erase(at);
  }
  epoch_ = epochAfter(epoch_);
  return Code::kNone;
}

// ---------------------------------------------------------------- all of them

int32_t FetchSessions::create(std::vector<FetchEntry> entries, bool byId, int64_t nowMs) {
  if (entries.empty()) return 0;
  std::lock_guard lock(mutex_);
  if (!makeRoom(entries.size(), nowMs)) return 0;
  int32_t id = 0;
  while (id == 0 || slots_.contains(id)) {
    id = static_cast<int32_t>(random_.next() & 0x7fffffff);
  }
  Slot& slot = slots_[id];
  slot.session = std::make_shared<FetchSession>(id, byId, std::move(entries));
  slot.partitions = slot.session->places_.size();
  slot.createdMs = slot.usedMs = nowMs;
  partitions_ += slot.partitions;
  sessionsGauge().add(1);
  return id;
}

/// With the lock. As Kafka does it for consumers: first goes who isn't used any more, then the
/// smallest of those that have had their time.
bool FetchSessions::makeRoom(size_t partitions, int64_t nowMs) {
  if (partitions > limits_.partitions || limits_.sessions == 0) return false;
  while (slots_.size() >= limits_.sessions || partitions_ + partitions > limits_.partitions) {
    auto oldest =
        std::ranges::min_element(slots_, {}, [](const auto& each) { return each.second.usedMs; });
    if (nowMs - oldest->second.usedMs <= limits_.evictionMs) {
      auto smallest = std::ranges::min_element(slots_, {}, [&](const auto& each) {
        bool safe = nowMs - each.second.createdMs <= limits_.evictionMs;
        return safe ? std::numeric_limits<size_t>::max() : each.second.partitions;
      });
      bool safe = nowMs - smallest->second.createdMs <= limits_.evictionMs;
      if (safe || smallest->second.partitions >= partitions) return false;
      oldest = smallest;
    }
    erase(oldest);
    evictions().add(1);
  }
  return true;
}

void FetchSessions::erase(Slots::iterator at) {
  partitions_ -= at->second.partitions;
  slots_.erase(at);
  sessionsGauge().add(-1);
}

void FetchSessions::remove(int32_t id) {
  std::lock_guard lock(mutex_);
  if (auto at = slots_.find(id); at != slots_.end()) erase(at);
}

size_t FetchSessions::size() const {
  std::lock_guard lock(mutex_);
  return slots_.size();
}

bool FetchSessions::resized(int32_t id, size_t partitions, int64_t nowMs) {
  std::lock_guard lock(mutex_);
  auto at = slots_.find(id);
  if (at == slots_.end()) return true;  // evicted meanwhile: this request still goes on
  partitions_ = partitions_ - at->second.partitions + partitions;
  at->second.partitions = partitions;
  at->second.usedMs = nowMs;
  bool fits = partitions_ <= limits_.partitions;
  if (!fits || partitions == 0) erase(at);
  return fits;
}

FetchSessions::Step FetchSessions::advance(int32_t id, int32_t epoch, bool byId,
                                           std::vector<FetchEntry> changed,
                                           const std::vector<FetchKey>& forgotten, int64_t nowMs) {
  Step step;
  {
    std::lock_guard lock(mutex_);
    auto at = slots_.find(id);
    if (at != slots_.end()) step.session = at->second.session;
  }
  if (!step.session) return {Code::kFetchSessionIdNotFound, nullptr, {}};
  {
    std::lock_guard lock(step.session->mutex_);
    step.error = step.session->update(epoch, byId, std::move(changed), forgotten);
    if (step.error != Code::kNone) return {step.error, nullptr, {}};
    step.entries.assign(step.session->order_.begin(), step.session->order_.end());
  }
  if (!resized(id, step.entries.size(), nowMs)) {
    return {Code::kFetchSessionIdNotFound, nullptr, {}};
  }
  if (step.entries.empty()) step.session = nullptr;
  return step;
}

std::vector<bool> FetchSessions::tell(FetchSession& session, int32_t epoch,
                                      const std::vector<FetchEntry>& entries,
                                      const std::vector<FetchFinding>& findings) {
  std::lock_guard lock(session.mutex_);
  if (session.epoch_ != epochAfter(epoch)) return {};
  std::vector<bool> told(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    auto at = session.places_.find(entries[i].key);
    if (at == session.places_.end()) continue;
    FetchEntry& known = *at->second;
    const FetchFinding& found = findings[i];
    told[i] = found.records || found.errorCode != 0 || found.highWatermark != known.highWatermark ||
              found.logStart != known.logStart;
    // One with an error is told of again when it is well.
    known.highWatermark = found.errorCode == 0 ? found.highWatermark : -1;
    known.logStart = found.logStart;
    if (found.records) session.order_.splice(session.order_.end(), session.order_, at->second);
  }
  return told;
}

}  // namespace polylog::kafka
