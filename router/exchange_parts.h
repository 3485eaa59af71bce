// What exchange_table.cc (looking up) and exchange_changes.cc (declaring, binding, deleting) share.
// For those alone.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/model/topic.h"
#include "router/exchange_table.h"
#include "router/headers_match.h"

namespace polylog::router {

/// The words of a routing key or pattern; none of an empty one. Views into it.
void wordsOf(BytesView routingKey, std::vector<BytesView>& out);

struct ExchangeTable::Binding : BindingEnd {
  BindingSpec spec;
  std::string key;
  uint32_t number = 0;
  bool durable = false;
  TopicId streamId{};  ///< of the topic that it leads to
  /// Appends of it that did not fail: one that does takes nothing away from another.
  int64_t standing = 0;
  SubscriptionTrie* trie = nullptr;  ///< that it hangs in, if any
  SubscriptionTrie::Place place = nullptr;
};

struct ExchangeTable::Exchange {
  ExchangeSpec spec;
  uint32_t number = 0;
  int64_t standing = 0;  ///< as a binding's
  bool kept = false;     ///< its declaration is in the journal
  std::vector<Binding*> all;
  std::unordered_map<std::string, std::vector<Binding*>, TextHash, std::equal_to<>>
      byKey;                                   ///< direct
  std::unique_ptr<SubscriptionTrie> patterns;  ///< topic, but for amq.topic
};

/// One walk from exchange to exchange.
struct ExchangeTable::Search {
  RouteImpl& out;
  const RoutingHeaders* headers;
  std::unordered_set<const Exchange*> seen;
  std::unordered_set<const Queue*> queues;  ///< those in `out`
  std::vector<const Exchange*> ahead;
  std::optional<HeadersByName> byName;  ///< of `headers`, once an exchange looks
};

}  // namespace polylog::router
