#include "codecs/mqtt/outbound_aliases.h"

#include <algorithm>
#include <functional>

#include "codecs/mqtt/limits.h"

namespace polylog::mqtt {
namespace {

/// An alias is three octets: from this size on they are saved the next time the name is sent.
constexpr size_t kShortestName = 8;
/// Names without an alias, from one that is given another's to the next.
constexpr uint32_t kMissesToReplace = 8;

}  // namespace

bool OutboundAliases::worthwhile(BytesView name) {
  return name.size() >= kShortestName && name.size() <= kMaxAliasedName;
}

uint16_t OutboundAliases::find(BytesView name) {
  const size_t hash = std::hash<BytesView>()(name);
  for (auto at = std::ranges::find(hashes_, hash); at != hashes_.end();
       at = std::find(at + 1, hashes_.end(), hash)) {
    const auto index = static_cast<size_t>(at - hashes_.begin());
    if (given_[index].name != name) continue;
    given_[index].lastSent = ++sent_;
    return static_cast<uint16_t>(index + 1);
  }
  return 0;
}

uint16_t OutboundAliases::give(BytesView name) {
  size_t index = given_.size();
  if (index < most_) {
    given_.emplace_back();
    hashes_.emplace_back();
  } else {
    if (++misses_ < kMissesToReplace) return 0;
    misses_ = 0;
    index = longestUnsent();
  }
  given_[index] = {std::string(name), ++sent_};
  hashes_[index] = std::hash<BytesView>()(name);
  return static_cast<uint16_t>(index + 1);
}

size_t OutboundAliases::longestUnsent() const {
  const auto found = std::ranges::min_element(given_, {}, &Given::lastSent);
  return static_cast<size_t>(found - given_.begin());
}

}  // namespace polylog::mqtt
