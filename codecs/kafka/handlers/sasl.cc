// SaslHandshake and SaslAuthenticate: who the client is.
#include "codecs/kafka/sasl.h"

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/wire/sasl_authenticate.h"
#include "codecs/kafka/wire/sasl_handshake.h"

namespace polylog::kafka {

void handleSaslHandshake(const CallRef& call, wire::SaslHandshakeRequest&& request) {
  wire::SaslHandshakeResponse response;
  response.mechanisms = call->sasl().mechanisms();
  if (!call->sasl().choose(request.mechanism, call->version() == 0)) {
    response.errorCode = code(Code::kUnsupportedSaslMechanism);
  }
  call->answer(response);
}

void handleSaslAuthenticate(const CallRef& call, wire::SaslAuthenticateRequest&& request) {
  if (!call->sasl().chosen()) {
    wire::SaslAuthenticateResponse response;
    response.errorCode = code(Code::kIllegalSaslState);
    response.errorMessage = "SaslAuthenticate request received without a SaslHandshake before it";
    return call->answer(response);
  }
  call->sasl().step(request.authBytes, [call](const Result<Sasl::Step>& step) {
    wire::SaslAuthenticateResponse response;
    if (!step) {
      response.errorCode = code(Code::kSaslAuthenticationFailed);
      response.errorMessage = step.error().text;
      call->lastAnswer();
      return call->answer(response);
    }
    response.authBytes = step->data;
    // Not asked of the session, which may have been closed since.
    response.sessionLifetimeMs = step->lifetimeMs;
    call->answer(response);
  });
}

}  // namespace polylog::kafka
