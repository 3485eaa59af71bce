// Who the client of one session is: its login, and what goes to and fro in AUTH packets at its
// CONNECT and again later (MQTT 5, 4.12): SCRAM conversations, and tokens, which come in one
// packet. On the connection's thread only; owned by Session, which does what it answers.
#pragma once

#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "codecs/mqtt/handshake.h"
#include "codecs/mqtt/packet.h"
#include "core/model/authentication.h"

namespace polylog::mqtt {

class Authentication {
 public:
  explicit Authentication(const MqttOptions& options) : options_(options) {}

  /// What there is to say to the client, and whether that was the end of it.
  struct Step {
    ReasonCode code = ReasonCode::kContinueAuthentication;
    std::string data;
    bool done = false;
  };
  /// The admission names a method, SCRAM's. kInvalid and so on, as ScramLogin.
  Result<Step> begin(const LoginPoint& point, const Admission& admission);
  /// The admission names one of tokens: what to log in with. kUnauthorized: there is none in it.
  Result<Credentials> beginToken(const Admission& admission);
  /// Of CONNECT's method.
  bool byToken() const { return method_ && !method_->scram; }

  /// An AUTH of the client's in a SCRAM conversation. `open`: its CONNECT is through, so it may
  /// begin anew.
  std::expected<Step, Fault> onAuth(const LoginPoint& point, const AuthPacket& packet, bool open);
  /// One with a newer token: what to log in with, and renewed() is to follow.
  std::expected<Credentials, Fault> onToken(const AuthPacket& packet);
  std::expected<Step, Fault> renewed(Result<LoginRef> login);

  /// An AUTH packet for a step. Views into the step.
  AuthPacket packet(const Step& step) const;
  void hold(LoginRef login) { login_ = std::move(login); }
  const LoginRef& login() const { return login_; }

 private:
  std::optional<Fault> unfit(const AuthPacket& packet) const;
  std::optional<Fault> take(LoginRef login);

  const MqttOptions& options_;
  std::optional<Method> method_;  ///< as of CONNECT
  std::unique_ptr<ScramLogin> scram_;
  bool renewing_ = false;  ///< a token is being looked at
  LoginRef login_;
  LoginRef firstLogin_;  ///< whom the principal is of, once login_ is a newer one
};

}  // namespace polylog::mqtt
