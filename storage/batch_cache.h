// A bounded cache of verified batches, by position. Batches that were read together share one buffer
// and leave together, so that what is charged is what is pinned. Thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/strong.h"

namespace polylog::storage {

class BatchCache {
 public:
  explicit BatchCache(uint64_t capacity) : capacity_(capacity) {}

  std::optional<SharedBytes> find(Position position, uint32_t length);

  struct Slice {
    Position position;
    SharedBytes batch;
  };
  /// Keeps slices of one buffer that takes up `charge` octets.
  void insert(std::vector<Slice> slices, uint64_t charge);
  /// Another batch will be at that position.
  void forget(Position position);
  uint64_t used() const;

 private:
  struct Extent {
    std::vector<Slice> slices;
    uint64_t charge = 0;
  };
  using Extents = std::list<Extent>;
  struct Found {
    Extents::iterator extent;
    size_t slice = 0;
  };

  mutable std::mutex mutex_;
  const uint64_t capacity_;
  uint64_t used_ = 0;
  Extents extents_;  ///< least recently used last
  std::unordered_map<uint64_t, Found> byPosition_;
};

}  // namespace polylog::storage
