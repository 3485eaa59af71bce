#include "router/login_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/base/scram_exchange.h"
#include "router/token_rights.h"

namespace polylog::router {
namespace {

enum Outcome : uint8_t { kAdmitted, kRefused, kThrottled };
constexpr scram::Hash kHashes[] = {scram::Hash::kSha256, scram::Hash::kSha512};

std::string hostOf(const std::string& peer) {
  return peer.substr(0, peer.rfind(':'));
}

/// A client's name in a log line, without what could pretend to be another line.
std::string shown(BytesView name) {
  std::string out;
  for (char c : name.substr(0, 64)) {
    auto octet = static_cast<unsigned char>(c);
    out += octet < 0x20 || octet == 0x7f ? fmt::format("\\x{:02x}", octet) : std::string(1, c);
  }
  return out;
}

/// A JWS in its compact form (RFC 7515, 7.1): what begins with the base64url of `{"`, of three
/// parts.
bool looksLikeToken(BytesView password) {
  return password.starts_with("eyJ") && std::ranges::count(password, '.') == 2;
}

void tellLater(Done<Result<LoginRef>> done, Result<LoginRef> result) {
  Dispatcher::current()->defer(
      [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

Result<> checkBearer(const TokenVerifier::Bearer& bearer) {
  if (!checkUserName(bearer.user)) return fail(ErrorKind::kUnauthorized, "no name for a user");
  if (!bearer.rules) return {};
  for (const AccessRule& rule : *bearer.rules) {
    if (auto sound = checkRule(rule); !sound) {
      return fail(ErrorKind::kUnauthorized, "the token's acl claim: " + sound.error().text);
    }
  }
  return {};
}

std::unexpected<Error> tooMany() {
  return fail(ErrorKind::kBusy, "too many logins wait to be checked");
}

}  // namespace

// ---------------------------------------------------------------- logins

class LoginService::LoginImpl final : public Login, public std::enable_shared_from_this<LoginImpl> {
 public:
  LoginImpl(std::shared_ptr<Registry> registry, std::string user, Core& core, int64_t expiresAtMs,
            std::shared_ptr<TokenRights> rights)
      : registry_(std::move(registry)),
        user_(std::move(user)),
        worker_(core.here()),
        clock_(core.clock),
        expiresAtMs_(expiresAtMs),
        rights_(std::move(rights)) {
    if (user_.empty()) return;
    revoked_ = std::make_shared<std::atomic<bool>>(false);
    std::lock_guard hold(registry_->lock);
    registry_->logins[user_].insert(this);
  }
  ~LoginImpl() override {
    if (user_.empty()) return;
    std::lock_guard hold(registry_->lock);
    auto found = registry_->logins.find(user_);
    found->second.erase(this);
    if (found->second.empty()) registry_->logins.erase(found);
  }
  const std::string& user() const override { return user_; }
  std::shared_ptr<const std::atomic<bool>> revoked() const override { return revoked_; }
  int64_t expiresAtMs() const override { return expiresAtMs_; }
  LoginRightsRef rights() const override { return rights_; }
  void succeed(Login& earlier) override {
    auto& before = static_cast<LoginImpl&>(earlier);
    if (before.rights_ == nullptr) return;
    before.rights_->become(rights_.get());
    rights_ = before.rights_;
  }
  void onEnd(std::move_only_function<void(LoginEnd)> task) override {
    task_ = std::move(task);
    if (revoked_ && revoked_->load()) tell(shared_from_this(), LoginEnd::kRevoked);
    if (expiresAtMs_ != kNeverExpires) watchClock();
  }
  /// Any thread, the registry's lock held.
  void revoke() {
    revoked_->store(true);
    if (auto self = weak_from_this().lock()) tell(std::move(self), LoginEnd::kRevoked);
  }

 private:
  /// The wall clock may be set meanwhile, and timers don't follow it: look now and then.
  void watchClock() {
    if (!expiry_) {
      expiry_ = worker_.dispatcher.makeTimer([this] {
        if (clock_.wallMillis() < expiresAtMs_) return watchClock();
        tell(shared_from_this(), LoginEnd::kExpired);
      });
    }
    const int64_t left = std::max<int64_t>(expiresAtMs_ - clock_.wallMillis(), 0);
    expiry_->start(std::min(left, kLookEveryMillis) * 1000);
  }
  /// The reference goes along: the last one must not go here, with the registry's lock held, nor
  /// on another thread than the timer's.
  void tell(std::shared_ptr<LoginImpl> self, LoginEnd why) {
    worker_.post([self = std::move(self), why] {
      if (auto task = std::exchange(self->task_, nullptr)) task(why);
    });
  }

  static constexpr int64_t kLookEveryMillis = 60'000;

  std::shared_ptr<Registry> registry_;
  const std::string user_;
  Worker& worker_;
  Clock& clock_;
  const int64_t expiresAtMs_;
  std::shared_ptr<TokenRights> rights_;  ///< null: it is no token's
  std::shared_ptr<std::atomic<bool>> revoked_;
  std::unique_ptr<Timer> expiry_;
  std::move_only_function<void(LoginEnd)> task_;
};

LoginService::LoginService(Core& core, const AccessStore& users)
    : core_(core), users_(users), key_(scram::randomOctets(core.random, 32)) {
  constexpr Protocol kProtocols[] = {Protocol::kInternal, Protocol::kMqtt, Protocol::kKafka,
                                     Protocol::kAmqp, Protocol::kRocketMq};
  constexpr const char* kResults[] = {"admitted", "refused", "throttled"};
  for (Protocol protocol : kProtocols) {
    for (size_t i = 0; i < 3; ++i) {
      outcomes_[static_cast<size_t>(protocol)][i] = &counter(
          "polylog_logins_total", "Logins of clients that said who they are",
          fmt::format("protocol=\"{}\",result=\"{}\"", protocolName(protocol), kResults[i]));
    }
  }
}

LoginService::~LoginService() {
  stop();
}

void LoginService::stop() {
  std::vector<std::thread> threads;
  {
    std::lock_guard hold(lock_);
    stopping_ = true;
    jobs_.clear();
    threads.swap(threads_);
  }
  wake_.notify_all();
  for (std::thread& thread : threads) thread.join();
  if (core_.options.access.hook) core_.options.access.hook->stop();
}

LoginRef LoginService::admitted(const LoginPoint& point, const UserRef& user,
                                const std::string& name, int64_t expiresAtMs,
                                std::shared_ptr<TokenRights> rights) {
  auto login = std::make_shared<LoginImpl>(registry_, name, core_, expiresAtMs, std::move(rights));
  if (name.empty()) return login;
  outcomes_[static_cast<size_t>(point.protocol)][kAdmitted]->add();
  // Deleted since it was looked up: revoke() may have come before it was registered.
  if (user && users_.user(name) == nullptr) {
    std::lock_guard hold(registry_->lock);
    login->revoke();
  }
  return login;
}

Error LoginService::refused(const LoginPoint& point, std::optional<BytesView> user,
                            std::string_view why) {
  const int64_t now = core_.clock.monotonicMicros();
  bool throttled = why.empty();
  outcomes_[static_cast<size_t>(point.protocol)][throttled ? kThrottled : kRefused]->add();
  if (!throttled) throttle_.failed(hostOf(point.peer), user, now);
  int64_t others = 0;
  {
    std::lock_guard hold(lock_);
    if (loggedAt_ != INT64_MIN && now - loggedAt_ < kLogEveryMicros) {
      ++unlogged_;
      return {ErrorKind::kUnauthorized, "the login was refused"};
    }
    loggedAt_ = now;
    others = std::exchange(unlogged_, 0);
  }
  logWarning(fmt::format(
      "{} {}: login {} refused: {}{}", protocolName(point.protocol), point.peer,
      user ? fmt::format("of '{}'", shown(*user)) : "by token",
      throttled ? "too many failed before" : why,
      others > 0 ? fmt::format(" (and {} refused since the last told)", others) : std::string()));
  return {ErrorKind::kUnauthorized, "the login was refused"};
}

// ---------------------------------------------------------------- passwords

std::string LoginService::tagOf(const std::string& password) const {
  return scram::hmac(scram::Hash::kSha256, key_, password);
}

LoginService::Account LoginService::accountOf(const std::string& name) const {
  Account account{users_.user(name), nullptr};
  const auto& elsewhere = core_.options.access.passwords;
  if (!account.user && elsewhere && checkUserName(name)) account.entry = elsewhere->find(name);
  return account;
}

/// Slow, unless it was proved before.
bool LoginService::proves(const Account& account, const std::string& password) const {
  std::string tag = tagOf(password);
  if (scram::sameOctets(account.proved().tag(), tag)) return true;
  if (account.entry) {
    if (!account.entry->matches(password)) return false;
  } else {
    const auto& credentials = account.user->state.credentials;
    if (credentials.empty() || !scram::matches(credentials.front(), password)) return false;
  }
  account.proved().prove(std::move(tag));
  return true;
}

/// A refusal takes as long whether there is such a user or not, and wherever: whatever any
/// password's check takes is done for each.
void LoginService::spendTheRest(const Account& account, const Credentials& tried) const {
  if (!account.user || account.user->state.credentials.empty()) {
    (void)scram::matches(nobodysCredential(tried.user, kHashes[0]), tried.password);
  }
  const auto& elsewhere = core_.options.access.passwords;
  if (elsewhere) elsewhere->spendTheRest(account.entry.get(), tried.password);
}

bool LoginService::judges() const {
  const auto& access = core_.options.access;
  return users_.anyUsers() || takesTokens() || access.hook != nullptr ||
         (access.passwords != nullptr && access.passwords->any());
}

void LoginService::admit(const LoginPoint& point, Credentials credentials,
                         Done<Result<LoginRef>> done) {
  if (credentials.token || (takesTokens() && looksLikeToken(credentials.password))) {
    return admitToken(point, std::move(credentials), std::move(done));
  }
  auto answer = [&](Result<LoginRef> result) { tellLater(std::move(done), std::move(result)); };
  Account account = accountOf(credentials.user);
  bool nobody =
      credentials.user.empty() || !judges() || (credentials.conventional && !account.known());
  if (nobody && point.allowAnonymous) return answer(admitted(point, nullptr, {}));
  if (credentials.user.empty()) return answer(std::unexpected(refused(point, "", "no user given")));
  if (!throttle_.admits(hostOf(point.peer), credentials.user, core_.clock.monotonicMicros())) {
    return answer(std::unexpected(refused(point, credentials.user, {})));
  }
  if (account.known() && scram::sameOctets(account.proved().tag(), tagOf(credentials.password))) {
    return answer(admitted(point, account.user, credentials.user));
  }
  if (!account.known() && core_.options.access.hook && checkUserName(credentials.user)) {
    return admitByHook(point, std::move(credentials), std::move(done));
  }
  admitByPassword(point, std::move(credentials), std::move(account), std::move(done));
}

void LoginService::admitByPassword(const LoginPoint& point, Credentials credentials,
                                   Account account, Done<Result<LoginRef>> done) {
  struct Attempt {
    LoginPoint point;
    Credentials credentials;
    Account account;
    Done<Result<LoginRef>> done;
    bool right = false;
  };
  auto attempt =
      std::make_shared<Attempt>(point, std::move(credentials), std::move(account), std::move(done));
  auto job = [this, attempt] {
    const Account& tried = attempt->account;
    attempt->right = tried.known() && proves(tried, attempt->credentials.password);
    if (!attempt->right) spendTheRest(tried, attempt->credentials);
  };
  auto after = [this, attempt] {
    const std::string& name = attempt->credentials.user;
    // The password may have been changed meanwhile.
    const Account& tried = attempt->account;
    bool stands = attempt->right && accountOf(name) == tried;
    if (stands) return attempt->done(admitted(attempt->point, tried.user, name));
    attempt->done(std::unexpected(
        refused(attempt->point, name, tried.known() ? "wrong password" : "no such user")));
  };
  if (!slowly(job, after)) tellLater(std::move(attempt->done), tooMany());
}

void LoginService::admitToken(const LoginPoint& point, Credentials credentials,
                              Done<Result<LoginRef>> done) {
  if (!takesTokens() ||
      !throttle_.admits(hostOf(point.peer), std::nullopt, core_.clock.monotonicMicros())) {
    const char* why = takesTokens() ? "" : "none are taken (auth.jwt)";
    return tellLater(std::move(done), std::unexpected(refused(point, std::nullopt, why)));
  }
  struct Attempt {
    LoginPoint point;
    std::string token;
    Done<Result<LoginRef>> done;
    Result<TokenVerifier::Bearer> bearer = fail(ErrorKind::kInternal, "not verified");
  };
  auto attempt = std::make_shared<Attempt>(point, std::move(credentials.password), std::move(done));
  auto job = [this, attempt] {
    attempt->bearer = core_.options.access.tokens->verify(attempt->token, core_.clock.wallMillis());
  };
  auto after = [this, attempt] {
    auto& bearer = attempt->bearer;
    const Result<> sound = bearer ? checkBearer(*bearer) : std::unexpected(bearer.error());
    if (!sound) {
      return attempt->done(
          std::unexpected(refused(attempt->point, std::nullopt, sound.error().text)));
    }
    auto rights = std::make_shared<TokenRights>(std::move(bearer->rules));
    attempt->done(admitted(attempt->point, users_.user(bearer->user), bearer->user,
                           bearer->expiresAtMs, std::move(rights)));
  };
  if (!slowly(job, after)) tellLater(std::move(attempt->done), tooMany());
}

void LoginService::admitByHook(const LoginPoint& point, Credentials credentials,
                               Done<Result<LoginRef>> done) {
  struct Attempt {
    LoginPoint point;
    std::string user;
    Done<Result<LoginRef>> done;
  };
  auto attempt = std::make_shared<Attempt>(point, credentials.user, std::move(done));
  auto judged = [this, attempt, worker = &core_.here()](LoginHook::Verdict verdict) {
    worker->post([this, attempt, verdict] {
      // A user of that name may have been made meanwhile: it is that user's password that counts.
      const bool stands = !accountOf(attempt->user).known();
      if (verdict == LoginHook::Verdict::kAdmit && stands) {
        return attempt->done(admitted(attempt->point, nullptr, attempt->user));
      }
      if (verdict == LoginHook::Verdict::kUnavailable) {
        return attempt->done(fail(ErrorKind::kBusy, "the login can't be checked now"));
      }
      attempt->done(std::unexpected(refused(attempt->point, attempt->user, "by auth.http.url")));
    });
  };
  core_.options.access.hook->ask(attempt->point, credentials, std::move(judged));
}

Result<LoginRef> LoginService::admitIdentified(const LoginPoint& point, const std::string& name) {
  if (!checkUserName(name)) return std::unexpected(refused(point, name, "no name for a user"));
  return admitted(point, users_.user(name), name);
}

void LoginService::derive(std::string password, Done<Result<std::vector<scram::Credential>>> done) {
  struct Derivation {
    std::string password;
    Done<Result<std::vector<scram::Credential>>> done;
    std::vector<scram::Credential> made;
  };
  auto derivation = std::make_shared<Derivation>(std::move(password), std::move(done));
  auto job = [this, derivation] {
    for (scram::Hash hash : kHashes) {
      derivation->made.push_back(
          scram::derive(hash, derivation->password, core_.options.access.iterations, core_.random));
    }
  };
  if (slowly(job, [derivation] { derivation->done(std::move(derivation->made)); })) return;
  core_.here().later([derivation] {
    derivation->done(fail(ErrorKind::kBusy, "too many logins wait; try again"));
  });
}

bool LoginService::slowly(Task job, Task after) {
  Worker& worker = core_.here();
  const size_t threads = core_.options.access.threads;
  if (threads == 0) {
    worker.later([job = std::move(job), after = std::move(after)]() mutable {
      job();
      after();
    });
    return true;
  }
  std::lock_guard hold(lock_);
  if (stopping_) return true;  // nobody is answered any more
  if (jobs_.size() >= kMaxWaiting) return false;
  jobs_.push_back({std::move(job), &worker, std::move(after)});
  if (threads_.size() < std::min(threads, jobs_.size())) threads_.emplace_back([this] { work(); });
  wake_.notify_one();
  return true;
}

void LoginService::work() {
  std::unique_lock hold(lock_);
  while (true) {
    wake_.wait(hold, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    hold.unlock();
    job.task();
    job.worker->post(std::move(job.after));
    hold.lock();
  }
}

void LoginService::revoke(const std::string& user) {
  std::lock_guard hold(registry_->lock);
  auto found = registry_->logins.find(user);
  if (found == registry_->logins.end()) return;
  for (LoginImpl* login : found->second) login->revoke();
}

// ---------------------------------------------------------------- SCRAM

/// Looks like a user's, always the same for one name, and nobody has its password.
scram::Credential LoginService::nobodysCredential(const std::string& user, scram::Hash hash) const {
  scram::Credential out;
  out.hash = hash;
  out.iterations = core_.options.access.iterations;
  out.salt = scram::hmac(hash, key_, "salt" + user).substr(0, scram::kSaltBytes);
  out.storedKey = scram::hmac(hash, key_, "stored" + user);
  out.serverKey = scram::hmac(hash, key_, "server" + user);
  return out;
}

class ScramLoginImpl final : public ScramLogin {
 public:
  ScramLoginImpl(LoginService& service, LoginPoint point, scram::Hash hash)
      : service_(service), point_(std::move(point)), exchange_(hash, service.core_.random) {}

  Result<std::string> begin(BytesView clientFirst) override {
    if (auto ok = exchange_.begin(clientFirst); !ok) return std::unexpected(ok.error());
    user_ = service_.users_.user(exchange_.user());
    credential_ = service_.nobodysCredential(exchange_.user(), exchange_.hash());
    if (user_) {
      for (const scram::Credential& each : user_->state.credentials) {
        if (each.hash == exchange_.hash()) credential_ = each;
      }
    }
    return exchange_.challenge(credential_);
  }
  const std::string& user() const override { return exchange_.user(); }

  Result<Finished> finish(BytesView clientFinal) override {
    const std::string& name = exchange_.user();
    const int64_t now = service_.core_.clock.monotonicMicros();
    if (!service_.throttle_.admits(hostOf(point_.peer), name, now)) {
      return std::unexpected(service_.refused(point_, name, {}));
    }
    auto answer = exchange_.finish(clientFinal);
    if (!answer && answer.error().kind == ErrorKind::kInvalid) {
      return std::unexpected(answer.error());
    }
    if (!answer || user_ == nullptr || service_.users_.user(name) != user_) {
      return std::unexpected(
          service_.refused(point_, name, user_ ? "wrong password" : "no such user"));
    }
    return Finished{std::move(*answer), service_.admitted(point_, user_, name)};
  }

 private:
  LoginService& service_;
  LoginPoint point_;
  scram::ServerExchange exchange_;
  UserRef user_;
  scram::Credential credential_;
};

std::unique_ptr<ScramLogin> LoginService::scram(const LoginPoint& point, scram::Hash hash) {
  return std::make_unique<ScramLoginImpl>(*this, point, hash);
}

}  // namespace polylog::router
