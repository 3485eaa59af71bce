// How subscriptions that replay stand in the state table kReplay, of sessions that outlive their
// connections. A key is u64 inbox, u32 number of the subscription, and
//   0                 the subscription itself
//   1, u64 partition  how far it has come in that; without one it begins with the oldest record
//   2                 where the records come from that the client has not acknowledged
// so that what belongs together stands together, in this order. Pure functions; kCorrupt, with the
// key, for what can't be read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/subscriber_session.h"

namespace polylog::router {

struct ReplayCursor {
  enum class Phase : uint8_t {
    kAt = 0,  ///< `value` is the next offset to look at
    kTime =
        1,  ///< begins with the first record of time `value`, or at `end` if there is none below
    kLast = 2,  ///< begins with the last `value` records below `end` which match
  };
  Phase phase = Phase::kAt;
  int64_t value = 0;
  int64_t end = 0;
  bool operator==(const ReplayCursor&) const = default;
};

/// A stored batch and its place in its topic: record i of it is at offset base + i.
struct ReplayOrigin {
  Position batch;
  int32_t partition = 0;
  int64_t base = 0;
  bool operator==(const ReplayOrigin&) const = default;
};

struct ReplayKey {
  enum class What : uint8_t { kSubscription = 0, kCursor = 1, kOrigins = 2 };
  PartitionId inbox;
  uint32_t number = 0;
  What what = What::kSubscription;
  PartitionId partition{};  ///< kCursor only
};

std::string replayKey(const ReplayKey& key);
Result<ReplayKey> parseReplayKey(BytesView key);

std::string encodeReplay(PartitionId inbox, const Subscription& subscription);
Result<Subscription> decodeReplay(PartitionId inbox, BytesView value);
std::string encodeReplayCursor(const ReplayCursor& cursor);
Result<ReplayCursor> decodeReplayCursor(BytesView value);
std::string encodeReplayOrigins(const std::vector<ReplayOrigin>& origins);
Result<std::vector<ReplayOrigin>> decodeReplayOrigins(BytesView value);

}  // namespace polylog::router
