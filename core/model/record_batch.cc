#include "core/model/record_batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/byte_reader.h"
#include "core/base/crc32c.h"
#include "core/model/compression.h"
#include "core/model/decompression_budget.h"

namespace polylog {
namespace {

constexpr size_t kLengthEnd = 12;  ///< base offset and length: what `length` does not count
constexpr size_t kEpochAt = 12;
constexpr size_t kCrcAt = 17;
constexpr size_t kMaxTimestampAt = 35;
/// Length, attributes, two deltas, key and value lengths and a header count, one octet each.
constexpr size_t kSmallestRecord = 7;
constexpr size_t kSmallestHeader = 2;

constexpr int16_t kTransactionalBit = 16;
constexpr int16_t kControlBit = 32;

constexpr uint8_t kGuaranteeBits = 3;
constexpr uint8_t kRetainBit = 4;

// Timestamps come from the wire; their sums and differences may wrap but not be undefined.
int64_t plus(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
int64_t minus(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}

// ---------------------------------------------------------------- writing

template <class T>
char* putBigEndian(char* to, T value) {
  auto raw = static_cast<std::make_unsigned_t<T>>(value);
  for (size_t i = sizeof(T); i-- > 0;) {
    to[i] = static_cast<char>(raw & 0xFFU);
    raw = static_cast<decltype(raw)>(static_cast<uint64_t>(raw) >> 8);
  }
  return to + sizeof(T);
}

uint64_t zigzag(int64_t v) {
  return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
}

size_t varintSize(int64_t v) {
  uint64_t raw = zigzag(v);
  size_t size = 1;
  while (raw >= 0x80U) {
    raw >>= 7;
    ++size;
  }
  return size;
}

char* putVarint(char* to, int64_t v) {
  uint64_t raw = zigzag(v);
  while (raw >= 0x80U) {
    *to++ = static_cast<char>(raw | 0x80U);
    raw >>= 7;
  }
  *to++ = static_cast<char>(raw);
  return to;
}

size_t bytesSize(BytesView v) {
  return varintSize(static_cast<int64_t>(v.size())) + v.size();
}

size_t bytesSize(const std::optional<BytesView>& v) {
  return v ? bytesSize(*v) : 1;
}

char* putBytes(char* to, BytesView v) {
  to = putVarint(to, static_cast<int64_t>(v.size()));
  if (!v.empty()) std::memcpy(to, v.data(), v.size());
  return to + v.size();
}

char* putBytes(char* to, const std::optional<BytesView>& v) {
  return v ? putBytes(to, *v) : putVarint(to, -1);
}

int8_t attributesOf(const Record& record) {
  return static_cast<int8_t>((static_cast<uint8_t>(record.guarantee) & kGuaranteeBits) |
                             (record.retain ? kRetainBit : 0));
}

/// Writes the header for the body behind it, which is in place already: `batch` is whole.
void putHeader(std::string& batch, const RecordBatchHeader& header) {
  char* to = batch.data();
  to = putBigEndian(to, header.baseOffset);
  to = putBigEndian(to, static_cast<int32_t>(batch.size() - kLengthEnd));
  to = putBigEndian(to, header.leaderEpoch);
  to = putBigEndian(to, header.magic);
  to += sizeof(header.crc);
  to = putBigEndian(to, header.attributes);
  to = putBigEndian(to, header.lastOffsetDelta);
  to = putBigEndian(to, header.baseTimestamp);
  to = putBigEndian(to, header.maxTimestamp);
  to = putBigEndian(to, header.producerId);
  to = putBigEndian(to, header.producerEpoch);
  to = putBigEndian(to, header.baseSequence);
  putBigEndian(to, header.recordCount);
  uint32_t crc = crc32c(BytesView(batch).substr(kRecordBatchUncheckedSize));
  putBigEndian(batch.data() + kCrcAt, crc);
}

// ---------------------------------------------------------------- reading

std::unexpected<Error> corrupt(const char* what) {
  return fail(ErrorKind::kCorrupt, std::string("record batch: ") + what);
}

std::optional<BytesView> nullableBytes(ByteReader& in) {
  int32_t length = in.varint32();
  if (length == -1) return std::nullopt;
  if (length < 0) {
    in.fail();
    return std::nullopt;
  }
  return in.bytes(static_cast<size_t>(length));
}

void readHeaders(ByteReader& in, std::vector<Header>& out) {
  int32_t claimed = in.varint32();
  if (claimed < 0) return in.fail();
  size_t count = in.count(static_cast<uint64_t>(claimed), kSmallestHeader);
  if (count == 0) return;
  out.reserve(count);
  for (size_t i = 0; i < count && in.ok(); ++i) {
    std::optional<BytesView> name = nullableBytes(in);
    if (!name) return in.fail();
    out.push_back({*name, nullableBytes(in)});
  }
}

/// Reads one record into `out`, whose timestamp becomes the delta, and returns its offset delta.
int32_t readRecord(ByteReader& batch, Record& out) {
  int32_t length = batch.varint32();
  if (length < 0) {
    batch.fail();
    return 0;
  }
  ByteReader in(batch.bytes(static_cast<size_t>(length)));
  uint8_t attributes = in.u8();
  out.guarantee = static_cast<DeliveryGuarantee>(attributes & kGuaranteeBits);
  out.retain = (attributes & kRetainBit) != 0;
  out.timestampMs = in.varint64();
  int32_t offsetDelta = in.varint32();
  out.key = nullableBytes(in);
  out.value = nullableBytes(in);
  readHeaders(in, out.headers);
  if (!in.complete()) batch.fail();
  return offsetDelta;
}

/// Passes over a length and what it counts; false for the length -1, which is null.
bool skipNullable(ByteReader& in) {
  int32_t length = in.varint32();
  if (length < -1) in.fail();
  if (length > 0) in.skip(static_cast<size_t>(length));
  return length >= 0;
}

/// The same as readRecord() for whoever wants nothing of its contents.
int32_t passRecord(ByteReader& batch, int64_t& timestampDelta, bool& keyed) {
  int32_t length = batch.varint32();
  if (length < 0) {
    batch.fail();
    return 0;
  }
  ByteReader in(batch.bytes(static_cast<size_t>(length)));
  in.skip(1);  // attributes
  timestampDelta = in.varint64();
  int32_t offsetDelta = in.varint32();
  keyed = skipNullable(in);
  skipNullable(in);
  int32_t headers = in.varint32();
  if (headers < 0) in.fail();
  for (int32_t i = 0; i < headers && in.ok(); ++i) {
    if (!skipNullable(in)) in.fail();
    skipNullable(in);
  }
  if (!in.complete()) batch.fail();
  return offsetDelta;
}

}  // namespace

Result<RecordBatchHeader> parseRecordBatchHeader(BytesView bytes) {
  ByteReader in(bytes);
  RecordBatchHeader h;
  h.baseOffset = in.i64();
  h.length = in.i32();
  h.leaderEpoch = in.i32();
  h.magic = in.i8();
  h.crc = in.u32();
  h.attributes = in.i16();
  h.lastOffsetDelta = in.i32();
  h.baseTimestamp = in.i64();
  h.maxTimestamp = in.i64();
  h.producerId = in.i64();
  h.producerEpoch = in.i16();
  h.baseSequence = in.i32();
  h.recordCount = in.i32();
  if (!in.ok()) return corrupt("shorter than a header");
  if (h.magic != 2) return corrupt("magic is not 2");
  if (h.length < static_cast<int32_t>(kRecordBatchHeaderSize - kLengthEnd)) {
    return corrupt("length is less than a header's");
  }
  if (h.wholeSize() > bytes.size()) return corrupt("length passes the end of the input");
  if (h.compression() > Compression::kZstd) return corrupt("unknown compression");
  // An emptied batch keeps its last offset delta, so the count may be 0 but the delta never below.
  if (h.recordCount < 0 || h.lastOffsetDelta < 0 || h.lastOffsetDelta == INT32_MAX ||
      h.recordCount - 1 > h.lastOffsetDelta) {
    return corrupt("record count and last offset delta do not agree");
  }
  if (h.compression() == Compression::kNone &&
      static_cast<size_t>(h.recordCount) >
          (h.wholeSize() - kRecordBatchHeaderSize) / kSmallestRecord) {
    return corrupt("more records than its octets can hold");
  }
  return h;
}

Result<RecordBatchHeader> validateRecordBatch(BytesView batch) {
  Result<RecordBatchHeader> header = parseRecordBatchHeader(batch);
  if (!header) return header;
  if (header->wholeSize() != batch.size()) return corrupt("octets behind its end");
  if (crc32c(batch.substr(kRecordBatchUncheckedSize)) != header->crc) {
    return corrupt("CRC does not hold");
  }
  return header;
}

Result<RecordsSummary> checkRecords(BytesView batch, size_t maxBody) {
  DecompressionBudget alone(maxBody, maxBody);
  return checkRecords(batch, alone);
}

Result<RecordsSummary> checkRecords(BytesView batch, DecompressionBudget& budget) {
  Result<RecordBatchHeader> header = parseRecordBatchHeader(batch);
  if (!header) return std::unexpected(std::move(header.error()));
  BytesView records = batch.substr(kRecordBatchHeaderSize);
  std::string plain;
  if (header->compression() != Compression::kNone) {
    const size_t room = budget.room();
    size_t made = 0;
    Result<std::string> opened = decompress(header->compression(), records, room, made);
    budget.take(opened ? opened->size() : std::min(made, room));
    if (!opened) return std::unexpected(std::move(opened.error()));
    plain = std::move(*opened);
    records = plain;
  }
  RecordsSummary out;
  ByteReader in(records);
  for (int32_t i = 0; i < header->recordCount; ++i) {
    int64_t delta = 0;
    bool keyed = false;
    int32_t offsetDelta = passRecord(in, delta, keyed);
    if (!in.ok()) return corrupt("malformed record");
    if (offsetDelta != i) return corrupt("offset deltas have gaps");
    out.maxTimestamp = std::max(out.maxTimestamp, plus(header->baseTimestamp, delta));
    out.allKeyed = out.allKeyed && keyed;
  }
  if (!in.complete()) return corrupt("octets behind its last record");
  return out;
}

std::string withMaxTimestamp(BytesView batch, int64_t timestampMs) {
  std::string out(batch);
  putBigEndian(out.data() + kMaxTimestampAt, timestampMs);
  putBigEndian(out.data() + kCrcAt, crc32c(BytesView(out).substr(kRecordBatchUncheckedSize)));
  return out;
}

void patchRecordBatch(char* batch, Offset baseOffset, LeaderEpoch epoch) {
  putBigEndian(batch, baseOffset.value());
  putBigEndian(batch + kEpochAt, epoch.value());
}

Result<DecodedBatch> decodeRecordBatch(const SharedBytes& batch, size_t maxBody) {
  Result<RecordBatchHeader> header = parseRecordBatchHeader(batch.view());
  if (!header) return std::unexpected(header.error());
  if (header->wholeSize() != batch.size()) return corrupt("octets behind its end");

  DecodedBatch out;
  out.header = *header;
  BytesView stored = batch.view().substr(kRecordBatchHeaderSize);
  BytesView records = stored;
  if (header->compression() == Compression::kNone) {
    if (stored.size() > maxBody) {
      return fail(ErrorKind::kTooLarge, "record batch: larger than its limit");
    }
    out.body = batch;
  } else {
    Result<std::string> plain = decompress(header->compression(), stored, maxBody);
    if (!plain) return std::unexpected(std::move(plain.error()));
    out.body = SharedBytes::own(std::move(*plain));
    records = out.body.view();
  }

  ByteReader in(records);
  size_t count = in.count(static_cast<uint64_t>(header->recordCount), kSmallestRecord);
  if (!in.ok()) return corrupt("more records than its octets can hold");
  out.records.reserve(count);
  out.offsetDeltas.reserve(count);
  int32_t previous = -1;
  for (size_t i = 0; i < count; ++i) {
    Record& record = out.records.emplace_back();
    int32_t delta = readRecord(in, record);
    if (!in.ok()) return corrupt("malformed record");
    if (delta <= previous || delta > header->lastOffsetDelta) {
      return corrupt("offset deltas do not rise");
    }
    previous = delta;
    out.offsetDeltas.push_back(delta);
    record.timestampMs = header->logAppendTime() ? header->maxTimestamp
                                                 : plus(header->baseTimestamp, record.timestampMs);
  }
  if (!in.complete()) return corrupt("octets behind its last record");
  return out;
}

Result<std::string> filterRecordBatch(const SharedBytes& batch, size_t maxBody,
                                      const std::function<bool(int32_t offsetDelta)>& keep) {
  Result<DecodedBatch> decoded = decodeRecordBatch(batch, maxBody);
  if (!decoded) return std::unexpected(std::move(decoded.error()));
  RecordBatchHeader header = decoded->header;
  BytesView records = decoded->body.view();
  if (header.compression() == Compression::kNone) records.remove_prefix(kRecordBatchHeaderSize);
  // A record's own deltas count from the header's, which stays: its octets can be copied.
  std::string body;
  header.recordCount = 0;
  ByteReader in(records);
  for (int32_t delta : decoded->offsetDeltas) {
    size_t from = records.size() - in.remaining();
    int32_t length = in.varint32();
    in.skip(static_cast<size_t>(length));
    if (!keep(delta)) continue;
    body.append(records.substr(from, records.size() - in.remaining() - from));
    ++header.recordCount;
  }
  if (header.compression() != Compression::kNone) body = compress(header.compression(), body);
  std::string out(kRecordBatchHeaderSize, '\0');
  out.append(body);
  putHeader(out, header);
  return out;
}

Result<std::string> recompressRecordBatch(const SharedBytes& batch, size_t maxBody,
                                          Compression compression) {
  Result<RecordBatchHeader> header = parseRecordBatchHeader(batch.view());
  if (!header) return std::unexpected(std::move(header.error()));
  if (header->wholeSize() != batch.size()) return corrupt("octets behind its end");
  std::string body(batch.view().substr(kRecordBatchHeaderSize));
  if (header->compression() != Compression::kNone) {
    Result<std::string> plain = decompress(header->compression(), body, maxBody);
    if (!plain) return std::unexpected(std::move(plain.error()));
    body = std::move(*plain);
  }
  if (compression != Compression::kNone) body = compress(compression, body);
  constexpr int kCompressionBits = 7;
  header->attributes = static_cast<int16_t>((header->attributes & ~kCompressionBits) |
                                            static_cast<int>(compression));
  std::string out(kRecordBatchHeaderSize, '\0');
  out.append(body);
  putHeader(out, *header);
  return out;
}

std::string endMarkerBatch(EndMarker marker, ProducerIdentity producer, int64_t timestampMs) {
  // Key: version, type. Value: version, the coordinator's epoch, which has no meaning here.
  const char key[] = {0, 0, 0, static_cast<char>(marker)};
  const char value[] = {0, 0, 0, 0, 0, 0};
  Record record;
  record.key = BytesView(key, sizeof key);
  record.value = BytesView(value, sizeof value);
  record.timestampMs = timestampMs;
  RecordBatchBuilder builder;
  builder.add(record);
  std::string batch = builder.finish();
  RecordBatchHeader header;
  header.attributes = kTransactionalBit | kControlBit;
  header.baseTimestamp = header.maxTimestamp = timestampMs;
  header.producerId = producer.id;
  header.producerEpoch = producer.epoch;
  header.recordCount = 1;
  putHeader(batch, header);
  return batch;
}

Result<EndMarker> endMarkerOf(BytesView batch) {
  Result<RecordBatchHeader> header = parseRecordBatchHeader(batch);
  if (!header) return std::unexpected(header.error());
  if (!header->control() || header->recordCount != 1 ||
      header->compression() != Compression::kNone) {
    return corrupt("not a control batch");
  }
  ByteReader in(batch.substr(kRecordBatchHeaderSize, header->wholeSize() - kRecordBatchHeaderSize));
  Record record;
  readRecord(in, record);
  if (!in.complete() || !record.key) return corrupt("malformed control record");
  ByteReader key(*record.key);
  key.skip(2);  // its version: what comes first is the same in all
  int16_t type = key.i16();
  if (!key.ok() || (type != 0 && type != 1)) return corrupt("not a transaction's marker");
  return static_cast<EndMarker>(type);
}

bool hiddenFromCommitted(const RecordBatchHeader& header, Offset base,
                         std::span<const AbortedTransaction> aborted) {
  if (header.control()) return true;
  if (!header.transactional()) return false;
  return std::ranges::any_of(aborted, [&](const AbortedTransaction& one) {
    return one.producer == header.producerId && base >= one.first && base <= one.last;
  });
}

void RecordBatchBuilder::add(const Record& record) {
  if (count_ == 0) {
    baseTimestamp_ = record.timestampMs;
    maxTimestamp_ = record.timestampMs;
  }
  maxTimestamp_ = std::max(maxTimestamp_, record.timestampMs);
  int64_t timestampDelta = minus(record.timestampMs, baseTimestamp_);

  size_t size = 1 + varintSize(timestampDelta) + varintSize(count_) + bytesSize(record.key) +
                bytesSize(record.value) + varintSize(static_cast<int64_t>(record.headers.size()));
  for (const Header& header : record.headers) {
    size += bytesSize(header.name) + bytesSize(header.value);
  }
  size_t whole = varintSize(static_cast<int64_t>(size)) + size;

  size_t at = std::max(batch_.size(), kRecordBatchHeaderSize);
  // The header's place is written by finish(); nothing here needs to be zeroed first. (The second
  // argument is not used: libstdc++ 12 passes the capacity in it.)
  batch_.resize_and_overwrite(at + whole, [&](char* data, size_t) {
    char* to = putVarint(data + at, static_cast<int64_t>(size));
    *to++ = static_cast<char>(attributesOf(record));
    to = putVarint(to, timestampDelta);
    to = putVarint(to, count_);
    to = putBytes(to, record.key);
    to = putBytes(to, record.value);
    to = putVarint(to, static_cast<int64_t>(record.headers.size()));
    for (const Header& header : record.headers) {
      to = putBytes(to, header.name);
      to = putBytes(to, header.value);
    }
    return at + whole;
  });
  ++count_;
}

std::string RecordBatchBuilder::finish(Compression compression) {
  if (count_ == 0) return {};
  std::string batch = std::exchange(batch_, {});
  if (compression != Compression::kNone) {
    std::string body = compress(compression, BytesView(batch).substr(kRecordBatchHeaderSize));
    batch.replace(kRecordBatchHeaderSize, std::string::npos, body);
  }
  RecordBatchHeader header;
  header.attributes = static_cast<int16_t>(compression);
  header.lastOffsetDelta = count_ - 1;
  header.baseTimestamp = baseTimestamp_;
  header.maxTimestamp = maxTimestamp_;
  header.recordCount = count_;
  putHeader(batch, header);
  count_ = 0;
  return batch;
}

}  // namespace polylog
