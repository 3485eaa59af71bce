// What of a queue is used up: a floor below which everything is, and bitmap chunks above it. A
// chunk is what is journaled when something in it changed, so one old record that nobody accepts
// costs the journal little however much is accepted behind it. Not for sharing between threads.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/bytes.h"

namespace polylog::router {

class AckSet {
 public:
  static constexpr int64_t kChunkBits = 4096;

  int64_t floor() const { return floor_; }
  /// How many above the floor are in.
  int64_t above() const { return above_; }

  bool contains(int64_t id) const {
    if (id < floor_) return true;
    auto at = chunks_.find(id / kChunkBits);
    return at != chunks_.end() && at->second.has(id % kChunkBits);
  }

  /// False if it was in.
  bool add(int64_t id) {
    if (id < floor_) return false;
    if (id == floor_) {
      ++floor_;
      absorb();
      return true;
    }
    Chunk& chunk = chunks_[id / kChunkBits];
    if (chunk.has(id % kChunkBits)) return false;
    chunk.set(id % kChunkBits);
    ++above_;
    return true;
  }

  /// All below `floor` are in.
  void raiseFloor(int64_t floor) {
    if (floor <= floor_) return;
    floor_ = floor;
    above_ = 0;
    while (!chunks_.empty() && (chunks_.begin()->first + 1) * kChunkBits <= floor) dropFirst();
    for (auto& [number, chunk] : chunks_) {
      for (size_t word = 0; word < chunk.bits.size(); ++word) {
        above_ +=
            std::popcount(chunk.bits[word] & fromFloor(number * kChunkBits + int64_t(word) * 64));
      }
    }
    absorb();
  }

  /// Calls journal(number, octets) for each chunk that changed since, nothing for one that is over,
  /// and takes them all for journaled.
  template <class Journal>
  void takeChanged(Journal&& journal) {
    for (int64_t number : over_) journal(number, std::optional<std::string>());
    taken_ = std::exchange(over_, {});
    for (auto& [number, chunk] : chunks_) {
      if (!chunk.changed) continue;
      chunk.changed = false;
      chunk.journaled = true;
      journal(number, std::optional<std::string>(chunk.octets()));
    }
  }
  /// Another set's takeChanged() has given that chunk of this one.
  void journaledElsewhere(int64_t number) {
    auto at = chunks_.find(number);
    if (at != chunks_.end()) {
      at->second.journaled = true;
    } else if (number * kChunkBits < floor_) {
      over_.push_back(number);
    }
  }
  /// What takeChanged() gave did not reach the journal.
  void allChanged() {
    over_.insert(over_.end(), taken_.begin(), taken_.end());
    taken_.clear();
    for (auto& [number, chunk] : chunks_) chunk.changed = true;
  }
  /// Numbers of the chunks that the journal may know.
  std::vector<int64_t> journaledChunks() const {
    std::vector<int64_t> numbers = over_;
    for (const auto& [number, chunk] : chunks_) {
      if (chunk.journaled) numbers.push_back(number);
    }
    return numbers;
  }

  /// As takeChanged() gave it. After raiseFloor(); false if it is none.
  bool restoreChunk(int64_t number, BytesView octets) {
    if (number < 0 || octets.size() > size_t(kChunkBits / 8)) return false;
    for (size_t i = 0; i < octets.size(); ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        if ((static_cast<uint8_t>(octets[i]) >> bit & 1) != 0) {
          add(number * kChunkBits + int64_t(i) * 8 + bit);
        }
      }
    }
    auto at = chunks_.find(number);
    if (at == chunks_.end()) {
      over_.push_back(number);
    } else {
      at->second.changed = false;
      at->second.journaled = true;
    }
    return true;
  }

 private:
  struct Chunk {
    std::array<uint64_t, kChunkBits / 64> bits{};
    bool changed = true;
    bool journaled = false;
    bool has(int64_t bit) const { return (bits[size_t(bit) / 64] >> (bit % 64) & 1) != 0; }
    void set(int64_t bit) {
      bits[size_t(bit) / 64] |= uint64_t{1} << (bit % 64);
      changed = true;
    }
    std::string octets() const {
      std::string out(kChunkBits / 8, '\0');
      for (size_t i = 0; i < out.size(); ++i) {
        out[i] = static_cast<char>(bits[i / 8] >> (8 * (i % 8)));
      }
      out.erase(out.find_last_not_of('\0') + 1);
      return out;
    }
  };

  /// Of 64 ids from `first` on, those at or above the floor.
  uint64_t fromFloor(int64_t first) const {
    if (floor_ <= first) return ~uint64_t{0};
    return floor_ - first >= 64 ? 0 : ~uint64_t{0} << (floor_ - first);
  }
  void dropFirst() {
    if (chunks_.begin()->second.journaled) over_.push_back(chunks_.begin()->first);
    chunks_.erase(chunks_.begin());
  }
  void absorb() {
    while (!chunks_.empty()) {
      auto& [number, chunk] = *chunks_.begin();
      if (number > floor_ / kChunkBits) return;
      while (floor_ / kChunkBits == number && chunk.has(floor_ % kChunkBits)) {
        ++floor_;
        --above_;
      }
      if (floor_ / kChunkBits == number) return;
      dropFirst();
    }
  }

  int64_t floor_ = 0;
  int64_t above_ = 0;
  std::map<int64_t, Chunk> chunks_;
  std::vector<int64_t> over_;   ///< chunks that the journal knows and that are all in
  std::vector<int64_t> taken_;  ///< those that takeChanged() gave the last time
};

}  // namespace polylog::router
