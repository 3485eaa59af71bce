// A log store on a disk in memory, driven by hand: what the tests of the log store share.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "core/model/record_batch.h"
#include "storage/log_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/faulty_directory.h"
#include "tests/support/seeded_random.h"

namespace polylog::storage {

/// Runs completions at once, on the writer's thread.
class RunningSink final : public CompletionSink {
 public:
  void completed(std::vector<std::move_only_function<void()>> tasks) override {
    ++calls;
    for (auto& task : tasks) task();
  }
  int calls = 0;
};

struct ProducerAt {
  int64_t id = -1;
  int16_t epoch = 0;
  int32_t sequence = 0;
};

/// A batch of records whose values are given. A producer's is patched into the header.
inline SharedBytes makeBatch(const std::vector<std::string>& values, int64_t timestampMs = 1000,
                             ProducerAt producer = {}) {
  RecordBatchBuilder builder;
  for (const std::string& value : values) {
    Record record;
    record.value = value;
    record.timestampMs = timestampMs;
    builder.add(record);
  }
  std::string batch = builder.finish();
  if (producer.id >= 0) {
    auto put = [&batch](size_t at, uint64_t v, int width) {
      for (int i = 0; i < width; ++i) {
        batch[at + static_cast<size_t>(i)] = static_cast<char>(v >> (8 * (width - 1 - i)));
      }
    };
    put(43, static_cast<uint64_t>(producer.id), 8);
    put(51, static_cast<uint16_t>(producer.epoch), 2);
    put(53, static_cast<uint32_t>(producer.sequence), 4);
    put(17, crc32c(BytesView(batch).substr(21)), 4);
  }
  return SharedBytes::own(std::move(batch));
}

/// The values of records [first, first + count) of a batch.
inline std::vector<std::string> valuesOf(const ReadBatch& read) {
  auto decoded = decodeRecordBatch(read.batch, 64U << 20);
  std::vector<std::string> values;
  if (!decoded) return {"undecodable"};
  for (uint32_t i = read.firstRecord; i < read.firstRecord + read.count; ++i) {
    values.emplace_back(*decoded->records.at(i).value);
  }
  return values;
}

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    options_.threads = false;
    setLogLevel(LogLevel::kError);  // recovery tells of each of thousands of damages
  }
  ~StoreTest() override { setLogLevel(LogLevel::kInfo); }

  void open() {
    auto store = tryOpen();
    ASSERT_TRUE(store) << store.error().text;
    store_ = std::move(*store);
  }
  Result<std::unique_ptr<LogStore>> tryOpen() {
    return openLogStore(disk_->root(), options_, clock_, random_,
                        [this](const Error& error) { fatal_ = error; });
  }
  /// As after the process was killed (or power failed): a new store on what the disk kept.
  void crash(test::PowerFailure failure = test::PowerFailure::kKeepAll) {
    auto after = disk_->afterPowerFailure(failure, random_);
    store_ = nullptr;
    disk_ = std::move(after);
  }
  void reopen() {
    store_->close();
    store_ = nullptr;
    open();
  }

  static Target to(uint64_t partition, uint32_t first = 0, uint32_t count = 0,
                   uint32_t attributes = 0) {
    return {PartitionId(partition), first, count, attributes};
  }
  Result<Appended> make(uint64_t partition, Retention retention = {}) {
    AppendRequest request;
    request.state.push_back(partitionConfigured(PartitionId(partition), retention));
    auto appended = store_->append(std::move(request));
    store_->runOnce();
    return appended;
  }
  AppendRequest request(SharedBytes batch, std::vector<Target> targets) {
    AppendRequest request;
    request.messages.push_back({std::move(batch), std::move(targets), false, false});
    return request;
  }
  /// Appends one record a value to one partition and commits.
  Result<Appended> put(uint64_t partition, const std::vector<std::string>& values,
                       int64_t timestampMs = 1000) {
    auto appended = store_->append(request(makeBatch(values, timestampMs), {to(partition)}));
    store_->runOnce();
    return appended;
  }
  Result<Appended> produce(uint64_t partition, ProducerAt producer,
                           const std::vector<std::string>& values = {"v"}) {
    AppendRequest made = request(makeBatch(values, 1000, producer), {to(partition)});
    made.messages[0].checkProducer = true;
    return store_->append(std::move(made));
  }
  /// All that is visible of a partition, or the error in words.
  std::vector<std::string> contents(uint64_t partition, int64_t from = 0,
                                    size_t maxBytes = 1U << 20) {
    std::vector<std::string> values;
    Offset next(from);
    while (true) {
      auto read = store_->read(PartitionId(partition), next, maxBytes);
      if (!read) {
        values.push_back(describe(read.error().kind));
        return values;
      }
      if (read->empty()) return values;
      for (const ReadBatch& batch : *read) {
        EXPECT_LE(batch.baseOffset, next);
        std::vector<std::string> more = valuesOf(batch);
        for (size_t i = static_cast<size_t>(next - batch.baseOffset); i < more.size(); ++i) {
          values.push_back(more[i]);
        }
        next = batch.baseOffset + batch.count;
      }
    }
  }
  PartitionEnds ends(uint64_t partition) { return store_->ends(PartitionId(partition)).value(); }
  std::string activeSegment() const {
    std::string last;
    auto journal = disk_->root()->subdirectory("journal");
    auto names = (*journal)->list();
    for (const std::string& name : *names) {
      if (name.ends_with(".segment")) last = std::max(last, name);
    }
    return "journal/" + last;
  }
  size_t segmentFiles() const {
    auto journal = disk_->root()->subdirectory("journal");
    auto names = (*journal)->list();
    size_t count = 0;
    for (const std::string& name : *names) count += name.ends_with(".segment") ? 1 : 0;
    return count;
  }

  std::unique_ptr<test::FaultyDisk> disk_ = std::make_unique<test::FaultyDisk>();
  test::FakeClock clock_;
  test::SeededRandom random_{7};
  LogStoreOptions options_;
  std::optional<Error> fatal_;
  RunningSink sink_;
  std::unique_ptr<LogStore> store_;
};

}  // namespace polylog::storage
