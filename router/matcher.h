// Who gets what is published to an address: the trie's matches, gathered by session, and remembered
// by address on each worker until a subscription changes. Only on the worker's own thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "router/core.h"
#include "router/exchange_table.h"
#include "router/subscription_trie.h"

namespace polylog::router {

class Queue;

/// A session and what its matching subscriptions add up to.
struct Recipient {
  std::shared_ptr<Session> session;
  DeliveryGuarantee guarantee =
      DeliveryGuarantee::kAtMostOnce;  ///< the most that one of them wants
  bool retainAsPublished = false;
  std::vector<uint32_t> ids;  ///< subscription identifiers, each once
  uint32_t firstEntry = 0;    ///< in MatchResult::entries
  uint32_t entryCount = 0;
  bool anyNoLocal = false;
  // Tags of inbox targets, one for each id (one for none); worker-local memory of AddressTags.
  std::vector<uint32_t> tags;
  Protocol tagsOrigin = Protocol::kInternal;
};

/// A queue or stream that a binding of amq.topic leads to, or a shared subscription's queue.
struct BoundQueue {
  std::shared_ptr<Queue> queue;  ///< or
  std::string stream;
  bool shared = false;  ///< a shared subscription's
  Position since;
  // Worker-local memory of AddressTags, as in Recipient.
  uint32_t tag = 0;
  Protocol tagOrigin = Protocol::kInternal;
};

struct MatchResult {
  std::vector<TrieEntry> entries;  ///< those of one session together
  std::vector<Recipient> recipients;
  std::vector<BoundQueue> queues;  ///< each once
  Position latestSince;
  bool anyInbox = false;    ///< a session with an inbox wants more than at most once
  bool anyShared = false;   ///< of the queues, one is a shared subscription's
  bool anyBound = false;    ///< and one is not
  bool severalIds = false;  ///< a recipient has more than one subscription identifier
};

class Matcher {
 public:
  explicit Matcher(Core& core) : core_(core), perWorker_(core.workers.size()) {}

  /// Results stay valid until the next begin() on this worker.
  void begin(Worker& worker);
  MatchResult& match(Worker& worker, const Address& address);

  /// What is left of a recipient when some of its subscriptions don't count. False: nothing.
  template <class Keep>
  static bool narrow(const MatchResult& match, const Recipient& recipient, Keep&& keep,
                     Recipient& out) {
    out = Recipient{};
    out.session = recipient.session;
    bool any = false;
    for (uint32_t i = 0; i < recipient.entryCount; ++i) {
      const TrieEntry& entry = match.entries[recipient.firstEntry + i];
      if (!keep(entry)) continue;
      include(entry, out);
      any = true;
    }
    return any;
  }

 private:
  struct PerWorker {
    uint64_t generation = 0;
    size_t entries = 0;
    size_t bytes = 0;  ///< of addresses
    std::unordered_map<std::string, std::unique_ptr<MatchResult>, TextHash, std::equal_to<>> known;
    std::string text;
  };
  static void include(const TrieEntry& entry, Recipient& out);
  std::unique_ptr<MatchResult> lookUp(const Address& address, uint64_t& generation) const;
  void addBound(const Address& address, const std::vector<BindingEnd>& bound,
                MatchResult& out) const;

  Core& core_;
  std::vector<PerWorker> perWorker_;
};

}  // namespace polylog::router
