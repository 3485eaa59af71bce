#include "codecs/mqtt/properties_mapping.h"

namespace polylog::mqtt {

void travelling(const Properties& properties, mapping::MqttProperties& out) {
  out.clear();
  for (const Property& item : properties.items()) {
    switch (item.id) {
      case PropertyId::kPayloadFormat: out.payloadFormat = static_cast<uint8_t>(item.number); break;
      case PropertyId::kMessageExpiry: out.messageExpirySeconds = item.number; break;
      case PropertyId::kContentType: out.contentType = item.text; break;
      case PropertyId::kResponseTopic: out.responseTopic = item.text; break;
      case PropertyId::kCorrelationData: out.correlationData = item.text; break;
      case PropertyId::kUserProperty: out.userProperties.emplace_back(item.text, item.value); break;
      default: break;  // between the two ends of one connection
    }
  }
}

void appendTravelling(const mapping::MqttProperties& travelling, Properties& out) {
  if (travelling.payloadFormat) out.add(PropertyId::kPayloadFormat, *travelling.payloadFormat);
  if (travelling.messageExpirySeconds) {
    out.add(PropertyId::kMessageExpiry, *travelling.messageExpirySeconds);
  }
  if (travelling.contentType) out.add(PropertyId::kContentType, *travelling.contentType);
  if (travelling.responseTopic) out.add(PropertyId::kResponseTopic, *travelling.responseTopic);
  if (travelling.correlationData) {
    out.add(PropertyId::kCorrelationData, *travelling.correlationData);
  }
  for (const auto& [name, value] : travelling.userProperties) {
    out.add(PropertyId::kUserProperty, name, value);
  }
}

bool payloadAsIndicated(const Properties& properties, BytesView payload) {
  return properties.number(PropertyId::kPayloadFormat).value_or(0) == 0 || mapping::isUtf8(payload);
}

}  // namespace polylog::mqtt
