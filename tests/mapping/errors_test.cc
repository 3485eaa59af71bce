#include "mapping/errors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace polylog::mapping {
namespace {

constexpr int kKinds = static_cast<int>(ErrorKind::kInternal) + 1;

/// The failure codes that MQTT 5 allows, packet by packet (sections 3.2.2.2, 3.4.2.1, 3.9.3,
/// 3.11.3, 3.14.2.1).
TEST(Errors, MqttCodesAreThoseOfTheirPackets) {
  const std::set<int> connack = {0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A,
                                 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F};
  const std::set<int> puback = {0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99};
  const std::set<int> suback = {0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2};
  const std::set<int> unsuback = {0x11, 0x80, 0x83, 0x87, 0x8F, 0x91};
  const std::set<int> disconnect = {0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E,
                                    0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
                                    0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2};
  ASSERT_EQ(mqttErrors().size(), static_cast<size_t>(kKinds));
  for (const MqttErrorRow& row : mqttErrors()) {
    const char* kind = describe(row.kind);
    EXPECT_TRUE(connack.contains(row.connack)) << kind;
    EXPECT_TRUE(row.connack311 >= 1 && row.connack311 <= 5) << kind;
    EXPECT_TRUE(puback.contains(row.puback)) << kind;
    EXPECT_TRUE(suback.contains(row.suback)) << kind;
    EXPECT_TRUE(unsuback.contains(row.unsuback)) << kind;
    EXPECT_TRUE(disconnect.contains(row.disconnect)) << kind;
  }
}

TEST(Errors, EveryKindIsFoundByItself) {
  for (int i = 0; i < kKinds; ++i) {
    auto kind = static_cast<ErrorKind>(i);
    EXPECT_EQ(mqttError(kind).kind, kind);
    EXPECT_EQ(kafkaErrors()[static_cast<size_t>(i)].kind, kind);
    EXPECT_EQ(amqpError(kind).kind, kind);
    for (KafkaArea area : {KafkaArea::kProduce, KafkaArea::kTopic, KafkaArea::kGroup,
                           KafkaArea::kCluster, KafkaArea::kTransaction}) {
      EXPECT_NE(kafkaError(kind, area), 0) << describe(kind);
    }
  }
}

TEST(Errors, WhatClientsActOn) {
  EXPECT_EQ(mqttError(ErrorKind::kUnauthorized).puback, 0x87);
  EXPECT_EQ(mqttError(ErrorKind::kUnauthorized).connack311, 5);
  EXPECT_EQ(mqttError(ErrorKind::kInvalid).puback, 0x90);
  EXPECT_EQ(mqttError(ErrorKind::kInvalid).suback, 0x8F);
  EXPECT_EQ(mqttError(ErrorKind::kNoSpace).puback, 0x97);
  EXPECT_EQ(mqttError(ErrorKind::kShutdown).disconnect, 0x8B);
  EXPECT_EQ(kafkaError(ErrorKind::kNotFound, KafkaArea::kTopic), 3);
  EXPECT_EQ(kafkaError(ErrorKind::kNotFound, KafkaArea::kGroup), 69);
  EXPECT_EQ(kafkaError(ErrorKind::kOutOfRange, KafkaArea::kTopic), 1);
  EXPECT_EQ(kafkaError(ErrorKind::kCorrupt, KafkaArea::kProduce), 2);
  EXPECT_EQ(kafkaError(ErrorKind::kTooLarge, KafkaArea::kProduce), 10);
  EXPECT_EQ(kafkaError(ErrorKind::kAlreadyExists, KafkaArea::kTopic), 36);
  EXPECT_EQ(kafkaError(ErrorKind::kOutOfOrderSequence, KafkaArea::kProduce), 45);
  EXPECT_EQ(kafkaError(ErrorKind::kProducerFenced, KafkaArea::kProduce), 47);
  EXPECT_EQ(kafkaError(ErrorKind::kProducerFenced, KafkaArea::kCluster), 90);
  EXPECT_EQ(kafkaError(ErrorKind::kUnknownMember, KafkaArea::kGroup), 25);
  EXPECT_EQ(kafkaError(ErrorKind::kMemberIdRequired, KafkaArea::kGroup), 79);
  EXPECT_EQ(kafkaError(ErrorKind::kIllegalGeneration, KafkaArea::kGroup), 22);
  EXPECT_EQ(kafkaError(ErrorKind::kRebalanceInProgress, KafkaArea::kGroup), 27);
  EXPECT_EQ(kafkaError(ErrorKind::kFencedInstance, KafkaArea::kGroup), 82);
  EXPECT_EQ(kafkaError(ErrorKind::kProducerFenced, KafkaArea::kTransaction), 90);
  EXPECT_EQ(kafkaError(ErrorKind::kUnknownProducer, KafkaArea::kTransaction), 49);
  EXPECT_EQ(kafkaError(ErrorKind::kInvalidTransaction, KafkaArea::kTransaction), 48);
  EXPECT_EQ(kafkaError(ErrorKind::kConcurrentTransaction, KafkaArea::kTransaction), 51);
  EXPECT_EQ(kafkaError(ErrorKind::kInternal, KafkaArea::kCluster), -1);
  EXPECT_EQ(amqpError(ErrorKind::kUnauthorized).code, 403);
  EXPECT_EQ(amqpError(ErrorKind::kNotFound).code, 404);
  EXPECT_EQ(amqpError(ErrorKind::kLocked).code, 405);
  EXPECT_EQ(amqpError(ErrorKind::kInUse).code, 406);
  EXPECT_EQ(amqpError(ErrorKind::kNotEmpty).code, 406);
  EXPECT_EQ(amqpError(ErrorKind::kUnsupported).code, 540);
  EXPECT_EQ(amqpError(ErrorKind::kShutdown).code, 320);
}

/// The specification says which codes close a channel and which the connection.
TEST(Errors, AmqpCodesAreSoftOrHardAsSpecified) {
  const std::set<int> soft = {311, 313, 403, 404, 405, 406};
  const std::set<int> hard = {320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541};
  ASSERT_EQ(amqpErrors().size(), static_cast<size_t>(kKinds));
  for (const AmqpErrorRow& row : amqpErrors()) {
    EXPECT_TRUE((row.hard ? hard : soft).contains(row.code)) << describe(row.kind);
  }
}

/// What passes by itself must reach a producer as a code its client tries again for.
TEST(Errors, PassingTroubleIsRetriableForProducers) {
  const std::set<int> retriable = {3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 56};
  for (ErrorKind kind : {ErrorKind::kIo, ErrorKind::kNoSpace, ErrorKind::kBusy, ErrorKind::kTimeout,
                         ErrorKind::kShutdown, ErrorKind::kConcurrentTransaction}) {
    EXPECT_TRUE(retriable.contains(kafkaError(kind, KafkaArea::kProduce))) << describe(kind);
  }
}

TEST(Errors, Mqtt311AcknowledgesOnlyWhatIsForbidden) {
  for (int i = 0; i < kKinds; ++i) {
    auto kind = static_cast<ErrorKind>(i);
    EXPECT_EQ(mqtt311PublishFailure(kind) == Mqtt311PublishFailure::kAcknowledgeAndDrop,
              kind == ErrorKind::kUnauthorized);
  }
}

}  // namespace
}  // namespace polylog::mapping
