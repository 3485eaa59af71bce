// What one MQTT connection may cost, beside what MqttOptions sets. README.md lists them for people.
#pragma once

#include <cstddef>
#include <cstdint>

namespace polylog::mqtt {

/// The largest CONNECT, will and all: as much as a connection may buffer before its handshake.
inline constexpr size_t kMaxConnectBytes = 4096;
/// The largest packet other than PUBLISH.
inline constexpr size_t kMaxControlBytes = 256 * 1024;
/// Added to the largest payload to make the largest packet: topic, properties, header.
inline constexpr size_t kPacketOverhead = 128 * 1024;
/// The largest Remaining Length that four octets can say.
inline constexpr size_t kMaxRemainingLength = 268'435'455;

inline constexpr size_t kMaxUserProperties = 1024;

/// Publishes gathered into one Broker::publish() at most.
inline constexpr size_t kMaxBatchRecords = 1024;
inline constexpr size_t kMaxBatchBytes = 1024 * 1024;

/// Reading pauses while more than this waits for the journal.
inline constexpr size_t kMaxWaitingRecords = 32 * 1024;
inline constexpr size_t kMaxWaitingBytes = 8 * 1024 * 1024;
/// Publishes at QoS 0 go unannounced until this much has gone since the last answer; then one batch
/// asks the journal when it is through.
inline constexpr size_t kProbeRecords = kMaxWaitingRecords / 4;
inline constexpr size_t kProbeBytes = kMaxWaitingBytes / 4;

/// Subscribe, unsubscribe and release requests that wait for the journal.
inline constexpr size_t kMaxWaitingRequests = 4096;
/// Octets of answers that a peer which does not read may cause.
inline constexpr size_t kMaxUnreadAnswers = 256 * 1024;

/// Octets of a reason string at most, and of a packet beside it and what else it has.
inline constexpr size_t kMaxReason = 512;
inline constexpr size_t kReasonOverhead = 16;

/// Deliveries taken from the session at a time, and the encoded size at which they are handed to
/// the transport.
inline constexpr size_t kTakeAtOnce = 64;
inline constexpr size_t kOutputChunk = 16 * 1024;
/// Payloads from this size on go out by reference.
inline constexpr size_t kByReferenceBytes = 2048;

/// Topic aliases towards a client, however many it takes, and the longest name that is kept for
/// one.
inline constexpr uint16_t kMaxOutboundAliases = 256;
inline constexpr size_t kMaxAliasedName = 1024;
/// What an alias adds to a packet at most: itself, and two lengths that grow by an octet.
inline constexpr size_t kAliasBytes = 5;

/// Packet identifiers are 1..65535: so many for a session's own deliveries, the rest for those from
/// shared subscriptions, whose ids are another sequence.
inline constexpr int64_t kOwnPacketIds = 49'151;
inline constexpr int64_t kSharedPacketIds = 65'535 - kOwnPacketIds;

}  // namespace polylog::mqtt
