// Wire properties to and from the ones that travel with a message (mapping/mqtt.h). Pure.
#pragma once

#include "codecs/mqtt/properties.h"
#include "mapping/mqtt.h"

namespace polylog::mqtt {

/// Takes over those of a PUBLISH's or will's properties that travel; `out` is overwritten.
void travelling(const Properties& properties, mapping::MqttProperties& out);
/// The reverse: appends.
void appendTravelling(const mapping::MqttProperties& travelling, Properties& out);

/// False for what its Payload Format Indicator says is UTF-8 and isn't (3.3.2.3.2).
bool payloadAsIndicated(const Properties& properties, BytesView payload);

}  // namespace polylog::mqtt
