// Who the client of one session is: its login, and the SCRAM conversations in AUTH packets, at its
// CONNECT and again later (MQTT 5, 4.12). On the connection's thread only; owned by Session, which
// does what it answers.
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
  /// The admission names a method. kInvalid and so on, as ScramLogin.
  Result<Step> begin(const LoginPoint& point, const Admission& admission);
  /// An AUTH of the client's. `open`: its CONNECT is through, so it may begin anew.
  std::expected<Step, Fault> onAuth(const LoginPoint& point, const AuthPacket& packet, bool open);

  /// An AUTH packet for a step. Views into the step.
  AuthPacket packet(const Step& step) const;
  void hold(LoginRef login) { login_ = std::move(login); }
  const LoginRef& login() const { return login_; }

 private:
  const MqttOptions& options_;
  std::optional<scram::Hash> method_;  ///< as of CONNECT
  std::unique_ptr<ScramLogin> scram_;
  LoginRef login_;
  LoginRef firstLogin_;  ///< whom the principal is of, once login_ is a newer one
};

}  // namespace polylog::mqtt
