// What a partition knows of transactions: those that are open, which hold the last stable offset
// down, and those that were aborted, whose records readers of committed ones pass over. Derived
// from batches as they are sequenced: a transactional one opens its producer's transaction, a
// marker ends it once that is visible. Guarded by the store's lock.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/strong.h"
#include "core/model/record_batch.h"
#include "core/model/transaction.h"

namespace polylog::storage {

class TransactionTable {
 public:
  /// One that is open, or whose marker isn't visible yet.
  struct Open {
    ProducerId producer;
    int16_t epoch = 0;
    Offset first;
    Position at;  ///< of the first batch
    std::optional<EndMarker> end;
    Offset marker;      ///< with `end`
    Position markerAt;  ///< with `end`
  };

  /// A transactional batch: opens a transaction unless one of the producer's is open.
  void began(ProducerId producer, int16_t epoch, Offset first, Position at);
  /// A marker: ends the producer's open transaction, if there is one.
  void ended(ProducerId producer, EndMarker end, Offset marker, Position at);
  /// What has its marker below is over. `remember`: firstCommitted() is to know of those committed.
  void settle(Offset highWatermark, bool remember = false);
  /// Where the first remembered transaction begins that was committed at or above `routed`; forgets
  /// those below. Of this run only.
  std::optional<Offset> firstCommitted(Position routed);
  /// Takes back what was sequenced at or above `end`.
  void rewind(Offset end);
  /// Drops what readers from `logStart` on need not know.
  void forget(Offset logStart);

  /// Where the first transaction that isn't over begins; nullopt if there is none.
  std::optional<Offset> firstOpen() const;
  /// The producer's open transaction, which has no marker.
  const Open* find(ProducerId producer) const;
  const std::vector<Open>& open() const { return open_; }
  /// Those that touch [from, to), by their first offset.
  std::vector<AbortedTransaction> aborted(Offset from, Offset to) const;
  bool empty() const { return open_.empty() && aborted_.empty(); }

  /// What is durable: nothing at or above `durable`.
  void encode(ByteWriter& out, Position durable) const;
  bool decode(ByteReader& in);

 private:
  void abort(const Open& one);

  std::vector<Open> open_;                   ///< ascending by `first`
  std::vector<AbortedTransaction> aborted_;  ///< ascending by `last`
  /// First offset and marker's position.
  std::vector<std::pair<Offset, Position>> committed_;
  Position through_;  ///< what is below has been taken account of: replay meets it again
};

}  // namespace polylog::storage
