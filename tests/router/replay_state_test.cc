#include "router/replay_state.h"

#include <gtest/gtest.h>

#include <limits>

#include "router/state_codec.h"
#include "tests/router/router_fixture.h"

namespace polylog::router {
namespace {

constexpr PartitionId kInbox{77};

TEST(ReplayState, KeysOfOneSubscriptionStandTogetherItselfFirst) {
  using What = ReplayKey::What;
  ReplayKey key{kInbox, 3, What::kSubscription, {}};
  const std::string subscription = replayKey(key);
  key.what = What::kCursor;
  key.partition = PartitionId(0x1234567890);
  const std::string cursor = replayKey(key);
  key.what = What::kOrigins;
  const std::string origins = replayKey(key);
  EXPECT_LT(subscription, cursor);
  EXPECT_LT(cursor, origins);
  EXPECT_LT(origins, replayKey({kInbox, 4, What::kSubscription, {}}));
  for (const std::string& text : {subscription, cursor, origins}) {
    EXPECT_TRUE(text.starts_with(inboxKey(kInbox)));
    auto parsed = parseReplayKey(text);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->inbox, kInbox);
    EXPECT_EQ(parsed->number, 3U);
  }
  EXPECT_EQ(parseReplayKey(cursor)->partition, PartitionId(0x1234567890));
  for (const std::string& bad : {std::string(), subscription + "x", cursor.substr(0, 20),
                                 subscription.substr(0, 12) + "\x03"}) {
    EXPECT_FALSE(parseReplayKey(bad));
  }
}

TEST(ReplayState, ComesBackAsItWas) {
  Subscription made = subscription("a/+/#", kQos2, 268'435'455);
  made.text = "$replay/last=5/a/+/#";
  made.retainAsPublished = true;
  for (ReplayStart start : {ReplayStart{}, ReplayStart{ReplayStart::Kind::kLast, 5},
                            ReplayStart{ReplayStart::Kind::kTime, INT64_MAX}}) {
    made.replay = start;
    auto decoded = decodeReplay(kInbox, encodeReplay(kInbox, made));
    ASSERT_TRUE(decoded) << decoded.error().text;
    EXPECT_EQ(decoded->text, made.text);
    EXPECT_EQ(decoded->filter, made.filter);
    EXPECT_EQ(decoded->guarantee, kQos2);
    EXPECT_EQ(decoded->id, made.id);
    EXPECT_TRUE(decoded->retainAsPublished);
    EXPECT_EQ(decoded->replay, std::optional(start));
  }
  using Phase = ReplayCursor::Phase;
  for (ReplayCursor cursor : {ReplayCursor{}, ReplayCursor{Phase::kTime, INT64_MAX, 7},
                              ReplayCursor{Phase::kLast, 1, INT64_MAX}}) {
    EXPECT_EQ(decodeReplayCursor(encodeReplayCursor(cursor)).value(), cursor);
  }
  std::vector<ReplayOrigin> origins = {
      {Position(900), 2, 40}, {Position(1000), 0, -1}, {Position(10), 9999, INT64_MAX / 2}};
  EXPECT_EQ(decodeReplayOrigins(encodeReplayOrigins(origins)).value(), origins);
  EXPECT_EQ(decodeReplayOrigins(encodeReplayOrigins({})).value(), std::vector<ReplayOrigin>());
}

TEST(ReplayState, WhatIsCutOffCantBeRead) {
  Subscription made = subscription("a/b", kQos1);
  made.replay = ReplayStart{};
  const std::string replay = encodeReplay(kInbox, made);
  const std::string cursor = encodeReplayCursor({ReplayCursor::Phase::kAt, 1'000'000, 3});
  const std::string origins = encodeReplayOrigins({{Position(1 << 20), 1, 70'000}});
  for (size_t i = 0; i < replay.size(); ++i)
    EXPECT_FALSE(decodeReplay(kInbox, replay.substr(0, i)));
  for (size_t i = 0; i < cursor.size(); ++i) EXPECT_FALSE(decodeReplayCursor(cursor.substr(0, i)));
  for (size_t i = 0; i < origins.size(); ++i) {
    EXPECT_FALSE(decodeReplayOrigins(origins.substr(0, i)));
  }
  EXPECT_FALSE(decodeReplay(PartitionId(78), replay));  // another session's
  EXPECT_FALSE(decodeReplayCursor(cursor + "x"));
}

}  // namespace
}  // namespace polylog::router
