// Consumer groups whose partitions the broker itself assigns (Kafka's KIP-848), in neutral terms,
// and what the router has to be told of how the members of the classic protocol write their
// subscriptions. Plain data.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/topic.h"

namespace polylog {

/// Partitions by topic. No topic stands with an empty set.
using Assignment = std::map<TopicId, std::set<int32_t>>;

/// A member's sign of life, and what has changed since its last one.
struct ConsumerHeartbeat {
  static constexpr int32_t kJoins = 0;
  static constexpr int32_t kLeaves = -1;
  static constexpr int32_t kLeavesForAWhile = -2;  ///< a static member, which will be back

  std::string group;
  std::string memberId;  ///< may be empty at the first one: the broker gives it one
  int32_t epoch = kJoins;
  std::optional<std::string> instanceId = {};  ///< static membership
  std::optional<std::string> rackId = {};
  std::string clientId = {};
  std::string clientHost = {};
  int32_t rebalanceTimeoutMs = -1;  ///< -1 = as before
  std::optional<std::vector<std::string>> topics = {};
  std::optional<std::string> pattern = {};  ///< a regular expression; empty = none any more
  std::optional<std::string> assignor = {};
  std::optional<Assignment> owned = {};
};

struct ConsumerHeartbeatAnswer {
  std::string memberId;
  int32_t epoch = 0;
  int32_t heartbeatIntervalMs = 0;
  std::optional<Assignment> assignment = {};  ///< all of it; nothing: as it was
};

struct NamedPartitions {
  TopicId id{};
  std::string topic;
  std::vector<int32_t> partitions = {};
};

/// What a group of this kind knows of a member, beside what groups of every kind do.
struct ConsumerDescription {
  bool classic = false;  ///< it speaks the classic protocol
  int32_t epoch = 0;
  std::optional<std::string> rackId = {};
  std::vector<std::string> topics = {};  ///< subscribed to by name
  std::string pattern = {};
  std::vector<std::string> matched = {};  ///< topics that the pattern stands for
  std::vector<NamedPartitions> assigned = {};
  std::vector<NamedPartitions> target = {};
};

/// Where a share group begins with a partition that it has not read yet.
struct ShareReset {
  static constexpr int64_t kLatest = -1;
  static constexpr int64_t kEarliest = -2;

  int64_t agoMs = kLatest;  ///< or with what is as old as that
  std::string text;         ///< as its protocol says it
  bool operator==(const ShareReset&) const = default;
};

/// What is set for one group; nothing: as for all.
struct GroupConfig {
  std::optional<int32_t> sessionTimeoutMs = {};
  std::optional<int32_t> heartbeatIntervalMs = {};
  // Of a share group.
  std::optional<int32_t> shareSessionTimeoutMs = {};
  std::optional<int32_t> shareHeartbeatIntervalMs = {};
  std::optional<int32_t> shareLockMs = {};
  std::optional<ShareReset> shareReset = {};
  std::optional<bool> shareCommittedOnly = {};  ///< members get committed records alone
  bool empty() const { return *this == GroupConfig{}; }
  bool operator==(const GroupConfig&) const = default;
};

/// In force where a group has nothing of its own, and what it may have.
struct GroupDefaults {
  int32_t sessionTimeoutMs = 45'000;
  int32_t minSessionTimeoutMs = 6'000;
  int32_t maxSessionTimeoutMs = 1'800'000;
  int32_t heartbeatIntervalMs = 5'000;
  int32_t minHeartbeatIntervalMs = 1'000;
  int32_t maxHeartbeatIntervalMs = 600'000;
  int32_t maxMembers = 10'000;

  int32_t shareSessionTimeoutMs = 45'000;
  int32_t minShareSessionTimeoutMs = 6'000;
  int32_t maxShareSessionTimeoutMs = 1'800'000;
  int32_t shareHeartbeatIntervalMs = 5'000;
  int32_t minShareHeartbeatIntervalMs = 1'000;
  int32_t maxShareHeartbeatIntervalMs = 600'000;
  int32_t shareLockMs = 30'000;
  int32_t minShareLockMs = 1'000;
  int32_t maxShareLockMs = 3'600'000;
  int32_t shareDeliveries = 5;       ///< how often a record is tried
  int32_t shareRecordLocks = 2'000;  ///< records of a partition that are neither new nor done with
  int32_t maxSharePartitions = 100'000;  ///< of one group
};

/// The topics that a member's regular expression stands for.
class TopicPattern {
 public:
  virtual ~TopicPattern() = default;
  virtual bool matches(const std::string& topic) const = 0;
};

/// How members of the classic protocol whose type is "consumer" write what is opaque to a group
/// that they have to themselves, and how consumers write patterns. Pure functions, any thread.
struct ConsumerFormat {
  using Partitions = std::vector<std::pair<std::string, std::vector<int32_t>>>;
  struct Subscription {
    int16_t version = 0;
    std::vector<std::string> topics;
    Partitions owned = {};
    std::optional<std::string> rackId = {};
  };
  std::function<Result<Subscription>(BytesView metadata)> parseSubscription = nullptr;
  std::function<Result<Partitions>(BytesView assignment)> parseAssignment = nullptr;
  std::function<std::string(const Partitions& assignment, int16_t version)> writeAssignment =
      nullptr;
  /// kInvalidPattern.
  std::function<Result<std::shared_ptr<const TopicPattern>>(const std::string& pattern)>
      compilePattern = nullptr;
};

}  // namespace polylog
