#include "storage/state_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <thread>

#include "core/base/log.h"
#include "tests/support/faulty_directory.h"
#include "tests/support/seeded_random.h"
#include "tests/support/temporary_directory.h"

namespace polylog::storage {
namespace {

using test::DiskCall;
using test::FaultyDisk;
using test::PowerFailure;
using test::SeededRandom;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Table = std::map<std::string, std::string>;
constexpr Position kNoEnd(~uint64_t{0});

Table contentOf(const StateView& view, BytesView prefix = {}) {
  Table table;
  view.scan(prefix, [&](BytesView key, BytesView value) {
    table.emplace(key, value);
    return true;
  });
  return table;
}

/// Opens, or fails the test.
std::unique_ptr<StateView> open(std::shared_ptr<Directory> directory, Position journalEnd = kNoEnd,
                                std::vector<std::string>* report = nullptr) {
  std::vector<std::string> ownReport;
  auto view = openStateView(std::move(directory), journalEnd, report ? *report : ownReport);
  if (!view) {
    ADD_FAILURE() << view.error().text;
    return nullptr;
  }
  return std::move(*view);
}

/// Random changes, and what they add up to at each position.
class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) { history_[0] = {}; }

  std::vector<ViewChange> next(uint64_t position) {
    std::vector<ViewChange> changes(1 + random_.next() % 10);
    for (ViewChange& change : changes) {
      change.key = std::string(1, static_cast<char>(1 + random_.next() % 15)) + "key" +
                   std::to_string(random_.next() % 40);
      if (random_.next() % 4 != 0) {
        change.value = std::string(random_.next() % 50, static_cast<char>(random_.next()));
      }
      if (change.value) {
        now_[change.key] = *change.value;
      } else {
        now_.erase(change.key);
      }
    }
    history_[position] = now_;
    return changes;
  }
  bool knows(Position position) const { return history_.contains(position.value()); }
  const Table& at(Position position) const { return history_.at(position.value()); }

 private:
  SeededRandom random_;
  Table now_;
  std::map<uint64_t, Table> history_;
};

class StateViewTest : public testing::Test {
 protected:
  void SetUp() override { setLogLevel(LogLevel::kError); }
  void TearDown() override { setLogLevel(LogLevel::kInfo); }

  /// `count` positions, one hundred apart.
  void applySome(StateView& view, Model& model, int count) {
    for (int i = 0; i < count; ++i) {
      uint64_t position = view.applied().value() + 100;
      ASSERT_TRUE(view.apply(model.next(position), Position(position)));
    }
  }
};

TEST_F(StateViewTest, StartsEmptyAndFastOnTheRealDisk) {
  test::TemporaryDirectory temporary;
  auto directory = openDirectory(temporary.path()).value();
  std::vector<std::string> report;
  auto start = std::chrono::steady_clock::now();
  auto view = open(directory, Position(0), &report);
  auto took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took, std::chrono::milliseconds(1000));
  RecordProperty(
      "open_micros",
      std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->applied(), Position(0));
  EXPECT_EQ(view->safePosition(), Position(0));
  EXPECT_THAT(contentOf(*view), IsEmpty());
  EXPECT_THAT(report, IsEmpty());
}

TEST_F(StateViewTest, AppliesGetsAndScans) {
  FaultyDisk disk;
  auto view = open(disk.root());
  std::vector<ViewChange> changes = {{"\1a", "1"},      {"\1b", ""},         {"\2a", "2"},
                                     {"\2\xff", "3"},   {"\2\xff\xff", "4"}, {"\3", "5"},
                                     {"\xff\xff", "6"}, {"\1c", "gone"},     {"\1c", std::nullopt}};
  ASSERT_TRUE(view->apply(changes, Position(10)));
  EXPECT_EQ(view->applied(), Position(10));
  EXPECT_EQ(view->get("\1a"), "1");
  EXPECT_EQ(view->get("\1b"), "");
  EXPECT_EQ(view->get("\1c"), std::nullopt);
  EXPECT_EQ(view->get(BytesView("\0applied", 8)), std::nullopt);
  EXPECT_THAT(contentOf(*view, "\1"), (Table{{"\1a", "1"}, {"\1b", ""}}));
  EXPECT_THAT(contentOf(*view, "\2\xff"), (Table{{"\2\xff", "3"}, {"\2\xff\xff", "4"}}));
  EXPECT_THAT(contentOf(*view, "\xff"), (Table{{"\xff\xff", "6"}}));
  EXPECT_THAT(contentOf(*view, BytesView("\0", 1)), IsEmpty());
  EXPECT_EQ(contentOf(*view).size(), 7U);
  int visited = 0;
  view->scan({}, [&](BytesView, BytesView) { return ++visited < 3; });
  EXPECT_EQ(visited, 3);
}

TEST_F(StateViewTest, RefusesKeysOfItsOwn) {
  FaultyDisk disk;
  auto view = open(disk.root());
  std::vector<ViewChange> changes = {{"\1a", "1"}, {std::string("\0applied", 8), "x"}};
  EXPECT_EQ(view->apply(changes, Position(1)).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(view->applied(), Position(0));
  EXPECT_THAT(contentOf(*view), IsEmpty());
}

TEST_F(StateViewTest, KeepsTheNewestTwoCheckpoints) {
  test::TemporaryDirectory temporary;
  auto directory = openDirectory(temporary.path()).value();
  Model model(1);
  {
    auto view = open(directory);
    applySome(*view, model, 10);
    ASSERT_TRUE(view->checkpoint());
    EXPECT_EQ(view->safePosition(), Position(0));
    ASSERT_TRUE(view->checkpoint());  // nothing new
    EXPECT_EQ(view->safePosition(), Position(0));
    applySome(*view, model, 10);
    ASSERT_TRUE(view->checkpoint());
    EXPECT_EQ(view->safePosition(), Position(1000));
    applySome(*view, model, 10);
    ASSERT_TRUE(view->checkpoint());
    EXPECT_EQ(view->safePosition(), Position(2000));
    applySome(*view, model, 5);
  }
  EXPECT_TRUE(directory->isDirectory("checkpoint-00000000000000002000"));
  EXPECT_TRUE(directory->isDirectory("checkpoint-00000000000000003000"));
  EXPECT_EQ(directory->list()->size(), 3U);  // and the view
  std::vector<std::string> report;
  auto view = open(directory, Position(3500), &report);
  EXPECT_EQ(view->applied(), Position(3000));  // What was not flushed is the journal's to replay.
  EXPECT_EQ(contentOf(*view), model.at(Position(3000)));
  EXPECT_EQ(view->safePosition(), Position(2000));
  EXPECT_THAT(report, IsEmpty());
}

TEST_F(StateViewTest, TellsCheckpointsOfOnePositionApart) {
  test::TemporaryDirectory temporary;
  auto directory = openDirectory(temporary.path()).value();
  auto change = [](std::string value) { return std::vector<ViewChange>{{"\1a", value}}; };
  {
    auto view = open(directory);
    for (const char* value : {"1", "2", "3"}) {
      ASSERT_TRUE(view->apply(change(value), Position(10)));
      ASSERT_TRUE(view->checkpoint());
    }
    EXPECT_EQ(view->safePosition(), Position(10));
    ASSERT_TRUE(view->apply(change("4"), Position(9)));
    EXPECT_EQ(view->applied(), Position(10));  // It never moves back.
  }
  EXPECT_TRUE(directory->isDirectory("checkpoint-00000000000000000010-1"));
  EXPECT_TRUE(directory->isDirectory("checkpoint-00000000000000000010-2"));
  EXPECT_EQ(directory->list()->size(), 3U);
  ASSERT_TRUE(directory->remove("view"));
  EXPECT_EQ(open(directory)->get("\1a"), "3");
  ASSERT_TRUE(directory->remove("view"));
  ASSERT_TRUE(directory->remove("checkpoint-00000000000000000010-2"));
  EXPECT_EQ(open(directory)->get("\1a"), "2");
}

TEST_F(StateViewTest, DropsAViewAndCheckpointsAboveTheJournal) {
  test::TemporaryDirectory temporary;
  auto directory = openDirectory(temporary.path()).value();
  Model model(2);
  {
    auto view = open(directory);
    for (int i = 0; i < 3; ++i) {
      applySome(*view, model, 10);
      ASSERT_TRUE(view->checkpoint());
    }
  }
  {
    std::vector<std::string> report;
    auto view = open(directory, Position(2500), &report);
    EXPECT_EQ(view->applied(), Position(2000));
    EXPECT_EQ(contentOf(*view), model.at(Position(2000)));
    EXPECT_EQ(view->safePosition(), Position(0));
    EXPECT_THAT(report, ElementsAre(HasSubstr("3000, which is above the journal's end at 2500")));
  }
  std::vector<std::string> report;
  auto view = open(directory, Position(1999), &report);
  EXPECT_EQ(view->applied(), Position(0));
  EXPECT_THAT(contentOf(*view), IsEmpty());
  EXPECT_THAT(report.back(), HasSubstr("empty"));
}

TEST_F(StateViewTest, RestoresALostView) {
  test::TemporaryDirectory temporary;
  auto directory = openDirectory(temporary.path()).value();
  Model model(3);
  {
    auto view = open(directory);
    applySome(*view, model, 10);
    ASSERT_TRUE(view->checkpoint());
  }
  ASSERT_TRUE(directory->remove("view"));
  std::vector<std::string> report;
  {
    auto view = open(directory, kNoEnd, &report);
    EXPECT_EQ(view->applied(), Position(1000));
    EXPECT_EQ(contentOf(*view), model.at(Position(1000)));
    EXPECT_THAT(report, IsEmpty());
    applySome(*view, model, 10);
    ASSERT_TRUE(view->checkpoint());
    EXPECT_EQ(view->safePosition(), Position(1000));
  }
  // A view that has only lost its beginnings must not pass for a new one.
  ASSERT_TRUE((*directory->subdirectory("view"))->remove("CURRENT"));
  auto view = open(directory, kNoEnd, &report);
  EXPECT_EQ(view->applied(), Position(2000));
  EXPECT_EQ(contentOf(*view), model.at(Position(2000)));
}

TEST_F(StateViewTest, DoesNotThrowTheViewAwayForAFullDisk) {
  FaultyDisk disk;
  Model model(4);
  {
    auto view = open(disk.root());
    applySome(*view, model, 10);
    ASSERT_TRUE(view->checkpoint());
    applySome(*view, model, 10);
    disk.setFull(true);
    EXPECT_EQ(view->checkpoint().error().kind, ErrorKind::kNoSpace);
  }
  std::vector<std::string> report;
  auto full = openStateView(disk.root(), kNoEnd, report);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::kNoSpace) << full.error().text;
  EXPECT_THAT(report, IsEmpty());
  disk.clearFaults();
  auto view = open(disk.root(), kNoEnd, &report);
  EXPECT_EQ(view->applied(), Position(1000));
  EXPECT_EQ(contentOf(*view), model.at(Position(1000)));
  EXPECT_THAT(report, IsEmpty());
}

TEST_F(StateViewTest, AFailedCheckpointLeavesTheOldOnes) {
  FaultyDisk disk;
  Model model(5);
  auto view = open(disk.root());
  for (int i = 0; i < 2; ++i) {
    applySome(*view, model, 10);
    ASSERT_TRUE(view->checkpoint());
  }
  applySome(*view, model, 10);
  disk.failSync(0, "checkpoint.tmp");
  EXPECT_FALSE(view->checkpoint());
  EXPECT_EQ(view->safePosition(), Position(1000));
  ASSERT_TRUE(view->checkpoint());
  EXPECT_EQ(view->safePosition(), Position(2000));
}

/// Every file of the view and of its checkpoints, damaged at places all over it, one at a time.
TEST_F(StateViewTest, OneDamagedFileCostsNothing) {
  FaultyDisk disk;
  Model model(6);
  {
    auto view = open(disk.root());
    for (int i = 0; i < 3; ++i) {
      applySome(*view, model, 10);
      ASSERT_TRUE(view->checkpoint());
    }
  }
  int mended = 0;
  for (const std::string directory :
       {"view", "checkpoint-00000000000000002000", "checkpoint-00000000000000003000"}) {
    auto files = *disk.root()->subdirectory(directory);
    std::vector<std::string> names = files->list().value();
    for (const std::string& name : names) {
      std::string path = directory + "/" + name;
      uint64_t size = disk.contentOf(path)->size();
      for (uint64_t step = 0; step < 12 && size > 0; ++step) {
        SCOPED_TRACE(path + " step " + std::to_string(step));
        auto damaged = disk.clone();
        if (step < 10) {
          ASSERT_TRUE(
              damaged->flipBit(path, step * (size - 1) / 9, static_cast<unsigned>(step % 8)));
        } else {
          ASSERT_TRUE(damaged->setSize(path, step == 10 ? size / 2 : 0));
        }
        std::vector<std::string> report;
        auto view = open(damaged->root(), Position(3000), &report);
        ASSERT_TRUE(view);
        ASSERT_EQ(view->applied(), Position(3000));
        ASSERT_EQ(contentOf(*view), model.at(Position(3000)));
        mended += report.empty() ? 0 : 1;
        // The next checkpoint is whole again, and so is its second copy.
        ASSERT_TRUE(view->apply({}, Position(4000)));
        ASSERT_TRUE(view->checkpoint());
        view.reset();
        report.clear();
        ASSERT_EQ(open(damaged->root(), kNoEnd, &report)->applied(), Position(4000));
        ASSERT_THAT(report, IsEmpty());
      }
    }
  }
  EXPECT_GT(mended, 20);
}

TEST_F(StateViewTest, ACheckpointIsGivenUpIfBothCopiesOfATableAreDamaged) {
  FaultyDisk disk;
  Model model(7);
  {
    auto view = open(disk.root());
    for (int i = 0; i < 2; ++i) {
      applySome(*view, model, 10);
      ASSERT_TRUE(view->checkpoint());
    }
  }
  const std::string newest = "checkpoint-00000000000000002000";
  std::string last;
  std::vector<std::string> names = (*disk.root()->subdirectory(newest))->list().value();
  for (const std::string& name : names) {
    if (name.ends_with(".sst")) last = std::max(last, newest + "/" + name);
  }
  ASSERT_TRUE(disk.flipBit(last, 100, 3));
  ASSERT_TRUE(disk.flipBit(last + ".copy", 200, 3));
  std::vector<std::string> report;
  auto view = open(disk.root(), kNoEnd, &report);
  EXPECT_EQ(view->applied(), Position(1000));
  EXPECT_EQ(contentOf(*view), model.at(Position(1000)));
  EXPECT_THAT(report, ElementsAre(HasSubstr("dropped the state checkpoint of position 2000")));
}

TEST_F(StateViewTest, DamageFoundWhileReadingStopsApplyingAndIsMendedAtTheNextStart) {
  FaultyDisk disk;
  SeededRandom random(7);
  // More than a block, and nothing that compresses.
  std::vector<ViewChange> many(100);
  for (size_t i = 0; i < many.size(); ++i) {
    many[i].key = "\1" + std::to_string(i);
    many[i].value = randomHex(random, 64) + randomHex(random, 64);
  }
  auto view = open(disk.root());
  ASSERT_TRUE(view->apply(many, Position(1000)));
  ASSERT_TRUE(view->checkpoint());
  Table content = contentOf(*view);
  view.reset();

  view = open(disk.root());
  std::string newest;
  std::vector<std::string> names = disk.root()->subdirectory("view").value()->list().value();
  for (const std::string& name : names) {
    if (name.ends_with(".sst")) newest = std::max(newest, "view/" + name);
  }
  ASSERT_TRUE(disk.flipBit(newest, disk.contentOf(newest)->size() / 2, 3));
  contentOf(*view);
  EXPECT_EQ(view->apply({}, Position(5000)).error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(view->checkpoint().error().kind, ErrorKind::kCorrupt);
  view.reset();

  // The checkpoint shares the damaged table, and has a second copy of it.
  std::vector<std::string> report;
  view = open(disk.root(), kNoEnd, &report);
  EXPECT_EQ(view->applied(), Position(1000));
  EXPECT_EQ(contentOf(*view), content);
  EXPECT_THAT(report, ElementsAre(HasSubstr("second copy")));
}

TEST_F(StateViewTest, ReadsAndCheckpointsWhileApplying) {
  test::TemporaryDirectory temporary;
  auto view = open(openDirectory(temporary.path()).value());
  std::atomic<bool> done{false};
  std::atomic<int> scans{0};
  std::jthread reader([&] {
    while (!done) {
      // Both keys change in one batch, and a scan is a moment in time.
      Table table = contentOf(*view, "\5");
      EXPECT_EQ(table["\5a"], table["\5z"]);
      view->get("\5a");
      ++scans;
    }
  });
  std::jthread checkpointer([&] {
    while (!done) EXPECT_TRUE(view->checkpoint());
  });
  uint64_t position = 0;
  while (position < 5000 || scans < 10 || view->safePosition() == Position(0)) {
    ++position;
    std::string value = std::to_string(position);
    std::vector<ViewChange> changes = {{"\5a", value}, {"\5z", value}};
    ASSERT_TRUE(view->apply(changes, Position(position)));
  }
  done = true;
  checkpointer.join();
  reader.join();
  EXPECT_LE(view->safePosition(), view->applied());
  ASSERT_TRUE(view->checkpoint());
}

/// What a power failure at one boundary may bring back.
struct Moment {
  uint64_t boundary;
  std::shared_ptr<FaultyDisk> disk;
  Position applied;     ///< durable in the journal at that moment
  Position checkpoint;  ///< of the last checkpoint() that had returned
  Position safe;        ///< what the journal may have been cut below
};

class PowerFailureTest : public StateViewTest, public testing::WithParamInterface<PowerFailure> {};

TEST_P(PowerFailureTest, ComesBackWithTheStateOfAPositionPassed) {
  FaultyDisk disk;
  Model model(8);
  std::atomic<uint64_t> applied{0};
  std::atomic<uint64_t> checkpointed{0};
  std::atomic<uint64_t> safe{0};
  std::mutex mutex;
  std::vector<Moment> moments;
  disk.onBoundary([&](uint64_t boundary, const DiskCall&) {
    std::lock_guard lock(mutex);
    moments.push_back(
        {boundary, disk.clone(), Position(applied), Position(checkpointed), Position(safe)});
  });
  {
    auto view = open(disk.root());
    for (int round = 0; round < 5; ++round) {
      for (int i = 0; i < 8; ++i) {
        uint64_t position = applied + 100;
        auto changes = model.next(position);
        applied = position;  // It is in the journal before it is applied.
        ASSERT_TRUE(view->apply(changes, Position(position)));
      }
      ASSERT_TRUE(view->checkpoint());
      checkpointed = applied.load();
      safe = view->safePosition().value();
    }
  }
  disk.onBoundary({});
  ASSERT_GT(moments.size(), 150U);
  uint64_t replaced = 0;
  for (const Moment& moment : moments) {
    SeededRandom random(moment.boundary);
    int rounds = GetParam() == PowerFailure::kRandom ? 8 : 1;
    for (int round = 0; round < rounds; ++round) {
      auto image = moment.disk->afterPowerFailure(GetParam(), random);
      std::vector<std::string> report;
      auto view = open(image->root(), moment.applied, &report);
      std::string where = "boundary " + std::to_string(moment.boundary) + ", round " +
                          std::to_string(round) + ", at position ";
      ASSERT_TRUE(view) << where;
      where += std::to_string(view->applied().value());
      ASSERT_TRUE(model.knows(view->applied())) << where;
      ASSERT_LE(view->applied(), moment.applied) << where;
      ASSERT_GE(view->applied(), moment.checkpoint) << where;
      ASSERT_GE(view->safePosition(), moment.safe) << where;
      ASSERT_LE(view->safePosition(), view->applied()) << where;
      ASSERT_EQ(contentOf(*view), model.at(view->applied())) << where;
      replaced += report.empty() ? 0 : 1;
      // It goes on from there.
      std::vector<ViewChange> more = {{"\1more", "x"}};
      ASSERT_TRUE(view->apply(more, Position(100'000))) << where;
      if (moment.boundary % 16 == 0) {
        ASSERT_TRUE(view->checkpoint()) << where;
        view.reset();
        view = open(image->root());
        ASSERT_EQ(view->applied(), Position(100'000)) << where;
        ASSERT_EQ(view->get("\1more"), "x") << where;
      }
    }
  }
  // RocksDB syncs what it relies on: only a torn place costs the view itself.
  bool clean = GetParam() == PowerFailure::kLoseUnsynced || GetParam() == PowerFailure::kKeepAll;
  EXPECT_TRUE(!clean || replaced == 0) << replaced;
  RecordProperty("moments", std::to_string(moments.size()));
  RecordProperty("replaced", std::to_string(replaced));
}

/// The power fails while a start is busy replacing a view: the next start finishes the job.
TEST_P(PowerFailureTest, ReplacesTheViewInTheEnd) {
  FaultyDisk disk;
  Model model(9);
  {
    auto view = open(disk.root());
    for (int i = 0; i < 3; ++i) {
      applySome(*view, model, 5);
      ASSERT_TRUE(view->checkpoint());
    }
  }
  for (uint64_t journalEnd : {1600U, 1200U}) {  // The newest checkpoint is damaged; it is ahead.
    auto trace = disk.clone();
    if (journalEnd == 1600) {
      ASSERT_TRUE(trace->setSize("checkpoint-00000000000000001500/CURRENT", 3));
      ASSERT_TRUE(trace->setSize("checkpoint-00000000000000001500/CURRENT.copy", 3));
    }
    std::vector<std::pair<uint64_t, std::shared_ptr<FaultyDisk>>> moments;
    trace->onBoundary([&](uint64_t boundary, const DiskCall&) {
      moments.emplace_back(boundary, trace->clone());
    });
    Position expected(1000);
    ASSERT_EQ(open(trace->root(), Position(journalEnd))->applied(), expected);
    ASSERT_GT(moments.size(), 30U);
    for (const auto& [boundary, moment] : moments) {
      SeededRandom random(boundary);
      auto image = moment->afterPowerFailure(GetParam(), random);
      auto view = open(image->root(), Position(journalEnd));
      ASSERT_TRUE(view) << boundary;
      ASSERT_EQ(view->applied(), expected) << boundary;
      ASSERT_EQ(contentOf(*view), model.at(expected)) << boundary;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryBoundary, PowerFailureTest,
                         testing::ValuesIn(test::kAllPowerFailures), [](const auto& parameter) {
                           std::string name = describe(parameter.param);
                           std::erase(name, ' ');
                           return name;
                         });

}  // namespace
}  // namespace polylog::storage
