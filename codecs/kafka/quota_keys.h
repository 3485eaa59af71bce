// Quotas by Kafka's names (KIP-546, 599, 612): which there are, of whom, and what values they take.
// A table; pure, any thread.
#pragma once

#include <optional>
#include <span>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/quotas.h"

namespace polylog::kafka {

struct QuotaKey {
  BytesView name;
  QuotaKind kind;
  bool whole;   ///< a whole number
  double most;  ///< the largest that Kafka takes
};
std::span<const QuotaKey> quotaKeys();

/// The entity as quotas know it, an address written in one way only. kInvalid, with what would be
/// right, for one that none can be of.
Result<QuotaEntity> checkedEntity(QuotaEntity entity);

/// What is asked for by name; without a value the quota goes. kInvalid for names that the entity
/// has no quota of, and for values that it can't have.
Result<QuotaChange> quotaChange(const QuotaEntity& entity, BytesView name,
                                std::optional<double> value);

}  // namespace polylog::kafka
