// How much the batches of one request may decompress to: each, and all of them together, so that a
// small request doesn't keep its thread busy for long. For one thread.
#pragma once

#include <algorithm>
#include <cstddef>

#include "core/model/record_batch.h"

namespace polylog {

class DecompressionBudget {
 public:
  DecompressionBudget(size_t each, size_t all) : each_(each), left_(all) {}

  /// What the next batch may decompress to.
  size_t room() const { return std::min(each_, left_); }
  /// It isn't a batch by itself that is too large, but what came before it.
  bool reduced() const { return left_ < each_; }
  void take(size_t octets) { left_ -= std::min(octets, left_); }

 private:
  size_t each_;
  size_t left_;
};

/// checkRecords() with what the budget has left, and takes from it what was decompressed, also if
/// it didn't get through.
Result<RecordsSummary> checkRecords(BytesView batch, DecompressionBudget& budget);

}  // namespace polylog
