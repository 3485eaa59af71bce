// Index runs loaded from footers, a bounded number of octets of them, least recently used out first.
// Thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/base/strong.h"
#include "storage/partition_index.h"

namespace polylog::storage {

class RunCache {
 public:
  explicit RunCache(uint64_t capacity) : capacity_(capacity) {}

  struct Key {
    uint64_t segment = 0;
    uint32_t incarnation = 0;  ///< rewritten, it has another one
    PartitionId partition;
    bool operator==(const Key&) const = default;
  };
  std::shared_ptr<const IndexRun> find(const Key& key);
  void insert(const Key& key, std::shared_ptr<const IndexRun> run);

 private:
  struct Hash {
    size_t operator()(const Key& key) const {
      return std::hash<PartitionId>()(key.partition) ^ (key.segment * 0xC2B2AE3D27D4EB4FULL);
    }
  };
  struct Item {
    Key key;
    std::shared_ptr<const IndexRun> run;
    uint64_t charge = 0;
  };

  std::mutex mutex_;
  const uint64_t capacity_;
  uint64_t used_ = 0;
  std::list<Item> items_;
  std::unordered_map<Key, std::list<Item>::iterator, Hash> byKey_;
};

}  // namespace polylog::storage
