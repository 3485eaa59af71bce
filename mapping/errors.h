// ErrorKind -> what each protocol says for it. Tables; pure, any thread.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/error.h"

namespace polylog::mapping {

/// MQTT 5 reason codes (and 3.1.1's answers) for one kind of error, by the packet that carries
/// them. Only codes that the specification lists for that packet.
struct MqttErrorRow {
  ErrorKind kind;
  uint8_t connack;     ///< MQTT 5, 3.2.2.2
  uint8_t connack311;  ///< 3.1.1, 3.2.2.3: 1 to 5
  uint8_t puback;      ///< PUBACK and PUBREC, 3.4.2.1
  uint8_t suback;      ///< SUBACK, 3.9.3 (3.1.1 has only 0x80)
  uint8_t unsuback;    ///< UNSUBACK, 3.11.3
  uint8_t disconnect;  ///< DISCONNECT, 3.14.2.1
};
const MqttErrorRow& mqttError(ErrorKind kind);
std::span<const MqttErrorRow> mqttErrors();

/// MQTT 3.1.1's SUBACK knows one failure.
inline constexpr uint8_t kMqtt311SubackFailure = 0x80;

/// What to do about a QoS 1 or 2 publish that failed, where the protocol version (3.1.1) has no
/// reason code to say so: [MQTT-3.3.5-2] leaves a positive acknowledgement or closing.
enum class Mqtt311PublishFailure : uint8_t {
  kAcknowledgeAndDrop,  ///< it will be refused however often it is sent
  kClose,               ///< no acknowledgement: the client sends it again when it is back
};
Mqtt311PublishFailure mqtt311PublishFailure(ErrorKind kind);

/// What a Kafka request was about; some kinds have an error code of their own there.
enum class KafkaArea : uint8_t {
  kProduce,
  kTopic,  ///< everything else about topics and partitions
  kGroup,
  kCluster,  ///< producers' ids and the rest
  kTransaction,
};

struct KafkaErrorRow {
  ErrorKind kind;
  int16_t produce;
  int16_t topic;
  int16_t group;
  int16_t cluster;
  int16_t transaction;
};
/// Kafka's error code (org.apache.kafka.common.protocol.Errors); never 0.
int16_t kafkaError(ErrorKind kind, KafkaArea area);
std::span<const KafkaErrorRow> kafkaErrors();

/// AMQP 0-9-1's reply code (section 1.2). Where a method was refused for another reason than these
/// (a second exclusive consumer is 403 in RabbitMQ), the codec knows better.
struct AmqpErrorRow {
  ErrorKind kind;
  uint16_t code;
  bool hard;  ///< closes the connection; otherwise the channel
};
const AmqpErrorRow& amqpError(ErrorKind kind);
std::span<const AmqpErrorRow> amqpErrors();

}  // namespace polylog::mapping
