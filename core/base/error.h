// Errors as values. A kind that code can act on, and a text for people that names the key, the
// peer or the path, and the remedy.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

namespace polylog {

/// What went wrong, in no protocol's terms. mapping/ gives each protocol's code for it.
enum class ErrorKind : uint8_t {
  kInvalid,      ///< the request makes no sense as it stands
  kUnsupported,  ///< known, but not built or not enabled
  kNotFound,     ///< topic, partition, group, session, ... of that name
  kAlreadyExists,
  kUnauthorized,
  kTooLarge,    ///< beyond a limit of size
  kOutOfRange,  ///< an offset below the log start or beyond the end
  kCorrupt,     ///< a checksum or structure does not hold
  kIo,          ///< the disk said no
  kNoSpace,     ///< the disk is full, or above its high watermark
  kBusy,        ///< a limit of count or rate; may pass
  kTimeout,
  kShutdown,            ///< the broker is stopping
  kProducerFenced,      ///< a newer epoch of the same producer exists
  kOutOfOrderSequence,  ///< an idempotent producer skipped a sequence number
  kUnknownProducer,
  kInvalidTransaction,     ///< not open, or what is asked doesn't belong to it
  kConcurrentTransaction,  ///< another change of the same transaction is under way: try again
  kUnknownMember,          ///< consumer groups
  kMemberIdRequired,
  kIllegalGeneration,
  kInconsistentProtocol,
  kRebalanceInProgress,
  kFencedInstance,
  kGroupNotEmpty,
  kFencedEpoch,         ///< a member's epoch is not the one that its group knows: join again
  kStaleEpoch,          ///< the same, but only what was asked with it is refused
  kUnreleasedInstance,  ///< the static member of that instance id has not left
  kUnsupportedAssignor,
  kInvalidPattern,  ///< a regular expression that can't be
  kLocked,          ///< exclusive to another client
  kInUse,           ///< has consumers or bindings
  kNotEmpty,
  kInternal,  ///< a bug of ours
};

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string text;
};

template <class T = void>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorKind kind, std::string text) {
  return std::unexpected(Error{kind, std::move(text)});
}

/// The kind's name in words, for logs and metrics ("not found").
const char* describe(ErrorKind kind);

}  // namespace polylog
