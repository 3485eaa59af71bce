// What one Kafka connection may cost, beside what KafkaOptions sets. README.md lists them for
// people.
#pragma once

#include <cstddef>
#include <cstdint>

namespace polylog::kafka {

/// Added to the largest batch to make the largest request: header, topic names, small batches.
inline constexpr size_t kRequestOverhead = 512 * 1024;
/// The largest request before the first well-formed one.
inline constexpr size_t kMaxFirstRequest = 4096;
/// Requests read and not answered yet; reading pauses at either limit.
inline constexpr size_t kMaxWaitingRequests = 256;
/// Octets that those requests, and answers that wait for an earlier one's, hold.
inline constexpr size_t kMaxWaitingBytes = 16 * 1024 * 1024;
/// How long answers may take at shutdown.
inline constexpr int64_t kShutdownMicros = 2'000'000;
/// The longest that a fetch waits, whatever it asks for.
inline constexpr int32_t kMaxFetchWaitMs = 5 * 60 * 1000;

/// Partitions that fetch sessions remember in all.
inline constexpr size_t kMaxSessionPartitions = 200'000;
/// Share sessions of one connection, of which a client's consumer has one, and what they remember.
inline constexpr size_t kMaxShareSessionsOfConnection = 50;
inline constexpr size_t kMaxSessionPartitionsOfConnection = 20'000;
/// How long a fetch session has its place for sure (Kafka's two minutes).
inline constexpr int64_t kFetchSessionEvictionMs = 120'000;

/// Clients that are measured apart from each other for their quotas.
inline constexpr size_t kMaxMeasuredClients = 20'000;
/// The longest that a client is held for passing its quota, at one time.
inline constexpr int32_t kMaxThrottleMs = 60 * 60 * 1000;
/// The longest that its connection isn't read for that, at one time.
inline constexpr int32_t kMaxMuteMs = 30'000;

/// Octets of metrics that a client may push, as compressed (Kafka's telemetry.max.bytes), and
/// decompressed.
inline constexpr size_t kMaxTelemetryBytes = 1024 * 1024;
inline constexpr size_t kMaxTelemetryDecompressed = 4 * 1024 * 1024;
/// Values of one push that are looked at.
inline constexpr size_t kMaxTelemetryPoints = 2000;

/// Octets of a client's software name, or version.
inline constexpr size_t kMaxSoftwareName = 255;

/// Octets of a group member's id: a client id and a random part, or a UUID.
inline constexpr size_t kMaxMemberId = 1024;
/// Octets of a static member's instance id (Kafka's clients take 249) and of a rack's.
inline constexpr size_t kMaxInstanceId = 255;
inline constexpr size_t kMaxRackId = 255;

/// Batches up to this size are copied into the answer, larger ones go by reference.
inline constexpr size_t kCopiedBatchBytes = 2048;
/// What a shared batch may decompress to when a part of it is to be handed out.
inline constexpr size_t kMaxDecompressedBytes = 64 * 1024 * 1024;

/// Partitions of one topic that a request can ask for.
inline constexpr int32_t kMaxPartitions = 10'000;
/// Partitions in one answer to DescribeTopicPartitions (max.request.partition.size.limit).
inline constexpr int32_t kMaxDescribedPartitions = 2000;
/// An offset's metadata (Kafka's offset.metadata.max.bytes).
inline constexpr size_t kMaxOffsetMetadata = 4096;

}  // namespace polylog::kafka
