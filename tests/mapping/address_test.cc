#include "mapping/address.h"

#include <gtest/gtest.h>

#include <random>

namespace polylog::mapping {
namespace {

std::string markedOf(BytesView name) {
  std::string out;
  appendMarked(name, out);
  return out;
}

TEST(Address, DividesAtTheFirstSlash) {
  EXPECT_TRUE(sameAddress(splitAddress("sensors/kitchen/temp"), {"sensors", "kitchen/temp"}));
  EXPECT_TRUE(sameAddress(splitAddress("sensors"), {"sensors", std::nullopt}));
  EXPECT_TRUE(sameAddress(splitAddress("sensors/"), {"sensors", ""}));
  EXPECT_TRUE(sameAddress(splitAddress("/a"), {"", "a"}));
  EXPECT_TRUE(sameAddress(splitAddress(""), {"", std::nullopt}));
  EXPECT_FALSE(sameAddress({"a", ""}, {"a", std::nullopt}));
}

TEST(Address, AppendIsTheReverse) {
  for (const char* text : {"", "/", "//", "a", "a/", "a/b", "a//b/", "/a"}) {
    std::string out = "before:";
    appendAddress(splitAddress(text), out);
    EXPECT_EQ(out, std::string("before:") + text);
  }
}

TEST(Address, TopicsHaveNoSlashAndNoDollarBeforeThem) {
  EXPECT_TRUE(canonicalTopicPossible(""));
  EXPECT_TRUE(canonicalTopicPossible("a$"));
  EXPECT_TRUE(canonicalTopicPossible(BytesView("\0+", 2)));
  EXPECT_FALSE(canonicalTopicPossible("$SYS"));
  EXPECT_FALSE(canonicalTopicPossible("a/b"));
}

TEST(Address, MarksInBase64UrlWithoutPadding) {
  // RFC 4648, section 10, and the two digits by which base64url differs.
  EXPECT_EQ(markedOf(""), "enc--");
  EXPECT_EQ(markedOf("f"), "enc--Zg");
  EXPECT_EQ(markedOf("fo"), "enc--Zm8");
  EXPECT_EQ(markedOf("foo"), "enc--Zm9v");
  EXPECT_EQ(markedOf("foobar"), "enc--Zm9vYmFy");
  EXPECT_EQ(markedOf("\xfb\xff\xbf"), "enc---_-_");
}

TEST(Address, DecodesNothingButWhatMarkingMakes) {
  EXPECT_EQ(decodeMarked("enc--Zm9v"), "foo");
  EXPECT_EQ(decodeMarked("enc--"), "");
  for (const char* bad : {"Zm9v", "ENC--Zm9v", "enc-Zm9v", "enc--Z", "enc--Zm9vY", "enc--Zg==",
                          "enc--Zh", "enc--Zm9", "enc--Zm+v", "enc--Zm/v", "enc--Zm v"}) {
    EXPECT_EQ(decodeMarked(bad), std::nullopt) << bad;
  }
  std::mt19937 random(1);
  for (size_t size = 0; size < 200; ++size) {
    std::string name(size, '\0');
    for (char& c : name) c = static_cast<char>(random());
    EXPECT_EQ(decodeMarked(markedOf(name)), name);
  }
}

TEST(Address, TextIsWellFormedUtf8WithoutNul) {
  for (const char* good : {"", "a", "sensors/kitchen/temperature", "grün", "温度", "\x7f",
                           "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xee\x80\x80", "\xed\x9f\xbf",
                           "\xef\xbf\xbf", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}) {
    EXPECT_TRUE(isText(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc2", "\xe1\x80",
        "\xf1\x80\x80", "abcdefgh\xff", "abcdefghabcdefg\xc3", "\xc3(", "\xe2\x28\xa1"}) {
    EXPECT_FALSE(isText(bad)) << bad;
  }
  // A NUL at every place of a word, and behind one.
  for (size_t at = 0; at < 20; ++at) {
    std::string nul(20, 'x');
    EXPECT_TRUE(isText(nul));
    nul[at] = '\0';
    EXPECT_FALSE(isText(nul)) << at;
    nul[at] = '\x01';
    EXPECT_TRUE(isText(nul)) << at;
  }
}

TEST(Address, Utf8IsTextThatMayHaveNuls) {
  EXPECT_TRUE(isUtf8(""));
  EXPECT_TRUE(isUtf8("grün"));
  EXPECT_TRUE(isUtf8(BytesView("\0a\0\0", 4)));
  EXPECT_FALSE(isUtf8("\xff"));
  EXPECT_FALSE(isUtf8(BytesView("\xff\0", 2)));
  EXPECT_FALSE(isUtf8(BytesView("a\0\xc3", 3)));
}

/// Values that lean on the marker's edge cases, and noise.
std::vector<std::string> hardValues() {
  std::vector<std::string> out = {"",          "x",         "enc--",     "enc--!null",
                                  "enc--Zm9v", "enc--!",    "enc",       std::string("\0", 1),
                                  "\xff",      "enc--\xff", "enc--Zm8=", "grün",
                                  "enc--/w",   "enc--_w==="};
  size_t base = out.size();
  for (size_t i = 0; i < base; ++i) out.push_back(markedOf(out[i]));
  for (size_t i = base; i < 2 * base; ++i) out.push_back(markedOf(out[i]));
  std::mt19937 random(5);
  for (int i = 0; i < 500; ++i) {
    std::string value = i % 2 == 0 ? "enc--" : "";
    for (auto n = random() % 6; n > 0; --n) {
      value.push_back(i % 3 == 0 ? static_cast<char>(random()) : "AZw_-8!nul"[random() % 10]);
    }
    out.push_back(value);
    out.push_back(markedOf(value));
  }
  return out;
}

TEST(Address, HeaderValuesAndTextsAreExactInverses) {
  TextArena arena;
  for (const std::string& value : hardValues()) {
    BytesView text = textOf(value, arena);
    ASSERT_TRUE(isText(text));
    ASSERT_EQ(valueOfText(text, arena), std::optional<BytesView>(value)) << text;
    BytesView nameText = textOfName(value, arena);
    ASSERT_TRUE(isText(nameText));
    ASSERT_EQ(nameOfText(nameText, arena), value);
    if (!isText(value)) continue;
    ASSERT_EQ(textOf(valueOfText(value, arena), arena), value);
    ASSERT_EQ(textOfName(nameOfText(value, arena), arena), value);
  }
  EXPECT_EQ(textOf(std::nullopt, arena), "enc--!null");
  EXPECT_EQ(valueOfText("enc--!null", arena), std::nullopt);
  EXPECT_EQ(nameOfText("enc--!null", arena), "enc--!null");
}

TEST(Address, OnlyWhatNeedsItIsMarked) {
  TextArena arena;
  for (const char* plain : {"", "x", "grün", "enc--Zm9v", "enc--free text"}) {
    EXPECT_EQ(textOf(plain, arena), plain);
    EXPECT_EQ(valueOfText(plain, arena), plain);
  }
  EXPECT_TRUE(arena.empty());
  EXPECT_EQ(textOf("\xff", arena), "enc--_w");
  EXPECT_EQ(valueOfText("enc--_w", arena), "\xff");
}

}  // namespace
}  // namespace polylog::mapping
