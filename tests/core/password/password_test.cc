// Hashes of passwords and the file that they are in.
#include <gmock/gmock.h>

#include <fstream>
#include <utility>

#include "core/password/password_file.h"
#include "tests/support/seeded_random.h"
#include "tests/support/temporary_directory.h"

namespace polylog::password {
namespace {

using testing::HasSubstr;

/// Base64 of 64 and of 32 octets, without padding.
const std::string kSixtyFour(86, 'A');
const std::string kThirtyTwo(43, 'A');
/// A line's hash, of nobody's password.
const std::string kSome = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$" + kThirtyTwo;

TEST(PasswordHash, MakesWhatItMatches) {
  test::SeededRandom random(1);
  const Hash made = make("secret", random);
  EXPECT_TRUE(matches(made, "secret"));
  EXPECT_FALSE(matches(made, "Secret"));
  EXPECT_FALSE(matches(made, ""));
  EXPECT_NE(make("secret", random).salt, made.salt);
  const std::string text = toText(made);
  EXPECT_TRUE(text.starts_with("$scrypt$ln=15,r=8,p=1$"));
  EXPECT_EQ(*parse(text), made);
}

TEST(PasswordHash, ScryptAsInRfc7914) {
  // RFC 7914, 12: P = "password", S = "NaCl", N = 1024, r = 8, p = 16; the first 32 of 64 octets
  // are the same, as PBKDF2 makes them.
  auto hash = parse("$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWI");
  ASSERT_TRUE(hash.has_value()) << hash.error().text;
  EXPECT_TRUE(matches(*hash, "password"));
  EXPECT_FALSE(matches(*hash, "passwort"));
}

TEST(PasswordHash, WhatCanNotBeIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("plain"), std::string("$"),
        "$scrypt$ln=20,r=8,p=1$AAAA$" + kThirtyTwo, "$scrypt$ln=15,r=0,p=1$AAAA$" + kThirtyTwo,
        "$scrypt$ln=15,r=8$AAAA$" + kThirtyTwo, "$scrypt$ln=15,r=8,p=1$$" + kThirtyTwo,
        std::string("$scrypt$ln=15,r=8,p=1$AAAA$AAAA"),
        "$scrypt$ln=15,r=8,p=1$AAAA$" + kThirtyTwo + "$", "$7$0$AAAA$" + kSixtyFour + "==",
        std::string("$7$101$AAAA$AAAA"), std::string("$6$AAAA$AAAA"), std::string("$5$AAAA$AAAA"),
        "$argon2id$v=19$m=65536,t=3,p=4$AAAA$" + kThirtyTwo}) {
    EXPECT_FALSE(parse(text).has_value()) << text;
  }
  EXPECT_TRUE(parse("$7$101$AAAA$" + kSixtyFour + "==").has_value());
}

TEST(PasswordHash, WhatIsLeftOfACostlierOnesWork) {
  auto scrypt = [](uint32_t logN, uint32_t p) {
    Hash hash;
    hash.logN = logN;
    hash.r = 8;
    hash.p = p;
    return hash;
  };
  Hash pbkdf2;
  pbkdf2.kind = Hash::Kind::kPbkdf2;
  pbkdf2.iterations = 1000;
  Hash fewer = pbkdf2;
  fewer.iterations = 101;
  Hash sha512;
  sha512.kind = Hash::Kind::kSha512;
  EXPECT_TRUE(costsMore(pbkdf2, fewer));
  EXPECT_FALSE(costsMore(fewer, pbkdf2));
  EXPECT_TRUE(costsMore(scrypt(15, 1), scrypt(14, 1)));
  EXPECT_TRUE(costsMore(scrypt(14, 3), scrypt(15, 1)));
  for (const Hash* other : {static_cast<const Hash*>(nullptr), &std::as_const(sha512)}) {
    EXPECT_EQ(restOf(scrypt(15, 1), other), scrypt(15, 1));
    EXPECT_EQ(restOf(pbkdf2, other), pbkdf2);
  }
  EXPECT_EQ(restOf(scrypt(15, 1), &pbkdf2), scrypt(15, 1));
  EXPECT_EQ(restOf(pbkdf2, &fewer)->iterations, 899U);
  EXPECT_EQ(restOf(pbkdf2, &pbkdf2), std::nullopt);
  const Hash half = scrypt(14, 1), quarter = scrypt(13, 1), little = scrypt(4, 1);
  EXPECT_EQ(restOf(scrypt(15, 1), &half), scrypt(14, 1));
  EXPECT_EQ(restOf(scrypt(15, 1), &quarter), scrypt(13, 3));
  EXPECT_EQ(restOf(scrypt(15, 1), &little), scrypt(15, 1));
  EXPECT_EQ(restOf(quarter, &half), std::nullopt);
  EXPECT_EQ(restOf(sha512, nullptr), std::nullopt);
}

class PasswordFileTest : public testing::Test {
 protected:
  const std::string path_ = directory().path() + "/passwords";
  static test::TemporaryDirectory& directory() {
    static test::TemporaryDirectory made;
    return made;
  }
  void write(const std::string& text) { std::ofstream(path_) << text; }
  std::string why() {
    auto opened = PasswordFile::open(path_);
    return opened ? "" : opened.error().text;
  }
};

TEST_F(PasswordFileTest, UsersAndTheirHashes) {
  write("# made by hand\nann:" + kSome + "\r\n\nbob:$6$AAAA$" + kSixtyFour + "==\n");
  auto opened = PasswordFile::open(path_);
  ASSERT_TRUE(opened.has_value()) << opened.error().text;
  EXPECT_EQ((*opened)->size(), 2U);
  auto ann = (*opened)->find("ann");
  ASSERT_NE(ann, nullptr);
  EXPECT_NE((*opened)->find("bob"), nullptr);
  EXPECT_EQ((*opened)->find("eve"), nullptr);
  // The same line is the same entry, another one another.
  write("ann:" + kSome + "\n");
  ASSERT_TRUE((*opened)->reload().has_value());
  EXPECT_EQ((*opened)->find("ann"), ann);
  EXPECT_EQ((*opened)->find("bob"), nullptr);
  write("ann:$6$AAAA$" + kSixtyFour + "==\n");
  ASSERT_TRUE((*opened)->reload().has_value());
  EXPECT_NE((*opened)->find("ann"), ann);
  // One that can't be used leaves them as they were.
  write("ann\n");
  EXPECT_FALSE((*opened)->reload().has_value());
  EXPECT_NE((*opened)->find("ann"), nullptr);
}

TEST_F(PasswordFileTest, WhatIsWrongIsNamedWithItsLine) {
  write("ann:" + kSome + "\nbob:plain\n");
  EXPECT_THAT(why(), HasSubstr("line 2: hashes are"));
  EXPECT_THAT(why(), HasSubstr("`auth.password_file: " + path_));
  write("ann:" + kSome + "\nann:" + kSome + "\n");
  EXPECT_THAT(why(), HasSubstr("line 2: user ann has a line already"));
  write(":x\n");
  EXPECT_THAT(why(), HasSubstr("line 1"));
  std::remove(path_.c_str());
  EXPECT_THAT(why(), HasSubstr("can't be read"));
}

}  // namespace
}  // namespace polylog::password
