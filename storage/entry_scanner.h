// Walks the entries of a segment's file in order, past damage. For recovery, footer rebuilding,
// scanRouted() and inspection. One thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "storage/entry.h"
#include "storage/file.h"
#include "storage/segment.h"

namespace polylog::storage {

class EntryScanner {
 public:
  /// Entries in [from, to); `from` need not be the beginning of one if `seek` is set.
  EntryScanner(const File& file, const SegmentInfo& segment, Position from, Position to,
               bool seek = false);

  enum class Step : uint8_t {
    kEntry,
    kDamage,  ///< no valid entry in [position(), next())
    kEnd,
  };
  /// Advances. kIo.
  Result<Step> step();

  /// Good until the next step().
  const EntryView& entry() const { return entry_; }
  BytesView entryBytes() const { return entryBytes_; }
  Position position() const { return position_; }
  Position next() const { return next_; }

 private:
  /// The octets [at, at + length) of the file, as many as there are below to_.
  Result<BytesView> window(Position at, size_t length);
  Result<bool> tryEntry(Position at);
  Result<Position> resynchronise(Position from);

  const File& file_;
  const SegmentInfo segment_;
  const Position to_;
  bool seek_;
  Position position_;
  Position next_;
  EntryView entry_;
  BytesView entryBytes_;
  std::string buffer_;
  Position bufferFrom_;
};

/// True when every batch of the entry passes its own checksum.
bool batchesIntact(const EntryView& entry);

struct JournalEnd {
  Position end;
  uint64_t nextSequence = 0;
};
/// Where the entries of the active segment, of which there are octets up to `to`, end: behind the last
/// one that may count. What is above is a torn tail, faults below are damage. kIo.
Result<JournalEnd> findJournalEnd(const File& file, const SegmentInfo& info, Position to);

}  // namespace polylog::storage
