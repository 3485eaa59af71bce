#include "codecs/kafka/sasl.h"

#include <algorithm>
#include <utility>

#include "core/base/oauth_bearer.h"
#include "core/event/dispatcher.h"

namespace polylog::kafka {
namespace {

constexpr size_t kMaxToken = 4096;
constexpr BytesView kOauthBearer = "OAUTHBEARER";

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

std::vector<BytesView> Sasl::mechanisms() const {
  if (options_.authenticator == nullptr) return {};
  std::vector<BytesView> names{"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"};
  if (options_.authenticator->takesTokens()) names.emplace_back(kOauthBearer);
  return names;
}

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
  const auto offered = mechanisms();
  if (std::ranges::find(offered, mechanism) == offered.end()) return false;
  mechanism_ = mechanism;
  raw_ = rawTokens;
  scram_ = nullptr;
  bearerRefusal_.clear();
  return true;
}

LoginPoint Sasl::point() const {
  // Who logs in wants to be somebody.
  return {Protocol::kKafka, transport_.peer(), false, clientId_};
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
  if (mechanism_ == kOauthBearer) return bearer(token, std::move(then));
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
        then(Step{{}, true, lifetimeMs_});
      });
}

void Sasl::bearer(BytesView token, std::function<void(Result<Step>)> then) {
  if (!bearerRefusal_.empty()) {
    // Kafka tells the same again, as the error's text.
    return then(fail(ErrorKind::kUnauthorized, std::exchange(bearerRefusal_, {})));
  }
  auto response = parseBearer(token);
  if (!response) return then(fail(ErrorKind::kInvalid, "malformed OAUTHBEARER message"));
  Credentials credentials;
  credentials.password = std::move(response->token);
  credentials.token = true;
  busy_ = true;
  options_.authenticator->admit(point(), std::move(credentials),
                                [this, alive = std::weak_ptr(alive_), as = std::move(response->as),
                                 then = std::move(then)](Result<LoginRef> login) {
                                  if (alive.expired()) return;
                                  busy_ = false;
                                  then(bearerJudged(as, std::move(login)));
                                });
}

Result<Sasl::Step> Sasl::bearerJudged(const std::string& as, Result<LoginRef> login) {
  if (!login) {
    bearerRefusal_ = login.error().kind == ErrorKind::kBusy ? kBearerUnavailable : kBearerInvalid;
    return Step{bearerRefusal_};
  }
  if (!as.empty() && as != (*login)->user()) {
    return fail(ErrorKind::kUnauthorized,
                "Authentication failed: Client requested an authorization id that is different "
                "from the token's principal name");
  }
  if (auto ok = admitted(std::move(*login)); !ok) return std::unexpected(ok.error());
  return Step{{}, true, lifetimeMs_};
}

Result<Sasl::Step> Sasl::scram(BytesView token) {
  if (!scram_) {
    auto hash = mechanism_ == "SCRAM-SHA-512" ? scram::Hash::kSha512 : scram::Hash::kSha256;
    scram_ = options_.authenticator->scram(point(), hash);
    auto first = scram_->begin(token);
    if (!first) return std::unexpected(std::move(first.error()));
    return Step{std::move(*first)};
  }
  auto finished = std::exchange(scram_, nullptr)->finish(token);
  if (!finished) return refused(mechanism_);
  if (auto ok = admitted(std::move(finished->login)); !ok) return std::unexpected(ok.error());
  return Step{std::move(finished->serverFinal), true, lifetimeMs_};
}

Result<> Sasl::admitted(LoginRef login) {
  if (login_ && !byCertificate_ && login_->user() != login->user()) {
    return fail(ErrorKind::kUnauthorized, "Cannot change principals during re-authentication");
  }
  login_ = std::move(login);
  byCertificate_ = false;
  first_ = std::exchange(mechanism_, {});
  raw_ = false;
  const Clock& clock = transport_.dispatcher().clock();
  lifetimeMs_ = options_.reauthenticationMs;
  if (login_->expiresAtMs() != Login::kNeverExpires) {
    // One that is told as 0 would hold for ever.
    const int64_t left = std::max<int64_t>(login_->expiresAtMs() - clock.wallMillis(), 1);
    lifetimeMs_ = lifetimeMs_ == 0 ? left : std::min(lifetimeMs_, left);
  }
  expiresAt_ = lifetimeMs_ == 0 ? INT64_MAX : clock.monotonicMicros() + lifetimeMs_ * 1000;
  watch();
  if (onLogin) onLogin();
  return {};
}

void Sasl::watch() {
  // An end that was on its way when the client logged in anew is of no concern any more.
  login_->onEnd([this, alive = std::weak_ptr(alive_), mine = std::weak_ptr(login_)](LoginEnd why) {
    if (alive.expired() || !onEnd) return;
    if (auto ended = mine.lock(); ended && ended == login_) onEnd(why);
  });
}

}  // namespace polylog::kafka
