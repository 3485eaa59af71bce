#include "core/net/ip_prefix.h"

#include <gtest/gtest.h>

namespace polylog {
namespace {

std::string again(std::string_view text) {
  auto prefix = IpPrefix::parse(text);
  return prefix ? prefix->text() : "(none)";
}

TEST(IpPrefix, OneFormEach) {
  EXPECT_EQ(again("192.0.2.7"), "192.0.2.7");
  EXPECT_EQ(again("192.0.2.7/32"), "192.0.2.7");
  EXPECT_EQ(again("10.0.0.0/8"), "10.0.0.0/8");
  EXPECT_EQ(again("0.0.0.0/0"), "0.0.0.0/0");
  EXPECT_EQ(again("2001:DB8:0::/32"), "2001:db8::/32");
  EXPECT_EQ(again("::ffff:192.0.2.7"), "192.0.2.7");
  EXPECT_EQ(again("::/0"), "::/0");
}

TEST(IpPrefix, WhatIsNone) {
  for (const char* text : {"", "10", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "2001:db8::1/32",
                           "::/129", "example.org", "10.0.0.0/8x", "10.0.0.0/-1"}) {
    EXPECT_FALSE(IpPrefix::parse(text)) << text;
  }
}

TEST(IpPrefix, Shortened) {
  auto address = IpPrefix::parse("10.1.2.3");
  EXPECT_EQ(address->shortened(96 + 8), *IpPrefix::parse("10.0.0.0/8"));
  EXPECT_EQ(address->shortened(96 + 12), *IpPrefix::parse("10.0.0.0/12"));
  EXPECT_EQ(address->shortened(128), *address);
}

}  // namespace
}  // namespace polylog
