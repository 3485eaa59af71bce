// Quotas: which one counts for whom, what may be set, and that it is there after a crash.
#include "router/quota_store.h"

#include <gmock/gmock.h>

#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

TEST(QuotaSet, TheMostSpecificQuotaCountsAndSaysWhoSharesIt) {
  QuotaSet set;
  auto put = [&](std::optional<std::string> user, std::optional<std::string> client, double v) {
    set.quotas[{std::move(user), std::move(client)}][QuotaKind::kProduce] = v;
  };
  auto limit = [&](const std::string& user, const std::string& client) {
    auto match = set.find(QuotaKind::kProduce, user, client);
    return match ? match->limit : -1;
  };
  EXPECT_EQ(limit("u", "c"), -1);
  put(std::nullopt, "", 8);
  EXPECT_EQ(limit("u", "c"), 8);
  put(std::nullopt, "c", 7);
  EXPECT_EQ(limit("u", "c"), 7);
  EXPECT_EQ(limit("u", "d"), 8);
  put("", std::nullopt, 6);
  EXPECT_EQ(limit("u", "c"), 6) << "any user's goes before a client id's";
  put("", "", 5);
  EXPECT_EQ(limit("u", "c"), 5);
  put("", "c", 4);
  EXPECT_EQ(limit("u", "c"), 4);
  put("u", std::nullopt, 3);
  EXPECT_EQ(limit("u", "c"), 3);
  EXPECT_EQ(set.find(QuotaKind::kProduce, "u", "c")->shared, (QuotaEntity{"u", std::nullopt}));
  put("u", "", 2);
  EXPECT_EQ(limit("u", "c"), 2);
  EXPECT_EQ(set.find(QuotaKind::kProduce, "u", "c")->shared, (QuotaEntity{"u", "c"}));
  put("u", "c", 1);
  EXPECT_EQ(limit("u", "c"), 1);
  EXPECT_EQ(limit("u", "d"), 2);
  EXPECT_FALSE(set.find(QuotaKind::kFetch, "u", "c"));
}

class QuotaStoreTest : public RouterFixture {
 protected:
  void SetUp() override { begin(2); }

  static PrincipalRef anybody() {
    return std::make_shared<const Principal>(Principal{{}, "c", "127.0.0.1:1", Protocol::kKafka});
  }
  Result<> alter(std::vector<QuotaChange> changes) {
    Result<> result = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->quotas().alterQuotas(anybody(), std::move(changes),
                                    [&](Result<> r) { result = std::move(r); });
    });
    settle();
    return result;
  }
  QuotaSet current() { return *router_->quotas().current(); }

  const QuotaEntity kUser{"u", std::nullopt};
};

TEST_F(QuotaStoreTest, WhatIsSetIsThereAfterACrash) {
  ASSERT_TRUE(alter({{kUser, QuotaKind::kProduce, 1024}, {kUser, QuotaKind::kFetch, 2048}}));
  ASSERT_TRUE(alter({{{std::nullopt, ""}, QuotaKind::kFetch, 5}}));
  crash();
  EXPECT_THAT(current().quotas, SizeIs(2));
  EXPECT_EQ(current().quotas.at(kUser).at(QuotaKind::kFetch), 2048);
  ASSERT_TRUE(alter({{kUser, QuotaKind::kFetch, std::nullopt}}));
  EXPECT_THAT(current().quotas.at(kUser), SizeIs(1));
  ASSERT_TRUE(alter({{kUser, QuotaKind::kProduce, std::nullopt},
                     {{std::nullopt, ""}, QuotaKind::kFetch, std::nullopt}}));
  EXPECT_THAT(current().quotas, IsEmpty());
  crash();
  EXPECT_THAT(current().quotas, IsEmpty());
}

TEST_F(QuotaStoreTest, WhatMakesNoSenseIsRefusedAndAFailedWriteChangesNothing) {
  EXPECT_EQ(alter({{{}, QuotaKind::kProduce, 1}}).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(alter({{kUser, QuotaKind::kProduce, 0}}).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(alter({{kUser, QuotaKind::kProduce, 1.0 / 0.0}}).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(alter({{{std::string(256, 'x'), std::nullopt}, QuotaKind::kProduce, 1}}).error().kind,
            ErrorKind::kInvalid);
  Result<> result;
  on(0, [&] {
    router_->quotas().alterQuotas(anybody(), {{kUser, QuotaKind::kProduce, 1}},
                                  [&](Result<> r) { result = std::move(r); });
  });
  run();
  failWrites();
  EXPECT_EQ(result.error().kind, ErrorKind::kIo);
  EXPECT_THAT(current().quotas, IsEmpty());
}

TEST_F(QuotaStoreTest, AFullStoreTakesChangesAndNothingNew) {
  std::vector<QuotaChange> all;
  for (int i = 0; i < 10'000; ++i) {
    all.push_back({{std::to_string(i), std::nullopt}, QuotaKind::kProduce, 1});
  }
  ASSERT_TRUE(alter(std::move(all)));
  const QuotaEntity one{"1", std::nullopt};
  EXPECT_EQ(alter({{kUser, QuotaKind::kProduce, 1}}).error().kind, ErrorKind::kBusy);
  EXPECT_TRUE(alter({{one, QuotaKind::kProduce, 2}, {one, QuotaKind::kFetch, 2}}));
  EXPECT_TRUE(alter({{kUser, QuotaKind::kProduce, std::nullopt}})) << "takes no place";
  EXPECT_TRUE(
      alter({{one, QuotaKind::kProduce, std::nullopt}, {one, QuotaKind::kFetch, std::nullopt}}));
  EXPECT_TRUE(alter({{kUser, QuotaKind::kProduce, 1}}));
}

TEST_F(QuotaStoreTest, ChangesTakeTurnsAndAThousandWaitAtMost) {
  std::vector<Result<>> results(1002, fail(ErrorKind::kInternal, "not called"));
  auto begin = [&](size_t worker, size_t i, double value) {
    on(worker, [&] {
      router_->quotas().alterQuotas(anybody(), {{kUser, QuotaKind::kProduce, value}},
                                    [&results, i](Result<> r) { results[i] = std::move(r); });
    });
  };
  for (size_t i = 0; i <= 1000; ++i) begin(i % 2, i, static_cast<double>(i + 1));
  begin(0, 1001, 0);  // makes no sense: refused for that, and takes no turn
  run();
  EXPECT_EQ(results[1000].error().kind, ErrorKind::kBusy);
  EXPECT_EQ(results[1001].error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(results[0].error().kind, ErrorKind::kInternal) << "not durable yet";
  settle();
  for (size_t i = 0; i < 1000; ++i) EXPECT_TRUE(results[i]) << i;
  EXPECT_EQ(current().quotas.at(kUser).at(QuotaKind::kProduce), 1000);
  crash();
  EXPECT_EQ(current().quotas.at(kUser).at(QuotaKind::kProduce), 1000);
}

TEST(QuotaState, WhatCanNotBeReadIsSaid) {
  EXPECT_FALSE(decodeQuota("", encodeQuota(1)));
  EXPECT_FALSE(
      decodeQuota(quotaKey({"u", std::nullopt}, static_cast<QuotaKind>(5)), encodeQuota(1)));
  EXPECT_FALSE(decodeQuota(quotaKey({"u", ""}, QuotaKind::kFetch), "x"));
  auto back = decodeQuota(quotaKey({"u", ""}, QuotaKind::kFetch), encodeQuota(2.5));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->entity, (QuotaEntity{"u", ""}));
  EXPECT_EQ(back->value, 2.5);
  const QuotaEntity address{std::nullopt, std::nullopt, "10.0.0.1"};
  back = decodeQuota(quotaKey(address, QuotaKind::kConnection), encodeQuota(3));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->entity, address);
  EXPECT_FALSE(decodeQuota(quotaKey(address, QuotaKind::kFetch) + "x", encodeQuota(3)));
}

TEST_F(QuotaStoreTest, QuotasOfConnectionsAreForAddressesAlone) {
  const QuotaEntity address{std::nullopt, std::nullopt, "10.0.0.1"};
  EXPECT_TRUE(alter({{address, QuotaKind::kConnection, 3}}));
  EXPECT_FALSE(alter({{address, QuotaKind::kFetch, 3}}));
  EXPECT_FALSE(alter({{kUser, QuotaKind::kConnection, 3}}));
  EXPECT_FALSE(alter({{{"u", std::nullopt, ""}, QuotaKind::kConnection, 3}}));
  auto set = router_->quotas().current();
  EXPECT_EQ(set->findAddress("10.0.0.1")->limit, 3);
  EXPECT_FALSE(set->findAddress("10.0.0.2"));
}

}  // namespace
}  // namespace polylog::router
