#include "core/net/buffer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

namespace polylog {
namespace {

constexpr size_t kSmall = 2048;
constexpr size_t kMedium = 16 * 1024;
constexpr size_t kLarge = 64 * 1024;
/// Above a block's octets, for the reference counts that share its allocation.
constexpr size_t kOverhead = 64;
/// A peer that announces a packet gets room for at most this many times the octets it sent.
constexpr size_t kTrust = 32;
/// Pieces below this are copied: an entry in writev costs as much.
constexpr size_t kByReference = 512;

/// Free blocks of this thread, by size. A shared_ptr's last owner gives its block to the cache of
/// the thread that it is on, so that the count's own ordering makes reuse safe.
class BlockCache {
 public:
  ~BlockCache() {
    alive = false;
    for (Shelf& shelf : shelves_) {
      for (size_t i = 0; i < shelf.count; ++i) ::operator delete(shelf.blocks[i]);
    }
  }
  void* take(size_t bytes) {
    Shelf* shelf = shelfFor(bytes);
    if (shelf == nullptr) return ::operator new(bytes);
    if (shelf->count == 0) return ::operator new(shelf->size);
    return shelf->blocks[--shelf->count];
  }
  void give(void* block, size_t bytes) {
    Shelf* shelf = shelfFor(bytes);
    if (shelf == nullptr || shelf->count == shelf->blocks.size()) return ::operator delete(block);
    shelf->blocks[shelf->count++] = block;
  }

  static thread_local bool alive;

 private:
  struct Shelf {
    size_t size;
    size_t count = 0;
    std::array<void*, 8> blocks{};
  };
  Shelf* shelfFor(size_t bytes) {
    for (Shelf& shelf : shelves_) {
      // Blocks much smaller than the shelf's are not asked for; they'd waste it.
      if (bytes <= shelf.size) return bytes > shelf.size / 2 ? &shelf : nullptr;
    }
    return nullptr;
  }

  std::array<Shelf, 3> shelves_{Shelf{kSmall + kOverhead}, Shelf{kMedium + kOverhead},
                                Shelf{kLarge + kOverhead}};
};

thread_local bool BlockCache::alive = true;

BlockCache* blockCache() {
  thread_local BlockCache cache;
  // A block may outlive the thread's cache in the destructors of other thread-local objects.
  return BlockCache::alive ? &cache : nullptr;
}

template <class T>
struct BlockAllocator {
  using value_type = T;
  BlockAllocator() = default;
  template <class U>
  explicit BlockAllocator(const BlockAllocator<U>& /*other*/) {}
  T* allocate(size_t count) {
    size_t bytes = count * sizeof(T);
    BlockCache* cache = blockCache();
    return static_cast<T*>(cache != nullptr ? cache->take(bytes) : ::operator new(bytes));
  }
  void deallocate(T* block, size_t count) {
    BlockCache* cache = blockCache();
    if (cache == nullptr) return ::operator delete(block);
    cache->give(block, count * sizeof(T));
  }
  template <class U>
  bool operator==(const BlockAllocator<U>& /*other*/) const {
    return true;
  }
};

}  // namespace

std::shared_ptr<char[]> makeBlock(size_t size) {
  return std::allocate_shared_for_overwrite<char[]>(BlockAllocator<char>(), size);
}

InputBuffer::Room InputBuffer::room(size_t wanted, size_t limit) {
  size_t unreadNow = size();
  // What the block should hold, counted from the first unread octet.
  size_t goal = std::max(unreadNow + 1, readSize_);
  if (wanted > goal) {
    goal = std::min(wanted, std::max(kLarge, unreadNow * kTrust));
  } else if (wanted <= unreadNow) {
    goal = std::max(goal, unreadNow * 2);  // unknown: doubling keeps the moves few
  }
  goal = std::min(goal, limit);
  size_t spare = capacity_ - end_;
  // Room behind what is there is used even if short of the goal, unless a packet needs more.
  bool fits = unreadNow == 0 ? spare >= readSize_ / 4 : spare >= goal - unreadNow;
  if (spare == 0 || !fits) moveTo(std::max(goal, std::min(readSize_, limit)));
  lastRoom_ = std::min(capacity_ - end_, limit - unreadNow);
  return {block_.get() + end_, lastRoom_};
}

void InputBuffer::moveTo(size_t capacity) {
  size_t unreadNow = size();
  if (unreadNow == 0) block_.reset();  // first, so that it can be had again
  auto block = makeBlock(capacity);
  if (unreadNow > 0) std::memcpy(block.get(), block_.get() + begin_, unreadNow);
  block_ = std::move(block);
  capacity_ = capacity;
  begin_ = 0;
  end_ = unreadNow;
}

void InputBuffer::filled(size_t count) {
  end_ += count;
  // The size of the next block follows what the peer sends at a time.
  if (count == lastRoom_ && count >= readSize_ / 2) {
    readSize_ = readSize_ == kSmall ? kMedium : kLarge;
    smallReads_ = 0;
  } else if (count >= readSize_ / 8 || readSize_ == kSmall) {
    smallReads_ = 0;
  } else if (++smallReads_ == 8) {
    readSize_ = readSize_ == kLarge ? kMedium : kSmall;
    smallReads_ = 0;
  }
}

void InputBuffer::consume(size_t count) {
  begin_ += count;
  releaseIdle();
}

void InputBuffer::releaseIdle() {
  // A block that somebody refers to is filled to its end first, or many small slices kept for long
  // would each hold down a block of their own.
  if (!empty() || !block_ || block_.use_count() > 1) return;
  block_.reset();
  capacity_ = begin_ = end_ = 0;
}

void OutputQueue::append(BytesView bytes) {
  while (!bytes.empty()) {
    if (blockUsed_ == blockSize_) {
      size_t more = size_ + bytes.size();
      blockSize_ = more <= kSmall ? kSmall : more <= kLarge ? kMedium : kLarge;
      blockUsed_ = 0;
      block_.reset();
      block_ = makeBlock(blockSize_);
    }
    size_t part = std::min(bytes.size(), blockSize_ - blockUsed_);
    char* at = block_.get() + blockUsed_;
    std::memcpy(at, bytes.data(), part);
    bool grows = head_ < pieces_.size() && pieces_.back().data + pieces_.back().size == at &&
                 pieces_.back().owner.get() == block_.get();
    if (grows) {
      pieces_.back().size += part;
    } else {
      pieces_.push_back({block_, at, part});
    }
    blockUsed_ += part;
    size_ += part;
    bytes.remove_prefix(part);
  }
}

void OutputQueue::append(const SharedBytes& bytes) {
  if (bytes.size() < kByReference) return append(bytes.view());
  size_ += bytes.size();
  pieces_.push_back({bytes.owner(), bytes.data(), bytes.size()});
}

size_t OutputQueue::gather(iovec* out, size_t max) const {
  size_t count = std::min(max, pieces_.size() - head_);
  for (size_t i = 0; i < count; ++i) {
    const Piece& piece = pieces_[head_ + i];
    out[i] = {const_cast<char*>(piece.data), piece.size};
  }
  return count;
}

void OutputQueue::consume(size_t count) {
  size_ -= count;
  while (count > 0) {
    Piece& first = pieces_[head_];
    if (count < first.size) {
      first.data += count;
      first.size -= count;
      break;
    }
    count -= first.size;
    first.owner.reset();
    ++head_;
  }
  if (size_ == 0) {
    releaseIdle();
  } else if (head_ >= 64 && head_ * 2 >= pieces_.size()) {
    pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
}

void OutputQueue::clear() {
  size_ = 0;
  releaseIdle();
}

void OutputQueue::releaseIdle() {
  // An idle connection keeps at most the list's memory, and only a short list's.
  if (pieces_.capacity() > 16) {
    std::vector<Piece>().swap(pieces_);
  } else {
    pieces_.clear();
  }
  head_ = 0;
  block_.reset();
  blockSize_ = blockUsed_ = 0;
}

}  // namespace polylog
