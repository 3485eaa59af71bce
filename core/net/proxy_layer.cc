#include "core/net/proxy_layer.h"

#include <fmt/format.h>

#include <utility>

#include "core/base/log.h"
#include "core/net/address.h"
#include "core/net/proxy_header.h"

namespace polylog {

SessionFactory proxiedSessions(SessionFactory inner) {
  auto upper = std::make_shared<const SessionFactory>(std::move(inner));
  return [upper](Transport& lower) { return std::make_unique<ProxyLayer>(lower, upper); };
}

size_t ProxyLayer::onBytes(const SharedBytes& input) {
  if (upper() != nullptr) return upper()->onBytes(input);
  size_t header = takeHeader(input.view());
  if (header == 0 || header == input.size() || !open() || paused()) return header;
  return header + upper()->onBytes(input.slice(header));
}

size_t ProxyLayer::takeHeader(BytesView input) {
  ProxyHeader header = readProxyHeader(input);
  if (header.outcome == ProxyHeader::Outcome::kNeedMore) return 0;
  if (header.outcome == ProxyHeader::Outcome::kBad) {
    std::string why = fmt::format("PROXY protocol: {}", header.why);
    logInfo(fmt::format("{}: {}", peer(), why));
    close(why);
    return 0;
  }
  if (header.source) peer_ = toText(*header.source);
  local_ = std::move(header.destination);
  openUpper();
  return header.size;
}

}  // namespace polylog
