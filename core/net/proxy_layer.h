// The PROXY protocol between a connection and its session (core/net/layer.h): the header goes
// first, then everything passes through as it is. The session is made when the header has come, and
// sees the addresses that it tells as its own. Only for listeners that nobody but the proxy
// reaches: whoever does can claim any address.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/net/layer.h"

namespace polylog {

/// Wraps `inner` so that connections must begin with a PROXY header.
SessionFactory proxiedSessions(SessionFactory inner);

class ProxyLayer final : public Layer {
 public:
  using Layer::Layer;

  size_t onBytes(const SharedBytes& input) override;
  size_t wanted() const override { return upper() == nullptr ? 0 : upper()->wanted(); }

  const std::string& peer() const override { return peer_ ? *peer_ : Layer::peer(); }
  const HostPort& local() const override { return local_ ? *local_ : Layer::local(); }

 private:
  /// Returns how many octets of `input` the header is; 0 if it isn't there yet or bad.
  size_t takeHeader(BytesView input);

  std::optional<std::string> peer_;
  std::optional<HostPort> local_;
};

}  // namespace polylog
