#include "storage/manifest.h"

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/crc32c.h"

namespace polylog::storage {
namespace {

constexpr uint32_t kManifestMagic = 0x504C4D46;  // "PLMF"
constexpr size_t kSmallestSegment = 47;          // octets of one with an empty name
constexpr uint8_t kRewritten = 3;                // a status: sealed, and rewritten
constexpr uint64_t kLargestManifest = 64U << 20;

Error corrupt(const char* what) {
  return {ErrorKind::kCorrupt, std::string("journal/MANIFEST: ") + what};
}

}  // namespace

std::string encodeManifest(const std::vector<SegmentInfo>& segments) {
  ByteWriter out;
  out.u32(kManifestMagic);
  out.u16(kFormatVersion);
  out.u32(static_cast<uint32_t>(segments.size()));
  for (const SegmentInfo& segment : segments) {
    out.u64(segment.id);
    out.u32(segment.incarnation);
    out.u64(segment.base.value());
    out.u64(segment.firstSequence);
    out.i64(segment.createdMs);
    out.u8(segment.rewritten ? kRewritten : static_cast<uint8_t>(segment.status));
    out.u64(segment.status == SegmentStatus::kActive ? 0 : segment.end.value());
    out.bytes16(segment.file);
  }
  out.u32(crc32c(out.view()));
  return out.take();
}

Result<std::vector<SegmentInfo>> decodeManifest(BytesView bytes) {
  if (bytes.size() < 14) return std::unexpected(corrupt("too short"));
  BytesView body = bytes.substr(0, bytes.size() - 4);
  if (ByteReader(bytes.substr(body.size())).u32() != crc32c(body)) {
    return std::unexpected(corrupt("checksum does not hold"));
  }
  ByteReader in(body);
  if (in.u32() != kManifestMagic) return std::unexpected(corrupt("not a manifest"));
  if (in.u16() != kFormatVersion) {
    return fail(ErrorKind::kUnsupported, "journal/MANIFEST: written by another format version");
  }
  std::vector<SegmentInfo> segments(in.count(in.u32(), kSmallestSegment));
  for (size_t i = 0; i < segments.size(); ++i) {
    SegmentInfo& segment = segments[i];
    segment.id = in.u64();
    segment.incarnation = in.u32();
    segment.base = Position(in.u64());
    segment.firstSequence = in.u64();
    segment.createdMs = in.i64();
    uint8_t status = in.u8();
    segment.rewritten = status == kRewritten;
    segment.status =
        segment.rewritten ? SegmentStatus::kSealed : static_cast<SegmentStatus>(status);
    segment.end = Position(in.u64());
    segment.file = std::string(in.bytes16());
    bool last = i + 1 == segments.size();
    bool known = segment.status == SegmentStatus::kActive ||
                 segment.status == SegmentStatus::kClosed ||
                 segment.status == SegmentStatus::kSealed;
    if (!known || (segment.status == SegmentStatus::kActive) != last) {
      return std::unexpected(corrupt("a segment's status makes no sense"));
    }
    if (i > 0 && (segment.id <= segments[i - 1].id || segment.base < segments[i - 1].end)) {
      return std::unexpected(corrupt("segments out of order"));
    }
    if (!isSegmentFileName(segment.file)) return std::unexpected(corrupt("bad file name"));
  }
  if (!in.complete() || segments.empty()) return std::unexpected(corrupt("malformed"));
  return segments;
}

const Result<std::vector<SegmentInfo>>& ManifestCopies::best() const {
  if (first || first.error().kind != ErrorKind::kCorrupt) return first;
  return second ? second : first;
}

Result<std::vector<SegmentInfo>> readManifest(Directory& directory) {
  auto copies = readManifestCopies(directory);
  if (!copies) return std::unexpected(copies.error());
  return copies->best();
}

Result<ManifestCopies> readManifestCopies(Directory& directory) {
  if (!directory.exists(kManifestName)) {
    return fail(ErrorKind::kNotFound, "journal/MANIFEST is not there");
  }
  auto file = directory.open(kManifestName, OpenMode::kRead);
  if (!file) return std::unexpected(file.error());
  auto size = (*file)->size();
  if (!size) return std::unexpected(size.error());
  if (*size > kLargestManifest) return std::unexpected(corrupt("too large"));
  std::string bytes(*size, '\0');
  auto got = (*file)->read(0, bytes.data(), bytes.size());
  if (!got) return std::unexpected(got.error());
  bytes.resize(*got);
  // Rot in one of them hides nothing.
  BytesView both = bytes;
  size_t middle = both.size() / 2;
  return ManifestCopies{decodeManifest(both.substr(0, middle)), decodeManifest(both.substr(middle)),
                        both.size()};
}

std::expected<void, DiskFailure> writeManifest(Directory& directory,
                                               const std::vector<SegmentInfo>& segments) {
  auto harmless = [](Error error) { return std::unexpected(DiskFailure{std::move(error), false}); };
  auto fatal = [](Error error) { return std::unexpected(DiskFailure{std::move(error), true}); };
  auto file = directory.open(kManifestTemporary, OpenMode::kReplace);
  if (!file) return harmless(std::move(file.error()));
  std::string bytes = encodeManifest(segments);
  BytesView copies[] = {bytes, bytes};
  if (auto done = (*file)->write(0, copies); !done) return harmless(std::move(done.error()));
  if (auto done = (*file)->sync(); !done) return fatal(std::move(done.error()));
  if (auto done = directory.rename(kManifestTemporary, kManifestName); !done) {
    return fatal(std::move(done.error()));
  }
  if (auto done = directory.sync(); !done) return fatal(std::move(done.error()));
  return {};
}

}  // namespace polylog::storage
