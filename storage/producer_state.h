// What a partition remembers of its idempotent producers: the last batches of each, appended ones
// that aren't durable yet included. Guarded by the store's lock.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/record_batch.h"
#include "storage/log_store.h"

namespace polylog::storage {

/// One batch of a producer, as far as telling a repeat needs it.
struct ProducerBatch {
  int16_t epoch = 0;
  int32_t firstSequence = 0;
  int32_t lastSequence = 0;
  Offset base;
  Position position;    ///< of the batch
  uint32_t length = 0;
};

/// The sequence `delta` after `first`: Kafka's wrap to 0 after the largest.
int32_t advanceSequence(int32_t first, int32_t delta);

/// The part of a batch header that producers are judged by.
ProducerBatch producerBatch(const RecordBatchHeader& header);

class ProducerTable {
 public:
  /// Repeats of that many batches are recognised.
  static constexpr size_t kRemembered = 5;
  /// Producers a partition remembers; beyond, the one silent for longest is forgotten.
  static constexpr size_t kMaxProducers = 20'000;

  /// Checks a batch against what is remembered. The original when it is a repeat, null when it comes
  /// next. kProducerFenced, kOutOfOrderSequence.
  Result<const ProducerBatch*> check(ProducerId id, const ProducerBatch& batch) const;
  /// The same where `last` came before it in one request.
  static Result<> checkAfter(const ProducerBatch& last, const ProducerBatch& batch);

  /// Adds a batch. Batches below `durable` beyond the last kRemembered are forgotten.
  void add(ProducerId id, const ProducerBatch& batch, int64_t nowMs, Position durable);
  /// Takes back what was added at or above `position`. The first of it comes next again: what its
  /// producer has sent behind it is still on its way.
  void rewind(ProducerId id, Position position);
  /// Forgets producers silent since before `cutMs`. True when there were any.
  bool expire(int64_t cutMs, Position durable);
  bool empty() const { return producers_.empty(); }
  std::vector<ProducerInfo> list() const;

  /// What is durable: nothing at or above `durable`.
  void encode(ByteWriter& out, Position durable) const;
  bool decode(ByteReader& in);

 private:
  struct Producer {
    bool forgettable(Position durable) const {
      return batches.empty() || batches.back().position < durable;
    }
    std::vector<ProducerBatch> batches;  ///< oldest first
    ProducerBatch takenBack;             ///< what comes next while there are none
    int64_t lastMs = 0;
  };
  std::unordered_map<ProducerId, Producer> producers_;
};

}  // namespace polylog::storage
