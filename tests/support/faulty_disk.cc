// A FaultyDisk's controls, and what a power failure makes of it.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "tests/support/faulty_directory.h"
#include "tests/support/faulty_disk_core.h"

namespace polylog::test {
namespace {

constexpr uint64_t kSector = 512;
using Lock = std::lock_guard<std::mutex>;

uint64_t below(Random& random, uint64_t limit) {
  return limit == 0 ? 0 : random.next() % limit;
}

/// Puts what was there instead of the octets [from, to) of a torn write.
void fillTorn(PagedContent& content, const PendingWrite& write, uint64_t from, uint64_t to,
              TornRest rest, Random& random) {
  if (rest == TornRest::kMissing || from >= to) return;
  std::string filler(to - from, '\0');
  if (rest == TornRest::kRubbish) {
    for (char& octet : filler) octet = static_cast<char>(random.next());
  }
  content.write(write.offset + from, filler);
}

/// The first `octets` of the write got there.
void applyPrefix(PagedContent& content, const PendingWrite& write, uint64_t octets, TornRest rest,
                 Random& random) {
  uint64_t length = write.bytes->size();
  octets = std::min(octets, length);
  if (octets > 0) content.write(write.offset, BytesView(*write.bytes).substr(0, octets));
  fillTorn(content, write, octets, length, rest, random);
}

/// Each of the disk's sectors that the write touches got there or did not.
void applySectors(PagedContent& content, const PendingWrite& write, TornRest rest, Random& random) {
  uint64_t length = write.bytes->size();
  for (uint64_t at = 0; at < length;) {
    uint64_t end =
        std::min(length, (write.offset + at) / kSector * kSector + kSector - write.offset);
    if ((random.next() & 1U) != 0) {
      content.write(write.offset + at, BytesView(*write.bytes).substr(at, end - at));
    } else {
      fillTorn(content, write, at, end, rest, random);
    }
    at = end;
  }
}

/// The file has grown as the write made it grow; the write's own octets are not there.
void applySize(PagedContent& content, const PendingWrite& write) {
  content.resize(std::max(content.size(), write.offset + write.bytes->size()));
}

TornRest randomRest(Random& random) {
  return static_cast<TornRest>(below(random, 3));
}

void applyRandomly(PagedContent& content, const PendingWrite& write, Random& random) {
  if (write.truncation) {
    if ((random.next() & 1U) != 0) content.resize(write.offset);
    return;
  }
  switch (below(random, 8)) {
    case 0:
    case 1:
    case 2: applyWhole(content, write); break;
    case 3:
    case 4: break;
    case 5: {
      uint64_t octets = below(random, write.bytes->size() + 1);
      applyPrefix(content, write, octets, randomRest(random), random);
      break;
    }
    case 6: applySectors(content, write, randomRest(random), random); break;
    default: applySize(content, write); break;
  }
}

/// Copies a tree of nodes, each once however many names it has.
class Copier {
 public:
  virtual ~Copier() = default;

  NodePtr copy(const NodePtr& from) {
    if (auto done = seen_.find(from.get()); done != seen_.end()) return done->second;
    auto to = std::make_shared<Node>();
    seen_[from.get()] = to;
    to->directory = from->directory;
    if (from->directory) {
      copyDirectory(*from, *to);
    } else {
      copyFile(*from, *to);
    }
    return to;
  }

 protected:
  Entries copyEntries(const Entries& entries) {
    Entries copies;
    for (const auto& [name, node] : entries) copies[name] = copy(node);
    return copies;
  }
  virtual void copyDirectory(const Node& from, Node& to) = 0;
  virtual void copyFile(const Node& from, Node& to) = 0;

 private:
  std::unordered_map<const Node*, NodePtr> seen_;
};

class Cloner final : public Copier {
  void copyDirectory(const Node& from, Node& to) override {
    to.entries = copyEntries(from.entries);
    to.durableEntries = copyEntries(from.durableEntries);
    for (const PendingNames& change : from.pendingNames) {
      PendingNames copied;
      for (const auto& [name, node] : change.names) {
        copied.names.emplace_back(name, node ? copy(node) : nullptr);
      }
      to.pendingNames.push_back(std::move(copied));
    }
  }
  void copyFile(const Node& from, Node& to) override {
    to.current = from.current;
    to.durable = from.durable;
    to.pending = from.pending;
  }
};

/// Copies what survives.
class Survival final : public Copier {
 public:
  Survival(PowerFailure failure, Random& random) : failure_(failure), random_(random) {}
  /// The one write that is torn, and how. Before copy().
  void tear(uint64_t sequence, std::optional<uint64_t> octets, std::optional<TornRest> rest) {
    torn_ = sequence;
    octets_ = octets;
    rest_ = rest;
  }

 private:
  void copyDirectory(const Node& from, Node& to) override {
    Entries kept = from.durableEntries;
    for (const PendingNames& change : from.pendingNames) {
      bool survives = true;
      if (failure_ == PowerFailure::kLoseUnsynced || failure_ == PowerFailure::kDataWithoutNames) {
        survives = false;
      } else if (failure_ == PowerFailure::kRandom) {
        survives = (random_.next() & 1U) != 0;
      }
      if (!survives) continue;
      for (const auto& [name, node] : change.names) {
        if (node) {
          kept[name] = node;
        } else {
          kept.erase(name);
        }
      }
    }
    to.entries = copyEntries(kept);
    to.durableEntries = to.entries;
  }

  void copyFile(const Node& from, Node& to) override {
    to.durable = from.durable;
    for (size_t i = 0; i < from.pending.size(); ++i) {
      apply(to.durable, from.pending[i], i + 1 == from.pending.size());
    }
    to.current = to.durable;
  }

  void apply(PagedContent& content, const PendingWrite& write, bool lastOfFile) {
    switch (failure_) {
      case PowerFailure::kLoseUnsynced: return;
      case PowerFailure::kKeepAll:
      case PowerFailure::kDataWithoutNames: applyWhole(content, write); return;
      case PowerFailure::kRandom: applyRandomly(content, write, random_); return;
      case PowerFailure::kTearLastWrite:
      case PowerFailure::kTearLastSectors: applyTorn(content, write); return;
      case PowerFailure::kLastWriteOnly:
        if (lastOfFile || write.truncation) applyWhole(content, write);
        return;
      case PowerFailure::kNamesWithoutData:
        if (write.truncation) {
          applyWhole(content, write);
        } else {
          applySize(content, write);
        }
        return;
    }
  }

  void applyTorn(PagedContent& content, const PendingWrite& write) {
    if (write.sequence != torn_) {
      applyWhole(content, write);
      return;
    }
    TornRest rest = rest_ ? *rest_ : randomRest(random_);
    if (failure_ == PowerFailure::kTearLastSectors) {
      applySectors(content, write, rest, random_);
    } else {
      uint64_t octets = octets_ ? *octets_ : below(random_, write.bytes->size());
      applyPrefix(content, write, octets, rest, random_);
    }
  }

  PowerFailure failure_;
  Random& random_;
  uint64_t torn_ = 0;
  std::optional<uint64_t> octets_;
  std::optional<TornRest> rest_;
};

/// Visits each node below `node` that has a name now, once.
template <class Visit>
void forEachNode(const NodePtr& node, std::unordered_map<const Node*, bool>& seen, Visit visit) {
  if (!seen.emplace(node.get(), true).second) return;
  visit(*node);
  for (const auto& [name, child] : node->entries) forEachNode(child, seen, visit);
}

/// The last write on the disk that is not synced, 0 if there is none.
uint64_t lastWrite(const NodePtr& root) {
  uint64_t last = 0;
  std::unordered_map<const Node*, bool> seen;
  forEachNode(root, seen, [&](const Node& node) {
    for (const PendingWrite& write : node.pending) {
      if (!write.truncation) last = std::max(last, write.sequence);
    }
  });
  return last;
}

}  // namespace

void applyWhole(PagedContent& content, const PendingWrite& write) {
  if (write.truncation) {
    content.resize(write.offset);
  } else {
    content.write(write.offset, *write.bytes);
  }
}

PagedContent::Page& PagedContent::writablePage(size_t index) {
  std::shared_ptr<Page>& page = pages_[index];
  if (!page) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

void PagedContent::write(uint64_t offset, BytesView bytes) {
  if (bytes.empty()) return;
  if (offset + bytes.size() > size_) resize(offset + bytes.size());
  while (!bytes.empty()) {
    size_t at = offset % kPage;
    size_t n = std::min(bytes.size(), kPage - at);
    std::memcpy(writablePage(offset / kPage).data() + at, bytes.data(), n);
    bytes.remove_prefix(n);
    offset += n;
  }
}

void PagedContent::resize(uint64_t size) {
  pages_.resize((size + kPage - 1) / kPage);
  // What lies behind the end must be zeroes, should the file grow again.
  if (size < size_ && size % kPage != 0 && pages_.back()) {
    Page& last = writablePage(pages_.size() - 1);
    std::fill(last.begin() + static_cast<std::ptrdiff_t>(size % kPage), last.end(), '\0');
  }
  size_ = size;
}

size_t PagedContent::read(uint64_t offset, char* into, size_t length) const {
  if (offset >= size_) return 0;
  length = std::min<uint64_t>(length, size_ - offset);
  for (size_t done = 0; done < length;) {
    size_t at = (offset + done) % kPage;
    size_t n = std::min(length - done, kPage - at);
    if (const auto& page = pages_[(offset + done) / kPage]) {
      std::memcpy(into + done, page->data() + at, n);
    } else {
      std::memset(into + done, 0, n);
    }
    done += n;
  }
  return length;
}

const char* describe(PowerFailure failure) {
  switch (failure) {
    case PowerFailure::kLoseUnsynced: return "lose unsynced";
    case PowerFailure::kKeepAll: return "keep all";
    case PowerFailure::kRandom: return "random";
    case PowerFailure::kTearLastWrite: return "tear last write";
    case PowerFailure::kTearLastSectors: return "tear last sectors";
    case PowerFailure::kLastWriteOnly: return "last write only";
    case PowerFailure::kNamesWithoutData: return "names without data";
    case PowerFailure::kDataWithoutNames: return "data without names";
  }
  return "unknown";
}

FaultyDisk::FaultyDisk() : core_(std::make_shared<Core>()) {}
FaultyDisk::FaultyDisk(std::shared_ptr<Core> core) : core_(std::move(core)) {}
FaultyDisk::~FaultyDisk() = default;

uint64_t FaultyDisk::boundaries() const {
  Lock lock(core_->mutex);
  return core_->boundaries;
}

void FaultyDisk::onBoundary(std::function<void(uint64_t, const DiskCall&)> hook) {
  Lock lock(core_->mutex);
  core_->boundaryHook =
      hook ? std::make_shared<const Core::BoundaryHook>(std::move(hook)) : nullptr;
}

void FaultyDisk::powerOffAt(uint64_t boundary) {
  Lock lock(core_->mutex);
  core_->offAt = boundary;
  if (core_->boundaries > boundary) core_->off = true;
}

bool FaultyDisk::poweredOff() const {
  Lock lock(core_->mutex);
  return core_->off;
}

std::unique_ptr<FaultyDisk> FaultyDisk::afterPowerFailure(PowerFailure failure,
                                                          Random& random) const {
  Lock lock(core_->mutex);
  Survival survival(failure, random);
  survival.tear(lastWrite(core_->root), std::nullopt, std::nullopt);
  auto core = std::make_shared<Core>();
  core->root = survival.copy(core_->root);
  core->keepNames = core_->keepNames;
  return std::unique_ptr<FaultyDisk>(new FaultyDisk(std::move(core)));
}

std::unique_ptr<FaultyDisk> FaultyDisk::afterTornWrite(uint64_t octets, TornRest rest,
                                                       Random& random) const {
  Lock lock(core_->mutex);
  Survival survival(PowerFailure::kTearLastWrite, random);
  survival.tear(lastWrite(core_->root), octets, rest);
  auto core = std::make_shared<Core>();
  core->root = survival.copy(core_->root);
  core->keepNames = core_->keepNames;
  return std::unique_ptr<FaultyDisk>(new FaultyDisk(std::move(core)));
}

std::unique_ptr<FaultyDisk> FaultyDisk::clone() const {
  Lock lock(core_->mutex);
  auto core = std::make_shared<Core>();
  core->root = Cloner().copy(core_->root);
  core->sequence = core_->sequence;
  core->keepNames = core_->keepNames;
  return std::unique_ptr<FaultyDisk>(new FaultyDisk(std::move(core)));
}

void FaultyDisk::syncFileKeepsItsName(bool yes) {
  Lock lock(core_->mutex);
  core_->keepNames = yes;
}

void FaultyDisk::onCall(std::function<std::optional<DiskFault>(const DiskCall&)> hook) {
  Lock lock(core_->mutex);
  core_->faults.clear();
  core_->callHook = hook ? std::make_shared<const Core::CallHook>(std::move(hook)) : nullptr;
}

void FaultyDisk::failWrite(uint64_t nth, ErrorKind kind, uint64_t written,
                           const std::string& path) {
  Lock lock(core_->mutex);
  core_->faults.push_back({DiskCall::Kind::kWrite, path, nth, {{kind, "injected fault"}, written}});
}

void FaultyDisk::failSync(uint64_t nth, const std::string& path) {
  Lock lock(core_->mutex);
  core_->faults.push_back(
      {DiskCall::Kind::kSyncFile, path, nth, {{ErrorKind::kIo, "injected fault"}, 0}});
}

void FaultyDisk::failDirectorySync(uint64_t nth, const std::string& path) {
  Lock lock(core_->mutex);
  core_->faults.push_back(
      {DiskCall::Kind::kSyncDirectory, path, nth, {{ErrorKind::kIo, "injected fault"}, 0}});
}

void FaultyDisk::setFull(bool full) {
  Lock lock(core_->mutex);
  core_->full = full;
}

void FaultyDisk::setFreeBytes(uint64_t octets) {
  Lock lock(core_->mutex);
  core_->freeBytes = octets;
}

void FaultyDisk::clearFaults() {
  Lock lock(core_->mutex);
  core_->faults.clear();
  core_->delays.clear();
  core_->callHook = nullptr;
  core_->full = false;
}

void FaultyDisk::slowDown(DiskCall::Kind kind, int64_t micros) {
  Lock lock(core_->mutex);
  core_->delays[kind] = micros;
}

Result<> FaultyDisk::flipBit(const std::string& path, uint64_t offset, unsigned bit) {
  Lock lock(core_->mutex);
  NodePtr node = core_->find(path);
  if (!node || node->directory) return fail(ErrorKind::kNotFound, "there is no file " + path);
  if (offset >= node->current.size()) return fail(ErrorKind::kOutOfRange, path + " is shorter");
  auto flipped = [bit](char octet) {
    return static_cast<char>(static_cast<unsigned char>(octet) ^ (1U << (bit & 7U)));
  };
  for (PagedContent* content : {&node->current, &node->durable}) {
    char octet = 0;
    if (content->read(offset, &octet, 1) == 0) continue;
    octet = flipped(octet);
    content->write(offset, BytesView(&octet, 1));
  }
  for (PendingWrite& write : node->pending) {
    if (write.truncation || offset < write.offset) continue;
    uint64_t at = offset - write.offset;
    if (at >= write.bytes->size()) continue;
    std::string bytes = *write.bytes;
    bytes[at] = flipped(bytes[at]);
    write.bytes = std::make_shared<const std::string>(std::move(bytes));
  }
  return {};
}

Result<> FaultyDisk::setSize(const std::string& path, uint64_t size) {
  Lock lock(core_->mutex);
  NodePtr node = core_->find(path);
  if (!node || node->directory) return fail(ErrorKind::kNotFound, "there is no file " + path);
  node->current.resize(size);
  node->durable = node->current;
  node->pending.clear();
  return {};
}

Result<std::string> FaultyDisk::contentOf(const std::string& path) const {
  Lock lock(core_->mutex);
  NodePtr node = core_->find(path);
  if (!node || node->directory) return fail(ErrorKind::kNotFound, "there is no file " + path);
  std::string content(node->current.size(), '\0');
  node->current.read(0, content.data(), content.size());
  return content;
}

uint64_t FaultyDisk::usedBytes() const {
  Lock lock(core_->mutex);
  uint64_t used = 0;
  std::unordered_map<const Node*, bool> seen;
  forEachNode(core_->root, seen, [&](const Node& node) { used += node.current.size(); });
  return used;
}

}  // namespace polylog::test
