// What a fetch has read of one partition, and how its batches go into the answer: as they are
// stored but for base offset and leader epoch, by reference if they are large.
#pragma once

#include <cstdint>
#include <vector>

#include "codecs/kafka/reply.h"
#include "codecs/kafka/wire/primitives.h"
#include "core/model/broker.h"

namespace polylog::kafka {

struct PartRead {
  std::vector<FetchedBatch> batches;  ///< whole ones only: parts of shared batches are rebuilt
  std::vector<AbortedTransaction> aborted;  ///< that touch the batches
  size_t bytes = 0;
  int16_t errorCode = 0;
  int64_t logStart = -1;
  int64_t highWatermark = -1;
  int64_t lastStable = -1;

  void setEnds(Offset start, Offset high, Offset stable);
  void fail(int16_t code);
  /// Adds what was fetched from `next` on; returns the offset behind it. Sets errorCode if a batch
  /// can't be given. Compressions pass whatever the client's version: that of a Kafka topic whose
  /// compression.type is `producer` does too, and old clients exist that can read zstd.
  Offset take(Fetched&& fetched, Offset next, bool committedOnly);
};

/// The response in `out`, with the batches of `parts` where it says that records follow.
Reply withBatches(wire::Encoder out, const std::vector<const PartRead*>& parts, LeaderEpoch epoch);

/// Appends the batch with its base offset and `epoch` patched in.
void appendBatch(const FetchedBatch& batch, LeaderEpoch epoch, Reply& reply);

}  // namespace polylog::kafka
