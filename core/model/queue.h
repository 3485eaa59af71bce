// Queues as AMQP knows them: a queue is private, its records go once each to one of its consumers
// and are gone when accepted. A stream is the topic of its name, read by offset and never used up.
// The router implements these; a codec opens one QueueClient a connection. All calls, both ways, on
// the worker that opened it; `done` runs exactly once, never inside the call (dropped at shutdown
// or once the QueueClient is gone).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/delivery.h"
#include "core/model/exchange.h"

namespace polylog {

template <class T>
using Done = std::move_only_function<void(T)>;

enum class QueueKind : uint8_t {
  kClassic = 1,
  kStream = 2,
  kShared = 3,  ///< what a shared subscription's members take from; no QueueClient sees it
};

struct QueueSpec {
  std::string name;  ///< not empty: the codec has made one up where the client gave none
  QueueKind kind = QueueKind::kClassic;
  bool durable = false;
  bool exclusive = false;   ///< to the QueueClient that declares it; goes with it
  bool autoDelete = false;  ///< goes with its last consumer
  Table arguments;
  /// Streams: kept so long, so much (-1 = the topics' default).
  int64_t retentionMs = -1;
  int64_t retentionBytes = -1;
};

struct QueueInfo {
  QueueSpec spec;
  bool exclusiveToOther = false;  ///< another client's: touching it is kLocked
  int64_t ready = 0;              ///< waiting for a consumer
  int64_t unacknowledged = 0;     ///< delivered, not settled
  int64_t consumers = 0;
};

struct QueueDeclared {
  QueueInfo info;  ///< as it is; what it should have been is the caller's to compare
  bool created = false;
};

/// What becomes of a delivery.
enum class Disposition : uint8_t {
  kAccept,
  kRequeue,  ///< back to its place, redelivered
  kReject,   ///< dropped
  kReturn,   ///< never sent: back to its place as if it had not been taken
};

struct Settlement {
  int64_t id = 0;
  Disposition disposition = Disposition::kAccept;
};

struct QueueDelivery {
  RoutedRecordRef record;
  int64_t id = 0;      ///< within the queue, what settle() takes; of a stream the offset
  int64_t octets = 0;  ///< the record's size, as flights count it
  bool redelivered = false;
};

/// How many deliveries may be unacknowledged: a consumer's prefetch, or a channel's, shared by its
/// consumers. The queue's worker takes, the client's gives back; so it is shared between threads.
/// Sequentially consistent, as are the flags of those who wait for it: else both sides could miss
/// what the other one did.
class DeliveryWindow {
 public:
  /// 0 = without limit.
  void setLimit(int64_t limit) { limit_.store(limit); }
  int64_t limit() const { return limit_.load(); }
  bool tryTake() {
    int64_t used = used_.load();
    do {
      int64_t most = limit();
      if (most > 0 && used >= most) return false;
    } while (!used_.compare_exchange_weak(used, used + 1));
    return true;
  }
  void give(int64_t count) { used_.fetch_sub(count); }
  int64_t used() const { return used_.load(); }

 private:
  std::atomic<int64_t> limit_{0};
  std::atomic<int64_t> used_{0};
};
using DeliveryWindowRef = std::shared_ptr<DeliveryWindow>;

/// Deliveries that are handed over and not sent: a consumer's, or a connection's over all its
/// consumers, so that a client which doesn't read holds a bounded number. Between threads as a
/// DeliveryWindow is; several that take at once may each go over the limit by one.
class DeliveryFlight {
 public:
  DeliveryFlight(int64_t mostCount, int64_t mostOctets)
      : mostCount_(mostCount), mostOctets_(mostOctets) {}
  /// One always may.
  bool tryTake(int64_t octets) {
    if (full()) {
      refused_.store(true);
      if (full()) return false;  // asked once more: room may have been made before the flag was set
    }
    count_.fetch_add(1);
    octets_.fetch_add(octets);
    return true;
  }
  void give(int64_t count, int64_t octets) {
    count_.fetch_sub(count);
    octets_.fetch_sub(octets);
  }
  /// Whether somebody was refused since this was last asked, and waits to be told of room.
  bool takeRefused() { return refused_.exchange(false); }
  int64_t count() const { return count_.load(); }
  int64_t octets() const { return octets_.load(); }

 private:
  bool full() const {
    int64_t count = count_.load();
    return count >= mostCount_ || (count > 0 && octets_.load() >= mostOctets_);
  }

  const int64_t mostCount_;
  const int64_t mostOctets_;
  std::atomic<int64_t> count_{0};
  std::atomic<int64_t> octets_{0};
  std::atomic<bool> refused_{false};
};
using DeliveryFlightRef = std::shared_ptr<DeliveryFlight>;

/// A queue that deliveries came from; outlives its consumers and its name. Also after the queue is
/// gone settle() may be called, and does nothing.
class QueueRef {
 public:
  virtual ~QueueRef() = default;
  /// Each delivery is settled once. Windows are the caller's to give back, before.
  virtual void settle(std::span<const Settlement> settlements) = 0;
};

class QueueListener {
 public:
  virtual ~QueueListener() = default;
  /// May be moved from. Not inside a call of the codec's.
  virtual void onDeliveries(std::span<QueueDelivery> deliveries) = 0;
  /// The queue is gone: no more deliveries; the consumer may be destroyed in here.
  virtual void onCancelled() = 0;
};

/// A consumer in force. Destroying it ends it: what was on its way and not handed to the listener
/// goes back as kReturn; what was handed over stays the client's to settle, through queue().
class QueueConsumer {
 public:
  virtual ~QueueConsumer() = default;
  virtual const std::shared_ptr<QueueRef>& queue() const = 0;
  /// The client took `count` deliveries of so many octets (sent them): as many more may come.
  /// Without this only a bounded number is handed over, acknowledged or not. The connection's
  /// flight is the caller's to give back.
  virtual void sent(int64_t count, int64_t octets) = 0;
  /// A window or the connection's flight has been given to, or a limit raised (settle() does this
  /// by itself for the consumers of its queue).
  virtual void resume() = 0;
};

/// Where a stream's consumer begins.
struct StreamStart {
  enum class Kind : uint8_t { kFirst, kLast, kNext, kOffset, kTimestamp };
  Kind kind = Kind::kNext;
  int64_t value = 0;  ///< an offset, or milliseconds since 1970 UTC
};

struct ConsumeOptions {
  std::string queue;
  bool acknowledges = true;  ///< false: settled as it is delivered
  bool exclusive = false;
  /// Windows to take from with each delivery that wants acknowledgement; either may be null.
  DeliveryWindowRef window;
  DeliveryWindowRef channelWindow;
  DeliveryFlightRef flight;  ///< the connection's, taken from with each delivery; may be null
  /// What was on its way to a consumer that is over has been given back to windows and flight:
  /// others may go on. On the client's worker; may be null.
  std::function<void()> returned;
  StreamStart start;  ///< of streams
};

struct QueueGot {
  QueueDelivery delivery;
  std::shared_ptr<QueueRef> queue;
  int64_t remaining = 0;  ///< still ready
};

/// A connection's door to exchanges and queues. Destroying it ends its consumers and deletes its
/// exclusive queues; deliveries that it has not settled are to be settled before.
class QueueClient {
 public:
  virtual ~QueueClient() = default;

  // ---- exchanges
  virtual std::optional<ExchangeSpec> findExchange(const std::string& name) = 0;
  /// Makes it, or gives the one of that name that there is. kBusy, append's errors.
  virtual void declareExchange(ExchangeSpec spec, Done<Result<ExchangeSpec>> done) = 0;
  /// kNotFound, kInUse (`ifUnused` and bound to something).
  virtual void deleteExchange(const std::string& name, bool ifUnused, Done<Result<>> done) = 0;
  /// kNotFound (either end), kLocked, kBusy, kInvalid. Binding twice is once.
  virtual void bind(BindingSpec binding, Done<Result<>> done) = 0;
  /// kNotFound (either end), kLocked. No such binding: nothing to do.
  virtual void unbind(BindingSpec binding, Done<Result<>> done) = 0;
  virtual std::vector<ExchangeSpec> exchanges() = 0;
  virtual std::vector<BindingSpec> bindings() = 0;

  // ---- queues; names of topics without a queue of their name are streams
  virtual std::optional<QueueInfo> findQueue(const std::string& name) = 0;
  /// Makes it, or tells about the one of that name. kLocked, kBusy, append's errors.
  virtual void declareQueue(QueueSpec spec, Done<Result<QueueDeclared>> done) = 0;
  /// How many records went with it. kNotFound, kLocked, kInUse (consumers), kNotEmpty.
  virtual void deleteQueue(const std::string& name, bool ifUnused, bool ifEmpty,
                           Done<Result<int64_t>> done) = 0;
  /// How many ready records went. kNotFound, kLocked, kUnsupported (a stream).
  virtual void purgeQueue(const std::string& name, Done<Result<int64_t>> done) = 0;
  virtual std::vector<QueueInfo> queues() = 0;

  /// kNotFound, kLocked, kInUse (an exclusive consumer, there or asked for), kInvalid (a start that
  /// a stream of several partitions can't have).
  virtual void consume(ConsumeOptions options, QueueListener* listener,
                       Done<Result<std::unique_ptr<QueueConsumer>>> done) = 0;
  /// Takes one; nothing if none is ready. kNotFound, kLocked, kUnsupported (a stream).
  virtual void get(const std::string& name, bool acknowledges,
                   Done<Result<std::optional<QueueGot>>> done) = 0;

  // ---- publishing: route, then Broker::publish() with Publish::route
  /// kNotFound (no such exchange), kUnauthorized (internal). `headers` may be null.
  virtual Result<RouteRef> route(const std::string& exchange, const std::string& routingKey,
                                 const RoutingHeaders* headers) = 0;
};

}  // namespace polylog
