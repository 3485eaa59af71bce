// The APIs that are served: one list, from which dispatching and the answer to ApiVersions are
// derived.
#pragma once

#include <cstdint>
#include <span>

#include "codecs/kafka/call.h"

namespace polylog {
class Metric;
}

namespace polylog::kafka {

struct Api {
  int16_t key;
  const char* name;
  int16_t minVersion;  ///< what is advertised, and accepted
  int16_t maxVersion;
  int16_t flexibleFrom;
  /// Decodes the body and handles it. False if the body is malformed.
  bool (*handle)(const CallRef& call);
  const char* note;  ///< for docs/kafka.md: what a client should know, and what Kafka does otherwise

  bool flexible(int16_t version) const { return version >= flexibleFrom; }
  bool supports(int16_t version) const { return version >= minVersion && version <= maxVersion; }
};

/// In order of keys.
std::span<const Api> apis();
/// Null if there is none.
const Api* findApi(int16_t key);
/// polylog_kafka_requests_total of that API.
Metric& requestsOf(const Api& api);

}  // namespace polylog::kafka
