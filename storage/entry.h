// The journal's entry: how one append looks on disk (docs/storage-format.md). EntryBuffer encodes a
// group of entries, decodeEntry() reads one back from octets that nobody has checked.
// No I/O and no threads of its own: an EntryBuffer belongs to whoever holds it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/byte_writer.h"
#include "core/base/bytes.h"
#include "core/base/strong.h"
#include "storage/log_store.h"

namespace polylog::storage {

inline constexpr uint32_t kEntryMagic = 0x504C4745;  // "PLGE"
inline constexpr size_t kEntryHeaderSize = 48;
inline constexpr size_t kEntryAlignment = 8;
/// The most octets an entry may have, all included.
inline constexpr size_t kMaxEntrySize = 64U << 20;
/// The most targets in one entry; a longer list continues in a chain of entries.
inline constexpr size_t kMaxEntryTargets = 100'000;

enum EntryFlag : uint16_t {
  kChainContinues = 1,     ///< the next entry belongs to this one
  kChainContinuation = 2,  ///< this entry belongs to the one before
};

enum class PartType : uint8_t {
  kMessages = 1,
  kLink = 2,
  kState = 3,
  kKept = 4,  ///< only in rewritten segments: a batch under the position that it had before
};

enum PartFlag : uint8_t {
  kRouteAfterCommit = 1,
  kProducerChecked = 2,  ///< the batch's producer counts in its first target's partition
};

/// A target with the offset that sequencing gave it. `count` is never 0 here.
struct PlacedTarget {
  PartitionId partition;
  Offset base;
  uint32_t firstRecord = 0;
  uint32_t count = 0;
  uint32_t attributes = 0;
};

/// Entries of one write group, encoded one after the other. Small batches are copied in, larger
/// ones referred to until release().
class EntryBuffer {
 public:
  /// Batches up to this size are copied.
  static constexpr size_t kCopiedBatch = 2048;

  void begin(uint32_t incarnation, uint64_t sequence, Position position, uint16_t flags);
  /// Of the entry that was begun last.
  Position position() const { return openPosition_; }
  void addState(std::span<const StateChange> changes);
  /// Returns the batch's own position.
  Position addMessages(uint8_t flags, std::span<const PlacedTarget> targets,
                       const SharedBytes& batch);
  void addLink(BatchPlace batch, int64_t maxTimestamp, std::span<const PlacedTarget> targets);
  /// In a rewritten segment. Returns where the batch is, counted from the entry's first octet.
  size_t addKept(uint8_t flags, Position position, std::span<const PlacedTarget> targets,
                 const SharedBytes& batch);
  /// Ends the entry; returns its size, a multiple of kEntryAlignment.
  size_t finish(bool chainContinues);

  /// Octets of all entries finished.
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  /// Writes the durable mark and the header checksum into every entry.
  void seal(Position durableMark);
  /// All octets in order. Views are good until the buffer changes.
  void pieces(std::vector<BytesView>& out) const;
  /// Forgets everything, keeping memory for the next group within reason.
  void clear();

 private:
  struct Splice {
    size_t at = 0;            ///< in meta_: where the batch begins, or would
    size_t copied = 0;        ///< octets of it in meta_; 0 = `batch` is referred to
    SharedBytes batch;
  };
  struct Mark {
    size_t from = 0;
    size_t to = 0;
    size_t spliceFrom = 0;
    size_t spliceTo = 0;
  };

  size_t beginPart(PartType type, uint8_t flags);
  void endPart(size_t lengthAt, size_t referred);
  void putTargets(std::span<const PlacedTarget> targets);
  size_t putBatch(size_t lengthAt, const SharedBytes& batch);
  uint32_t checksum(const Mark& mark) const;

  ByteWriter meta_;
  std::vector<Splice> splices_;
  std::vector<Mark> marks_;
  Mark open_;
  Position openPosition_;
  size_t openReferred_ = 0;
  uint16_t openParts_ = 0;
  uint16_t openFlags_ = 0;
  size_t size_ = 0;
};

struct EntryHeader {
  uint32_t length = 0;
  uint32_t checksum = 0;
  uint32_t incarnation = 0;
  uint64_t sequence = 0;
  Position position;
  Position durableMark;
  uint16_t flags = 0;
  uint16_t parts = 0;
};

/// One part of a decoded entry; views into the entry's octets.
struct EntryPart {
  PartType type = PartType::kState;
  uint8_t flags = 0;
  BytesView list;        ///< targets or state changes, for decodeTargets() / decodeState()
  BytesView batch;       ///< kMessages, kKept
  BatchPlace place;      ///< kMessages, kLink, kKept
  int64_t maxTimestamp = -1;  ///< kLink
};

struct EntryView {
  EntryHeader header;
  std::vector<EntryPart> parts;
};

/// The fixed header, if the magic, the length's form and the position agree: what resynchronising
/// looks for. Nothing is verified beyond that.
std::optional<EntryHeader> peekEntry(BytesView bytes, uint32_t incarnation, Position position);

/// Decodes and verifies the entry that takes up `bytes` exactly: structure and header checksum, not
/// the batches' own checksums. False when anything is off.
bool decodeEntry(BytesView bytes, uint32_t incarnation, Position position, EntryView& out);

/// False when malformed. Appends to `out`.
bool decodeTargets(BytesView list, std::vector<PlacedTarget>& out);
bool decodeState(BytesView list, std::vector<StateChange>& out);

/// An upper bound on the encoded size of one target, and of a state change beyond key and value.
inline constexpr size_t kTargetBound = 34;
inline constexpr size_t kStateChangeBound = 12;
/// The same for a part beyond its targets and batch.
inline constexpr size_t kPartBound = 32;

}  // namespace polylog::storage
