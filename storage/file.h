// The seam between storage and the disk. Everything that storage (RocksDB included, through
// StateView's Env) does to files goes through these two, so that tests can lose, tear, fail or slow
// any of it. Posix implementation: openDirectory(). Thread-safe as POSIX is: concurrent reads of a
// file are fine, writes are the caller's to order.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"

namespace polylog::storage {

class File {
 public:
  virtual ~File() = default;
  /// Writes `pieces` one after the other from octet `offset` on. kIo or kNoSpace; then any prefix
  /// may have been written.
  virtual Result<> write(uint64_t offset, std::span<const BytesView> pieces) = 0;
  /// Reads up to `length` octets; fewer only at the end of the file.
  virtual Result<size_t> read(uint64_t offset, char* into, size_t length) const = 0;
  /// fdatasync: what was written survives a power failure once this returns ok. After a failure
  /// nothing is known about what was written since the last success: the caller must stop.
  virtual Result<> sync() = 0;
  virtual Result<> truncate(uint64_t size) = 0;
  virtual Result<uint64_t> size() const = 0;
};

enum class OpenMode : uint8_t {
  kRead,       ///< must exist
  kReadWrite,  ///< must exist
  kCreate,     ///< read-write; must not exist
  kReplace,    ///< read-write; emptied if it exists
};

/// One directory and what is in it. Names are single components.
class Directory {
 public:
  virtual ~Directory() = default;
  virtual const std::string& path() const = 0;
  /// The directory `name` inside, created if missing.
  virtual Result<std::shared_ptr<Directory>> subdirectory(const std::string& name) = 0;
  virtual Result<std::shared_ptr<File>> open(const std::string& name, OpenMode mode) = 0;
  virtual bool exists(const std::string& name) const = 0;
  /// Files and directories inside, in no order.
  virtual Result<std::vector<std::string>> list() const = 0;
  virtual bool isDirectory(const std::string& name) const = 0;
  /// Atomic; replaces `to`. Survives a power failure after sync().
  virtual Result<> rename(const std::string& from, const std::string& to) = 0;
  /// Files, or directories with all that is in them. Fine if there is none.
  virtual Result<> remove(const std::string& name) = 0;
  /// Hard link `name` as `newName` in `into` (same implementation), or a copy.
  virtual Result<> link(const std::string& name, Directory& into, const std::string& newName) = 0;
  /// fsync of the directory: creations, renames and removals before it survive.
  virtual Result<> sync() = 0;
  /// Takes an exclusive lock on the file `name` (made if missing) until the result is destroyed.
  /// kBusy when another process or object holds it.
  virtual Result<std::shared_ptr<void>> lock(const std::string& name) = 0;
  /// Octets free for us on this file system.
  virtual Result<uint64_t> freeBytes() const = 0;
};

/// The real thing: `path` and its parents are created if missing.
Result<std::shared_ptr<Directory>> openDirectory(const std::string& path);

}  // namespace polylog::storage
