#include "router/address_tags.h"

#include <algorithm>
#include <mutex>

#include "core/base/log.h"
#include "router/core.h"
#include "router/id_allocator.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr uint32_t kTags = 1U << 29;
/// Pairs of topic and subscription identifier; beyond it identifiers are no longer kept for sleeping
/// sessions, so that a client that makes them up can't fill the broker's memory.
constexpr size_t kMostWithIds = 200'000;

}  // namespace

std::string AddressTags::nameOf(BytesView topic, uint32_t subscriptionId, Protocol origin) {
  ByteWriter out;
  out.u32(subscriptionId);
  out.u8(static_cast<uint8_t>(origin));
  out.bytes(topic);
  return out.take();
}

Result<> AddressTags::load() {
  Result<> result;
  core_.store.scanState(
      storage::StateTable::kMeta, "tag/", [&](BytesView key, BytesView value) {
        auto decoded = decodeTag(key, value);
        if (!decoded) {
          result = std::unexpected(decoded.error());
          return false;
        }
        TagState& state = decoded->second;
        core_.ids->seenTag(decoded->first);
        byName_[nameOf(state.topic, state.subscriptionId, state.origin)] = decoded->first;
        if (state.subscriptionId != 0) ++withIds_;
        entries_[decoded->first] = {{std::make_shared<const std::string>(std::move(state.topic)),
                                     state.subscriptionId, state.origin},
                                    true};
        return true;
      });
  return result;
}

Result<uint32_t> AddressTags::tagFor(BytesView topic, uint32_t subscriptionId, Protocol origin,
                                     std::vector<storage::StateChange>& state,
                                     std::vector<uint32_t>& fresh) {
  std::string name = nameOf(topic, subscriptionId, origin);
  // Until somebody's entry is durable, everybody who uses a tag journals what it stands for: theirs
  // may be the only one that stays. Once an entry is enough.
  auto use = [&](uint32_t number, bool durable) {
    if (durable) return number;
    if (std::find(fresh.rbegin(), fresh.rend(), number) == fresh.rend()) {
      state.push_back({storage::StateTable::kMeta, tagKey(number),
                       encodeTag({std::string(topic), subscriptionId, origin})});
    }
    fresh.push_back(number);
    return number;
  };
  {
    std::shared_lock lock(mutex_);
    auto at = byName_.find(name);
    if (at != byName_.end()) return use(at->second, entries_.at(at->second).durable);
    if (subscriptionId != 0 && withIds_ >= kMostWithIds) {
      lock.unlock();
      return tagFor(topic, 0, origin, state, fresh);
    }
  }
  // The number is wasted if another thread is faster; its lock comes before ours.
  Result<uint32_t> number = core_.ids->nextTag();
  if (!number) return number;
  if (*number >= kTags) return fail(ErrorKind::kBusy, "no address tags are left");
  std::unique_lock lock(mutex_);
  auto [at, isNew] = byName_.try_emplace(std::move(name), *number);
  Entry& entry = entries_[at->second];
  if (isNew) {
    entry.tag = {std::make_shared<const std::string>(topic), subscriptionId, origin};
    if (subscriptionId != 0 && ++withIds_ == kMostWithIds) {
      logWarning("too many different subscription identifiers: further ones are not kept for "
                 "messages that wait in a session's inbox");
    }
  }
  return use(at->second, entry.durable);
}

void AddressTags::journaled(const std::vector<uint32_t>& tags) {
  if (tags.empty()) return;
  std::unique_lock lock(mutex_);
  for (uint32_t tag : tags) entries_[tag].durable = true;
}

AddressTag AddressTags::find(uint32_t tag) const {
  std::shared_lock lock(mutex_);
  auto at = entries_.find(tag);
  if (at == entries_.end()) return {std::make_shared<const std::string>(), 0, Protocol::kInternal};
  return at->second.tag;
}

}  // namespace polylog::router
