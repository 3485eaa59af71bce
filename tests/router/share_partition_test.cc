// What a share group knows of one partition: runs of offsets and what becomes of them.
#include "router/share_partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int32_t kLimit = 3;
constexpr auto kAccept = ShareVerdict::kAccept;
constexpr auto kRelease = ShareVerdict::kRelease;
constexpr auto kReject = ShareVerdict::kReject;
constexpr auto kRenew = ShareVerdict::kRenew;
constexpr auto kGap = ShareVerdict::kGap;

SharePartition::Member member(const std::string& id) {
  return std::make_shared<const std::string>(id);
}

class SharePartitionTest : public testing::Test {
 protected:
  std::vector<ShareRange> take(const std::string& who, int64_t first, int64_t last,
                               int64_t most = 1000, int64_t mostNew = 1000,
                               int64_t deadline = 100) {
    std::vector<ShareRange> got;
    grant_ = member(who);
    SharePartition::Terms terms{grant_, deadline, most, mostNew};
    int64_t count = partition_.acquire(first, last, terms, got);
    for (const ShareRange& range : got) count -= range.last - range.first + 1;
    EXPECT_EQ(count, 0);
    return got;
  }
  Result<> say(const std::string& who, int64_t first, int64_t last,
               std::vector<ShareVerdict> verdicts, int64_t deadline = 200) {
    auto changed =
        partition_.settle(member(who), {{first, last, std::move(verdicts)}}, kLimit, deadline);
    if (!changed) return std::unexpected(changed.error());
    said_ = std::move(*changed);
    return {};
  }
  /// As after a crash.
  void restart() {
    auto back = SharePartition::decode("g", partition_.encode());
    ASSERT_TRUE(back.has_value());
    partition_ = std::move(*back);
  }

  SharePartition partition_{10};
  SharePartition::Member grant_;               ///< of the latest take()
  std::vector<SharePartition::Settled> said_;  ///< with the latest say()
};

TEST_F(SharePartitionTest, WhatIsAcceptedMovesTheStartOn) {
  EXPECT_THAT(take("a", 10, 14), ElementsAre(ShareRange{10, 14, 1}));
  EXPECT_EQ(partition_.start(), 10);
  EXPECT_EQ(partition_.end(), 15);
  EXPECT_EQ(partition_.held(), 5);
  EXPECT_TRUE(say("a", 12, 13, {kAccept}));
  EXPECT_EQ(partition_.start(), 10);
  EXPECT_EQ(partition_.finished(), 2);
  EXPECT_TRUE(say("a", 10, 11, {kAccept}));
  EXPECT_EQ(partition_.start(), 14) << "all below is done with";
  EXPECT_EQ(partition_.held(), 1);
}

TEST_F(SharePartitionTest, ARecordIsWithOneMemberAtATime) {
  take("a", 10, 14);
  EXPECT_THAT(take("b", 10, 16), ElementsAre(ShareRange{15, 16, 1}));
  EXPECT_EQ(say("b", 14, 15, {kAccept}).error().kind, ErrorKind::kLocked);
  EXPECT_EQ(partition_.finished(), 0) << "nothing of what was refused counts";
  EXPECT_EQ(say("a", 17, 17, {kAccept}).error().kind, ErrorKind::kLocked) << "never given out";
  EXPECT_TRUE(say("b", 15, 16, {kAccept}));
  EXPECT_EQ(say("b", 15, 15, {kAccept}).error().kind, ErrorKind::kLocked) << "said already";
}

TEST_F(SharePartitionTest, WhatIsReleasedComesAgainUntilTheLimit) {
  for (int16_t time = 1; time <= kLimit; ++time) {
    EXPECT_THAT(take("a", 10, 12), ElementsAre(ShareRange{10, 12, time}));
    EXPECT_TRUE(say("a", 10, 12, {kRelease, kRelease, kRelease}));
  }
  EXPECT_EQ(partition_.start(), 13) << "given up";
  EXPECT_THAT(take("a", 10, 12), IsEmpty());
}

TEST_F(SharePartitionTest, EachOffsetHasAVerdictOfItsOwn) {
  take("a", 10, 15);
  EXPECT_TRUE(say("a", 10, 15, {kAccept, kRelease, kReject, kGap, kRelease, kAccept}));
  EXPECT_EQ(partition_.start(), 11);
  EXPECT_EQ(partition_.nextAvailable(0), 11);
  EXPECT_EQ(partition_.nextAvailable(12), 14);
  EXPECT_THAT(take("b", 10, 20, 3),
              ElementsAre(ShareRange{11, 11, 2}, ShareRange{14, 14, 2}, ShareRange{16, 16, 1}));
}

TEST_F(SharePartitionTest, TimeGivesBackAndRenewingGivesTime) {
  take("a", 10, 11, 1000, 1000, 100);
  EXPECT_EQ(partition_.nextDeadline(), 100);
  EXPECT_TRUE(say("a", 10, 10, {kRenew}, 200));
  EXPECT_FALSE(partition_.expire(99, kLimit));
  EXPECT_TRUE(partition_.expire(100, kLimit));
  EXPECT_EQ(partition_.nextAvailable(0), 11);
  EXPECT_EQ(say("a", 11, 11, {kAccept}).error().kind, ErrorKind::kLocked) << "too late";
  EXPECT_EQ(partition_.nextDeadline(), 200);
  EXPECT_TRUE(partition_.expire(200, kLimit));
  EXPECT_FALSE(partition_.nextDeadline().has_value());
  EXPECT_THAT(take("b", 10, 11), ElementsAre(ShareRange{10, 11, 2}));
}

TEST_F(SharePartitionTest, WhatALostMemberHadDoesNotCountAsDelivered) {
  take("a", 10, 12);
  take("b", 13, 13);
  EXPECT_TRUE(partition_.release("a"));
  EXPECT_FALSE(partition_.release("a"));
  EXPECT_THAT(take("b", 10, 13), ElementsAre(ShareRange{10, 12, 1}));
}

TEST_F(SharePartitionTest, WhatReachedNobodyIsPutBack) {
  take("a", 10, 12);
  auto first = grant_;
  EXPECT_TRUE(partition_.undo(first, {{10, 11, 1}}));
  EXPECT_THAT(take("b", 10, 10), ElementsAre(ShareRange{10, 10, 1}));
  EXPECT_THAT(take("a", 11, 11), ElementsAre(ShareRange{11, 11, 1}));
  EXPECT_FALSE(partition_.undo(first, {{10, 11, 1}})) << "they were given out again since";
}

TEST_F(SharePartitionTest, WhatWasSaidIsTakenBack) {
  take("a", 10, 15);
  ASSERT_TRUE(say("a", 12, 13, {kAccept, kReject}));
  auto middle = said_;
  ASSERT_TRUE(say("a", 10, 11, {kAccept}));
  EXPECT_EQ(partition_.start(), 14);
  partition_.takeBack(middle);
  EXPECT_EQ(partition_.start(), 12) << "what was said before it has been kept";
  partition_.takeBack(said_);
  EXPECT_EQ(partition_.start(), 10);
  EXPECT_EQ(partition_.held(), 6);
  EXPECT_THAT(take("b", 10, 15), IsEmpty()) << "it is with its member again";
  EXPECT_TRUE(say("a", 10, 15, {kAccept})) << "which may say it anew";
  EXPECT_EQ(partition_.start(), 16);
}

TEST_F(SharePartitionTest, WhatOthersHaveSinceIsNotTakenBack) {
  take("a", 10, 12);
  ASSERT_TRUE(say("a", 10, 12, {kRelease}));
  auto released = said_;
  EXPECT_THAT(take("b", 10, 10), ElementsAre(ShareRange{10, 10, 2}));
  EXPECT_THAT(take("b", 11, 11), ElementsAre(ShareRange{11, 11, 2}));
  ASSERT_TRUE(say("b", 10, 10, {kAccept}));
  partition_.takeBack(released);
  EXPECT_EQ(partition_.start(), 11) << "accepted by another";
  EXPECT_TRUE(say("b", 11, 11, {kAccept})) << "with another";
  EXPECT_THAT(take("b", 12, 12), IsEmpty());
  EXPECT_TRUE(partition_.expire(100, kLimit)) << "for as long as it had it";
  EXPECT_THAT(take("b", 12, 12), ElementsAre(ShareRange{12, 12, 2}));
}

TEST_F(SharePartitionTest, WhatTheLogHasLostIsNotMissedWhenItIsTakenBack) {
  take("a", 10, 15);
  ASSERT_TRUE(say("a", 10, 12, {kAccept}));
  partition_.raiseStart(14);
  partition_.takeBack(said_);
  partition_.raiseStart(14);
  EXPECT_EQ(partition_.start(), 14);
  EXPECT_EQ(partition_.held(), 2);
  restart();
  EXPECT_THAT(take("b", 10, 20), ElementsAre(ShareRange{14, 20, 1}));
}

TEST_F(SharePartitionTest, LimitsHold) {
  EXPECT_THAT(take("a", 10, 19, 4), ElementsAre(ShareRange{10, 13, 1}));
  EXPECT_THAT(take("a", 10, 19, 100, 2), ElementsAre(ShareRange{14, 15, 1}));
  EXPECT_TRUE(say("a", 10, 10, {kRelease}));
  EXPECT_THAT(take("b", 10, 19, 100, 0), ElementsAre(ShareRange{10, 10, 2}))
      << "what came back needs no new place";
}

TEST_F(SharePartitionTest, OffsetsWithoutARecordArePassedOver) {
  partition_.skip(10, 12);
  EXPECT_EQ(partition_.start(), 13);
  take("a", 13, 14);
  partition_.skip(15, 20);
  EXPECT_EQ(partition_.held(), 2) << "they hold no place";
  EXPECT_THAT(take("a", 15, 21), ElementsAre(ShareRange{21, 21, 1}));
  EXPECT_TRUE(say("a", 13, 21, {kAccept}));
  EXPECT_EQ(partition_.start(), 22);
}

TEST_F(SharePartitionTest, TheLogsStartMovesItOn) {
  take("a", 10, 19);
  EXPECT_TRUE(say("a", 15, 16, {kAccept}));
  partition_.raiseStart(15);
  EXPECT_EQ(partition_.start(), 17);
  EXPECT_TRUE(say("a", 10, 19, {kAccept})) << "those that have gone are passed over";
  EXPECT_EQ(partition_.start(), 20);
  partition_.raiseStart(30);
  EXPECT_EQ(partition_.start(), 30);
  EXPECT_EQ(partition_.end(), 30);
}

TEST_F(SharePartitionTest, ProgressIsAsIfTheStartWereRaised) {
  take("a", 10, 30);
  say("a", 12, 14, {kAccept});
  say("a", 18, 20, {kAccept});
  say("a", 25, 30, {kAccept});
  for (int64_t logStart : {0, 10, 11, 12, 13, 15, 19, 21, 25, 27, 31, 40}) {
    SharePartition raised = partition_;
    raised.raiseStart(logStart);
    auto progress = partition_.progress(logStart);
    EXPECT_EQ(progress.start, raised.start()) << logStart;
    EXPECT_EQ(progress.finished, raised.finished()) << logStart;
    EXPECT_EQ(raised.progress(0).start, raised.start());
  }
}

TEST_F(SharePartitionTest, ARestartForgetsWhoHasWhatAndNothingElse) {
  take("a", 10, 19);
  EXPECT_TRUE(say("a", 12, 13, {kAccept}));
  EXPECT_TRUE(say("a", 15, 15, {kRelease}));
  take("b", 15, 15);
  restart();
  EXPECT_EQ(partition_.start(), 10);
  // 15 was delivered twice, the second time to nobody who said anything.
  EXPECT_THAT(take("c", 10, 20), ElementsAre(ShareRange{10, 11, 1}, ShareRange{14, 14, 1},
                                             ShareRange{15, 15, 2}, ShareRange{16, 20, 1}));
  EXPECT_EQ(say("c", 10, 20, {kAccept}).error().kind, ErrorKind::kLocked) << "12 is done with";
  EXPECT_TRUE(say("c", 10, 11, {kAccept}));
  EXPECT_TRUE(say("c", 14, 20, {kAccept}));
  restart();
  EXPECT_EQ(partition_.start(), 21);
  EXPECT_EQ(partition_.end(), 21);
}

TEST_F(SharePartitionTest, ManyRunsBecomeOneAgain) {
  take("a", 10, 1009);
  for (int64_t id = 11; id < 1010; id += 2) EXPECT_TRUE(say("a", id, id, {kAccept}));
  for (int64_t id = 12; id < 1010; id += 2) EXPECT_TRUE(say("a", id, id, {kAccept}));
  EXPECT_EQ(partition_.finished(), 999);
  EXPECT_LT(partition_.encode().size(), 20U);
}

TEST_F(SharePartitionTest, DamagedEntriesAreRefused) {
  take("a", 10, 19);
  EXPECT_TRUE(say("a", 12, 13, {kAccept}));
  std::string whole = partition_.encode();
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(SharePartition::decode("g", BytesView(whole).substr(0, size)).has_value()) << size;
  }
  std::string odd = whole;
  odd[0] = 9;
  EXPECT_FALSE(SharePartition::decode("g", odd).has_value());
  SharePlace place{TopicId{7}, 3};
  auto back = parseSharePartitionKey(sharePartitionKey("grp", place));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->first, "grp");
  EXPECT_EQ(back->second, place);
}

}  // namespace
}  // namespace polylog::router
