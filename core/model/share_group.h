// Share groups (Kafka's KIP-932), in neutral terms: many members read the same partitions, each
// record goes to one of them for a while, and who has got it accepts, releases or rejects it. The
// router implements ShareGroups; share sessions are their protocol's business.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/model/broker.h"
#include "core/model/principal.h"
#include "core/model/topic.h"

namespace polylog {

/// A member's sign of life.
struct ShareHeartbeat {
  static constexpr int32_t kJoins = 0;
  static constexpr int32_t kLeaves = -1;

  std::string group;
  std::string memberId;
  int32_t epoch = kJoins;
  std::optional<std::string> rackId = {};
  std::string clientId = {};
  std::string clientHost = {};
  std::optional<std::vector<std::string>> topics = {};  ///< nothing: as before
};

/// What a member says of records that it has got. The numbers are Kafka's.
enum class ShareVerdict : int8_t {
  kGap = 0,      ///< there is no record at that offset
  kAccept = 1,   ///< done with
  kRelease = 2,  ///< for somebody else, or again
  kReject = 3,   ///< never again
  kRenew = 4,    ///< needs longer
};

struct ShareVerdicts {
  int64_t first = 0;
  int64_t last = 0;                    ///< inclusive
  std::vector<ShareVerdict> verdicts;  ///< one for all of them, or one each
};

struct SharePlace {
  TopicId topic{};
  int32_t partition = 0;
  auto operator<=>(const SharePlace&) const = default;
};

struct ShareSettlement {
  SharePlace place;
  std::vector<ShareVerdicts> batches;  ///< ascending and apart
};

/// A range of offsets that a member has got, all for the `deliveries`th time.
struct ShareRange {
  int64_t first = 0;
  int64_t last = 0;  ///< inclusive
  int16_t deliveries = 1;
  bool operator==(const ShareRange&) const = default;
};

struct ShareAcquire {
  std::string group;
  std::string memberId;
  std::vector<SharePlace> places;  ///< in the order in which they are to be looked at
  size_t minBytes = 0;             ///< waits for so much
  size_t maxBytes = 0;             ///< at least one batch, whatever its size
  int64_t maxRecords = 0;
  bool exactly = false;  ///< not more than maxRecords for the sake of whole batches
  int64_t maxWaitMs = 0;
};

struct ShareAcquired {
  struct Part {
    SharePlace place;
    std::optional<Error> error = {};
    Fetched fetched = {};  ///< whole batches that hold the ranges
    std::vector<ShareRange> ranges = {};
  };
  std::vector<Part> parts;  ///< those with records or an error
  int32_t lockMs = 0;       ///< how long they are the member's
  /// The member, as a token of this very grant.
  std::shared_ptr<const std::string> grant = nullptr;
  bool empty() const { return parts.empty(); }
};

struct ShareSettled {
  std::vector<Result<>> results;  ///< one a settlement
  int32_t lockMs = 0;             ///< what is renewed is the member's for so long
};

struct ShareOffset {
  TopicId id{};
  std::string topic;
  int32_t partition = 0;
  int64_t start = -1;  ///< of what has not been dealt with; -1 = nobody has read yet
  int64_t lag = -1;
  std::optional<Error> error = {};
};

/// Every call on a worker; `done` once, later, on that worker, when what was changed is durable.
/// kUnauthorized: asked for the group, and for each topic.
class ShareGroups {
 public:
  virtual ~ShareGroups() = default;

  /// A member joins, lives, changes or leaves. kNotFound for groups of another kind,
  /// kUnknownMember, kFencedEpoch, kBusy (too many members).
  virtual void shareHeartbeat(const PrincipalRef& principal, ShareHeartbeat beat,
                              Done<Result<ConsumerHeartbeatAnswer>> done) = 0;
  /// Whether the principal may take part in the group, which what follows needs.
  virtual bool mayTakePart(const PrincipalRef& principal, const std::string& group) const = 0;
  /// kLocked where a record isn't the member's (any more), kNotFound for topics and partitions that
  /// aren't there: nothing of such a settlement counts.
  virtual void settleShares(const PrincipalRef& principal, std::string group, std::string memberId,
                            std::vector<ShareSettlement> settlements,
                            Done<Result<ShareSettled>> done) = 0;
  /// Records for a member; waits for some if there are none. Destroy the handle to stop waiting:
  /// what it gets then goes back. kNotFound if there is no such group.
  virtual std::unique_ptr<WaitHandle> acquireShares(const PrincipalRef& principal,
                                                    ShareAcquire asked,
                                                    Done<Result<ShareAcquired>> done) = 0;
  /// What the member has got and said nothing of goes back. `done` may be null. For the end of a
  /// session that was the principal's own: nobody is asked.
  virtual void releaseShares(std::string group, std::string memberId,
                             std::move_only_function<void()> done) = 0;

  /// Nothing: of all partitions that have been read.
  virtual void shareOffsets(const PrincipalRef& principal, std::string group,
                            std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                            Done<Result<std::vector<ShareOffset>>> done) = 0;
  /// Where an empty group goes on (`start`), all else about the partitions forgotten; one result
  /// each. kNotFound, kGroupNotEmpty.
  virtual void alterShareOffsets(const PrincipalRef& principal, std::string group,
                                 std::vector<ShareOffset> offsets,
                                 Done<Result<std::vector<Result<>>>> done) = 0;
  /// An empty group forgets whole topics; one result each.
  virtual void deleteShareOffsets(const PrincipalRef& principal, std::string group,
                                  std::vector<std::string> topics,
                                  Done<Result<std::vector<Result<>>>> done) = 0;
};

}  // namespace polylog
