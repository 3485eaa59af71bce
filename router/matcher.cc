#include "router/matcher.h"

#include <algorithm>

#include "router/queue.h"
#include "router/retained_store.h"
#include "router/session.h"

namespace polylog::router {
namespace {

constexpr size_t kMostAddresses = 8192;
constexpr size_t kMostEntries = 200'000;
constexpr size_t kMostBytes = 4U << 20;

}  // namespace

void Matcher::begin(Worker& worker) {
  PerWorker& mine = perWorker_[worker.index];
  uint64_t generation = core_.trie->generation();
  if (mine.generation == generation && mine.known.size() < kMostAddresses &&
      mine.entries < kMostEntries && mine.bytes < kMostBytes) {
    return;
  }
  mine.known.clear();
  mine.entries = 0;
  mine.bytes = 0;
  mine.generation = generation;
}

MatchResult& Matcher::match(Worker& worker, const Address& address) {
  PerWorker& mine = perWorker_[worker.index];
  mine.text.clear();
  appendAddressText(address, mine.text);
  auto at = mine.known.find(BytesView(mine.text));
  if (at != mine.known.end()) return *at->second;
  uint64_t generation = 0;
  auto found = lookUp(address, generation);
  mine.entries += found->entries.size();
  mine.bytes += mine.text.size();
  MatchResult& result = *found;
  mine.known.emplace(mine.text, std::move(found));
  // Newer than what is known already: the rest is thrown away at the next begin().
  if (generation != mine.generation) mine.generation = 0;
  return result;
}

void Matcher::include(const TrieEntry& entry, Recipient& out) {
  out.guarantee = std::max(out.guarantee, entry.guarantee);
  out.retainAsPublished = out.retainAsPublished || entry.retainAsPublished;
  out.anyNoLocal = out.anyNoLocal || entry.noLocal;
  if (entry.subscriptionId != 0 &&
      std::find(out.ids.begin(), out.ids.end(), entry.subscriptionId) == out.ids.end()) {
    out.ids.push_back(entry.subscriptionId);
  }
}

std::unique_ptr<MatchResult> Matcher::lookUp(const Address& address, uint64_t& generation) const {
  auto result = std::make_unique<MatchResult>();
  std::vector<std::shared_ptr<Session>> alive;
  std::vector<BindingEnd> bound;
  // The lock keeps each session in the trie alive; afterwards these do.
  generation = core_.trie->match(address, [&](const TrieEntry& entry) {
    if (entry.binding != nullptr) return bound.push_back(*entry.binding);
    result->entries.push_back(entry);
    alive.push_back(entry.session->shared_from_this());
    result->latestSince = std::max(result->latestSince, entry.since);
  });
  if (!bound.empty()) addBound(address, bound, *result);
  if (result->entries.size() > 1) {
    std::sort(result->entries.begin(), result->entries.end(),
              [](const TrieEntry& a, const TrieEntry& b) {
                if (a.session != b.session) return std::less<>{}(a.session, b.session);
                return a.subscriptionId < b.subscriptionId;
              });
  }
  for (uint32_t i = 0; i < result->entries.size(); ++i) {
    const TrieEntry& entry = result->entries[i];
    if (result->recipients.empty() || result->recipients.back().session.get() != entry.session) {
      Recipient& added = result->recipients.emplace_back();
      added.session = entry.session->shared_from_this();
      added.firstEntry = i;
    }
    Recipient& recipient = result->recipients.back();
    ++recipient.entryCount;
    include(entry, recipient);
    if (recipient.ids.size() > 1) result->severalIds = true;
    if (entry.session->persistent() && entry.guarantee >= DeliveryGuarantee::kAtLeastOnce) {
      result->anyInbox = true;
    }
  }
  return result;
}

void Matcher::addBound(const Address& address, const std::vector<BindingEnd>& bound,
                       MatchResult& out) const {
  std::unordered_map<const Queue*, size_t> queues;
  std::unordered_map<std::string, size_t> streams;
  auto add = [&](std::shared_ptr<Queue> queue, const std::string& stream, Position since) {
    size_t next = out.queues.size();
    size_t at = queue ? queues.try_emplace(queue.get(), next).first->second
                      : streams.try_emplace(stream, next).first->second;
    if (at != next) {
      out.queues[at].since = std::min(out.queues[at].since, since);
      return;
    }
    BoundQueue& added = out.queues.emplace_back();
    added.shared = queue && queue->spec().kind == QueueKind::kShared;
    (added.shared ? out.anyShared : out.anyBound) = true;
    added.queue = std::move(queue);
    added.stream = stream;
    added.since = since;
  };
  for (const BindingEnd& end : bound) {
    if (end.exchange.empty()) {
      add(end.queue, end.stream, end.since);
      continue;
    }
    RouteImpl behind;
    core_.exchanges->collect(end.exchange, address, behind);
    for (auto& queue : behind.queues) add(std::move(queue), {}, end.since);
    for (const std::string& stream : behind.streams) add(nullptr, stream, end.since);
  }
}

}  // namespace polylog::router
