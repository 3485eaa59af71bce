// A disk in memory that can lose its power. Storage runs on it through the seam of storage/file.h.
//
// What it remembers: of each file the content that a power failure leaves for certain (as of its
// last sync()) and the writes and truncations since, each on its own; of each directory the entries
// as of its last sync() and the creations, renames, links and removals since, each on its own.
// afterPowerFailure() makes of that one disk that a real file system might come back with: unsynced
// writes survive wholly, in part or not at all and in any order, a file may have grown without its
// data (zeroes) or with rubbish in a torn place, a name may be there or not; a rename is whole or
// not there. Syncing a file does not make its name durable: syncing its directory does.
//
// Every call that changes the disk (write, truncate, sync, create, rename, remove, link) is a
// boundary. A test runs its trace once with onBoundary() and takes an image at each, or powers the
// disk off at one. Images share pages with their origin: thousands are cheap.
//
// Thread-safe; deterministic as long as its callers are. Hooks run on the calling thread without a
// lock held and may use the disk's own functions (not its directories). That thread may be RocksDB's
// only background thread: don't open a state view in a hook, it would wait for itself. Keep a
// clone() and look into it after the trace.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "storage/file.h"

namespace polylog::test {

/// What becomes of everything that was not synced.
enum class PowerFailure : uint8_t {
  kLoseUnsynced,  ///< all of it is gone
  kKeepAll,       ///< all of it had reached the disk, as after a killed process
  kRandom,        ///< each write and each name fares on its own: there, gone, torn, zeroes, rubbish
  kTearLastWrite,    ///< all is there but the last write, torn at a random octet
  kTearLastSectors,  ///< all is there but the last write, of which random 512-octet sectors are
  kLastWriteOnly,    ///< names and the last write of each file are there, the writes before are not
  kNamesWithoutData,  ///< names are there and files have their size, but hold zeroes
  kDataWithoutNames,  ///< writes are there, but no creation, rename or removal
};

inline constexpr std::array kAllPowerFailures = {
    PowerFailure::kLoseUnsynced,     PowerFailure::kKeepAll,         PowerFailure::kRandom,
    PowerFailure::kTearLastWrite,    PowerFailure::kTearLastSectors, PowerFailure::kLastWriteOnly,
    PowerFailure::kNamesWithoutData, PowerFailure::kDataWithoutNames};

const char* describe(PowerFailure failure);

/// What lies in a torn write where its own octets did not get to.
enum class TornRest : uint8_t {
  kMissing,  ///< what was there before; the file ends earlier if nothing was
  kZeroes,
  kRubbish,
};

/// One call on the disk, for hooks. Paths are relative to the root: "view/CURRENT".
struct DiskCall {
  enum class Kind : uint8_t {
    kWrite,
    kTruncate,
    kSyncFile,
    kCreate,  ///< a file or directory
    kRename,
    kRemove,
    kLink,
    kSyncDirectory,
    kRead,  ///< not a boundary
  };
  Kind kind;
  std::string path;     ///< as of the opening, for files
  uint64_t offset = 0;  ///< of writes and reads; the size for truncations
  uint64_t length = 0;
};

/// What a fault hook answers: the call fails with `error`; a write has then written its first
/// `written` octets, a sync may or may not have (it has not, here).
struct DiskFault {
  Error error;
  uint64_t written = 0;
};

class FaultyDisk {
 public:
  FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;
  ~FaultyDisk();

  /// The disk's root. Keeps the disk's content alive on its own.
  std::shared_ptr<storage::Directory> root() const;

  /// How many changing calls there were.
  uint64_t boundaries() const;
  /// Runs before each changing call takes effect, with the number of calls before it: an image
  /// taken inside is what a power failure at that moment could leave.
  void onBoundary(std::function<void(uint64_t boundary, const DiskCall& call)> hook);

  /// From that boundary on (0 = the first changing call) every call fails with kIo, reads too.
  void powerOffAt(uint64_t boundary);
  bool poweredOff() const;

  /// A disk as it may come back after the power failed now; durable throughout, nobody's locks
  /// held.
  std::unique_ptr<FaultyDisk> afterPowerFailure(PowerFailure failure, Random& random) const;
  /// The same, all being there but the last unsynced write of all, of which the first `octets` are.
  std::unique_ptr<FaultyDisk> afterTornWrite(uint64_t octets, TornRest rest, Random& random) const;
  /// The disk as it stands, what is unsynced and what is not told apart as here.
  std::unique_ptr<FaultyDisk> clone() const;

  /// ext4 and xfs make a new file's name durable with its first sync(); POSIX does not, and neither
  /// does this disk unless told to.
  void syncFileKeepsItsName(bool yes);

  /// Decides on each call (kRead included) whether it fails. Replaces the faults below.
  void onCall(std::function<std::optional<DiskFault>(const DiskCall& call)> hook);
  /// The `nth` write from now on (0 = the next) to a path that contains `path` fails, its first
  /// `written` octets on the disk.
  void failWrite(uint64_t nth, ErrorKind kind, uint64_t written = 0, const std::string& path = {});
  /// The same for the nth sync of a file, and of a directory.
  void failSync(uint64_t nth, const std::string& path = {});
  void failDirectorySync(uint64_t nth, const std::string& path = {});
  /// All writes and creations fail with kNoSpace until told otherwise.
  void setFull(bool full);
  void setFreeBytes(uint64_t octets);
  void clearFaults();
  /// Each call of that kind sleeps so long first.
  void slowDown(DiskCall::Kind kind, int64_t micros);

  /// Turns over one bit of a file, durable and current. kNotFound, kOutOfRange.
  Result<> flipBit(const std::string& path, uint64_t offset, unsigned bit);
  /// Cuts a file short, or lengthens it with zeroes, durable and current.
  Result<> setSize(const std::string& path, uint64_t size);
  Result<std::string> contentOf(const std::string& path) const;
  /// Octets of all files as they are now, hard links counted once.
  uint64_t usedBytes() const;

  struct Core;

 private:
  explicit FaultyDisk(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

}  // namespace polylog::test
