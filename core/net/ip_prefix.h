// An IP address, or all that begin as it does ("10.0.0.0/8", "2001:db8::/32"). IPv4 addresses are
// the IPv6 ones that they are mapped into. Pure, any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace polylog {

struct IpPrefix {
  std::array<uint8_t, 16> octets{};  ///< zero behind the prefix
  uint8_t bits = 128;

  /// Nothing for what is none, or whose octets behind the prefix aren't zero.
  static std::optional<IpPrefix> parse(std::string_view text);
  /// The first `count` bits of it.
  IpPrefix shortened(uint8_t count) const;
  /// As people write it, in one form each.
  std::string text() const;
  auto operator<=>(const IpPrefix&) const = default;
};

}  // namespace polylog
