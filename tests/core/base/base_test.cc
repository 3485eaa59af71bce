// Small things of core/base: strong integers, time and chance, checksums, shared octets.
#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <unordered_set>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/strong.h"
#include "tests/support/fake_clock.h"

namespace polylog {
namespace {

static_assert(!std::is_convertible_v<int64_t, Offset>);
static_assert(!std::is_convertible_v<Offset, ProducerId>);
static_assert(!std::is_invocable_v<std::minus<>, Offset, ProducerId>);

TEST(Strong, CountsAndCompares) {
  Offset first(41);
  Offset second = first + 1;
  EXPECT_LT(first, second);
  EXPECT_EQ(second - first, 1);
  EXPECT_EQ((second - 2).value(), 40);
  EXPECT_EQ((++first).value(), 42);
  EXPECT_EQ(first += 8, Offset(50));
  std::unordered_set<Offset> set{first, second, Offset(50)};
  EXPECT_EQ(set.size(), 2U);
}

TEST(Clock, RunsForward) {
  int64_t before = systemClock().monotonicMicros();
  EXPECT_GE(systemClock().monotonicMicros(), before);
  // Later than this was written, and in milliseconds: earlier than the year 2200.
  EXPECT_GT(systemClock().wallMillis(), 1'700'000'000'000);
  EXPECT_LT(systemClock().wallMillis(), 7'258'118'400'000);
}

TEST(Clock, FakeStandsStill) {
  test::FakeClock clock(5, 1000);
  EXPECT_EQ(clock.monotonicMicros(), 5);
  clock.advance(2500);
  EXPECT_EQ(clock.monotonicMicros(), 2505);
  EXPECT_EQ(clock.wallMillis(), 1002);
  clock.setWallMillis(10);
  EXPECT_EQ(clock.wallMillis(), 10);
  EXPECT_EQ(clock.monotonicMicros(), 2505);
}

TEST(Random, HexIsAsLongAsAsked) {
  std::string name = randomHex(systemRandom(), 20);
  EXPECT_EQ(name.size(), 40U);
  EXPECT_EQ(name.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_NE(name, randomHex(systemRandom(), 20));
}

TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  // RFC 3720, B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  std::string rising;
  for (int i = 0; i < 32; ++i) rising.push_back(static_cast<char>(i));
  EXPECT_EQ(crc32c(rising), 0x46DD794EU);
}

TEST(Crc32c, GoesOn) {
  std::string text = "the same octets in two parts";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    BytesView view = text;
    EXPECT_EQ(crc32c(view.substr(cut), crc32c(view.substr(0, cut))), crc32c(text));
  }
}

TEST(SharedBytes, SlicesKeepTheOwner) {
  SharedBytes slice;
  {
    SharedBytes whole = SharedBytes::own("abcdef");
    slice = whole.slice(2, 3);
    EXPECT_EQ(slice.owner(), whole.owner());
  }
  EXPECT_EQ(slice.view(), "cde");
  EXPECT_EQ(slice.slice(1).view(), "de");
}

}  // namespace
}  // namespace polylog
