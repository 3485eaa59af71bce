// All subscriptions in force, by the levels of their filters; finds those that match an address in
// a number of steps that depends on its levels and not on how many subscriptions there are. Adding
// and removing one doesn't depend on how many share its filter, nor on how many levels lie beside
// it. Thread-safe: readers share a lock, add() and remove() take it alone. Every change raises the
// generation, by which callers know that what they remember of match() is out of date.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/strong.h"
#include "core/model/record.h"
#include "core/model/topic_filter.h"

namespace polylog::router {

class Session;
struct BindingEnd;

/// A subscription or binding as routing needs it. Its owner takes it out before it goes.
struct TrieEntry {
  Session* session = nullptr;   ///< null: a binding's
  uint32_t number = 0;          ///< of the subscription within its session, or of the binding
  uint32_t subscriptionId = 0;  ///< 0 = none
  DeliveryGuarantee guarantee = DeliveryGuarantee::kAtMostOnce;
  bool noLocal = false;
  bool retainAsPublished = false;
  Position since;                       ///< batches before it are none of its business
  const BindingEnd* binding = nullptr;  ///< where a binding leads
};

/// Divides an address into its levels. Views into it.
void levelsOf(const Address& address, std::vector<BytesView>& out);
/// Whether first-level wildcards pass this address by (design section 4).
inline bool hiddenFromWildcards(BytesView topic) {
  return !topic.empty() && (topic.front() == '$' || topic.front() == '_');
}

class SubscriptionTrie {
 public:
  class Node;
  /// Where a subscription hangs: among the others of its filter.
  struct Hung {
    TrieEntry entry;  ///< its owner may read it without a lock: nobody else changes it
    Node* node = nullptr;
    Hung* next = nullptr;
    Hung** link = nullptr;  ///< what points here
  };
  using Place = Hung*;

  SubscriptionTrie();
  ~SubscriptionTrie();

  /// Adds the entry, instead of `before` if there is one.
  Place add(const TopicFilter& filter, const TrieEntry& entry, Place before = nullptr);
  void remove(Place place);
  /// What callers remember of match() is out of date for another reason.
  void touch() { generation_.fetch_add(1, std::memory_order_release); }

  /// Calls visit(const TrieEntry&) for each match, with the lock shared: it must not block or call
  /// back. Returns the generation that the answer is of.
  template <class Visit>
  uint64_t match(const Address& address, Visit&& visit) const {
    std::vector<BytesView> levels;
    levelsOf(address, levels);
    return matchLevels(levels, hiddenFromWildcards(address.topic), visit);
  }
  /// The same for levels that are no address's. `hidden`: first-level wildcards pass them by.
  template <class Visit>
  uint64_t matchLevels(const std::vector<BytesView>& levels, bool hidden, Visit&& visit) const {
    std::vector<const Hung*> found;
    std::shared_lock lock(mutex_);
    collect(levels, hidden, found);
    for (const Hung* first : found) {
      for (const Hung* at = first; at != nullptr; at = at->next) visit(at->entry);
    }
    return generation_.load(std::memory_order_relaxed);
  }

  /// Whether some address of that topic could match. Cheap; errs on the side of yes.
  bool couldMatchTopic(BytesView topic) const;
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  size_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  struct Nodes;
  class Walk;

  /// The first entry of each filter that matches.
  void collect(const std::vector<BytesView>& levels, bool hidden,
               std::vector<const Hung*>& found) const;
  void hang(Hung& hung, Node& node);
  void unhang(Hung& hung);
  void prune(Node* node);

  mutable std::shared_mutex mutex_;
  std::unique_ptr<Nodes> nodes_;
  std::atomic<uint64_t> generation_{1};
  std::atomic<size_t> size_{0};
  size_t innerRests_ = 0;  ///< subscriptions with a "rest" before their last level; none from MQTT
};

}  // namespace polylog::router
