// Kafka's error codes that the codec itself gives. What the broker's errors become is
// mapping/errors.h's business.
#pragma once

#include <cstdint>

#include "mapping/errors.h"

namespace polylog::kafka {

enum class Code : int16_t {
  kNone = 0,
  kOffsetOutOfRange = 1,
  kCorruptMessage = 2,
  kUnknownTopicOrPartition = 3,
  kLeaderNotAvailable = 5,
  kNotLeader = 6,
  kMessageTooLarge = 10,
  kOffsetMetadataTooLarge = 12,
  kInvalidTopic = 17,
  kInvalidRequiredAcks = 21,
  kIllegalGeneration = 22,
  kInconsistentGroupProtocol = 23,
  kInvalidGroupId = 24,
  kUnknownMemberId = 25,
  kInvalidSessionTimeout = 26,
  kTopicAuthorizationFailed = 29,
  kGroupAuthorizationFailed = 30,
  kClusterAuthorizationFailed = 31,
  kInvalidTimestamp = 32,
  kUnsupportedSaslMechanism = 33,
  kIllegalSaslState = 34,
  kUnsupportedVersion = 35,
  kTopicAlreadyExists = 36,
  kInvalidPartitions = 37,
  kInvalidReplicationFactor = 38,
  kInvalidReplicaAssignment = 39,
  kInvalidConfig = 40,
  kInvalidRequest = 42,
  kPolicyViolation = 44,
  kInvalidProducerEpoch = 47,
  kInvalidTxnState = 48,
  kInvalidProducerIdMapping = 49,
  kInvalidTransactionTimeout = 50,
  kTransactionalIdAuthorizationFailed = 53,
  kSecurityDisabled = 54,
  kOperationNotAttempted = 55,
  kStorageError = 56,
  kSaslAuthenticationFailed = 58,
  kNonEmptyGroup = 68,
  kGroupIdNotFound = 69,
  kFetchSessionIdNotFound = 70,
  kInvalidFetchSessionEpoch = 71,
  kFencedLeaderEpoch = 74,
  kUnknownLeaderEpoch = 75,
  kUnsupportedCompressionType = 76,
  kThrottlingQuotaExceeded = 89,
  kElectionNotNeeded = 84,
  kNoReassignmentInProgress = 85,
  kGroupSubscribedToTopic = 86,
  kInvalidRecord = 87,
  kUnstableOffsetCommit = 88,
  kResourceNotFound = 91,
  kDuplicateResource = 92,
  kUnacceptableCredential = 93,
  kInvalidUpdateVersion = 95,
  kFeatureUpdateFailed = 96,
  kProducerFenced = 90,
  kUnknownTopicId = 100,
  kFetchSessionTopicIdError = 106,
  kUnknownSubscriptionId = 117,
  kTelemetryTooLarge = 118,
  kMismatchedEndpointType = 114,
  kUnsupportedEndpointType = 115,
  kTransactionalIdNotFound = 105,
  kTransactionAbortable = 120,
  kInvalidRecordState = 121,
  kShareSessionNotFound = 122,
  kInvalidShareSessionEpoch = 123,
  kShareSessionLimitReached = 133,
};

inline constexpr int16_t code(Code c) {
  return static_cast<int16_t>(c);
}

using Area = mapping::KafkaArea;

inline int16_t code(const Error& error, Area area) {
  return mapping::kafkaError(error.kind, area);
}

}  // namespace polylog::kafka
