// Inspection of a journal: every damage is found, told where it is, and what it took.
#include "storage/journal_reader.h"

#include <gmock/gmock.h>

#include "storage/place_map.h"
#include "tests/storage/journal_harness.h"

namespace polylog::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(JournalReaderTest, NoFlippedBitOfASealedSegmentOrTheManifestPasses) {
  fillAndRewrite();
  fill(20);
  ASSERT_TRUE(store_->checkpoint());
  store_ = nullptr;
  auto infos = manifest();
  std::vector<SegmentInfo> some{firstRewritten()};
  for (const SegmentInfo& info : infos) {
    if (!info.rewritten && info.status == SegmentStatus::kSealed) {
      some.push_back(info);
      break;
    }
  }
  ASSERT_EQ(some.size(), 2U);
  for (const SegmentInfo& info : some) {
    uint64_t size = disk_->contentOf(fileOf(info))->size();
    for (uint64_t at = 0; at<size; at += at> size - 200 ? 1 : 13) {
      unsigned bit = static_cast<unsigned>(at % 8);
      ASSERT_TRUE(disk_->flipBit(fileOf(info), at, bit));
      JournalReport report = verify();
      ASSERT_FALSE(report.faults.empty()) << info.file << " octet " << at;
      bool covered = false;
      for (const JournalFault& fault : report.faults) {
        EXPECT_EQ(fault.file, info.file);
        covered |= fault.length == 0 || (at >= fault.at && at < fault.at + fault.length);
      }
      EXPECT_TRUE(covered) << info.file << " octet " << at << ": " << textsOf(report)[0];
      ASSERT_TRUE(disk_->flipBit(fileOf(info), at, bit));
    }
  }
  uint64_t size = disk_->contentOf("journal/MANIFEST")->size();
  for (uint64_t at = 0; at < size; at += 3) {
    ASSERT_TRUE(disk_->flipBit("journal/MANIFEST", at, 3));
    JournalReport report = verify();
    ASSERT_EQ(report.faults.size(), 1U);
    const JournalFault& fault = report.faults[0];
    EXPECT_EQ(fault.kind, FaultKind::kIndex);  // the other copy says it all
    EXPECT_EQ(fault.file, "MANIFEST");
    EXPECT_EQ(fault.at, at < size / 2 ? 0 : size / 2);
    EXPECT_EQ(fault.length, size / 2);
    EXPECT_EQ(report.segments.size(), infos.size());
    ASSERT_TRUE(disk_->flipBit("journal/MANIFEST", at, 3));
  }
  ASSERT_TRUE(disk_->flipBit("journal/MANIFEST", 20, 3));
  ASSERT_TRUE(disk_->flipBit("journal/MANIFEST", size - 20, 3));
  EXPECT_EQ(verify().faults.at(0).kind, FaultKind::kManifest);
  ASSERT_TRUE(disk_->flipBit("journal/MANIFEST", 20, 3));
  ASSERT_TRUE(disk_->flipBit("journal/MANIFEST", size - 20, 3));
  EXPECT_THAT(textsOf(verify()), IsEmpty());
}

TEST_F(JournalReaderTest, NamesTheOffsetsOfADamagedBatch) {
  fillAndSeal();
  store_ = nullptr;
  SegmentInfo info = manifest()[1];
  // Whatever entry it is: its batch's last octets, then its own header.
  auto [at, header] = entryOf(info, 3);
  std::vector<OffsetsLost> lost;
  for (uint64_t octet : {at + header.length - 12, at + 20}) {
    ASSERT_TRUE(disk_->flipBit(fileOf(info), octet, 1));
    JournalReport report = verify();
    ASSERT_EQ(report.faults.size(), 1U) << ::testing::PrintToString(textsOf(report));
    const JournalFault& fault = report.faults[0];
    EXPECT_EQ(fault.kind, FaultKind::kRecords);
    EXPECT_EQ(fault.file, info.file);
    EXPECT_GE(octet, fault.at);
    EXPECT_LT(octet, fault.at + fault.length);
    ASSERT_FALSE(fault.lost.empty());
    if (lost.empty()) lost = fault.lost;
    EXPECT_EQ(fault.lost, lost);  // the footer says what the entry can't
    ASSERT_TRUE(disk_->flipBit(fileOf(info), octet, 1));
  }
}

TEST_F(JournalReaderTest, NamesOffsetsByTheHoleWhereThereIsNoFooter) {
  open();
  ASSERT_TRUE(make(1));
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(put(1, {"a", "b"}));
  store_ = nullptr;
  SegmentInfo info = manifest()[0];
  uint64_t at = entryOf(info, 3).first;
  ASSERT_TRUE(disk_->flipBit(fileOf(info), at + 45, 1));
  JournalReport report = verify();
  ASSERT_EQ(report.faults.size(), 1U) << ::testing::PrintToString(textsOf(report));
  EXPECT_EQ(report.faults[0].at, at);
  EXPECT_THAT(report.faults[0].lost,
              ElementsAre(OffsetsLost{PartitionId(1), Offset(4), Offset(6)}));
}

TEST_F(JournalReaderTest, NamesOffsetsThatAreMissingBetweenSegments) {
  options_.segmentBytes = 4096;
  open();
  ASSERT_TRUE(make(1));
  while (manifest().size() < 2) ASSERT_TRUE(put(1, {std::string(200, 'x')}));
  ASSERT_TRUE(put(1, {"last"}));
  ASSERT_TRUE(put(1, {"marks"}));
  crash();
  // As before its footer was written, which would tell as well.
  auto infos = manifest();
  infos[0].status = SegmentStatus::kClosed;
  ASSERT_TRUE(writeManifest(*journal(), infos));
  SegmentInfo closed = infos[0];
  int entries = 0;
  for (const SegmentSummary& segment : verify().segments) {
    entries = segment.info.id == 1 ? static_cast<int>(segment.totals.entries) : entries;
  }
  auto [at, header] = entryOf(closed, entries - 1);
  ASSERT_TRUE(disk_->flipBit(fileOf(closed), at + 1, 1));
  JournalReport report = verify();
  ASSERT_EQ(report.faults.size(), 1U) << ::testing::PrintToString(textsOf(report));
  EXPECT_EQ(report.faults[0].at, at);
  Offset lost(entries - 2);  // the first entry made the partition
  EXPECT_THAT(report.faults[0].lost, ElementsAre(OffsetsLost{PartitionId(1), lost, lost + 1}));
}

TEST_F(JournalReaderTest, ATornTailIsNoDamage) {
  open();
  ASSERT_TRUE(make(1));
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(put(1, {"a", "b"}));
  store_ = nullptr;
  SegmentInfo info = manifest()[0];
  auto [last, header] = entryOf(info, 6);
  for (uint64_t kept : {uint64_t{1}, uint64_t{47}, uint64_t{header.length} - 1}) {
    auto whole = disk_->clone();
    ASSERT_TRUE(disk_->setSize(fileOf(info), last + kept));
    JournalReport report = verify();
    EXPECT_THAT(textsOf(report), IsEmpty());
    EXPECT_EQ(report.segments[0].tornBytes, kept);
    EXPECT_EQ(info.place(report.segments[0].end), last);
    EXPECT_EQ(report.partitions.at(PartitionId(1)).end, Offset(10));
    disk_ = std::move(whole);
  }
  // Below a later durable mark it is.
  ASSERT_TRUE(disk_->flipBit(fileOf(info), entryOf(info, 5).first + 2, 0));
  EXPECT_EQ(verify().faults.size(), 1U);
}

TEST_F(JournalReaderTest, AMissingOrShortFileIsDamage) {
  fillAndSeal();
  store_ = nullptr;
  SegmentInfo info = manifest()[1];
  auto whole = disk_->clone();
  ASSERT_TRUE(disk_->setSize(fileOf(info), 3000));
  JournalReport report = verify();
  bool records = false;
  for (const JournalFault& fault : report.faults) records |= fault.kind == FaultKind::kRecords;
  EXPECT_TRUE(records);
  disk_ = whole->clone();
  ASSERT_TRUE(journal()->remove(info.file));
  EXPECT_THAT(textsOf(verify()), ElementsAre(HasSubstr("isn't there")));
  disk_ = whole->clone();
  ASSERT_TRUE(journal()->remove(kManifestName));
  EXPECT_THAT(textsOf(verify()), ElementsAre("MANIFEST: journal/MANIFEST is not there"));
  test::FaultyDisk empty;
  EXPECT_EQ(findJournal(empty.root()).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ((*findJournal(disk_->root()))->path(), journal()->path());
}

TEST_F(JournalReaderTest, ASectorThatCannotBeReadIsDamage) {
  fillAndSeal();
  store_ = nullptr;
  std::string file = fileOf(manifest()[1]);
  disk_->onCall([&](const test::DiskCall& call) -> std::optional<test::DiskFault> {
    bool hit = call.kind == test::DiskCall::Kind::kRead && call.path == file && call.length > 100;
    return hit ? std::optional(test::DiskFault{{ErrorKind::kIo, "bad sector"}, 0}) : std::nullopt;
  });
  JournalReport report = verify();
  ASSERT_FALSE(report.faults.empty());
  EXPECT_THAT(report.faults[0].text, HasSubstr("bad sector"));
  EXPECT_EQ(report.segments.size(), manifest().size());  // the rest was read
}

TEST_F(JournalReaderTest, AFooterThatSaysSomethingElseIsAFault) {
  fillAndSeal();
  store_ = nullptr;
  SegmentInfo info = manifest()[1];
  auto whole = disk_->clone();
  std::vector<FooterRun> good = footerOf(info);
  ASSERT_GE(good.size(), 2U);
  auto withFirst = [&](const std::function<bool(IndexEntry&)>& change) {
    std::vector<FooterRun> runs = good;
    runs[0] = changed(good[0], info, change);
    replaceFooter(info, runs);
    JournalReport report = verify();
    disk_ = whole->clone();
    return report;
  };
  EXPECT_THAT(textsOf(withFirst([](IndexEntry&) { return true; })), IsEmpty());
  int nth = 0;
  EXPECT_THAT(textsOf(withFirst([&](IndexEntry& entry) {
                entry.position += ++nth == 2 ? 8U : 0U;
                return true;
              })),
              ElementsAre(HasSubstr("differs from the entries")));
  nth = 0;
  EXPECT_FALSE(withFirst([&](IndexEntry&) { return ++nth != 2; }).faults.empty());
  nth = 0;
  EXPECT_THAT(textsOf(withFirst([&](IndexEntry& entry) {
                entry.maxTimestamp += ++nth == 2 ? 5 : 0;
                return true;
              })),
              ::testing::Contains(HasSubstr("isn't what its entries add up to")));
  // An entry that isn't there.
  IndexEntry more;
  IndexRun::Cursor cursor = good[0].run->begin();
  while (cursor.next(more)) {
  }
  std::vector<FooterRun> runs = good;
  runs[0] = changed(good[0], info, [](IndexEntry&) { return true; });
  auto longer = std::make_shared<IndexRun>(*runs[0].run);
  more.base = longer->end();
  longer->append(more);
  runs[0].end = longer->end();
  runs[0].run = longer;
  replaceFooter(info, runs);
  EXPECT_THAT(textsOf(verify()), ::testing::Contains(HasSubstr("which no entry has")));
  disk_ = whole->clone();
  // A partition that isn't in it at all, and one out of order.
  replaceFooter(info, std::vector(good.begin() + 1, good.end()));
  EXPECT_THAT(textsOf(verify()), ElementsAre(HasSubstr("the footer lacks partition 1")));
  disk_ = whole->clone();
  runs = good;
  std::swap(runs[0], runs[1]);
  replaceFooter(info, runs);
  EXPECT_THAT(textsOf(verify()), ElementsAre(HasSubstr("isn't in order")));
}

TEST_F(JournalReaderTest, ThePlaceMapOfARewrittenSegmentIsCompared) {
  fillAndRewrite();
  store_ = nullptr;
  SegmentInfo info = firstRewritten();
  auto whole = disk_->clone();
  std::vector<FooterRun> runs = footerOf(info);
  auto file = journal()->open(info.file, OpenMode::kRead).value();
  FooterLayout layout = readFooterLayout(*file, info).value();
  auto map = readPlaceMap(*file, layout.mapAt, layout.mapEntries).value();
  ASSERT_GE(map.size(), 2U);
  replaceFooter(info, runs, map);
  EXPECT_THAT(textsOf(verify()), IsEmpty());
  auto other = map;
  other[1].place += 8;
  replaceFooter(info, runs, other);
  EXPECT_THAT(textsOf(verify()), ElementsAre(HasSubstr("the map of a rewritten segment differs")));
  other = map;
  other.pop_back();
  replaceFooter(info, runs, other);
  EXPECT_THAT(textsOf(verify()), ElementsAre(HasSubstr("the map of a rewritten segment differs")));
  disk_ = std::move(whole);
}

TEST_F(JournalReaderTest, WhatWasDamagedBeforeItWasRewrittenIsNamed) {
  fillAndSeal();
  store_->close();
  store_ = nullptr;
  SegmentInfo sealed = manifest()[1];
  int nth = 0;
  IndexEntry hit;
  for (const FooterRun& run : footerOf(sealed)) {
    if (run.partition != PartitionId(3)) continue;
    IndexRun::Cursor cursor = run.run->begin();
    while (nth++ < 2) ASSERT_TRUE(cursor.next(hit));
  }
  ASSERT_TRUE(disk_->flipBit(fileOf(sealed), sealed.place(hit.position) + 65, 2));
  open();
  AppendRequest request;
  request.state.push_back(logStartMoved(PartitionId(1), ends(1).end - 1));
  ASSERT_TRUE(store_->append(std::move(request)));
  store_->runOnce();
  ASSERT_TRUE(store_->runRetention());
  store_ = nullptr;
  ASSERT_TRUE(manifest()[1].rewritten);
  JournalReport report = verify();
  ASSERT_EQ(report.faults.size(), 1U) << ::testing::PrintToString(textsOf(report));
  EXPECT_THAT(report.faults[0].text, HasSubstr("damaged before the segment was rewritten"));
  EXPECT_THAT(report.faults[0].lost,
              ::testing::Contains(OffsetsLost{PartitionId(3), hit.base, hit.end()}));
}

TEST_F(JournalReaderTest, HalfAChainIsDamage) {
  options_.segmentBytes = 64 << 20;
  open();
  ASSERT_TRUE(make(1));
  std::vector<Target> targets(kMaxEntryTargets + 5, to(1));
  ASSERT_TRUE(store_->append(request(makeBatch({"everywhere"}), targets)));
  store_->runOnce();
  ASSERT_TRUE(put(1, {"marks"}));
  store_ = nullptr;
  EXPECT_THAT(textsOf(verify()), IsEmpty());
  SegmentInfo info = manifest()[0];
  for (int half : {1, 2}) {
    uint64_t at = entryOf(info, half).first + 50;
    ASSERT_TRUE(disk_->flipBit(fileOf(info), at, 0));
    JournalReport report = verify();
    ASSERT_EQ(report.faults.size(), 2U) << ::testing::PrintToString(textsOf(report));
    ASSERT_TRUE(disk_->flipBit(fileOf(info), at, 0));
    // The half that is left doesn't count either.
    size_t chain = half == 1 ? 1 : 0;
    EXPECT_THAT(report.faults[chain].text, HasSubstr("chain"));
    EXPECT_EQ(report.faults[chain].lost.size(), 1U);
    EXPECT_EQ(report.partitions.at(PartitionId(1)).offsets, 1U);
  }
}

TEST_F(JournalReaderTest, CopiesOfTheManifestThatDifferAreAFault) {
  fillAndSeal();
  store_ = nullptr;
  auto infos = manifest();
  std::string one = encodeManifest(infos);
  infos[0].createdMs += 1;
  std::string other = encodeManifest(infos);
  BytesView pieces[] = {one, other};
  auto file = journal()->open(kManifestName, OpenMode::kReplace).value();
  ASSERT_TRUE(file->write(0, pieces));
  EXPECT_THAT(textsOf(verify()), ElementsAre("MANIFEST: its two copies differ"));
}

}  // namespace
}  // namespace polylog::storage
