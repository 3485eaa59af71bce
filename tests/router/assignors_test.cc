#include "router/assignors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/seeded_random.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;

TopicId topic(uint8_t number) {
  return TopicId{number};
}
const Assignment kNothing;

AssignorMember member(std::string id, std::set<TopicId> topics,
                      const Assignment& current = kNothing,
                      std::optional<std::string> instance = std::nullopt) {
  return {std::move(id), std::move(instance), std::move(topics), &current};
}
size_t load(const Assignment& assignment) {
  size_t all = 0;
  for (const auto& [id, partitions] : assignment) all += partitions.size();
  return all;
}

TEST(Assignors, RangesOfTopicsWithAsManyPartitionsAreAlike) {
  std::vector<AssignorMember> members{member("b", {topic(1), topic(2)}),
                                      member("a", {topic(1), topic(2)})};
  AssignorTopics topics{{topic(1), 3}, {topic(2), 3}};
  AssignorResult result = assignRange(members, topics);
  for (uint8_t number : {uint8_t{1}, uint8_t{2}}) {
    EXPECT_THAT(result[1].at(topic(number)), ElementsAre(0, 1)) << "a is the first";
    EXPECT_THAT(result[0].at(topic(number)), ElementsAre(2));
  }
  members.push_back(member("z", {topic(1), topic(2)}, kNothing, "static"));
  result = assignRange(members, topics);
  EXPECT_THAT(result[2].at(topic(1)), ElementsAre(0)) << "static members before others";
}

TEST(Assignors, UniformMovesNoMoreThanItHasTo) {
  Assignment one{{topic(1), {0, 1, 2, 3, 4}}};
  std::vector<AssignorMember> members{member("a", {topic(1)}, one), member("b", {topic(1)})};
  AssignorResult result = assignUniform(members, {{topic(1), 5}});
  EXPECT_THAT(result[0].at(topic(1)), ElementsAre(0, 1, 2)) << "who has more keeps the odd one";
  EXPECT_THAT(result[1].at(topic(1)), ElementsAre(3, 4));
  members = {member("a", {topic(1)}, result[0]), member("b", {topic(1)}, result[1])};
  EXPECT_EQ(assignUniform(members, {{topic(1), 5}}), result);
}

TEST(Assignors, UniformHeedsSubscriptions) {
  std::vector<AssignorMember> members{member("a", {topic(1)}), member("b", {topic(1), topic(2)}),
                                      member("c", {topic(2)})};
  AssignorResult result = assignUniform(members, {{topic(1), 2}, {topic(2), 4}});
  EXPECT_EQ(load(result[0]), 2U);
  EXPECT_EQ(load(result[1]), 2U);
  EXPECT_EQ(load(result[2]), 2U);
  EXPECT_FALSE(result[0].contains(topic(2)));
}

TEST(Assignors, ByChanceEverythingIsAssignedOnceAndEvenly) {
  test::SeededRandom random(3);
  auto upTo = [&](size_t most) { return static_cast<size_t>(random.next() % (most + 1)); };
  for (int round = 0; round < 500; ++round) {
    AssignorTopics topics;
    for (uint8_t i = 0; i < 1 + upTo(4); ++i) topics[topic(i)] = static_cast<int32_t>(upTo(9));
    bool alike = upTo(1) == 0;
    std::vector<AssignorMember> members;
    std::vector<Assignment> current(1 + upTo(6));
    for (size_t i = 0; i < current.size(); ++i) {
      std::set<TopicId> mine;
      for (const auto& [id, count] : topics) {
        if (alike || upTo(1) == 0) mine.insert(id);
        // What was may be wrong in every way.
        for (size_t j = upTo(3); j > 0; --j) current[i][id].insert(static_cast<int32_t>(upTo(12)));
      }
      members.push_back(member("m" + std::to_string(i), mine, current[i]));
    }
    for (Assignor assignor : {assignUniform, assignRange}) {
      AssignorResult result = assignor(members, topics);
      ASSERT_EQ(result.size(), members.size());
      std::map<std::pair<TopicId, int32_t>, size_t> owners;
      size_t least = SIZE_MAX;
      size_t most = 0;
      for (size_t i = 0; i < members.size(); ++i) {
        for (const auto& [id, partitions] : result[i]) {
          ASSERT_TRUE(members[i].topics.contains(id));
          for (int32_t partition : partitions) {
            ASSERT_LT(partition, topics.at(id));
            size_t before = owners[{id, partition}]++;
            ASSERT_EQ(before, 0U);
          }
        }
        least = std::min(least, load(result[i]));
        most = std::max(most, load(result[i]));
      }
      size_t wanted = 0;
      for (const auto& [id, count] : topics) {
        bool read =
            std::ranges::any_of(members, [&](const auto& m) { return m.topics.contains(id); });
        if (read) wanted += static_cast<size_t>(count);
      }
      ASSERT_EQ(owners.size(), wanted);
      if (alike && assignor == assignUniform) {
        ASSERT_LE(most - least, 1U);
      }
    }
  }
}

}  // namespace
}  // namespace polylog::router
