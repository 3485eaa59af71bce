#include "core/base/byte_reader.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "core/base/byte_writer.h"

namespace polylog {
namespace {

using std::string_view_literals::operator""sv;

TEST(ByteReader, ReadsNetworkOrder) {
  BytesView input = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"sv;
  ByteReader reader(input);
  EXPECT_EQ(reader.u8(), 0x01);
  EXPECT_EQ(reader.u16(), 0x0203);
  EXPECT_EQ(reader.u32(), 0x04050607U);
  EXPECT_EQ(reader.u64(), 0x08090a0b0c0d0e0fULL);
  EXPECT_TRUE(reader.complete());
}

TEST(ByteReader, ReadsNegatives) {
  ByteReader reader("\xff\xff\xfe\xff\xff\xff\xfd\xff\xff\xff\xff\xff\xff\xff\xfc"sv);
  EXPECT_EQ(reader.i8(), -1);
  EXPECT_EQ(reader.i16(), -2);
  EXPECT_EQ(reader.i32(), -3);
  EXPECT_EQ(reader.i64(), -4);
  EXPECT_TRUE(reader.complete());
}

TEST(ByteReader, FailureIsSticky) {
  BytesView input = "\x01\x02\x03"sv;
  ByteReader reader(input);
  EXPECT_EQ(reader.u32(), 0U);
  EXPECT_FALSE(reader.ok());
  // Three octets were there, but after a failed read nothing is given any more.
  EXPECT_EQ(reader.u8(), 0);
  EXPECT_EQ(reader.remaining(), 0U);
  EXPECT_FALSE(reader.complete());
}

TEST(ByteReader, EveryWidthIsBounded) {
  for (size_t length = 0; length < 8; ++length) {
    std::string input(length, '\x7f');
    ByteReader reader(input);
    EXPECT_EQ(reader.u64(), 0U) << length;
    EXPECT_FALSE(reader.ok()) << length;
  }
}

TEST(ByteReader, CompleteNeedsNothingLeft) {
  BytesView input = "\x01\x02"sv;
  ByteReader reader(input);
  reader.u8();
  EXPECT_TRUE(reader.ok());
  EXPECT_FALSE(reader.complete());
}

TEST(ByteReader, VaruintsRoundTrip) {
  for (uint64_t value :
       {uint64_t{0}, uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{16383}, uint64_t{16384},
        uint64_t{0xffffffff}, uint64_t{1} << 63, std::numeric_limits<uint64_t>::max()}) {
    ByteWriter writer;
    writer.varuint(value);
    std::string bytes = writer.take();
    ByteReader reader(bytes);
    EXPECT_EQ(reader.varuint(), value);
    EXPECT_TRUE(reader.complete());
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      ByteReader shortReader(BytesView(bytes).substr(0, cut));
      EXPECT_EQ(shortReader.varuint(), 0U);
      EXPECT_FALSE(shortReader.ok());
    }
  }
}

TEST(ByteReader, ZigzagVarintsRoundTrip) {
  for (int64_t value : {int64_t{0}, int64_t{-1}, int64_t{1}, int64_t{-64}, int64_t{64},
                        int64_t{std::numeric_limits<int32_t>::min()},
                        std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}) {
    ByteWriter writer;
    writer.varint(value);
    std::string bytes = writer.take();
    ByteReader reader(bytes);
    EXPECT_EQ(reader.varint64(), value);
    EXPECT_TRUE(reader.complete());
  }
  ByteReader minusOne("\x01");
  EXPECT_EQ(minusOne.varint32(), -1);
}

TEST(ByteReader, OverlongVarintsFail) {
  ByteReader six("\x80\x80\x80\x80\x80\x01"sv);
  six.varuint32();
  EXPECT_FALSE(six.ok());
  ByteReader tooManyBits("\xff\xff\xff\xff\x1f"sv);
  tooManyBits.varuint32();
  EXPECT_FALSE(tooManyBits.ok());
  ByteReader largest("\xff\xff\xff\xff\x0f"sv);
  EXPECT_EQ(largest.varuint32(), 0xffffffffU);
  EXPECT_TRUE(largest.complete());
  ByteReader eleven("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"sv);
  eleven.varuint();
  EXPECT_FALSE(eleven.ok());
}

TEST(ByteReader, StringsCannotPassTheEnd) {
  ByteReader fine(
      "\x00\x03"
      "abc"sv);
  EXPECT_EQ(fine.bytes16(), "abc");
  EXPECT_TRUE(fine.complete());
  ByteReader tooLong(
      "\x00\x04"
      "abc"sv);
  EXPECT_EQ(tooLong.bytes16(), "");
  EXPECT_FALSE(tooLong.ok());
  ByteReader huge(
      "\xff\xff\xff\xff"
      "abc"sv);
  EXPECT_EQ(huge.bytes32(), "");
  EXPECT_FALSE(huge.ok());
}

TEST(ByteReader, CountsAreHeldToTheBytesLeft) {
  std::string eight(8, 'x');
  ByteReader fits(eight);
  EXPECT_EQ(fits.count(4, 2), 4U);
  EXPECT_TRUE(fits.ok());
  ByteReader tooMany(eight);
  EXPECT_EQ(tooMany.count(5, 2), 0U);
  EXPECT_FALSE(tooMany.ok());
  ByteReader overflowing(eight);
  EXPECT_EQ(overflowing.count(std::numeric_limits<uint64_t>::max(), 2), 0U);
  EXPECT_FALSE(overflowing.ok());
}

TEST(ByteWriter, WritesWhatTheReaderReads) {
  ByteWriter writer;
  writer.u32(0);
  writer.u8(7);
  writer.i16(-2);
  writer.u64(0x0102030405060708ULL);
  writer.bytes16("key");
  writer.bytes32("value");
  writer.patchU32(0, static_cast<uint32_t>(writer.size()));
  std::string bytes = writer.take();
  ByteReader reader(bytes);
  EXPECT_EQ(reader.u32(), bytes.size());
  EXPECT_EQ(reader.u8(), 7);
  EXPECT_EQ(reader.i16(), -2);
  EXPECT_EQ(reader.u64(), 0x0102030405060708ULL);
  EXPECT_EQ(reader.bytes16(), "key");
  EXPECT_EQ(reader.bytes32(), "value");
  EXPECT_TRUE(reader.complete());
}

}  // namespace
}  // namespace polylog
