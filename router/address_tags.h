// What the 29 bits of a target's attributes that are not flags stand for: the topic of the address
// as published (of produced batches, where no header can say it, the topic they are stored in), the
// subscription identifier and the publisher's protocol. A stored batch does not
// say under which topic it was published, and an inbox holds those of many. Tags are made at first
// use, journaled in the entry that uses them, and stay: there is one for each topic that sleeping
// sessions were sent something of. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/model/record.h"
#include "core/model/topic.h"
#include "storage/log_store.h"

namespace polylog::router {

struct Core;

struct AddressTag {
  std::shared_ptr<const std::string> topic;
  uint32_t subscriptionId = 0;
  Protocol origin = Protocol::kInternal;
};

class AddressTags {
 public:
  explicit AddressTags(Core& core) : core_(core) {}
  Result<> load();

  /// The tag, made if need be. Unless it is durable already, `fresh` gets it, and `state` its journal
  /// entry the first time: both belong to one entry to be, and the caller calls journaled(fresh) when
  /// that is durable. A caller remembers a tag only if `fresh` has not grown.
  Result<uint32_t> tagFor(BytesView topic, uint32_t subscriptionId, Protocol origin,
                          std::vector<storage::StateChange>& state, std::vector<uint32_t>& fresh);
  void journaled(const std::vector<uint32_t>& tags);
  /// What a tag stands for; an empty topic for one that nobody knows.
  AddressTag find(uint32_t tag) const;

 private:
  struct Entry {
    AddressTag tag;
    bool durable = false;
  };
  static std::string nameOf(BytesView topic, uint32_t subscriptionId, Protocol origin);

  Core& core_;
  mutable std::shared_mutex mutex_;
  std::unordered_map<uint32_t, Entry> entries_;
  std::unordered_map<std::string, uint32_t> byName_;
  size_t withIds_ = 0;
};

/// The attributes of an inbox target: guarantee (bits 0-1), retain flag to send (bit 2), tag.
inline uint32_t inboxAttributes(DeliveryGuarantee guarantee, bool retain, uint32_t tag) {
  return static_cast<uint32_t>(guarantee) | (retain ? 4U : 0U) | (tag << 3);
}
inline DeliveryGuarantee guaranteeOf(uint32_t attributes) {
  return static_cast<DeliveryGuarantee>(attributes & 3U);
}
inline bool retainOf(uint32_t attributes) { return (attributes & 4U) != 0; }
inline uint32_t tagOf(uint32_t attributes) { return attributes >> 3; }

/// The attributes of a target in a topic's own partition: who published, which says how the
/// record's address is found. (The end marker of a transaction has others.)
inline uint32_t originAttribute(Protocol origin) {
  return static_cast<uint32_t>(origin);
}
/// `otherwise`: for what was stored without.
inline Protocol originOf(uint32_t attributes, Protocol otherwise) {
  bool known = attributes > 0 && attributes <= static_cast<uint32_t>(Protocol::kRocketMq);
  return known ? static_cast<Protocol>(attributes) : otherwise;
}

}  // namespace polylog::router
