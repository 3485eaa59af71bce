#include "core/net/connection.h"

#include <event2/event.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "core/base/metrics.h"
#include "core/event/event_dispatcher.h"

namespace polylog {
namespace {
constexpr size_t kPiecesPerWrite = 64;
constexpr size_t kMaxLingered = size_t{1024} * 1024;

bool wouldBlock(int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}
}  // namespace

Connection::Connection(EventDispatcher& dispatcher, int fd, Addresses addresses,
                       const ConnectionLimits& limits, const ConnectionMetrics& metrics,
                       Owner& owner)
    : dispatcher_(dispatcher),
      limits_(limits),
      metrics_(metrics),
      owner_(owner),
      addresses_(std::move(addresses)),
      fd_(fd) {
  readEvent_ = event_new(
      dispatcher_.base(), fd_, EV_READ | EV_PERSIST,
      [](evutil_socket_t, short, void* self) { static_cast<Connection*>(self)->onReadable(); },
      this);
  if (readEvent_ == nullptr) throw std::bad_alloc();
}

Connection::~Connection() {
  if (readEvent_ != nullptr) event_free(readEvent_);
  if (writeEvent_ != nullptr) event_free(writeEvent_);
  if (fd_ >= 0) ::close(fd_);
}

Dispatcher& Connection::dispatcher() {
  return dispatcher_;
}

void Connection::start(const SessionFactory& makeSession) {
  state_ = State::kOpen;
  session_ = makeSession(*this);
  if (state_ != State::kOpen) return;
  if (inHandshake_) startTimer(limits_.handshakeMicros);
  if (!paused_) watchReading(true);
}

void Connection::shutdown() {
  if (state_ != State::kOpen || toldShutdown_) return;
  toldShutdown_ = true;
  session_->onShutdown();
}

void Connection::abort(std::string_view why) {
  auto self = shared_from_this();
  if (state_ == State::kGone) return;
  if (state_ == State::kOpen) closeReason_ = why;
  output_.clear();
  state_ = State::kClosing;
  finish(false);
}

// ---- Transport

void Connection::send(BytesView bytes) {
  if (state_ != State::kOpen || peerClosed_ || bytes.empty()) return;
  output_.append(bytes);
  afterSend();
}

void Connection::send(SharedBytes bytes) {
  if (state_ != State::kOpen || peerClosed_ || bytes.empty()) return;
  output_.append(bytes);
  afterSend();
}

void Connection::afterSend() {
  if (output_.size() > limits_.highWatermark) congested_ = true;
  if (!watchingWrite_) scheduleRound();
}

void Connection::pauseReading(bool paused) {
  if (paused_ == paused) return;
  paused_ = paused;
  // The event stays until it fires in vain: short pauses cost no system call.
  if (paused || state_ != State::kOpen) return;
  if (!input_.empty()) {
    redeliver_ = true;
    scheduleRound();
  }
  watchReading(true);
}

void Connection::close(std::string_view why) {
  if (state_ != State::kOpen) return;
  state_ = State::kClosing;
  closeReason_ = why;
  watchReading(false);
  startTimer(limits_.closeMicros);
  scheduleRound();
}

void Connection::handshakeDone() {
  if (!inHandshake_) return;
  inHandshake_ = false;
  if (state_ == State::kOpen) timer_.reset();
  owner_.onHandshakeDone(*this);
}

// ---- Reading

void Connection::onReadable() {
  dispatcher_.noteAwake();
  auto self = shared_from_this();
  if (state_ == State::kLingering) return drop();
  if (state_ != State::kOpen || paused_) return watchReading(false);
  size_t budget = limits_.readPerRound;
  while (state_ == State::kOpen && !paused_ && budget > 0) {
    if (!readOnce(budget)) break;
  }
}

size_t Connection::inputLimit() const {
  return inHandshake_ ? limits_.handshakeInput : limits_.maxInput;
}

bool Connection::withinLimit() {
  size_t wanted = input_.empty() ? 0 : session_->wanted();
  if (wanted <= inputLimit() && input_.size() < inputLimit()) return true;
  close(fmt::format("{} of {} octets, over the limit of {}", inHandshake_ ? "handshake" : "packet",
                    std::max(wanted, input_.size()), inputLimit()));
  return false;
}

bool Connection::readOnce(size_t& budget) {
  if (!withinLimit()) return false;
  InputBuffer::Room room = input_.room(input_.empty() ? 0 : session_->wanted(), inputLimit());
  ssize_t got = recv(fd_, room.data, room.size, 0);
  if (got <= 0) {
    int error = got < 0 ? errno : 0;
    input_.releaseIdle();
    if (error == EINTR) return true;
    if (wouldBlock(error)) return false;
    peerClosed_ = error != 0 || peerClosed_;
    sawEnd_ = true;
    if (peerClosed_) output_.clear();
    close(error == 0 ? "closed by the peer" : std::strerror(error));
    return false;
  }
  auto count = static_cast<size_t>(got);
  metrics_.received.add(got);
  budget -= std::min(budget, count);
  input_.filled(count);
  deliver();
  // A short read has emptied the kernel's buffer, most likely; the event tells if not.
  return count == room.size;
}

void Connection::deliver() {
  size_t used = session_->onBytes(input_.unread());
  input_.consume(std::min(used, input_.size()));
  // At once: the octet that would make it too large may never come.
  if (state_ == State::kOpen && !paused_) withinLimit();
}

void Connection::drop() {
  std::array<char, 4096> scratch;
  for (;;) {
    ssize_t got = recv(fd_, scratch.data(), scratch.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && wouldBlock(errno)) return;
    if (got <= 0) return gone();
    lingered_ += static_cast<size_t>(got);
    if (lingered_ > kMaxLingered) return gone();
  }
}

// ---- Writing

void Connection::scheduleRound() {
  if (roundScheduled_) return;
  roundScheduled_ = true;
  dispatcher_.defer([self = shared_from_this()] { self->endOfRound(); });
}

void Connection::endOfRound() {
  roundScheduled_ = false;
  if (std::exchange(redeliver_, false) && state_ == State::kOpen && !paused_) deliver();
  if (state_ != State::kOpen && state_ != State::kClosing) return;
  if (!watchingWrite_) flush();
  afterOutput();
}

void Connection::onWritable() {
  dispatcher_.noteAwake();
  auto self = shared_from_this();
  flush();
  afterOutput();
}

void Connection::flush() {
  while (!output_.empty()) {
    std::array<iovec, kPiecesPerWrite> pieces;
    msghdr header{};
    header.msg_iov = pieces.data();
    header.msg_iovlen = output_.gather(pieces.data(), pieces.size());
    ssize_t sent = sendmsg(fd_, &header, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (wouldBlock(errno)) return watchWriting(true);
      return onBrokenPipe(errno);
    }
    metrics_.sent.add(sent);
    output_.consume(static_cast<size_t>(sent));
  }
  watchWriting(false);
}

void Connection::onBrokenPipe(int error) {
  output_.clear();
  watchWriting(false);
  peerClosed_ = true;
  // What the peer sent before it went is read to its end, where reading finds the error too.
  if (paused_) close(std::strerror(error));
}

void Connection::afterOutput() {
  input_.releaseIdle();
  if (congested_ && output_.size() <= limits_.lowWatermark) {
    congested_ = false;
    if (state_ == State::kOpen) session_->onDrained();
  }
  if (state_ == State::kClosing && output_.empty()) finish(!peerClosed_);
}

// ---- The end

void Connection::onTimer() {
  auto self = shared_from_this();
  if (state_ == State::kOpen) {
    close(fmt::format("no handshake within {} s",
                      static_cast<double>(limits_.handshakeMicros) / 1'000'000));
  } else if (state_ == State::kClosing) {
    output_.clear();
    peerClosed_ = true;
    finish(false);
  } else if (state_ == State::kLingering) {
    gone();
  }
}

void Connection::finish(bool linger) {
  state_ = State::kLingering;
  timer_.reset();
  if (session_ != nullptr) {
    session_->onClosed(closeReason_);
    session_.reset();
  }
  input_ = InputBuffer();
  watchReading(false);
  watchWriting(false);
  // With the peer's end seen there is nothing to wait for.
  if (!linger || sawEnd_ || ::shutdown(fd_, SHUT_WR) != 0) return gone();
  startTimer(limits_.lingerMicros);
  watchReading(true);
}

void Connection::gone() {
  if (state_ == State::kGone) return;
  state_ = State::kGone;
  timer_.reset();
  event_free(std::exchange(readEvent_, nullptr));
  if (writeEvent_ != nullptr) event_free(std::exchange(writeEvent_, nullptr));
  ::close(std::exchange(fd_, -1));
  owner_.onConnectionGone(*this);
}

// ---- Events

void Connection::watchReading(bool on) {
  if (watchingRead_ == on) return;
  watchingRead_ = on;
  if (on) {
    event_add(readEvent_, nullptr);
  } else {
    event_del(readEvent_);
  }
}

void Connection::watchWriting(bool on) {
  if (watchingWrite_ == on) return;
  watchingWrite_ = on;
  if (!on) {
    event_del(writeEvent_);
    return;
  }
  if (writeEvent_ == nullptr) {
    writeEvent_ = event_new(
        dispatcher_.base(), fd_, EV_WRITE | EV_PERSIST,
        [](evutil_socket_t, short, void* self) { static_cast<Connection*>(self)->onWritable(); },
        this);
    if (writeEvent_ == nullptr) throw std::bad_alloc();
  }
  event_add(writeEvent_, nullptr);
}

void Connection::startTimer(int64_t micros) {
  if (timer_ == nullptr) timer_ = dispatcher_.makeTimer([this] { onTimer(); });
  timer_->start(micros);
}

}  // namespace polylog
