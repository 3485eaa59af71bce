#include "codecs/mqtt/registration.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "codecs/mqtt/limits.h"
#include "codecs/mqtt/session.h"

namespace polylog::mqtt {

MqttOptions withLimits(const Broker& broker, MqttOptions options) {
  const size_t largest = kMaxRemainingLength + 5;
  if (options.maxPacketBytes == 0) {
    const int64_t record = std::max<int64_t>(broker.maxRecordBytes(), 0);
    options.maxPacketBytes = static_cast<size_t>(record) + kPacketOverhead;
  }
  options.maxPacketBytes = std::min(options.maxPacketBytes, largest);
  options.receiveMaximum = std::max<uint16_t>(options.receiveMaximum, 1);
  options.maxInflight = std::clamp<uint16_t>(options.maxInflight, 1, kOwnPacketIds - 1);
  options.outboundTopicAliases = std::min(options.outboundTopicAliases, kMaxOutboundAliases);
  options.maxQos = std::min<uint8_t>(options.maxQos, 2);
  return options;
}

SessionFactory makeSessionFactory(Broker& broker, MqttOptions options) {
  auto shared = std::make_shared<const MqttOptions>(withLimits(broker, std::move(options)));
  return [&broker, shared](Transport& transport) -> std::unique_ptr<ProtocolSession> {
    return std::make_unique<Session>(transport, broker, shared);
  };
}

}  // namespace polylog::mqtt
