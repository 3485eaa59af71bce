// What a connection holds between the kernel and its session: octets read but not used up, and
// octets to send. Each belongs to one connection and its dispatcher's thread; the memory they hand
// out by reference (SharedBytes) may be kept and dropped by any thread.
//
// Memory comes in blocks of a few sizes that are recycled per thread, uninitialised. Octets that
// were handed out are never moved or overwritten: new ones go behind them or into another block. A
// connection with nothing unread and nothing to send holds no block at all.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "core/base/bytes.h"

namespace polylog {

/// A shared block of at least `size` octets, recycled if the size is a usual one.
std::shared_ptr<char[]> makeBlock(size_t size);

/// The input of one connection: one contiguous stretch of unread octets.
class InputBuffer {
 public:
  /// Where the next octets from the socket go.
  struct Room {
    char* data = nullptr;
    size_t size = 0;
  };

  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }

  /// Room for at least one octet more, and no more than `limit` unread octets in all (`limit` >
  /// size()). `wanted` is how many the packet at the front needs in all (0 = unknown): room is
  /// made for just that, but for no more than 32 times what is there, since a claim is cheap.
  Room room(size_t wanted, size_t limit);
  /// `count` octets of the last room() were filled.
  void filled(size_t count);
  /// All unread octets, sharing the block.
  SharedBytes unread() const { return {block_, {block_.get() + begin_, size()}}; }
  /// The first `count` of them (<= size()) are used up.
  void consume(size_t count);
  /// Lets go of the block if nothing in it is unread and nobody else refers to it.
  void releaseIdle();
  /// Octets of memory held.
  size_t capacity() const { return capacity_; }

 private:
  void moveTo(size_t capacity);

  std::shared_ptr<char[]> block_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t lastRoom_ = 0;
  size_t readSize_ = 2048;
  int smallReads_ = 0;
};

/// The output of one connection: small pieces gathered into blocks, large ones by reference.
class OutputQueue {
 public:
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  void append(BytesView bytes);
  void append(const SharedBytes& bytes);
  /// Fills `out` (`max` entries) with what comes first; returns how many were filled.
  size_t gather(iovec* out, size_t max) const;
  /// The first `count` octets (<= size()) are sent.
  void consume(size_t count);
  void clear();
  size_t capacity() const { return pieces_.capacity() * sizeof(Piece) + blockSize_; }

 private:
  struct Piece {
    std::shared_ptr<const void> owner;
    const char* data;
    size_t size;
  };

  void releaseIdle();

  std::vector<Piece> pieces_;
  size_t head_ = 0;
  size_t size_ = 0;
  // Where small pieces go; the last piece often ends at block_ + blockUsed_ and just grows.
  std::shared_ptr<char[]> block_;
  size_t blockSize_ = 0;
  size_t blockUsed_ = 0;
};

}  // namespace polylog
