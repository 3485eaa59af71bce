// Subscriptions and the retained records that come with them: in bounded pieces, current, and each
// once.
#include <algorithm>

#include "router/address_tags.h"
#include "router/retained_store.h"
#include "router/subscription_trie.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

using storage::StateTable;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAreArray;

class SubscribingTest : public RouterFixture {
 protected:
  void retain(const std::vector<std::string>& addresses, DeliveryGuarantee guarantee = kQos1,
              const std::string& value = "v") {
    std::vector<Outgoing> many;
    for (const std::string& address : addresses) many.push_back({address, value, guarantee, true});
    publish(many);
    settle();
  }
  static std::vector<std::string> numbered(const std::string& before, int count) {
    std::vector<std::string> addresses;
    for (int i = 0; i < count; ++i) addresses.push_back(before + std::to_string(i));
    return addresses;
  }
  /// Takes `atOnce` at a time until there is nothing more.
  std::vector<std::string> takeAll(TestClient& client, size_t atOnce) {
    std::vector<std::string> addresses;
    while (true) {
      auto deliveries = take(client, atOnce);
      for (const Delivery& delivery : deliveries) {
        addresses.push_back(addressText(delivery));
        if (delivery.id >= 0) acknowledge(client, delivery.id);
      }
      settle();
      if (deliveries.empty()) return addresses;
    }
  }
  SessionInfo info(const std::string& id) {
    SessionInfo found;
    on(0, [&] {
      router_->listSessions(principal("admin"), [&](std::vector<SessionInfo> all) {
        for (auto& one : all) {
          if (one.clientId == id) found = std::move(one);
        }
      });
    });
    settle();
    return found;
  }
  /// Tags in the state of a request.
  static size_t tagsIn(const storage::AppendRequest& request) {
    size_t count = 0;
    for (const auto& change : request.state) {
      if (change.table == StateTable::kMeta && change.key.starts_with("tag/")) ++count;
    }
    return count;
  }
};

TEST_F(SubscribingTest, AFilterNamedTwiceCountsOnce) {
  begin();
  retain({"t/1", "t/2"});
  for (uint32_t expiry : {0U, 60U}) {
    TestClient& client = connect("c" + std::to_string(expiry), expiry);
    auto results = subscribe(client, {subscription("t/#", kQos0, 1), subscription("u", kQos2),
                                      subscription("t/#", kQos1, 2)});
    ASSERT_THAT(results, SizeIs(3));
    EXPECT_EQ(results[0].value(), kQos0);
    EXPECT_EQ(results[1].value(), kQos2);
    EXPECT_EQ(results[2].value(), kQos1);
    auto deliveries = take(client);
    ASSERT_THAT(deliveries, SizeIs(2));
    EXPECT_EQ(deliveries[0].guarantee, kQos1) << "the last one counts";
    EXPECT_THAT(deliveries[0].subscriptionIds, ElementsAre(2U));
    EXPECT_THAT(info(client.id).subscriptions, SizeIs(2));
  }
}

TEST_F(SubscribingTest, RetainedRecordsThatWaitInMemoryAreBounded) {
  RouterOptions options;
  options.liveRecords = 10;
  options.liveBytes = 1 << 20;
  begin(1, options);
  std::vector<std::string> addresses = numbered("t/", 60);
  retain(addresses, kQos1, std::string(1000, 'v'));
  TestClient& client = connect("c");
  subscribe(client, {subscription("t/#", kQos1)});
  EXPECT_LE(info("c").waiting, 5) << "half of what may wait";
  // What comes meanwhile has its place beside them.
  publishOne("t/live", "x", kQos1);
  settle();
  addresses.push_back("t/live");
  EXPECT_THAT(takeAll(client, 3), UnorderedElementsAreArray(addresses));
  EXPECT_EQ(info("c").dropped, 0);
}

TEST_F(SubscribingTest, RetainedRecordsThatWaitInMemoryAreBoundedByOctets) {
  RouterOptions options;
  options.liveBytes = 100'000;
  begin(1, options);
  std::vector<std::string> addresses = numbered("t/", 40);
  retain(addresses, kQos0, std::string(20'000, 'v'));
  for (uint32_t expiry : {0U, 60U}) {
    TestClient& client = connect("c" + std::to_string(expiry), expiry);
    subscribe(client, {subscription("t/#", kQos1)});
    auto first = take(client);
    EXPECT_LE(first.size(), 3U);
    settle();
    EXPECT_EQ(first.size() + takeAll(client, 100).size(), addresses.size());
    EXPECT_EQ(info(client.id).dropped, 0);
  }
}

TEST_F(SubscribingTest, RetainedRecordsGoToAnInboxInBoundedEntries) {
  begin();
  std::vector<std::string> addresses = numbered("t/", 2500);
  retain(addresses);
  subscribe(connect("before", 60), "t/0", kQos1);
  TestClient& client = connect("c", 60);
  bool granted = false;
  on(0, [&] {
    client.session->subscribe({subscription("#", kQos1)}, [&](auto) { granted = true; });
  });
  run();
  size_t entries = 0;
  for (; store_->pending() > 0; ++entries) {
    EXPECT_EQ(store_->pending(), 1U) << "one on its way at a time";
    EXPECT_LE(store_->last().messages.size(), 1000U);
    store_->commit();
    run();
    EXPECT_TRUE(granted) << "the others follow";
  }
  EXPECT_GE(entries, 3U);
  EXPECT_THAT(takeAll(client, 1000), UnorderedElementsAreArray(addresses));
}

TEST_F(SubscribingTest, ThePiecesGoOnWithoutTheClient) {
  begin(2);
  retain(numbered("t/", 2500));
  TestClient& client = connect("c", 60, 0);
  on(0, [&] { client.session->subscribe({subscription("t/#", kQos1)}, [](auto) {}); });
  run();
  store_->commit();
  run();
  on(0, [&] { client.session->detach(); });
  client.session = nullptr;
  TestClient& back = connect("c", 60, 1);
  EXPECT_THAT(takeAll(back, 1000), SizeIs(2500));
}

TEST_F(SubscribingTest, MoreRetainedRecordsThanAnInboxHoldsAreLeftOut) {
  RouterOptions options;
  options.inboxRecords = 100;
  begin(1, options);
  retain(numbered("t/", 250));
  TestClient& client = connect("c", 60);
  subscribe(client, "t/#", kQos1);
  EXPECT_EQ(info("c").waiting, 100);
  EXPECT_GT(info("c").dropped, 0);
  EXPECT_THAT(takeAll(client, 1000), SizeIs(100));
}

TEST_F(SubscribingTest, BothKindsComeToASessionWithAnInbox) {
  begin();
  std::vector<std::string> all;
  for (int i = 0; i < 1500; ++i) {
    all.push_back("t/" + std::to_string(i));
    publishOne(all.back(), "v", i % 3 == 0 ? kQos0 : kQos1, true);
  }
  settle();
  TestClient& client = connect("c", 60);
  subscribe(client, "t/#", kQos1);
  EXPECT_THAT(takeAll(client, 100), UnorderedElementsAreArray(all));
}

TEST_F(SubscribingTest, SubscribedAgainBeginsAnew) {
  RouterOptions options;
  options.liveRecords = 10;
  begin(1, options);
  retain(numbered("t/", 30));
  TestClient& client = connect("c");
  subscribe(client, "t/#", kQos1);
  EXPECT_THAT(take(client, 2), SizeIs(2));
  subscribe(client, "t/#", kQos1);
  auto rest = takeAll(client, 4);
  EXPECT_GE(rest.size(), 30U);
  EXPECT_LT(rest.size(), 45U) << "the first walk was given up";
}

TEST_F(SubscribingTest, ARetainedRecordIsNotOlderThanWhatCameLive) {
  begin();
  retain({"t"}, kQos0, "old");
  TestClient& client = connect("c", 60);
  on(0, [&] { client.session->subscribe({subscription("t", kQos0)}, [](auto) {}); });
  publishOne("t", "new", kQos0, true);
  settle();
  EXPECT_THAT(takeTexts(client), ElementsAre("new", "new"));
}

TEST_F(SubscribingTest, EachEntryJournalsTheTagsThatItUses) {
  begin();
  std::vector<std::string> addresses = numbered("t", 1500);
  for (const std::string& address : addresses) publishOne(address, "v", kQos1, true);
  settle();
  TestClient& client = connect("c", 60);
  on(0, [&] { client.session->subscribe({subscription("#", kQos1)}, [](auto) {}); });
  run();
  EXPECT_EQ(tagsIn(store_->last()), store_->last().messages.size());
  store_->commit();
  run();
  EXPECT_EQ(tagsIn(store_->last()), store_->last().messages.size());
  failWrites();
  // Tags of the piece that failed are known, but in no journal.
  EXPECT_THAT(takeAll(client, 1000), SizeIs(1000));
  for (const std::string& address : addresses) publishOne(address, "live", kQos1);
  settle();
  crash();
  EXPECT_THAT(takeAll(connect("c", 60), 1000), UnorderedElementsAreArray(addresses));
}

TEST_F(SubscribingTest, ManyFiltersFindAllThatMatchesEach) {
  begin();
  std::vector<std::string> addresses;
  for (std::string a : {"a", "b", "_h"}) {
    for (std::string b : {"", "/x", "/y", "/x y", "/"}) {
      for (std::string c : {"", "/1", "/2", "/c"}) {
        for (std::string d : {"", "/c", "/d/c"}) addresses.push_back(a + b + c + d);
      }
    }
  }
  std::string deep = "a";
  for (int i = 0; i < 40; ++i) deep += "/n";
  for (const char* end : {"", "/c", "/n/c", "/o"}) addresses.push_back(deep + end);
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  retain(addresses);
  RouterOptions options;
  options.liveRecords = 4;  // two at a time
  crash();
  end();
  begin(1, options);
  int number = 0;
  for (std::string filter : {"#", "+", "a/#", "+/x", "+/+/1", "a/+/c/#", "a/x/#", "a/x/+", "a/#/c",
                             "#/c", "_h/#", "a//#", "b/x y/c", "a/+/+/+"}) {
    TestClient& client = connect("c" + std::to_string(++number));
    subscribe(client, filter, kQos1);
    std::vector<std::string> expected;
    for (const std::string& address : addresses) {
      std::vector<BytesView> levels;
      levelsOf(addressOf(address), levels);
      TopicFilter parsed = filterOf(filter);
      bool hidden = hiddenFromWildcards(address) &&
                    parsed.levels.front().kind != FilterLevel::Kind::kLiteral;
      if (!hidden && levelsMatch(parsed.levels, 0, levels)) expected.push_back(address);
    }
    EXPECT_FALSE(expected.empty()) << filter;
    EXPECT_THAT(takeAll(client, 3), UnorderedElementsAreArray(expected)) << filter;
    detach(client);
  }
}

// ---------------------------------------------------------------- address tags

TEST_F(SubscribingTest, ATagIsMadeOnceHoweverOftenItIsUsedBeforeItIsDurable) {
  begin();
  TestClient& client = connect("c", 60);
  subscribe(client, "#", kQos1);
  auto tag = [&] { return tagOf(store_->last().messages.at(0).targets.at(1).attributes); };
  publishOne("a/1", "x", kQos1);
  uint32_t first = tag();
  for (int i = 0; i < 100; ++i) {
    publishOne("a/1", "x", kQos1);
    EXPECT_EQ(tag(), first);
    EXPECT_EQ(tagsIn(store_->last()), 1U) << "whichever of them stays says what it means";
  }
  publishOne("b/1", "x", kQos1);
  EXPECT_EQ(tag(), first + 1);
}

TEST_F(SubscribingTest, AnEntryJournalsATagOnce) {
  begin();
  for (int i = 0; i < 3; ++i) {
    subscribe(connect("c" + std::to_string(i), 60), {subscription("#", kQos1, 0)});
  }
  publish({{"a/1", "x", kQos1}, {"a/2", "x", kQos1}, {"a/1", "x", kQos2}});
  EXPECT_EQ(tagsIn(store_->last()), 1U);
  failWrites();
  // What one entry took twice is not taken for durable.
  publishOne("a/1", "x", kQos1);
  EXPECT_EQ(tagsIn(store_->last()), 1U);
}

TEST_F(SubscribingTest, TagsOfAFailedReservationAreNotGivenAgain) {
  begin();
  TestClient& client = connect("c", 60);
  subscribe(client, "#", kQos1);
  publishOne("a/1", "x", kQos1);
  run();
  failWrites();
  publishOne("a/1", "a", kQos1);  // its tag is known already
  settle();
  crash();
  publishOne("b/1", "b", kQos1);
  settle();
  std::vector<std::string> seen;
  for (const Delivery& delivery : take(connect("c", 60))) {
    seen.push_back(addressText(delivery) + "=" + textOf(delivery));
  }
  EXPECT_THAT(seen, ElementsAre("a/1=a", "b/1=b"));
}

}  // namespace
}  // namespace polylog::router
