// Who the client of one Kafka connection is: the SASL mechanism that it chose, the conversation,
// the login that came of it and how long that holds (KIP-368). On the connection's thread only;
// owned by its session.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codecs/kafka/call.h"
#include "core/model/authentication.h"

namespace polylog::kafka {

class Sasl {
 public:
  Sasl(const Services& services, Transport& transport)
      : options_(services.options), transport_(transport) {}

  /// In the order in which SaslHandshake names them.
  std::vector<BytesView> mechanisms() const;
  /// Logs in whom its client certificate names. False: the connection is to be closed. Once.
  bool identify();
  /// As the client names itself in its requests.
  void clientIs(BytesView clientId) { clientId_ = clientId; }
  /// False: not offered.
  bool choose(BytesView mechanism, bool rawTokens);
  bool chosen() const { return !mechanism_.empty(); }
  /// Tokens come as frames of their own (SaslHandshake version 0).
  bool raw() const { return raw_; }
  /// A step is on its way: nothing is read meanwhile.
  bool busy() const { return busy_; }

  struct Step {
    std::string data;   ///< for the client
    bool done = false;  ///< logged in
    /// How long that login holds, as of now; 0 = for as long as the connection.
    int64_t lifetimeMs = 0;
  };
  /// `then` runs once, now or later; perhaps after the session has been closed, not after it is
  /// gone. An error's text is for the client, the connection ends with it.
  void step(BytesView token, std::function<void(Result<Step>)> then);

  /// Whether requests may be served now.
  bool mayAsk(int64_t nowMicros) const;
  /// Whether it must log in before the handshake's limits are lifted.
  bool mustLogIn() const;
  const LoginRef& login() const { return login_; }
  /// Told when the login is another, or ends.
  std::function<void()> onLogin;
  std::function<void(LoginEnd)> onEnd;

 private:
  LoginPoint point() const;
  void plain(BytesView token, std::function<void(Result<Step>)> then);
  void bearer(BytesView token, std::function<void(Result<Step>)> then);
  Result<Step> bearerJudged(const std::string& as, Result<LoginRef> login);
  Result<Step> scram(BytesView token);
  Result<> admitted(LoginRef login);
  void watch();

  const KafkaOptions& options_;
  Transport& transport_;
  std::string clientId_;
  std::string mechanism_;  ///< of the conversation under way
  std::string first_;      ///< of the first login
  bool raw_ = false;
  bool byCertificate_ = false;  ///< nobody has logged in by SASL yet
  bool busy_ = false;
  std::unique_ptr<ScramLogin> scram_;
  std::string bearerRefusal_;  ///< told, and the client is to confirm it
  LoginRef login_;
  int64_t lifetimeMs_ = 0;
  int64_t expiresAt_ = INT64_MAX;  ///< monotonic microseconds
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace polylog::kafka
