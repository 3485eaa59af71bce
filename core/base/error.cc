#include "core/base/error.h"

namespace polylog {

const char* describe(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid: return "invalid";
    case ErrorKind::kUnsupported: return "unsupported";
    case ErrorKind::kNotFound: return "not found";
    case ErrorKind::kAlreadyExists: return "already exists";
    case ErrorKind::kUnauthorized: return "unauthorized";
    case ErrorKind::kTooLarge: return "too large";
    case ErrorKind::kOutOfRange: return "out of range";
    case ErrorKind::kCorrupt: return "corrupt";
    case ErrorKind::kIo: return "i/o error";
    case ErrorKind::kNoSpace: return "no space";
    case ErrorKind::kBusy: return "busy";
    case ErrorKind::kTimeout: return "timed out";
    case ErrorKind::kShutdown: return "shutting down";
    case ErrorKind::kProducerFenced: return "producer fenced";
    case ErrorKind::kOutOfOrderSequence: return "out of order sequence";
    case ErrorKind::kUnknownProducer: return "unknown producer";
    case ErrorKind::kInvalidTransaction: return "invalid transaction";
    case ErrorKind::kConcurrentTransaction: return "concurrent transaction";
    case ErrorKind::kUnknownMember: return "unknown member";
    case ErrorKind::kMemberIdRequired: return "member id required";
    case ErrorKind::kIllegalGeneration: return "illegal generation";
    case ErrorKind::kInconsistentProtocol: return "inconsistent protocol";
    case ErrorKind::kRebalanceInProgress: return "rebalance in progress";
    case ErrorKind::kFencedInstance: return "fenced instance";
    case ErrorKind::kGroupNotEmpty: return "group not empty";
    case ErrorKind::kFencedEpoch: return "fenced epoch";
    case ErrorKind::kStaleEpoch: return "stale epoch";
    case ErrorKind::kUnreleasedInstance: return "unreleased instance";
    case ErrorKind::kUnsupportedAssignor: return "unsupported assignor";
    case ErrorKind::kInvalidPattern: return "invalid pattern";
    case ErrorKind::kLocked: return "locked";
    case ErrorKind::kInUse: return "in use";
    case ErrorKind::kNotEmpty: return "not empty";
    case ErrorKind::kInternal: return "internal error";
  }
  return "unknown error";
}

}  // namespace polylog
