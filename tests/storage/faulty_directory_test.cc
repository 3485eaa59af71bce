#include "tests/support/faulty_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "tests/support/seeded_random.h"

namespace polylog::test {
namespace {

using storage::Directory;
using storage::File;
using storage::OpenMode;
using testing::ElementsAre;
using testing::IsEmpty;

Result<> writeAt(File& file, uint64_t offset, BytesView bytes) {
  return file.write(offset, std::span(&bytes, 1));
}

std::shared_ptr<File> create(Directory& directory, const std::string& name, BytesView content = {},
                             bool synced = false) {
  auto file = directory.open(name, OpenMode::kCreate).value();
  EXPECT_TRUE(writeAt(*file, 0, content));
  if (synced) {
    EXPECT_TRUE(file->sync());
    EXPECT_TRUE(directory.sync());
  }
  return file;
}

/// What is in the file, or "(none)".
std::string contentOf(const FaultyDisk& disk, const std::string& path) {
  return disk.contentOf(path).value_or("(none)");
}

class FaultyDirectoryTest : public testing::Test {
 protected:
  std::string after(PowerFailure failure, const std::string& path) {
    return contentOf(*disk_.afterPowerFailure(failure, random_), path);
  }
  /// Every outcome of many random failures for a file.
  std::set<std::string> outcomes(const std::string& path, int rounds = 2000) {
    std::set<std::string> seen;
    for (int i = 0; i < rounds; ++i) seen.insert(after(PowerFailure::kRandom, path));
    return seen;
  }

  FaultyDisk disk_;
  std::shared_ptr<Directory> root_ = disk_.root();
  SeededRandom random_{1};
};

TEST_F(FaultyDirectoryTest, BehavesAsADirectory) {
  auto inner = root_->subdirectory("inner").value();
  auto file = create(*inner, "file", "0123456789");
  EXPECT_EQ(inner->open("file", OpenMode::kCreate).error().kind, ErrorKind::kAlreadyExists);
  EXPECT_EQ(inner->open("other", OpenMode::kRead).error().kind, ErrorKind::kNotFound);
  EXPECT_FALSE(writeAt(**inner->open("file", OpenMode::kRead), 0, "x"));
  char into[8];
  EXPECT_EQ(file->read(8, into, 8), 2U);
  ASSERT_TRUE(writeAt(*file, 8192, "end"));
  EXPECT_EQ(file->size(), 8195U);
  ASSERT_TRUE(file->truncate(5));
  ASSERT_TRUE(file->truncate(7));
  EXPECT_EQ(contentOf(disk_, "inner/file"), std::string("01234\0\0", 7));
  ASSERT_TRUE(inner->link("file", *root_, "linked"));
  ASSERT_TRUE(writeAt(*file, 0, "X"));
  EXPECT_EQ(contentOf(disk_, "linked"), std::string("X1234\0\0", 7));
  EXPECT_EQ(disk_.usedBytes(), 7U);
  EXPECT_FALSE(root_->rename("linked", "inner"));
  ASSERT_TRUE(root_->rename("inner", "outer"));
  EXPECT_THAT(*root_->list(), ElementsAre("linked", "outer"));
  EXPECT_TRUE(root_->isDirectory("outer"));
  ASSERT_TRUE(root_->remove("outer"));
  ASSERT_TRUE(root_->remove("outer"));
  EXPECT_THAT(*root_->list(), ElementsAre("linked"));
  EXPECT_EQ(root_->open("../x", OpenMode::kReplace).error().kind, ErrorKind::kInvalid);
}

TEST_F(FaultyDirectoryTest, LocksOnce) {
  auto held = root_->lock("LOCK").value();
  EXPECT_EQ(root_->lock("LOCK").error().kind, ErrorKind::kBusy);
  EXPECT_TRUE(disk_.afterPowerFailure(PowerFailure::kKeepAll, random_)->root()->lock("LOCK"));
  held.reset();
  EXPECT_TRUE(root_->lock("LOCK"));
}

TEST_F(FaultyDirectoryTest, KeepsWhatWasSyncedInEveryFailure) {
  create(*root_, "file", "certain", true);
  for (PowerFailure failure : kAllPowerFailures) {
    EXPECT_EQ(after(failure, "file"), "certain") << describe(failure);
  }
  EXPECT_THAT(outcomes("file", 100), ElementsAre("certain"));
}

TEST_F(FaultyDirectoryTest, ASyncedFileWithoutASyncedNameMayBeGone) {
  auto file = create(*root_, "file", "data");
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "(none)");
  EXPECT_EQ(after(PowerFailure::kKeepAll, "file"), "data");
  EXPECT_THAT(outcomes("file", 100), ElementsAre("(none)", "data"));
  disk_.syncFileKeepsItsName(true);
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "data");
}

TEST_F(FaultyDirectoryTest, ASyncedNameWithoutSyncedDataIsEmpty) {
  create(*root_, "file", "data");
  ASSERT_TRUE(root_->sync());
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "");
  EXPECT_EQ(after(PowerFailure::kNamesWithoutData, "file"), std::string(4, '\0'));
  EXPECT_EQ(after(PowerFailure::kKeepAll, "file"), "data");
}

TEST_F(FaultyDirectoryTest, UnsyncedWritesFareEachOnItsOwn) {
  auto file = create(*root_, "file", "", true);
  ASSERT_TRUE(writeAt(*file, 0, "a"));
  ASSERT_TRUE(writeAt(*file, 1, "b"));
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "");
  EXPECT_EQ(after(PowerFailure::kKeepAll, "file"), "ab");
  EXPECT_EQ(after(PowerFailure::kDataWithoutNames, "file"), "ab");
  EXPECT_EQ(after(PowerFailure::kLastWriteOnly, "file"), std::string("\0b", 2));
  auto seen = outcomes("file");
  for (const std::string& possible :
       {std::string(), std::string("a"), std::string("ab"), std::string("\0b", 2),
        std::string("\0", 1), std::string("a\0", 2)}) {
    EXPECT_TRUE(seen.contains(possible)) << testing::PrintToString(possible);
  }
  ASSERT_TRUE(file->sync());
  EXPECT_THAT(outcomes("file", 100), ElementsAre("ab"));
}

TEST_F(FaultyDirectoryTest, TearsTheLastWriteOfTheDisk) {
  auto first = create(*root_, "first", "", true);
  auto second = create(*root_, "second", "", true);
  ASSERT_TRUE(writeAt(*second, 0, "old"));
  ASSERT_TRUE(writeAt(*first, 0, "abcdef"));
  for (uint64_t octets = 0; octets <= 6; ++octets) {
    auto disk = disk_.afterTornWrite(octets, TornRest::kMissing, random_);
    EXPECT_EQ(contentOf(*disk, "first"), std::string("abcdef").substr(0, octets));
    EXPECT_EQ(contentOf(*disk, "second"), "old");
    disk = disk_.afterTornWrite(octets, TornRest::kZeroes, random_);
    EXPECT_EQ(contentOf(*disk, "first"),
              std::string("abcdef").substr(0, octets) + std::string(6 - octets, '\0'));
    disk = disk_.afterTornWrite(octets, TornRest::kRubbish, random_);
    EXPECT_EQ(contentOf(*disk, "first").size(), 6U);
  }
  for (int i = 0; i < 50; ++i) EXPECT_NE(after(PowerFailure::kTearLastWrite, "first"), "abcdef");
}

TEST_F(FaultyDirectoryTest, TearsAtSectors) {
  auto file = create(*root_, "file", std::string(700, 'o'), true);
  ASSERT_TRUE(writeAt(*file, 100, std::string(1400, 'n')));
  bool mixed = false;
  for (int i = 0; i < 200; ++i) {
    std::string content = after(PowerFailure::kTearLastSectors, "file");
    ASSERT_GE(content.size(), 700U);
    EXPECT_EQ(content.substr(0, 100), std::string(100, 'o'));
    // Within a sector the new octets are all there or none is.
    content.resize(1500, '-');
    auto count = std::count(content.begin() + 100, content.begin() + 512, 'n');
    EXPECT_TRUE(count == 412 || count < 50) << count;
    mixed |= content[200] != 'n' && content[1000] == 'n';
  }
  EXPECT_TRUE(mixed);
}

TEST_F(FaultyDirectoryTest, RenamesAreWholeOrNotThere) {
  create(*root_, "current", "old", true);
  auto file = create(*root_, "current.tmp", "new", true);
  ASSERT_TRUE(root_->rename("current.tmp", "current"));
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "current"), "old");
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "current.tmp"), "new");
  EXPECT_EQ(after(PowerFailure::kNamesWithoutData, "current"), "new");
  EXPECT_EQ(after(PowerFailure::kDataWithoutNames, "current"), "old");
  for (int i = 0; i < 100; ++i) {
    auto disk = disk_.afterPowerFailure(PowerFailure::kRandom, random_);
    bool renamed = contentOf(*disk, "current") == "new";
    EXPECT_EQ(contentOf(*disk, "current.tmp"), renamed ? "(none)" : "new");
  }
  ASSERT_TRUE(root_->sync());
  EXPECT_THAT(outcomes("current", 100), ElementsAre("new"));
  EXPECT_THAT(outcomes("current.tmp", 100), ElementsAre("(none)"));
}

TEST_F(FaultyDirectoryTest, RemovalsMayComeBack) {
  auto inner = root_->subdirectory("inner").value();
  ASSERT_TRUE(root_->sync());
  create(*inner, "file", "data", true);
  ASSERT_TRUE(root_->remove("inner"));
  EXPECT_EQ(contentOf(disk_, "inner/file"), "(none)");
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "inner/file"), "data");
  EXPECT_THAT(outcomes("inner/file", 100), ElementsAre("(none)", "data"));
  ASSERT_TRUE(root_->sync());
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "inner/file"), "(none)");
}

TEST_F(FaultyDirectoryTest, LinksStayOneFileAfterwards) {
  create(*root_, "a", "x", true);
  ASSERT_TRUE(root_->link("a", *root_, "b"));
  ASSERT_TRUE(root_->sync());
  auto disk = disk_.afterPowerFailure(PowerFailure::kLoseUnsynced, random_);
  ASSERT_TRUE(writeAt(**disk->root()->open("a", OpenMode::kReadWrite), 0, "y"));
  EXPECT_EQ(contentOf(*disk, "b"), "y");
  EXPECT_EQ(contentOf(disk_, "b"), "x");  // and the origin has not changed
}

TEST_F(FaultyDirectoryTest, CountsAndStopsAtBoundaries) {
  std::vector<uint64_t> counted;
  std::vector<std::string> survived;
  disk_.onBoundary([&](uint64_t boundary, const DiskCall&) {
    counted.push_back(boundary);
    survived.push_back(after(PowerFailure::kLoseUnsynced, "file"));
  });
  auto file = create(*root_, "file", "x", true);
  EXPECT_THAT(counted, ElementsAre(0, 1, 2, 3));  // create, write, sync, directory sync
  EXPECT_THAT(survived, ElementsAre("(none)", "(none)", "(none)", "(none)"));
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "x");
  EXPECT_EQ(disk_.boundaries(), 4U);
  disk_.powerOffAt(5);
  EXPECT_TRUE(writeAt(*file, 0, "y"));
  EXPECT_FALSE(disk_.poweredOff());
  EXPECT_FALSE(file->sync());
  EXPECT_TRUE(disk_.poweredOff());
  char octet = 0;
  EXPECT_FALSE(file->read(0, &octet, 1));
  EXPECT_FALSE(file->size());
  EXPECT_FALSE(root_->open("file", OpenMode::kRead));
  EXPECT_FALSE(root_->exists("file"));
  EXPECT_FALSE(root_->sync());
  EXPECT_THAT(counted, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "x");
  EXPECT_EQ(after(PowerFailure::kKeepAll, "file"), "y");
}

TEST_F(FaultyDirectoryTest, FailsTheNthWriteAfterAPrefix) {
  auto file = create(*root_, "file");
  create(*root_, "other");
  disk_.failWrite(1, ErrorKind::kNoSpace, 2, "file");
  EXPECT_TRUE(writeAt(**root_->open("other", OpenMode::kReadWrite), 0, "unharmed"));
  EXPECT_TRUE(writeAt(*file, 0, "first"));
  auto failed = writeAt(*file, 5, "second");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::kNoSpace);
  EXPECT_EQ(contentOf(disk_, "file"), "firstse");
  EXPECT_TRUE(writeAt(*file, 5, "third"));
}

TEST_F(FaultyDirectoryTest, NoLaterSyncMakesUpForAFailedOne) {
  auto file = create(*root_, "file", "", true);
  ASSERT_TRUE(writeAt(*file, 0, "a"));
  disk_.failSync(0);
  EXPECT_EQ(file->sync().error().kind, ErrorKind::kIo);
  ASSERT_TRUE(writeAt(*file, 1, "b"));
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), std::string("\0b", 2));
  EXPECT_EQ(after(PowerFailure::kKeepAll, "file"), "ab");
}

TEST_F(FaultyDirectoryTest, ActsFullAndFailsByHook) {
  auto file = create(*root_, "file", "0123");
  disk_.setFull(true);
  EXPECT_EQ(writeAt(*file, 2, "xxxx").error().kind, ErrorKind::kNoSpace);
  EXPECT_EQ(contentOf(disk_, "file"), "01xx");
  EXPECT_TRUE(writeAt(*file, 0, "yy"));
  EXPECT_EQ(root_->open("new", OpenMode::kCreate).error().kind, ErrorKind::kNoSpace);
  EXPECT_EQ(root_->freeBytes(), 0U);
  disk_.clearFaults();
  EXPECT_TRUE(root_->open("new", OpenMode::kCreate));
  disk_.onCall([](const DiskCall& call) -> std::optional<DiskFault> {
    if (call.kind != DiskCall::Kind::kRead || call.path != "file") return std::nullopt;
    return DiskFault{{ErrorKind::kIo, "bad sector"}, 0};
  });
  char octet = 0;
  EXPECT_EQ(file->read(0, &octet, 1).error().text, "bad sector");
  disk_.clearFaults();
  disk_.failDirectorySync(0);
  EXPECT_FALSE(root_->sync());
  EXPECT_TRUE(root_->sync());
}

TEST_F(FaultyDirectoryTest, FlipsBitsForGood) {
  auto file = create(*root_, "file", "a", true);
  ASSERT_TRUE(writeAt(*file, 1, "a"));
  ASSERT_TRUE(disk_.flipBit("file", 0, 1));
  ASSERT_TRUE(disk_.flipBit("file", 1, 1));
  EXPECT_EQ(contentOf(disk_, "file"), "cc");
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "c");
  EXPECT_EQ(after(PowerFailure::kKeepAll, "file"), "cc");
  EXPECT_EQ(disk_.flipBit("file", 2, 1).error().kind, ErrorKind::kOutOfRange);
  EXPECT_EQ(disk_.flipBit("none", 0, 1).error().kind, ErrorKind::kNotFound);
  ASSERT_TRUE(disk_.setSize("file", 1));
  EXPECT_EQ(after(PowerFailure::kLoseUnsynced, "file"), "c");
}

TEST_F(FaultyDirectoryTest, TheSameSeedFailsTheSameWay) {
  for (int i = 0; i < 10; ++i) {
    auto file = create(*root_, "file" + std::to_string(i), "", false);
    for (uint64_t at = 0; at < 5000; at += 700) {
      ASSERT_TRUE(writeAt(*file, at, std::string(700, static_cast<char>('a' + i))));
    }
  }
  auto image = [&](uint64_t seed) {
    SeededRandom random(seed);
    auto disk = disk_.afterPowerFailure(PowerFailure::kRandom, random);
    std::string all;
    for (int i = 0; i < 10; ++i) all += contentOf(*disk, "file" + std::to_string(i)) + "|";
    return all;
  };
  EXPECT_EQ(image(7), image(7));
  EXPECT_NE(image(7), image(8));
}

TEST_F(FaultyDirectoryTest, ClonesWithWhatIsUnsynced) {
  create(*root_, "file", "data");
  auto disk = disk_.clone();
  EXPECT_EQ(contentOf(*disk, "file"), "data");
  EXPECT_EQ(contentOf(*disk->afterPowerFailure(PowerFailure::kLoseUnsynced, random_), "file"),
            "(none)");
  ASSERT_TRUE(disk->root()->remove("file"));
  EXPECT_EQ(contentOf(disk_, "file"), "data");
}

TEST_F(FaultyDirectoryTest, TakesCallsFromManyThreads) {
  std::atomic<uint64_t> images{0};
  std::mutex randomMutex;
  disk_.onBoundary([&](uint64_t boundary, const DiskCall&) {
    if (boundary % 50 != 0) return;
    std::lock_guard lock(randomMutex);
    images += disk_.afterPowerFailure(PowerFailure::kRandom, random_) != nullptr ? 1U : 0U;
  });
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([this, i] {
        auto file = create(*root_, "file" + std::to_string(i));
        for (uint64_t at = 0; at < 200; ++at) {
          EXPECT_TRUE(writeAt(*file, at, "x"));
          EXPECT_TRUE(at % 10 != 0 || file->sync());
        }
        EXPECT_TRUE(root_->sync());
      });
    }
  }
  EXPECT_GT(images, 10U);
  EXPECT_EQ(disk_.usedBytes(), 800U);
}

}  // namespace
}  // namespace polylog::test
