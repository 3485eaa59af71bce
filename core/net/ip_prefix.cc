#include "core/net/ip_prefix.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace polylog {
namespace {

constexpr uint8_t kMapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
constexpr uint8_t kMappedBits = 96;

bool isMapped(const IpPrefix& prefix) {
  return prefix.bits >= kMappedBits &&
         std::equal(std::begin(kMapped), std::end(kMapped), prefix.octets.begin());
}

}  // namespace

std::optional<IpPrefix> IpPrefix::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string address(text.substr(0, slash));
  IpPrefix out;
  uint8_t most = 128;
  in_addr v4{};
  if (inet_pton(AF_INET, address.c_str(), &v4) == 1) {
    std::copy(std::begin(kMapped), std::end(kMapped), out.octets.begin());
    const auto* from = reinterpret_cast<const uint8_t*>(&v4);
    std::copy(from, from + sizeof v4, out.octets.begin() + std::size(kMapped));
    most = 32;
  } else if (inet_pton(AF_INET6, address.c_str(), out.octets.data()) != 1) {
    return std::nullopt;
  }
  if (slash == std::string_view::npos) return out;
  const std::string_view length = text.substr(slash + 1);
  uint8_t bits = 0;
  auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), bits);
  if (error != std::errc() || end != length.data() + length.size() || bits > most) {
    return std::nullopt;
  }
  IpPrefix prefix = out.shortened(static_cast<uint8_t>(bits + 128 - most));
  if (prefix.octets != out.octets) return std::nullopt;
  return prefix;
}

IpPrefix IpPrefix::shortened(uint8_t count) const {
  IpPrefix out = *this;
  out.bits = std::min(bits, count);
  for (size_t i = 0; i < out.octets.size(); ++i) {
    const int kept = std::clamp(out.bits - static_cast<int>(i) * 8, 0, 8);
    out.octets[i] = static_cast<uint8_t>(out.octets[i] & (0xFF00U >> kept));
  }
  return out;
}

std::string IpPrefix::text() const {
  char buffer[INET6_ADDRSTRLEN] = {};
  const bool v4 = isMapped(*this);
  inet_ntop(v4 ? AF_INET : AF_INET6, octets.data() + (v4 ? std::size(kMapped) : 0), buffer,
            sizeof buffer);
  std::string out = buffer;
  if (bits < 128) out += "/" + std::to_string(v4 ? bits - kMappedBits : bits);
  return out;
}

}  // namespace polylog
