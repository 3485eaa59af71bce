#include "core/model/compression.h"

#include <gtest/gtest.h>

#include <random>

#include "core/base/byte_writer.h"

namespace polylog {
namespace {

constexpr size_t kRoomy = 8 << 20;
constexpr Compression kCodecs[] = {Compression::kGzip, Compression::kSnappy, Compression::kLz4,
                                   Compression::kZstd};

std::string fromHex(BytesView hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

std::string noise(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

std::string text(size_t size) {
  std::string out;
  for (size_t i = 0; out.size() < size; ++i) out += "sensors/" + std::to_string(i % 977) + "/temp;";
  out.resize(size);
  return out;
}

ErrorKind kindOf(const Result<std::string>& result) {
  return result ? ErrorKind::kInternal : result.error().kind;
}

/// What the gzip, lz4 and zstd command line tools make of a text.
TEST(Compression, ReadsWhatOtherToolsWrite) {
  const std::string plain = "polylog polylog polylog polylog!";
  struct Known {
    Compression codec;
    const char* hex;
  };
  const Known cases[] = {
      {Compression::kGzip, "1f8b08000000000000032bc8cfa9ccc94f5728c04e2b020082475da620000000"},
      {Compression::kLz4,
       "04224d186440a7120000008f706f6c796c6f672008000050796c6f672100000000101f60d2"},
      {Compression::kZstd, "28b52ffd04587d000048706f6c796c6f6720210100ab0b17d3ef9fb8"},
  };
  for (const Known& known : cases) {
    Result<std::string> got = decompress(known.codec, fromHex(known.hex), kRoomy);
    ASSERT_TRUE(got) << got.error().text;
    EXPECT_EQ(*got, plain);
  }
  // By hand: length 5, a literal of 5; raw, then two chunks in the Java client's framing.
  Result<std::string> raw = decompress(Compression::kSnappy, fromHex("051068656c6c6f"), kRoomy);
  ASSERT_TRUE(raw);
  EXPECT_EQ(*raw, "hello");
  Result<std::string> framed = decompress(Compression::kSnappy,
                                          fromHex("82534e41505059000000000100000001"
                                                  "00000007"
                                                  "051068656c6c6f"
                                                  "00000003"
                                                  "010021"),
                                          kRoomy);
  ASSERT_TRUE(framed);
  EXPECT_EQ(*framed, "hello!");
}

TEST(Compression, WritesSnappyInTheJavaClientsFraming) {
  EXPECT_EQ(compress(Compression::kSnappy, "hello"), fromHex("82534e41505059000000000100000001"
                                                             "00000007"
                                                             "051068656c6c6f"));
}

TEST(Compression, WritesIndependentLz4Blocks) {
  // FLG: version 01, block independence; what the Java client insists on.
  std::string out = compress(Compression::kLz4, "hello");
  ASSERT_GT(out.size(), 4U);
  EXPECT_EQ(static_cast<uint8_t>(out[4]) & 0xE0, 0x60);
}

TEST(Compression, ComesBack) {
  for (Compression codec : kCodecs) {
    for (size_t size : {0U, 1U, 2U, 100U, 4095U, 4096U, 4097U, 32768U, 32769U, 300000U, 2000000U}) {
      for (const std::string& plain : {text(size), noise(size, 3), std::string(size, 'z')}) {
        std::string packed = compress(codec, plain);
        Result<std::string> got = decompress(codec, packed, size);
        ASSERT_TRUE(got) << static_cast<int>(codec) << " " << size << " " << got.error().text;
        ASSERT_TRUE(*got == plain) << static_cast<int>(codec) << " " << size;
      }
    }
  }
  EXPECT_EQ(*decompress(Compression::kNone, compress(Compression::kNone, "x"), 1), "x");
}

TEST(Compression, LimitIsExact) {
  for (Compression codec : kCodecs) {
    for (size_t size : {1U, 4096U, 5000U, 100000U}) {
      std::string packed = compress(codec, text(size));
      EXPECT_EQ(kindOf(decompress(codec, packed, size - 1)), ErrorKind::kTooLarge)
          << static_cast<int>(codec) << " " << size;
      EXPECT_TRUE(decompress(codec, packed, size));
    }
  }
  EXPECT_EQ(kindOf(decompress(Compression::kNone, "xy", 1)), ErrorKind::kTooLarge);
}

TEST(Compression, BombsAreStoppedAtTheLimit) {
  std::string zeros(64 << 20, '\0');
  for (Compression codec : kCodecs) {
    std::string packed = compress(codec, zeros);
    EXPECT_EQ(kindOf(decompress(codec, packed, 1 << 20)), ErrorKind::kTooLarge)
        << static_cast<int>(codec);
  }
}

TEST(Compression, ZstdWithoutAContentSizeGrowsItsBuffer) {
  // Run-length blocks of 128 KiB each, no content size, a window of 128 MiB asked for.
  std::string frame = fromHex("28b52ffd0088");
  for (int i = 0; i < 7; ++i) frame += fromHex("02001078");
  frame += fromHex("03001078");
  Result<std::string> got = decompress(Compression::kZstd, frame, kRoomy);
  ASSERT_TRUE(got) << got.error().text;
  EXPECT_TRUE(*got == std::string(8 * 128 * 1024, 'x'));
  EXPECT_EQ(kindOf(decompress(Compression::kZstd, frame, 1 << 19)), ErrorKind::kTooLarge);
}

TEST(Compression, AClaimedSizeTheInputCannotHoldIsALie) {
  // A snappy length of 2^31 - 1 before nothing; a zstd content size of 7 MiB before an empty block.
  EXPECT_EQ(kindOf(decompress(Compression::kSnappy, fromHex("ffffffff07"), kRoomy)),
            ErrorKind::kCorrupt);
  EXPECT_EQ(kindOf(decompress(Compression::kZstd, fromHex("28b52ffda000007000010000"), kRoomy)),
            ErrorKind::kCorrupt);
}

TEST(Compression, SeveralMembersOrFramesAreOneText) {
  for (Compression codec : {Compression::kGzip, Compression::kLz4, Compression::kZstd}) {
    std::string packed = compress(codec, "one, ") + compress(codec, text(50000));
    Result<std::string> got = decompress(codec, packed, kRoomy);
    ASSERT_TRUE(got) << static_cast<int>(codec) << got.error().text;
    EXPECT_EQ(*got, "one, " + text(50000));
  }
}

TEST(Compression, EveryCutIsRefused) {
  for (Compression codec : kCodecs) {
    std::string packed = compress(codec, text(500));
    for (size_t length = 0; length < packed.size(); ++length) {
      if (codec == Compression::kSnappy && length == 16) continue;  // a framing with no chunk
      EXPECT_EQ(kindOf(decompress(codec, BytesView(packed).substr(0, length), kRoomy)),
                ErrorKind::kCorrupt)
          << static_cast<int>(codec) << " " << length;
    }
  }
}

TEST(Compression, UnknownCodecIsUnsupported) {
  EXPECT_EQ(kindOf(decompress(static_cast<Compression>(7), "x", kRoomy)), ErrorKind::kUnsupported);
}

TEST(Compression, SurvivesMutations) {
  std::mt19937 random(11);
  constexpr size_t kLimit = 100000;
  for (Compression codec : kCodecs) {
    const std::string good = compress(codec, text(20000) + noise(500, 5));
    for (int round = 0; round < 2000; ++round) {
      std::string packed = good;
      for (auto n = 1 + random() % 4; n > 0; --n) {
        packed[random() % packed.size()] = static_cast<char>(random());
      }
      if (random() % 4 == 0) packed.resize(random() % packed.size());
      Result<std::string> got = decompress(codec, packed, kLimit);
      ASSERT_LE(got ? got->size() : 0, kLimit);
    }
    for (int round = 0; round < 500; ++round) {
      Result<std::string> got =
          decompress(codec, noise(random() % 64, static_cast<uint32_t>(random())), kLimit);
      ASSERT_LE(got ? got->size() : 0, kLimit);
    }
  }
}

}  // namespace
}  // namespace polylog
