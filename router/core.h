// What the router's parts share: the store, the clock, the options, the workers and one another.
// Built once, immutable afterwards; each part says itself which thread may use it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/metrics.h"
#include "core/event/dispatcher.h"
#include "core/model/queue.h"
#include "router/authorizer.h"
#include "router/router.h"
#include "storage/log_store.h"

namespace polylog::router {

class AccessStore;
class AddressTags;
class Catalogue;
class ClientRegistry;
class DelayedStore;
class ExchangeTable;
class ExclusiveTable;
class FeedRouter;
class GroupCoordinator;
class IdAllocator;
class LiveFanout;
class LoginService;
class Publisher;
class QueueRegistry;
class ReplayTable;
class RetainedStore;
class SessionRegistry;
class ShareTable;
class SlowSubscribers;
class SpaceWaits;
class SubscriptionTrie;
class TransactionCoordinator;
class BatchCache;

/// Brings completions of the store to a worker: one post a commit.
class WorkerSink final : public storage::CompletionSink {
 public:
  explicit WorkerSink(Dispatcher& dispatcher) : dispatcher_(dispatcher) {}
  void completed(std::vector<std::move_only_function<void()>> tasks) override;

 private:
  Dispatcher& dispatcher_;
};

/// Has a say in every try of Core::appendEventually(): takes out of `changes` what is not due any
/// more, because a newer entry of the same key has been journaled, and calls `append` while it
/// holds whatever lock keeps such entries from coming in between. On the worker's thread.
using WhatIsDue = std::function<void(std::vector<storage::StateChange>& changes,
                                     const std::function<void()>& append)>;

struct Worker {
  Worker(uint32_t number, Dispatcher& loop) : index(number), dispatcher(loop), sink(loop) {}
  void post(Task task) { dispatcher.post(std::move(task)); }
  /// Own thread only: not inside the caller's call, but soon and without a wake-up.
  void later(Task task) { dispatcher.defer(std::move(task)); }

  const uint32_t index;
  Dispatcher& dispatcher;
  WorkerSink sink;
  std::atomic<int64_t> crossing{0};  ///< live deliveries posted to it and not yet handed out
  std::atomic<int64_t> crossingBytes{0};
  // Own thread only: deletions that could not be journaled, to be tried again.
  struct Owed {
    std::vector<storage::StateChange> changes;
    WhatIsDue due;
  };
  std::vector<Owed> owed;
  std::unique_ptr<Timer> owedTimer;
};

enum class DropReason : uint8_t {
  kInboxFull,
  kTooOld,  ///< waited in an inbox for longer than it may
  kQueueFull,
  kWorkerBehind,
  kDamaged,
  kGone,       ///< its segment went before a slow subscriber took it
  kNotStored,  ///< an at-most-once publish that the journal refused
  kDenied,     ///< the subscriber may not read it (any more)
};

struct RouterMetrics {
  RouterMetrics();
  Metric& recordsIn(Protocol p) { return *recordsIn_[static_cast<size_t>(p)]; }
  Metric& bytesIn(Protocol p) { return *bytesIn_[static_cast<size_t>(p)]; }
  Metric& recordsOut(Protocol p) { return *recordsOut_[static_cast<size_t>(p)]; }
  Metric& bytesOut(Protocol p) { return *bytesOut_[static_cast<size_t>(p)]; }
  Metric& dropped(DropReason r) { return *dropped_[static_cast<size_t>(r)]; }
  Metric& tooLarge(Protocol p) { return *tooLarge_[static_cast<size_t>(p)]; }
  /// Publishes whose publishers have asked for no answer.
  Metric& refused(Protocol p) { return *refused_[static_cast<size_t>(p)]; }

  Metric& sessions;
  Metric& sessionsConnected;
  Metric& subscriptions;
  Metric& topics;
  Metric& groups;
  Metric& retained;
  Metric& queues;
  Metric& delayed;
  Metric& slowDeliveries;
  Metric& replays;
  Metric& replayed;

 private:
  std::array<Metric*, 5> recordsIn_, bytesIn_, recordsOut_, bytesOut_, tooLarge_, refused_;
  std::array<Metric*, 8> dropped_;
};

struct Core {
  Core(storage::LogStore& theStore, std::span<Dispatcher* const> dispatchers, Clock& theClock,
       Random& theRandom, RouterOptions theOptions);
  ~Core();

  /// The worker whose thread this is.
  Worker& here() const;
  size_t workerOf(BytesView name) const;  ///< by the name's hash
  /// Runs `task` on that worker, never inside the call; in order with the others from this one.
  void onWorker(Worker& worker, Task task) const {
    if (&here() == &worker) return worker.later(std::move(task));
    worker.post(std::move(task));
  }

  /// Appends state changes until it succeeds, on this worker's thread: for deletions that must not
  /// be forgotten after a failed write. Nobody waits for them, and many are divided into several
  /// entries, in order. Without `due` all stay due for ever: only for keys that nobody uses again.
  void appendEventually(Worker& worker, std::vector<storage::StateChange> changes,
                        WhatIsDue due = nullptr);

  storage::LogStore& store;
  Clock& clock;
  Random& random;
  const RouterOptions options;
  Authorizer authorizer;
  RouterMetrics metrics;
  std::vector<std::unique_ptr<Worker>> workers;
  /// Rises with each append that failed after it had been sequenced: what was assumed since may
  /// have to be read from the store again.
  std::atomic<uint64_t> writeFailures{0};
  std::atomic<bool> stopping{false};

  std::unique_ptr<AccessStore> access;
  std::unique_ptr<LoginService> logins;
  std::unique_ptr<SlowSubscribers> slow;
  std::unique_ptr<ClientRegistry> clients;
  std::unique_ptr<IdAllocator> ids;
  std::unique_ptr<Catalogue> catalogue;
  std::unique_ptr<SubscriptionTrie> trie;
  std::unique_ptr<AddressTags> tags;
  std::unique_ptr<RetainedStore> retained;
  std::unique_ptr<BatchCache> batches;
  std::unique_ptr<LiveFanout> fanout;
  std::unique_ptr<Publisher> publisher;
  std::unique_ptr<DelayedStore> delayed;
  std::unique_ptr<SpaceWaits> space;
  std::unique_ptr<ShareTable> shares;
  std::unique_ptr<ExclusiveTable> exclusive;
  std::unique_ptr<ReplayTable> replays;
  std::unique_ptr<SessionRegistry> sessions;
  std::unique_ptr<FeedRouter> feed;
  std::unique_ptr<GroupCoordinator> groups;
  std::unique_ptr<TransactionCoordinator> transactions;
  std::unique_ptr<QueueRegistry> queues;
  std::unique_ptr<ExchangeTable> exchanges;
  std::atomic<uint64_t> nextClient{1};
  /// The router's own: a topic and all that hangs on it.
  std::function<void(const PrincipalRef&, const std::string&, Done<Result<>>)> deleteTopic;

 private:
  void appendPiece(Worker& worker, std::vector<storage::StateChange> piece, const WhatIsDue& due);
  void owe(Worker& worker, std::vector<storage::StateChange> changes, const WhatIsDue& due,
           const Error& error);
};

/// What of `changes` goes into one entry; the rest stays behind.
std::vector<storage::StateChange> takePiece(std::vector<storage::StateChange>& changes);

/// Hash and equality that find std::string keys by view.
struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};

}  // namespace polylog::router
