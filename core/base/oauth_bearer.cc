#include "core/base/oauth_bearer.h"

#include <algorithm>
#include <cctype>

namespace polylog {
namespace {

constexpr char kSeparator = '\x01';

/// What is in front of `end`, which goes too; nothing if it is not there.
std::optional<BytesView> takeUpTo(BytesView& text, char end) {
  const size_t at = text.find(end);
  if (at == BytesView::npos) return std::nullopt;
  BytesView part = text.substr(0, at);
  text.remove_prefix(at + 1);
  return part;
}

bool isBearer(BytesView scheme) {
  constexpr BytesView kBearer = "bearer";
  return std::ranges::equal(scheme, kBearer,
                            [](unsigned char a, char b) { return std::tolower(a) == b; });
}

bool isTokenOctet(unsigned char octet) {
  return std::isalnum(octet) != 0 || octet == '-' || octet == '_' || octet == '.';
}

/// RFC 6750, 2.1, with the characters of a JWS.
std::optional<BytesView> bearerToken(BytesView value) {
  auto scheme = takeUpTo(value, ' ');
  if (!scheme || !isBearer(*scheme)) return std::nullopt;
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  if (value.empty() || !std::ranges::all_of(value, isTokenOctet)) return std::nullopt;
  return value;
}

/// RFC 5801, 4: a name in which `,` and `=` are written =2C and =3D.
std::optional<std::string> saslName(BytesView text) {
  std::string out;
  while (!text.empty()) {
    const BytesView escape = text.substr(0, 3);
    const bool escaped = escape == "=2C" || escape == "=3D";
    if (text.front() == '=' && !escaped) return std::nullopt;
    out += !escaped ? text.front() : escape == "=2C" ? ',' : '=';
    text.remove_prefix(escaped ? 3 : 1);
  }
  return out;
}

}  // namespace

std::optional<BearerResponse> parseBearer(BytesView message) {
  BearerResponse out;
  const auto binding = takeUpTo(message, ',');
  const auto as = binding ? takeUpTo(message, ',') : std::nullopt;
  if (!as || *binding != "n") return std::nullopt;
  if (!as->empty()) {
    auto name = as->starts_with("a=") ? saslName(as->substr(2)) : std::nullopt;
    if (!name) return std::nullopt;
    out.as = std::move(*name);
  }
  if (message.empty() || message.front() != kSeparator) return std::nullopt;
  message.remove_prefix(1);
  while (!message.empty() && message.front() != kSeparator) {
    auto pair = takeUpTo(message, kSeparator);
    auto key = pair ? takeUpTo(*pair, '=') : std::nullopt;
    if (!key) return std::nullopt;
    if (*key != "auth") continue;
    auto token = bearerToken(*pair);
    if (!token || !out.token.empty()) return std::nullopt;
    out.token = *token;
  }
  if (message != BytesView(&kSeparator, 1) || out.token.empty()) return std::nullopt;
  return out;
}

}  // namespace polylog
