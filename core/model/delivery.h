// Records on their way to a subscriber.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/principal.h"
#include "core/model/record.h"
#include "core/model/replay.h"

namespace polylog {

/// A record as it was routed, shared by all its subscribers on all threads; immutable.
struct RoutedRecord {
  SharedBytes owner;  ///< keeps `record` and `address` alive
  Record record;
  Address address;  ///< as published
  Protocol origin = Protocol::kInternal;
};

using RoutedRecordRef = std::shared_ptr<const RoutedRecord>;

/// Ids from here on are of deliveries from shared subscriptions, a sequence of its own beside the
/// session's.
inline constexpr int64_t kSharedIds = int64_t{1} << 62;

struct Delivery {
  RoutedRecordRef record;
  /// For kAtLeastOnce and kExactlyOnce: rises by one a delivery within the session and is what
  /// acknowledge() takes; the same delivery has the same id after a reconnect or a crash,
  /// but for those from kSharedIds on, which go to another member. -1 for kAtMostOnce.
  int64_t id = -1;
  DeliveryGuarantee guarantee = DeliveryGuarantee::kAtMostOnce;
  bool retain = false;       ///< the retain flag to send
  bool redelivered = false;  ///< may have been sent before
  /// kExactlyOnce only: the client has accepted it before (PUBREC); only the release is still due,
  /// and there may be no `record`.
  bool accepted = false;
  std::vector<uint32_t> subscriptionIds;
  /// Of those for a subscription that replays: where in its topic the record stands.
  std::optional<LogPlace> place;
};

}  // namespace polylog
