#include "core/model/topic.h"

namespace polylog {

const char* protocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kInternal: return "internal";
    case Protocol::kMqtt: return "mqtt";
    case Protocol::kKafka: return "kafka";
    case Protocol::kAmqp: return "amqp";
    case Protocol::kRocketMq: return "rocketmq";
  }
  return "unknown";
}

}  // namespace polylog
