#include "core/jwt/verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/base/json_value.h"
#include "core/jwt/acl_claim.h"

namespace polylog::jwt {
namespace {

constexpr size_t kMaxTokenBytes = size_t{16} * 1024;
/// Keys that are tried for one token, where it doesn't say which.
constexpr size_t kMaxTries = 16;
/// The end of the year 9999, in seconds: whatever is later is as good as that.
constexpr double kLatest = 253'402'300'799.0;

std::unexpected<Error> no(const char* why) {
  return fail(ErrorKind::kUnauthorized, why);
}

struct Parts {
  BytesView header, payload, signature, signedText;
};

std::optional<Parts> split(BytesView token) {
  const size_t first = token.find('.');
  const size_t second = first == BytesView::npos ? first : token.find('.', first + 1);
  if (second == BytesView::npos || token.size() > kMaxTokenBytes) return std::nullopt;
  return Parts{token.substr(0, first), token.substr(first + 1, second - first - 1),
               token.substr(second + 1), token.substr(0, second)};
}

/// A part that is a JSON object.
std::optional<JsonValue> objectOf(BytesView part) {
  auto text = fromBase64Url(part);
  auto json = text ? JsonValue::parse(*text) : std::nullopt;
  return json && json->object() != nullptr ? json : std::nullopt;
}

const std::string* textAt(const JsonValue& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  return value == nullptr ? nullptr : value->text();
}

/// RFC 7519, 2: NumericDate, as milliseconds. Nothing where there is none, or none that makes
/// sense.
std::optional<int64_t> dateAt(const JsonValue& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  auto seconds = value == nullptr ? std::nullopt : value->real();
  if (!seconds || !(*seconds >= 0)) return std::nullopt;
  return static_cast<int64_t>(std::min(*seconds, kLatest) * 1000);
}

/// RFC 7519, 4.1.3: one text or a list of them.
bool isFor(const JsonValue& claims, const std::vector<std::string>& audiences) {
  const JsonValue* given = claims.find("aud");
  if (given == nullptr) return false;
  auto listed = [&](const JsonValue& each) {
    return each.text() != nullptr && std::ranges::find(audiences, *each.text()) != audiences.end();
  };
  return given->array() == nullptr ? listed(*given) : std::ranges::any_of(*given->array(), listed);
}

Result<> checkSignature(const Options& options, const std::vector<Key>& keys, const Parts& parts) {
  auto header = objectOf(parts.header);
  auto signature = fromBase64Url(parts.signature);
  const std::string* name = header ? textAt(*header, "alg") : nullptr;
  if (name == nullptr || !signature) return no("malformed token");
  // RFC 7515, 4.1.11: what must be understood, and isn't.
  if (header->find("crit") != nullptr) return no("the token has critical headers");
  const Algorithm* algorithm = findAlgorithm(*name);
  const auto& allowed = options.algorithms;
  if (algorithm == nullptr ||
      (!allowed.empty() && std::ranges::find(allowed, *name) == allowed.end())) {
    return no("the token's algorithm is not allowed");
  }
  const std::string* id = textAt(*header, "kid");
  size_t tried = 0;
  for (const Key& key : keys) {
    const bool meant = id == nullptr || key.id().empty() || key.id() == *id;
    if (!meant || !key.fits(*algorithm)) continue;
    if (key.verifies(*algorithm, parts.signedText, *signature)) return {};
    if (++tried == kMaxTries) break;
  }
  return tried == 0 ? no("there is no key for the token") : no("the token's signature is wrong");
}

}  // namespace

Result<std::shared_ptr<Verifier>> Verifier::open(Options options) {
  auto missing = [](const char* what) {
    return fail(ErrorKind::kInvalid,
                fmt::format("tokens are taken only if all is said about them: {}", what));
  };
  if (options.keyFile.empty() && options.secretFile.empty()) {
    return missing(
        "`auth.jwt.key_file` is missing (a PEM file of public keys or a JWK set), or "
        "`auth.jwt.secret_file`");
  }
  if (options.issuer.empty()) {
    return missing("`auth.jwt.issuer` is missing: give the `iss` of tokens that are taken");
  }
  if (options.audiences.empty()) {
    return missing(
        "`auth.jwt.audience` is missing: give the `aud` that means this broker, or tokens for "
        "other "
        "services would open it");
  }
  auto keys = KeyFiles::open(options.keyFile, options.secretFile);
  if (!keys) return std::unexpected(keys.error());
  return std::shared_ptr<Verifier>(new Verifier(std::move(options), *std::move(keys)));
}

Result<TokenVerifier::Bearer> Verifier::verify(BytesView token, int64_t nowMs) {
  const auto parts = split(token);
  if (!parts) return no("malformed token");
  const KeyFiles::Keys keys = keys_->current(nowMs);
  if (auto right = checkSignature(options_, *keys, *parts); !right) {
    return std::unexpected(right.error());
  }
  const auto claims = objectOf(parts->payload);
  if (!claims) return no("malformed token");
  const int64_t leeway = options_.leewaySeconds * 1000;
  const auto expires = dateAt(*claims, "exp");
  if (!expires) return no("the token has no expiry (exp)");
  if (*expires + leeway <= nowMs) return no("the token has expired");
  const auto begins = dateAt(*claims, "nbf");
  if (claims->find("nbf") != nullptr && (!begins || *begins - leeway > nowMs)) {
    return no("the token is not valid yet (nbf)");
  }
  const std::string* issuer = textAt(*claims, "iss");
  if (issuer == nullptr || *issuer != options_.issuer) return no("the token is of another issuer");
  if (!isFor(*claims, options_.audiences)) return no("the token is for another audience");
  const std::string* user = textAt(*claims, options_.userClaim);
  if (user == nullptr || user->empty()) return no("the token names no user (auth.jwt.user_claim)");
  Bearer bearer{*user, *expires + leeway, {}};
  const JsonValue* acl = options_.aclClaim == "none" ? nullptr : claims->find(options_.aclClaim);
  if (acl != nullptr) {
    auto rules = rulesOfClaim(*acl);
    if (!rules) return std::unexpected(rules.error());
    bearer.rules = std::move(*rules);
  }
  return bearer;
}

}  // namespace polylog::jwt
