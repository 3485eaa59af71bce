// The retained records: one an address, in memory by the levels of the address so that a filter finds
// them, and in the state table kRetained. The value kept is the publisher's protocol (one octet)
// and a record batch of one record. Large ones stay in the state table once they are durable.
//
// Thread-safe. Changes are made under Change, which holds the store's lock over the append, so that
// what is in memory follows the journal's order.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/record.h"
#include "core/model/topic.h"
#include "core/model/topic_filter.h"
#include "storage/log_store.h"

namespace polylog::router {

struct Core;

class RetainedStore {
 public:
  explicit RetainedStore(Core& core);
  ~RetainedStore();
  Result<> load();

  class Change {
   public:
    explicit Change(RetainedStore& store) : store_(store), lock_(store.mutex_) {}
    /// A value, or nothing to clear. After the entry has been appended.
    void apply(BytesView address, std::optional<SharedBytes> value) {
      store_.apply(address, std::move(value));
    }

   private:
    RetainedStore& store_;
    std::unique_lock<std::shared_mutex> lock_;
  };

  /// The entry that changed `address` is durable: a large value need not stay in memory.
  void settled(BytesView address, const SharedBytes& value);
  /// Takes what the state table says: after a write that failed.
  void refresh(BytesView address);

  /// How far a walk over what matches a filter has come: between its pieces nothing else is kept,
  /// however much there is.
  struct Cursor {
    std::optional<std::string> last;  ///< the address visited last
    bool ended = false;
  };
  /// Visits what matches behind the cursor, in an order of its own, up to `most` of it (more follows
  /// unless the cursor says `ended`), without a lock. `visit` returns false to stop before that one.
  void match(const TopicFilter& filter, Cursor& cursor, size_t most,
             const std::function<bool(BytesView address, const SharedBytes& value)>& visit) const;
  size_t size() const { return size_.load(std::memory_order_relaxed); }

  /// A value from a record, and what it holds.
  static std::string encode(Protocol origin, const Record& record);
  static Result<std::pair<Protocol, SharedBytes>> batchOf(const SharedBytes& value);

 private:
  struct Node;
  class Walk;
  void apply(BytesView address, std::optional<SharedBytes> value);
  Node* find(BytesView address, bool make);

  Core& core_;
  mutable std::shared_mutex mutex_;
  std::unique_ptr<Node> root_;
  std::atomic<size_t> size_{0};
};

/// Whether levels [at, end) of an address match the filter's levels from `from` on.
bool levelsMatch(const std::vector<FilterLevel>& filter, size_t from, std::span<const BytesView> levels);

/// "topic/key", or "topic" for a null key.
void appendAddressText(const Address& address, std::string& out);
Address splitAddressText(BytesView text);

}  // namespace polylog::router
