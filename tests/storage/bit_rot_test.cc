// One bit of the data directory turns over while nobody looks: the store opens by itself, never hands
// out anything else than what was written, and lacks at most what was in the entry that was hit.
// POLYLOG_THOROUGH=1 takes 10,000 bits instead of some hundreds.
#include <gmock/gmock.h>

#include <cstdlib>
#include <map>

#include "tests/storage/store_harness.h"

namespace polylog::storage {
namespace {

constexpr size_t kMostInEntry = 5;

class BitRotTest : public StoreTest {
 protected:
  BitRotTest() {
    options_.segmentBytes = 48 << 10;
    setLogLevel(LogLevel::kError);
  }

  struct File {
    std::string path;
    uint64_t size = 0;
  };

  void write(uint64_t partition, std::vector<std::string> values) {
    for (const std::string& value : values) model_[partition].push_back(value);
    std::vector<Target> targets{to(partition)};
    ASSERT_TRUE(store_->append(request(makeBatch(values), targets)));
    store_->runOnce();
  }
  static std::string value(int number) {
    return std::to_string(number) + std::string(static_cast<size_t>(number) * 37 % 900, 'v');
  }
  /// Partition 1 lives, 2 is mostly dead, 3 has links only, 4 is compacted.
  void fill() {
    for (uint64_t id : {1U, 2U, 3U}) ASSERT_TRUE(make(id));
    ASSERT_TRUE(make(4, {-1, -1, std::make_shared<Compaction>(Compaction{0, INT64_MAX, 0, 1})}));
    int number = 0;
    for (int round = 0; round < 60; ++round) {
      std::vector<std::string> values;
      for (int i = 0; i <= round % static_cast<int>(kMostInEntry); ++i) values.push_back(value(number++));
      write(1, values);
      for (int i = 0; i < 6; ++i) write(2, {value(500 + number++)});
      auto linked = store_->append(request(makeBatch({value(number)}), {to(2)}));
      ASSERT_TRUE(linked);
      model_[2].push_back(value(number));
      store_->runOnce();
      AppendRequest link;
      link.links.push_back({linked->batches[0], {to(3)}});
      ASSERT_TRUE(store_->append(std::move(link)));
      store_->runOnce();
      model_[3].push_back(value(number++));
      write(4, {"latest " + std::to_string(round)});
      if (round == 30 || round == 50) {
        AppendRequest start;
        start.state.push_back(
            logStartMoved(PartitionId(2), Offset(static_cast<int64_t>(model_[2].size()) - 3)));
        ASSERT_TRUE(store_->append(std::move(start)));
        ASSERT_TRUE(store_->runRetention());
      }
    }
  }
  void listFiles(const std::shared_ptr<Directory>& directory, const std::string& prefix,
                 std::vector<File>& out) {
    std::vector<std::string> names = directory->list().value();
    for (const std::string& name : names) {
      if (directory->isDirectory(name)) {
        listFiles(*directory->subdirectory(name), prefix + name + "/", out);
      } else if (auto content = disk_->contentOf(prefix + name); content && !content->empty()) {
        out.push_back({prefix + name, content->size()});
      }
    }
  }
  /// How many records of all partitions are missing. What is there is right.
  size_t missing() {
    size_t lacking = 0;
    for (const auto& [partition, values] : model_) {
      auto bounds = store_->ends(PartitionId(partition));
      if (!bounds) {
        ADD_FAILURE() << "partition " << partition << " is hidden";
        continue;
      }
      auto end = static_cast<int64_t>(values.size());
      EXPECT_LE(bounds->end.value(), end);
      lacking += static_cast<size_t>(end - bounds->end.value());
      int64_t next = bounds->logStart.value();
      std::string told;
      while (next < bounds->highWatermark.value()) {
        auto read = store_->read(PartitionId(partition), Offset(next), 4096);
        if (!read) {
          EXPECT_EQ(read.error().kind, ErrorKind::kCorrupt) << read.error().text;
          // Of the compacted one, what is superseded before a damaged batch leads to it.
          if (partition != 4 || std::exchange(told, read.error().text) != read.error().text) ++lacking;
          ++next;
          continue;
        }
        if (read->empty()) break;
        for (const ReadBatch& batch : *read) {
          // The compacted one has gaps, the others none that aren't told.
          if (partition != 4) {
            EXPECT_LE(batch.baseOffset.value(), next) << partition;
          }
          std::vector<std::string> found = valuesOf(batch);
          for (size_t i = 0; i < found.size(); ++i) {
            EXPECT_EQ(found[i], values.at(static_cast<size_t>(batch.baseOffset.value()) + i));
          }
          next = batch.baseOffset.value() + batch.count;
        }
      }
    }
    return lacking;
  }
  void rot(const char* what) {
    std::vector<File> files;
    listFiles(disk_->root(), "", files);
    uint64_t all = 0;
    for (const File& file : files) all += file.size;
    auto intact = disk_->clone();
    int trials = std::getenv("POLYLOG_THOROUGH") != nullptr ? 5000 : 250;
    std::map<std::string, int> hits;
    for (int trial = 0; trial < trials && !HasFailure(); ++trial) {
      // Every other one goes to a file by chance, so that small ones have their share.
      const File* file = &files[random_.next() % files.size()];
      uint64_t at = random_.next() % file->size;
      if (trial % 2 == 0) {
        at = random_.next() % all;
        for (file = files.data(); at >= file->size; ++file) at -= file->size;
      }
      auto bit = static_cast<unsigned>(random_.next() % 8);
      SCOPED_TRACE(std::string(what) + ": " + file->path + " octet " + std::to_string(at) + " of " +
                   std::to_string(file->size) + " bit " + std::to_string(bit));
      disk_ = intact->clone();
      ASSERT_TRUE(disk_->flipBit(file->path, at, bit));
      open();
      if (HasFatalFailure()) return;
      size_t lacking = missing();
      EXPECT_LE(lacking, kMostInEntry);
      bool journal = file->path.ends_with(".segment");
      if (!journal) {
        EXPECT_EQ(lacking, 0U);
      }
      hits[file->path.substr(0, file->path.find('/')) + (lacking != 0 ? " lacking" : "")]++;
      // It goes on from there, and finds its end again.
      auto more = store_->append(request(makeBatch({"more"}), {to(1)}));
      EXPECT_TRUE(more);
      store_->runOnce();
      store_->close();
      store_ = nullptr;
    }
    for (const auto& [name, count] : hits) RecordProperty(std::string(what) + " " + name, count);
  }

  std::map<uint64_t, std::vector<std::string>> model_;
};

TEST_F(BitRotTest, AfterACleanStop) {
  open();
  fill();
  store_->close();
  store_ = nullptr;
  rot("clean stop");
}

TEST_F(BitRotTest, AfterACrash) {
  open();
  fill();
  // The group behind it says that all before was durable.
  ASSERT_TRUE(store_->append({}));
  store_->runOnce();
  crash(test::PowerFailure::kLoseUnsynced);
  rot("crash");
}

}  // namespace
}  // namespace polylog::storage
