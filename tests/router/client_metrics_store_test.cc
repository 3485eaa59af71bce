// Subscriptions of clients' metrics: there after a crash, changed one after the other, gone when
// nothing is set.
#include "router/client_metrics_store.h"

#include <gmock/gmock.h>

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class ClientMetricsStoreTest : public RouterFixture {
 protected:
  void SetUp() override { begin(2); }

  static PrincipalRef anybody() {
    return std::make_shared<const Principal>(Principal{{}, "c", "127.0.0.1:1", Protocol::kKafka});
  }
  void begin(size_t worker, const std::string& name, const std::string& key,
             const std::string& value, Result<>& result) {
    on(worker, [&] {
      router_->clientMetrics().alterSubscription(
          anybody(), name,
          [key, value](ClientMetricsSettings& settings) -> Result<> {
            if (value == "bad") return fail(ErrorKind::kInvalid, "bad");
            if (value.empty()) {
              settings.erase(key);
            } else {
              settings[key] += value;
            }
            return {};
          },
          [&result](Result<> r) { result = std::move(r); });
    });
  }
  Result<> alter(const std::string& name, const std::string& key, const std::string& value) {
    Result<> result = fail(ErrorKind::kInternal, "not called");
    begin(0, name, key, value, result);
    settle();
    return result;
  }
  using RouterFixture::begin;
  std::shared_ptr<const ClientMetricsSet> current() { return router_->clientMetrics().current(); }
};

TEST_F(ClientMetricsStoreTest, WhatIsSetIsThereAfterACrash) {
  uint64_t version = current()->version;
  ASSERT_TRUE(alter("s", "metrics", "a"));
  ASSERT_TRUE(alter("t", "metrics", "b"));
  EXPECT_EQ(current()->version, version + 2);
  crash();
  EXPECT_THAT(current()->subscriptions, SizeIs(2));
  EXPECT_EQ(current()->subscriptions.at("s").at("metrics"), "a");
  ASSERT_TRUE(alter("s", "metrics", ""));
  crash();
  EXPECT_THAT(current()->subscriptions, SizeIs(1));
}

TEST_F(ClientMetricsStoreTest, ChangesFromTwoWorkersAreMadeOneAfterTheOther) {
  Result<> first = fail(ErrorKind::kInternal, "not called");
  Result<> second = first;
  begin(0, "s", "metrics", "a", first);
  begin(1, "s", "metrics", "b", second);
  settle();
  EXPECT_TRUE(first && second);
  EXPECT_THAT(current()->subscriptions.at("s").at("metrics"), testing::AnyOf("ab", "ba"));
}

TEST_F(ClientMetricsStoreTest, ARefusedChangeChangesNothing) {
  EXPECT_EQ(alter("s", "metrics", "bad").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(alter("", "metrics", "a").error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(current()->subscriptions, IsEmpty());
  ASSERT_TRUE(alter("s", "metrics", "a")) << "the next one's turn has come";
}

TEST_F(ClientMetricsStoreTest, AFailedWriteChangesNothing) {
  Result<> result;
  begin(0, "s", "metrics", "a", result);
  run();
  failWrites();
  EXPECT_EQ(result.error().kind, ErrorKind::kIo);
  EXPECT_THAT(current()->subscriptions, IsEmpty());
}

TEST(ClientMetricsState, WhatCanNotBeReadIsSaid) {
  EXPECT_FALSE(decodeClientMetrics(""));
  EXPECT_FALSE(decodeClientMetrics(encodeClientMetrics({{"a", "b"}}) + "x"));
  EXPECT_EQ(*decodeClientMetrics(encodeClientMetrics({{"a", "b"}})),
            (ClientMetricsSettings{{"a", "b"}}));
}

}  // namespace
}  // namespace polylog::router
