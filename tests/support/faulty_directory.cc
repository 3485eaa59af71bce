// The directories and files of a FaultyDisk.
#include "tests/support/faulty_directory.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/support/faulty_disk_core.h"

namespace polylog::test {
namespace {

using storage::Directory;
using storage::File;
using storage::OpenMode;
using Core = FaultyDisk::Core;
using Kind = DiskCall::Kind;
using Lock = std::lock_guard<std::mutex>;

class FaultyFile final : public File {
 public:
  FaultyFile(std::shared_ptr<Core> core, NodePtr node, std::string path, bool writable)
      : core_(std::move(core)),
        node_(std::move(node)),
        path_(std::move(path)),
        writable_(writable) {}

  Result<> write(uint64_t offset, std::span<const BytesView> pieces) override {
    std::string bytes;
    for (BytesView piece : pieces) bytes.append(piece);
    if (!writable_) return fail(ErrorKind::kIo, path_ + " is open for reading only");
    auto fault = core_->begin({Kind::kWrite, path_, offset, bytes.size()});
    if (!fault) return std::unexpected(fault.error());
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(path_);
    if (!*fault && core_->full && offset + bytes.size() > node_->current.size()) {
      uint64_t inside = node_->current.size() > offset ? node_->current.size() - offset : 0;
      *fault = DiskFault{{ErrorKind::kNoSpace, "cannot write " + path_ + ": no space"}, inside};
    }
    if (*fault) bytes.resize(std::min<uint64_t>(bytes.size(), (*fault)->written));
    if (!bytes.empty()) {
      node_->current.write(offset, bytes);
      PendingWrite pending;
      pending.sequence = ++core_->sequence;
      pending.offset = offset;
      pending.bytes = std::make_shared<const std::string>(std::move(bytes));
      node_->pending.push_back(std::move(pending));
    }
    if (*fault) return std::unexpected((*fault)->error);
    return {};
  }

  Result<size_t> read(uint64_t offset, char* into, size_t length) const override {
    auto fault = core_->begin({Kind::kRead, path_, offset, length});
    if (!fault) return std::unexpected(fault.error());
    if (*fault) return std::unexpected((*fault)->error);
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(path_);
    return node_->current.read(offset, into, length);
  }

  Result<> sync() override {
    auto fault = core_->begin({Kind::kSyncFile, path_});
    if (!fault) return std::unexpected(fault.error());
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(path_);
    if (*fault) {
      // Linux takes the pages for clean after a failed fsync: a later success proves nothing.
      for (PendingWrite& write : node_->pending) write.doomed = true;
      return std::unexpected((*fault)->error);
    }
    bool anyDoomed = std::ranges::any_of(node_->pending, &PendingWrite::doomed);
    if (!anyDoomed) {
      node_->durable = node_->current;
      node_->pending.clear();
    } else {
      for (const PendingWrite& write : node_->pending) {
        if (!write.doomed) applyWhole(node_->durable, write);
      }
      std::erase_if(node_->pending, [](const PendingWrite& write) { return !write.doomed; });
    }
    if (core_->keepNames) keepName();
    return {};
  }

  Result<> truncate(uint64_t size) override {
    if (!writable_) return fail(ErrorKind::kIo, path_ + " is open for reading only");
    auto fault = core_->begin({Kind::kTruncate, path_, size});
    if (!fault) return std::unexpected(fault.error());
    if (*fault) return std::unexpected((*fault)->error);
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(path_);
    cut(*core_, *node_, size);
    return {};
  }

  Result<uint64_t> size() const override {
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(path_);
    return node_->current.size();
  }

  /// With the mutex held.
  static void cut(Core& core, Node& node, uint64_t size) {
    node.current.resize(size);
    PendingWrite pending;
    pending.sequence = ++core.sequence;
    pending.offset = size;
    pending.truncation = true;
    node.pending.push_back(std::move(pending));
  }

 private:
  void keepName() {
    NodePtr directory = node_->madeIn.lock();
    if (!directory) return;
    std::erase_if(directory->pendingNames, [&](const PendingNames& change) {
      bool creation = change.names.size() == 1 && change.names[0].second == node_;
      if (creation) directory->durableEntries[change.names[0].first] = node_;
      return creation;
    });
  }

  std::shared_ptr<Core> core_;
  NodePtr node_;
  std::string path_;
  bool writable_;
};

class FaultyDirectory final : public Directory {
 public:
  FaultyDirectory(std::shared_ptr<Core> core, NodePtr node, std::string relative)
      : core_(std::move(core)),
        node_(std::move(node)),
        relative_(std::move(relative)),
        path_("disk:/" + relative_) {}

  const std::string& path() const override { return path_; }

  Result<std::shared_ptr<Directory>> subdirectory(const std::string& name) override {
    if (!isComponent(name)) return badName(name);
    if (NodePtr found = entry(name)) {
      if (!found->directory) return fail(ErrorKind::kIo, inside(name) + " is not a directory");
      if (powerIsOff()) return core_->noPower(inside(name));
      return std::make_shared<FaultyDirectory>(core_, std::move(found), inside(name));
    }
    auto made = make(name, true);
    if (!made) return std::unexpected(made.error());
    return std::make_shared<FaultyDirectory>(core_, std::move(*made), inside(name));
  }

  Result<std::shared_ptr<File>> open(const std::string& name, OpenMode mode) override {
    if (!isComponent(name)) return badName(name);
    NodePtr found = entry(name);
    if (powerIsOff()) return core_->noPower(inside(name));
    if (found && found->directory) return fail(ErrorKind::kIo, inside(name) + " is a directory");
    if (found && mode == OpenMode::kCreate) {
      return fail(ErrorKind::kAlreadyExists, inside(name) + " exists");
    }
    if (!found && (mode == OpenMode::kRead || mode == OpenMode::kReadWrite)) {
      return fail(ErrorKind::kNotFound, "there is no " + inside(name));
    }
    if (!found) {
      auto made = make(name, false);
      if (!made) return std::unexpected(made.error());
      found = std::move(*made);
    } else if (mode == OpenMode::kReplace) {
      if (auto done = FaultyFile(core_, found, inside(name), true).truncate(0); !done) {
        return std::unexpected(done.error());
      }
    }
    return std::make_shared<FaultyFile>(core_, std::move(found), inside(name),
                                        mode != OpenMode::kRead);
  }

  bool exists(const std::string& name) const override { return entry(name) != nullptr; }

  Result<std::vector<std::string>> list() const override {
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(relative_);
    std::vector<std::string> names;
    for (const auto& [name, node] : node_->entries) names.push_back(name);
    return names;
  }

  bool isDirectory(const std::string& name) const override {
    NodePtr found = entry(name);
    return found && found->directory;
  }

  Result<> rename(const std::string& from, const std::string& to) override {
    if (!isComponent(from)) return badName(from);
    if (!isComponent(to)) return badName(to);
    auto fault = core_->begin({Kind::kRename, inside(from)});
    if (!fault) return std::unexpected(fault.error());
    if (*fault) return std::unexpected((*fault)->error);
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(inside(from));
    auto found = node_->entries.find(from);
    if (found == node_->entries.end()) {
      return fail(ErrorKind::kNotFound, "there is no " + inside(from));
    }
    if (from == to) return {};
    if (auto old = node_->entries.find(to); old != node_->entries.end()) {
      bool fits = old->second->directory == found->second->directory;
      if (!fits || !old->second->entries.empty()) {
        return fail(ErrorKind::kIo, "cannot rename to " + inside(to) + ": it is in the way");
      }
    }
    NodePtr node = found->second;
    Core::change(*node_, {{from, nullptr}, {to, node}});
    return {};
  }

  Result<> remove(const std::string& name) override {
    if (!isComponent(name)) return badName(name);
    NodePtr found = entry(name);
    if (found && found->directory) {
      FaultyDirectory directory(core_, found, inside(name));
      auto names = directory.list();
      if (!names) return std::unexpected(names.error());
      for (const std::string& child : *names) {
        if (auto done = directory.remove(child); !done) return done;
      }
    }
    auto fault = core_->begin({Kind::kRemove, inside(name)});
    if (!fault) return std::unexpected(fault.error());
    if (*fault) return std::unexpected((*fault)->error);
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(inside(name));
    if (node_->entries.contains(name)) Core::change(*node_, {{name, nullptr}});
    return {};
  }

  Result<> link(const std::string& name, Directory& into, const std::string& newName) override {
    if (!isComponent(name)) return badName(name);
    if (!isComponent(newName)) return badName(newName);
    auto* target = dynamic_cast<FaultyDirectory*>(&into);
    if (target == nullptr || target->core_ != core_) {
      return fail(ErrorKind::kInvalid, "cannot link " + inside(name) + " to another disk");
    }
    auto fault = core_->begin({Kind::kLink, inside(name)});
    if (!fault) return std::unexpected(fault.error());
    if (*fault) return std::unexpected((*fault)->error);
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(inside(name));
    auto found = node_->entries.find(name);
    if (found == node_->entries.end() || found->second->directory) {
      return fail(ErrorKind::kNotFound, "there is no file " + inside(name));
    }
    if (target->node_->entries.contains(newName)) {
      return fail(ErrorKind::kAlreadyExists, target->inside(newName) + " exists");
    }
    Core::change(*target->node_, {{newName, found->second}});
    return {};
  }

  Result<> sync() override {
    auto fault = core_->begin({Kind::kSyncDirectory, relative_});
    if (!fault) return std::unexpected(fault.error());
    if (*fault) return std::unexpected((*fault)->error);
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(relative_);
    node_->durableEntries = node_->entries;
    node_->pendingNames.clear();
    return {};
  }

  Result<std::shared_ptr<void>> lock(const std::string& name) override {
    if (!isComponent(name)) return badName(name);
    NodePtr found = entry(name);
    if (!found) {
      auto made = make(name, false);
      if (!made) return std::unexpected(made.error());
      found = std::move(*made);
    }
    Lock guard(core_->mutex);
    if (core_->off) return core_->noPower(inside(name));
    if (found->locked) return fail(ErrorKind::kBusy, inside(name) + " is locked");
    found->locked = true;
    return std::shared_ptr<void>(found.get(), [core = core_, found](void*) {
      Lock unlocking(core->mutex);
      found->locked = false;
    });
  }

  Result<uint64_t> freeBytes() const override {
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(relative_);
    return core_->full ? 0 : core_->freeBytes;
  }

 private:
  static bool isComponent(const std::string& name) {
    return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
  }
  std::unexpected<Error> badName(const std::string& name) const {
    return fail(ErrorKind::kInvalid, "not a file name: '" + name + "'");
  }
  std::string inside(const std::string& name) const {
    return relative_.empty() ? name : relative_ + "/" + name;
  }
  bool powerIsOff() const {
    Lock lock(core_->mutex);
    return core_->off;
  }

  /// The entry `name` as things are now; null when there is none or the power is off.
  NodePtr entry(const std::string& name) const {
    Lock lock(core_->mutex);
    if (core_->off) return nullptr;
    auto found = node_->entries.find(name);
    return found == node_->entries.end() ? nullptr : found->second;
  }

  Result<NodePtr> make(const std::string& name, bool directory) {
    auto fault = core_->begin({Kind::kCreate, inside(name)});
    if (!fault) return std::unexpected(fault.error());
    if (*fault) return std::unexpected((*fault)->error);
    Lock lock(core_->mutex);
    if (core_->off) return core_->noPower(inside(name));
    if (core_->full) {
      return fail(ErrorKind::kNoSpace, "cannot create " + inside(name) + ": no space");
    }
    if (auto found = node_->entries.find(name); found != node_->entries.end()) {
      return found->second;  // Another thread was first.
    }
    auto node = std::make_shared<Node>();
    node->directory = directory;
    node->madeIn = node_;
    Core::change(*node_, {{name, node}});
    return node;
  }

  std::shared_ptr<Core> core_;
  NodePtr node_;
  std::string relative_;
  std::string path_;
};

}  // namespace

Result<std::optional<DiskFault>> FaultyDisk::Core::begin(const DiskCall& call) {
  std::shared_ptr<const BoundaryHook> onBoundary;
  std::shared_ptr<const CallHook> onCall;
  std::optional<DiskFault> answer;
  uint64_t boundary = 0;
  int64_t delay = 0;
  {
    Lock lock(mutex);
    if (off) return noPower(call.path);
    if (call.kind != DiskCall::Kind::kRead) {
      boundary = boundaries++;
      if (boundary >= offAt) {
        off = true;
        return noPower(call.path);
      }
      onBoundary = boundaryHook;
    }
    onCall = callHook;
    if (auto found = delays.find(call.kind); found != delays.end()) delay = found->second;
    for (auto fault = faults.begin(); fault != faults.end(); ++fault) {
      if (fault->kind != call.kind || call.path.find(fault->path) == std::string::npos) continue;
      if (fault->left-- > 0) continue;
      answer = std::move(fault->fault);
      faults.erase(fault);
      break;
    }
  }
  if (onBoundary) (*onBoundary)(boundary, call);
  if (delay > 0) std::this_thread::sleep_for(std::chrono::microseconds(delay));
  if (onCall) {
    if (auto fault = (*onCall)(call)) answer = std::move(fault);
  }
  return answer;
}

NodePtr FaultyDisk::Core::find(const std::string& path) const {
  NodePtr node = root;
  size_t at = 0;
  while (node && at < path.size()) {
    size_t slash = std::min(path.find('/', at), path.size());
    auto found = node->entries.find(path.substr(at, slash - at));
    node = found == node->entries.end() ? nullptr : found->second;
    at = slash + 1;
  }
  return node;
}

void FaultyDisk::Core::change(Node& directory, std::vector<std::pair<std::string, NodePtr>> names) {
  for (const auto& [name, node] : names) {
    if (node) {
      directory.entries[name] = node;
    } else {
      directory.entries.erase(name);
    }
  }
  directory.pendingNames.push_back({std::move(names)});
}

std::shared_ptr<storage::Directory> FaultyDisk::root() const {
  return std::make_shared<FaultyDirectory>(core_, core_->root, "");
}

}  // namespace polylog::test
