// SASL OAUTHBEARER's messages (RFC 7628), as clients of Kafka and MQTT send them. Pure.
#pragma once

#include <optional>
#include <string>

#include "core/base/bytes.h"

namespace polylog {

struct BearerResponse {
  std::string as;  ///< the authorization identity; empty = the token's own
  std::string token;
};

/// The client's first message (3.1): `n,[a=AS],` ^A `auth=Bearer TOKEN` ^A [`KEY=VALUE` ^A]... ^A.
/// Nothing if it is malformed or has no token. Extensions (KIP-342) are passed over.
std::optional<BearerResponse> parseBearer(BytesView message);

/// The server's word that the token won't do (3.2.2), which the client is to confirm with a ^A.
inline constexpr BytesView kBearerInvalid = R"({"status":"invalid_token"})";
inline constexpr BytesView kBearerUnavailable = R"({"status":"temporarily_unavailable"})";

}  // namespace polylog
