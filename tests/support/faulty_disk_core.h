// What a FaultyDisk is made of: nodes with their certain and their current content. Only for
// tests/support/faulty_*.cc.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "tests/support/faulty_directory.h"

namespace polylog::test {

/// A file's octets in pages that copies share until one of them writes. Absent pages are zeroes.
class PagedContent {
 public:
  uint64_t size() const { return size_; }
  void write(uint64_t offset, BytesView bytes);
  void resize(uint64_t size);
  /// Up to `length` octets from `offset` on; what is read.
  size_t read(uint64_t offset, char* into, size_t length) const;

 private:
  static constexpr size_t kPage = 4096;
  using Page = std::array<char, kPage>;
  Page& writablePage(size_t index);

  uint64_t size_ = 0;
  std::vector<std::shared_ptr<Page>> pages_;
};

/// A write or, with `truncation`, a change of size that no sync has made certain yet.
struct PendingWrite {
  uint64_t sequence = 0;  ///< among all calls on the disk
  uint64_t offset = 0;    ///< or the new size
  bool truncation = false;
  bool doomed = false;  ///< a sync of it failed: no later sync makes it certain
  std::shared_ptr<const std::string> bytes;
};

struct Node;
using NodePtr = std::shared_ptr<Node>;

/// Names that change together: a rename is {from: none, to: node}.
struct PendingNames {
  std::vector<std::pair<std::string, NodePtr>> names;
};

using Entries = std::map<std::string, NodePtr>;

struct Node {
  bool directory = false;
  // Of a file:
  PagedContent current;
  PagedContent durable;
  std::vector<PendingWrite> pending;
  bool locked = false;
  std::weak_ptr<Node> madeIn;
  // Of a directory:
  Entries entries;
  Entries durableEntries;
  std::vector<PendingNames> pendingNames;
};

struct FaultyDisk::Core {
  struct CountedFault {
    DiskCall::Kind kind;
    std::string path;
    uint64_t left;
    DiskFault fault;
  };
  using BoundaryHook = std::function<void(uint64_t, const DiskCall&)>;
  using CallHook = std::function<std::optional<DiskFault>(const DiskCall&)>;

  mutable std::mutex mutex;  // guards everything here and in the nodes
  NodePtr root = std::make_shared<Node>();
  uint64_t boundaries = 0;
  uint64_t sequence = 0;
  uint64_t offAt = std::numeric_limits<uint64_t>::max();
  bool off = false;
  bool full = false;
  bool keepNames = false;
  uint64_t freeBytes = uint64_t{1} << 40;
  std::vector<CountedFault> faults;
  std::map<DiskCall::Kind, int64_t> delays;
  std::shared_ptr<const BoundaryHook> boundaryHook;
  std::shared_ptr<const CallHook> callHook;

  Core() { root->directory = true; }

  /// Begins a call: counts it, runs the hooks and answers with the fault to act out, if any.
  /// Without the mutex held; fails when the power is off.
  Result<std::optional<DiskFault>> begin(const DiskCall& call);
  std::unexpected<Error> noPower(const std::string& path) const {
    return fail(ErrorKind::kIo, path + ": the power is off");
  }
  /// The node at `path` ("a/b", "" for the root) as things are now, or null. With the mutex held.
  NodePtr find(const std::string& path) const;
  /// A directory's entries change. With the mutex held.
  static void change(Node& directory, std::vector<std::pair<std::string, NodePtr>> names);
};

/// Applies what is sure to have been done of a pending write.
void applyWhole(PagedContent& content, const PendingWrite& write);

}  // namespace polylog::test
