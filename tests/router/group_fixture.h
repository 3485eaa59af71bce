// A router of three workers with a topic `t` of four partitions, and what one consumer group's members
// send to it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/router/router_fixture.h"

namespace polylog::router {

struct Joining {
  bool done = false;
  GroupJoined result;
};
struct Syncing {
  bool done = false;
  GroupSynced result;
};

class GroupTest : public RouterFixture {
 protected:
  void SetUp() override {
    RouterOptions options;
    options.initialRebalanceMillis = 200;
    begin(3, options);
    TopicSpec spec;
    spec.name = "t";
    spec.partitions = 4;
    ASSERT_TRUE(createTopic(spec));
  }

  static GroupJoin joining(std::string member = {}, std::vector<GroupProtocol> protocols = {
                                                        {"range", "meta"}}) {
    GroupJoin join;
    join.group = "g";
    join.memberId = std::move(member);
    join.clientId = "client";
    join.clientHost = "/127.0.0.1";
    join.protocolType = "consumer";
    join.protocols = std::move(protocols);
    join.sessionTimeoutMs = 10'000;
    join.rebalanceTimeoutMs = 30'000;
    return join;
  }
  std::shared_ptr<Joining> join(GroupJoin asked, size_t worker = 0) {
    auto joining = std::make_shared<Joining>();
    on(worker, [&] {
      router_->joinGroup(who_, std::move(asked), [joining](GroupJoined result) {
        EXPECT_FALSE(joining->done);
        joining->done = true;
        joining->result = std::move(result);
      });
    });
    settle();
    return joining;
  }
  std::shared_ptr<Syncing> sync(const GroupJoined& as,
                                std::vector<std::pair<std::string, std::string>> assignments = {},
                                bool settles = true) {
    auto syncing = std::make_shared<Syncing>();
    GroupSync asked;
    asked.group = "g";
    asked.memberId = as.memberId;
    asked.generation = as.generation;
    asked.assignments = std::move(assignments);
    on(0, [&] {
      router_->syncGroup(who_, asked, [syncing](GroupSynced result) {
        EXPECT_FALSE(syncing->done);
        syncing->done = true;
        syncing->result = std::move(result);
      });
    });
    settles ? settle() : run();
    return syncing;
  }
  Result<> heartbeat(const std::string& member, int32_t generation,
                     std::optional<std::string> instance = std::nullopt) {
    Result<> answer = fail(ErrorKind::kInternal, "not called");
    on(1, [&] {
      router_->heartbeat(who_, {"g", member, std::move(instance), generation},
                         [&](Result<> result) { answer = result; });
    });
    settle();
    return answer;
  }
  Result<> leave(const std::string& member, std::optional<std::string> instance = std::nullopt) {
    Result<> answer = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->leaveGroup(who_, {"g", {{member, std::move(instance)}}},
                          [&](Result<std::vector<Result<>>> results) {
                            answer = results->at(0);
                          });
    });
    settle();
    return answer;
  }
  Result<std::vector<Result<>>> commit(std::vector<GroupOffset> offsets, std::string member = {},
                                       int32_t generation = -1, std::string group = "g") {
    Result<std::vector<Result<>>> answer = fail(ErrorKind::kInternal, "not called");
    GroupCommit asked;
    asked.group = std::move(group);
    asked.memberId = std::move(member);
    asked.generation = generation;
    asked.offsets = std::move(offsets);
    on(2, [&] {
      router_->commitOffsets(who_, asked, [&](Result<std::vector<Result<>>> results) {
        answer = std::move(results);
      });
    });
    settle();
    return answer;
  }
  int64_t offset(const std::string& topic, int32_t partition, const std::string& group = "g") {
    int64_t found = -2;
    on(1, [&] {
      router_->fetchOffsets(who_, group, std::nullopt, {{{topic, partition}}},
                            [&](Result<std::vector<GroupOffset>> offsets) {
                              found = offsets->at(0).offset;
                            });
    });
    settle();
    return found;
  }
  Result<GroupDescription> describe() {
    Result<GroupDescription> answer = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->describeGroup(who_, "g", [&](Result<GroupDescription> d) { answer = std::move(d); });
    });
    settle();
    return answer;
  }
  Result<> deleteGroup() {
    Result<> answer = fail(ErrorKind::kInternal, "not called");
    on(0, [&] { router_->deleteGroup(who_, "g", [&](Result<> r) { answer = r; }); });
    settle();
    return answer;
  }
  std::string state() {
    auto description = describe();
    return description ? description->state : "none";
  }

  /// A stable group of two, the first its leader.
  void makeStable() {
    auto first = join(joining());
    auto second = join(joining());
    advance(500);
    ASSERT_TRUE(first->done && second->done);
    leader_ = first->result;
    follower_ = second->result;
    ASSERT_EQ(leader_.leader, leader_.memberId);
    auto followerSync = sync(follower_);
    EXPECT_FALSE(followerSync->done);
    auto leaderSync =
        sync(leader_, {{leader_.memberId, "A"}, {follower_.memberId, "B"}});
    ASSERT_TRUE(leaderSync->done && followerSync->done);
    EXPECT_EQ(leaderSync->result.assignment, "A");
    EXPECT_EQ(followerSync->result.assignment, "B");
    EXPECT_EQ(state(), "Stable");
  }
  PrincipalRef who_ = principal("k", Protocol::kKafka);
  GroupJoined leader_;
  GroupJoined follower_;
};

}  // namespace polylog::router
