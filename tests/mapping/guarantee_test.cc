#include "mapping/guarantee.h"

#include <gtest/gtest.h>

namespace polylog::mapping {
namespace {

using enum DeliveryGuarantee;

TEST(Guarantee, QosThereAndBack) {
  EXPECT_EQ(guaranteeFromQos(0), kAtMostOnce);
  EXPECT_EQ(guaranteeFromQos(1), kAtLeastOnce);
  EXPECT_EQ(guaranteeFromQos(2), kExactlyOnce);
  EXPECT_EQ(guaranteeFromQos(3), kExactlyOnce);
  for (uint8_t qos = 0; qos <= 2; ++qos) EXPECT_EQ(qosOf(guaranteeFromQos(qos)), qos);
  EXPECT_EQ(qosOf(kUnspecified), 1);
}

TEST(Guarantee, DeliveryIsTheLesserOfBoth) {
  for (uint8_t published = 0; published <= 2; ++published) {
    for (uint8_t subscribed = 0; subscribed <= 2; ++subscribed) {
      EXPECT_EQ(qosOf(deliveryGuarantee(guaranteeFromQos(published), guaranteeFromQos(subscribed))),
                std::min(published, subscribed));
    }
  }
}

TEST(Guarantee, OtherProtocolsRecordsAreDeliveredAtLeastOnce) {
  EXPECT_EQ(deliveryGuarantee(kUnspecified, kAtMostOnce), kAtMostOnce);
  EXPECT_EQ(deliveryGuarantee(kUnspecified, kAtLeastOnce), kAtLeastOnce);
  EXPECT_EQ(deliveryGuarantee(kUnspecified, kExactlyOnce), kAtLeastOnce);
}

}  // namespace
}  // namespace polylog::mapping
