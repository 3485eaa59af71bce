#include "codecs/mqtt/authentication.h"

#include <utility>

#include "core/base/oauth_bearer.h"

namespace polylog::mqtt {
namespace {

std::unexpected<Fault> fault(ReasonCode code, const char* what) {
  return std::unexpected(Fault{code, what});
}

std::unexpected<Fault> faultOf(const Error& error) {
  if (error.kind == ErrorKind::kInvalid) {
    return fault(ReasonCode::kProtocolError, "malformed SCRAM message");
  }
  if (error.kind == ErrorKind::kBusy) return fault(ReasonCode::kServerBusy, "too many logins");
  return fault(ReasonCode::kNotAuthorized, "authentication failed");
}

/// The token in an AUTH or CONNECT packet's data: as such, or as RFC 7628 wraps it.
std::optional<Credentials> tokenIn(BytesView data) {
  Credentials out;
  out.token = true;
  out.password = data;
  if (data.starts_with("n,")) {
    auto message = parseBearer(data);
    // Whose identity it is says the token alone.
    if (!message || !message->as.empty()) return std::nullopt;
    out.password = std::move(message->token);
  }
  if (out.password.empty()) return std::nullopt;
  return out;
}

}  // namespace

Result<Authentication::Step> Authentication::begin(const LoginPoint& point,
                                                   const Admission& admission) {
  method_ = admission.method;
  scram_ = options_.authenticator->scram(point, *method_->scram);
  auto first = scram_->begin(admission.methodData);
  if (!first) return std::unexpected(std::move(first.error()));
  return Step{ReasonCode::kContinueAuthentication, std::move(*first), false};
}

Result<Credentials> Authentication::beginToken(const Admission& admission) {
  method_ = admission.method;
  auto token = tokenIn(admission.methodData);
  if (!token) return fail(ErrorKind::kUnauthorized, "no token in the authentication data");
  return *std::move(token);
}

std::optional<Fault> Authentication::unfit(const AuthPacket& packet) const {
  if (!method_) {
    return Fault{ReasonCode::kProtocolError, "AUTH without an authentication method"};
  }
  const auto name = packet.properties.text(PropertyId::kAuthenticationMethod);
  if (!name || *name != method_->name) {
    return Fault{ReasonCode::kProtocolError, "AUTH of another method than CONNECT's"};
  }
  return std::nullopt;
}

std::optional<Fault> Authentication::take(LoginRef login) {
  // What it holds belongs to who it was.
  if (login_ && login_->user() != login->user()) {
    return Fault{ReasonCode::kNotAuthorized, "another user than before"};
  }
  if (login_) {
    login_->onEnd(nullptr);
    login->succeed(*login_);
    if (!firstLogin_) firstLogin_ = std::move(login_);
  }
  login_ = std::move(login);
  return std::nullopt;
}

std::expected<Authentication::Step, Fault> Authentication::onAuth(const LoginPoint& point,
                                                                  const AuthPacket& packet,
                                                                  bool open) {
  if (auto wrong = unfit(packet)) return std::unexpected(*wrong);
  const BytesView data =
      packet.properties.text(PropertyId::kAuthenticationData).value_or(BytesView());
  if (packet.code == ReasonCode::kReAuthenticate && open && !scram_) {
    scram_ = options_.authenticator->scram(point, *method_->scram);
    auto first = scram_->begin(data);
    if (!first) return faultOf(first.error());
    return Step{ReasonCode::kContinueAuthentication, std::move(*first), false};
  }
  if (packet.code != ReasonCode::kContinueAuthentication || !scram_) {
    return fault(ReasonCode::kProtocolError, "AUTH out of turn");
  }
  auto finished = std::exchange(scram_, nullptr)->finish(data);
  if (!finished) return faultOf(finished.error());
  if (auto wrong = take(std::move(finished->login))) return std::unexpected(*wrong);
  return Step{ReasonCode::kSuccess, std::move(finished->serverFinal), true};
}

std::expected<Credentials, Fault> Authentication::onToken(const AuthPacket& packet) {
  if (auto wrong = unfit(packet)) return std::unexpected(*wrong);
  if (packet.code != ReasonCode::kReAuthenticate || renewing_) {
    return fault(ReasonCode::kProtocolError, "AUTH out of turn");
  }
  auto token =
      tokenIn(packet.properties.text(PropertyId::kAuthenticationData).value_or(BytesView()));
  if (!token) return fault(ReasonCode::kNotAuthorized, "no token in the authentication data");
  renewing_ = true;
  return *std::move(token);
}

std::expected<Authentication::Step, Fault> Authentication::renewed(Result<LoginRef> login) {
  renewing_ = false;
  if (!login) return faultOf(login.error());
  if (auto wrong = take(*std::move(login))) return std::unexpected(*wrong);
  return Step{ReasonCode::kSuccess, {}, true};
}

AuthPacket Authentication::packet(const Step& step) const {
  AuthPacket out;
  out.code = step.code;
  out.properties.add(PropertyId::kAuthenticationMethod, BytesView(method_->name));
  if (method_->scram) out.properties.add(PropertyId::kAuthenticationData, BytesView(step.data));
  return out;
}

}  // namespace polylog::mqtt
