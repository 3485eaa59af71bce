#include "core/net/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace polylog {
namespace {

TEST(Address, ParsesWhatPeopleWrite) {
  auto v4 = parseHostPort("127.0.0.1:1883");
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 1883);
  auto v6 = parseHostPort("[::1]:65535");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->port, 65535);
  EXPECT_EQ(toText(*v6), "[::1]:65535");
  EXPECT_EQ(toText(*parseHostPort("localhost:0")), "localhost:0");
}

TEST(Address, RefusesWithTheTextAndTheForm) {
  for (const char* bad : {"", ":", "1883", ":1883", "host:", "host:x", "host:65536", "host:-1",
                          "host:1 ", "::1:1883", "[::1]", "[]:1", "[::1:1"}) {
    auto parsed = parseHostPort(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_THAT(parsed.error().text, testing::HasSubstr("HOST:PORT"));
    EXPECT_THAT(parsed.error().text, testing::HasSubstr(bad));
  }
}

TEST(Address, TellsWildcardAndLoopback) {
  EXPECT_TRUE(isWildcard({"0.0.0.0", 1}));
  EXPECT_TRUE(isWildcard({"::", 1}));
  EXPECT_FALSE(isWildcard({"127.0.0.1", 1}));
  EXPECT_TRUE(isLoopback({"127.3.2.1", 1}));
  EXPECT_TRUE(isLoopback({"::1", 1}));
  EXPECT_TRUE(isLoopback({"localhost", 1}));
  EXPECT_FALSE(isLoopback({"10.0.0.1", 1}));
  EXPECT_FALSE(isLoopback({"0.0.0.0", 1}));
}

TEST(Address, ResolvesNumbersAndLocalhost) {
  auto one = resolve({"127.0.0.1", 99});
  ASSERT_TRUE(one);
  ASSERT_EQ(one->size(), 1U);
  EXPECT_EQ(toText(one->front().numeric()), "127.0.0.1:99");
  auto both = resolve({"localhost", 7});
  ASSERT_TRUE(both);
  ASSERT_EQ(both->size(), 2U);
  EXPECT_EQ(toText((*both)[1].numeric()), "[::1]:7");
  EXPECT_FALSE(resolve({"no such host", 1}));
}

TEST(Address, UnixDomainSockets) {
  auto address = parseHostPort("unix:/run/polylog.sock");
  ASSERT_TRUE(address);
  EXPECT_EQ(toText(*address), "unix:/run/polylog.sock");
  EXPECT_EQ(unixPath(*address), "/run/polylog.sock");
  EXPECT_TRUE(isUnixSocket(*address));
  EXPECT_TRUE(isLoopback(*address));
  EXPECT_FALSE(isWildcard(*address));
  auto host = parseHostPort("unix:1883");
  ASSERT_TRUE(host) << "a host may have that name";
  EXPECT_EQ(host->port, 1883);
  EXPECT_FALSE(isUnixSocket(*host));
}

}  // namespace
}  // namespace polylog
