// Record batches from hostile producers: whatever is accepted must come back the same from our own
// encoder.
#include <algorithm>
#include <cstdint>

#include "core/model/record_batch.h"
#include "tests/fuzz/check.h"

namespace {

using polylog::test::check;

constexpr size_t kMaxBody = 1 << 20;

void requireSame(const polylog::Record& a, const polylog::Record& b) {
  check(a.key == b.key && a.value == b.value && a.timestampMs == b.timestampMs);
  check(a.guarantee == b.guarantee && a.retain == b.retain);
  check(a.headers.size() == b.headers.size());
  for (size_t i = 0; i < a.headers.size(); ++i) {
    check(a.headers[i].name == b.headers[i].name && a.headers[i].value == b.headers[i].value);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace polylog;
  auto batch = SharedBytes::copyOf(BytesView(reinterpret_cast<const char*>(data), size));
  Result<RecordBatchHeader> checked = validateRecordBatch(batch.view());
  Result<DecodedBatch> decoded = decodeRecordBatch(batch, kMaxBody);
  // What passes the check at the door can be read, whoever reads it.
  if (Result<RecordsSummary> records = checkRecords(batch.view(), kMaxBody); records && checked) {
    check(decoded.has_value());
    int64_t latest = -1;
    for (const Record& record : decoded->records) latest = std::max(latest, record.timestampMs);
    check(checked->logAppendTime() || latest == records->maxTimestamp);
  }
  // Without a right CRC too: the decoder must not rely on it.
  if (!decoded) return 0;
  check(checked || checked.error().kind == ErrorKind::kCorrupt);
  check(decoded->records.size() == static_cast<size_t>(decoded->header.recordCount));

  RecordBatchBuilder builder;
  for (const Record& record : decoded->records) builder.add(record);
  if (builder.count() == 0) return 0;
  auto rebuilt = SharedBytes::own(builder.finish());
  check(validateRecordBatch(rebuilt.view()).has_value());
  Result<DecodedBatch> again = decodeRecordBatch(rebuilt, rebuilt.size());
  check(again.has_value() && again->records.size() == decoded->records.size());
  for (size_t i = 0; i < again->records.size(); ++i) {
    requireSame(again->records[i], decoded->records[i]);
  }
  return 0;
}
