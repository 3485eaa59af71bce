// Addresses as people write them and as the kernel wants them. Pure functions but resolve(), which
// may ask the system's resolver and is for start-up only. Any thread.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/net/transport.h"

namespace polylog {

/// Splits "127.0.0.1:1883", "localhost:0" or "[::1]:9092", and takes "unix:/run/polylog.sock" as
/// the host that it is. The error names the text and the form.
Result<HostPort> parseHostPort(std::string_view text);
/// The inverse: brackets around an IPv6 address, no port with a Unix-domain socket.
std::string toText(const HostPort& address);
/// True for 0.0.0.0 and ::, which mean every address of the machine and are none a client can use.
bool isWildcard(const HostPort& address);
/// True for 127.0.0.0/8, ::1, `localhost` and Unix-domain sockets, which only this machine reaches.
bool isLoopback(const HostPort& address);
/// True for a Unix-domain socket, "unix:/its/path".
bool isUnixSocket(const HostPort& address);
/// The path of a Unix-domain socket.
std::string_view unixPath(const HostPort& address);

/// A socket address with its length.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  void setPort(uint16_t port);
  /// In numbers; an IPv4 address mapped into IPv6 as plain IPv4. Not for Unix-domain sockets.
  HostPort numeric() const;
};

/// Every address that `address` names, IPv4 first: `localhost` is both 127.0.0.1 and ::1. A
/// Unix-domain socket is one address.
Result<std::vector<SocketAddress>> resolve(const HostPort& address);

}  // namespace polylog
