#include "storage/rocksdb_env.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "core/base/log.h"

namespace polylog::storage {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus statusOf(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kNotFound: return IOStatus::PathNotFound(error.text);
    case ErrorKind::kNoSpace: return IOStatus::NoSpace(error.text);
    case ErrorKind::kBusy: return IOStatus::Busy(error.text);
    case ErrorKind::kInvalid: return IOStatus::InvalidArgument(error.text);
    default: return IOStatus::IOError(error.text);
  }
}

template <class T>
IOStatus statusOf(const Result<T>& result) {
  return result ? IOStatus::OK() : statusOf(result.error());
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(std::shared_ptr<File> file) : file_(std::move(file)) {}

  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) override {
    auto read = file_->read(at_, scratch, n);
    *result = Slice(scratch, read ? *read : 0);
    at_ += result->size();
    return statusOf(read);
  }
  IOStatus Skip(uint64_t n) override {
    at_ += n;
    return IOStatus::OK();
  }

 private:
  std::shared_ptr<File> file_;
  uint64_t at_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(std::shared_ptr<File> file) : file_(std::move(file)) {}

  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    auto read = file_->read(offset, scratch, n);
    *result = Slice(scratch, read ? *read : 0);
    return statusOf(read);
  }

 private:
  std::shared_ptr<File> file_;
};

/// RocksDB collects writes itself, so each append goes straight to the file.
class WritableFile final : public rocksdb::FSWritableFile {
 public:
  WritableFile(std::shared_ptr<File> file, uint64_t size, const FileOptions& options)
      : FSWritableFile(options), file_(std::move(file)), size_(size) {}

  using FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    BytesView piece(data.data(), data.size());
    auto written = file_->write(size_, std::span(&piece, 1));
    if (written) size_ += piece.size();
    return statusOf(written);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    auto truncated = file_->truncate(size);
    if (truncated) size_ = size;
    return statusOf(truncated);
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return statusOf(file_->sync()); }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return size_; }

 private:
  std::shared_ptr<File> file_;
  uint64_t size_;
};

class SyncedDirectory final : public rocksdb::FSDirectory {
 public:
  explicit SyncedDirectory(std::shared_ptr<Directory> directory)
      : directory_(std::move(directory)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override {
    return statusOf(directory_->sync());
  }

 private:
  std::shared_ptr<Directory> directory_;
};

struct HeldLock final : rocksdb::FileLock {
  explicit HeldLock(std::shared_ptr<void> lock) : lock_(std::move(lock)) {}
  std::shared_ptr<void> lock_;
};

/// Errors are told, the rest is dropped before it is formatted.
class ErrorLogger final : public rocksdb::Logger {
 public:
  ErrorLogger() : Logger(rocksdb::InfoLogLevel::ERROR_LEVEL) {}
  using Logger::Logv;
  void Logv(const rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level >= rocksdb::InfoLogLevel::ERROR_LEVEL &&
        level < rocksdb::InfoLogLevel::HEADER_LEVEL) {
      Logv(format, arguments);
    }
  }
  void Logv(const char* format, va_list arguments) override {
    if (!logEnabled(LogLevel::kWarning)) return;
    std::array<char, 1024> line;
    int length = std::vsnprintf(line.data(), line.size(), format, arguments);
    if (length <= 0) return;
    size_t kept = std::min(static_cast<size_t>(length), line.size() - 1);
    while (kept > 0 && line[kept - 1] == '\n') --kept;
    logWarning("state view: " + std::string(line.data(), kept));
  }
};

class DirectoryFileSystem final : public rocksdb::FileSystem {
 public:
  explicit DirectoryFileSystem(std::shared_ptr<Directory> root) : root_(std::move(root)) {}

  const char* Name() const override { return "PolylogDirectory"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result,
                             IODebugContext*) override {
    auto file = open(path, OpenMode::kRead);
    if (file) *result = std::make_unique<SequentialFile>(std::move(*file));
    return statusOf(file);
  }

  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                               IODebugContext*) override {
    auto file = open(path, OpenMode::kRead);
    if (file) *result = std::make_unique<RandomAccessFile>(std::move(*file));
    return statusOf(file);
  }

  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* result,
                           IODebugContext*) override {
    auto place = resolve(path);
    if (!place) return statusOf(place);
    // Never emptied in place: the file may be linked into a checkpoint.
    if (place->directory->exists(place->name)) {
      if (auto removed = place->directory->remove(place->name); !removed) return statusOf(removed);
    }
    auto file = place->directory->open(place->name, OpenMode::kCreate);
    if (file) *result = std::make_unique<WritableFile>(std::move(*file), 0, options);
    return statusOf(file);
  }

  IOStatus ReopenWritableFile(const std::string& path, const FileOptions& options,
                              std::unique_ptr<rocksdb::FSWritableFile>* result,
                              IODebugContext* context) override {
    auto file = open(path, OpenMode::kReadWrite);
    if (!file && file.error().kind == ErrorKind::kNotFound) {
      return NewWritableFile(path, options, result, context);
    }
    if (!file) return statusOf(file);
    auto size = (*file)->size();
    if (size) *result = std::make_unique<WritableFile>(std::move(*file), *size, options);
    return statusOf(size);
  }

  IOStatus NewDirectory(const std::string& path, const IOOptions&,
                        std::unique_ptr<rocksdb::FSDirectory>* result, IODebugContext*) override {
    auto directory = openDirectoryAt(path);
    if (directory) *result = std::make_unique<SyncedDirectory>(std::move(*directory));
    return statusOf(directory);
  }

  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    auto place = resolve(path);
    if (!place) return IOStatus::NotFound(path);
    bool there = place->name.empty() || place->directory->exists(place->name);
    return there ? IOStatus::OK() : IOStatus::NotFound(path);
  }

  IOStatus GetChildren(const std::string& path, const IOOptions&, std::vector<std::string>* result,
                       IODebugContext*) override {
    auto directory = openDirectoryAt(path);
    if (!directory) return statusOf(directory);
    auto names = (*directory)->list();
    if (names) *result = std::move(*names);
    return statusOf(names);
  }

  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    auto place = resolve(path);
    if (!place) return statusOf(place);
    if (!place->directory->exists(place->name)) return IOStatus::PathNotFound(path);
    if (place->directory->isDirectory(place->name)) return IOStatus::IOError(path, "a directory");
    return statusOf(place->directory->remove(place->name));
  }

  IOStatus CreateDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    auto place = resolve(path);
    if (!place) return statusOf(place);
    if (place->name.empty() || place->directory->exists(place->name)) {
      return IOStatus::IOError(path, "exists");
    }
    return statusOf(place->directory->subdirectory(place->name));
  }

  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) override {
    auto place = resolve(path);
    if (!place || place->name.empty()) return statusOf(place);
    return statusOf(place->directory->subdirectory(place->name));
  }

  IOStatus DeleteDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    auto place = resolve(path);
    if (!place) return statusOf(place);
    auto directory = openDirectoryAt(path);
    if (!directory) return statusOf(directory);
    auto names = (*directory)->list();
    if (!names) return statusOf(names);
    if (place->name.empty() || !names->empty()) return IOStatus::IOError(path, "not empty");
    return statusOf(place->directory->remove(place->name));
  }

  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* result,
                       IODebugContext*) override {
    *result = 0;
    auto file = open(path, OpenMode::kRead);
    if (!file) return statusOf(file);
    auto size = (*file)->size();
    if (size) *result = *size;
    return statusOf(size);
  }

  IOStatus GetFileModificationTime(const std::string& path, const IOOptions&, uint64_t* result,
                                   IODebugContext*) override {
    *result = 0;
    return IOStatus::NotSupported("no modification times", path);
  }

  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&,
                      IODebugContext*) override {
    auto source = resolve(from);
    if (!source) return statusOf(source);
    auto target = resolve(to);
    if (!target) return statusOf(target);
    if (source->directory->path() != target->directory->path()) {
      return IOStatus::NotSupported("rename across directories", from);
    }
    return statusOf(source->directory->rename(source->name, target->name));
  }

  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions&,
                    IODebugContext*) override {
    auto source = resolve(from);
    if (!source) return statusOf(source);
    auto target = resolve(to);
    if (!target) return statusOf(target);
    return statusOf(source->directory->link(source->name, *target->directory, target->name));
  }

  IOStatus LockFile(const std::string& path, const IOOptions&, rocksdb::FileLock** result,
                    IODebugContext*) override {
    *result = nullptr;
    auto place = resolve(path);
    if (!place) return statusOf(place);
    auto lock = place->directory->lock(place->name);
    if (lock) *result = new HeldLock(std::move(*lock));
    return statusOf(lock);
  }

  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete static_cast<HeldLock*>(lock);
    return IOStatus::OK();
  }

  IOStatus GetTestDirectory(const IOOptions&, std::string*, IODebugContext*) override {
    return IOStatus::NotSupported("no test directory");
  }

  IOStatus NewLogger(const std::string&, const IOOptions&, std::shared_ptr<rocksdb::Logger>* result,
                     IODebugContext*) override {
    *result = std::make_shared<ErrorLogger>();
    return IOStatus::OK();
  }

  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* result,
                           IODebugContext*) override {
    *result = path;
    return IOStatus::OK();
  }

  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* result,
                       IODebugContext*) override {
    auto place = resolve(path);
    if (!place) return statusOf(place);
    if (!place->name.empty() && !place->directory->exists(place->name)) {
      return IOStatus::PathNotFound(path);
    }
    *result = place->name.empty() || place->directory->isDirectory(place->name);
    return IOStatus::OK();
  }

  IOStatus GetFreeSpace(const std::string&, const IOOptions&, uint64_t* result,
                        IODebugContext*) override {
    auto octets = root_->freeBytes();
    if (octets) *result = *octets;
    return statusOf(octets);
  }

 private:
  /// A file or directory inside `directory`; the root itself when the name is empty.
  struct Place {
    std::shared_ptr<Directory> directory;
    std::string name;
  };

  /// Walks down to the last component but one; what is on the way must exist.
  Result<Place> resolve(const std::string& path) const {
    Place place{root_, {}};
    size_t at = 0;
    while (true) {
      at = path.find_first_not_of('/', at);
      if (at == std::string::npos) return place;
      if (!place.name.empty()) {
        if (!place.directory->isDirectory(place.name)) {
          return fail(ErrorKind::kNotFound, "there is no directory on the way to " + path);
        }
        auto next = place.directory->subdirectory(place.name);
        if (!next) return std::unexpected(next.error());
        place.directory = std::move(*next);
      }
      size_t end = std::min(path.find('/', at), path.size());
      place.name = path.substr(at, end - at);
      at = end;
    }
  }

  Result<std::shared_ptr<Directory>> openDirectoryAt(const std::string& path) const {
    auto place = resolve(path);
    if (!place) return std::unexpected(place.error());
    if (place->name.empty()) return place->directory;
    if (!place->directory->isDirectory(place->name)) {
      return fail(ErrorKind::kNotFound, "there is no directory " + path);
    }
    return place->directory->subdirectory(place->name);
  }

  Result<std::shared_ptr<File>> open(const std::string& path, OpenMode mode) const {
    auto place = resolve(path);
    if (!place) return std::unexpected(place.error());
    return place->directory->open(place->name, mode);
  }

  std::shared_ptr<Directory> root_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> makeRocksdbEnv(std::shared_ptr<Directory> root) {
  return rocksdb::NewCompositeEnv(std::make_shared<DirectoryFileSystem>(std::move(root)));
}

std::shared_ptr<rocksdb::Logger> makeRocksdbLogger() {
  return std::make_shared<ErrorLogger>();
}

}  // namespace polylog::storage
