#include "codecs/mqtt/authentication.h"

#include <utility>

namespace polylog::mqtt {
namespace {

std::unexpected<Fault> fault(ReasonCode code, const char* what) {
  return std::unexpected(Fault{code, what});
}

std::unexpected<Fault> faultOf(const Error& error) {
  if (error.kind == ErrorKind::kInvalid) {
    return fault(ReasonCode::kProtocolError, "malformed SCRAM message");
  }
  return fault(ReasonCode::kNotAuthorized, "authentication failed");
}

}  // namespace

Result<Authentication::Step> Authentication::begin(const LoginPoint& point,
                                                   const Admission& admission) {
  method_ = admission.method;
  scram_ = options_.authenticator->scram(point, *method_);
  auto first = scram_->begin(admission.methodData);
  if (!first) return std::unexpected(std::move(first.error()));
  return Step{ReasonCode::kContinueAuthentication, std::move(*first), false};
}

std::expected<Authentication::Step, Fault> Authentication::onAuth(const LoginPoint& point,
                                                                  const AuthPacket& packet,
                                                                  bool open) {
  if (!method_) {
    return fault(ReasonCode::kProtocolError, "AUTH without an authentication method");
  }
  const auto name = packet.properties.text(PropertyId::kAuthenticationMethod);
  if (!name || scramMethod(*name) != method_) {
    return fault(ReasonCode::kProtocolError, "AUTH of another method than CONNECT's");
  }
  const BytesView data =
      packet.properties.text(PropertyId::kAuthenticationData).value_or(BytesView());
  if (packet.code == ReasonCode::kReAuthenticate && open && !scram_) {
    scram_ = options_.authenticator->scram(point, *method_);
    auto first = scram_->begin(data);
    if (!first) return faultOf(first.error());
    return Step{ReasonCode::kContinueAuthentication, std::move(*first), false};
  }
  if (packet.code != ReasonCode::kContinueAuthentication || !scram_) {
    return fault(ReasonCode::kProtocolError, "AUTH out of turn");
  }
  auto finished = std::exchange(scram_, nullptr)->finish(data);
  if (!finished) return faultOf(finished.error());
  // What it holds belongs to who it was.
  if (login_ && login_->user() != finished->login->user()) {
    return fault(ReasonCode::kNotAuthorized, "another user than before");
  }
  if (login_) {
    login_->onEnd(nullptr);
    if (!firstLogin_) firstLogin_ = std::move(login_);
  }
  login_ = std::move(finished->login);
  return Step{ReasonCode::kSuccess, std::move(finished->serverFinal), true};
}

AuthPacket Authentication::packet(const Step& step) const {
  AuthPacket out;
  out.code = step.code;
  out.properties.add(PropertyId::kAuthenticationMethod, scram::mechanismName(*method_));
  out.properties.add(PropertyId::kAuthenticationData, BytesView(step.data));
  return out;
}

}  // namespace polylog::mqtt
