// Directory and File over POSIX. A directory is held by its descriptor and everything inside is
// reached relative to it, so that a directory renamed while open goes on working.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "storage/file.h"

namespace polylog::storage {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr mode_t kDirectoryMode = 0750;

std::unexpected<Error> failErrno(int error, std::string_view what, const std::string& path) {
  ErrorKind kind = ErrorKind::kIo;
  switch (error) {
    case ENOSPC:
    case EDQUOT: kind = ErrorKind::kNoSpace; break;
    case ENOENT: kind = ErrorKind::kNotFound; break;
    case EEXIST: kind = ErrorKind::kAlreadyExists; break;
    default: break;
  }
  std::string text = "cannot ";
  text.append(what).append(" ").append(path).append(": ");
  text += std::system_category().message(error);
  return fail(kind, std::move(text));
}

/// Repeats a system call that a signal cut short. -1 and errno otherwise as the call leaves them.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);  // On Linux the descriptor is gone whatever close says.
  }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void release() { fd_ = -1; }

 private:
  int fd_;
};

class PosixFile final : public File {
 public:
  PosixFile(Descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<> write(uint64_t offset, std::span<const BytesView> pieces) override {
    std::array<iovec, IOV_MAX> vectors;
    size_t next = 0;
    while (next < pieces.size()) {
      size_t count = 0;
      while (next < pieces.size() && count < vectors.size()) {
        BytesView piece = pieces[next++];
        if (piece.empty()) continue;
        vectors[count++] = {const_cast<char*>(piece.data()), piece.size()};
      }
      if (auto done = writeAll(offset, std::span(vectors.data(), count)); !done) return done;
    }
    return {};
  }

  Result<size_t> read(uint64_t offset, char* into, size_t length) const override {
    size_t done = 0;
    while (done < length) {
      ssize_t n = uninterrupted([&] {
        return ::pread(fd_.get(), into + done, length - done, static_cast<off_t>(offset + done));
      });
      if (n < 0) return failErrno(errno, "read", path_);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  Result<> sync() override {
    if (uninterrupted([&] { return ::fdatasync(fd_.get()); }) < 0) {
      return failErrno(errno, "sync", path_);
    }
    return {};
  }

  Result<> truncate(uint64_t size) override {
    if (uninterrupted([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); }) < 0) {
      return failErrno(errno, "truncate", path_);
    }
    return {};
  }

  Result<uint64_t> size() const override {
    struct stat status {};
    if (::fstat(fd_.get(), &status) < 0) return failErrno(errno, "stat", path_);
    return static_cast<uint64_t>(status.st_size);
  }

 private:
  /// Writes all of `vectors` at `offset` and moves it on, however little each call takes.
  Result<> writeAll(uint64_t& offset, std::span<iovec> vectors) {
    while (!vectors.empty()) {
      ssize_t n = uninterrupted([&] {
        return ::pwritev(fd_.get(), vectors.data(), static_cast<int>(vectors.size()),
                         static_cast<off_t>(offset));
      });
      if (n < 0) return failErrno(errno, "write", path_);
      if (n == 0) return fail(ErrorKind::kIo, "cannot write " + path_ + ": nothing was taken");
      offset += static_cast<uint64_t>(n);
      auto written = static_cast<size_t>(n);
      while (!vectors.empty() && written >= vectors.front().iov_len) {
        written -= vectors.front().iov_len;
        vectors = vectors.subspan(1);
      }
      if (written > 0) {
        vectors.front().iov_base = static_cast<char*>(vectors.front().iov_base) + written;
        vectors.front().iov_len -= written;
      }
    }
    return {};
  }

  Descriptor fd_;
  std::string path_;
};

/// Names are single components; anything else would leave the directory.
bool isComponent(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

struct DirectoryCloser {
  void operator()(DIR* stream) const { ::closedir(stream); }
};

/// The names in the directory behind `fd`, `.` and `..` left out.
Result<std::vector<std::string>> namesIn(int fd, const std::string& path) {
  // A fresh open file description: reading the directory moves an offset that duplicates share.
  Descriptor own(
      uninterrupted([&] { return ::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!own.ok()) return failErrno(errno, "list", path);
  std::unique_ptr<DIR, DirectoryCloser> stream(::fdopendir(own.get()));
  if (!stream) return failErrno(errno, "list", path);
  own.release();  // closedir() closes it.
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return failErrno(errno, "list", path);
  return names;
}

Result<> removeAt(int fd, const std::string& name, const std::string& path) {
  if (::unlinkat(fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return failErrno(errno, "remove", path);
  {
    Descriptor inner(uninterrupted([&] {
      return ::openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }));
    if (!inner.ok()) return failErrno(errno, "remove", path);
    auto names = namesIn(inner.get(), path);
    if (!names) return std::unexpected(names.error());
    for (const std::string& child : *names) {
      if (auto done = removeAt(inner.get(), child, path + "/" + child); !done) return done;
    }
  }
  if (::unlinkat(fd, name.c_str(), AT_REMOVEDIR) < 0 && errno != ENOENT) {
    return failErrno(errno, "remove", path);
  }
  return {};
}

Result<> syncDirectory(int fd, const std::string& path) {
  // EINVAL: the file system has no such operation, which is as durable as it gets there.
  if (uninterrupted([&] { return ::fsync(fd); }) < 0 && errno != EINVAL) {
    return failErrno(errno, "sync directory", path);
  }
  return {};
}

class PosixDirectory final : public Directory {
 public:
  PosixDirectory(Descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  const std::string& path() const override { return path_; }

  Result<std::shared_ptr<Directory>> subdirectory(const std::string& name) override {
    if (!isComponent(name)) return badName(name);
    if (::mkdirat(fd_.get(), name.c_str(), kDirectoryMode) < 0 && errno != EEXIST) {
      return failErrno(errno, "create directory", pathOf(name));
    }
    Descriptor fd(uninterrupted(
        [&] { return ::openat(fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!fd.ok()) return failErrno(errno, "open directory", pathOf(name));
    return std::make_shared<PosixDirectory>(std::move(fd), pathOf(name));
  }

  Result<std::shared_ptr<File>> open(const std::string& name, OpenMode mode) override {
    if (!isComponent(name)) return badName(name);
    int flags = O_CLOEXEC;
    switch (mode) {
      case OpenMode::kRead: flags |= O_RDONLY; break;
      case OpenMode::kReadWrite: flags |= O_RDWR; break;
      case OpenMode::kCreate: flags |= O_RDWR | O_CREAT | O_EXCL; break;
      case OpenMode::kReplace: flags |= O_RDWR | O_CREAT | O_TRUNC; break;
    }
    auto fd = openFile(name, flags);
    if (!fd) return std::unexpected(fd.error());
    return std::make_shared<PosixFile>(std::move(*fd), pathOf(name));
  }

  bool exists(const std::string& name) const override {
    return isComponent(name) &&
           ::faccessat(fd_.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  }

  Result<std::vector<std::string>> list() const override { return namesIn(fd_.get(), path_); }

  bool isDirectory(const std::string& name) const override {
    struct stat status {};
    return isComponent(name) && ::fstatat(fd_.get(), name.c_str(), &status, 0) == 0 &&
           S_ISDIR(status.st_mode);
  }

  Result<> rename(const std::string& from, const std::string& to) override {
    if (!isComponent(from)) return badName(from);
    if (!isComponent(to)) return badName(to);
    if (::renameat(fd_.get(), from.c_str(), fd_.get(), to.c_str()) < 0) {
      return failErrno(errno, "rename", pathOf(from) + " to " + to);
    }
    return {};
  }

  Result<> remove(const std::string& name) override {
    if (!isComponent(name)) return badName(name);
    return removeAt(fd_.get(), name, pathOf(name));
  }

  Result<> link(const std::string& name, Directory& into, const std::string& newName) override {
    if (!isComponent(name)) return badName(name);
    if (!isComponent(newName)) return badName(newName);
    auto* target = dynamic_cast<PosixDirectory*>(&into);
    if (target == nullptr) {
      return fail(ErrorKind::kInvalid, "cannot link " + pathOf(name) + " into " + into.path() +
                                           ": not a directory of the same kind");
    }
    if (::linkat(fd_.get(), name.c_str(), target->fd_.get(), newName.c_str(), 0) == 0) return {};
    if (errno == EXDEV || errno == EPERM || errno == EMLINK || errno == EOPNOTSUPP) {
      return copy(name, *target, newName);
    }
    return failErrno(errno, "link", pathOf(name) + " as " + target->pathOf(newName));
  }

  Result<> sync() override { return syncDirectory(fd_.get(), path_); }

  Result<std::shared_ptr<void>> lock(const std::string& name) override {
    if (!isComponent(name)) return badName(name);
    auto fd = openFile(name, O_RDWR | O_CREAT | O_CLOEXEC);
    if (!fd) return std::unexpected(fd.error());
    // flock belongs to the open file description: it keeps out other objects of this process too,
    // which fcntl's record locks do not, and it ends with the process however that ends.
    if (uninterrupted([&] { return ::flock(fd->get(), LOCK_EX | LOCK_NB); }) < 0) {
      if (errno == EWOULDBLOCK) {
        return fail(ErrorKind::kBusy, pathOf(name) + " is locked by another process");
      }
      return failErrno(errno, "lock", pathOf(name));
    }
    return std::shared_ptr<void>(std::make_shared<Descriptor>(std::move(*fd)));
  }

  Result<uint64_t> freeBytes() const override {
    struct statvfs status {};
    if (uninterrupted([&] { return ::fstatvfs(fd_.get(), &status); }) < 0) {
      return failErrno(errno, "ask for the free space of", path_);
    }
    return static_cast<uint64_t>(status.f_bavail) * static_cast<uint64_t>(status.f_frsize);
  }

 private:
  std::string pathOf(const std::string& name) const { return path_ + "/" + name; }

  std::unexpected<Error> badName(const std::string& name) const {
    return fail(ErrorKind::kInvalid, "not a file name in " + path_ + ": '" + name + "'");
  }

  Result<Descriptor> openFile(const std::string& name, int flags) const {
    Descriptor fd(
        uninterrupted([&] { return ::openat(fd_.get(), name.c_str(), flags, kFileMode); }));
    if (!fd.ok()) return failErrno(errno, "open", pathOf(name));
    return fd;
  }

  Result<> copy(const std::string& name, PosixDirectory& into, const std::string& newName) {
    auto source = open(name, OpenMode::kRead);
    if (!source) return std::unexpected(source.error());
    auto target = into.open(newName, OpenMode::kCreate);
    if (!target) return std::unexpected(target.error());
    std::string buffer(size_t{1} << 18, '\0');
    for (uint64_t at = 0;;) {
      auto n = (*source)->read(at, buffer.data(), buffer.size());
      if (!n) return std::unexpected(n.error());
      if (*n == 0) break;
      BytesView piece(buffer.data(), *n);
      if (auto done = (*target)->write(at, std::span(&piece, 1)); !done) return done;
      at += *n;
    }
    return (*target)->sync();
  }

  Descriptor fd_;
  std::string path_;
};

/// Opens `path`, making it and its parents first where they are missing; what was made survives.
Result<Descriptor> openMaking(const std::string& path) {
  auto openIt = [&] {
    return uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  };
  if (Descriptor fd(openIt()); fd.ok()) return fd;
  if (errno != ENOENT) return failErrno(errno, "open directory", path);
  size_t last = path.find_last_not_of('/');
  size_t slash = last == std::string::npos ? last : path.find_last_of('/', last);
  std::string parentPath = slash == std::string::npos ? "." : path.substr(0, slash);
  if (parentPath.empty()) parentPath = "/";
  auto parent = openMaking(parentPath);
  if (!parent) return parent;
  if (::mkdir(path.c_str(), kDirectoryMode) < 0 && errno != EEXIST) {
    return failErrno(errno, "create directory", path);
  }
  Descriptor fd(openIt());
  if (!fd.ok()) return failErrno(errno, "open directory", path);
  if (auto done = syncDirectory(parent->get(), parentPath); !done) {
    return std::unexpected(done.error());
  }
  return fd;
}

}  // namespace

Result<std::shared_ptr<Directory>> openDirectory(const std::string& path) {
  if (path.empty()) return fail(ErrorKind::kInvalid, "a directory's path is empty");
  auto fd = openMaking(path);
  if (!fd) return std::unexpected(fd.error());
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  return std::make_shared<PosixDirectory>(std::move(*fd), std::move(trimmed));
}

}  // namespace polylog::storage
