// Topic aliases towards one client (MQTT 5, 3.3.2.3.4): which names it has been given an alias for
// on this connection. They are given in the order in which names are first sent; once there are as
// many as the client takes, every so many names without one, the alias of the name that hasn't been
// sent for the longest is given anew: names that come again keep theirs, names that come once don't
// drive them out. On the connection's thread; made when a name is first sent, so idle connections
// have none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/bytes.h"

namespace polylog::mqtt {

class OutboundAliases {
 public:
  /// `most`: 1 or more.
  explicit OutboundAliases(uint16_t most) : most_(most) {}

  /// Whether an alias saves octets, and the name isn't too long to be kept.
  static bool worthwhile(BytesView name);

  /// The alias of a name; 0 = it has none.
  uint16_t find(BytesView name);
  /// The alias that a name without one is to be given; 0 = none. It is the name's from here on:
  /// what tells the client so must go out before anything else does.
  uint16_t give(BytesView name);

 private:
  struct Given {
    std::string name;
    uint64_t lastSent = 0;
  };

  size_t longestUnsent() const;

  const uint16_t most_;
  std::vector<size_t> hashes_;  ///< of the names, to look through quickly
  std::vector<Given> given_;    ///< by alias - 1
  uint64_t sent_ = 0;
  uint32_t misses_ = 0;  ///< names without an alias since the last was given anew
};

}  // namespace polylog::mqtt
