// Judges who logs in, over the users of AccessStore, and knows who is logged in, to end that when a
// user is deleted.
//
// A password is checked against a SCRAM credential, whose derivation is slow by intent: it is done
// on threads of their own, a bounded number of logins waiting. What was right once is known again
// by a keyed hash (HMAC under a key of this run), kept with the user until its password changes: a
// storm of reconnects costs a derivation a user after a start and none later.
//
// Tokens are verified on the same threads, and so are the passwords of users whom the store doesn't
// know and a password file does; of others the hook is asked, if there is one.
//
// Authenticator and derive() on a worker's thread, revoke() on any. stop() before the workers end.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/base/metrics.h"
#include "core/model/authentication.h"
#include "router/access_store.h"
#include "router/core.h"
#include "router/login_throttle.h"

namespace polylog::router {

class TokenRights;

class LoginService final : public Authenticator {
 public:
  LoginService(Core& core, const AccessStore& users);
  ~LoginService() override;
  void stop();

  bool takesTokens() const override { return core_.options.access.tokens != nullptr; }
  void admit(const LoginPoint& point, Credentials credentials,
             Done<Result<LoginRef>> done) override;
  Result<LoginRef> admitIdentified(const LoginPoint& point, const std::string& user) override;
  std::unique_ptr<ScramLogin> scram(const LoginPoint& point, scram::Hash hash) override;

  /// Credentials of every hash for a new password. kBusy.
  void derive(std::string password, Done<Result<std::vector<scram::Credential>>> done);
  /// The user is gone: its logins end.
  void revoke(const std::string& user);

 private:
  friend class ScramLoginImpl;
  class LoginImpl;
  /// Who is logged in; outlives the service as long as anybody is.
  struct Registry {
    std::mutex lock;
    std::unordered_map<std::string, std::unordered_set<LoginImpl*>> logins;
  };

  static constexpr size_t kMaxWaiting = 50'000;
  static constexpr int64_t kLogEveryMicros = 10'000'000;

  /// Runs `job` on a thread of its own, then `after` on the calling worker. False: too many wait.
  bool slowly(Task job, Task after);
  void work();
  /// Whoever has a password: a user of the store, or of the password file, or nobody.
  struct Account {
    UserRef user;
    std::shared_ptr<const PasswordSource::Entry> entry;

    bool known() const { return user != nullptr || entry != nullptr; }
    bool operator==(const Account&) const = default;
    const ProvedPassword& proved() const { return user ? user->proved : entry->proved; }
  };
  Account accountOf(const std::string& name) const;
  bool proves(const Account& account, const std::string& password) const;
  void spendTheRest(const Account& account, const Credentials& tried) const;
  std::string tagOf(const std::string& password) const;
  void admitToken(const LoginPoint& point, Credentials credentials, Done<Result<LoginRef>> done);
  void admitByPassword(const LoginPoint& point, Credentials credentials, Account account,
                       Done<Result<LoginRef>> done);
  void admitByHook(const LoginPoint& point, Credentials credentials, Done<Result<LoginRef>> done);
  /// Whether names and passwords mean anything.
  bool judges() const;
  LoginRef admitted(const LoginPoint& point, const UserRef& user, const std::string& name,
                    int64_t expiresAtMs = Login::kNeverExpires,
                    std::shared_ptr<TokenRights> rights = nullptr);
  /// `user`: none for a token. `why`: empty if too many failed before.
  Error refused(const LoginPoint& point, std::optional<BytesView> user, std::string_view why);
  scram::Credential nobodysCredential(const std::string& user, scram::Hash hash) const;

  Core& core_;
  const AccessStore& users_;
  const std::string key_;  ///< of this run
  std::shared_ptr<Registry> registry_ = std::make_shared<Registry>();
  LoginThrottle throttle_;
  Metric* outcomes_[5][3];  ///< by protocol: admitted, refused, throttled

  std::mutex lock_;  ///< of what follows
  std::condition_variable wake_;
  struct Job {
    Task task;
    Worker* worker;
    Task after;
  };
  std::deque<Job> jobs_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
  int64_t loggedAt_ = INT64_MIN;
  int64_t unlogged_ = 0;
};

}  // namespace polylog::router
