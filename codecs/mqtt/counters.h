// What MQTT connections count beside what all listeners do. Any thread.
#pragma once

#include "core/base/metrics.h"

namespace polylog::mqtt {

struct Counters {
  Metric& packetsReceived =
      counter("polylog_mqtt_packets_received_total", "MQTT packets that clients sent");
  Metric& packetsSent = counter("polylog_mqtt_packets_sent_total", "MQTT packets sent to clients");
  Metric& connects =
      counter("polylog_mqtt_connects_total", "CONNECT packets that could be read, accepted or not");
  Metric& throttled = counter("polylog_mqtt_throttled_total",
                              "Times that a client was held up for sending too much");
};

inline const Counters& counters() {
  static const Counters all;
  return all;
}

}  // namespace polylog::mqtt
