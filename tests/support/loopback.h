// Plain blocking client sockets for tests of listeners and connections.
#pragma once

#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/net/address.h"

namespace polylog::test {

/// A blocking TCP client; reads give up after ten seconds, so that a failing test ends.
class LoopbackClient {
 public:
  explicit LoopbackClient(const HostPort& address, int receiveBuffer = 0) {
    auto resolved = resolve(address);
    if (!resolved) return;
    const SocketAddress& to = resolved->front();
    fd_ = socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    timeval patience{10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (receiveBuffer > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, sizeof receiveBuffer);
    }
    connected_ = connect(fd_, to.get(), to.length) == 0;
  }
  ~LoopbackClient() { close(); }
  LoopbackClient(const LoopbackClient&) = delete;
  LoopbackClient& operator=(const LoopbackClient&) = delete;

  bool connected() const { return connected_; }
  int descriptor() const { return fd_; }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  /// Waits until the other side's kernel has all that was sent (10 s at most).
  bool allArrived() {
    for (int i = 0; i < 10'000; ++i) {
      int waiting = 0;
      if (ioctl(fd_, SIOCOUTQ, &waiting) == 0 && waiting == 0) return true;
      usleep(1000);
    }
    return false;
  }

  /// Exactly `size` octets, or fewer if the connection ends before.
  std::string read(size_t size) {
    std::string out(size, '\0');
    size_t have = 0;
    while (have < size) {
      ssize_t got = recv(fd_, out.data() + have, size - have, 0);
      if (got <= 0) {
        ended_ = got == 0 || errno == ECONNRESET;
        break;
      }
      have += static_cast<size_t>(got);
    }
    out.resize(have);
    return out;
  }
  /// Everything until the other side closes; ended() tells whether it did in time.
  std::string readToEnd() {
    std::string out;
    while (!ended_) {
      std::string part = read(size_t{64} * 1024);
      out += part;
      if (part.empty()) break;
    }
    return out;
  }
  bool ended() const { return ended_; }

  void finishSending() { ::shutdown(fd_, SHUT_WR); }
  /// Closes with a reset instead of a farewell.
  void reset() {
    linger hard{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
  bool connected_ = false;
  bool ended_ = false;
};

}  // namespace polylog::test
