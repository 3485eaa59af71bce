// How much of a journal's sealed segments is alive, as far as its own state changes tell: for
// inspection, without a store. Reads only. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "storage/file.h"
#include "storage/journal_reader.h"
#include "storage/partition_index.h"

namespace polylog::storage {

/// By segment: the index of every partition in it.
using IndexRuns =
    std::map<uint64_t, std::vector<std::pair<PartitionId, std::shared_ptr<const IndexRun>>>>;

/// Fills in `aliveBytes` of the report's sealed segments from their footers. `unsealed` has the
/// index of the others, whose links keep batches of earlier segments alive.
void addUpAlive(Directory& journal, const IndexRuns& unsealed, JournalReport& report);

}  // namespace polylog::storage
