#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <fstream>
#include <numeric>

#include "storage/file.h"
#include "tests/support/faulty_directory.h"
#include "tests/support/temporary_directory.h"

namespace polylog::storage {
namespace {

using test::TemporaryDirectory;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

Result<> put(Directory& directory, const std::string& name, BytesView content) {
  auto file = directory.open(name, OpenMode::kReplace);
  if (!file) return std::unexpected(file.error());
  return (*file)->write(0, std::span(&content, 1));
}

std::string contentOf(Directory& directory, const std::string& name) {
  auto file = directory.open(name, OpenMode::kRead);
  if (!file) return "(" + file.error().text + ")";
  std::string content(1 << 20, '\0');
  content.resize((*file)->read(0, content.data(), content.size()).value());
  return content;
}

class PosixDirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = openDirectory(temporary_.path() + "/data");
    ASSERT_TRUE(opened) << opened.error().text;
    directory_ = *opened;
  }

  TemporaryDirectory temporary_;
  std::shared_ptr<Directory> directory_;
};

TEST_F(PosixDirectoryTest, MakesThePathAndItsParents) {
  auto deep = openDirectory(temporary_.path() + "/a/b/c/");
  ASSERT_TRUE(deep);
  EXPECT_EQ((*deep)->path(), temporary_.path() + "/a/b/c");
  ASSERT_TRUE(put(**deep, "file", "x"));
  EXPECT_EQ(contentOf(**openDirectory(temporary_.path() + "/a/b/c"), "file"), "x");
  EXPECT_EQ(openDirectory("").error().kind, ErrorKind::kInvalid);
}

TEST_F(PosixDirectoryTest, SaysWhichPathIsInTheWay) {
  std::ofstream(temporary_.path() + "/plain") << "x";
  auto blocked = openDirectory(temporary_.path() + "/plain/data");
  ASSERT_FALSE(blocked);
  EXPECT_EQ(blocked.error().kind, ErrorKind::kIo);
  EXPECT_THAT(blocked.error().text, HasSubstr(temporary_.path() + "/plain"));
}

TEST_F(PosixDirectoryTest, WritesMorePiecesThanOneCallTakes) {
  std::vector<std::string> owned;
  std::string expected;
  for (int i = 0; i < 3 * IOV_MAX + 7; ++i) {
    owned.push_back(i % 5 == 0 ? "" : std::to_string(i) + ",");
    expected += owned.back();
  }
  std::vector<BytesView> pieces(owned.begin(), owned.end());
  auto file = *directory_->open("file", OpenMode::kCreate);
  ASSERT_TRUE(file->write(3, pieces));
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(file->size(), expected.size() + 3);
  EXPECT_EQ(contentOf(*directory_, "file"), std::string(3, '\0') + expected);
  ASSERT_TRUE(file->write(0, {}));
}

TEST_F(PosixDirectoryTest, ReadsShortOnlyAtTheEnd) {
  ASSERT_TRUE(put(*directory_, "file", "0123456789"));
  auto file = *directory_->open("file", OpenMode::kRead);
  char into[16];
  EXPECT_EQ(file->read(4, into, 3), 3U);
  EXPECT_EQ(std::string(into, 3), "456");
  EXPECT_EQ(file->read(8, into, 16), 2U);
  EXPECT_EQ(file->read(10, into, 16), 0U);
  EXPECT_EQ(file->read(1000, into, 16), 0U);
}

TEST_F(PosixDirectoryTest, OpensAsTheModeSays) {
  EXPECT_EQ(directory_->open("file", OpenMode::kRead).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(directory_->open("file", OpenMode::kReadWrite).error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(directory_->open("file", OpenMode::kCreate));
  EXPECT_EQ(directory_->open("file", OpenMode::kCreate).error().kind, ErrorKind::kAlreadyExists);
  ASSERT_TRUE(put(*directory_, "file", "long content"));
  ASSERT_TRUE(put(*directory_, "file", "short"));
  EXPECT_EQ(contentOf(*directory_, "file"), "short");
  auto file = *directory_->open("file", OpenMode::kReadWrite);
  BytesView piece = "S";
  ASSERT_TRUE(file->write(0, std::span(&piece, 1)));
  EXPECT_EQ(contentOf(*directory_, "file"), "Short");
  ASSERT_TRUE(file->truncate(2));
  EXPECT_EQ(contentOf(*directory_, "file"), "Sh");
  ASSERT_TRUE(file->truncate(4));
  EXPECT_EQ(contentOf(*directory_, "file"), std::string("Sh\0\0", 4));
}

TEST_F(PosixDirectoryTest, ReportsAFailedWriteWithItsPath) {
  ASSERT_TRUE(put(*directory_, "file", "x"));
  auto file = *directory_->open("file", OpenMode::kRead);
  BytesView piece = "y";
  auto written = file->write(0, std::span(&piece, 1));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kIo);
  EXPECT_THAT(written.error().text, HasSubstr(directory_->path() + "/file"));
}

TEST_F(PosixDirectoryTest, GoesOnAfterAPartialWrite) {
  // A file size limit cuts the first call short and fails the second: in a child, for its own
  // limit.
  pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{10, 10};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    auto file = directory_->open("file", OpenMode::kCreate);
    std::array<BytesView, 3> pieces = {"0123", "4567", "89abcdef"};
    auto written = (*file)->write(0, pieces);
    ::_exit(!written && written.error().kind == ErrorKind::kIo ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(contentOf(*directory_, "file"), "0123456789");
}

TEST_F(PosixDirectoryTest, TellsAFullDisk) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full";
  auto devices = openDirectory("/dev");
  ASSERT_TRUE(devices);
  auto full = (*devices)->open("full", OpenMode::kReadWrite);
  ASSERT_TRUE(full) << full.error().text;
  BytesView piece = "x";
  auto written = (*full)->write(0, std::span(&piece, 1));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kNoSpace);
}

TEST_F(PosixDirectoryTest, RefusesNamesThatLeadElsewhere) {
  for (const std::string& name : {std::string(), std::string("."), std::string(".."),
                                  std::string("a/b"), std::string("a\0b", 3)}) {
    EXPECT_EQ(directory_->open(name, OpenMode::kReplace).error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(directory_->subdirectory(name).error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(directory_->remove(name).error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(directory_->rename(name, "x").error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(directory_->rename("x", name).error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(directory_->link("x", *directory_, name).error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(directory_->lock(name).error().kind, ErrorKind::kInvalid);
    EXPECT_FALSE(directory_->exists(name));
  }
}

TEST_F(PosixDirectoryTest, ListsAndRemovesTrees) {
  auto inner = *directory_->subdirectory("inner");
  auto deeper = *inner->subdirectory("deeper");
  ASSERT_TRUE(put(*directory_, "a", "1"));
  ASSERT_TRUE(put(*inner, "b", "2"));
  ASSERT_TRUE(put(*deeper, "c", "3"));
  ASSERT_EQ(::symlink(directory_->path().c_str(), (inner->path() + "/up").c_str()), 0);
  EXPECT_THAT(*directory_->list(), UnorderedElementsAre("a", "inner"));
  EXPECT_THAT(*directory_->list(), UnorderedElementsAre("a", "inner"));  // and again
  EXPECT_TRUE(directory_->isDirectory("inner"));
  EXPECT_FALSE(directory_->isDirectory("a"));
  EXPECT_FALSE(directory_->isDirectory("nothing"));
  ASSERT_TRUE(directory_->remove("inner"));
  EXPECT_THAT(*directory_->list(), UnorderedElementsAre("a"));  // The link was not followed.
  ASSERT_TRUE(directory_->remove("a"));
  ASSERT_TRUE(directory_->remove("a"));
  EXPECT_THAT(*directory_->list(), IsEmpty());
  ASSERT_TRUE(directory_->sync());
}

TEST_F(PosixDirectoryTest, RenamesOverWhatIsThere) {
  ASSERT_TRUE(put(*directory_, "from", "new"));
  ASSERT_TRUE(put(*directory_, "to", "old"));
  ASSERT_TRUE(directory_->rename("from", "to"));
  EXPECT_EQ(contentOf(*directory_, "to"), "new");
  EXPECT_FALSE(directory_->exists("from"));
  EXPECT_EQ(directory_->rename("from", "to").error().kind, ErrorKind::kNotFound);
}

TEST_F(PosixDirectoryTest, GoesOnInARenamedDirectory) {
  auto inner = *directory_->subdirectory("inner.tmp");
  ASSERT_TRUE(directory_->rename("inner.tmp", "inner"));
  ASSERT_TRUE(put(*inner, "file", "x"));
  EXPECT_EQ(contentOf(**directory_->subdirectory("inner"), "file"), "x");
}

TEST_F(PosixDirectoryTest, LinksShareWhatIsWritten) {
  auto inner = *directory_->subdirectory("inner");
  ASSERT_TRUE(put(*directory_, "file", "x"));
  ASSERT_TRUE(directory_->link("file", *inner, "linked"));
  EXPECT_EQ(directory_->link("file", *inner, "linked").error().kind, ErrorKind::kAlreadyExists);
  auto file = *directory_->open("file", OpenMode::kReadWrite);
  BytesView piece = "y";
  ASSERT_TRUE(file->write(1, std::span(&piece, 1)));
  ASSERT_TRUE(directory_->remove("file"));
  EXPECT_EQ(contentOf(*inner, "linked"), "xy");
  test::FaultyDisk other;
  EXPECT_EQ(inner->link("linked", *other.root(), "z").error().kind, ErrorKind::kInvalid);
}

TEST_F(PosixDirectoryTest, LocksOutOtherHoldersUntilReleased) {
  auto held = directory_->lock("LOCK");
  ASSERT_TRUE(held);
  auto second = openDirectory(directory_->path());
  auto refused = (*second)->lock("LOCK");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(refused.error().text, HasSubstr(directory_->path() + "/LOCK"));
  held->reset();
  EXPECT_TRUE((*second)->lock("LOCK"));
}

TEST_F(PosixDirectoryTest, LocksOutOtherProcesses) {
  pid_t child = 0;
  std::array<int, 2> ready{};
  std::array<int, 2> done{};
  ASSERT_EQ(::pipe(ready.data()), 0);
  ASSERT_EQ(::pipe(done.data()), 0);
  child = ::fork();
  if (child == 0) {
    ::close(done[1]);
    auto held = directory_->lock("LOCK");
    char octet = held ? '1' : '0';
    if (::write(ready[1], &octet, 1) != 1 || ::read(done[0], &octet, 1) < 0) ::_exit(1);
    ::_exit(0);
  }
  char octet = 0;
  ASSERT_EQ(::read(ready[0], &octet, 1), 1);
  EXPECT_EQ(octet, '1');
  EXPECT_EQ(directory_->lock("LOCK").error().kind, ErrorKind::kBusy);
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(directory_->lock("LOCK"));
  for (int fd : {ready[0], ready[1], done[0], done[1]}) ::close(fd);
}

TEST_F(PosixDirectoryTest, KnowsTheFreeSpace) {
  auto octets = directory_->freeBytes();
  ASSERT_TRUE(octets);
  EXPECT_GT(*octets, 0U);
}

}  // namespace
}  // namespace polylog::storage
