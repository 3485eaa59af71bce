// Exchanges and bindings: who gets what, and what goes with what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/exchange_table.h"
#include "router/headers_match.h"
#include "router/queue.h"
#include "tests/router/queue_fixture.h"

namespace polylog::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class ExchangeTest : public QueueFixture {
 protected:
  ExchangeTest() { begin(); }

  /// Declares queues a, b, ... and binds each by its key, named after what it is bound by.
  void bindEach(const std::string& exchange, const std::vector<std::string>& keys) {
    for (const std::string& key : keys) {
      ASSERT_TRUE(declare("q:" + key));
      ASSERT_TRUE(bind(toQueue(exchange, "q:" + key, key)));
    }
  }
  /// The keys of the queues that a routing key leads to.
  std::vector<std::string> reached(const std::string& exchange, const std::string& key,
                                   const Table* headers = nullptr) {
    auto route = routeOf(exchange, key, headers);
    if (!route) return {"error: " + route.error().text};
    std::vector<std::string> names;
    for (const auto& queue : static_cast<const RouteImpl&>(**route).queues) {
      names.push_back(queue->spec().name.substr(2));
    }
    std::sort(names.begin(), names.end());
    return names;
  }
};

// ---------------------------------------------------------------- types

TEST_F(ExchangeTest, DefaultExchangeLeadsToTheQueueOfThatName) {
  declare("q");
  EXPECT_TRUE(send("", "q", {"one"}));
  EXPECT_FALSE(send("", "nobody", {"lost"}));
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

TEST_F(ExchangeTest, DirectComparesTheWholeKey) {
  bindEach("amq.direct", {"a", "a.b", ""});
  EXPECT_THAT(reached("amq.direct", "a"), ElementsAre("a"));
  EXPECT_THAT(reached("amq.direct", "a.b"), ElementsAre("a.b"));
  EXPECT_THAT(reached("amq.direct", ""), ElementsAre(""));
  EXPECT_THAT(reached("amq.direct", "A"), IsEmpty());
}

TEST_F(ExchangeTest, FanoutLooksAtNothing) {
  bindEach("amq.fanout", {"a", "b"});
  EXPECT_THAT(reached("amq.fanout", "c"), ElementsAre("a", "b"));
}

/// As RabbitMQ 3.10 answers them.
TEST_F(ExchangeTest, TopicPatterns) {
  declareExchange("t", ExchangeType::kTopic);
  const std::vector<std::string> keys = {"",    ".",    "a",     "a.", ".a",
                                         "a.b", "a..b", "a.b.c", "..", "b"};
  const std::map<std::string, std::vector<std::string>> matches = {
      {"", {""}},
      {"*", {"a", "b"}},
      {"#", keys},
      {".", {"."}},
      {"a.*", {"a.", "a.b"}},
      {"*.a", {".a"}},
      {"a.#", {"a", "a.", "a.b", "a..b", "a.b.c"}},
      {"#.a", {"a", ".a"}},
      {"a.#.b", {"a.b", "a..b"}},
      {"*.*", {".", "a.", ".a", "a.b"}},
      {"*.#", {".", "a", "a.", ".a", "a.b", "a..b", "a.b.c", "..", "b"}},
      {"#.*", {".", "a", "a.", ".a", "a.b", "a..b", "a.b.c", "..", "b"}},
      {"a.*.b", {"a..b"}},
      {"#.#", keys},
      {"a*", {}},
      {"**", {}},
  };
  for (const auto& [pattern, unused] : matches) bindEach("t", {pattern});
  for (const std::string& key : keys) {
    std::vector<std::string> expected;
    for (const auto& [pattern, which] : matches) {
      if (std::count(which.begin(), which.end(), key) > 0) expected.push_back(pattern);
    }
    EXPECT_THAT(reached("t", key), testing::ElementsAreArray(expected)) << "key '" << key << "'";
  }
  EXPECT_THAT(reached("t", "a*"), ElementsAre("#", "#.#", "#.*", "*", "*.#", "a*"));
}

TEST_F(ExchangeTest, ManyRestsInAPatternDontTakeForEver) {
  declareExchange("t", ExchangeType::kTopic);
  std::string pattern = "#";
  std::string key = "w";
  for (int i = 0; i < 60; ++i) pattern += ".#";
  for (int i = 0; i < 120; ++i) key += ".w";
  bindEach("t", {pattern, pattern + ".x"});
  EXPECT_THAT(reached("t", key), ElementsAre(pattern));
  EXPECT_THAT(reached("t", key + ".x"), SizeIs(2));
}

// ---------------------------------------------------------------- headers

Table table(std::initializer_list<std::pair<std::string, Value>> entries) {
  return {entries};
}
template <class T>
Value value(T is) {
  return Value(std::move(is));
}

TEST(HeadersMatch, AllNeedsEachAndAnyNeedsOne) {
  Table both = table({{"x-match", value(std::string("all"))},
                      {"a", value(int64_t{1})},
                      {"b", value(std::string("two"))}});
  Table headers = table({{"a", value(int64_t{1})}, {"b", value(std::string("two"))}});
  Table half = table({{"a", value(int64_t{1})}, {"b", value(std::string("three"))}});
  EXPECT_TRUE(headersMatch(both, &headers));
  EXPECT_FALSE(headersMatch(both, &half));
  EXPECT_FALSE(headersMatch(both, nullptr));
  both[0].second = value(std::string("any"));
  EXPECT_TRUE(headersMatch(both, &half));
  Table none = table({{"a", value(int64_t{2})}});
  EXPECT_FALSE(headersMatch(both, &none));
  both.erase(both.begin());
  EXPECT_FALSE(headersMatch(both, &half)) << "all is the default";
}

TEST(HeadersMatch, NothingToCompareMatchesAllAndNeverAny) {
  Table any = table({{"x-match", value(std::string("any"))}, {"x-a", value(int64_t{1})}});
  Table headers = table({{"x-a", value(int64_t{1})}});
  EXPECT_TRUE(headersMatch({}, nullptr));
  EXPECT_FALSE(headersMatch(any, &headers)) << "x- names don't count";
  any[0].second = value(std::string("any-with-x"));
  EXPECT_TRUE(headersMatch(any, &headers));
}

TEST(HeadersMatch, AllWithXComparesThoseToo) {
  Table all = table({{"x-match", value(std::string("all-with-x"))}, {"x-a", value(int64_t{1})}});
  Table headers = table({{"x-a", value(int64_t{2})}});
  EXPECT_FALSE(headersMatch(all, &headers));
  all[0].second = value(std::string("all"));
  EXPECT_TRUE(headersMatch(all, &headers));
}

TEST(HeadersMatch, NumbersAreComparedAsNumbers) {
  const std::vector<std::pair<Value, Value>> same = {
      {value(int64_t{5}), value(5.0)},
      {value(int64_t{5}), value(Value::Timestamp{5})},
      {value(1.5), value(1.5)},
      {value(std::string("ab")), value(Value::Octets{"ab"})},
      {value(Value::Decimal{1, 5}), value(Value::Decimal{1, 5})},
      {value(Value::Array{value(int64_t{1})}), value(Value::Array{value(int64_t{1})})},
      {Value(), value(std::string("anything"))},
      {Value(), Value()},
  };
  for (const auto& [wanted, there] : same) {
    Table headers = table({{"a", there}});
    EXPECT_TRUE(headersMatch(table({{"a", wanted}}), &headers)) << wanted.is.index();
  }
  const std::vector<std::pair<Value, Value>> different = {
      {value(int64_t{5}), value(int64_t{6})},
      {value(int64_t{5}), value(5.5)},
      {value(int64_t{1}), value(true)},
      {value(int64_t{5}), value(std::string("5"))},
      {value(Value::Decimal{1, 5}), value(Value::Decimal{2, 50})},
      {value(Value::Array{value(int64_t{1})}), value(Value::Array{value(1.0)})},
      {value(std::string("x")), Value()},
  };
  for (const auto& [wanted, there] : different) {
    Table headers = table({{"a", there}});
    EXPECT_FALSE(headersMatch(table({{"a", wanted}}), &headers)) << wanted.is.index();
  }
  EXPECT_FALSE(headersMatch(table({{"a", Value()}}), nullptr)) << "it has to be there";
}

TEST_F(ExchangeTest, HeadersExchangeIgnoresTheKey) {
  declare("q");
  bind(toQueue("amq.headers", "q", "", {{"kind", Value(std::string("order"))}}));
  Table order = {{"kind", Value(std::string("order"))}};
  Table other = {{"kind", Value(std::string("other"))}};
  EXPECT_TRUE(send("amq.headers", "whatever", {"one"}, &order));
  EXPECT_FALSE(send("amq.headers", "whatever", {"two"}, &other));
  EXPECT_FALSE(send("amq.headers", "whatever", {"three"}));
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

// ---------------------------------------------------------------- bindings

TEST_F(ExchangeTest, ARecordThatTwoBindingsLeadToArrivesOnce) {
  declare("q");
  declareExchange("t", ExchangeType::kTopic);
  bind(toQueue("t", "q", "a.#"));
  bind(toQueue("t", "q", "#.b"));
  bind(toQueue("t", "q", "a.b"));
  send("t", "a.b", {"one"});
  EXPECT_THAT(drain("q"), ElementsAre("one"));
}

TEST_F(ExchangeTest, BindingTwiceIsOnceAndUnbindingEndsIt) {
  declare("q");
  bind(toQueue("amq.direct", "q", "k"));
  bind(toQueue("amq.direct", "q", "k"));
  EXPECT_THAT(boundTo("amq.direct"), SizeIs(1));
  EXPECT_TRUE(unbind(toQueue("amq.direct", "q", "other"))) << "nothing to do";
  EXPECT_TRUE(unbind(toQueue("amq.direct", "q", "k")));
  EXPECT_FALSE(send("amq.direct", "k", {"lost"}));
  EXPECT_THAT(boundTo("amq.direct"), IsEmpty());
}

TEST_F(ExchangeTest, ArgumentsMakeAnotherBindingInWhateverOrder) {
  declare("q");
  Table ab = {{"a", Value(int64_t{1})}, {"b", Value(int64_t{2})}};
  Table ba = {{"b", Value(int64_t{2})}, {"a", Value(int64_t{1})}};
  bind(toQueue("amq.direct", "q", "k"));
  bind(toQueue("amq.direct", "q", "k", ab));
  bind(toQueue("amq.direct", "q", "k", ba));
  EXPECT_THAT(boundTo("amq.direct"), SizeIs(2));
  unbind(toQueue("amq.direct", "q", "k", ba));
  EXPECT_THAT(boundTo("amq.direct"), SizeIs(1));
}

TEST_F(ExchangeTest, BindingNeedsBothEnds) {
  declare("q");
  EXPECT_EQ(bind(toQueue("nope", "q")).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(bind(toQueue("amq.direct", "nope")).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(bind(toExchange("amq.direct", "nope")).error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(bind(toQueue("nope", "neither")).error().text, testing::HasSubstr("exchange"));
}

TEST_F(ExchangeTest, TheDefaultExchangeIsNotBound) {
  declare("q");
  EXPECT_EQ(bind(toQueue("", "q", "k")).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(bind(toExchange("amq.fanout", "")).error().kind, ErrorKind::kInvalid);
}

TEST_F(ExchangeTest, PublishingNeedsAnExchangeThatIsNotInternal) {
  ExchangeSpec inner = exchangeSpec("inner", ExchangeType::kFanout);
  inner.internal = true;
  declareExchange(inner);
  declareExchange("outer", ExchangeType::kFanout);
  declare("q");
  bind(toQueue("inner", "q"));
  bind(toExchange("outer", "inner"));
  EXPECT_EQ(routeOf("nope", "k").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(routeOf("inner", "k").error().kind, ErrorKind::kUnauthorized);
  EXPECT_TRUE(send("outer", "k", {"one"}));
}

TEST_F(ExchangeTest, RoutesFollowEveryChange) {
  declare("q:1");
  declareExchange("x", ExchangeType::kFanout);
  EXPECT_THAT(reached("x", ""), IsEmpty());
  bind(toQueue("x", "q:1"));
  EXPECT_THAT(reached("x", ""), ElementsAre("1"));
  deleteQueue("q:1");
  EXPECT_THAT(reached("x", ""), IsEmpty());
  declare("q:1");
  EXPECT_THAT(reached("x", ""), IsEmpty()) << "the binding went with the old queue";
  bind(toQueue("x", "q:1"));
  deleteExchange("x");
  EXPECT_FALSE(routeOf("x", ""));
  declareExchange("x", ExchangeType::kFanout);
  EXPECT_THAT(reached("x", ""), IsEmpty());
}

// ---------------------------------------------------------------- exchange to exchange

TEST_F(ExchangeTest, ExchangesInACircleDeliverOnce) {
  declare("q:1");
  declareExchange("x", ExchangeType::kFanout);
  declareExchange("y", ExchangeType::kFanout);
  bind(toExchange("x", "y"));
  bind(toExchange("y", "x"));
  bind(toExchange("x", "x"));
  bind(toQueue("x", "q:1"));
  bind(toQueue("y", "q:1"));
  EXPECT_THAT(reached("x", ""), ElementsAre("1"));
  EXPECT_THAT(reached("y", ""), ElementsAre("1"));
}

TEST_F(ExchangeTest, LongChainsOfExchangesAreWalkedAndTakenDown) {
  constexpr int kChain = 20'000;
  declare("q:end");
  for (int i = 0; i < kChain; ++i) {
    ExchangeSpec spec = exchangeSpec("x" + std::to_string(i), ExchangeType::kFanout, false);
    spec.autoDelete = true;
    startDeclareExchange(spec);
    if (i > 0) startBind(toExchange("x" + std::to_string(i - 1), spec.name));
  }
  startBind(toQueue("x" + std::to_string(kChain - 1), "q:end"));
  settle();
  EXPECT_THAT(reached("x0", ""), ElementsAre("end"));
  deleteQueue("q:end");
  EXPECT_FALSE(hasExchange("x0"));
}

TEST_F(ExchangeTest, DeletingADestinationUnbindsIt) {
  declareExchange("x", ExchangeType::kFanout);
  declareExchange("y", ExchangeType::kFanout);
  bind(toExchange("x", "y"));
  EXPECT_EQ(deleteExchange("x", true).error().kind, ErrorKind::kInUse);
  EXPECT_TRUE(deleteExchange("y", true)) << "being a destination is no use";
  EXPECT_THAT(boundTo("x"), IsEmpty());
  EXPECT_TRUE(deleteExchange("x", true));
  EXPECT_EQ(deleteExchange("x").error().kind, ErrorKind::kNotFound);
}

// ---------------------------------------------------------------- alternate exchange

TEST_F(ExchangeTest, AlternateTakesWhatNothingMatches) {
  declareExchange("other", ExchangeType::kFanout);
  declareExchange("x", ExchangeType::kDirect, withAlternate("other"));
  bindEach("x", {"k"});
  declare("q:rest");
  bind(toQueue("other", "q:rest"));
  EXPECT_THAT(reached("x", "k"), ElementsAre("k"));
  EXPECT_THAT(reached("x", "unknown"), ElementsAre("rest"));
  EXPECT_TRUE(send("x", "unknown", {"one"})) << "mandatory is content with it";
}

TEST_F(ExchangeTest, AlternateDoesNotTakeWhatABindingMatched) {
  declareExchange("other", ExchangeType::kFanout);
  declareExchange("dead end", ExchangeType::kFanout);
  declareExchange("x", ExchangeType::kDirect, withAlternate("other"));
  declare("q:rest");
  bind(toQueue("other", "q:rest"));
  bind(toExchange("x", "dead end", "k"));
  EXPECT_THAT(reached("x", "k"), IsEmpty());

  // A queue that another way has led to before is a match too.
  declareExchange("first", ExchangeType::kFanout);
  bindEach("x", {"both"});
  bind(toQueue("first", "q:both"));
  bind(toExchange("first", "x"));
  EXPECT_THAT(reached("first", "both"), ElementsAre("both"));
}

TEST_F(ExchangeTest, AlternatesInACircleOrMissingAreAsNone) {
  declareExchange("x", ExchangeType::kDirect, withAlternate("y"));
  EXPECT_THAT(reached("x", "k"), IsEmpty());
  declareExchange("y", ExchangeType::kDirect, withAlternate("x"));
  EXPECT_THAT(reached("x", "k"), IsEmpty());
}

// ---------------------------------------------------------------- auto-delete

TEST_F(ExchangeTest, AutoDeleteGoesWithItsLastBinding) {
  ExchangeSpec spec = exchangeSpec("x", ExchangeType::kFanout);
  spec.autoDelete = true;
  declareExchange(spec);
  declare("a");
  declare("b");
  EXPECT_TRUE(hasExchange("x")) << "not before its first";
  bind(toQueue("x", "a"));
  bind(toQueue("x", "b"));
  unbind(toQueue("x", "a"));
  EXPECT_TRUE(hasExchange("x"));
  deleteQueue("b");
  EXPECT_FALSE(hasExchange("x"));
}

TEST_F(ExchangeTest, AutoDeleteGoesOnDownAChain) {
  for (const char* name : {"x", "y"}) {
    ExchangeSpec spec = exchangeSpec(name, ExchangeType::kFanout);
    spec.autoDelete = true;
    declareExchange(spec);
  }
  declareExchange("end", ExchangeType::kFanout);
  bind(toExchange("x", "y"));
  bind(toExchange("y", "end"));
  deleteExchange("end");
  EXPECT_FALSE(hasExchange("y"));
  EXPECT_FALSE(hasExchange("x"));
}

// ---------------------------------------------------------------- failed writes

TEST_F(ExchangeTest, ADeclarationThatFailsLeavesNothing) {
  auto answer = startDeclareExchange(exchangeSpec("x", ExchangeType::kFanout));
  EXPECT_TRUE(hasExchange("x"));
  failWrites();
  EXPECT_EQ((*answer)->error().kind, ErrorKind::kIo);
  EXPECT_FALSE(hasExchange("x"));
  store_->refuseNext({ErrorKind::kNoSpace, "full"});
  EXPECT_EQ(declareExchange("x", ExchangeType::kFanout).error().kind, ErrorKind::kNoSpace);
  EXPECT_FALSE(hasExchange("x"));
  EXPECT_TRUE(declareExchange("x", ExchangeType::kFanout));
}

TEST_F(ExchangeTest, ABindingThatFailsLeavesItsExchange) {
  ExchangeSpec spec = exchangeSpec("x", ExchangeType::kFanout);
  spec.autoDelete = true;
  declareExchange(spec);
  declare("q");
  auto answer = startBind(toQueue("x", "q"));
  failWrites();
  EXPECT_EQ((*answer)->error().kind, ErrorKind::kIo);
  EXPECT_THAT(boundTo("x"), IsEmpty());
  EXPECT_TRUE(hasExchange("x"));
  EXPECT_TRUE(bind(toQueue("x", "q")));
  EXPECT_TRUE(send("x", "", {"one"}));
}

/// The write of the first declaration failed, and before its worker hears of it somebody declares
/// the same once more, with success: nothing may take that away.
TEST_F(ExchangeTest, AFailureTakesNothingFromADeclarationAfterIt) {
  auto first = startDeclareExchange(exchangeSpec("x", ExchangeType::kFanout));
  store_->failPending({ErrorKind::kIo, "the disk said no"});
  auto second = startDeclareExchange(exchangeSpec("x", ExchangeType::kFanout));
  settle();
  EXPECT_FALSE(**first);
  EXPECT_TRUE(**second);
  EXPECT_TRUE(hasExchange("x"));
  declare("q");
  auto bound = startBind(toQueue("x", "q"));
  store_->failPending({ErrorKind::kIo, "the disk said no"});
  auto again = startBind(toQueue("x", "q"));
  settle();
  EXPECT_FALSE(**bound);
  EXPECT_TRUE(**again);
  crash();
  EXPECT_THAT(boundTo("x"), ElementsAre("q"));
}

TEST_F(ExchangeTest, ADeletionThatFailsIsMadeUpForButNotOverANewDeclaration) {
  declareExchange("x", ExchangeType::kFanout);
  declareExchange("y", ExchangeType::kFanout);
  declare("q");
  bind(toQueue("x", "q"));
  for (const char* name : {"x", "y"}) {
    on(0, [&] { client_[0]->deleteExchange(name, false, [](Result<>) {}); });
  }
  failWrites();
  EXPECT_FALSE(hasExchange("x"));
  failWrites();  // the second try too
  EXPECT_TRUE(declareExchange("x", ExchangeType::kDirect));
  advance(5000);
  crash();
  EXPECT_TRUE(hasExchange("x"));
  EXPECT_FALSE(hasExchange("y"));
  EXPECT_THAT(boundTo("x"), IsEmpty()) << "the old one's binding";
}

TEST_F(ExchangeTest, LimitsAreKept) {
  RouterOptions options;
  options.maxExchanges = 7;
  options.maxBindings = 1;
  dropClients();
  end();
  begin(1, options);
  EXPECT_TRUE(declareExchange("x", ExchangeType::kFanout));
  EXPECT_EQ(declareExchange("y", ExchangeType::kFanout).error().kind, ErrorKind::kBusy);
  declare("q");
  EXPECT_TRUE(bind(toQueue("x", "q")));
  EXPECT_EQ(bind(toQueue("x", "q", "k")).error().kind, ErrorKind::kBusy);
  EXPECT_TRUE(bind(toQueue("x", "q"))) << "it is there";
}

}  // namespace
}  // namespace polylog::router
