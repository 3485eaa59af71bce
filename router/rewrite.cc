#include "router/rewrite.h"

#include "core/base/crc32c.h"
#include "core/model/record_batch.h"

namespace polylog::router {
namespace {

// Kafka documentation, "Record Batch": where the header's fields stand.
constexpr size_t kCrcAt = 17;
constexpr size_t kAttributesAt = 21;
constexpr size_t kMaxTimestampAt = 35;
constexpr unsigned char kLogAppendTime = 8;

template <class T>
void put(std::string& to, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    to[at + i] = static_cast<char>(static_cast<uint64_t>(value) >> (8 * (sizeof(T) - 1 - i)));
  }
}

}  // namespace

void stampBatch(std::string& batch, int64_t nowMs) {
  if (batch.size() < kRecordBatchHeaderSize) return;
  char& attributes = batch[kAttributesAt + 1];
  attributes = static_cast<char>(static_cast<unsigned char>(attributes) | kLogAppendTime);
  put(batch, kMaxTimestampAt, nowMs);
  put(batch, kCrcAt, crc32c(BytesView(batch).substr(kRecordBatchUncheckedSize)));
}

}  // namespace polylog::router
