// Checks of one argument's value, in the words that RabbitMQ 3.10 has for what is wrong. Pure
// functions, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/model/queue.h"
#include "core/model/value.h"

namespace polylog::amqp {

inline constexpr BytesView kQueueType = "x-queue-type";
inline constexpr BytesView kMaxAge = "x-max-age";
inline constexpr BytesView kMaxLengthBytes = "x-max-length-bytes";
inline constexpr BytesView kDeadLetterExchange = "x-dead-letter-exchange";

/// "longstr", "signedint", ...: a value's type as Erlang names it.
const char* typeName(const Value& value);
/// A value as Erlang prints it; texts as they are if `plain`, else <<"text">>.
std::string printed(const Value& value, bool plain);
/// The text, or null if it is none.
inline const std::string* textOf(const Value& value) {
  return std::get_if<std::string>(&value.is);
}
/// "7D" as milliseconds (Y M D h m s). Nothing if it isn't one.
std::optional<int64_t> interval(BytesView text);

/// What is wrong with a value, in Erlang's terms; nothing = it is right.
using Wrong = std::optional<std::string>;

struct Argument {
  BytesView name;
  Wrong (*check)(const Value& value, const Table& all);
  /// Whether this value would have an effect that is not built.
  bool (*missing)(const Value& value);
};

/// A queue's arguments, in the order in which RabbitMQ checks and compares them.
std::span<const Argument> argumentsOf(QueueKind kind);
/// Whether only queues of another kind have such an argument.
bool foreignTo(QueueKind kind, BytesView name);

Wrong wrongQueueType(const Value& value);
Wrong wrongInteger(const Value& value);
Wrong wrongBoolean(const Value& value);

}  // namespace polylog::amqp
