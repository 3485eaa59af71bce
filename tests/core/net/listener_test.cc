#include "core/net/listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/base/metrics.h"
#include "core/event/event_dispatcher.h"
#include "core/net/address.h"
#include "tests/support/loop_thread.h"
#include "tests/support/loopback.h"
#include "tests/support/temporary_directory.h"

namespace polylog {
namespace {

using test::LoopbackClient;
using test::LoopThread;
using testing::AllOf;
using testing::HasSubstr;

/// Answers each octet with the worker's letter; on shutdown says "bye" if `polite`.
class LetterSession final : public ProtocolSession {
 public:
  LetterSession(Transport& transport, char letter, bool polite)
      : transport_(transport), letter_(letter), polite_(polite) {}
  size_t onBytes(const SharedBytes& input) override {
    transport_.handshakeDone();
    transport_.send(std::string(input.size(), letter_));
    return input.size();
  }
  void onShutdown() override {
    if (!polite_) return;
    transport_.send("bye");
    transport_.close("shutdown");
  }
  void onClosed(std::string_view /*why*/) override {}

 private:
  Transport& transport_;
  char letter_;
  bool polite_;
};

class ListenerTest : public testing::Test {
 protected:
  Result<std::unique_ptr<Listener>> open(ListenerOptions options) {
    return Listener::open(
        std::move(options), {&one_.dispatcher(), &two_.dispatcher()}, [this](Transport& transport) {
          bool first = &transport.dispatcher() == &one_.dispatcher();
          return std::make_unique<LetterSession>(transport, first ? '1' : '2', polite_);
        });
  }
  ListenerOptions options() {
    return {.protocol = "letters", .address = {"127.0.0.1", 0}, .limits = {}, .budget = nullptr};
  }
  static void stop(Listener& listener, int64_t drainMicros) {
    std::promise<void> stopped;
    listener.stop(drainMicros, [&] { stopped.set_value(); });
    stopped.get_future().get();
  }

  LoopThread one_;
  LoopThread two_;
  bool polite_ = true;
};

TEST_F(ListenerTest, SpreadsConnectionsOverTheWorkers) {
  auto listener = open(options());
  ASSERT_TRUE(listener) << listener.error().text;
  std::vector<std::unique_ptr<LoopbackClient>> clients;
  std::map<std::string, int> letters;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<LoopbackClient>((*listener)->bound()));
    ASSERT_TRUE(clients.back()->send("x"));
    ++letters[clients.back()->read(1)];
  }
  EXPECT_EQ(letters["1"], 3);
  EXPECT_EQ(letters["2"], 3);
  EXPECT_EQ((*listener)->connections(), 6U);
  EXPECT_THAT(metricsText(), HasSubstr("polylog_connections{protocol=\"letters\"} 6\n"));
  stop(**listener, 0);
  EXPECT_EQ((*listener)->connections(), 0U);
  EXPECT_THAT(metricsText(), HasSubstr("polylog_connections{protocol=\"letters\"} 0\n"));
}

TEST_F(ListenerTest, TakenPortIsNamedWithTheRemedy) {
  auto first = open(options());
  ASSERT_TRUE(first);
  ListenerOptions again = options();
  again.address = (*first)->bound();
  auto second = open(again);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(second.error().text, AllOf(HasSubstr(toText((*first)->bound())), HasSubstr("taken"),
                                         HasSubstr("--listen letters=HOST:PORT")));
  stop(**first, 0);
}

TEST_F(ListenerTest, AddressOfAnotherMachineIsRefused) {
  ListenerOptions foreign = options();
  foreign.address = {"192.0.2.1", 0};
  auto opened = open(foreign);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().text, HasSubstr("192.0.2.1"));
}

TEST_F(ListenerTest, LocalhostIsBothFamilies) {
  ListenerOptions local = options();
  local.address = {"localhost", 0};
  auto listener = open(local);
  ASSERT_TRUE(listener) << listener.error().text;
  EXPECT_EQ((*listener)->bound().host, "127.0.0.1");
  LoopbackClient v4((*listener)->bound());
  ASSERT_TRUE(v4.send("x"));
  EXPECT_EQ(v4.read(1).size(), 1U);
  LoopbackClient v6({"::1", (*listener)->bound().port});
  if (v6.connected()) {  // a machine may have no IPv6
    ASSERT_TRUE(v6.send("x"));
    EXPECT_EQ(v6.read(1).size(), 1U);
  }
  stop(**listener, 0);
}

TEST_F(ListenerTest, WildcardTellsTheAddressThatWasReached) {
  ListenerOptions any = options();
  any.address = {"0.0.0.0", 0};
  std::promise<std::string> local;
  auto listener = Listener::open(any, {&one_.dispatcher()}, [&](Transport& transport) {
    local.set_value(transport.local().host);
    return std::make_unique<LetterSession>(transport, 'x', true);
  });
  ASSERT_TRUE(listener);
  LoopbackClient client({"127.0.0.1", (*listener)->bound().port});
  EXPECT_EQ(local.get_future().get(), "127.0.0.1");
  stop(**listener, 0);
}

TEST_F(ListenerTest, ConnectionsOverTheLimitAreClosedAtOnce) {
  ListenerOptions two = options();
  two.budget = std::make_shared<ConnectionBudget>();
  two.budget->maxOpen = 2;
  auto listener = open(two);
  ASSERT_TRUE(listener);
  LoopbackClient first((*listener)->bound());
  LoopbackClient second((*listener)->bound());
  ASSERT_TRUE(first.send("x"));
  ASSERT_EQ(first.read(1).size(), 1U);
  ASSERT_TRUE(second.send("x"));
  ASSERT_EQ(second.read(1).size(), 1U);
  LoopbackClient third((*listener)->bound());
  EXPECT_EQ(third.readToEnd(), "");
  EXPECT_TRUE(third.ended());
  EXPECT_THAT(metricsText(), HasSubstr("polylog_connections_refused_total{protocol=\"letters\","
                                       "reason=\"max_connections\"} 1\n"));
  stop(**listener, 0);
  EXPECT_EQ(two.budget->open.load(), 0U);
  EXPECT_EQ(two.budget->inHandshake.load(), 0U);
}

TEST_F(ListenerTest, AListenersOwnLimitOfConnections) {
  ListenerOptions one = options();
  one.maxConnections = 1;
  auto listener = open(one);
  ASSERT_TRUE(listener);
  auto first = std::make_unique<LoopbackClient>((*listener)->bound());
  ASSERT_TRUE(first->send("x"));
  EXPECT_EQ(first->read(1).size(), 1U);
  LoopbackClient second((*listener)->bound());
  EXPECT_EQ(second.readToEnd(), "");
  EXPECT_TRUE(second.ended());
  EXPECT_THAT(metricsText(), HasSubstr("polylog_connections_refused_total{protocol=\"letters\","
                                       "reason=\"listener_max_connections\"}"));
  ASSERT_TRUE(first->send("x"));
  EXPECT_EQ(first->read(1).size(), 1U);
  stop(**listener, 0);
}

TEST_F(ListenerTest, AListenersRateOfConnections) {
  ListenerOptions slow = options();
  slow.maxConnectionRate = 3;
  auto listener = open(slow);
  ASSERT_TRUE(listener);
  std::vector<std::unique_ptr<LoopbackClient>> clients;
  int served = 0;
  for (int i = 0; i < 20; ++i) {
    auto& client = clients.emplace_back(std::make_unique<LoopbackClient>((*listener)->bound()));
    client->send("x");
    served += client->read(1).size() == 1 ? 1 : 0;
  }
  // A second's worth at once; then one each third of a second.
  EXPECT_GE(served, 3);
  EXPECT_LT(served, 20);
  EXPECT_EQ((*listener)->connections(), static_cast<size_t>(served));
  stop(**listener, 0);
}

class UnixSocketTest : public ListenerTest {
 protected:
  ListenerOptions atPath() {
    ListenerOptions made = options();
    made.address = {"unix:" + path_, 0};
    return made;
  }
  test::TemporaryDirectory directory_;
  std::string path_ = directory_.path() + "/letters.sock";
};

TEST_F(UnixSocketTest, ServesAndRemovesItsFile) {
  auto listener = open(atPath());
  ASSERT_TRUE(listener) << listener.error().text;
  EXPECT_EQ(toText((*listener)->bound()), "unix:" + path_);
  LoopbackClient client((*listener)->bound());
  ASSERT_TRUE(client.send("xy"));
  EXPECT_EQ(client.read(2).size(), 2U);
  stop(**listener, 0);
  listener->reset();
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(UnixSocketTest, TellsWhoseProcessConnected) {
  std::promise<std::string> peer;
  auto listener = Listener::open(atPath(), {&one_.dispatcher()}, [&](Transport& transport) {
    peer.set_value(transport.peer());
    return std::make_unique<LetterSession>(transport, 'x', true);
  });
  ASSERT_TRUE(listener);
  LoopbackClient client((*listener)->bound());
  EXPECT_THAT(peer.get_future().get(), AllOf(testing::StartsWith("unix:" + path_),
                                             HasSubstr("pid " + std::to_string(getpid()))));
  stop(**listener, 0);
}

TEST_F(UnixSocketTest, TakesThePlaceOfADeadOneOnly) {
  auto first = open(atPath());
  ASSERT_TRUE(first);
  auto second = open(atPath());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(second.error().text, HasSubstr(path_));
  stop(**first, 0);
  first->reset();
  // A socket whose program was killed leaves its file.
  int dead = socket(AF_UNIX, SOCK_STREAM, 0);
  auto address = resolve({"unix:" + path_, 0});
  ASSERT_EQ(bind(dead, address->front().get(), address->front().length), 0);
  close(dead);
  auto third = open(atPath());
  ASSERT_TRUE(third) << third.error().text;
  stop(**third, 0);
  third->reset();
  // What is no socket is nobody's to remove.
  std::ofstream(path_) << "precious";
  auto fourth = open(atPath());
  ASSERT_FALSE(fourth);
  EXPECT_EQ(access(path_.c_str(), F_OK), 0);
}

TEST_F(UnixSocketTest, APathCanBeTooLong) {
  ListenerOptions longOne = options();
  longOne.address = {"unix:/" + std::string(200, 'x'), 0};
  auto opened = open(longOne);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().text, HasSubstr("107 octets"));
}

TEST_F(ListenerTest, HandshakesHaveABudgetOfTheirOwn) {
  ListenerOptions one = options();
  one.budget = std::make_shared<ConnectionBudget>();
  one.budget->maxInHandshake = 1;
  auto listener = open(one);
  ASSERT_TRUE(listener);
  LoopbackClient finished((*listener)->bound());
  ASSERT_TRUE(finished.send("x"));
  ASSERT_EQ(finished.read(1).size(), 1U);  // its place is free again
  LoopbackClient silent((*listener)->bound());
  LoopbackClient refused((*listener)->bound());
  EXPECT_EQ(refused.readToEnd(), "");
  EXPECT_TRUE(refused.ended());
  ASSERT_TRUE(silent.send("x"));
  EXPECT_EQ(silent.read(1).size(), 1U);
  stop(**listener, 0);
  EXPECT_EQ(one.budget->inHandshake.load(), 0U);
}

TEST_F(ListenerTest, StopSaysGoodByeAndThenRefuses) {
  auto listener = open(options());
  ASSERT_TRUE(listener);
  HostPort address = (*listener)->bound();
  LoopbackClient client(address);
  ASSERT_TRUE(client.send("x"));
  ASSERT_EQ(client.read(1).size(), 1U);
  std::promise<void> stopped;
  (*listener)->stop(10'000'000, [&] { stopped.set_value(); });
  EXPECT_EQ(client.readToEnd(), "bye");
  client.close();
  stopped.get_future().get();
  EXPECT_FALSE(LoopbackClient(address).connected());
}

TEST_F(ListenerTest, DrainEndsAtItsDeadline) {
  polite_ = false;
  auto listener = open(options());
  ASSERT_TRUE(listener);
  LoopbackClient client((*listener)->bound());
  ASSERT_TRUE(client.send("x"));
  ASSERT_EQ(client.read(1).size(), 1U);
  stop(**listener, 20'000);
  EXPECT_EQ(client.readToEnd(), "");
  EXPECT_TRUE(client.ended());
}

TEST_F(ListenerTest, RunsOutOfDescriptorsAndRecovers) {
#ifndef __has_feature  // clang's way to say what g++ says by a macro
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
  GTEST_SKIP() << "UBSan's check of virtual calls opens a pipe, and errs when it gets none";
#endif
  auto listener = open(options());
  ASSERT_TRUE(listener);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // The client's own descriptor is the last one that is to be had.
  int lowest = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(lowest);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(lowest) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  LoopbackClient waiting((*listener)->bound());
  EXPECT_TRUE(waiting.connected());  // by the kernel, in the backlog
  bool sent = waiting.send("x");
  // Both workers have tried in vain once their loops have gone round.
  one_.call([] {});
  two_.call([] {});
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_TRUE(sent);
  EXPECT_EQ(waiting.read(1).size(), 1U);
  stop(**listener, 0);
}

TEST(Listener, MayBeDestroyedWhenLoopsHaveEnded) {
  EventDispatcher idle;
  auto opened = Listener::open(
      {.protocol = "letters", .address = {"127.0.0.1", 0}, .limits = {}, .budget = nullptr},
      {&idle},
      [](Transport& transport) { return std::make_unique<LetterSession>(transport, 'x', true); });
  ASSERT_TRUE(opened);
  LoopbackClient client((*opened)->bound());
  // A few rounds with a connection open, then no more.
  auto end = idle.makeTimer([&] { idle.stop(); });
  end->start(20'000);
  idle.run();
  EXPECT_EQ((*opened)->connections(), 1U);
  opened->reset();
  EXPECT_EQ(client.readToEnd(), "");
  EXPECT_TRUE(client.ended());
}

}  // namespace
}  // namespace polylog
