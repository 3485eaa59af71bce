// Who connects: passwords, tokens and SCRAM conversations judged, for the sessions of every
// protocol. The router implements Authenticator over the user store and over who else may judge
// (TokenVerifier, LoginHook). Calls of Authenticator on a worker's thread only; `done` runs later,
// on that worker.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/base/scram.h"
#include "core/model/access.h"
#include "core/model/principal.h"

namespace polylog {

/// Why a login ends before its connection does.
enum class LoginEnd : uint8_t {
  kRevoked,  ///< its user was deleted
  kExpired,  ///< its token has expired
};

/// One admitted login, held by its connection until that ends. Everything on the worker that asked
/// for it.
class Login {
 public:
  virtual ~Login() = default;
  /// Empty: admitted without being anybody.
  virtual const std::string& user() const = 0;
  /// Turns true when the user is deleted; for Principal::revoked. May be null (nobody).
  virtual std::shared_ptr<const std::atomic<bool>> revoked() const = 0;
  /// When it ends by itself, in milliseconds of the wall clock.
  virtual int64_t expiresAtMs() const = 0;
  /// For Principal::rights. Null: it has none of its own.
  virtual LoginRightsRef rights() const { return nullptr; }
  /// It takes the place of an earlier one of the same user, whose principals stay: what they may do
  /// is what this one says from now on.
  virtual void succeed(Login& /*earlier*/) {}
  /// Runs `task` once, later, when it ends (or has ended): the connection is to be closed.
  virtual void onEnd(std::move_only_function<void(LoginEnd)> task) = 0;

  static constexpr int64_t kNeverExpires = INT64_MAX;
};
using LoginRef = std::shared_ptr<Login>;

/// Where somebody tries.
struct LoginPoint {
  Protocol protocol = Protocol::kInternal;
  std::string peer;  ///< "127.0.0.1:50123"
  /// The listener takes clients that say nothing of who they are.
  bool allowAnonymous = false;
  std::string clientId{};  ///< as the client names itself, if it has by then
};

struct Credentials {
  std::string user;  ///< empty = none given
  std::string password;
  /// What clients of the protocol say by default (AMQP's guest): means nobody, where nobody may
  /// come in and there is no such user.
  bool conventional = false;
  /// `password` is a bearer token (RFC 6750), and nothing else will do. Without this it may be one
  /// too, as it looks.
  bool token = false;
};

/// A SCRAM conversation. begin(), then finish(), each once.
class ScramLogin {
 public:
  virtual ~ScramLogin() = default;
  /// The server's first message. kInvalid, kUnsupported.
  virtual Result<std::string> begin(BytesView clientFirst) = 0;
  virtual const std::string& user() const = 0;
  struct Finished {
    std::string serverFinal;
    LoginRef login;
  };
  /// kUnauthorized, kInvalid.
  virtual Result<Finished> finish(BytesView clientFinal) = 0;
};

/// The password that was last right for somebody, as a keyed hash: so that it is known again
/// without the slow check. Any thread.
class ProvedPassword {
 public:
  std::string tag() const {  ///< empty: none was yet
    std::lock_guard hold(lock_);
    return tag_;
  }
  void prove(std::string tag) const {
    std::lock_guard hold(lock_);
    tag_ = std::move(tag);
  }

 private:
  mutable std::mutex lock_;
  mutable std::string tag_;
};

/// Users that are kept outside the store, with hashes of their passwords. Any thread.
class PasswordSource {
 public:
  class Entry {
   public:
    virtual ~Entry() = default;
    /// Slow by intent.
    virtual bool matches(BytesView password) const = 0;
    const ProvedPassword proved{};
  };
  virtual ~PasswordSource() = default;
  /// Null: it has no such user. One that changes is another Entry.
  virtual std::shared_ptr<const Entry> find(const std::string& user) const = 0;
  virtual bool any() const = 0;
  /// After a password that was wrong: the rest of the work that the costliest of the hashes is, so
  /// that the time a refusal takes tells nobody whose hash was checked. `checked` was; null: none
  /// of this source's. Slow by intent.
  virtual void spendTheRest(const Entry* checked, BytesView password) const = 0;
};

/// Judges bearer tokens. Any thread, several at once; may take a millisecond and look at a file.
class TokenVerifier {
 public:
  struct Bearer {
    std::string user;
    int64_t expiresAtMs = Login::kNeverExpires;
    /// What it says of its bearer's rights (a claim); nothing: it doesn't say.
    std::optional<std::vector<AccessRule>> rules{};
  };
  virtual ~TokenVerifier() = default;
  /// kUnauthorized, with the reason for the log; clients are told no more than that.
  virtual Result<Bearer> verify(BytesView token, int64_t nowMs) = 0;
};

/// Asks something outside the broker about logins that the user store knows nothing of. Any thread.
class LoginHook {
 public:
  enum class Verdict : uint8_t { kAdmit, kRefuse, kUnavailable };
  virtual ~LoginHook() = default;
  /// Never waits. `done` runs once, on any thread, inside the call too; not after stop().
  virtual void ask(const LoginPoint& point, const Credentials& credentials,
                   std::function<void(Verdict)> done) = 0;
  /// Ends what is under way.
  virtual void stop() = 0;
};

class Authenticator {
 public:
  virtual ~Authenticator() = default;
  /// Whether bearer tokens are taken.
  virtual bool takesTokens() const = 0;
  /// kUnauthorized: the user or the password is wrong, or none was given and one is needed; no more
  /// is told. kBusy: too many logins wait.
  virtual void admit(const LoginPoint& point, Credentials credentials,
                     Done<Result<LoginRef>> done) = 0;
  /// The same without a password, for whom something else has identified (a client certificate).
  /// There need not be a user of that name: whoever signs certificates says who there is.
  virtual Result<LoginRef> admitIdentified(const LoginPoint& point, const std::string& user) = 0;
  virtual std::unique_ptr<ScramLogin> scram(const LoginPoint& point, scram::Hash hash) = 0;
};

}  // namespace polylog
