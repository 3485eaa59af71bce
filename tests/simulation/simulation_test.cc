// Storage, router and coordinators under one seed: clients of all kinds use a broker on one thread,
// its workers and its journal's writer take turns by chance, the disk is slow to sync, fails, fills up
// and loses its power, retention, rewriting and compaction run, and the broker is started again
// and again. At each start the logs are compared with what publishers were told and readers saw; at
// the end everybody gets what is theirs.
//
//   POLYLOG_SEED=n    plays seed n and no other
//   POLYLOG_SEEDS=n   so many, 200 unless told; they begin at POLYLOG_FIRST_SEED, or by chance
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <vector>

#include "core/base/log.h"
#include "tests/simulation/consumers.h"
#include "tests/simulation/groups.h"
#include "tests/simulation/publishers.h"
#include "tests/simulation/records.h"
#include "tests/simulation/transactions.h"

namespace polylog::simulation {
namespace {

class Life {
 public:
  explicit Life(uint64_t seed) : machine_(seed), records_(machine_) {
    size_t publisher = 0;
    add<PlainProducer>(records_, publisher++);
    add<IdempotentProducer>(records_, publisher++);
    add<IdempotentProducer>(records_, publisher++);
    add<Device>(records_, publisher++);
    add<Device>(records_, publisher++);
    add<ExactDevice>(records_, publisher++);
    add<Subscriber>(records_, "one", "steady/#");
    add<Subscriber>(records_, "two", "quick/#");
    add<Subscriber>(records_, "three", "#");
    add<Worker>(records_, "jobs", size_t{0});
    add<Worker>(records_, "short-jobs", size_t{2});
    add<Reader>(records_);
    add<Committer>("offsets");
    add<Members>();
    add<Transactor>();
  }

  void play() {
    machine_.start();
    makeTopics();
    size_t lives = 2 + machine_.pick(4);
    for (size_t life = 0; life < lives && good(); ++life) {
      if (life > 0) begin();
      live();
      if (!good()) return;
      end();
    }
    if (good()) begin();
    if (good()) finish();
  }
  /// Of what happened, to compare one play with another.
  const std::string& digest() const { return digest_; }

 private:
  template <class Kind, class... Arguments>
  void add(Arguments&&... arguments) {
    actors_.push_back(std::make_unique<Kind>(machine_, std::forward<Arguments>(arguments)...));
  }
  static bool good() { return !testing::Test::HasFailure(); }

  void makeTopics() {
    for (const TopicModel& model : kTopics) {
      TopicSpec spec;
      spec.name = model.name;
      spec.partitions = model.partitions;
      TopicConfig config;
      config.own = TopicFields::all();
      if (!model.waitsForDisk) config.flush = FlushPolicy::kInterval;
      if (model.expires) config.retentionBytes = 8000;
      if (model.compacts) {
        config.cleanup = CleanupPolicy{};
        config.cleanup.deletes = false;
        config.cleanup.compacts = true;
        config.cleanup.minDirtyPercent = 10;
      }
      spec.config = config;
      bool made = false;
      machine_.on(0, [&] {
        machine_.router().createTopic(Machine::client("admin", Protocol::kKafka), std::move(spec),
                                      [&](Result<TopicRef> result) { made = result.has_value(); });
      });
      machine_.settle();
      if (!made) machine_.fail(std::string("topic ") + model.name + " isn't made");
    }
    for (auto& actor : actors_) actor->onStart();
  }

  void begin() {
    machine_.start();
    if (!machine_.running()) return;
    records_.verify();
    if (!good()) return;
    for (auto& actor : actors_) actor->onStart();
  }

  void live() {
    plan();
    for (size_t steps = 100 + machine_.pick(900); steps > 0 && !machine_.doomed() && good();
         --steps) {
      size_t what = machine_.pick(1000);
      if (what < 350) {
        actors_[machine_.pick(actors_.size())]->act();
      } else if (what < 950) {
        machine_.turn();
      } else if (what < 970) {
        machine_.pass(static_cast<int64_t>(machine_.pick(60'000)));
      } else if (what < 976) {
        machine_.pass(static_cast<int64_t>(machine_.pick(5'000'000)));
      } else if (what < 984) {
        machine_.settle();
      } else if (what < 990) {
        (void)machine_.store().runRetention();
      } else if (what < 994) {
        (void)machine_.store().checkpoint();
      } else if (full_ || machine_.chance(30)) {
        toggleSpace();
      }
      if (full_ && machine_.chance(2)) toggleSpace();
    }
  }

  /// What is to go wrong in this life.
  void plan() {
    test::FaultyDisk& disk = machine_.disk();
    switch (machine_.pick(6)) {
      case 0:
      case 1:
      case 2: disk.powerOffAt(disk.boundaries() + machine_.pick(400)); break;
      case 3:
        disk.failWrite(machine_.pick(60), machine_.chance(50) ? ErrorKind::kIo : ErrorKind::kNoSpace,
                       machine_.pick(300), "segment");
        break;
      case 4: disk.failSync(machine_.pick(60), "segment"); break;
      default: break;
    }
  }

  void toggleSpace() {
    full_ = !full_;
    machine_.say(full_ ? "the disk is full" : "there is space again");
    machine_.disk().setFreeBytes(full_ ? 1000 : uint64_t{1} << 40);
  }

  void end() {
    if (full_) toggleSpace();
    bool clean = !machine_.doomed() && machine_.chance(40);
    if (clean) {
      machine_.disk().clearFaults();
      machine_.disk().powerOffAt(UINT64_MAX);
    }
    for (auto& actor : actors_) actor->leave(clean);
    if (clean) {
      machine_.stop();
    } else {
      machine_.crash(test::kAllPowerFailures[machine_.pick(test::kAllPowerFailures.size())]);
    }
    for (auto& actor : actors_) actor->onEnd(clean);
    records_.ended(clean);
    digest_ += std::to_string(machine_.tick()) + (clean ? "s" : "c");
  }

  void finish() {
    for (bool any = true; any && good();) {
      any = false;
      for (int i = 0; i < 400 && good(); ++i) {
        any = false;
        for (auto& actor : actors_) any |= actor->finish();
        machine_.rest(100);
        if (!any) break;
      }
      if (any) break;  // verify() says who
    }
    if (!good()) return;
    records_.verify();
    for (auto& actor : actors_) {
      if (good()) actor->verify();
    }
    for (auto& actor : actors_) actor->leave(true);
    machine_.stop();
    digest_ += std::to_string(machine_.tick());
  }

  Machine machine_;
  Records records_;
  std::vector<std::unique_ptr<Actor>> actors_;
  bool full_ = false;
  std::string digest_;
};

uint64_t numberFrom(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

class SimulationTest : public testing::Test {
 protected:
  void SetUp() override { setLogLevel(LogLevel::kError); }
  void TearDown() override { setLogLevel(LogLevel::kInfo); }
};

TEST_F(SimulationTest, KeepsItsPromises) {
  if (std::getenv("POLYLOG_SEED") != nullptr) {
    Life(numberFrom("POLYLOG_SEED", 0)).play();
    return;
  }
  uint64_t first = numberFrom("POLYLOG_FIRST_SEED", systemRandom().next() >> 24);
  uint64_t count = numberFrom("POLYLOG_SEEDS", 200);
  std::cout << count << " seeds from " << first << " on\n";
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) Life(seed).play();
}

TEST_F(SimulationTest, OneSeedPlaysTheSameAgain) {
  for (uint64_t seed : {3U, 17U}) {
    Life once(seed);
    once.play();
    Life again(seed);
    again.play();
    EXPECT_EQ(once.digest(), again.digest());
  }
}

}  // namespace
}  // namespace polylog::simulation
