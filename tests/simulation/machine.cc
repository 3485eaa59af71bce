#include "tests/simulation/machine.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/router/queue_fixture.h"

namespace polylog::simulation {

using router::makeRouter;
using router::RouterOptions;

Machine::Machine(uint64_t seed)
    : seed_(seed),
      dice_(seed),
      brokersRandom_(seed ^ 0x5EED),
      disk_(std::make_unique<test::FaultyDisk>()) {}

Machine::~Machine() {
  if (running()) crash(test::PowerFailure::kKeepAll);
}

storage::LogStoreOptions Machine::storeOptions() const {
  storage::LogStoreOptions options;
  options.threads = false;
  options.segmentBytes = 16 << 10;
  options.checkpointBytes = 24 << 10;
  options.retentionCheckMillis = 2000;
  options.diskHighMark = 1 << 20;
  options.diskLowMark = 2 << 20;
  return options;
}

void Machine::start() {
  ++life_;
  fatal_ = false;
  auto store = openLogStore(disk_->root(), storeOptions(), clock_, brokersRandom_,
                            [this](const Error& error) {
                              fatal_ = true;
                              say("fatal: " + error.text);
                            });
  if (!store) return fail("the store doesn't open: " + store.error().text);
  store_ = std::move(*store);
  std::vector<Dispatcher*> dispatchers;
  for (size_t i = 0; i < kWorkers; ++i) {
    loops_.push_back(std::make_unique<test::ManualDispatcher>(clock_));
    dispatchers.push_back(loops_.back().get());
  }
  RouterOptions options;
  options.filterOf = router::filterOfBindingKey;
  options.routingKeyOf = router::routingKeyOfAddress;
  options.routedPositionMillis = 200;
  auto made = makeRouter(*store_, dispatchers, clock_, brokersRandom_, options);
  if (!made) return fail("the router doesn't start: " + made.error().text);
  router_ = std::move(*made);
  router_->start();
  say("started");
}

void Machine::dismantle() {
  router_ = nullptr;
  loops_.clear();
  store_ = nullptr;
}

void Machine::stop() {
  say("stop");
  bool stopped = false;
  router_->stop([&] { stopped = true; });
  for (int i = 0; i < 1000 && !stopped; ++i) settle();
  if (!stopped) fail("the router doesn't stop");
  store_->close();
  settle();
  durableTick_ = ticks_;
  clean_ = true;
  dismantle();
}

void Machine::crash(test::PowerFailure failure) {
  say(std::string("crash: ") + test::describe(failure));
  test::SeededRandom chance(dice_.next());
  auto after = disk_->afterPowerFailure(failure, chance);
  disk_->clearFaults();
  disk_->powerOffAt(0);
  store_->close();
  dismantle();
  disk_ = std::move(after);
  clean_ = false;
}

void Machine::turn() {
  size_t who = pick(kWorkers + 1);
  if (who < kWorkers) {
    loops_[who]->runTurn();
  } else {
    store_->runStep();
  }
}

void Machine::settle() {
  for (bool any = true; any;) {
    any = false;
    for (auto& loop : loops_) any = loop->runAll() > 0 || any;
    uint64_t told = ticks_;
    store_->runOnce();
    for (auto& loop : loops_) any = loop->runAll() > 0 || any;
    if (!doomed()) durableTick_ = told;
  }
}

void Machine::rest(int64_t millis) {
  constexpr int64_t kStep = 50;
  for (int64_t passed = 0; passed < millis; passed += kStep) {
    pass(kStep * 1000);
    settle();
  }
}

void Machine::say(std::string text) {
  said_.push_back(std::to_string(life_) + "/" + std::to_string(ticks_) + " " + std::move(text));
}

void Machine::fail(const std::string& text) {
  if (failed_) return;
  failed_ = true;
  std::string story;
  const size_t kShown = std::getenv("POLYLOG_SEED") != nullptr ? said_.size() : 40;
  for (size_t i = said_.size() < kShown ? 0 : said_.size() - kShown; i < said_.size(); ++i) {
    story += "\n  " + said_[i];
  }
  ADD_FAILURE() << text << story << "\nThe seed is " << seed_
                << ": POLYLOG_SEED=" << seed_ << " plays it again.";
}

PrincipalRef Machine::client(const std::string& id, Protocol protocol) {
  return std::make_shared<const Principal>(Principal{"", id, "127.0.0.1:1", protocol});
}

}  // namespace polylog::simulation
