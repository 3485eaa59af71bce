// Committed offsets that are forgotten one by one.
#include "tests/router/group_fixture.h"

namespace polylog::router {
namespace {

using testing::SizeIs;

class OffsetDeletionTest : public GroupTest {
 protected:
  struct Answer {
    bool done = false;
    Result<std::vector<Result<>>> results = fail(ErrorKind::kInternal, "not called");
  };
  std::shared_ptr<Answer> ask(std::vector<std::pair<std::string, int32_t>> places,
                              Result<std::set<std::string>> inUse = {}) {
    auto answer = std::make_shared<Answer>();
    on(0, [&] {
      GroupOffsetDeletion deletion;
      deletion.group = "g";
      deletion.partitions = std::move(places);
      deletion.topicsInUse = [inUse](const GroupDescription& group) {
        EXPECT_FALSE(group.members.empty());
        return inUse;
      };
      router_->deleteOffsets(who_, std::move(deletion), [answer](auto results) {
        answer->done = true;
        answer->results = std::move(results);
      });
    });
    return answer;
  }
};

TEST_F(OffsetDeletionTest, AreGoneForGoodWhenItIsTold) {
  commit({{"t", 0, 1, -1, ""}, {"t", 1, 2, -1, ""}});
  auto answer = ask({{"t", 0}, {"t", 3}});
  run();
  EXPECT_FALSE(answer->done);
  settle();
  ASSERT_TRUE(answer->results.has_value());
  ASSERT_THAT(*answer->results, SizeIs(2));
  EXPECT_TRUE(answer->results->at(0).has_value());
  EXPECT_TRUE(answer->results->at(1).has_value()) << "there was none";
  EXPECT_EQ(offset("t", 0), -1);
  EXPECT_EQ(offset("t", 1), 2);
  crash();
  EXPECT_EQ(offset("t", 0), -1);
  EXPECT_EQ(offset("t", 1), 2);
}

TEST_F(OffsetDeletionTest, OfTopicsThatMembersReadStay) {
  makeStable();
  commit({{"t", 0, 1, -1, ""}}, leader_.memberId, 1);
  auto answer = ask({{"t", 0}}, std::set<std::string>{"t"});
  settle();
  EXPECT_EQ(answer->results->at(0).error().kind, ErrorKind::kInUse);
  EXPECT_EQ(offset("t", 0), 1);
  answer = ask({{"t", 0}}, fail(ErrorKind::kGroupNotEmpty, "members"));
  settle();
  EXPECT_EQ(answer->results.error().kind, ErrorKind::kGroupNotEmpty);
  answer = ask({{"t", 0}}, std::set<std::string>{"u"});
  settle();
  EXPECT_TRUE(answer->results->at(0).has_value());
  EXPECT_EQ(offset("t", 0), -1);
}

TEST_F(OffsetDeletionTest, OfNoGroup) {
  auto answer = ask({{"t", 0}});
  settle();
  EXPECT_EQ(answer->results.error().kind, ErrorKind::kNotFound);
}

TEST_F(OffsetDeletionTest, AFailedWriteIsToldAndMadeGoodLater) {
  commit({{"t", 0, 1, -1, ""}});
  auto answer = ask({{"t", 0}});
  run();
  failWrites();
  EXPECT_EQ(answer->results.error().kind, ErrorKind::kIo);
  advance(120'000);
  crash();
  EXPECT_EQ(offset("t", 0), -1) << "it is gone from memory, so it must not come back";
}

TEST_F(OffsetDeletionTest, ACommitOnItsWayStays) {
  commit({{"t", 0, 1, -1, ""}});
  on(0, [&] {
    GroupCommit asked;
    asked.group = "g";
    asked.offsets = {{"t", 0, 5, -1, ""}};
    router_->commitOffsets(who_, asked, [](auto) {});
  });
  run();
  auto answer = ask({{"t", 0}});
  settle();
  EXPECT_TRUE(answer->results.has_value());
  EXPECT_EQ(offset("t", 0), 5);
  crash();
  EXPECT_EQ(offset("t", 0), 5);
}

}  // namespace
}  // namespace polylog::router
