// Of each key of a partition the offset of its latest record, for key compaction: 32 octets a key at
// most half of which are in use. Keys are told apart by 128 bits of their SHA-256. One thread.
#pragma once

#include <openssl/sha.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/strong.h"

namespace polylog::storage {

class KeyMap {
 public:
  struct Item {
    uint64_t high = 0;
    uint64_t low = 0;
    Offset latest{-1};  ///< -1: a free slot
    bool tombstone = false;
    bool alone = false;  ///< the key has no other record
  };
  struct Key {
    uint64_t high = 0;
    uint64_t low = 0;
  };

  static Key keyOf(BytesView key) {
    std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
    SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
    Key out;
    std::memcpy(&out.high, digest.data(), sizeof out.high);
    std::memcpy(&out.low, digest.data() + sizeof out.high, sizeof out.low);
    return out;
  }

  /// The record at `offset` is the key's latest. Returns the one that it supersedes.
  std::optional<Offset> put(Key key, Offset offset, bool tombstone) {
    if ((used_ + 1) * 2 > slots_.size()) grow();
    Item& item = slotOf(key);
    std::optional<Offset> before;
    if (item.latest == Offset(-1)) {
      ++used_;
      item = {key.high, key.low, offset, tombstone, true};
      return before;
    }
    before = item.latest;
    item.latest = offset;
    item.tombstone = tombstone;
    item.alone = false;
    return before;
  }

  size_t size() const { return used_; }
  template <class Visit>
  void forEach(Visit&& visit) const {
    for (const Item& item : slots_) {
      if (item.latest != Offset(-1)) visit(item);
    }
  }

 private:
  Item& slotOf(Key key) {
    size_t at = key.low & (slots_.size() - 1);
    while (slots_[at].latest != Offset(-1) &&
           (slots_[at].high != key.high || slots_[at].low != key.low)) {
      at = (at + 1) & (slots_.size() - 1);
    }
    return slots_[at];
  }
  void grow() {
    std::vector<Item> before(slots_.empty() ? 1024 : slots_.size() * 2);
    before.swap(slots_);
    for (const Item& item : before) {
      if (item.latest != Offset(-1)) slotOf({item.high, item.low}) = item;
    }
  }

  std::vector<Item> slots_;
  size_t used_ = 0;
};

}  // namespace polylog::storage
