#include "core/base/scram_exchange.h"

#include <algorithm>
#include <utility>

namespace polylog::scram {
namespace {

constexpr size_t kNonceBytes = 18;

std::unexpected<Error> malformed(const char* what) {
  return fail(ErrorKind::kInvalid, std::string("malformed SCRAM message: ") + what);
}

/// "n=value" off the front, up to the next comma; nothing if the letter is another.
std::optional<BytesView> take(BytesView& rest, char letter) {
  if (rest.size() < 2 || rest[0] != letter || rest[1] != '=') return std::nullopt;
  size_t end = std::min(rest.find(','), rest.size());
  BytesView value = rest.substr(2, end - 2);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return value;
}

/// A saslname (RFC 5802 section 7).
std::optional<std::string> nameOf(BytesView text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\0') return std::nullopt;
    if (text[i] != '=') {
      out.push_back(text[i]);
      continue;
    }
    BytesView escaped = text.substr(i, 3);
    if (escaped != "=2C" && escaped != "=3D") return std::nullopt;
    out.push_back(escaped == "=2C" ? ',' : '=');
    i += 2;
  }
  if (out.empty()) return std::nullopt;
  return out;
}

/// Printable ASCII but for the comma, and at least one.
bool isNonce(BytesView text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

Result<ClientFirst> parseClientFirst(BytesView message) {
  if (message.size() > kMaxMessage) return malformed("too long");
  ClientFirst out;
  if (message.starts_with("p=")) {
    return fail(ErrorKind::kUnsupported, "SCRAM with channel binding is not offered");
  }
  if (!message.starts_with("n,") && !message.starts_with("y,")) return malformed("its beginning");
  BytesView rest = message.substr(2);
  size_t comma = rest.find(',');
  if (comma == BytesView::npos) return malformed("its beginning");
  BytesView authorized = rest.substr(0, comma);
  rest.remove_prefix(comma + 1);
  out.gs2Header = message.substr(0, message.size() - rest.size());
  out.bare = rest;
  if (rest.starts_with("m=")) {
    return fail(ErrorKind::kUnsupported, "a SCRAM extension that is not known");
  }
  auto user = take(rest, 'n');
  auto name = user ? nameOf(*user) : std::nullopt;
  if (!name) return malformed("the user's name");
  out.user = std::move(*name);
  if (!authorized.empty()) {
    auto as = authorized.starts_with("a=") ? nameOf(authorized.substr(2)) : std::nullopt;
    if (!as) return malformed("the authorization identity");
    if (*as != out.user) {
      return fail(ErrorKind::kUnsupported, "nobody may act in another user's name");
    }
  }
  auto nonce = take(rest, 'r');
  if (!nonce || !isNonce(*nonce)) return malformed("the nonce");
  out.nonce = *nonce;
  return out;
}

Result<ClientFinal> parseClientFinal(BytesView message) {
  if (message.size() > kMaxMessage) return malformed("too long");
  ClientFinal out;
  size_t proof = message.rfind(",p=");
  if (proof == BytesView::npos) return malformed("no proof");
  out.withoutProof = message.substr(0, proof);
  auto decoded = fromBase64(message.substr(proof + 3));
  if (!decoded) return malformed("the proof");
  out.proof = std::move(*decoded);
  BytesView rest = out.withoutProof;
  auto binding = take(rest, 'c');
  auto header = binding ? fromBase64(*binding) : std::nullopt;
  if (!header) return malformed("the channel binding");
  out.binding = std::move(*header);
  auto nonce = take(rest, 'r');
  if (!nonce || !isNonce(*nonce)) return malformed("the nonce");
  out.nonce = *nonce;
  return out;
}

Result<> ServerExchange::begin(BytesView clientFirst) {
  auto parsed = parseClientFirst(clientFirst);
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  first_ = std::move(*parsed);
  return {};
}

std::string ServerExchange::challenge(Credential credential) {
  credential_ = std::move(credential);
  nonce_ = first_.nonce + toBase64(randomOctets(random_, kNonceBytes));
  serverFirst_ = "r=" + nonce_ + ",s=" + toBase64(credential_.salt) +
                 ",i=" + std::to_string(credential_.iterations);
  return serverFirst_;
}

Result<std::string> ServerExchange::finish(BytesView clientFinal) {
  auto parsed = parseClientFinal(clientFinal);
  if (!parsed) return std::unexpected(std::move(parsed.error()));
  const auto refused = fail(ErrorKind::kUnauthorized, "the proof does not hold");
  // librdkafka before 2.2 says its own part of the nonce twice, which Apache Kafka took for long. The
  // proof is over the server's first message too, nonce and all, so nothing is lost by that.
  const bool sameNonce = parsed->nonce == nonce_ || parsed->nonce == first_.nonce + nonce_;
  if (parsed->binding != first_.gs2Header || !sameNonce) return refused;
  if (parsed->proof.size() != sizeOf(hash_) || credential_.storedKey.size() != sizeOf(hash_)) {
    return refused;
  }
  const std::string authMessage =
      first_.bare + "," + serverFirst_ + "," + std::string(parsed->withoutProof);
  const std::string signature = hmac(hash_, credential_.storedKey, authMessage);
  std::string clientKey = std::move(parsed->proof);
  for (size_t i = 0; i < clientKey.size(); ++i) {
    clientKey[i] = static_cast<char>(static_cast<unsigned char>(clientKey[i]) ^
                                     static_cast<unsigned char>(signature[i]));
  }
  if (!sameOctets(digest(hash_, clientKey), credential_.storedKey)) return refused;
  return "v=" + toBase64(hmac(hash_, credential_.serverKey, authMessage));
}

}  // namespace polylog::scram
