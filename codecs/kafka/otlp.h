// What clients push: OpenTelemetry's MetricsData, version 1, in protobuf's wire format. Gauges and
// sums are read, which are all that Kafka's clients send (KIP-714); other kinds are passed over.
// Pure functions, any thread; the octets are untrusted.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"

namespace polylog::kafka {

struct MetricPoint {
  BytesView name;
  std::vector<std::pair<BytesView, std::string>> attributes;  ///< the resource's first
  double value = 0;
  bool delta = false;  ///< to be added to what there was
};

/// Looks at `most` points, and `most` metrics, and at nothing behind the last of them. The views
/// are of `octets`. kCorrupt where what is looked at is no MetricsData.
Result<std::vector<MetricPoint>> readMetrics(BytesView octets, size_t most);

}  // namespace polylog::kafka
