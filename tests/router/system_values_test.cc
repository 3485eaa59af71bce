#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class SystemValuesTest : public RouterFixture {};

TEST_F(SystemValuesTest, LatestIsRetainedAndNobodyElsePublishes) {
  begin();
  auto say = [&](std::string name, std::string value) {
    on(0, [&] { router_->publishSystem({{std::move(name), std::move(value)}}); });
    settle();
  };
  say("broker/uptime", "1");
  TestClient& client = connect("c", 100);
  subscribe(client, "$SYS/#", kQos1);
  TestClient& all = connect("all");
  subscribe(all, "#", kQos1);
  auto first = take(client);
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(addressText(first[0]), "$SYS/broker/uptime");
  EXPECT_TRUE(first[0].retain);
  EXPECT_EQ(first[0].guarantee, kQos0);
  say("broker/uptime", "2");
  say("broker/uptime", "2");
  auto second = take(client);
  ASSERT_THAT(second, SizeIs(1));
  EXPECT_EQ(textOf(second[0]), "2");
  EXPECT_FALSE(second[0].retain);
  EXPECT_THAT(take(all), IsEmpty());
  auto told = publishOne("$SYS/x", "mine", kQos1);
  settle();
  ASSERT_TRUE(told->done);
  EXPECT_TRUE(told->results[0].error);
  EXPECT_EQ(topic("$SYS"), nullptr);
  crash();
  TestClient& later = connect("c", 100);
  EXPECT_THAT(take(later), IsEmpty());
}

TEST_F(SystemValuesTest, ComeToWhoMayReadThemWhereRulesDenyTheRest) {
  RouterOptions options;
  options.access.denyByDefault = true;
  begin(1, options);
  AccessRule rule;
  rule.user = "*";
  rule.name = "$SYS";
  rule.operation = Operation::kRead;
  Principal trusted;
  trusted.trusted = true;
  on(0, [&] {
    router_->access().addRules(std::make_shared<const Principal>(trusted), {rule},
                               [](const auto& results) { EXPECT_TRUE(results); });
  });
  settle();
  TestClient& client = connect("c");
  subscribe(client, "$SYS/#", kQos0);
  on(0, [&] { router_->publishSystem({{"broker/uptime", "1"}}); });
  settle();
  EXPECT_THAT(take(client), SizeIs(1));
}

}  // namespace
}  // namespace polylog::router
