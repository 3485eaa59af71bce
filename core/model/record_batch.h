// Kafka's RecordBatch v2 (magic 2), the format records have on disk and on Kafka's wire. Its CRC
// leaves out base offset and partition leader epoch, so a stored batch is handed out with those two
// patched. Parsing and building; thread-free, no I/O. Reference: Kafka documentation, "Record
// Batch".
//
// Kafka leaves a record's own attributes octet unused; here it holds DeliveryGuarantee (bits 0-1)
// and retain (bit 2). Other bits are written as zero and ignored.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/compression_type.h"
#include "core/model/record.h"
#include "core/model/transaction.h"

namespace polylog {

inline constexpr size_t kRecordBatchHeaderSize = 61;
/// The part of the header that the batch's own CRC does not cover.
inline constexpr size_t kRecordBatchUncheckedSize = 21;

struct RecordBatchHeader {
  int64_t baseOffset = 0;
  int32_t length = 0;  ///< octets after this field: the whole batch is length + 12
  int32_t leaderEpoch = -1;
  int8_t magic = 2;
  uint32_t crc = 0;
  int16_t attributes = 0;
  int32_t lastOffsetDelta = 0;
  int64_t baseTimestamp = 0;
  int64_t maxTimestamp = 0;
  int64_t producerId = -1;
  int16_t producerEpoch = -1;
  int32_t baseSequence = -1;
  int32_t recordCount = 0;

  Compression compression() const { return static_cast<Compression>(attributes & 7); }
  bool logAppendTime() const { return (attributes & 8) != 0; }
  bool transactional() const { return (attributes & 16) != 0; }
  bool control() const { return (attributes & 32) != 0; }
  size_t wholeSize() const { return static_cast<size_t>(length) + 12; }
  /// How many offsets the batch takes up in a partition.
  int32_t offsetCount() const { return lastOffsetDelta + 1; }
};

/// Reads the header and checks what can be checked without the body: magic 2, a length that fits
/// `bytes` (which may hold more behind the batch), counts that make sense. kCorrupt otherwise.
Result<RecordBatchHeader> parseRecordBatchHeader(BytesView bytes);

/// The same for exactly one batch, and its CRC.
Result<RecordBatchHeader> validateRecordBatch(BytesView batch);

/// What a batch's records are. Its header may say otherwise: some producers leave `maxTimestamp`
/// out.
struct RecordsSummary {
  int64_t maxTimestamp = -1;
  bool allKeyed = true;
};

/// Walks the records of a producer's batch whose header is sound: as many as it says, with offset
/// deltas from 0 on without a gap, each well formed, and nothing behind the last. kCorrupt if not;
/// kTooLarge when it decompresses to more than `maxBody`.
Result<RecordsSummary> checkRecords(BytesView batch, size_t maxBody);

/// A whole, valid batch with another largest timestamp in its header, and its CRC renewed.
std::string withMaxTimestamp(BytesView batch, int64_t timestampMs);

/// Overwrites base offset and leader epoch in the first 16 octets at `batch`.
void patchRecordBatch(char* batch, Offset baseOffset, LeaderEpoch epoch);

/// A batch opened: `records` are views into `body` (the batch itself if it is not compressed).
struct DecodedBatch {
  RecordBatchHeader header;
  SharedBytes body;
  std::vector<Record> records;        ///< timestamps absolute; LogAppendTime already applied
  std::vector<int32_t> offsetDeltas;  ///< of each record (compaction leaves gaps)
};

/// Opens a batch whose CRC somebody has checked already. kCorrupt when malformed; kTooLarge when it
/// decompresses to more than `maxBody`.
Result<DecodedBatch> decodeRecordBatch(const SharedBytes& batch, size_t maxBody);

/// The batch without the records that `keep`, asked by offset delta, doesn't want: all else stays,
/// the last offset delta and the compression too. kCorrupt, kTooLarge as above.
Result<std::string> filterRecordBatch(const SharedBytes& batch, size_t maxBody,
                                      const std::function<bool(int32_t offsetDelta)>& keep);

/// The batch with its records compressed another way; all else stays. kCorrupt, kTooLarge as above.
Result<std::string> recompressRecordBatch(const SharedBytes& batch, size_t maxBody,
                                          Compression compression);

/// How a transaction ended in a partition. The numbers are the format's.
enum class EndMarker : uint8_t { kAbort = 0, kCommit = 1 };

/// The control batch that ends a producer's transaction in a partition ("Control Batches").
std::string endMarkerBatch(EndMarker marker, ProducerIdentity producer, int64_t timestampMs);

/// What a control batch says. kCorrupt if it is not such a marker.
Result<EndMarker> endMarkerOf(BytesView batch);

/// Whether a batch at `base` holds nothing that a reader of committed records is to see: a marker,
/// or records of a transaction that was aborted.
bool hiddenFromCommitted(const RecordBatchHeader& header, Offset base,
                         std::span<const AbortedTransaction> aborted);

/// Collects records into one batch. Not for sharing between threads.
class RecordBatchBuilder {
 public:
  /// Records need a timestamp (>= 0).
  void add(const Record& record);
  int32_t count() const { return count_; }
  /// Octets so far, header included, uncompressed.
  size_t size() const { return batch_.empty() ? kRecordBatchHeaderSize : batch_.size(); }
  /// The batch with base offset 0 and a valid CRC; leaves the builder empty. An empty string if
  /// nothing was added.
  std::string finish(Compression compression = Compression::kNone);

 private:
  std::string batch_;  ///< room for the header, then the records
  int32_t count_ = 0;
  int64_t baseTimestamp_ = 0;
  int64_t maxTimestamp_ = 0;
};

}  // namespace polylog
