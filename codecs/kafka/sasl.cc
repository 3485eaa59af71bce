#include "codecs/kafka/sasl.h"

#include <algorithm>
#include <utility>

#include "core/event/dispatcher.h"

namespace polylog::kafka {
namespace {

constexpr size_t kMaxToken = 4096;

/// Kafka's own words.
std::unexpected<Error> refused(const std::string& mechanism) {
  const char* why = mechanism == "PLAIN" ? "Authentication failed: Invalid username or password"
                                         : "Authentication failed during authentication due to "
                                           "invalid credentials with SASL mechanism ";
  return fail(ErrorKind::kUnauthorized, mechanism == "PLAIN" ? why : why + mechanism);
}

/// RFC 4616: authorization identity, NUL, user, NUL, password.
std::optional<Credentials> parsePlain(BytesView token) {
  size_t first = token.find('\0');
  if (first == BytesView::npos) return std::nullopt;
  BytesView as = token.substr(0, first);
  token.remove_prefix(first + 1);
  size_t second = token.find('\0');
  if (second == BytesView::npos) return std::nullopt;
  Credentials out;
  out.user = token.substr(0, second);
  out.password = token.substr(second + 1);
  bool sound = !out.user.empty() && !out.password.empty() && (as.empty() || as == out.user) &&
               out.password.find('\0') == std::string::npos;
  if (!sound) return std::nullopt;
  return out;
}

}  // namespace

bool Sasl::identify() {
  const PeerIdentityRef shown = transport_.identity();
  if (options_.authenticator == nullptr || !shown || shown->user.empty()) return true;
  auto login = options_.authenticator->admitIdentified(point(), shown->user);
  if (!login) return false;
  login_ = std::move(*login);
  byCertificate_ = true;
  watch();
  return true;
}

bool Sasl::choose(BytesView mechanism, bool rawTokens) {
  if (options_.authenticator == nullptr) return false;
  if (std::ranges::find(kSaslMechanisms, mechanism) == std::end(kSaslMechanisms)) return false;
  mechanism_ = mechanism;
  raw_ = rawTokens;
  scram_ = nullptr;
  return true;
}

LoginPoint Sasl::point() const {
  // Who logs in wants to be somebody.
  return {Protocol::kKafka, transport_.peer(), false};
}

bool Sasl::mustLogIn() const {
  return options_.authenticator != nullptr && !options_.allowAnonymous && login_ == nullptr;
}

bool Sasl::mayAsk(int64_t nowMicros) const {
  return !mustLogIn() && nowMicros < expiresAt_;
}

void Sasl::step(BytesView token, std::function<void(Result<Step>)> then) {
  raw_ = raw_ && (login_ == nullptr || byCertificate_);
  if (token.size() > kMaxToken) return then(fail(ErrorKind::kInvalid, "the token is too long"));
  if (!first_.empty() && first_ != mechanism_) {
    return then(fail(ErrorKind::kInvalid, "the mechanism can't change at re-authentication"));
  }
  if (mechanism_ == "PLAIN") return plain(token, std::move(then));
  then(scram(token));
}

void Sasl::plain(BytesView token, std::function<void(Result<Step>)> then) {
  auto credentials = parsePlain(token);
  if (!credentials) return then(refused(mechanism_));
  busy_ = true;
  options_.authenticator->admit(
      point(), std::move(*credentials),
      [this, alive = std::weak_ptr(alive_), then = std::move(then)](Result<LoginRef> login) {
        if (alive.expired()) return;
        busy_ = false;
        if (!login) return then(refused(mechanism_));
        if (auto ok = admitted(std::move(*login)); !ok) return then(std::unexpected(ok.error()));
        then(Step{{}, true});
      });
}

Result<Sasl::Step> Sasl::scram(BytesView token) {
  if (!scram_) {
    auto hash = mechanism_ == "SCRAM-SHA-512" ? scram::Hash::kSha512 : scram::Hash::kSha256;
    scram_ = options_.authenticator->scram(point(), hash);
    auto first = scram_->begin(token);
    if (!first) return std::unexpected(std::move(first.error()));
    return Step{std::move(*first), false};
  }
  auto finished = std::exchange(scram_, nullptr)->finish(token);
  if (!finished) return refused(mechanism_);
  if (auto ok = admitted(std::move(finished->login)); !ok) return std::unexpected(ok.error());
  return Step{std::move(finished->serverFinal), true};
}

Result<> Sasl::admitted(LoginRef login) {
  if (login_ && !byCertificate_ && login_->user() != login->user()) {
    return fail(ErrorKind::kUnauthorized, "Cannot change principals during re-authentication");
  }
  login_ = std::move(login);
  byCertificate_ = false;
  first_ = std::exchange(mechanism_, {});
  raw_ = false;
  if (lifetimeMs() > 0) {
    expiresAt_ = transport_.dispatcher().clock().monotonicMicros() + lifetimeMs() * 1000;
  }
  watch();
  if (onLogin) onLogin();
  return {};
}

void Sasl::watch() {
  login_->onRevoked([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired() && onRevoked) onRevoked();
  });
}

}  // namespace polylog::kafka
