// Sparkplug 3.0, "Sparkplug Aware MQTT Server" (12.1.4): the latest birth certificates, which their
// publishers don't retain, are retained by the broker under names of their own
// [tck-id-conformance-mqtt-aware-store, -nbirth-mqtt-topic, -nbirth-mqtt-retain,
// -dbirth-mqtt-topic, -dbirth-mqtt-retain]. Pure functions.
#pragma once

#include <algorithm>

#include "core/base/bytes.h"
#include "core/model/record.h"

namespace polylog::router {

inline constexpr BytesView kSparkplugNamespace = "spBv1.0";
/// What stands before the address of a birth certificate.
inline constexpr BytesView kCertificates = "certificates/";

/// spBv1.0/GROUP/NBIRTH/NODE or spBv1.0/GROUP/DBIRTH/NODE/DEVICE (section 4.1).
inline bool isBirth(const Address& address) {
  if (address.topic != kSparkplugNamespace || !address.key) return false;
  const BytesView key = *address.key;
  const size_t group = key.find('/');
  if (group == BytesView::npos || group == 0) return false;
  const BytesView rest = key.substr(group + 1);
  const size_t verb = rest.find('/');
  if (verb == BytesView::npos) return false;
  const auto levels = std::ranges::count(rest.substr(verb), '/');
  return (rest.substr(0, verb) == "NBIRTH" && levels == 1) ||
         (rest.substr(0, verb) == "DBIRTH" && levels == 2);
}

}  // namespace polylog::router
