#include "core/net/websocket_upgrade.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace polylog {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kMagic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
constexpr size_t kKeySize = 24;  // base64 of 16 octets

struct Header {
  std::string_view name;
  std::string_view value;
};

struct Request {
  std::string_view path;
  std::vector<Header> headers;
};

struct Refusal {
  int status;
  std::string why;
};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool sameWord(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

bool isTokenChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool isValueChar(char c) {
  auto octet = static_cast<unsigned char>(c);
  return c == '\t' || (octet >= 0x20 && octet != 0x7F);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Cuts the next line off the front of `text`, which ends in CRLF.
std::string_view takeLine(std::string_view& text) {
  size_t end = text.find(kLineEnd);
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end + kLineEnd.size());
  return line;
}

std::optional<Refusal> readRequestLine(std::string_view line, Request& request) {
  if (!line.starts_with("GET ")) return Refusal{405, "the method isn't GET"};
  line.remove_prefix(4);
  size_t space = line.find(' ');
  if (space == std::string_view::npos || line.substr(space + 1) != "HTTP/1.1") {
    return Refusal{400, "the request line isn't of HTTP/1.1"};
  }
  std::string_view target = line.substr(0, space);
  bool printable = std::ranges::all_of(target, [](char c) { return c > 0x20 && c < 0x7F; });
  if (!target.starts_with('/') || !printable) return Refusal{400, "the request target is no path"};
  request.path = target.substr(0, target.find('?'));
  return std::nullopt;
}

/// `text`: the header lines, each with its CRLF.
std::optional<Refusal> readHeaders(std::string_view text, Request& request) {
  while (!text.empty()) {
    std::string_view line = takeLine(text);
    size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 ||
        !std::ranges::all_of(line.substr(0, colon), isTokenChar) ||
        !std::ranges::all_of(line.substr(colon + 1), isValueChar)) {
      return Refusal{400, "a header line is malformed"};
    }
    if (request.headers.size() == kMaxUpgradeHeaders) return Refusal{431, "too many header lines"};
    request.headers.push_back({line.substr(0, colon), trimmed(line.substr(colon + 1))});
  }
  return std::nullopt;
}

size_t countOf(const Request& request, std::string_view name) {
  return static_cast<size_t>(std::ranges::count_if(
      request.headers, [&](const Header& header) { return sameWord(header.name, name); }));
}

/// The value of a header that is there; the first, if it is there more than once.
std::string_view valueOf(const Request& request, std::string_view name) {
  for (const Header& header : request.headers) {
    if (sameWord(header.name, name)) return header.value;
  }
  return {};
}

/// Whether a comma-separated list, over all headers of that name, has `wanted`.
bool lists(const Request& request, std::string_view name, std::string_view wanted, bool anyCase) {
  for (const Header& header : request.headers) {
    if (!sameWord(header.name, name)) continue;
    std::string_view rest = header.value;
    for (;;) {
      size_t comma = rest.find(',');
      std::string_view item = trimmed(rest.substr(0, comma));
      if (anyCase ? sameWord(item, wanted) : item == wanted) return true;
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return false;
}

bool isKey(std::string_view key) {
  auto isDigit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
  };
  return key.size() == kKeySize && key.ends_with("==") &&
         std::ranges::all_of(key.substr(0, kKeySize - 2), isDigit);
}

bool originMayConnect(const Request& request, const WebSocketOptions& options) {
  if (countOf(request, "Origin") == 0) return true;
  std::string_view origin = valueOf(request, "Origin");
  for (const std::string& each : options.origins) {
    if (each == "*" || sameWord(each, origin)) return true;
  }
  size_t host = origin.find("://");
  return countOf(request, "Origin") == 1 && host != std::string_view::npos &&
         sameWord(origin.substr(host + 3), valueOf(request, "Host"));
}

std::optional<Refusal> judge(const Request& request, const WebSocketOptions& options) {
  if (std::ranges::find(options.paths, request.path) == options.paths.end()) {
    return Refusal{404, "there is nothing at this path; websocket.paths has those that there are"};
  }
  if (countOf(request, "Host") != 1) return Refusal{400, "Host must be there once"};
  if (countOf(request, "Transfer-Encoding") > 0 ||
      (countOf(request, "Content-Length") > 0 && valueOf(request, "Content-Length") != "0")) {
    return Refusal{400, "the request has a body"};
  }
  if (!lists(request, "Upgrade", "websocket", true) ||
      !lists(request, "Connection", "upgrade", true)) {
    return Refusal{426, "this is a WebSocket; the request doesn't ask for one"};
  }
  if (countOf(request, "Sec-WebSocket-Version") != 1 ||
      valueOf(request, "Sec-WebSocket-Version") != "13") {
    return Refusal{426, "Sec-WebSocket-Version isn't 13"};
  }
  if (countOf(request, "Sec-WebSocket-Key") != 1 || !isKey(valueOf(request, "Sec-WebSocket-Key"))) {
    return Refusal{400, "Sec-WebSocket-Key isn't 16 octets in base64"};
  }
  // MQTT-6.0.0-3: the client must offer it.
  if (!lists(request, "Sec-WebSocket-Protocol", options.subprotocol, false)) {
    return Refusal{400,
                   fmt::format("Sec-WebSocket-Protocol doesn't offer `{}`", options.subprotocol)};
  }
  if (!originMayConnect(request, options)) {
    return Refusal{403,
                   "pages of this Origin may not connect; websocket.origins has those that may"};
  }
  return std::nullopt;
}

std::string acceptFor(std::string_view key) {
  std::string text(key);
  text += kMagic;
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
  std::array<unsigned char, 4 * ((EVP_MAX_MD_SIZE + 2) / 3) + 1> coded;
  int length = EVP_EncodeBlock(coded.data(), digest.data(), static_cast<int>(size));
  return {reinterpret_cast<char*>(coded.data()), static_cast<size_t>(length)};
}

const char* reasonOf(int status) {
  switch (status) {
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 426: return "Upgrade Required";
    case 431: return "Request Header Fields Too Large";
    default: return "Bad Request";
  }
}

Upgrade refuse(Refusal refusal) {
  Upgrade upgrade;
  upgrade.outcome = Upgrade::Outcome::kRefused;
  const char* more = "";
  if (refusal.status == 426) {
    more = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
  } else if (refusal.status == 405) {
    more = "Allow: GET\r\nConnection: close\r\n";
  } else {
    more = "Connection: close\r\n";
  }
  upgrade.response = fmt::format(
      "HTTP/1.1 {} {}\r\n{}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{}\n",
      refusal.status, reasonOf(refusal.status), more, refusal.why.size() + 1, refusal.why);
  upgrade.why =
      fmt::format("WebSocket: {} {}: {}", refusal.status, reasonOf(refusal.status), refusal.why);
  return upgrade;
}

}  // namespace

Upgrade readUpgrade(BytesView input, size_t limit, const WebSocketOptions& options) {
  // What is no GET of HTTP is seen at once, before there is a line to read.
  constexpr std::string_view kBegin = "GET /";
  if (input.substr(0, kBegin.size()) != kBegin.substr(0, input.size())) {
    return refuse({400, "this is a WebSocket, which a GET opens"});
  }
  size_t end = input.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (input.size() < limit) return {};
    return refuse({431, fmt::format("the request is longer than {} octets", limit)});
  }
  std::string_view text = input.substr(0, end + kLineEnd.size());
  Request request;
  auto refusal = readRequestLine(takeLine(text), request);
  if (!refusal) refusal = readHeaders(text, request);
  if (!refusal) refusal = judge(request, options);
  if (refusal) return refuse(*std::move(refusal));
  Upgrade upgrade;
  upgrade.outcome = Upgrade::Outcome::kAccepted;
  upgrade.used = end + 2 * kLineEnd.size();
  upgrade.response = fmt::format(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
      acceptFor(valueOf(request, "Sec-WebSocket-Key")), options.subprotocol);
  return upgrade;
}

}  // namespace polylog
