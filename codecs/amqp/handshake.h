// What connection.start offers and what the client's answers come to (AMQP 0-9-1, 1.4): server
// properties, mechanisms, logins, tuning. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "codecs/amqp/errors.h"
#include "codecs/amqp/methods.h"
#include "codecs/amqp/options.h"
#include "core/model/authentication.h"

namespace polylog::amqp {

inline constexpr BytesView kExternal = "EXTERNAL";

/// The SASL mechanisms offered. `identified`: the client's certificate says who it is, so that it
/// may leave it at that (EXTERNAL, RFC 4422).
BytesView mechanisms(bool identified);

/// The table of server properties, without its length.
std::string serverProperties(const AmqpOptions& options);

/// What the client says of itself in connection.start-ok.
struct ClientFacts {
  std::string connectionName;
  bool failureClose = false;   ///< takes connection.close as the answer to a refused login
  bool cancelNotify = false;   ///< takes basic.cancel
  bool blockedNotify = false;  ///< takes connection.blocked
};
std::expected<ClientFacts, Fault> clientFacts(const ConnectionStartOk& method);

/// Who wants to log in. Faults are of malformed answers.
std::expected<Credentials, Fault> credentialsOf(const ConnectionStartOk& method);
/// Whether that is admitted where there are no passwords.
bool admittedWithoutPassword(const AmqpOptions& options, const std::string& peer);
/// For clients with ClientFacts::failureClose; others find the connection closed.
Fault loginRefused(BytesView mechanism);

/// What the client chose of what connection.tune offered.
Outcome checkTuning(const ConnectionTuneOk& method);

}  // namespace polylog::amqp
