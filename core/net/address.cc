#include "core/net/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <charconv>
#include <cstddef>
#include <cstring>

namespace polylog {
namespace {

constexpr std::string_view kUnix = "unix:";

Result<std::vector<SocketAddress>> resolveUnix(const HostPort& address) {
  SocketAddress made;
  auto& to = reinterpret_cast<sockaddr_un&>(made.storage);
  std::string_view path = unixPath(address);
  if (path.size() >= sizeof to.sun_path) {
    return fail(ErrorKind::kInvalid,
                fmt::format("the path of {} is longer than the {} octets that a Unix-domain "
                            "socket's may have; choose a shorter one",
                            address.host, sizeof to.sun_path - 1));
  }
  to.sun_family = AF_UNIX;
  path.copy(to.sun_path, path.size());
  made.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return std::vector{made};
}

}  // namespace

Result<HostPort> parseHostPort(std::string_view text) {
  auto bad = [&] {
    return fail(
        ErrorKind::kInvalid,
        fmt::format("'{}' is no address; write HOST:PORT, as 127.0.0.1:1883 or [::1]:1883", text));
  };
  if (text.starts_with("unix:/") && text.find('\0') == std::string_view::npos) {
    return HostPort{std::string(text), 0};
  }
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return bad();
  std::string_view host = text.substr(0, colon);
  std::string_view port = text.substr(colon + 1);
  if (host.front() == '[') {
    if (host.size() < 3 || host.back() != ']') return bad();
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad();
  }
  HostPort address{std::string(host), 0};
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc() || end != port.data() + port.size() || port.empty()) return bad();
  return address;
}

std::string toText(const HostPort& address) {
  if (isUnixSocket(address)) return address.host;
  if (address.host.find(':') == std::string::npos) {
    return fmt::format("{}:{}", address.host, address.port);
  }
  return fmt::format("[{}]:{}", address.host, address.port);
}

bool isWildcard(const HostPort& address) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return v4.s_addr == INADDR_ANY;
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) return IN6_IS_ADDR_UNSPECIFIED(&v6) != 0;
  return false;
}

bool isLoopback(const HostPort& address) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6) != 0;
  return address.host == "localhost" || isUnixSocket(address);
}

bool isUnixSocket(const HostPort& address) {
  return address.host.starts_with(kUnix);
}

std::string_view unixPath(const HostPort& address) {
  return std::string_view(address.host).substr(kUnix.size());
}

void SocketAddress::setPort(uint16_t port) {
  if (storage.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(&storage)->sin_port = htons(port);
  }
}

HostPort SocketAddress::numeric() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, text, sizeof text);
    } else {
      inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    }
    return {text, ntohs(v6.sin6_port)};
  }
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
  inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
  return {text, ntohs(v4.sin_port)};
}

Result<std::vector<SocketAddress>> resolve(const HostPort& address) {
  if (isUnixSocket(address)) return resolveUnix(address);
  std::vector<SocketAddress> out;
  auto append = [&](const sockaddr* from, socklen_t length) {
    SocketAddress made;
    std::memcpy(&made.storage, from, length);
    made.length = length;
    made.setPort(address.port);
    out.push_back(made);
  };
  if (address.host == "localhost") {
    // By definition (RFC 6761), whatever the resolver is set to.
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    append(reinterpret_cast<sockaddr*>(&v4), sizeof v4);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = in6addr_loopback;
    append(reinterpret_cast<sockaddr*>(&v6), sizeof v6);
    return out;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  int code = getaddrinfo(address.host.c_str(), nullptr, &hints, &found);
  if (code != 0) {
    return fail(ErrorKind::kNotFound,
                fmt::format("cannot resolve '{}': {}; write an address of this machine",
                            address.host, gai_strerror(code)));
  }
  for (int family : {AF_INET, AF_INET6}) {
    for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
      if (each->ai_family == family) append(each->ai_addr, each->ai_addrlen);
    }
  }
  freeaddrinfo(found);
  return out;
}

}  // namespace polylog
