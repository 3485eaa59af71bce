// Exceptions (AMQP 0-9-1, 4.10) as values, with the texts that RabbitMQ gives: clients and their
// users know them. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "codecs/amqp/methods.h"
#include "core/base/bytes.h"
#include "core/base/error.h"

namespace polylog::amqp {

/// Closes the channel (soft) or the connection (hard, see isHardError()).
struct Fault {
  ReplyCode code = ReplyCode::kInternalError;
  std::string text;  ///< behind the code's name
  /// The method at fault; nothing = none.
  uint16_t classId = 0;
  uint16_t methodId = 0;
};
/// Nothing = all is well.
using Outcome = std::optional<Fault>;

inline Fault fault(ReplyCode code, std::string text) {
  return Fault{code, std::move(text), 0, 0};
}

/// The method is at fault, unless something else was named.
Outcome about(Outcome outcome, MethodId method);

/// "NOT_FOUND - no queue 'q' in vhost '/'", in 255 octets at most.
std::string replyText(const Fault& fault);

// What faults are about, as RabbitMQ writes it.
std::string queueText(BytesView name);     ///< "queue 'q' in vhost '/'"
std::string exchangeText(BytesView name);  ///< "exchange 'x' in vhost '/'"

/// `resource` as above.
Fault notFound(const std::string& resource);
Fault locked(BytesView queue);
/// "" for a queue, and none declared before.
Fault noLastQueue();
Fault reservedPrefix(const char* kind, BytesView name);
Fault notBuilt(const std::string& what);
/// A method that decodeMethod() has refused so.
Fault undecodable(BytesView payload, ErrorKind why);
/// A frame in the wrong place: "type 3, all octets = <<"abc">>".
Fault unexpectedFrame(uint8_t type, BytesView payload);
/// A frame that is wrong in itself, in Erlang's words for how.
Fault badFrame(uint8_t type, BytesView payload, const std::string& how);

/// What the broker said no with, about `resource`. For kinds that have no text of their own at the
/// place of the call.
Fault faultOf(const Error& error, const std::string& resource, const std::string& user);

/// For a log's line: without control characters.
std::string shown(BytesView text);

/// Octets as Erlang prints them: <<"text">> if printable, else <<1,2,3>>; `plain`: always numbers.
std::string erlangBinary(BytesView octets, bool plain = false);

}  // namespace polylog::amqp
