#include "core/event/event_dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/loop_thread.h"

namespace polylog {
namespace {

using test::LoopThread;
using testing::ElementsAre;

TEST(EventDispatcher, RunsPostedTasksInOrder) {
  EventDispatcher loop;
  std::vector<int> seen;
  for (int i = 0; i < 5; ++i) loop.post([&seen, i] { seen.push_back(i); });
  loop.post([&] { loop.stop(); });
  loop.run();
  EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4));
}

TEST(EventDispatcher, KnowsItsThread) {
  EventDispatcher loop;
  EXPECT_EQ(Dispatcher::current(), nullptr);
  EXPECT_FALSE(loop.isOwnThread());
  loop.post([&] {
    EXPECT_EQ(Dispatcher::current(), &loop);
    EXPECT_TRUE(loop.isOwnThread());
    loop.stop();
  });
  loop.run();
  EXPECT_EQ(Dispatcher::current(), nullptr);
}

TEST(EventDispatcher, KeepsEachThreadsOrder) {
  constexpr int kThreads = 4;
  constexpr int kEach = 5000;
  LoopThread loop;
  std::vector<int> last(kThreads, -1);
  int wrong = 0;
  std::atomic<int> left = kThreads * kEach;
  std::promise<void> all;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        loop.dispatcher().post([&, t, i] {
          int& before = last[static_cast<size_t>(t)];
          if (before != i - 1) ++wrong;
          before = i;
          if (--left == 0) all.set_value();
        });
      }
    });
  }
  for (std::thread& each : threads) each.join();
  all.get_future().get();
  EXPECT_EQ(loop.call([&] { return wrong; }), 0);
}

// A lost wake-up would hang here: each post meets a loop that is about to sleep.
TEST(EventDispatcher, WakesForEveryPingPong) {
  LoopThread one;
  LoopThread other;
  std::promise<void> done;
  std::function<void(int)> hop = [&](int left) {
    if (left == 0) return done.set_value();
    EventDispatcher& next = left % 2 == 0 ? one.dispatcher() : other.dispatcher();
    next.post([&, left] { hop(left - 1); });
  };
  hop(20'000);
  done.get_future().get();
  // Each is through with the post that woke the other before either is destroyed.
  one.call([] {});
  other.call([] {});
}

TEST(EventDispatcher, DeferredRunsAfterTheRoundsTasks) {
  EventDispatcher loop;
  std::vector<int> seen;
  loop.post([&] {
    loop.defer([&] {
      seen.push_back(3);
      loop.defer([&] { seen.push_back(4); });
    });
    loop.post([&] {
      seen.push_back(5);
      loop.stop();
    });
    seen.push_back(1);
  });
  loop.post([&] { seen.push_back(2); });
  loop.run();
  EXPECT_THAT(seen, ElementsAre(1, 2, 3, 4, 5));
}

TEST(EventDispatcher, EndlessDeferringStarvesNobody) {
  EventDispatcher loop;
  std::function<void()> again = [&] { loop.defer(again); };
  again();
  loop.post([&] { loop.stop(); });
  loop.run();
}

TEST(EventDispatcher, StopBeforeRunReturnsAtOnce) {
  EventDispatcher loop;
  bool ran = false;
  loop.stop();
  loop.post([&] { ran = true; });
  loop.run();
  EXPECT_FALSE(ran);
}

TEST(EventDispatcher, LeftoverTasksAreDestroyed) {
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  EventDispatcher loop;
  loop.post([&loop, held] {
    loop.post([held] { ADD_FAILURE() << "ran after stop()"; });
    loop.stop();
  });
  held.reset();
  loop.run();
  EXPECT_TRUE(watch.expired());
}

TEST(EventDispatcher, TimersFireInOrderAndNotEarly) {
  EventDispatcher loop;
  std::vector<int> seen;
  int64_t start = loop.clock().monotonicMicros();
  int64_t shortest = 0;
  auto late = loop.makeTimer([&] {
    seen.push_back(3);
    loop.stop();
  });
  auto middle = loop.makeTimer([&] { seen.push_back(2); });
  auto early = loop.makeTimer([&] {
    shortest = loop.clock().monotonicMicros() - start;
    seen.push_back(1);
  });
  auto cancelled = loop.makeTimer([&] { seen.push_back(-1); });
  auto destroyed = loop.makeTimer([&] { seen.push_back(-2); });
  late->start(20'000);
  middle->start(10'000);
  early->start(1'500);
  cancelled->start(1'000);
  cancelled->cancel();
  destroyed->start(1'000);
  destroyed.reset();
  loop.run();
  EXPECT_THAT(seen, ElementsAre(1, 2, 3));
  EXPECT_GE(shortest, 1'500);
}

TEST(EventDispatcher, RestartedTimerFiresOnceAtTheLastDeadline) {
  EventDispatcher loop;
  int fired = 0;
  int64_t start = loop.clock().monotonicMicros();
  int64_t at = 0;
  auto timer = loop.makeTimer([&] {
    ++fired;
    at = loop.clock().monotonicMicros() - start;
  });
  auto end = loop.makeTimer([&] { loop.stop(); });
  timer->start(1'000);
  timer->start(8'000);
  end->start(500'000);
  end->start(30'000);
  loop.run();
  EXPECT_EQ(fired, 1);
  EXPECT_GE(at, 8'000);
}

TEST(EventDispatcher, TimerMayDestroyItselfAndOthers) {
  EventDispatcher loop;
  std::unique_ptr<Timer> other = loop.makeTimer([] { ADD_FAILURE() << "destroyed timer fired"; });
  std::unique_ptr<Timer> self;
  auto held = std::make_shared<int>(0);
  self = loop.makeTimer([&, held] {
    other.reset();
    self.reset();
    *held = 1;  // what it holds outlives the call
    loop.stop();
  });
  // Due in the same moment.
  self->start(0);
  other->start(0);
  loop.run();
  EXPECT_EQ(*held, 1);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(EventDispatcher, PeriodicTimerByRestart) {
  EventDispatcher loop;
  int fired = 0;
  std::unique_ptr<Timer> timer;
  timer = loop.makeTimer([&] {
    if (++fired == 5) return loop.stop();
    timer->start(0);
  });
  timer->start(0);
  loop.run();
  EXPECT_EQ(fired, 5);
}

TEST(EventDispatcher, ManyTimersStartedCancelledAndRestarted) {
  EventDispatcher loop;
  std::mt19937 random(7);
  std::vector<std::unique_ptr<Timer>> timers;
  std::vector<int> fired(500, 0);
  std::vector<bool> expected(500, false);
  std::vector<int64_t> deadline(500, 0);
  int64_t lastFired = 0;
  for (size_t i = 0; i < fired.size(); ++i) {
    timers.push_back(loop.makeTimer([&, i] {
      ++fired[i];
      EXPECT_LE(deadline[i], loop.clock().monotonicMicros());
      lastFired = deadline[i];
    }));
  }
  for (int step = 0; step < 5000; ++step) {
    size_t i = random() % timers.size();
    if (random() % 4 == 0) {
      timers[i]->cancel();
      expected[i] = false;
    } else {
      auto micros = static_cast<int64_t>(random() % 40'000);
      deadline[i] = loop.clock().monotonicMicros() + micros;
      timers[i]->start(micros);
      expected[i] = true;
    }
  }
  auto end = loop.makeTimer([&] { loop.stop(); });
  end->start(80'000);
  loop.run();
  for (size_t i = 0; i < fired.size(); ++i) EXPECT_EQ(fired[i], expected[i] ? 1 : 0) << i;
  EXPECT_GT(lastFired, 0);
}

}  // namespace
}  // namespace polylog
