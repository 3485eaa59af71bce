#include "storage/segment_footer.h"

#include <algorithm>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/crc32c.h"

namespace polylog::storage {
namespace {

constexpr uint32_t kRunMagic = 0x504C5255;      // "PLRU"
constexpr uint32_t kSharesMagic = 0x504C5253;   // "PLRS": some of its entries tell their share
constexpr uint32_t kTrailerMagic = 0x504C4654;  // "PLFT"
constexpr size_t kDirectoryEntrySize = 16;
constexpr size_t kTrailerSize = 80;
constexpr size_t kWriteAtOnce = 1U << 20;

Error corrupt(const SegmentInfo& info, const char* what) {
  return {ErrorKind::kCorrupt, "footer of " + info.file + ": " + what};
}

void putRun(ByteWriter& out, const FooterRun& run) {
  size_t from = out.size();
  out.u32(0);
  out.u32(run.run->shares() ? kSharesMagic : kRunMagic);
  out.u64(run.partition.value());
  out.i64(run.first.value());
  out.i64(run.end.value());
  out.u64(run.bytes);
  out.i64(run.maxTimestamp);
  out.u64(run.minLink);
  out.u32(run.run->entries());
  out.u32(static_cast<uint32_t>(run.run->bytes().size()));
  out.bytes(run.run->bytes());
  out.patchU32(from, crc32c(out.view().substr(from + 4)));
}

Result<FooterRun> takeRun(BytesView record, const SegmentInfo& info) {
  ByteReader in(record);
  uint32_t crc = in.u32();
  if (!in.ok() || crc != crc32c(record.substr(4))) {
    return std::unexpected(corrupt(info, "a run's checksum does not hold"));
  }
  FooterRun run;
  uint32_t magic = in.u32();
  run.partition = PartitionId(in.u64());
  run.first = Offset(in.i64());
  run.end = Offset(in.i64());
  run.bytes = in.u64();
  run.maxTimestamp = in.i64();
  run.minLink = in.u64();
  uint32_t entries = in.u32();
  BytesView bytes = in.bytes32();
  if (!in.complete() || (magic != kRunMagic && magic != kSharesMagic)) {
    return std::unexpected(corrupt(info, "a run is malformed"));
  }
  auto parsed = IndexRun::parse(run.first, info.base, entries, std::string(bytes));
  if (!parsed) return std::unexpected(parsed.error());
  if (parsed->end() != run.end) return std::unexpected(corrupt(info, "a run ends elsewhere"));
  if (info.rewritten) parsed->setSparse();
  run.run = std::make_shared<const IndexRun>(std::move(*parsed));
  return run;
}

Result<std::string> readExactly(const File& file, const SegmentInfo& info, uint64_t at,
                                uint64_t length) {
  // Lengths come from a record that has been verified or from memory, but the file may be shorter.
  auto size = file.size();
  if (!size) return std::unexpected(size.error());
  if (at > *size || length > *size - at) return std::unexpected(corrupt(info, "cut short"));
  std::string bytes(length, '\0');
  auto got = file.read(at, bytes.data(), bytes.size());
  if (!got) return std::unexpected(got.error());
  if (*got != length) return std::unexpected(corrupt(info, "cut short"));
  return bytes;
}

}  // namespace

Result<> writeFooter(File& file, const SegmentInfo& info, uint64_t begin,
                     std::vector<FooterRun>& runs, std::span<const PlacedBatch> map) {
  uint64_t at = 0;  // from `begin`, of what is in `out`
  ByteWriter out;
  auto flush = [&]() -> Result<> {
    BytesView piece = out.view();
    auto done = file.write(begin + at, {&piece, 1});
    at += out.size();
    out.clear();
    return done;
  };
  for (FooterRun& run : runs) {
    run.at = static_cast<uint32_t>(at + out.size());
    putRun(out, run);
    run.length = static_cast<uint32_t>(at + out.size() - run.at);
    if (out.size() < kWriteAtOnce) continue;
    if (auto done = flush(); !done) return done;
  }
  uint64_t mapAt = map.empty() ? 0 : at + out.size();
  if (!map.empty()) out.bytes(encodePlaceMap(map));
  if (auto done = flush(); !done) return done;
  uint64_t directoryAt = at;
  for (const FooterRun& run : runs) {
    out.u64(run.partition.value());
    out.u32(run.at);
    out.u32(run.length);
  }
  uint32_t directoryCrc = crc32c(out.view());
  ByteWriter trailer;
  trailer.u32(kTrailerMagic);
  trailer.u16(kFormatVersion);
  trailer.u16(0);
  trailer.u64(info.id);
  trailer.u32(info.incarnation);
  trailer.u32(directoryCrc);
  trailer.u64(info.base.value());
  trailer.u64(info.end.value());
  trailer.u64(runs.size());
  trailer.u64(directoryAt);
  trailer.u64(mapAt);
  trailer.u64(map.size());
  trailer.u32(0);
  trailer.u32(crc32c(trailer.view()));
  out.bytes(trailer.view());
  uint64_t end = begin + at + out.size();
  if (auto done = flush(); !done) return done;
  return file.truncate(end);
}

Result<FooterLayout> readFooterLayout(const File& file, const SegmentInfo& info) {
  auto size = file.size();
  if (!size) return std::unexpected(size.error());
  if (*size < kSegmentHeaderSize + kTrailerSize) return std::unexpected(corrupt(info, "missing"));
  auto trailer = readExactly(file, info, *size - kTrailerSize, kTrailerSize);
  if (!trailer) return std::unexpected(trailer.error());
  ByteReader in(*trailer);
  bool known = in.u32() == kTrailerMagic && in.u16() == kFormatVersion && in.u16() == 0 &&
               in.u64() == info.id && in.u32() == info.incarnation;
  FooterLayout layout;
  layout.directoryCrc = in.u32();
  known = known && in.u64() == info.base.value() && in.u64() == info.end.value();
  layout.runs = in.u64();
  uint64_t directoryFrom = in.u64();
  uint64_t mapFrom = in.u64();
  layout.mapEntries = in.u64();
  in.skip(4);
  if (!known || in.u32() != crc32c(BytesView(*trailer).substr(0, kTrailerSize - 4))) {
    return std::unexpected(corrupt(info, "its trailer does not hold"));
  }
  // The directory ends where the trailer begins, which says where the footer begins.
  uint64_t room = *size - kTrailerSize - kSegmentHeaderSize;
  bool fits = layout.runs <= room / kDirectoryEntrySize;
  if (fits) room -= layout.runs * kDirectoryEntrySize;
  if (!fits || directoryFrom > room || mapFrom > directoryFrom ||
      layout.mapEntries > directoryFrom / 16) {
    return std::unexpected(corrupt(info, "its directory is out of bounds"));
  }
  layout.directoryAt = *size - kTrailerSize - layout.runs * kDirectoryEntrySize;
  layout.begin = layout.directoryAt - directoryFrom;
  layout.mapAt = layout.begin + mapFrom;
  if (!info.rewritten && layout.begin != info.place(info.end)) {
    return std::unexpected(corrupt(info, "it begins elsewhere"));
  }
  return layout;
}

namespace {

/// The directory's octets, verified.
Result<std::string> readDirectory(const File& file, const SegmentInfo& info,
                                  const FooterLayout& layout) {
  auto directory = readExactly(file, info, layout.directoryAt, layout.runs * kDirectoryEntrySize);
  if (directory && crc32c(*directory) != layout.directoryCrc) {
    return std::unexpected(corrupt(info, "its directory's checksum does not hold"));
  }
  return directory;
}

}  // namespace

Result<FooterRun> readFooterRun(const File& file, const SegmentInfo& info, uint64_t begin,
                                PartitionId partition, uint32_t at, uint32_t length) {
  auto record = readExactly(file, info, begin + at, length);
  if (!record) return std::unexpected(record.error());
  auto run = takeRun(*record, info);
  if (!run) return run;
  if (run->partition != partition) return std::unexpected(corrupt(info, "another partition's run"));
  run->at = at;
  run->length = length;
  return run;
}

Result<std::optional<FooterRun>> findFooterRun(const File& file, const SegmentInfo& info,
                                               const FooterLayout& layout, PartitionId partition) {
  auto directory = readDirectory(file, info, layout);
  if (!directory) return std::unexpected(directory.error());
  size_t low = 0;
  size_t high = layout.runs;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    ByteReader entry(BytesView(*directory).substr(middle * kDirectoryEntrySize));
    PartitionId there(entry.u64());
    if (there == partition) {
      uint32_t at = entry.u32();
      uint32_t length = entry.u32();
      return readFooterRun(file, info, layout.begin, partition, at, length);
    }
    (there < partition ? low : high) = there < partition ? middle + 1 : middle;
  }
  return std::nullopt;
}

Result<std::vector<FooterRun>> readFooter(const File& file, const SegmentInfo& info) {
  auto layout = readFooterLayout(file, info);
  if (!layout) return std::unexpected(layout.error());
  auto directory = readDirectory(file, info, *layout);
  if (!directory) return std::unexpected(directory.error());
  auto records = readExactly(file, info, layout->begin, layout->directoryAt - layout->begin);
  if (!records) return std::unexpected(records.error());
  std::vector<FooterRun> runs;
  ByteReader entries(*directory);
  for (uint64_t i = 0; i < layout->runs; ++i) {
    PartitionId partition(entries.u64());
    uint32_t at = entries.u32();
    uint32_t length = entries.u32();
    if (at > records->size() || length > records->size() - at) {
      return std::unexpected(corrupt(info, "a run is out of bounds"));
    }
    auto run = takeRun(BytesView(*records).substr(at, length), info);
    if (!run) return std::unexpected(run.error());
    if (run->partition != partition) return std::unexpected(corrupt(info, "a run is elsewhere"));
    run->at = at;
    run->length = length;
    runs.push_back(std::move(*run));
  }
  return runs;
}

}  // namespace polylog::storage
