#include "core/net/listener.h"

#include <event2/event.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/event/event_dispatcher.h"
#include "core/net/address.h"
#include "core/net/listening_socket.h"
#include "core/net/rate_limit.h"

namespace polylog {
namespace {

constexpr int kAcceptsPerRound = 64;
constexpr int64_t kPauseWithoutDescriptors = 100'000;
constexpr int64_t kRefusalLogsPerSecond = 1;

/// Who connected, in text: the address, or the process at the other end of a Unix-domain socket.
std::string peerText(int fd, const SocketAddress& peer, const ListeningSocket& via) {
  if (!isUnixSocket(via.bound)) return toText(peer.numeric());
  ucred process{};
  socklen_t size = sizeof process;
  getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &process, &size);
  return fmt::format("{} (pid {}, uid {})", via.bound.host, process.pid, process.uid);
}

}  // namespace

// ---- What all workers share

/// Immutable after open() but for what is atomic or says otherwise.
struct Listener::Shared {
  ListenerOptions options;
  SessionFactory makeSession;
  std::vector<ListeningSocket> sockets;
  std::vector<std::unique_ptr<Worker>> workers;
  ConnectionMetrics metrics;
  Metric& openNow;
  Metric& accepted;
  Metric& refusedOpen;
  Metric& refusedHandshake;
  Metric& refusedHere;
  Metric& refusedRate;
  RateLimit rate;
  RateLimit rateLogs{kRefusalLogsPerSecond};
  std::atomic<size_t> connections{0};
  std::atomic<size_t> next{0};
  std::atomic<size_t> accepting{0};
  std::atomic<size_t> running{0};
  std::atomic<bool> toldRefused{false};
  std::atomic<bool> toldNoDescriptors{false};
  /// Called by the last worker to end; written before any can.
  std::function<void()> onStopped;

  static std::string label(const std::string& protocol, const char* more = "") {
    return fmt::format("protocol=\"{}\"{}", protocol, more);
  }
  static Metric& refused(const std::string& protocol, const char* reason) {
    return counter("polylog_connections_refused_total", "Connections closed at once for a limit",
                   label(protocol, reason));
  }
  explicit Shared(ListenerOptions from);
  ~Shared();

  /// Takes a place in the budget for one more connection, or says why not.
  bool admit(int64_t nowMicros);
  bool admitHere(int64_t nowMicros);
  void leave(bool inHandshake);
};

/// This listener's own limits.
bool Listener::Shared::admitHere(int64_t nowMicros) {
  // Workers may pass the limit together, by one each.
  if (options.maxConnections > 0 &&
      connections.load(std::memory_order_relaxed) >= options.maxConnections) {
    refusedHere.add();
    if (!toldRefused.exchange(true)) {
      logWarning(
          fmt::format("{}: {} connections are open, the most that this listener's "
                      "max_connections allows; refusing more",
                      options.protocol, options.maxConnections));
    }
    return false;
  }
  if (rate.take(nowMicros)) return true;
  refusedRate.add();
  if (rateLogs.take(nowMicros)) {
    logWarning(
        fmt::format("{}: more than {} new connections in a second, this listener's "
                    "max_connection_rate; refusing some",
                    options.protocol, options.maxConnectionRate));
  }
  return false;
}

bool Listener::Shared::admit(int64_t nowMicros) {
  if (!admitHere(nowMicros)) return false;
  ConnectionBudget& budget = *options.budget;
  if (budget.open.fetch_add(1) >= budget.maxOpen) {
    budget.open.fetch_sub(1);
    refusedOpen.add();
    if (!toldRefused.exchange(true)) {
      logWarning(
          fmt::format("{}: {} connections are open, the most that limits.max_connections "
                      "allows; refusing more",
                      options.protocol, budget.maxOpen));
    }
    return false;
  }
  if (budget.inHandshake.fetch_add(1) >= budget.maxInHandshake) {
    budget.inHandshake.fetch_sub(1);
    budget.open.fetch_sub(1);
    refusedHandshake.add();
    if (!toldRefused.exchange(true)) {
      logWarning(
          fmt::format("{}: {} connections have not finished their handshake, the most that "
                      "limits.max_handshakes allows; refusing more",
                      options.protocol, budget.maxInHandshake));
    }
    return false;
  }
  toldRefused.store(false, std::memory_order_relaxed);
  connections.fetch_add(1, std::memory_order_relaxed);
  openNow.add();
  accepted.add();
  return true;
}

void Listener::Shared::leave(bool inHandshake) {
  if (inHandshake) options.budget->inHandshake.fetch_sub(1);
  options.budget->open.fetch_sub(1);
  connections.fetch_sub(1, std::memory_order_relaxed);
  openNow.add(-1);
}

// ---- One worker's part: its accept events and its connections. On its dispatcher's thread.

class Listener::Worker final : public Connection::Owner {
 public:
  /// An accepted socket on its way to its worker; closed if it never arrives.
  struct Accepted {
    Accepted(std::shared_ptr<Shared> from, int socket, SocketAddress address,
             const ListeningSocket& via)
        : shared(std::move(from)), fd(socket), peer(address), listening(&via) {}
    Accepted(Accepted&& other) noexcept
        : shared(std::move(other.shared)),
          fd(std::exchange(other.fd, -1)),
          peer(other.peer),
          listening(other.listening) {}
    Accepted& operator=(Accepted&&) = delete;
    ~Accepted() {
      if (fd < 0) return;
      close(fd);
      shared->leave(true);
    }
    std::shared_ptr<Shared> shared;
    int fd;
    SocketAddress peer;
    const ListeningSocket* listening;
  };

  Worker(Shared& shared, EventDispatcher& dispatcher) : shared_(shared), dispatcher_(dispatcher) {}

  EventDispatcher& dispatcher() { return dispatcher_; }
  void startAccepting(const std::shared_ptr<Shared>& self);
  void adopt(Accepted accepted);
  void stop(int64_t drainMicros);
  /// Ends all at once, with the loop not running.
  void cut(std::string_view why);

  void onHandshakeDone(Connection& connection) override;
  void onConnectionGone(Connection& connection) override;

 private:
  struct AcceptEvent {
    Worker* worker;
    const ListeningSocket* socket;
    event* readable = nullptr;
  };

  void onAcceptable(const ListeningSocket& socket);
  void outOfDescriptors(int error);
  void watchAccepting(bool on);
  void stopAccepting();
  void reportIfStopped();

  Shared& shared_;
  std::weak_ptr<Shared> self_;
  EventDispatcher& dispatcher_;
  std::vector<std::unique_ptr<AcceptEvent>> acceptEvents_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  std::unique_ptr<Timer> resume_;
  std::unique_ptr<Timer> drain_;
  bool stopping_ = false;
  bool reported_ = false;
};

Listener::Shared::Shared(ListenerOptions from)
    : options(std::move(from)),
      metrics{counter("polylog_received_bytes_total", "Octets read from clients",
                      label(options.protocol)),
              counter("polylog_sent_bytes_total", "Octets written to clients",
                      label(options.protocol))},
      openNow(gauge("polylog_connections", "Connections open now", label(options.protocol))),
      accepted(counter("polylog_connections_accepted_total", "Connections accepted",
                       label(options.protocol))),
      refusedOpen(refused(options.protocol, ",reason=\"max_connections\"")),
      refusedHandshake(refused(options.protocol, ",reason=\"handshakes\"")),
      refusedHere(refused(options.protocol, ",reason=\"listener_max_connections\"")),
      refusedRate(refused(options.protocol, ",reason=\"rate\"")),
      rate(options.maxConnectionRate) {}

Listener::Shared::~Shared() {
  closeAll(sockets);
}

void Listener::Worker::startAccepting(const std::shared_ptr<Shared>& self) {
  self_ = self;
  if (stopping_) return;
  for (const ListeningSocket& socket : shared_.sockets) {
    auto& made = acceptEvents_.emplace_back(
        std::make_unique<AcceptEvent>(AcceptEvent{.worker = this, .socket = &socket}));
    made->readable = event_new(
        dispatcher_.base(), socket.fd, EV_READ | EV_PERSIST,
        [](evutil_socket_t, short, void* event) {
          auto* accept = static_cast<AcceptEvent*>(event);
          accept->worker->onAcceptable(*accept->socket);
        },
        made.get());
  }
  watchAccepting(true);
}

void Listener::Worker::onAcceptable(const ListeningSocket& socket) {
  dispatcher_.noteAwake();
  for (int i = 0; i < kAcceptsPerRound; ++i) {
    SocketAddress peer;
    peer.length = sizeof peer.storage;
    int fd = accept4(socket.fd, peer.get(), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;  // another worker was quicker
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        return outOfDescriptors(errno);
      }
      continue;  // that one connection failed; others wait behind it
    }
    if (!shared_.admit(dispatcher_.clock().monotonicMicros())) {
      close(fd);
      continue;
    }
    shared_.toldNoDescriptors.store(false, std::memory_order_relaxed);
    size_t turn = shared_.next.fetch_add(1, std::memory_order_relaxed);
    Worker* target = shared_.workers[turn % shared_.workers.size()].get();
    Accepted accepted(self_.lock(), fd, peer, socket);
    if (target == this) {
      adopt(std::move(accepted));
    } else {
      target->dispatcher_.post(
          [target, moved = std::move(accepted)]() mutable { target->adopt(std::move(moved)); });
    }
  }
}

void Listener::Worker::adopt(Accepted accepted) {
  if (stopping_) return;
  if (!isUnixSocket(accepted.listening->bound)) setFlag(accepted.fd, IPPROTO_TCP, TCP_NODELAY);
  HostPort local = accepted.listening->bound;
  if (isWildcard(local)) {
    if (auto reached = boundAddress(accepted.fd)) local = *std::move(reached);
  }
  int fd = std::exchange(accepted.fd, -1);
  auto connection = std::make_shared<Connection>(
      dispatcher_, fd,
      Connection::Addresses{peerText(fd, accepted.peer, *accepted.listening), std::move(local)},
      shared_.options.limits, shared_.metrics, *this);
  connections_.emplace(connection.get(), connection);
  connection->start(shared_.makeSession);
}

void Listener::Worker::outOfDescriptors(int error) {
  if (!shared_.toldNoDescriptors.exchange(true)) {
    logError(
        fmt::format("{}: cannot accept connections: {}; raise the limit of open files (ulimit "
                    "-n) or lower limits.max_connections",
                    shared_.options.protocol, std::strerror(error)));
  }
  // Level-triggered, it would fire again and again.
  watchAccepting(false);
  if (resume_ == nullptr) resume_ = dispatcher_.makeTimer([this] { watchAccepting(true); });
  resume_->start(kPauseWithoutDescriptors);
}

void Listener::Worker::watchAccepting(bool on) {
  for (auto& each : acceptEvents_) {
    if (on) {
      event_add(each->readable, nullptr);
    } else {
      event_del(each->readable);
    }
  }
}

void Listener::Worker::stopAccepting() {
  stopping_ = true;
  resume_.reset();
  for (auto& each : acceptEvents_) event_free(each->readable);
  acceptEvents_.clear();
  // Nobody is left to accept: new clients are to be refused, not to wait in the backlog.
  if (shared_.accepting.fetch_sub(1) == 1) stopListening(shared_.sockets);
}

void Listener::Worker::stop(int64_t drainMicros) {
  if (stopping_) return;
  stopAccepting();
  drain_ = dispatcher_.makeTimer([this] { cut("the broker stopped"); });
  drain_->start(drainMicros);
  std::vector<std::shared_ptr<Connection>> all;
  all.reserve(connections_.size());
  for (auto& [key, connection] : connections_) all.push_back(connection);
  for (auto& connection : all) connection->shutdown();
  reportIfStopped();
}

void Listener::Worker::cut(std::string_view why) {
  if (!stopping_) stopAccepting();
  while (!connections_.empty()) {
    auto connection = connections_.begin()->second;
    connection->abort(why);
  }
  drain_.reset();
}

void Listener::Worker::onHandshakeDone(Connection& /*connection*/) {
  shared_.options.budget->inHandshake.fetch_sub(1);
}

void Listener::Worker::onConnectionGone(Connection& connection) {
  if (connections_.erase(&connection) == 0) return;
  shared_.leave(connection.inHandshake());
  reportIfStopped();
}

void Listener::Worker::reportIfStopped() {
  if (!stopping_ || reported_ || !connections_.empty()) return;
  reported_ = true;
  // From the loop, where nothing of this worker is on the stack: `done` may destroy the listener.
  dispatcher_.post([this, shared = self_.lock()] {
    drain_.reset();
    if (shared != nullptr && shared->running.fetch_sub(1) == 1) shared->onStopped();
  });
}

// ---- Listener

Result<std::unique_ptr<Listener>> Listener::open(ListenerOptions options,
                                                 const std::vector<EventDispatcher*>& workers,
                                                 SessionFactory makeSession) {
  auto addresses = resolve(options.address);
  if (!addresses) {
    return fail(addresses.error().kind,
                fmt::format("{}: {}", options.protocol, addresses.error().text));
  }
  auto sockets = listenOnAll(options.protocol, options.address, *addresses);
  if (!sockets) return std::unexpected(sockets.error());

  std::unique_ptr<Listener> listener(new Listener);
  auto shared = std::make_shared<Shared>(std::move(options));
  shared->sockets = *std::move(sockets);
  if (shared->options.budget == nullptr) {
    shared->options.budget = std::make_shared<ConnectionBudget>();
  }
  shared->makeSession = std::move(makeSession);
  for (EventDispatcher* each : workers) {
    shared->workers.push_back(std::make_unique<Worker>(*shared, *each));
  }
  shared->accepting = shared->running = workers.size();
  listener->bound_ = shared->sockets.front().bound;
  listener->shared_ = shared;
  for (auto& worker : shared->workers) {
    worker->dispatcher().post([shared, at = worker.get()] { at->startAccepting(shared); });
  }
  return listener;
}

Listener::~Listener() {
  if (shared_->running.load() == 0) return;
  for (auto& worker : shared_->workers) worker->cut("the broker stopped");
}

size_t Listener::connections() const {
  return shared_->connections.load(std::memory_order_relaxed);
}

void Listener::stop(int64_t drainMicros, std::function<void()> done) {
  shared_->onStopped = std::move(done);
  for (auto& worker : shared_->workers) {
    worker->dispatcher().post(
        [shared = shared_, at = worker.get(), drainMicros] { at->stop(drainMicros); });
  }
}

}  // namespace polylog
