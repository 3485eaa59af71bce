// The HTTP request that opens a WebSocket (RFC 6455, section 4), read strictly, and its answer.
// Pure: octets in, octets out. Any thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/base/bytes.h"

namespace polylog {

struct WebSocketOptions {
  /// Where the WebSocket is; a query behind it is passed over.
  std::vector<std::string> paths{"/mqtt", "/"};
  /// Web pages that may connect besides those from the host that they connect to, as browsers say
  /// it in `Origin` ("https://app.example.org"); "*" = any. Programs send none and always may.
  std::vector<std::string> origins;
  /// What the client must offer.
  std::string subprotocol = "mqtt";
};

/// Header lines beyond this are refused.
constexpr size_t kMaxUpgradeHeaders = 64;

struct Upgrade {
  enum class Outcome : uint8_t { kNeedMore, kAccepted, kRefused };
  Outcome outcome = Outcome::kNeedMore;
  /// Octets of the request, if accepted.
  size_t used = 0;
  /// What to send, if not kNeedMore.
  std::string response;
  /// Why it was refused, for the log.
  std::string why;
};

/// Reads the request at the front of `input`, which may be `limit` octets long at most; at the
/// limit without its end it is refused.
Upgrade readUpgrade(BytesView input, size_t limit, const WebSocketOptions& options);

}  // namespace polylog
