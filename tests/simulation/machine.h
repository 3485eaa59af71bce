// The machine that a simulated broker runs on: clock, disk, workers and who of them runs next all
// follow from one seed, on one thread. Broker and disk come and go; what clients were told stays
// with them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/model/principal.h"
#include "router/router.h"
#include "tests/support/fake_clock.h"
#include "tests/support/faulty_directory.h"
#include "tests/support/manual_dispatcher.h"
#include "tests/support/seeded_random.h"

namespace polylog::simulation {

class Machine {
 public:
  static constexpr size_t kWorkers = 3;

  explicit Machine(uint64_t seed);
  ~Machine();

  // ---- chance
  size_t pick(size_t below) { return static_cast<size_t>(dice_.next() % below); }
  bool chance(size_t percent) { return pick(100) < percent; }

  // ---- time and order
  int64_t nowMicros() const { return clock_.monotonicMicros(); }
  void pass(int64_t micros) { clock_.advance(micros); }
  /// One worker, or the journal's writer, does one thing.
  void turn();
  /// All run until nothing is left to do, and everything is on the disk.
  void settle();
  /// settle() again and again while `millis` pass.
  void rest(int64_t millis);

  // ---- the broker
  void start();
  /// SIGTERM.
  void stop();
  /// kill -9, or the power goes; the disk is what may come back.
  void crash(test::PowerFailure failure);
  bool running() const { return router_ != nullptr; }
  /// A sync failed, or the power is off: the broker only has its end before it.
  bool doomed() const { return fatal_ || disk_->poweredOff(); }
  router::Router& router() { return *router_; }
  storage::LogStore& store() { return *store_; }
  test::FaultyDisk& disk() { return *disk_; }

  template <class Work>
  auto on(size_t worker, Work work) {
    test::ManualDispatcher::Scope scope(*loops_[worker]);
    return work();
  }

  // ---- what happened
  /// Rises with everything that clients ask and are told.
  uint64_t tick() { return ++ticks_; }
  /// Everything that had been told by then is on the disk, whatever its durability.
  uint64_t durableTick() const { return durableTick_; }
  /// How often the broker has been started.
  int life() const { return life_; }
  bool lastEndWasClean() const { return clean_; }
  void say(std::string text);
  /// Fails the test, with the seed and what was said last.
  void fail(const std::string& text);

  static PrincipalRef client(const std::string& id, Protocol protocol);

 private:
  storage::LogStoreOptions storeOptions() const;
  void dismantle();

  const uint64_t seed_;
  test::SeededRandom dice_;
  test::SeededRandom brokersRandom_;
  test::FakeClock clock_;
  std::unique_ptr<test::FaultyDisk> disk_;
  std::vector<std::unique_ptr<test::ManualDispatcher>> loops_;
  std::unique_ptr<storage::LogStore> store_;
  std::unique_ptr<router::Router> router_;
  bool fatal_ = false;
  bool clean_ = true;
  int life_ = 0;
  uint64_t ticks_ = 0;
  uint64_t durableTick_ = 0;
  std::vector<std::string> said_;
  bool failed_ = false;
};

/// Whoever uses the broker. Called between the broker's turns.
class Actor {
 public:
  virtual ~Actor() = default;
  /// The broker runs again; connect.
  virtual void onStart() {}
  /// It is gone (`clean`: by itself, with everything on the disk), and all connections with it.
  virtual void onEnd(bool /*clean*/) {}
  /// Lets go of what it holds of the broker, which is about to end: closes its connections
  /// (`clean`), or finds them dead.
  virtual void leave(bool /*clean*/) {}
  /// Does one thing.
  virtual void act() = 0;
  /// All faults are over: takes up what is undone. False when there is nothing more to do.
  virtual bool finish() { return false; }
  /// After finish(), and when all is quiet: whether it has what it was promised.
  virtual void verify() {}
};

}  // namespace polylog::simulation
