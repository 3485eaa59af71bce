// Groups whose partitions the broker assigns, as a router's clients see them.
#include "router/consumer_group.h"

#include "core/base/byte_writer.h"
#include "mapping/kafka_consumer.h"
#include "tests/router/group_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

using Answer = Result<ConsumerHeartbeatAnswer>;

class ConsumerGroupTest : public GroupTest {
 protected:
  void SetUp() override {
    RouterOptions options;
    options.initialRebalanceMillis = 0;
    options.maxGroupMembers = 4;
    options.consumerFormat = mapping::consumerFormat();
    begin(3, options);
    make("t", 4);
  }
  void make(const std::string& name, int32_t partitions) {
    TopicSpec spec;
    spec.name = name;
    spec.partitions = partitions;
    ASSERT_TRUE(createTopic(spec));
  }

  static ConsumerHeartbeat joins(const std::string& member,
                                 std::vector<std::string> topics = {"t"}) {
    ConsumerHeartbeat beat;
    beat.group = "g";
    beat.memberId = member;
    beat.clientId = "client";
    beat.clientHost = "/127.0.0.1";
    beat.rebalanceTimeoutMs = 60'000;
    beat.topics = std::move(topics);
    beat.owned = Assignment{};
    return beat;
  }
  static ConsumerHeartbeat lives(const std::string& member, int32_t epoch,
                                 std::optional<Assignment> owned = std::nullopt) {
    ConsumerHeartbeat beat;
    beat.group = "g";
    beat.memberId = member;
    beat.epoch = epoch;
    beat.clientId = "client";
    beat.clientHost = "/127.0.0.1";
    beat.owned = std::move(owned);
    return beat;
  }
  std::shared_ptr<std::optional<Answer>> send(ConsumerHeartbeat asked, bool settles = true) {
    auto told = std::make_shared<std::optional<Answer>>();
    on(1, [&] {
      router_->consumerHeartbeat(who_, std::move(asked), [told](Answer answer) {
        EXPECT_FALSE(told->has_value());
        *told = std::move(answer);
      });
    });
    settles ? settle() : run();
    return told;
  }
  Answer beat(ConsumerHeartbeat asked) {
    auto told = send(std::move(asked));
    EXPECT_TRUE(told->has_value());
    return told->value_or(fail(ErrorKind::kInternal, "not called"));
  }
  ErrorKind refusal(ConsumerHeartbeat asked) {
    Answer answer = beat(std::move(asked));
    return answer ? ErrorKind::kInternal : answer.error().kind;
  }
  /// "t:0,1" of an assignment; "-" if there is none.
  std::string text(const std::optional<Assignment>& assignment) {
    if (!assignment) return "-";
    std::string out;
    for (const auto& [id, partitions] : *assignment) {
      TopicRef found = on(0, [&] { return router_->findTopic(who_, id); });
      out += (out.empty() ? "" : " ") + (found ? found->name : "?") + ":";
      for (int32_t partition : partitions) {
        out += (partition == *partitions.begin() ? "" : ",") + std::to_string(partition);
      }
    }
    return out;
  }
  Assignment of(const std::string& name, std::set<int32_t> partitions) {
    return {{topic(name)->id, std::move(partitions)}};
  }
  /// Two members with two partitions each, at epoch 2.
  void makePair() {
    ASSERT_EQ(text(beat(joins("a"))->assignment), "t:0,1,2,3");
    Answer second = beat(joins("b"));
    ASSERT_EQ(text(second->assignment), "") << "nothing has been given up yet";
    Answer less = beat(lives("a", 1, of("t", {0, 1, 2, 3})));
    ASSERT_EQ(less->epoch, 1);
    ASSERT_EQ(text(less->assignment), "t:0,1");
    Answer gave = beat(lives("a", 1, of("t", {0, 1})));
    ASSERT_EQ(gave->epoch, 2);
    Answer got = beat(lives("b", 2, Assignment{}));
    ASSERT_EQ(text(got->assignment), "t:2,3");
    ASSERT_EQ(state(), "Stable");
  }

  static std::string subscription(const std::vector<std::string>& topics,
                                  const std::vector<int32_t>& owned = {}) {
    ByteWriter out;
    out.i16(1);
    out.i32(static_cast<int32_t>(topics.size()));
    for (const std::string& name : topics) out.bytes16(name);
    out.i32(-1);
    out.i32(owned.empty() ? 0 : 1);
    if (!owned.empty()) {
      out.bytes16(topics.front());
      out.i32(static_cast<int32_t>(owned.size()));
      for (int32_t partition : owned) out.i32(partition);
    }
    return out.take();
  }
  static std::string written(const std::string& name, std::vector<int32_t> partitions) {
    return mapping::writeConsumerAssignment({{name, std::move(partitions)}}, 1);
  }
  GroupJoin classicJoin(std::string member = {}, const std::vector<int32_t>& owned = {}) {
    GroupJoin asked = joining(std::move(member), {{"range", subscription({"t"}, owned)}});
    return asked;
  }
  /// What a member of the classic protocol is told that it has.
  std::string synced(const GroupJoined& as,
                     std::vector<std::pair<std::string, std::string>> all = {}) {
    auto told = sync(as, std::move(all));
    EXPECT_TRUE(told->done);
    if (told->result.error) return describe(told->result.error->kind);
    auto partitions = mapping::parseConsumerAssignment(told->result.assignment);
    std::string out;
    for (const auto& [name, numbers] : *partitions) {
      for (int32_t number : numbers) out += (out.empty() ? "" : ",") + std::to_string(number);
    }
    return out;
  }
  static const char* describe(ErrorKind kind) { return polylog::describe(kind); }
  using GroupTest::describe;
};

TEST_F(ConsumerGroupTest, AMemberGivesUpBeforeAnotherGets) {
  Answer first = beat(joins("a"));
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->memberId, "a");
  EXPECT_EQ(first->epoch, 1);
  EXPECT_EQ(first->heartbeatIntervalMs, 5000);
  EXPECT_EQ(text(first->assignment), "t:0,1,2,3");
  EXPECT_EQ(text(beat(lives("a", 1))->assignment), "-") << "nothing new";

  Answer second = beat(joins("b"));
  EXPECT_EQ(second->epoch, 2);
  EXPECT_EQ(text(second->assignment), "");
  EXPECT_EQ(state(), "Reconciling");
  Answer less = beat(lives("a", 1));
  EXPECT_EQ(less->epoch, 1) << "it stays in its epoch until it has given up";
  EXPECT_EQ(text(less->assignment), "t:0,1");
  EXPECT_EQ(text(beat(lives("b", 2))->assignment), "-");
  // Who doesn't tell what it has, or has it still, has not given it up.
  EXPECT_EQ(beat(lives("a", 1))->epoch, 1);
  EXPECT_EQ(beat(lives("a", 1, of("t", {0, 1, 2})))->epoch, 1);
  EXPECT_EQ(beat(lives("a", 1, of("t", {0, 1})))->epoch, 2);
  EXPECT_EQ(text(beat(lives("b", 2))->assignment), "t:2,3");
  EXPECT_EQ(state(), "Stable");
}

TEST_F(ConsumerGroupTest, WhoLeavesOrFallsSilentMakesRoom) {
  makePair();
  Answer left = beat(lives("b", ConsumerHeartbeat::kLeaves));
  EXPECT_EQ(left->epoch, -1);
  EXPECT_EQ(text(beat(lives("a", 2))->assignment), "t:0,1,2,3");
  beat(joins("b"));
  advance(30'000);
  ASSERT_TRUE(beat(lives("a", 3)).has_value());
  advance(30'000);
  EXPECT_EQ(refusal(lives("b", 4)), ErrorKind::kUnknownMember) << "45 s are over";
  ASSERT_TRUE(beat(lives("a", 3, of("t", {0, 1}))).has_value());
  EXPECT_EQ(describe()->members.size(), 1U);
  advance(50'000);
  EXPECT_EQ(state(), "Empty");
}

TEST_F(ConsumerGroupTest, WhoDoesNotGiveUpInTimeIsGivenUp) {
  beat(joins("a"));
  beat(joins("b"));
  EXPECT_EQ(text(beat(lives("a", 1))->assignment), "t:0,1");
  for (int i = 0; i < 4; ++i) {
    advance(20'000);
    beat(lives("a", 1));
    beat(lives("b", 2));
  }
  EXPECT_EQ(refusal(lives("a", 1)), ErrorKind::kUnknownMember) << "a rebalance timeout of 60 s";
  EXPECT_EQ(text(beat(lives("b", 2, Assignment{}))->assignment), "-");
  EXPECT_EQ(describe()->members.at(0).consumer->assigned.at(0).partitions,
            (std::vector{0, 1, 2, 3}));
}

TEST_F(ConsumerGroupTest, EpochsAreChecked) {
  makePair();
  EXPECT_EQ(refusal(lives("a", 3)), ErrorKind::kFencedEpoch);
  EXPECT_EQ(refusal(lives("a", 1)), ErrorKind::kFencedEpoch);
  // The answer with the new epoch was lost.
  EXPECT_TRUE(beat(lives("a", 1, of("t", {0}))).has_value());
  EXPECT_EQ(refusal(lives("a", 1, of("t", {2}))), ErrorKind::kFencedEpoch);
  EXPECT_EQ(refusal(lives("nobody", 1)), ErrorKind::kUnknownMember);
  // Who is fenced joins again.
  EXPECT_EQ(text(beat(joins("a"))->assignment), "t:0,1");
}

TEST_F(ConsumerGroupTest, RefusesWhatMakesNoSense) {
  EXPECT_EQ(refusal(lives("a", 1)), ErrorKind::kNotFound);
  ConsumerHeartbeat asked = joins("a");
  asked.rebalanceTimeoutMs = -1;
  EXPECT_EQ(refusal(asked), ErrorKind::kInvalid);
  asked = joins("a");
  asked.topics = std::nullopt;
  EXPECT_EQ(refusal(asked), ErrorKind::kInvalid);
  asked = joins("a");
  asked.owned = of("t", {1});
  EXPECT_EQ(refusal(asked), ErrorKind::kInvalid);
  asked = joins("a");
  asked.assignor = "best";
  EXPECT_EQ(refusal(asked), ErrorKind::kUnsupportedAssignor);
  asked = joins("a");
  asked.pattern = "(";
  EXPECT_EQ(refusal(asked), ErrorKind::kInvalidPattern);
  EXPECT_EQ(state(), "none") << "nothing of it has left a group behind";
  for (const char* member : {"a", "b", "c", "d"}) EXPECT_TRUE(beat(joins(member)).has_value());
  EXPECT_EQ(refusal(joins("e")), ErrorKind::kBusy);
  asked = joins("a");
  asked.epoch = -3;
  EXPECT_EQ(refusal(asked), ErrorKind::kInvalid);
}

TEST_F(ConsumerGroupTest, StaticMembersAreReplacedOnceTheyHaveLeft) {
  ConsumerHeartbeat first = joins("a");
  first.instanceId = "i";
  EXPECT_EQ(text(beat(first)->assignment), "t:0,1,2,3");
  ConsumerHeartbeat second = joins("b");
  second.instanceId = "i";
  EXPECT_EQ(refusal(second), ErrorKind::kUnreleasedInstance);
  ConsumerHeartbeat pauses = lives("a", ConsumerHeartbeat::kLeavesForAWhile);
  EXPECT_EQ(refusal(pauses), ErrorKind::kInvalid) << "only static members may";
  pauses.instanceId = "i";
  EXPECT_EQ(beat(pauses)->epoch, -2);
  beat(joins("c"));
  EXPECT_EQ(text(beat(lives("c", 2))->assignment), "-") << "what it has is kept for it";
  crash();
  Answer back = beat(second);
  ASSERT_TRUE(back.has_value()) << back.error().text;
  EXPECT_EQ(back->memberId, "b");
  EXPECT_EQ(text(back->assignment), "t:0,1");
  ConsumerHeartbeat old = lives("a", 1);
  old.instanceId = "i";
  EXPECT_EQ(refusal(old), ErrorKind::kFencedInstance);
  EXPECT_EQ(refusal(lives("a", 1)), ErrorKind::kUnknownMember);
  pauses.memberId = "b";
  EXPECT_TRUE(beat(pauses).has_value());
  advance(50'000);
  EXPECT_EQ(refusal(lives("b", 2)), ErrorKind::kUnknownMember) << "not for ever";
}

TEST_F(ConsumerGroupTest, FollowsTopics) {
  EXPECT_EQ(text(beat(joins("a", {"t", "later"}))->assignment), "t:0,1,2,3");
  make("later", 2);
  EXPECT_EQ(beat(lives("a", 1))->epoch, 2);
  EXPECT_EQ(describe()->members.at(0).consumer->assigned.size(), 2U);
  bool grown = false;
  on(0, [&] {
    router_->growTopic(who_, "t", 6, [&](Result<TopicRef> made) { grown = made.has_value(); });
  });
  settle();
  ASSERT_TRUE(grown);
  Answer more = beat(lives("a", 2));
  EXPECT_EQ(more->epoch, 3);
  EXPECT_EQ(more->assignment->at(topic("t")->id).size(), 6U);
  on(0, [&] { router_->deleteTopic(who_, "t", [](Result<>) {}); });
  settle();
  EXPECT_EQ(text(beat(lives("a", 3))->assignment), "later:0,1");
  EXPECT_EQ(beat(lives("a", 3, of("later", {0, 1})))->epoch, 4);
}

TEST_F(ConsumerGroupTest, PatternsStandForTopics) {
  make("news.de", 1);
  make("news.fr", 1);
  ConsumerHeartbeat asked = joins("a", {});
  asked.pattern = "news\\..*";
  Answer joined = beat(asked);
  EXPECT_EQ(joined->assignment->size(), 2U);
  make("news.it", 1);
  make("old.news.it", 1);
  advance(2'000);
  EXPECT_EQ(beat(lives("a", 1))->assignment->size(), 3U);
  EXPECT_EQ(describe()->members.at(0).consumer->pattern, "news\\..*");
  EXPECT_THAT(describe()->members.at(0).consumer->matched,
              ElementsAre("news.de", "news.fr", "news.it"));
  crash();
  EXPECT_EQ(beat(lives("a", 2))->epoch, 2);
  ConsumerHeartbeat changed = lives("a", 2, Assignment{});
  changed.pattern = "";
  changed.topics = {{"t"}};
  EXPECT_EQ(text(beat(changed)->assignment), "t:0,1,2,3");
}

TEST_F(ConsumerGroupTest, AGroupHasAHundredPatternsAtMost) {
  end();
  RouterOptions options;
  options.maxGroupMembers = 200;
  options.consumerFormat = mapping::consumerFormat();
  begin(3, options);
  auto joinsWith = [](int member, int pattern) {
    ConsumerHeartbeat asked = joins(std::to_string(member), {});
    asked.pattern = "p" + std::to_string(pattern);
    return asked;
  };
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(beat(joinsWith(i, i)).has_value());
  EXPECT_EQ(refusal(joinsWith(100, 100)), ErrorKind::kInvalid);
  EXPECT_TRUE(beat(joinsWith(101, 7)).has_value()) << "one that is there already";
}

TEST_F(ConsumerGroupTest, PatternsStandForWhatTheirMembersMaySee) {
  make("news.de", 1);
  make("news.secret", 1);
  AccessRule rule;
  rule.allow = false;
  rule.user = "*";
  rule.name = "news.secret";
  rule.operation = Operation::kDescribe;
  Principal trusted;
  trusted.trusted = true;
  bool added = false;
  on(0, [&] {
    router_->access().addRules(
        std::make_shared<const Principal>(trusted), {rule},
        [&](Result<std::vector<Result<>>> made) { added = made && made->at(0); });
  });
  settle();
  ASSERT_TRUE(added);
  ConsumerHeartbeat asked = joins("a", {});
  asked.pattern = "news\\..*";
  EXPECT_EQ(text(beat(asked)->assignment), "news.de:0");
  EXPECT_FALSE(on(0, [&] { return router_->mayDescribeTopic(who_, "news.secret"); }));

  rule.kind = ResourceKind::kGroup;
  rule.name = "g";
  rule.operation = Operation::kRead;
  on(0, [&] {
    router_->access().addRules(std::make_shared<const Principal>(trusted), {rule},
                               [](Result<std::vector<Result<>>>) {});
  });
  settle();
  EXPECT_EQ(refusal(lives("a", 1)), ErrorKind::kUnauthorized);
}

TEST_F(ConsumerGroupTest, MostOfThoseThatWantAnAssignorGetIt) {
  make("u", 3);
  ConsumerHeartbeat asked = joins("a", {"t", "u"});
  asked.assignor = "range";
  beat(asked);
  EXPECT_EQ(describe()->assignor, "range");
  beat(joins("b", {"t", "u"}));
  EXPECT_EQ(describe()->assignor, "range") << "b wants none";
  asked = joins("c", {"t", "u"});
  asked.assignor = "uniform";
  beat(asked);
  EXPECT_EQ(describe()->assignor, "uniform");
}

TEST_F(ConsumerGroupTest, WhatIsToldIsDurable) {
  auto told = send(joins("a"), false);
  EXPECT_FALSE(told->has_value());
  auto again = send(joins("a"), false);
  EXPECT_FALSE(again->has_value()) << "it says nothing new, but nothing of it is durable";
  settle();
  EXPECT_TRUE(told->has_value() && again->has_value());
  makePair();
  crash();
  EXPECT_EQ(state(), "Stable");
  auto description = describe();
  EXPECT_EQ(description->epoch, 2);
  EXPECT_EQ(description->kind, GroupKind::kConsumer);
  EXPECT_EQ(beat(lives("a", 2))->epoch, 2);
  EXPECT_EQ(text(beat(lives("b", 2))->assignment), "-");
  advance(50'000);
  EXPECT_EQ(state(), "Empty") << "and whoever doesn't come back is given up";
}

TEST_F(ConsumerGroupTest, AStopIsNoReasonToGiveAnythingUp) {
  makePair();
  bool stopped = false;
  router_->stop([&] { stopped = true; });
  settle();
  ASSERT_TRUE(stopped);
  EXPECT_EQ(refusal(lives("a", 2)), ErrorKind::kShutdown);
  EXPECT_EQ(refusal(joins("c")), ErrorKind::kShutdown);
}

TEST_F(ConsumerGroupTest, AFailedWriteIsToldAndMadeGood) {
  makePair();
  auto told = send(joins("c"), false);
  failWrites();
  ASSERT_TRUE(told->has_value());
  EXPECT_EQ((*told)->error().kind, ErrorKind::kIo);
  EXPECT_TRUE(beat(joins("c")).has_value());
  crash();
  EXPECT_THAT(describe()->members, SizeIs(3));
}

TEST_F(ConsumerGroupTest, WhoJoinedWithAFailedWriteIsNotToldOfALaterOne) {
  makePair();
  // On the group's own worker it goes on before it hears of the failure.
  for (size_t worker = 0; worker < loops_.size(); ++worker) {
    const std::string early = "c" + std::to_string(worker);
    const int32_t before = describe()->epoch;
    send(joins(early), false);
    std::optional<Answer> told;
    on(worker, [&] {
      store_->failPending({ErrorKind::kIo, "the disk said no"});
      router_->consumerHeartbeat(who_, lives("a", before), [](const Answer&) {});
      router_->consumerHeartbeat(who_, joins(early), [&](Answer answer) { told = answer; });
    });
    settle();
    ASSERT_TRUE(told);
    crash();
    auto members = describe()->members;
    bool there = std::any_of(members.begin(), members.end(),
                             [&](const auto& member) { return member.memberId == early; });
    EXPECT_EQ(told->has_value(), there) << "on worker " << worker;
  }
}

TEST_F(ConsumerGroupTest, ALeaveThatIsNotWrittenIsNotToldAsDone) {
  makePair();
  std::optional<Result<std::vector<Result<>>>> told;
  on(0, [&] {
    router_->leaveGroup(who_, {"g", {{"b", std::nullopt}}},
                        [&](Result<std::vector<Result<>>> results) { told = std::move(results); });
  });
  run();
  ASSERT_FALSE(told);
  failWrites();
  ASSERT_TRUE(told);
  EXPECT_EQ(told->error().kind, ErrorKind::kIo);
}

TEST_F(ConsumerGroupTest, OffsetsAreForMembersAtTheirEpoch) {
  makePair();
  EXPECT_TRUE(commit({{"t", 0, 5, -1, {}}}, "a", 2)->at(0).has_value());
  EXPECT_EQ(commit({{"t", 0, 6, -1, {}}}, "a", 1).error().kind, ErrorKind::kStaleEpoch);
  EXPECT_EQ(commit({{"t", 0, 6, -1, {}}}, "nobody", 2).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(commit({{"t", 0, 6, -1, {}}}).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(offset("t", 0), 5);
  auto read = [&](GroupReader reader) {
    Result<std::vector<GroupOffset>> found = fail(ErrorKind::kInternal, "not called");
    on(2, [&] {
      router_->fetchOffsets(who_, "g", reader, {{{"t", 0}}},
                            [&](Result<std::vector<GroupOffset>> offsets) { found = offsets; });
    });
    settle();
    return found;
  };
  EXPECT_EQ(read({"a", 2})->at(0).offset, 5);
  EXPECT_EQ(read({"a", 1}).error().kind, ErrorKind::kStaleEpoch);
  EXPECT_EQ(read({"nobody", 1}).error().kind, ErrorKind::kUnknownMember);
  EXPECT_EQ(deleteGroup().error().kind, ErrorKind::kGroupNotEmpty);
  beat(lives("a", ConsumerHeartbeat::kLeaves));
  beat(lives("b", ConsumerHeartbeat::kLeaves));
  EXPECT_TRUE(commit({{"t", 0, 7, -1, {}}})->at(0).has_value()) << "an empty group, by anybody";
  EXPECT_TRUE(deleteGroup().has_value());
  crash();
  EXPECT_EQ(state(), "none");
  EXPECT_EQ(offset("t", 0), -1);
}

TEST_F(ConsumerGroupTest, AGroupsOwnConfigurationIsInForce) {
  auto alter = [&](std::optional<int32_t> session, std::optional<int32_t> interval) {
    Result<> altered = fail(ErrorKind::kInternal, "not called");
    on(0, [&] {
      router_->alterGroupConfig(
          who_, "g",
          [&](GroupConfig& config) -> Result<> {
            config = {session, interval};
            return {};
          },
          [&](Result<> result) { altered = result; });
    });
    settle();
    return altered;
  };
  ASSERT_TRUE(alter(10'000, 2'000).has_value());
  crash();
  EXPECT_EQ(beat(joins("a"))->heartbeatIntervalMs, 2'000);
  advance(12'000);
  EXPECT_EQ(state(), "Empty");
  std::vector<std::string> names;
  on(0, [&] {
    router_->configuredGroups(who_, [&](std::vector<std::string> all) { names = std::move(all); });
  });
  settle();
  EXPECT_THAT(names, ElementsAre("g"));
  ASSERT_TRUE(alter(std::nullopt, std::nullopt).has_value());
  EXPECT_EQ(beat(joins("a"))->heartbeatIntervalMs, 5'000);
}

// ---------------------------------------------------------------- both protocols

TEST_F(ConsumerGroupTest, AClassicGroupIsTakenOverAndGoesBack) {
  auto classic = join(classicJoin());
  ASSERT_TRUE(classic->done);
  const GroupJoined& old = classic->result;
  EXPECT_EQ(synced(old, {{old.memberId, written("t", {0, 1, 2, 3})}}), "0,1,2,3");
  ASSERT_EQ(describe()->kind, GroupKind::kClassic);

  Answer joined = beat(joins("new"));
  ASSERT_TRUE(joined.has_value()) << joined.error().text;
  EXPECT_EQ(text(joined->assignment), "") << "the other has it all";
  auto both = describe();
  ASSERT_EQ(both->kind, GroupKind::kConsumer);
  EXPECT_THAT(both->members, SizeIs(2));
  crash();
  // The old one is told to join again, gives two up, and joins once more to say so.
  EXPECT_EQ(heartbeat(old.memberId, old.generation).error().kind, ErrorKind::kRebalanceInProgress);
  auto again = join(classicJoin(old.memberId, {0, 1, 2, 3}));
  ASSERT_TRUE(again->done && !again->result.error) << again->result.error->text;
  EXPECT_EQ(again->result.generation, old.generation);
  EXPECT_EQ(again->result.protocol, "range");
  EXPECT_THAT(again->result.members, IsEmpty()) << "nobody leads";
  EXPECT_EQ(synced(again->result), "0,1");
  EXPECT_EQ(heartbeat(old.memberId, old.generation).error().kind, ErrorKind::kRebalanceInProgress);
  again = join(classicJoin(old.memberId, {0, 1}));
  EXPECT_EQ(synced(again->result), "0,1");
  EXPECT_TRUE(heartbeat(old.memberId, again->result.generation).has_value());
  EXPECT_EQ(text(beat(lives("new", joined->epoch))->assignment), "t:2,3");
  EXPECT_TRUE(commit({{"t", 0, 5, -1, {}}}, old.memberId, again->result.generation).has_value());
  EXPECT_EQ(commit({{"t", 0, 5, -1, {}}}, old.memberId, 77).error().kind,
            ErrorKind::kIllegalGeneration);

  beat(lives("new", ConsumerHeartbeat::kLeaves));
  EXPECT_EQ(describe()->kind, GroupKind::kClassic);
  EXPECT_EQ(state(), "PreparingRebalance");
  EXPECT_EQ(offset("t", 0), 5);
  auto last = join(classicJoin(old.memberId, {0, 1}));
  ASSERT_TRUE(last->done);
  EXPECT_EQ(last->result.leader, old.memberId);
  EXPECT_EQ(synced(last->result, {{old.memberId, written("t", {0, 1, 2, 3})}}), "0,1,2,3");
  crash();
  EXPECT_EQ(describe()->kind, GroupKind::kClassic);
  EXPECT_EQ(state(), "Stable");
}

TEST_F(ConsumerGroupTest, AMemberOfTheClassicProtocolJoinsAConsumerGroup) {
  beat(joins("a"));
  GroupJoin asked = classicJoin();
  asked.requireKnownMemberId = true;
  auto first = join(asked);
  EXPECT_EQ(first->result.error->kind, ErrorKind::kMemberIdRequired);
  asked.memberId = first->result.memberId;
  auto joined = join(asked);
  ASSERT_TRUE(joined->done && !joined->result.error);
  EXPECT_EQ(joined->result.generation, 2);
  EXPECT_EQ(synced(joined->result), "");
  beat(lives("a", 1, of("t", {0, 1, 2, 3})));
  EXPECT_TRUE(heartbeat(joined->result.memberId, 2).has_value()) << "nothing for it yet";
  beat(lives("a", 1, of("t", {0, 1})));
  EXPECT_EQ(heartbeat(joined->result.memberId, 2).error().kind, ErrorKind::kRebalanceInProgress);
  auto again = join(classicJoin(joined->result.memberId));
  EXPECT_EQ(synced(again->result), "2,3");
  EXPECT_EQ(state(), "Stable");

  GroupJoin other = classicJoin();
  other.protocolType = "connect";
  EXPECT_EQ(join(other)->result.error->kind, ErrorKind::kInconsistentProtocol);
  other = classicJoin();
  other.protocols = {{"another", subscription({"t"})}};
  EXPECT_EQ(join(other)->result.error->kind, ErrorKind::kInconsistentProtocol);
  other = classicJoin();
  other.protocols = {{"range", "\xff"}};
  EXPECT_EQ(join(other)->result.error->kind, ErrorKind::kInconsistentProtocol);
  EXPECT_TRUE(leave(joined->result.memberId).has_value());
  EXPECT_EQ(text(beat(lives("a", 2))->assignment), "t:0,1,2,3");
}

TEST_F(ConsumerGroupTest, WhoDoesNotJoinAgainInTimeIsGivenUp) {
  auto joined = join(classicJoin());
  synced(joined->result, {{joined->result.memberId, written("t", {0, 1, 2, 3})}});
  beat(joins("new"));
  for (int i = 0; i < 4; ++i) {
    (void)heartbeat(joined->result.memberId, joined->result.generation);
    advance(9'000);
    beat(lives("new", 2));
  }
  EXPECT_EQ(heartbeat(joined->result.memberId, joined->result.generation).error().kind,
            ErrorKind::kUnknownMember)
      << "a rebalance timeout of 30 s";
}

TEST_F(ConsumerGroupTest, AnEmptyGroupIsOfEitherKind) {
  beat(joins("a"));
  commit({{"t", 0, 5, -1, {}}}, "a", 1);
  beat(lives("a", ConsumerHeartbeat::kLeaves));
  auto classic = join(classicJoin());
  ASSERT_TRUE(classic->done && !classic->result.error);
  EXPECT_EQ(describe()->kind, GroupKind::kClassic);
  leave(classic->result.memberId);
  crash();
  EXPECT_EQ(describe()->kind, GroupKind::kClassic);
  EXPECT_EQ(beat(joins("a"))->epoch, 1);
  EXPECT_EQ(describe()->kind, GroupKind::kConsumer);
  EXPECT_EQ(offset("t", 0), 5);
  crash();
  EXPECT_EQ(describe()->kind, GroupKind::kConsumer);
}

TEST_F(ConsumerGroupTest, GroupsOfOthersAreLeftAlone) {
  GroupJoin asked = joining();
  asked.protocolType = "connect";
  auto joined = join(asked);
  ASSERT_TRUE(joined->done && !joined->result.error);
  EXPECT_EQ(refusal(joins("a")), ErrorKind::kNotFound);
  EXPECT_EQ(describe()->kind, GroupKind::kClassic);
}

}  // namespace
}  // namespace polylog::router
