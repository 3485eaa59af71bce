// The four codecs of Kafka's batches, over zlib, snappy, lz4 and zstd. Decompression is bounded by
// its output, never by what the input claims. Thread-safe (no state).
#pragma once

#include <string>

#include "core/base/error.h"
#include "core/model/record_batch.h"

namespace polylog {

/// `body` compressed: gzip; snappy in the Java client's framing (xerial); lz4 frame; zstd frame.
std::string compress(Compression codec, BytesView body);

/// The reverse; both snappy framings (raw and xerial) are understood. kCorrupt when malformed,
/// kTooLarge when the output would pass `limit` octets, kUnsupported for an unknown codec.
Result<std::string> decompress(Compression codec, BytesView body, size_t limit);
/// `made`: for how many octets of output there was work, also if it came to nothing: about as many,
/// and no fewer.
Result<std::string> decompress(Compression codec, BytesView body, size_t limit, size_t& made);

}  // namespace polylog
