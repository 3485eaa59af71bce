#include "mapping/errors.h"

#include <algorithm>

namespace polylog::mapping {
namespace {

using K = ErrorKind;

// MQTT 5 reason codes (section 2.4): 0x11 no subscription existed, 0x80 unspecified, 0x82 protocol
// error, 0x83 implementation specific, 0x87 not authorized, 0x88 server unavailable, 0x89 server
// busy, 0x8B shutting down, 0x8E taken over, 0x8F filter invalid, 0x90 name invalid, 0x95 packet
// too large, 0x97 quota exceeded, 0x9E no shared subscriptions. MQTT 3.1.1 return codes: 2
// identifier rejected, 3 unavailable, 5 not authorized.
//
// The kinds that only consumer groups and idempotent producers meet never reach an MQTT client;
// should one, it is our fault and is said to be "unspecified".
constexpr MqttErrorRow kMqtt[] = {
    // clang-format off
    //                          CONNACK  3.1.1  PUBACK  SUBACK  UNSUBACK  DISCONNECT
    {K::kInvalid,               0x82,    2,     0x90,   0x8F,   0x8F,     0x82},
    {K::kUnsupported,           0x83,    3,     0x83,   0x9E,   0x83,     0x83},
    {K::kNotFound,              0x83,    3,     0x90,   0x83,   0x11,     0x83},
    {K::kAlreadyExists,         0x83,    3,     0x83,   0x83,   0x83,     0x8E},
    {K::kUnauthorized,          0x87,    5,     0x87,   0x87,   0x87,     0x87},
    {K::kTooLarge,              0x95,    3,     0x97,   0x97,   0x83,     0x95},
    {K::kOutOfRange,            0x83,    3,     0x83,   0x83,   0x83,     0x83},
    {K::kCorrupt,               0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kIo,                    0x88,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kNoSpace,               0x97,    3,     0x97,   0x97,   0x80,     0x97},
    {K::kBusy,                  0x89,    3,     0x97,   0x97,   0x80,     0x89},
    {K::kTimeout,               0x89,    3,     0x80,   0x80,   0x80,     0x89},
    {K::kShutdown,              0x88,    3,     0x80,   0x80,   0x80,     0x8B},
    {K::kProducerFenced,        0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kOutOfOrderSequence,    0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kUnknownProducer,       0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kInvalidTransaction,    0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kConcurrentTransaction, 0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kUnknownMember,         0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kMemberIdRequired,      0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kIllegalGeneration,     0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kInconsistentProtocol,  0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kRebalanceInProgress,   0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kFencedInstance,        0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kGroupNotEmpty,         0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kFencedEpoch,           0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kStaleEpoch,            0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kUnreleasedInstance,    0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kUnsupportedAssignor,   0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kInvalidPattern,        0x80,    3,     0x80,   0x80,   0x80,     0x80},
    {K::kLocked,                0x83,    3,     0x83,   0x97,   0x83,     0x83},
    {K::kInUse,                 0x83,    3,     0x83,   0x83,   0x83,     0x83},
    {K::kNotEmpty,              0x83,    3,     0x83,   0x83,   0x83,     0x83},
    {K::kInternal,              0x80,    3,     0x80,   0x80,   0x80,     0x80},
    // clang-format on
};

// Kafka's codes, by their names. Where a producer may try again it gets a code that its client
// holds for retriable: 7, 19 and 56.
constexpr int16_t kServerError = -1;
constexpr int16_t kOffsetOutOfRange = 1;
constexpr int16_t kCorruptMessage = 2;
constexpr int16_t kUnknownTopic = 3;
constexpr int16_t kNotLeader = 6;
constexpr int16_t kTimedOut = 7;
constexpr int16_t kMessageTooLarge = 10;
constexpr int16_t kCoordinatorLoading = 14;
constexpr int16_t kCoordinatorUnavailable = 15;
constexpr int16_t kInvalidTopic = 17;
constexpr int16_t kNotEnoughReplicas = 19;
constexpr int16_t kIllegalGeneration = 22;
constexpr int16_t kInconsistentProtocol = 23;
constexpr int16_t kUnknownMember = 25;
constexpr int16_t kRebalance = 27;
constexpr int16_t kTopicDenied = 29;
constexpr int16_t kGroupDenied = 30;
constexpr int16_t kClusterDenied = 31;
constexpr int16_t kUnsupportedVersion = 35;
constexpr int16_t kTopicExists = 36;
constexpr int16_t kInvalidRequest = 42;
constexpr int16_t kOutOfOrder = 45;
constexpr int16_t kInvalidEpoch = 47;
constexpr int16_t kInvalidTransactionState = 48;
constexpr int16_t kInvalidIdMapping = 49;
constexpr int16_t kConcurrent = 51;
constexpr int16_t kIdDenied = 53;
constexpr int16_t kStorage = 56;
constexpr int16_t kUnknownProducer = 59;
constexpr int16_t kNonEmptyGroup = 68;
constexpr int16_t kGroupNotFound = 69;
constexpr int16_t kMemberIdRequired = 79;
constexpr int16_t kGroupFull = 81;
constexpr int16_t kFencedInstance = 82;
constexpr int16_t kInvalidRecord = 87;
constexpr int16_t kThrottled = 89;
constexpr int16_t kProducerFenced = 90;
constexpr int16_t kFencedMemberEpoch = 110;
constexpr int16_t kUnreleasedInstanceId = 111;
constexpr int16_t kUnsupportedAssignor = 112;
constexpr int16_t kStaleMemberEpoch = 113;
constexpr int16_t kInvalidRegularExpression = 128;

constexpr KafkaErrorRow everywhere(ErrorKind kind, int16_t code) {
  return {kind, code, code, code, code, code};
}

constexpr KafkaErrorRow kKafka[] = {
    // kind, produce, topic, group, cluster, transaction
    {K::kInvalid, kInvalidRecord, kInvalidTopic, kInvalidRequest, kInvalidRequest, kInvalidRequest},
    everywhere(K::kUnsupported, kUnsupportedVersion),
    {K::kNotFound, kUnknownTopic, kUnknownTopic, kGroupNotFound, kUnknownTopic, kUnknownTopic},
    {K::kAlreadyExists, kTopicExists, kTopicExists, kInvalidRequest, kInvalidRequest,
     kInvalidRequest},
    {K::kUnauthorized, kTopicDenied, kTopicDenied, kGroupDenied, kClusterDenied, kIdDenied},
    {K::kTooLarge, kMessageTooLarge, kMessageTooLarge, kInvalidRequest, kInvalidRequest,
     kInvalidRequest},
    everywhere(K::kOutOfRange, kOffsetOutOfRange),
    {K::kCorrupt, kCorruptMessage, kCorruptMessage, kServerError, kServerError, kServerError},
    {K::kIo, kStorage, kStorage, kCoordinatorUnavailable, kStorage, kCoordinatorUnavailable},
    {K::kNoSpace, kStorage, kStorage, kCoordinatorUnavailable, kStorage, kCoordinatorUnavailable},
    {K::kBusy, kNotEnoughReplicas, kThrottled, kGroupFull, kThrottled, kCoordinatorUnavailable},
    everywhere(K::kTimeout, kTimedOut),
    {K::kShutdown, kNotLeader, kNotLeader, kCoordinatorUnavailable, kCoordinatorUnavailable,
     kCoordinatorUnavailable},
    {K::kProducerFenced, kInvalidEpoch, kInvalidEpoch, kInvalidEpoch, kProducerFenced,
     kProducerFenced},
    everywhere(K::kOutOfOrderSequence, kOutOfOrder),
    {K::kUnknownProducer, kUnknownProducer, kUnknownProducer, kInvalidIdMapping, kUnknownProducer,
     kInvalidIdMapping},
    everywhere(K::kInvalidTransaction, kInvalidTransactionState),
    {K::kConcurrentTransaction, kNotEnoughReplicas, kConcurrent, kCoordinatorLoading, kConcurrent,
     kConcurrent},
    everywhere(K::kUnknownMember, kUnknownMember),
    everywhere(K::kMemberIdRequired, kMemberIdRequired),
    everywhere(K::kIllegalGeneration, kIllegalGeneration),
    everywhere(K::kInconsistentProtocol, kInconsistentProtocol),
    everywhere(K::kRebalanceInProgress, kRebalance),
    everywhere(K::kFencedInstance, kFencedInstance),
    everywhere(K::kGroupNotEmpty, kNonEmptyGroup),
    everywhere(K::kFencedEpoch, kFencedMemberEpoch),
    everywhere(K::kStaleEpoch, kStaleMemberEpoch),
    everywhere(K::kUnreleasedInstance, kUnreleasedInstanceId),
    everywhere(K::kUnsupportedAssignor, kUnsupportedAssignor),
    everywhere(K::kInvalidPattern, kInvalidRegularExpression),
    everywhere(K::kLocked, kInvalidRequest),
    everywhere(K::kInUse, kInvalidRequest),
    everywhere(K::kNotEmpty, kInvalidRequest),
    everywhere(K::kInternal, kServerError),
};

// AMQP 0-9-1's reply codes (section 1.2), of which the specification says which are hard. As
// RabbitMQ uses them: it says "precondition failed" for its limits of count too.
constexpr uint16_t kContentTooLarge = 311;
constexpr uint16_t kConnectionForced = 320;
constexpr uint16_t kAccessRefused = 403;
constexpr uint16_t kNotFound = 404;
constexpr uint16_t kResourceLocked = 405;
constexpr uint16_t kPreconditionFailed = 406;
constexpr uint16_t kResourceError = 506;
constexpr uint16_t kNotImplemented = 540;
constexpr uint16_t kInternalError = 541;

constexpr AmqpErrorRow kAmqp[] = {
    // kind, code, hard
    {K::kInvalid, kPreconditionFailed, false},
    {K::kUnsupported, kNotImplemented, true},
    {K::kNotFound, kNotFound, false},
    {K::kAlreadyExists, kPreconditionFailed, false},
    {K::kUnauthorized, kAccessRefused, false},
    {K::kTooLarge, kContentTooLarge, false},
    {K::kOutOfRange, kPreconditionFailed, false},
    {K::kCorrupt, kInternalError, true},
    {K::kIo, kInternalError, true},
    {K::kNoSpace, kResourceError, true},
    {K::kBusy, kPreconditionFailed, false},
    {K::kTimeout, kResourceError, true},
    {K::kShutdown, kConnectionForced, true},
    {K::kProducerFenced, kInternalError, true},
    {K::kOutOfOrderSequence, kInternalError, true},
    {K::kUnknownProducer, kInternalError, true},
    {K::kInvalidTransaction, kInternalError, true},
    {K::kConcurrentTransaction, kInternalError, true},
    {K::kUnknownMember, kInternalError, true},
    {K::kMemberIdRequired, kInternalError, true},
    {K::kIllegalGeneration, kInternalError, true},
    {K::kInconsistentProtocol, kInternalError, true},
    {K::kRebalanceInProgress, kInternalError, true},
    {K::kFencedInstance, kInternalError, true},
    {K::kGroupNotEmpty, kInternalError, true},
    {K::kFencedEpoch, kInternalError, true},
    {K::kStaleEpoch, kInternalError, true},
    {K::kUnreleasedInstance, kInternalError, true},
    {K::kUnsupportedAssignor, kInternalError, true},
    {K::kInvalidPattern, kInternalError, true},
    {K::kLocked, kResourceLocked, false},
    {K::kInUse, kPreconditionFailed, false},
    {K::kNotEmpty, kPreconditionFailed, false},
    {K::kInternal, kInternalError, true},
};

/// Rows stand in the order of the kinds, one each, so that a kind is an index.
template <size_t N, class Row>
constexpr bool inOrder(const Row (&rows)[N]) {
  for (size_t i = 0; i < N; ++i) {
    if (static_cast<size_t>(rows[i].kind) != i) return false;
  }
  return N == static_cast<size_t>(ErrorKind::kInternal) + 1;
}
static_assert(inOrder(kMqtt));
static_assert(inOrder(kKafka));
static_assert(inOrder(kAmqp));

template <size_t N, class Row>
const Row& rowOf(const Row (&rows)[N], ErrorKind kind) {
  return rows[std::min(static_cast<size_t>(kind), N - 1)];
}

}  // namespace

const MqttErrorRow& mqttError(ErrorKind kind) {
  return rowOf(kMqtt, kind);
}

std::span<const MqttErrorRow> mqttErrors() {
  return kMqtt;
}

Mqtt311PublishFailure mqtt311PublishFailure(ErrorKind kind) {
  return kind == ErrorKind::kUnauthorized ? Mqtt311PublishFailure::kAcknowledgeAndDrop
                                          : Mqtt311PublishFailure::kClose;
}

int16_t kafkaError(ErrorKind kind, KafkaArea area) {
  const KafkaErrorRow& row = rowOf(kKafka, kind);
  switch (area) {
    case KafkaArea::kProduce: return row.produce;
    case KafkaArea::kTopic: return row.topic;
    case KafkaArea::kGroup: return row.group;
    case KafkaArea::kCluster: return row.cluster;
    case KafkaArea::kTransaction: return row.transaction;
  }
  return row.cluster;
}

std::span<const KafkaErrorRow> kafkaErrors() {
  return kKafka;
}

const AmqpErrorRow& amqpError(ErrorKind kind) {
  return rowOf(kAmqp, kind);
}

std::span<const AmqpErrorRow> amqpErrors() {
  return kAmqp;
}

}  // namespace polylog::mapping
