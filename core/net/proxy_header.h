// The PROXY protocol's header, versions 1 and 2, by which a load balancer tells whose connection it
// passes on (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt). Pure. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/base/bytes.h"
#include "core/net/transport.h"

namespace polylog {

/// The longest header that is taken; version 2 allows 64 KiB more of additions that nobody needs.
constexpr size_t kMaxProxyHeader = 2048;

struct ProxyHeader {
  enum class Outcome : uint8_t { kNeedMore, kHeader, kBad };
  Outcome outcome = Outcome::kNeedMore;
  size_t size = 0;  ///< octets of the header
  /// Whose connection it is and what it reached. Nothing if it is the proxy's own (a health
  /// check), or of a kind that has no address.
  std::optional<HostPort> source;
  std::optional<HostPort> destination;
  const char* why = "";  ///< if kBad
};

/// Reads the header at the front of `input`. Tells at once if that can't become one.
ProxyHeader readProxyHeader(BytesView input);

}  // namespace polylog
