#include "core/net/proxy_header.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>

#include "core/net/address.h"

namespace polylog {
namespace {

using namespace std::string_view_literals;
using Outcome = ProxyHeader::Outcome;

constexpr std::string_view kBegin1 = "PROXY ";
constexpr size_t kMaxLine1 = 107;  // with its CRLF, as version 1 says
constexpr std::string_view kBegin2 = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr size_t kFixed2 = 16;
constexpr size_t kAddresses4 = 12;
constexpr size_t kAddresses6 = 36;

ProxyHeader bad(const char* why) {
  ProxyHeader header;
  header.outcome = Outcome::kBad;
  header.why = why;
  return header;
}

/// The text up to the next space, which goes too; all of it if there is none.
std::string_view takeWord(std::string_view& text) {
  size_t space = text.find(' ');
  std::string_view word = text.substr(0, space);
  text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  return word;
}

std::optional<uint16_t> portOf(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  bool whole = error == std::errc() && end == text.data() + text.size() && !text.empty();
  return whole && (text == "0" || text[0] != '0') ? std::optional(port) : std::nullopt;
}

HostPort addressOf(int family, BytesView octets, uint16_t port) {
  SocketAddress address;
  address.storage.ss_family = static_cast<sa_family_t>(family);
  if (family == AF_INET) {
    std::memcpy(&reinterpret_cast<sockaddr_in&>(address.storage).sin_addr, octets.data(), 4);
  } else {
    std::memcpy(&reinterpret_cast<sockaddr_in6&>(address.storage).sin6_addr, octets.data(), 16);
  }
  address.setPort(port);
  return address.numeric();
}

std::optional<HostPort> addressOf(int family, std::string_view host, std::string_view port) {
  std::array<char, sizeof(in6_addr)> octets;
  auto number = portOf(port);
  if (!number || inet_pton(family, std::string(host).c_str(), octets.data()) != 1) {
    return std::nullopt;
  }
  return addressOf(family, {octets.data(), octets.size()}, *number);
}

ProxyHeader read1(BytesView input) {
  size_t end = input.substr(0, kMaxLine1).find("\r\n");
  if (end == std::string_view::npos) {
    if (input.size() >= kMaxLine1) return bad("a version 1 header without its end");
    return {};
  }
  ProxyHeader header;
  header.outcome = Outcome::kHeader;
  header.size = end + 2;
  std::string_view line = input.substr(kBegin1.size(), end - kBegin1.size());
  if (line.find('\0') != std::string_view::npos) return bad("a NUL in a version 1 header");
  std::string_view kind = takeWord(line);
  if (kind == "UNKNOWN") return header;
  if (kind != "TCP4" && kind != "TCP6") return bad("a version 1 header of no known protocol");
  int family = kind == "TCP4" ? AF_INET : AF_INET6;
  std::string_view source = takeWord(line);
  std::string_view destination = takeWord(line);
  std::string_view sourcePort = takeWord(line);
  header.source = addressOf(family, source, sourcePort);
  header.destination = addressOf(family, destination, line);
  if (!header.source || !header.destination) {
    return bad("a version 1 header with malformed addresses");
  }
  return header;
}

uint16_t number16(BytesView input, size_t at) {
  return static_cast<uint16_t>(static_cast<unsigned char>(input[at]) << 8 |
                               static_cast<unsigned char>(input[at + 1]));
}

ProxyHeader read2(BytesView input) {
  if (input.size() < kFixed2) return {};
  auto versionAndCommand = static_cast<unsigned char>(input[12]);
  auto kind = static_cast<unsigned char>(input[13]);
  if (versionAndCommand != 0x20 && versionAndCommand != 0x21) {
    return bad("a version 2 header of another version or command");
  }
  bool own = versionAndCommand == 0x20;  // the proxy's own connection: addresses don't count
  size_t length = number16(input, 14);
  if (kFixed2 + length > kMaxProxyHeader) return bad("a version 2 header that is too long");
  size_t family = kind >> 4;
  bool stream = (kind & 0x0FU) <= 1;
  if (!own && (family > 3 || !stream)) {
    return bad("a version 2 header of no known kind of connection");
  }
  size_t needed = family == 1 ? kAddresses4 : family == 2 ? kAddresses6 : 0;
  if (!own && length < needed) return bad("a version 2 header too short for its addresses");
  if (input.size() < kFixed2 + length) return {};
  ProxyHeader header;
  header.outcome = Outcome::kHeader;
  header.size = kFixed2 + length;
  if (own || needed == 0) return header;
  size_t width = family == 1 ? 4 : 16;
  int af = family == 1 ? AF_INET : AF_INET6;
  BytesView addresses = input.substr(kFixed2, needed);
  header.source = addressOf(af, addresses.substr(0, width), number16(addresses, 2 * width));
  header.destination =
      addressOf(af, addresses.substr(width, width), number16(addresses, 2 * width + 2));
  return header;
}

}  // namespace

ProxyHeader readProxyHeader(BytesView input) {
  if (input.empty()) return {};
  std::string_view begin = input[0] == kBegin1[0] ? kBegin1 : kBegin2;
  size_t seen = std::min(input.size(), begin.size());
  if (input.substr(0, seen) != begin.substr(0, seen)) return bad("no PROXY header");
  if (seen < begin.size()) return {};
  return begin == kBegin1 ? read1(input) : read2(input);
}

}  // namespace polylog
