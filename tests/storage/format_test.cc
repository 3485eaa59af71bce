// The encodings of the journal: entries, index runs, footers, the manifest.
#include <gmock/gmock.h>

#include "storage/entry.h"
#include "storage/manifest.h"
#include "storage/partition_index.h"
#include "storage/producer_state.h"
#include "storage/segment_footer.h"
#include "tests/storage/store_harness.h"

namespace polylog::storage {
namespace {

std::string joined(const EntryBuffer& buffer) {
  std::vector<BytesView> pieces;
  buffer.pieces(pieces);
  std::string all;
  for (BytesView piece : pieces) all.append(piece);
  return all;
}

TEST(EntryTest, RoundTripsCopiedAndReferredBatches) {
  SharedBytes small = makeBatch({"s"});
  SharedBytes large = makeBatch({std::string(5000, 'l')});
  std::vector<PlacedTarget> targets{{PartitionId(9), Offset(70), 0, 1, 3},
                                    {PartitionId(2), Offset(1LL << 40), 0, 1, 0},
                                    {PartitionId(UINT64_MAX), Offset(0), 0, 1, UINT32_MAX}};
  std::vector<StateChange> state{{StateTable::kTopic, "k", "v"},
                                 {StateTable::kQueue, std::string(300, 'q'), std::nullopt}};
  EntryBuffer buffer;
  buffer.begin(77, 5, Position(800), 0);
  buffer.addState(state);
  Position first = buffer.addMessages(kRouteAfterCommit, targets, large);
  Position second = buffer.addMessages(0, targets, small);
  buffer.addLink({Position(3), 99}, 1234, targets);
  size_t size = buffer.finish(false);
  buffer.seal(Position(640));
  std::string bytes = joined(buffer);
  ASSERT_EQ(bytes.size(), size);
  ASSERT_EQ(size % kEntryAlignment, 0U);
  EntryView entry;
  ASSERT_TRUE(decodeEntry(bytes, 77, Position(800), entry));
  EXPECT_EQ(entry.header.durableMark, Position(640));
  EXPECT_EQ(entry.header.sequence, 5U);
  ASSERT_EQ(entry.parts.size(), 4U);
  EXPECT_EQ(entry.parts[1].batch, large.view());
  EXPECT_EQ(entry.parts[1].place.position, first);
  EXPECT_EQ(entry.parts[2].place.position, second);
  EXPECT_EQ(bytes.substr(first - Position(800), large.size()), large.view());
  EXPECT_EQ(entry.parts[3].maxTimestamp, 1234);
  std::vector<PlacedTarget> decoded;
  ASSERT_TRUE(decodeTargets(entry.parts[3].list, decoded));
  ASSERT_EQ(decoded.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(decoded[i].partition, targets[i].partition);
    EXPECT_EQ(decoded[i].base, targets[i].base);
    EXPECT_EQ(decoded[i].attributes, targets[i].attributes);
  }
  std::vector<StateChange> changes;
  ASSERT_TRUE(decodeState(entry.parts[0].list, changes));
  EXPECT_EQ(changes[0].value, "v");
  EXPECT_EQ(changes[1].value, std::nullopt);
  EXPECT_FALSE(decodeEntry(bytes, 78, Position(800), entry));
  EXPECT_FALSE(decodeEntry(bytes, 77, Position(808), entry));
}

TEST(EntryTest, NoFlippedBitPassesBothChecksums) {
  SharedBytes batch = makeBatch({"some value"});
  std::vector<PlacedTarget> targets{{PartitionId(1), Offset(0), 0, 1, 0}};
  EntryBuffer buffer;
  buffer.begin(1, 0, Position(0), 0);
  buffer.addMessages(0, targets, batch);
  buffer.finish(false);
  buffer.seal(Position(0));
  std::string good = joined(buffer);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EntryView entry;
    bool passes = decodeEntry(bad, 1, Position(0), entry) &&
                  validateRecordBatch(entry.parts[0].batch).has_value();
    EXPECT_FALSE(passes) << "bit " << bit;
  }
}

std::vector<IndexEntry> someEntries(size_t count, test::SeededRandom& random) {
  std::vector<IndexEntry> entries;
  Offset next(1000);
  uint64_t position = 5000;
  for (size_t i = 0; i < count; ++i) {
    IndexEntry entry;
    if (i > 0 && random.next() % 50 == 0) next += 7;  // a hole
    entry.base = next;
    entry.count = static_cast<uint32_t>(random.next() % 3 == 0 ? random.next() % 1000 + 1 : 1);
    position += random.next() % 10'000;
    entry.position = Position(random.next() % 20 == 0 ? random.next() % 4096 : position);
    entry.length = static_cast<uint32_t>(random.next() % 4 == 0 ? random.next() : 100);
    entry.firstRecord = static_cast<uint32_t>(random.next() % 5 == 0 ? random.next() % 9 : 0);
    entry.attributes = static_cast<uint32_t>(random.next() % 3);
    entry.maxTimestamp = static_cast<int64_t>(random.next() % 10 == 0 ? UINT64_MAX : random.next() / 2);
    next = entry.end();
    entries.push_back(entry);
  }
  return entries;
}

TEST(IndexRunTest, SeeksAsAListWould) {
  test::SeededRandom random(1);
  std::vector<IndexEntry> entries = someEntries(1000, random);
  IndexRun run(entries[0].base, Position(4096));
  for (const IndexEntry& entry : entries) run.append(entry);
  auto parsed = IndexRun::parse(entries[0].base, Position(4096), run.entries(), run.bytes());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->end(), run.end());
  for (const IndexRun* one : {&run, &*parsed}) {
    for (int64_t offset = 1000; offset <= run.end().value(); offset += 13) {
      auto expected = std::find_if(entries.begin(), entries.end(), [&](const IndexEntry& entry) {
        return entry.end() > Offset(offset);
      });
      IndexRun::Cursor cursor = one->seek(Offset(offset));
      IndexEntry entry;
      ASSERT_EQ(cursor.next(entry), expected != entries.end());
      if (expected != entries.end()) {
        ASSERT_EQ(entry, *expected);
      }
    }
  }
  EXPECT_FALSE(IndexRun::parse(entries[0].base, Position(0), run.entries() + 1, run.bytes()));
  EXPECT_FALSE(IndexRun::parse(entries[0].base, Position(0), run.entries() - 1, run.bytes()));
}

TEST(IndexRunTest, KeepsSharesAndReadsRunsWithoutThem) {
  IndexRun plain(Offset(0), Position(0));
  IndexRun shared(Offset(0), Position(0));
  IndexEntry whole{Offset(0), 1, Position(100), 500, 0, 7, 10};
  IndexEntry part{Offset(1), 2, Position(700), 500, 3, 7, 10, shareOf(500, 2, 8)};
  IndexEntry after{Offset(3), 1, Position(1300), 400, 0, 7, 10, shareOf(400, 1, 1)};
  EXPECT_EQ(part.octets(), 125U);
  EXPECT_EQ(after.octets(), 400U);
  EXPECT_EQ(shareOf(3, 1, 100), 1U) << "never nothing, which would be all";
  plain.append(whole);
  for (const IndexEntry& entry : {whole, part, after}) shared.append(entry);
  EXPECT_FALSE(plain.shares());
  EXPECT_TRUE(shared.shares());
  auto parsed = IndexRun::parse(Offset(0), Position(0), shared.entries(), shared.bytes());
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(parsed->shares());
  IndexRun::Cursor cursor = parsed->begin();
  for (const IndexEntry& entry : {whole, part, after}) {
    IndexEntry read;
    ASSERT_TRUE(cursor.next(read));
    EXPECT_EQ(read, entry);
  }
  EXPECT_FALSE(IndexRun::parse(Offset(0), Position(0), 1, plain.bytes())->shares());
}

TEST(SegmentFooterTest, RunsWithSharesSayThatTheyHaveSome) {
  test::FaultyDisk disk;
  auto file = disk.root()->open("segment", OpenMode::kCreate);
  ASSERT_TRUE(file);
  SegmentInfo info;
  info.id = 1;
  info.end = Position(4096);
  info.file = "segment";
  auto run = std::make_shared<IndexRun>(Offset(0), Position(0));
  run->append({Offset(0), 1, Position(64), 500, 0, 0, 5, 100});
  std::vector<FooterRun> runs{
      {PartitionId(1), Offset(0), run->end(), 100, 5, UINT64_MAX, run, 0, 0}};
  ASSERT_TRUE(writeFooter(**file, info, info.place(info.end), runs));
  char magic[4];
  ASSERT_TRUE((*file)->read(info.place(info.end) + 4, magic, sizeof magic));
  EXPECT_EQ(std::string_view(magic, 4), "PLRS")
      << "a reader that knows no shares takes the entries";
  auto read = readFooter(**file, info);
  ASSERT_TRUE(read) << read.error().text;
  IndexRun::Cursor cursor = (*read)[0].run->begin();
  IndexEntry entry;
  ASSERT_TRUE(cursor.next(entry));
  EXPECT_EQ(entry.octets(), 100U);
}

TEST(SegmentFooterTest, RoundTripsAndDetectsDamage) {
  test::FaultyDisk disk;
  test::SeededRandom random(2);
  auto file = disk.root()->open("segment", OpenMode::kCreate);
  ASSERT_TRUE(file);
  SegmentInfo info;
  info.id = 3;
  info.incarnation = 4;
  info.base = Position(4096);
  info.end = Position(8192);
  info.file = "segment";
  std::vector<FooterRun> runs;
  for (uint64_t id = 1; id <= 20; ++id) {
    std::vector<IndexEntry> entries = someEntries(id * 10, random);
    auto run = std::make_shared<IndexRun>(entries[0].base, info.base);
    for (const IndexEntry& entry : entries) run->append(entry);
    runs.push_back({PartitionId(id), entries[0].base, run->end(), id, 5, UINT64_MAX, run, 0, 0});
  }
  ASSERT_TRUE(writeFooter(**file, info, info.place(info.end), runs));
  auto all = readFooter(**file, info);
  ASSERT_TRUE(all) << all.error().text;
  ASSERT_EQ(all->size(), runs.size());
  const FooterRun& seventh = runs[6];
  auto one = readFooterRun(**file, info, info.place(info.end), seventh.partition, seventh.at, seventh.length);
  ASSERT_TRUE(one);
  EXPECT_EQ(one->run->bytes(), seventh.run->bytes());
  EXPECT_FALSE(readFooterRun(**file, info, info.place(info.end), PartitionId(8), seventh.at, seventh.length));
  EXPECT_FALSE(readFooterRun(**file, info, info.place(info.end), seventh.partition, seventh.at + 1, seventh.length));
  uint64_t size = *(*file)->size();
  for (uint64_t at = info.place(info.end); at < size; at += 7) {
    ASSERT_TRUE(disk.flipBit("segment", at, 2));
    EXPECT_FALSE(readFooter(**file, info)) << at;
    ASSERT_TRUE(disk.flipBit("segment", at, 2));
  }
}

TEST(ManifestTest, RoundTripsAndDetectsDamage) {
  std::vector<SegmentInfo> infos(2);
  infos[0] = {1, 11, Position(0), 0, 5, SegmentStatus::kSealed, Position(800), segmentFileName(1)};
  infos[1] = {2, 12, Position(800), 9, 6, SegmentStatus::kActive, Position(0), segmentFileName(2)};
  std::string good = encodeManifest(infos);
  auto decoded = decodeManifest(good);
  ASSERT_TRUE(decoded) << decoded.error().text;
  EXPECT_EQ(*decoded, infos);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(decodeManifest(bad));
  }
  for (size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(decodeManifest(good.substr(0, size)));
}

TEST(ProducerTableTest, RewindsToWhatIsDurable) {
  ProducerTable table;
  auto batch = [](int32_t sequence, uint64_t position) {
    return ProducerBatch{0, sequence, sequence, Offset(sequence), Position(position), 1};
  };
  for (int32_t i = 0; i < 6; ++i) table.add(ProducerId(1), batch(i, static_cast<uint64_t>(10 + i)), 0, Position(20));
  // Eight more that aren't durable, then the write fails: the last five durable ones are known.
  for (int32_t i = 6; i < 14; ++i) table.add(ProducerId(1), batch(i, static_cast<uint64_t>(20 + i)), 0, Position(20));
  table.rewind(ProducerId(1), Position(20));
  for (int32_t i = 1; i < 6; ++i) {
    auto known = table.check(ProducerId(1), batch(i, 0));
    ASSERT_TRUE(known);
    EXPECT_NE(*known, nullptr) << i;
  }
  EXPECT_EQ(table.check(ProducerId(1), batch(6, 0)).value(), nullptr);
  EXPECT_FALSE(table.check(ProducerId(1), batch(7, 0)));
}

}  // namespace
}  // namespace polylog::storage
