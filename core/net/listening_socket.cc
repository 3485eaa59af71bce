#include "core/net/listening_socket.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace polylog {
namespace {

constexpr int kBacklog = 4096;
/// How often a free port is picked again when it's taken on the second address of a name.
constexpr int kPortAttempts = 16;

std::unexpected<Error> taken(const std::string& protocol, const std::string& where) {
  return fail(ErrorKind::kBusy,
              fmt::format("{}: {} is taken by another program; stop it, or choose another port "
                          "with --listen {}=HOST:PORT",
                          protocol, where, protocol));
}

std::unexpected<Error> failed(const std::string& protocol, const std::string& where, int code) {
  if (code == EADDRINUSE) return taken(protocol, where);
  return fail(code == EADDRNOTAVAIL || code == EAFNOSUPPORT ? ErrorKind::kNotFound : ErrorKind::kIo,
              fmt::format("{}: cannot listen on {}: {}; choose another address with --listen "
                          "{}=HOST:PORT",
                          protocol, where, std::strerror(code), protocol));
}

Result<ListeningSocket> listenOn(const std::string& protocol, const SocketAddress& address) {
  std::string where = toText(address.numeric());
  int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return failed(protocol, where, errno);
  // Old connections in TIME_WAIT don't hold the port; a live listener does.
  setFlag(fd, SOL_SOCKET, SO_REUSEADDR);
  setFlag(fd, SOL_SOCKET, SO_KEEPALIVE);  // inherited by what is accepted
  if (address.storage.ss_family == AF_INET6) {
    // [::] alone is for both families; beside an IPv4 socket of the same name each has its own.
    setFlag(fd, IPPROTO_IPV6, IPV6_V6ONLY, isWildcard(address.numeric()) ? 0 : 1);
  }
  if (bind(fd, address.get(), address.length) != 0 || listen(fd, kBacklog) != 0) {
    int code = errno;
    close(fd);
    return failed(protocol, where, code);
  }
  auto bound = boundAddress(fd);
  if (!bound) {
    close(fd);
    return std::unexpected(bound.error());
  }
  return ListeningSocket{fd, *std::move(bound), false};
}

/// Removes a socket's file that a program left behind which has ended (kill -9).
void removeStale(const std::string& path, const SocketAddress& address) {
  struct stat found {};
  if (lstat(path.c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) return;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  bool nobody = connect(fd, address.get(), address.length) != 0 && errno == ECONNREFUSED;
  close(fd);
  if (nobody) unlink(path.c_str());
}

Result<ListeningSocket> listenOnUnix(const std::string& protocol, const HostPort& wanted,
                                     const SocketAddress& address) {
  std::string path(unixPath(wanted));
  removeStale(path, address);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return failed(protocol, wanted.host, errno);
  if (bind(fd, address.get(), address.length) != 0) {
    int code = errno;
    close(fd);
    if (code == EADDRINUSE) {
      return fail(
          ErrorKind::kBusy,
          fmt::format("{}: {} is there already: stop the program that listens on it, remove "
                      "the file, or choose another path with --listen {}=unix:PATH",
                      protocol, path, protocol));
    }
    return fail(ErrorKind::kIo, fmt::format("{}: cannot make the socket {}: {}; choose a path in a "
                                            "directory that the broker may write to",
                                            protocol, path, std::strerror(code)));
  }
  if (listen(fd, kBacklog) != 0) {
    int code = errno;
    close(fd);
    unlink(path.c_str());
    return failed(protocol, wanted.host, code);
  }
  return ListeningSocket{fd, wanted, true};
}

}  // namespace

void setFlag(int fd, int level, int option, int value) {
  setsockopt(fd, level, option, &value, sizeof value);
}

Result<HostPort> boundAddress(int fd) {
  SocketAddress local;
  local.length = sizeof local.storage;
  if (getsockname(fd, local.get(), &local.length) != 0) {
    return fail(ErrorKind::kIo, std::strerror(errno));
  }
  return local.numeric();
}

void stopListening(std::vector<ListeningSocket>& sockets) {
  for (ListeningSocket& each : sockets) {
    ::shutdown(each.fd, SHUT_RDWR);
    // Once: it may be the next broker's, later.
    if (std::exchange(each.hasFile, false)) unlink(std::string(unixPath(each.bound)).c_str());
  }
}

void closeAll(std::vector<ListeningSocket>& sockets) {
  stopListening(sockets);
  for (ListeningSocket& each : sockets) close(each.fd);
  sockets.clear();
}

Result<std::vector<ListeningSocket>> listenOnAll(const std::string& protocol,
                                                 const HostPort& wanted,
                                                 const std::vector<SocketAddress>& addresses) {
  std::vector<ListeningSocket> sockets;
  if (isUnixSocket(wanted)) {
    auto socket = listenOnUnix(protocol, wanted, addresses.front());
    if (!socket) return std::unexpected(socket.error());
    sockets.push_back(*std::move(socket));
    return sockets;
  }
  Error lastError;
  for (int attempt = 0; attempt < kPortAttempts; ++attempt) {
    bool clash = false;
    for (SocketAddress address : addresses) {
      if (!sockets.empty()) address.setPort(sockets.front().bound.port);
      auto socket = listenOn(protocol, address);
      if (socket) {
        sockets.push_back(*std::move(socket));
        continue;
      }
      lastError = socket.error();
      if (lastError.kind == ErrorKind::kNotFound) continue;
      clash = lastError.kind == ErrorKind::kBusy && !sockets.empty();
      closeAll(sockets);
      break;
    }
    if (!sockets.empty()) return sockets;
    if (!clash || wanted.port != 0) break;
  }
  return std::unexpected(lastError);
}

}  // namespace polylog
