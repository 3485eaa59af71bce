// What one AMQP connection may cost, beside what AmqpOptions sets. README.md lists them for people.
#pragma once

#include <cstddef>
#include <cstdint>

namespace polylog::amqp {

/// Offered in connection.tune (RabbitMQ's defaults); 4,096 octets hold before (4.2.3).
inline constexpr uint16_t kChannelMax = 2047;
inline constexpr uint32_t kFrameMax = 131'072;
inline constexpr uint32_t kFrameMin = 4096;
inline constexpr uint16_t kHeartbeatSeconds = 60;
/// Clients get this wrong by the size of an empty frame, so payloads may be as long as a frame.
inline constexpr size_t kFrameFudge = 8;

/// Publishes gathered into one Broker::publish() at most.
inline constexpr size_t kMaxBatchRecords = 1024;
inline constexpr size_t kMaxBatchBytes = 1024 * 1024;

/// Reading pauses while more than this waits for the journal.
inline constexpr size_t kMaxWaitingRecords = 32 * 1024;
inline constexpr size_t kMaxWaitingBytes = 8 * 1024 * 1024;
/// Octets of answers that a peer which does not read may cause.
inline constexpr size_t kMaxUnreadAnswers = 256 * 1024;

/// Deliveries that a consumer without a prefetch of its own, or a channel by basic.get, may leave
/// unacknowledged.
inline constexpr int64_t kMaxUnacknowledged = 65'535;
/// Of one connection.
inline constexpr size_t kMaxConsumers = 65'535;
/// Deliveries that all consumers of one connection together may have been handed while it doesn't
/// read; one more always may go.
inline constexpr int64_t kMaxInFlight = 4096;
inline constexpr int64_t kMaxOctetsInFlight = 8 * 1024 * 1024;
/// Of one binding, since each publish to a headers exchange is compared with all of them.
inline constexpr size_t kMaxBindingArguments = 256;
/// Octets that all unfinished contents of one connection may hold: the largest body and this.
inline constexpr size_t kUnfinishedSlack = 16 * 1024 * 1024;

/// Encoded output is handed to the transport at this size.
inline constexpr size_t kOutputChunk = 16 * 1024;
/// Pieces of bodies from this size on go out by reference.
inline constexpr size_t kByReferenceBytes = 2048;

/// How long the client's connection.close-ok is waited for, in microseconds.
inline constexpr int64_t kCloseWaitMicros = 10'000'000;

/// A short string's octets (4.2.5.3).
inline constexpr size_t kMaxShortString = 255;

}  // namespace polylog::amqp
