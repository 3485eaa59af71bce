// Who connects: passwords and SCRAM conversations judged, for the sessions of every protocol. The
// router implements it over the user store. Calls on a worker's thread only; `done` runs later, on
// that worker.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/base/scram.h"
#include "core/model/principal.h"

namespace polylog {

/// One admitted login, held by its connection until that ends. Everything on the worker that asked
/// for it.
class Login {
 public:
  virtual ~Login() = default;
  /// Empty: admitted without being anybody.
  virtual const std::string& user() const = 0;
  /// Turns true when the user is deleted; for Principal::revoked. May be null (nobody).
  virtual std::shared_ptr<const std::atomic<bool>> revoked() const = 0;
  /// Runs `task` once, later, when that happens (or has happened): the connection is to be closed.
  virtual void onRevoked(std::move_only_function<void()> task) = 0;
};
using LoginRef = std::shared_ptr<Login>;

/// Where somebody tries.
struct LoginPoint {
  Protocol protocol = Protocol::kInternal;
  std::string peer;  ///< "127.0.0.1:50123"
  /// The listener takes clients that say nothing of who they are.
  bool allowAnonymous = false;
};

struct Credentials {
  std::string user;  ///< empty = none given
  std::string password;
  /// What clients of the protocol say by default (AMQP's guest): means nobody, where nobody may
  /// come in and there is no such user.
  bool conventional = false;
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

class Authenticator {
 public:
  virtual ~Authenticator() = default;
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
