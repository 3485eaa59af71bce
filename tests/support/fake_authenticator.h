// An Authenticator for codecs' tests: users with passwords, answers by the loop, logins that a test
// can revoke.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/scram_exchange.h"
#include "core/event/dispatcher.h"
#include "core/model/authentication.h"
#include "tests/support/seeded_random.h"

namespace polylog::test {

class FakeLogin final : public Login {
 public:
  explicit FakeLogin(std::string user) : user_(std::move(user)) {}
  const std::string& user() const override { return user_; }
  std::shared_ptr<const std::atomic<bool>> revoked() const override { return revoked_; }
  int64_t expiresAtMs() const override { return expires; }
  void onEnd(std::move_only_function<void(LoginEnd)> task) override { task_ = std::move(task); }
  void revoke() {
    revoked_->store(true);
    if (task_) std::exchange(task_, nullptr)(LoginEnd::kRevoked);
  }
  void expire() {
    if (task_) std::exchange(task_, nullptr)(LoginEnd::kExpired);
  }

  int64_t expires = kNeverExpires;

 private:
  std::string user_;
  std::shared_ptr<std::atomic<bool>> revoked_ = std::make_shared<std::atomic<bool>>(false);
  std::move_only_function<void(LoginEnd)> task_;
};

class FakeAuthenticator final : public Authenticator {
 public:
  explicit FakeAuthenticator(Dispatcher& dispatcher) : dispatcher_(dispatcher) {}

  std::map<std::string, std::string> passwords;
  std::vector<std::weak_ptr<FakeLogin>> logins;
  std::map<std::string, std::pair<std::string, int64_t>> tokens;  ///< users, and until when
  std::vector<std::string> clientIds;
  bool busy = false;
  bool takesTokens() const override { return !tokens.empty(); }

  void admit(const LoginPoint& point, Credentials credentials,
             Done<Result<LoginRef>> done) override {
    dispatcher_.defer([this, point, who = std::move(credentials),
                       done = std::move(done)]() mutable { done(judge(point, who)); });
  }
  Result<LoginRef> admitIdentified(const LoginPoint&, const std::string& user) override {
    if (user == "*") return fail(ErrorKind::kUnauthorized, "no");
    return made(user);
  }
  std::unique_ptr<ScramLogin> scram(const LoginPoint&, scram::Hash hash) override {
    return std::make_unique<Scram>(*this, hash);
  }

 private:
  struct Scram final : ScramLogin {
    Scram(FakeAuthenticator& theOwner, scram::Hash hash)
        : owner(theOwner), exchange(hash, theOwner.random_) {}
    Result<std::string> begin(BytesView clientFirst) override {
      if (auto ok = exchange.begin(clientFirst); !ok) return std::unexpected(ok.error());
      return exchange.challenge(scram::derive(exchange.hash(), owner.passwords[exchange.user()],
                                              scram::kMinIterations, owner.random_));
    }
    const std::string& user() const override { return exchange.user(); }
    Result<Finished> finish(BytesView clientFinal) override {
      auto answer = exchange.finish(clientFinal);
      if (!answer) return std::unexpected(answer.error());
      return Finished{*answer, owner.made(exchange.user())};
    }
    FakeAuthenticator& owner;
    scram::ServerExchange exchange;
  };

  LoginRef made(const std::string& user) {
    auto login = std::make_shared<FakeLogin>(user);
    logins.push_back(login);
    return login;
  }
  Result<LoginRef> judge(const LoginPoint& point, const Credentials& who) {
    if (busy) return fail(ErrorKind::kBusy, "busy");
    clientIds.push_back(point.clientId);
    if (auto token = tokens.find(who.password); token != tokens.end()) {
      auto login = made(token->second.first);
      logins.back().lock()->expires = token->second.second;
      return login;
    }
    if (who.token) return fail(ErrorKind::kUnauthorized, "no such token");
    bool nobody = who.user.empty() || who.conventional;
    if (nobody && point.allowAnonymous) return made({});
    auto found = passwords.find(who.user);
    if (found == passwords.end() || found->second != who.password) {
      return fail(ErrorKind::kUnauthorized, "wrong");
    }
    return made(who.user);
  }

  Dispatcher& dispatcher_;
  SeededRandom random_{7};
};

}  // namespace polylog::test
