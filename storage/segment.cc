#include "storage/segment.h"

#include <fmt/format.h>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/crc32c.h"

namespace polylog::storage {
namespace {

constexpr uint32_t kSegmentMagic = 0x504C5347;  // "PLSG"
constexpr std::string_view kSuffix = ".segment";

}  // namespace

std::string segmentFileName(uint64_t id) { return fmt::format("{:020}{}", id, kSuffix); }

std::string rewrittenFileName(uint64_t id, uint32_t incarnation) {
  return fmt::format("{:020}-{:08x}{}", id, incarnation, kSuffix);
}

bool isSegmentFileName(const std::string& name) {
  if (!name.ends_with(kSuffix) || name.find_first_not_of("0123456789") != 20) return false;
  size_t more = name.size() - kSuffix.size() - 20;
  return more == 0 || (more == 9 && name[20] == '-' &&
                       name.find_first_not_of("0123456789abcdef", 21) == 29);
}

std::string encodeSegmentHeader(const SegmentInfo& info) {
  ByteWriter out;
  out.u32(kSegmentMagic);
  out.u16(kFormatVersion);
  out.u16(0);
  out.u64(info.id);
  out.u32(info.incarnation);
  out.u32(0);
  out.u64(info.base.value());
  out.u64(info.firstSequence);
  out.i64(info.createdMs);
  while (out.size() < kSegmentHeaderSize - 4) out.u8(0);
  out.u32(crc32c(out.view()));
  return out.take();
}

Result<> checkSegmentHeader(BytesView header, const SegmentInfo& info) {
  if (header != encodeSegmentHeader(info)) {
    return fail(ErrorKind::kCorrupt, "header of " + info.file + " is not what the manifest says");
  }
  return {};
}

}  // namespace polylog::storage
