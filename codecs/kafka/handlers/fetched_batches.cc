#include "codecs/kafka/handlers/fetched_batches.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "codecs/kafka/decoder.h"
#include "codecs/kafka/errors.h"
#include "codecs/kafka/limits.h"
#include "core/model/record_batch.h"

namespace polylog::kafka {
namespace {

/// Base offset, length, leader epoch and magic: what precedes the CRC, and what is patched.
constexpr size_t kPatchedHead = 17;

/// A batch of its own with the records that `view` covers.
Result<SharedBytes> rebuild(const FetchedBatch& view) {
  Result<DecodedBatch> whole = decodeRecordBatch(view.batch, kMaxDecompressedBytes);
  if (!whole) return std::unexpected(std::move(whole.error()));
  size_t first = view.firstRecord;
  if (view.count == 0 || first > whole->records.size() ||
      view.count > whole->records.size() - first) {
    return fail(ErrorKind::kCorrupt, "a batch holds fewer records than its target says");
  }
  RecordBatchBuilder builder;
  for (size_t i = first; i < first + view.count; ++i) builder.add(whole->records[i]);
  return SharedBytes::own(builder.finish());
}

}  // namespace

void PartRead::setEnds(Offset start, Offset high, Offset stable) {
  logStart = start.value();
  highWatermark = high.value();
  lastStable = stable.value();
}

void PartRead::fail(int16_t code) {
  errorCode = code;
  batches.clear();
  bytes = 0;
  setEnds(Offset(-1), Offset(-1), Offset(-1));
}

Offset PartRead::take(Fetched&& fetched, Offset next, bool committedOnly) {
  setEnds(fetched.logStart, fetched.highWatermark, fetched.lastStable);
  for (AbortedTransaction& one : fetched.aborted) {
    bool told = std::ranges::find(aborted, one) != aborted.end();
    // One that begins above the last stable offset touches none of the batches that are given.
    if (committedOnly && !told && one.first < fetched.lastStable) aborted.push_back(one);
  }
  for (FetchedBatch& batch : fetched.batches) {
    if (committedOnly && batch.baseOffset >= fetched.lastStable) break;
    Result<RecordBatchHeader> header = parseRecordBatchHeader(batch.batch.view());
    if (!header) {
      fail(code(Code::kCorruptMessage));
      return next;
    }
    bool whole =
        batch.firstRecord == 0 && static_cast<int64_t>(batch.count) == header->offsetCount();
    if (!whole) {
      Result<SharedBytes> rebuilt = rebuild(batch);
      if (!rebuilt) {
        fail(code(rebuilt.error(), Area::kTopic));
        return next;
      }
      batch.batch = std::move(*rebuilt);
      batch.firstRecord = 0;
    }
    next = std::max(next, batch.baseOffset + batch.count);
    bytes += batch.batch.size();
    batches.push_back(std::move(batch));
  }
  return next;
}

Reply withBatches(wire::Encoder out, const std::vector<const PartRead*>& parts, LeaderEpoch epoch) {
  size_t records = 0;
  for (const PartRead* part : parts) records += part->bytes;
  out.patchU32(0, static_cast<uint32_t>(out.size() - kFrameLengthSize + records));
  std::vector<size_t> cuts = std::move(out.cuts);
  std::string message = out.take();
  Reply reply;
  size_t at = 0;
  auto cut = cuts.begin();
  for (const PartRead* part : parts) {
    if (part->bytes == 0) continue;
    reply.append(BytesView(message).substr(at, *cut - at));
    at = *cut++;
    for (const FetchedBatch& batch : part->batches) appendBatch(batch, epoch, reply);
  }
  reply.append(BytesView(message).substr(at));
  return reply;
}

void appendBatch(const FetchedBatch& batch, LeaderEpoch epoch, Reply& reply) {
  std::array<char, kPatchedHead> head;
  BytesView stored = batch.batch.view();
  stored.copy(head.data(), head.size());
  patchRecordBatch(head.data(), batch.baseOffset, epoch);
  reply.append(BytesView(head.data(), head.size()));
  if (stored.size() <= kCopiedBatchBytes) {
    reply.append(stored.substr(head.size()));
  } else {
    reply.append(batch.batch.slice(head.size()));
  }
}

}  // namespace polylog::kafka
