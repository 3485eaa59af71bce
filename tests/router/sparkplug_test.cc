#include "router/sparkplug.h"

#include <gtest/gtest.h>

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

TEST(Sparkplug, WhatIsABirth) {
  auto birth = [](std::string_view text) { return isBirth(addressOf(text)); };
  EXPECT_TRUE(birth("spBv1.0/G/NBIRTH/N"));
  EXPECT_TRUE(birth("spBv1.0/G/DBIRTH/N/D"));
  for (const char* text : {"spBv1.0", "spBv1.0/G", "spBv1.0/G/NBIRTH", "spBv1.0/G/NBIRTH/N/D",
                           "spBv1.0/G/DBIRTH/N", "spBv1.0/G/DBIRTH/N/D/x", "spBv1.0/G/NDEATH/N",
                           "spBv1.0//NBIRTH/N", "spAv1.0/G/NBIRTH/N", "x/spBv1.0/G/NBIRTH/N"}) {
    EXPECT_FALSE(birth(text)) << text;
  }
}

class CertificateTest : public RouterFixture {};

TEST_F(CertificateTest, TheLatestIsKeptOverACrashAndToldToWhoIsThere) {
  begin();
  TestClient& host = connect("host");
  subscribe(host, "$sparkplug/certificates/#", kQos1);
  publish({{"spBv1.0/G/NBIRTH/N", "old", kQos1}, {"spBv1.0/G/NDATA/N", "data", kQos1}});
  settle();
  publish({{"spBv1.0/G/NBIRTH/N", "new", kQos0}});
  settle();
  auto seen = take(host);
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_EQ(addressText(seen[1]), "$sparkplug/certificates/spBv1.0/G/NBIRTH/N");
  EXPECT_EQ(textOf(seen[1]), "new");
  EXPECT_THAT(stored("spBv1.0"), ElementsAre("old", "data", "new")) << "as they were published";
  crash();
  TestClient& late = connect("late");
  subscribe(late, "$sparkplug/certificates/spBv1.0/G/+/N", kQos1);
  seen = take(late);
  ASSERT_THAT(seen, SizeIs(1));
  EXPECT_EQ(textOf(seen[0]), "new");
  EXPECT_TRUE(seen[0].retain);
  TestClient& other = connect("other");
  subscribe(other, "#", kQos1);
  EXPECT_THAT(take(other), IsEmpty());
}

TEST_F(CertificateTest, ABirthWithoutAPayloadTakesItAway) {
  begin();
  publishOne("spBv1.0/G/NBIRTH/N", "x", kQos1);
  publishOne("spBv1.0/G/NBIRTH/M", "y", kQos1);
  settle();
  publishOne("spBv1.0/G/NBIRTH/N", "", kQos1);
  settle();
  for (const char* id : {"late", "afterCrash"}) {
    TestClient& late = connect(id);
    subscribe(late, "$sparkplug/certificates/#", kQos1);
    auto seen = take(late);
    ASSERT_THAT(seen, SizeIs(1));
    EXPECT_EQ(textOf(seen[0]), "y");
    crash();
  }
}

TEST_F(CertificateTest, NobodyElsePublishesThere) {
  begin();
  auto told = publishOne("$sparkplug/certificates/spBv1.0/G/NBIRTH/N", "forged", kQos1);
  settle();
  ASSERT_TRUE(told->results[0].error);
  EXPECT_EQ(told->results[0].error->kind, ErrorKind::kInvalid);
}

TEST_F(CertificateTest, AnEphemeralBirthAndOneThatIsSwitchedOffAreNotKept) {
  RouterOptions options;
  options.sparkplug = false;
  begin(1, options);
  publishOne("spBv1.0/G/NBIRTH/N", "x", kQos1);
  settle();
  TestClient& late = connect("late");
  subscribe(late, "$sparkplug/#", kQos1);
  EXPECT_THAT(take(late), IsEmpty());
  options_.sparkplug = true;
  crash();
  publish({{"spBv1.0/G/NBIRTH/N", "x", kQos1, false, std::nullopt, true}});
  settle();
  TestClient& again = connect("again");
  subscribe(again, "$sparkplug/#", kQos1);
  EXPECT_THAT(take(again), IsEmpty());
}

}  // namespace
}  // namespace polylog::router
