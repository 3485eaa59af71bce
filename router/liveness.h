// What of the journal will be read again, as the durable state says: inboxes' and queues'
// acknowledgements, delayed publishes that are through, and how far routing has come. On the store's maintenance thread.
#pragma once

#include <optional>
#include <vector>

#include "storage/log_store.h"

namespace polylog::router {

class DurableLiveness final : public storage::Liveness {
 public:
  explicit DurableLiveness(storage::LogStore& store) : store_(store) { store_.setLiveness(this); }
  ~DurableLiveness() override { store_.setLiveness(nullptr); }

  std::vector<storage::OffsetRange> usedUp(PartitionId partition) const override;
  Position routedUpTo() const override;

 private:
  bool isDelayed(PartitionId partition) const;
  std::vector<storage::OffsetRange> delayedUsedUp(PartitionId partition) const;

  storage::LogStore& store_;
  mutable std::optional<PartitionId> delayed_;  ///< once there is one
};

}  // namespace polylog::router
