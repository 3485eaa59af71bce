#include "core/model/record_batch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/base/byte_writer.h"
#include "core/base/crc32c.h"
#include "core/model/decompression_budget.h"

namespace polylog {
namespace {

constexpr size_t kRoomy = 1 << 20;
constexpr size_t kAttributesAt = 21;
constexpr size_t kLastDeltaAt = 23;
constexpr size_t kCountAt = 57;

std::string fromHex(BytesView hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

/// Three records made by an encoder that shares no code with ours: a key, a value, headers with a
/// null and a duplicate; nulls, an earlier timestamp and the attributes of an at-least-once
/// retained record; empty key and value.
const std::string& knownBatch() {
  static const std::string batch = fromHex(
      "000000000000000000000078ffffffff02a62c9c080000000000020000018bcfe568000000018bcff4aa40ffff"
      "ffffffffffffffffffffffff000000036c000000186b69746368656e2f74656d700832312e350618636f6e7465"
      "6e742d7479706514746578742f706c61696e02610102610400ff0c060902010100100080897a04000000");
  return batch;
}

constexpr int64_t kBase = 1700000000000;

std::vector<Record> knownRecords() {
  std::vector<Record> records(3);
  records[0].key = "kitchen/temp";
  records[0].value = "21.5";
  records[0].timestampMs = kBase;
  records[0].headers = {
      {"content-type", "text/plain"}, {"a", std::nullopt}, {"a", BytesView("\0\xff", 2)}};
  records[1].timestampMs = kBase - 5;
  records[1].guarantee = DeliveryGuarantee::kAtLeastOnce;
  records[1].retain = true;
  records[2].key = "";
  records[2].value = "";
  records[2].timestampMs = kBase + 1000000;
  return records;
}

void expectSame(const Record& a, const Record& b) {
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(a.value, b.value);
  EXPECT_EQ(a.timestampMs, b.timestampMs);
  EXPECT_EQ(a.guarantee, b.guarantee);
  EXPECT_EQ(a.retain, b.retain);
  ASSERT_EQ(a.headers.size(), b.headers.size());
  for (size_t i = 0; i < a.headers.size(); ++i) {
    EXPECT_EQ(a.headers[i].name, b.headers[i].name);
    EXPECT_EQ(a.headers[i].value, b.headers[i].value);
  }
}

std::string build(const std::vector<Record>& records, Compression codec = Compression::kNone) {
  RecordBatchBuilder builder;
  for (const Record& record : records) builder.add(record);
  return builder.finish(codec);
}

/// The batch with a right CRC and length again after a test has changed it.
std::string sealed(std::string batch) {
  ByteWriter writer(std::move(batch));
  writer.patchU32(8, static_cast<uint32_t>(writer.size() - 12));
  writer.patchU32(17, crc32c(writer.view().substr(kRecordBatchUncheckedSize)));
  return writer.take();
}

std::string patched(std::string batch, size_t at, uint32_t value) {
  ByteWriter writer(std::move(batch));
  writer.patchU32(at, value);
  return sealed(writer.take());
}

/// A batch of one record whose octets (without the length before them) are `body`.
std::string batchOf(BytesView body) {
  Record record;
  record.timestampMs = kBase;
  std::string batch = build({record});
  batch.resize(kRecordBatchHeaderSize);
  ByteWriter writer(std::move(batch));
  writer.varint(static_cast<int64_t>(body.size()));
  writer.bytes(body);
  return sealed(writer.take());
}

ErrorKind kindOf(const Result<DecodedBatch>& result) {
  return result ? ErrorKind::kInternal : result.error().kind;
}

TEST(RecordBatch, BuildsTheKnownOctets) {
  EXPECT_EQ(build(knownRecords()), knownBatch());
}

TEST(RecordBatch, ReadsTheKnownOctets) {
  ASSERT_TRUE(validateRecordBatch(knownBatch()));
  Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::copyOf(knownBatch()), kRoomy);
  ASSERT_TRUE(decoded) << decoded.error().text;
  EXPECT_EQ(decoded->header.recordCount, 3);
  EXPECT_EQ(decoded->header.producerId, -1);
  EXPECT_EQ(decoded->header.maxTimestamp, kBase + 1000000);
  EXPECT_EQ(decoded->offsetDeltas, (std::vector<int32_t>{0, 1, 2}));
  std::vector<Record> expected = knownRecords();
  ASSERT_EQ(decoded->records.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) expectSame(decoded->records[i], expected[i]);
}

TEST(RecordBatch, DecodesWithoutACopyWhenNotCompressed) {
  SharedBytes batch = SharedBytes::copyOf(knownBatch());
  Result<DecodedBatch> decoded = decodeRecordBatch(batch, kRoomy);
  ASSERT_TRUE(decoded);
  const char* value = decoded->records[0].value->data();
  EXPECT_GE(value, batch.data());
  EXPECT_LT(value, batch.data() + batch.size());
}

TEST(RecordBatch, ComesBackFromEveryCompression) {
  for (Compression codec : {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                            Compression::kLz4, Compression::kZstd}) {
    std::string batch = build(knownRecords(), codec);
    Result<RecordBatchHeader> header = validateRecordBatch(batch);
    ASSERT_TRUE(header) << header.error().text;
    EXPECT_EQ(header->compression(), codec);
    EXPECT_EQ(header->offsetCount(), 3);
    Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::own(batch), kRoomy);
    ASSERT_TRUE(decoded) << decoded.error().text;
    std::vector<Record> expected = knownRecords();
    for (size_t i = 0; i < 3; ++i) expectSame(decoded->records[i], expected[i]);
  }
}

TEST(RecordBatch, IsCompressedAnewWithAllElseAsItWas) {
  const Compression codecs[] = {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                                Compression::kLz4, Compression::kZstd};
  for (Compression from : codecs) {
    std::string batch = build(knownRecords(), from);
    for (Compression to : codecs) {
      Result<std::string> packed = recompressRecordBatch(SharedBytes::own(batch), kRoomy, to);
      ASSERT_TRUE(packed) << packed.error().text;
      Result<RecordBatchHeader> header = validateRecordBatch(*packed);
      ASSERT_TRUE(header) << header.error().text;
      EXPECT_EQ(header->compression(), to);
      EXPECT_EQ(*packed, build(knownRecords(), to));
    }
  }
  std::string large = build(knownRecords(), Compression::kZstd);
  EXPECT_EQ(recompressRecordBatch(SharedBytes::own(large), 10, Compression::kGzip).error().kind,
            ErrorKind::kTooLarge);
}

TEST(RecordBatch, BuilderIsEmptyAfterFinishAndCountsItsSize) {
  RecordBatchBuilder builder;
  EXPECT_EQ(builder.size(), kRecordBatchHeaderSize);
  EXPECT_EQ(builder.finish(), "");
  for (int round = 0; round < 2; ++round) {
    for (const Record& record : knownRecords()) builder.add(record);
    EXPECT_EQ(builder.count(), 3);
    EXPECT_EQ(builder.size(), knownBatch().size());
    EXPECT_EQ(builder.finish(), knownBatch());
    EXPECT_EQ(builder.count(), 0);
    EXPECT_EQ(builder.size(), kRecordBatchHeaderSize);
  }
}

TEST(RecordBatch, KeepsEveryGuaranteeAndRetain) {
  std::vector<Record> records(8);
  for (size_t i = 0; i < 8; ++i) {
    records[i].timestampMs = kBase;
    records[i].guarantee = static_cast<DeliveryGuarantee>(i & 3);
    records[i].retain = i >= 4;
  }
  Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::own(build(records)), kRoomy);
  ASSERT_TRUE(decoded);
  for (size_t i = 0; i < 8; ++i) expectSame(decoded->records[i], records[i]);
}

TEST(RecordBatch, PatchesOffsetAndEpochOutsideTheCrc) {
  std::string batch = knownBatch();
  patchRecordBatch(batch.data(), Offset(0x0102030405060708), LeaderEpoch(77));
  Result<RecordBatchHeader> header = validateRecordBatch(batch);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->baseOffset, 0x0102030405060708);
  EXPECT_EQ(header->leaderEpoch, 77);
  EXPECT_EQ(BytesView(batch).substr(16), BytesView(knownBatch()).substr(16));
}

TEST(RecordBatch, LogAppendTimeReplacesEveryTimestamp) {
  std::string batch = knownBatch();
  batch[kAttributesAt + 1] = 8;
  Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::own(sealed(batch)), kRoomy);
  ASSERT_TRUE(decoded);
  for (const Record& record : decoded->records) EXPECT_EQ(record.timestampMs, kBase + 1000000);
}

TEST(RecordBatch, HeaderMayBeReadFromAStreamOfBatches) {
  Result<RecordBatchHeader> header = parseRecordBatchHeader(knownBatch() + "more");
  ASSERT_TRUE(header);
  EXPECT_EQ(header->wholeSize(), knownBatch().size());
  EXPECT_FALSE(validateRecordBatch(knownBatch() + "more"));
  EXPECT_FALSE(decodeRecordBatch(SharedBytes::own(knownBatch() + "more"), kRoomy));
}

TEST(RecordBatch, EveryCutIsRefused) {
  for (size_t length = 0; length < knownBatch().size(); ++length) {
    BytesView cut = BytesView(knownBatch()).substr(0, length);
    EXPECT_FALSE(parseRecordBatchHeader(cut)) << length;
  }
}

TEST(RecordBatch, EveryFlippedBitUnderTheCrcIsNoticed) {
  for (size_t bit = 16 * 8; bit < knownBatch().size() * 8; ++bit) {
    std::string batch = knownBatch();
    batch[bit / 8] = static_cast<char>(batch[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(validateRecordBatch(batch)) << bit;
  }
}

TEST(RecordBatch, RefusesCountsThatMakeNoSense) {
  const std::string& good = knownBatch();
  auto refused = [](const std::string& batch) {
    Result<RecordBatchHeader> header = validateRecordBatch(batch);
    return !header && header.error().kind == ErrorKind::kCorrupt;
  };
  EXPECT_TRUE(refused(patched(good, kCountAt, 0xFFFFFFFF)));
  EXPECT_TRUE(refused(patched(good, kCountAt, 0x7FFFFFFF)));
  EXPECT_TRUE(refused(patched(good, kCountAt, 4)));  // last offset delta is 2
  EXPECT_TRUE(refused(patched(good, kLastDeltaAt, 1)));
  EXPECT_TRUE(refused(patched(good, kLastDeltaAt, 0xFFFFFFFF)));
  EXPECT_TRUE(refused(patched(good, kLastDeltaAt, 0x7FFFFFFF)));
  // More records than the octets behind the header can hold.
  EXPECT_TRUE(refused(patched(patched(good, kLastDeltaAt, 99), kCountAt, 100)));
}

TEST(RecordBatch, RefusesOtherMagicAndUnknownCompression) {
  std::string batch = knownBatch();
  batch[16] = 1;
  EXPECT_FALSE(validateRecordBatch(sealed(batch)));
  for (char codec : {'\5', '\6', '\7'}) {
    batch = knownBatch();
    batch[kAttributesAt + 1] = codec;
    EXPECT_FALSE(validateRecordBatch(sealed(batch)));
  }
}

TEST(RecordBatch, RefusesALengthBelowTheHeader) {
  std::string batch = knownBatch();
  for (uint32_t length : {0U, 48U, 0x80000000U, 0xFFFFFFFFU}) {
    ByteWriter writer(batch);
    writer.patchU32(8, length);
    EXPECT_FALSE(parseRecordBatchHeader(writer.view())) << length;
  }
}

TEST(RecordBatch, RecordCountMustBeWhatIsThere) {
  // Claims two of the three records: the third is left over. And four: one is missing.
  std::string two = patched(knownBatch(), kCountAt, 2);
  EXPECT_EQ(kindOf(decodeRecordBatch(SharedBytes::own(two), kRoomy)), ErrorKind::kCorrupt);
  std::string four = patched(patched(knownBatch(), kLastDeltaAt, 3), kCountAt, 4);
  EXPECT_EQ(kindOf(decodeRecordBatch(SharedBytes::own(four), kRoomy)), ErrorKind::kCorrupt);
}

TEST(RecordBatch, GapsAfterCompactionAreKept) {
  std::string batch = patched(knownBatch(), kLastDeltaAt, 9);
  Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::own(batch), kRoomy);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->header.offsetCount(), 10);
  EXPECT_EQ(decoded->records.size(), 3U);
}

TEST(RecordBatch, AnEmptiedBatchIsValid) {
  std::string batch = knownBatch();
  batch.resize(kRecordBatchHeaderSize);
  batch = patched(batch, kCountAt, 0);
  ASSERT_TRUE(validateRecordBatch(batch));
  Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::own(batch), kRoomy);
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(decoded->records.empty());
  EXPECT_EQ(decoded->header.offsetCount(), 3);
}

TEST(RecordBatch, RefusesMalformedRecords) {
  const BytesView cases[] = {
      {"", 0},                            // no attributes
      {"\0\0\0\x01\x01", 5},              // no header count
      {"\0\0\0\x03\x01\0", 6},            // key length -2
      {"\0\0\0\x01\x03\0", 6},            // value length -2
      {"\0\0\0\x7e\x01\0", 6},            // key beyond the record
      {"\0\0\0\x01\x01\x01", 6},          // header count -1
      {"\0\0\0\x01\x01\x04", 6},          // two headers, no octets
      {"\0\0\0\x01\x01\x02\x01\x01", 8},  // null header name
      {"\0\0\0\x01\x01\0\0", 7},          // an octet too many
      {"\0\0\x01\x01\x01\0", 6},          // offset delta -1
      {"\0\0\x02\x01\x01\0", 6},          // offset delta beyond the last
  };
  for (BytesView body : cases) {
    Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::own(batchOf(body)), kRoomy);
    EXPECT_EQ(kindOf(decoded), ErrorKind::kCorrupt) << testing::PrintToString(std::string(body));
  }
  BytesView good("\0\0\0\x01\x01\0", 6);
  EXPECT_TRUE(decodeRecordBatch(SharedBytes::own(batchOf(good)), kRoomy));
}

TEST(RecordBatch, OffsetDeltasMustRise) {
  std::string batch = batchOf(BytesView("\0\0\0\x01\x01\0", 6));
  batch += std::string("\x0c\0\0\0\x01\x01\0", 7);
  batch = patched(patched(batch, kLastDeltaAt, 5), kCountAt, 2);
  EXPECT_EQ(kindOf(decodeRecordBatch(SharedBytes::own(batch), kRoomy)), ErrorKind::kCorrupt);
}

TEST(RecordBatch, ExtremeTimestampsWrapInsteadOfFailing) {
  std::vector<Record> records(2);
  records[0].timestampMs = 0;
  records[1].timestampMs = INT64_MAX;
  Result<DecodedBatch> decoded = decodeRecordBatch(SharedBytes::own(build(records)), kRoomy);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->records[1].timestampMs, INT64_MAX);
}

TEST(RecordBatch, BodyIsHeldToItsLimit) {
  Record record;
  std::string value(100000, 'x');
  record.value = value;
  record.timestampMs = kBase;
  for (Compression codec : {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                            Compression::kLz4, Compression::kZstd}) {
    SharedBytes batch = SharedBytes::own(build({record}, codec));
    EXPECT_EQ(kindOf(decodeRecordBatch(batch, 100000)), ErrorKind::kTooLarge);
    EXPECT_TRUE(decodeRecordBatch(batch, 100100));
  }
}

/// Mutations with the CRC put right again, so that they get past it to the parser. Run under the
/// sanitizers; here only that what is accepted stays within the batch.
TEST(RecordBatch, SurvivesMutations) {
  std::mt19937 random(7);
  for (Compression codec : {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                            Compression::kLz4, Compression::kZstd}) {
    const std::string good = build(knownRecords(), codec);
    for (int round = 0; round < 3000; ++round) {
      std::string batch = good;
      for (auto n = 1 + random() % 4; n > 0; --n) {
        size_t at =
            kRecordBatchUncheckedSize + random() % (batch.size() - kRecordBatchUncheckedSize);
        batch[at] = static_cast<char>(random());
      }
      if (random() % 4 == 0) batch.resize(61 + random() % (batch.size() - 61));
      SharedBytes shared = SharedBytes::own(sealed(batch));
      Result<DecodedBatch> decoded = decodeRecordBatch(shared, kRoomy);
      if (!decoded) continue;
      ASSERT_EQ(decoded->records.size(), decoded->offsetDeltas.size());
      ASSERT_EQ(decoded->records.size(), static_cast<size_t>(decoded->header.recordCount));
      size_t total = 0;
      for (const Record& record : decoded->records) {
        total += record.value.value_or(BytesView()).size();
      }
      ASSERT_LE(total, decoded->body.size());
    }
  }
}

}  // namespace
TEST(RecordBatch, CheckedRecordsTellTheLargestTimestampAndWhetherAllHaveKeys) {
  for (Compression codec : {Compression::kNone, Compression::kGzip, Compression::kSnappy,
                            Compression::kLz4, Compression::kZstd}) {
    std::string batch = build(knownRecords(), codec);
    Result<RecordsSummary> checked = checkRecords(batch, kRoomy);
    ASSERT_TRUE(checked) << checked.error().text;
    EXPECT_EQ(checked->maxTimestamp, kBase + 1000000);
    bool keyed =
        std::ranges::all_of(knownRecords(), [](const Record& r) { return r.key.has_value(); });
    EXPECT_EQ(checked->allKeyed, keyed);
    // What the header says of it doesn't matter, and can be put right.
    std::string without = withMaxTimestamp(batch, -1);
    ASSERT_TRUE(validateRecordBatch(without));
    EXPECT_EQ(checkRecords(without, kRoomy)->maxTimestamp, kBase + 1000000);
    EXPECT_EQ(withMaxTimestamp(without, kBase + 1000000), batch);
  }
}

TEST(RecordBatch, CheckedRecordsAreCountedFromNought) {
  constexpr BytesView kFirst("\x00\x00\x00\x01\x01\x00", 6);   // offset delta 0, nulls
  constexpr BytesView kSecond("\x00\x00\x02\x01\x01\x00", 6);  // offset delta 1
  EXPECT_TRUE(checkRecords(batchOf(kFirst), kRoomy));
  EXPECT_FALSE(checkRecords(batchOf(kSecond), kRoomy));
  EXPECT_FALSE(checkRecords(batchOf(kFirst.substr(0, 5)), kRoomy));
  EXPECT_FALSE(checkRecords(batchOf(BytesView("\x00\x00\x00\x01\x01\x00\x00", 7)), kRoomy));
  EXPECT_FALSE(checkRecords(batchOf(BytesView("\x00\x00\x00\x03\x01\x00", 6)), kRoomy));
  EXPECT_FALSE(checkRecords(batchOf(BytesView("\x00\x00\x00\x01\x01\x02\x01\x01", 8)), kRoomy));
}

TEST(RecordBatch, CheckedRecordsDecompressToSoMuchAtMost) {
  Record record;
  record.timestampMs = kBase;
  const std::string zeroes(1 << 20, '\0');
  record.value = zeroes;
  for (Compression codec :
       {Compression::kGzip, Compression::kSnappy, Compression::kLz4, Compression::kZstd}) {
    std::string batch = build({record}, codec);
    EXPECT_TRUE(checkRecords(batch, 2 << 20));
    auto refused = checkRecords(batch, 1 << 20);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kTooLarge);
  }
}

TEST(RecordBatch, OneThatDoesNotOpenTakesWhatWasMadeOfIt) {
  constexpr size_t kEach = 1 << 20;
  DecompressionBudget budget(kEach, 4 * kEach);
  for (Compression codec :
       {Compression::kGzip, Compression::kSnappy, Compression::kLz4, Compression::kZstd}) {
    std::string batch = build(knownRecords(), codec);
    batch.resize(batch.size() - 2);
    batch = sealed(batch);
    for (int i = 0; i < 10; ++i) EXPECT_FALSE(checkRecords(batch, budget));
  }
  EXPECT_EQ(budget.room(), kEach);
  Record record;
  record.timestampMs = kBase;
  const std::string zeroes(2 * kEach, '\0');
  record.value = zeroes;
  // As much as each may, for nothing.
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(checkRecords(build({record}, Compression::kGzip), budget));
  }
  EXPECT_LT(budget.room(), kEach / 4);
}

}  // namespace polylog
