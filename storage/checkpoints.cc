#include "storage/checkpoints.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace polylog::storage {
namespace {

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kTemporary = ".tmp";
constexpr size_t kDigits = 20;
constexpr const char* kRestoring = "view.tmp";
constexpr const char* kRemoving = "removed.tmp";

template <class Number>
bool parse(std::string_view digits, Number& number) {
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
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

Result<> copyFile(Directory& from, Directory& into, const std::string& name) {
  auto source = from.open(name, OpenMode::kRead);
  if (!source) return std::unexpected(source.error());
  auto target = into.open(name, OpenMode::kCreate);
  if (!target) return std::unexpected(target.error());
  std::string buffer(size_t{64} << 10, '\0');
  for (uint64_t at = 0;;) {
    auto read = (*source)->read(at, buffer.data(), buffer.size());
    if (!read) return std::unexpected(read.error());
    if (*read == 0) break;
    BytesView piece(buffer.data(), *read);
    if (auto done = (*target)->write(at, std::span(&piece, 1)); !done) return done;
    at += *read;
  }
  return (*target)->sync();
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
  if (auto done = (*filled)->sync(); !done) return done;
  if (auto done = directory_->rename(kFilling, nameOf(id)); !done) return done;
  if (auto done = directory_->sync(); !done) return done;
  kept_.push_back(id);
  return {};
}

Result<> Checkpoints::keepNewest(size_t count) {
  while (kept_.size() > count) {
    if (auto done = drop(kept_.front()); !done) return done;
  }
  return {};
}

Result<> Checkpoints::drop(CheckpointId id) {
  if (auto done = removeWhole(nameOf(id)); !done) return done;
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

Result<> Checkpoints::restoreView(CheckpointId id) {
  if (auto done = directory_->remove(kRestoring); !done) return done;
  auto source = directory_->subdirectory(nameOf(id));
  if (!source) return std::unexpected(source.error());
  auto target = directory_->subdirectory(kRestoring);
  if (!target) return std::unexpected(target.error());
  auto names = (*source)->list();
  if (!names) return std::unexpected(names.error());
  for (const std::string& name : *names) {
    if ((*source)->isDirectory(name)) continue;
    // Tables never change once written; everything else RocksDB may append to.
    auto done = name.ends_with(".sst") ? (*source)->link(name, **target, name)
                                       : copyFile(**source, **target, name);
    if (!done) return done;
  }
  if (auto done = (*target)->sync(); !done) return done;
  if (auto done = directory_->rename(kRestoring, kView); !done) return done;
  return directory_->sync();
}

}  // namespace polylog::storage
