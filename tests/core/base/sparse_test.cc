// Values that are mostly not there, and maps that mostly have one element.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/base/mostly_one.h"
#include "core/base/seldom.h"

namespace polylog {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

TEST(Seldom, IsItsDefaultUntilWritten) {
  struct Value {
    int number = 7;
    std::vector<int> list;
  };
  Seldom<Value> value;
  static_assert(sizeof value == sizeof(void*));
  EXPECT_EQ(value->number, 7);
  EXPECT_FALSE(value.written());
  value.write().list.push_back(1);
  EXPECT_TRUE(value.written());
  EXPECT_EQ(value->number, 7);
  EXPECT_THAT(value->list, ElementsAre(1));
  value.reset();
  EXPECT_FALSE(value.written());
  EXPECT_THAT((*value).list, IsEmpty());
}

class MostlyOneTest : public testing::Test {
 protected:
  std::vector<std::pair<std::string, int>> all() const {
    std::vector<std::pair<std::string, int>> found;
    map_.forEach([&](const std::string& key, int value) { found.emplace_back(key, value); });
    EXPECT_EQ(map_.size(), found.size());
    return found;
  }
  MostlyOne<int> map_;
};

TEST_F(MostlyOneTest, NoneOneAndSeveral) {
  EXPECT_THAT(all(), IsEmpty());
  EXPECT_EQ(map_.find("a"), nullptr);
  map_.erase("a");
  map_.put("b", 1);
  EXPECT_THAT(all(), ElementsAre(Pair("b", 1)));
  EXPECT_EQ(map_.find("a"), nullptr);
  map_.erase("a");
  map_.put("b", 2);
  EXPECT_THAT(all(), ElementsAre(Pair("b", 2)));
  map_.put("a", 3);
  map_.put("c", 4);
  map_.put("a", 5);
  EXPECT_THAT(all(), ElementsAre(Pair("a", 5), Pair("b", 2), Pair("c", 4)));
  ASSERT_NE(map_.find("c"), nullptr);
  *map_.find("c") = 6;
  map_.erase("b");
  map_.erase("b");
  EXPECT_THAT(all(), ElementsAre(Pair("a", 5), Pair("c", 6)));
  map_.erase("a");
  EXPECT_THAT(all(), ElementsAre(Pair("c", 6)));
  EXPECT_EQ(map_.find("a"), nullptr);
  map_.erase("c");
  EXPECT_THAT(all(), IsEmpty());
}

TEST_F(MostlyOneTest, Cleared) {
  map_.put("a", 1);
  map_.clear();
  EXPECT_THAT(all(), IsEmpty());
  map_.put("a", 1);
  map_.put("b", 2);
  map_.clear();
  EXPECT_THAT(all(), IsEmpty());
  map_.put("c", 3);
  EXPECT_THAT(all(), ElementsAre(Pair("c", 3)));
}

}  // namespace
}  // namespace polylog
