// Journals to inspect: sealed, rewritten and active segments, and a directory that lets nothing be
// changed.
#pragma once

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "storage/entry_scanner.h"
#include "storage/journal_reader.h"
#include "storage/manifest.h"
#include "storage/segment_footer.h"
#include "tests/storage/store_harness.h"

namespace polylog::storage {

/// Passes everything on; tells of openings, and fails whatever would change something.
class WatchedDirectory final : public Directory {
 public:
  WatchedDirectory(std::shared_ptr<Directory> inner, std::function<void(const std::string&)> onOpen)
      : inner_(std::move(inner)), onOpen_(std::move(onOpen)) {}

  const std::string& path() const override { return inner_->path(); }
  Result<std::shared_ptr<File>> open(const std::string& name, OpenMode mode) override {
    if (mode != OpenMode::kRead) return refuse();
    onOpen_(name);
    return inner_->open(name, mode);
  }
  bool exists(const std::string& name) const override { return inner_->exists(name); }
  Result<std::vector<std::string>> list() const override { return inner_->list(); }
  bool isDirectory(const std::string& name) const override { return inner_->isDirectory(name); }
  Result<uint64_t> freeBytes() const override { return inner_->freeBytes(); }
  Result<std::shared_ptr<Directory>> subdirectory(const std::string&) override { return refuse(); }
  Result<> rename(const std::string&, const std::string&) override { return refuse(); }
  Result<> remove(const std::string&) override { return refuse(); }
  Result<> link(const std::string&, Directory&, const std::string&) override { return refuse(); }
  Result<> sync() override { return refuse(); }
  Result<std::shared_ptr<void>> lock(const std::string&) override { return refuse(); }

 private:
  static std::unexpected<Error> refuse() {
    ADD_FAILURE() << "a reader changes something";
    return fail(ErrorKind::kIo, "a reader changes something");
  }
  std::shared_ptr<Directory> inner_;
  std::function<void(const std::string&)> onOpen_;
};

/// Segments of 16 KiB. Partition 1 is large, 2 small; 3 and 4 share batches.
class JournalReaderTest : public StoreTest {
 protected:
  JournalReaderTest() { options_.segmentBytes = 16 << 10; }

  std::shared_ptr<Directory> journal() { return *disk_->root()->subdirectory("journal"); }
  JournalReport verify(std::function<void(const std::string&)> onOpen = [](const std::string&) {}) {
    WatchedDirectory watched(journal(), std::move(onOpen));
    uint64_t before = disk_->boundaries();
    JournalReadOptions options;
    options.verify = true;
    auto report = readJournal(watched, options);
    EXPECT_TRUE(report) << report.error().text;
    // The store may be at work in onOpen; the reader alone changes nothing, as refuse() sees.
    if (!store_) {
      EXPECT_EQ(disk_->boundaries(), before);
    }
    return report ? *std::move(report) : JournalReport();
  }
  static std::vector<std::string> textsOf(const JournalReport& report) {
    std::vector<std::string> texts;
    for (const JournalFault& fault : report.faults) texts.push_back(fault.file + ": " + fault.text);
    return texts;
  }
  void fill(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      for (int j = 0; j < 4; ++j) ASSERT_TRUE(put(1, {std::string(500, 'l'), "b"}));
      ASSERT_TRUE(put(2, {"small"}));
      auto shared = store_->append(request(makeBatch({"x", "y", "z"}), {to(3), to(4, 1, 2)}));
      ASSERT_TRUE(shared);
      store_->runOnce();
      AppendRequest link;
      link.links.push_back({shared->batches[0], {to(2, 0, 1)}});
      ASSERT_TRUE(store_->append(std::move(link)));
      store_->runOnce();
    }
  }
  /// Sealed segments, then some entries; nothing rewritten.
  void fillAndSeal() {
    open();
    for (uint64_t id : {1U, 2U, 3U, 4U}) ASSERT_TRUE(make(id));
    fill(25);
    ASSERT_TRUE(store_->checkpoint());
    fill(1);
  }
  /// And rewritten ones, for which the large partition's records die.
  void fillAndRewrite() {
    fillAndSeal();
    AppendRequest request;
    request.state.push_back(logStartMoved(PartitionId(1), ends(1).end - 1));
    ASSERT_TRUE(store_->append(std::move(request)));
    store_->runOnce();
    ASSERT_TRUE(store_->runRetention());
    fill(1);
  }
  std::vector<SegmentInfo> manifest() { return readManifest(*journal()).value(); }
  /// The nth entry of a segment: where it is in the file.
  std::pair<uint64_t, EntryHeader> entryOf(const SegmentInfo& info, int nth) {
    auto file = journal()->open(info.file, OpenMode::kRead).value();
    uint64_t size = file->size().value();
    EntryScanner scanner(*file, info, info.base, info.base + (size - kSegmentHeaderSize));
    for (int i = 0; i <= nth; ++i) EXPECT_EQ(scanner.step().value(), EntryScanner::Step::kEntry);
    return {info.place(scanner.position()), scanner.entry().header};
  }
  static std::string fileOf(const SegmentInfo& info) { return "journal/" + info.file; }
  /// Overwrites a sealed segment's footer with a valid one of these runs.
  void replaceFooter(const SegmentInfo& info, std::vector<FooterRun> runs,
                     std::span<const PlacedBatch> map = {}) {
    auto file = journal()->open(info.file, OpenMode::kReadWrite).value();
    auto layout = readFooterLayout(*file, info);
    ASSERT_TRUE(layout);
    ASSERT_TRUE(writeFooter(*file, info, layout->begin, runs, map));
  }
  std::vector<FooterRun> footerOf(const SegmentInfo& info) {
    return readFooter(*journal()->open(info.file, OpenMode::kRead).value(), info).value();
  }
  static FooterRun changed(const FooterRun& run, const SegmentInfo& info,
                           const std::function<bool(IndexEntry&)>& change) {
    FooterRun out = run;
    auto index = std::make_shared<IndexRun>(run.first, info.base);
    IndexRun::Cursor cursor = run.run->begin();
    for (IndexEntry entry; cursor.next(entry);) {
      if (change(entry)) index->append(entry);
    }
    out.end = index->end();
    out.run = std::move(index);
    return out;
  }
  SegmentInfo firstRewritten() {
    for (const SegmentInfo& info : manifest()) {
      if (info.rewritten) return info;
    }
    ADD_FAILURE() << "nothing was rewritten";
    return {};
  }
};

}  // namespace polylog::storage
