// Arguments (x-...) of queues, consumers, exchanges and bindings: which there are, what they may
// hold, what of them is built, and whether a second declaration asks for the same. The checks,
// their order and their texts are RabbitMQ 3.10's. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "codecs/amqp/errors.h"
#include "core/model/exchange.h"
#include "core/model/queue.h"

namespace polylog::amqp {

/// The name under which RabbitMQ offers direct replies, which are not built.
inline constexpr BytesView kReplyToQueue = "amq.rabbitmq.reply-to";

/// A method's arguments, as octets without their length.
Outcome decodeArguments(BytesView octets, Table& out);

/// basic's expiration: decimal milliseconds, 0 to ten years. The error is Erlang's word for what is
/// wrong with it.
std::expected<int64_t, std::string> parseExpiration(BytesView text);

/// The arguments of a queue that doesn't exist yet; sets `spec`'s kind and retention by them.
/// spec.name, its flags and its arguments are set.
Outcome checkNewQueue(QueueSpec& spec);
/// "stream" and "quorum" queues need a name.
bool mayBeServerNamed(const Table& arguments);
/// A queue that exists, against what a declaration asks for (exclusiveness apart).
Outcome checkSameQueue(const QueueInfo& current, const QueueSpec& asked);

std::optional<ExchangeType> exchangeType(BytesView name);
Outcome checkNewExchange(const ExchangeSpec& spec);
Outcome checkSameExchange(const ExchangeSpec& current, const ExchangeSpec& asked);

Outcome checkBinding(ExchangeType source, const Table& arguments);

/// basic.consume's arguments; sets `start` of streams.
Outcome checkConsumer(BytesView queue, QueueKind kind, const Table& arguments, int64_t nowMs,
                      StreamStart& start);

}  // namespace polylog::amqp
