#include "storage/checkpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>
#include <utility>

#include "core/base/crc32c.h"

namespace polylog::storage {
namespace {

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kTemporary = ".tmp";
constexpr size_t kDigits = 20;
constexpr const char* kRestoring = "view.tmp";
constexpr const char* kRemoving = "removed.tmp";
constexpr const char* kSums = "SUMS";

template <class Number>
bool parse(std::string_view digits, Number& number, int base = 10) {
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  return error == std::errc{} && end == digits.data() + digits.size();
}

std::optional<CheckpointId> idOf(std::string_view name) {
  if (!name.starts_with(kPrefix) || name.size() < kPrefix.size() + kDigits) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  uint64_t position = 0;
  CheckpointId id;
  if (!parse(name.substr(0, kDigits), position)) return std::nullopt;
  id.position = Position(position);
  name.remove_prefix(kDigits);
  if (name.empty()) return id;
  if (name.front() != '-' || !parse(name.substr(1), id.generation)) return std::nullopt;
  return id;
}

/// Visits the whole file, piece by piece.
Result<> readWhole(const File& file, const std::function<Result<>(BytesView piece)>& visit) {
  std::string buffer(size_t{64} << 10, '\0');
  for (uint64_t at = 0;;) {
    auto read = file.read(at, buffer.data(), buffer.size());
    if (!read) return std::unexpected(read.error());
    if (*read == 0) return {};
    if (auto done = visit(BytesView(buffer.data(), *read)); !done) return done;
    at += *read;
  }
}

bool isTable(std::string_view name) {
  return name.ends_with(".sst");
}
std::string copyOf(const std::string& name) {
  return name + ".copy";
}

}  // namespace

std::string Checkpoints::nameOf(CheckpointId id) {
  std::string digits = std::to_string(id.position.value());
  std::string name(kPrefix);
  name.append(kDigits - digits.size(), '0').append(digits);
  if (id.generation > 0) name.append("-").append(std::to_string(id.generation));
  return name;
}

Result<> Checkpoints::load() {
  if (auto done = removeLeftovers(); !done) return done;
  auto names = directory_->list();
  if (!names) return std::unexpected(names.error());
  kept_.clear();
  for (const std::string& name : *names) {
    auto id = idOf(name);
    if (id && nameOf(*id) == name && directory_->isDirectory(name)) kept_.push_back(*id);
  }
  std::ranges::sort(kept_);
  return {};
}

Result<> Checkpoints::removeLeftovers() {
  auto names = directory_->list();
  if (!names) return std::unexpected(names.error());
  for (const std::string& name : *names) {
    if (!name.ends_with(kTemporary)) continue;
    if (auto done = directory_->remove(name); !done) return done;
  }
  return {};
}

Result<> Checkpoints::adopt(Position position) {
  CheckpointId id{position, 0};
  if (!kept_.empty() && kept_.back().position == position) {
    id.generation = kept_.back().generation + 1;
  }
  auto filled = directory_->subdirectory(kFilling);
  if (!filled) return std::unexpected(filled.error());
  if (auto done = seal(**filled); !done) return done;
  if (auto done = directory_->rename(kFilling, nameOf(id)); !done) return done;
  if (auto done = directory_->sync(); !done) return done;
  kept_.push_back(id);
  return {};
}

/// Doubles every file and writes SUMS.
Result<> Checkpoints::seal(Directory& filled) {
  std::shared_ptr<Directory> newest;
  if (!kept_.empty() && !sealed_.empty()) {
    auto opened = directory_->subdirectory(nameOf(kept_.back()));
    if (!opened) return std::unexpected(opened.error());
    newest = std::move(*opened);
  }
  auto names = filled.list();
  if (!names) return std::unexpected(names.error());
  Sums sums;
  for (const std::string& name : *names) {
    auto known = sealed_.find(name);
    if (newest && isTable(name) && known != sealed_.end() &&
        newest->link(copyOf(name), filled, copyOf(name))) {
      sums[name] = known->second;
      continue;
    }
    auto sum = copyFile(filled, name, filled, copyOf(name));
    if (!sum) return std::unexpected(sum.error());
    sums[name] = *sum;
  }
  for (const std::string& name : {std::string(kSums), copyOf(kSums)}) {
    if (auto done = writeSums(filled, name, sums); !done) return done;
  }
  sealed_ = std::move(sums);
  return filled.sync();
}

Result<> Checkpoints::keepNewest(size_t count) {
  while (kept_.size() > count) {
    if (auto done = drop(kept_.front()); !done) return done;
  }
  return {};
}

Result<> Checkpoints::drop(CheckpointId id) {
  if (auto done = removeWhole(nameOf(id)); !done) return done;
  if (kept_.back() == id) sealed_.clear();
  std::erase(kept_, id);
  return {};
}

Result<> Checkpoints::dropView() {
  return removeWhole(kView);
}

/// A power failure half-way through a removal must not leave half a directory that has its name.
Result<> Checkpoints::removeWhole(const std::string& name) {
  if (!directory_->exists(name)) return {};
  if (auto done = directory_->remove(kRemoving); !done) return done;
  if (auto done = directory_->rename(name, kRemoving); !done) return done;
  if (auto done = directory_->sync(); !done) return done;
  return directory_->remove(kRemoving);
}

Result<std::vector<std::string>> Checkpoints::restoreView(CheckpointId id) {
  if (auto done = directory_->remove(kRestoring); !done) return std::unexpected(done.error());
  auto source = directory_->subdirectory(nameOf(id));
  if (!source) return std::unexpected(source.error());
  auto sums = readSums(**source, kSums);
  if (!sums) sums = readSums(**source, copyOf(kSums));
  if (!sums) return std::unexpected(sums.error());
  auto target = directory_->subdirectory(kRestoring);
  if (!target) return std::unexpected(target.error());
  std::vector<std::string> mended;
  for (const auto& [name, sum] : *sums) {
    // What can't be read is as good as damaged.
    auto holds = [&](const std::string& file) {
      auto found = sumOf(**source, file);
      return found && *found == sum;
    };
    bool whole = holds(name);
    if (!whole && !holds(copyOf(name))) {
      return fail(ErrorKind::kCorrupt, name + " is damaged");
    }
    if (!whole) mended.push_back(name);
    // Tables never change once written and may be shared; everything else RocksDB may append to. A
    // second copy is copied: from here on there are two again.
    Result<> done;
    if (whole && isTable(name)) {
      done = (*source)->link(name, **target, name);
    } else {
      auto copied = copyFile(**source, whole ? name : copyOf(name), **target, name);
      if (!copied) done = std::unexpected(copied.error());
    }
    if (!done) return std::unexpected(done.error());
  }
  if (auto done = (*target)->sync(); !done) return std::unexpected(done.error());
  if (auto done = directory_->rename(kRestoring, kView); !done)
    return std::unexpected(done.error());
  if (auto done = directory_->sync(); !done) return std::unexpected(done.error());
  sealed_ = std::move(*sums);
  return mended;
}

/// Lines of CRC-32C, size and name, and one with the CRC-32C of them all.
Result<> Checkpoints::writeSums(Directory& into, const std::string& name, const Sums& sums) {
  std::string text;
  for (const auto& [file, sum] : sums) {
    text += fmt::format("{:08x} {} {}\n", sum.crc, sum.size, file);
  }
  text += fmt::format("{:08x}\n", crc32c(text));
  auto file = into.open(name, OpenMode::kReplace);
  if (!file) return std::unexpected(file.error());
  BytesView whole = text;
  if (auto done = (*file)->write(0, std::span(&whole, 1)); !done) return done;
  return (*file)->sync();
}

Result<Checkpoints::Sums> Checkpoints::readSums(Directory& from, const std::string& name) {
  auto damaged = [&] { return fail(ErrorKind::kCorrupt, name + " is damaged"); };
  if (!from.exists(name)) return fail(ErrorKind::kCorrupt, name + " is missing");
  auto file = from.open(name, OpenMode::kRead);
  if (!file) return std::unexpected(file.error());
  std::string text;
  auto done = readWhole(**file, [&](BytesView piece) -> Result<> {
    text += piece;
    return {};
  });
  if (!done) return std::unexpected(done.error());
  constexpr size_t kLastLine = 9;
  if (text.size() < kLastLine) return damaged();
  std::string lines = text.substr(0, text.size() - kLastLine);
  if (text.substr(lines.size()) != fmt::format("{:08x}\n", crc32c(lines))) return damaged();
  Sums sums;
  std::istringstream reader(lines);
  std::string crc;
  Sum sum;
  for (std::string entry; reader >> crc >> sum.size >> entry;) {
    if (!parse(crc, sum.crc, 16)) return damaged();
    sums[entry] = sum;
  }
  return sums;
}

Result<Checkpoints::Sum> Checkpoints::sumOf(Directory& from, const std::string& name) {
  auto file = from.open(name, OpenMode::kRead);
  if (!file) return std::unexpected(file.error());
  Sum sum;
  auto done = readWhole(**file, [&](BytesView piece) -> Result<> {
    sum.crc = crc32c(piece, sum.crc);
    sum.size += piece.size();
    return {};
  });
  if (!done) return std::unexpected(done.error());
  return sum;
}

Result<Checkpoints::Sum> Checkpoints::copyFile(Directory& from, const std::string& name,
                                               Directory& into, const std::string& newName) {
  auto source = from.open(name, OpenMode::kRead);
  if (!source) return std::unexpected(source.error());
  auto target = into.open(newName, OpenMode::kReplace);
  if (!target) return std::unexpected(target.error());
  Sum sum;
  auto done = readWhole(**source, [&](BytesView piece) -> Result<> {
    auto written = (*target)->write(sum.size, std::span(&piece, 1));
    if (!written) return written;
    sum.crc = crc32c(piece, sum.crc);
    sum.size += piece.size();
    return {};
  });
  if (done) done = (*target)->sync();
  if (!done) return std::unexpected(done.error());
  return sum;
}

}  // namespace polylog::storage
