#include "core/net/buffer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace polylog {
namespace {

constexpr size_t kLimit = size_t{8} * 1024 * 1024;

/// Puts as much of `bytes` as one read would; returns how much that was.
size_t readInto(InputBuffer& buffer, BytesView bytes, size_t wanted = 0, size_t limit = kLimit) {
  InputBuffer::Room room = buffer.room(wanted, limit);
  size_t count = std::min(room.size, bytes.size());
  std::memcpy(room.data, bytes.data(), count);
  buffer.filled(count);
  return count;
}

TEST(InputBuffer, KeepsTheRestInFront) {
  InputBuffer buffer;
  readInto(buffer, "abcdef");
  buffer.consume(4);
  EXPECT_EQ(buffer.unread().view(), "ef");
  readInto(buffer, "gh");
  EXPECT_EQ(buffer.unread().view(), "efgh");
}

TEST(InputBuffer, HoldsNothingWhenIdle) {
  InputBuffer buffer;
  EXPECT_EQ(buffer.capacity(), 0U);
  readInto(buffer, "abcdef");
  EXPECT_GT(buffer.capacity(), 0U);
  EXPECT_LE(buffer.capacity(), 4096U);
  buffer.consume(6);
  EXPECT_EQ(buffer.capacity(), 0U);
}

TEST(InputBuffer, NeverTouchesWhatWasHandedOut) {
  std::mt19937 random(1);
  InputBuffer buffer;
  std::string stream;
  std::vector<std::pair<SharedBytes, std::string>> kept;
  size_t used = 0;
  for (int step = 0; step < 4000; ++step) {
    std::string more(random() % 3000 + 1, static_cast<char>('a' + step % 26));
    more.resize(readInto(buffer, more));
    stream += more;
    SharedBytes unread = buffer.unread();
    ASSERT_EQ(unread.view(), BytesView(stream).substr(used));
    size_t count = random() % (unread.size() + 1);
    if (random() % 3 == 0) {
      kept.emplace_back(unread.slice(0, count), stream.substr(used, count));
      if (kept.size() > 50) kept.erase(kept.begin());
    }
    unread = {};
    buffer.consume(count);
    used += count;
    for (auto& [bytes, text] : kept) ASSERT_EQ(bytes.view(), text);
  }
}

TEST(InputBuffer, FillsASharedBlockBeforeTakingAnother) {
  InputBuffer buffer;
  std::vector<SharedBytes> kept;
  const void* block = nullptr;
  int blocks = 0;
  for (int i = 0; i < 20; ++i) {
    readInto(buffer, "0123456789");
    kept.push_back(buffer.unread());
    if (kept.back().owner().get() != block) ++blocks;
    block = kept.back().owner().get();
    buffer.consume(10);
  }
  EXPECT_EQ(blocks, 1);
  for (const SharedBytes& each : kept) EXPECT_EQ(each.view(), "0123456789");
  // Nobody else refers to it any more: it goes when asked.
  kept.clear();
  buffer.releaseIdle();
  EXPECT_EQ(buffer.capacity(), 0U);
}

TEST(InputBuffer, MakesRoomForJustTheWantedPacket) {
  constexpr size_t kPacket = 1'000'100;
  InputBuffer buffer;
  std::string packet(kPacket, 'p');
  size_t have = 0;
  int blocks = 0;
  const void* block = nullptr;
  while (have < kPacket) {
    // Asks for it, as a session does, once the length is read.
    have += readInto(buffer, BytesView(packet).substr(have), have >= 4 ? kPacket : 0);
    SharedBytes unread = buffer.unread();
    if (unread.owner().get() != block) ++blocks;
    block = unread.owner().get();
  }
  EXPECT_EQ(buffer.capacity(), kPacket);
  EXPECT_LE(blocks, 3);  // the first read's, one that the octets in hand justify, and its own
  EXPECT_EQ(buffer.unread().view(), packet);
}

TEST(InputBuffer, AClaimAloneGetsLittleMemory) {
  InputBuffer buffer;
  readInto(buffer, "12345");
  InputBuffer::Room room = buffer.room(kLimit, kLimit);
  EXPECT_LE(room.size, 64U * 1024);
}

TEST(InputBuffer, KeepsTheLimit) {
  InputBuffer buffer;
  std::string flood(100'000, 'x');
  size_t have = 0;
  while (have < 4096) have += readInto(buffer, flood, 0, 4096);
  EXPECT_EQ(have, 4096U);
  EXPECT_EQ(buffer.capacity(), 4096U);
}

TEST(InputBuffer, ReadsGrowWithThePeer) {
  InputBuffer buffer;
  std::string flood(100'000, 'x');
  EXPECT_LE(readInto(buffer, flood), 4096U);
  for (int i = 0; i < 3; ++i) {
    buffer.consume(buffer.size());
    readInto(buffer, flood);
  }
  EXPECT_EQ(buffer.size(), 64U * 1024);
  for (int i = 0; i < 40; ++i) {
    buffer.consume(buffer.size());
    readInto(buffer, "small");
  }
  EXPECT_LE(buffer.capacity(), 4096U);
}

std::string drain(OutputQueue& queue, size_t atATime) {
  std::string out;
  while (!queue.empty()) {
    iovec pieces[4];
    size_t count = queue.gather(pieces, 4);
    size_t left = atATime;
    size_t taken = 0;
    for (size_t i = 0; i < count && left > 0; ++i) {
      size_t part = std::min(left, pieces[i].iov_len);
      out.append(static_cast<char*>(pieces[i].iov_base), part);
      left -= part;
      taken += part;
    }
    queue.consume(taken);
  }
  return out;
}

TEST(OutputQueue, GathersSmallPieces) {
  OutputQueue queue;
  for (int i = 0; i < 10; ++i) queue.append("0123456789");
  EXPECT_EQ(queue.size(), 100U);
  iovec pieces[8];
  EXPECT_EQ(queue.gather(pieces, 8), 1U);
}

TEST(OutputQueue, TakesLargePiecesByReference) {
  OutputQueue queue;
  SharedBytes large = SharedBytes::own(std::string(5000, 'L'));
  queue.append("head");
  queue.append(large);
  queue.append("tail");
  iovec pieces[8];
  ASSERT_EQ(queue.gather(pieces, 8), 3U);
  EXPECT_EQ(pieces[1].iov_base, large.data());
  EXPECT_EQ(drain(queue, 1000), "head" + std::string(large.view()) + "tail");
  EXPECT_EQ(large.owner().use_count(), 1);
}

TEST(OutputQueue, KeepsOrderWhateverTheKernelTakes) {
  std::mt19937 random(3);
  for (size_t atATime : {size_t{1}, size_t{7}, size_t{1000}, size_t{100'000}}) {
    OutputQueue queue;
    std::string expected;
    std::string got;
    for (int i = 0; i < 300; ++i) {
      std::string piece(random() % 1500, static_cast<char>('a' + i % 26));
      expected += piece;
      if (random() % 2 == 0) {
        queue.append(BytesView(piece));
      } else {
        queue.append(SharedBytes::own(piece));
      }
      if (i % 50 == 49) got += drain(queue, atATime);
    }
    got += drain(queue, atATime);
    EXPECT_EQ(got, expected);
    EXPECT_TRUE(queue.empty());
  }
}

TEST(OutputQueue, HoldsNextToNothingWhenEmpty) {
  OutputQueue queue;
  for (int i = 0; i < 1000; ++i) queue.append(SharedBytes::own(std::string(600, 'x')));
  queue.append(std::string(100'000, 'y'));
  drain(queue, 1 << 20);
  EXPECT_LE(queue.capacity(), 1024U);
  queue.append("again");
  queue.clear();
  EXPECT_EQ(queue.size(), 0U);
  EXPECT_LE(queue.capacity(), 1024U);
}

}  // namespace
}  // namespace polylog
