#include "core/net/connector.h"

#include <event2/event.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "core/event/event_dispatcher.h"

namespace polylog {

// ---- names

struct Resolver::Shared {
  struct Question {
    HostPort address;
    EventDispatcher* dispatcher;
    Done done;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Question> questions;  // guarded by mutex
  bool stopped = false;            // guarded by mutex

  void run();
};

void Resolver::Shared::run() {
  std::unique_lock lock(mutex);
  for (;;) {
    changed.wait(lock, [this] { return stopped || !questions.empty(); });
    if (stopped) return;
    Question question = std::move(questions.front());
    questions.pop_front();
    lock.unlock();
    auto found = polylog::resolve(question.address);
    if (!found) {
      found = fail(found.error().kind,
                   fmt::format("the name `{}` can't be resolved: check it, and the name servers of "
                               "this machine",
                               question.address.host));
    }
    lock.lock();
    if (stopped) return;
    // With the lock: the dispatcher lives as long as nobody has stopped this.
    question.dispatcher->post([done = std::move(question.done),
                               found = std::move(found)]() mutable { done(std::move(found)); });
  }
}

Resolver::Resolver() : shared_(std::make_shared<Shared>()) {
  std::thread([shared = shared_] { shared->run(); }).detach();
}

Resolver::~Resolver() {
  std::deque<Shared::Question> dropped;
  std::lock_guard lock(shared_->mutex);
  shared_->stopped = true;
  dropped.swap(shared_->questions);
  shared_->changed.notify_all();
}

void Resolver::resolve(HostPort address, EventDispatcher& dispatcher, Done done) {
  std::lock_guard lock(shared_->mutex);
  shared_->questions.push_back({std::move(address), &dispatcher, std::move(done)});
  shared_->changed.notify_all();
}

// ---- sockets

struct Connector::Attempt {
  Attempt(EventDispatcher& loop, const SocketAddress& to, std::string called, Done then)
      : dispatcher(loop), address(to), name(std::move(called)), done(std::move(then)) {}
  ~Attempt() {
    if (event != nullptr) event_free(event);
    if (fd >= 0) ::close(fd);
  }
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  bool begin();
  void watch(int64_t timeoutMicros, const std::shared_ptr<Attempt>& self);
  void onEvent(short what);
  void finish(int error);
  void succeed();

  EventDispatcher& dispatcher;
  const SocketAddress address;
  const std::string name;
  Done done;
  int fd = -1;
  ::event* event = nullptr;
  int failed = 0;  ///< errno of what failed at once
};

/// False: it has failed already.
bool Connector::Attempt::begin() {
  fd = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    failed = errno;
    return false;
  }
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(fd, address.get(), address.length) == 0 || errno == EINPROGRESS) return true;
  failed = errno;
  return false;
}

void Connector::Attempt::watch(int64_t timeoutMicros, const std::shared_ptr<Attempt>& self) {
  if (begin()) {
    event = event_new(
        dispatcher.base(), fd, EV_WRITE,
        [](evutil_socket_t, short what, void* attempt) {
          static_cast<Attempt*>(attempt)->onEvent(what);
        },
        this);
    timeval wait{timeoutMicros / 1'000'000, timeoutMicros % 1'000'000};
    if (event != nullptr && event_add(event, &wait) == 0) return;
    failed = ENOMEM;
  }
  dispatcher.defer([weak = std::weak_ptr(self)] {
    if (auto attempt = weak.lock()) attempt->finish(attempt->failed);
  });
}

void Connector::Attempt::onEvent(short what) {
  dispatcher.noteAwake();
  int error = ETIMEDOUT;
  if ((what & EV_TIMEOUT) == 0) {
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  }
  finish(error);
}

void Connector::Attempt::finish(int error) {
  if (error == 0) return succeed();
  Done then = std::move(done);
  then(fail(ErrorKind::kIo, fmt::format("can't connect to {}: {}", name, std::strerror(error))));
}

void Connector::Attempt::succeed() {
  SocketAddress ours;
  ours.length = sizeof ours.storage;
  Connected connected;
  if (getsockname(fd, ours.get(), &ours.length) == 0) connected.local = ours.numeric();
  connected.peer = toText(address.numeric());
  connected.fd = std::exchange(fd, -1);
  event_free(std::exchange(event, nullptr));
  Done then = std::move(done);
  then(std::move(connected));
}

Connector::Connector(EventDispatcher& dispatcher, const SocketAddress& address, std::string name,
                     int64_t timeoutMicros, Done done)
    : attempt_(std::make_shared<Attempt>(dispatcher, address, std::move(name), std::move(done))) {
  attempt_->watch(timeoutMicros, attempt_);
}

Connector::~Connector() = default;

}  // namespace polylog
