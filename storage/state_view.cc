#include "storage/state_view.h"

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <utility>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/log.h"
#include "storage/checkpoints.h"
#include "storage/rocksdb_env.h"

namespace polylog::storage {
namespace {

constexpr const char* kViewPath = "/view";
constexpr const char* kFillingPath = "/checkpoint.tmp";
/// Tables begin at octet 1, so nobody else's key begins with 0.
constexpr BytesView kAppliedKey("\0applied", 8);
constexpr size_t kCheckpointsKept = 2;

rocksdb::Slice sliceOf(BytesView bytes) {
  return {bytes.data(), bytes.size()};
}
BytesView viewOf(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

Error errorOf(const rocksdb::Status& status, std::string_view what) {
  ErrorKind kind = ErrorKind::kCorrupt;
  if (status.IsNoSpace()) {
    kind = ErrorKind::kNoSpace;
  } else if (status.IsBusy()) {
    kind = ErrorKind::kBusy;
  } else if (status.IsShutdownInProgress()) {
    kind = ErrorKind::kShutdown;
  } else if (status.IsIOError() && !status.IsPathNotFound()) {
    kind = ErrorKind::kIo;
  }
  return {kind, std::string(what) + ": " + status.ToString()};
}

rocksdb::CompressionType compression() {
  auto built = rocksdb::GetSupportedCompressions();
  bool lz4 = std::ranges::find(built, rocksdb::kLZ4Compression) != built.end();
  return lz4 ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
}

/// A small footprint first: the view is megabytes, its readers are start-up and cold look-ups.
rocksdb::Options optionsFor(rocksdb::Env* env) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(size_t{8} << 20, 2);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;
  table.format_version = 5;

  rocksdb::Options options;
  options.env = env;
  options.info_log = makeRocksdbLogger();
  options.info_log_level = rocksdb::InfoLogLevel::ERROR_LEVEL;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.create_if_missing = true;
  options.compression = compression();
  options.write_buffer_size = size_t{16} << 20;
  options.max_write_buffer_number = 3;
  options.max_write_buffer_size_to_maintain = 0;
  options.level_compaction_dynamic_level_bytes = true;
  options.target_file_size_base = uint64_t{16} << 20;
  options.max_bytes_for_level_base = uint64_t{64} << 20;
  options.max_open_files = 128;
  options.max_file_opening_threads = 1;
  options.max_background_jobs = 1;
  options.compaction_readahead_size = size_t{256} << 10;
  options.writable_file_max_buffer_size = size_t{256} << 10;
  options.max_manifest_file_size = size_t{4} << 20;
  options.allow_concurrent_memtable_write = false;  // There is one writer.
  options.avoid_flush_during_shutdown = true;       // The journal has it all.
  options.manual_wal_flush = true;
  options.skip_stats_update_on_db_open = true;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

/// The first key after all that begin with `prefix`; empty when there is none.
std::string keyAfter(BytesView prefix) {
  std::string after(prefix);
  while (!after.empty() && after.back() == '\xff') after.pop_back();
  if (!after.empty()) after.back() = static_cast<char>(after.back() + 1);
  return after;
}

Result<Position> appliedOf(rocksdb::DB& db) {
  std::string value;
  auto status = db.Get(rocksdb::ReadOptions(), sliceOf(kAppliedKey), &value);
  if (status.IsNotFound()) return Position(0);
  if (!status.ok()) return std::unexpected(errorOf(status, "cannot read the applied position"));
  ByteReader reader(value);
  Position position(reader.u64());
  if (!reader.complete()) return fail(ErrorKind::kCorrupt, "the applied position is malformed");
  return position;
}

class RocksStateView final : public StateView {
 public:
  RocksStateView(std::shared_ptr<Directory> directory, Checkpoints checkpoints)
      : directory_(std::move(directory)),
        checkpoints_(std::move(checkpoints)),
        env_(makeRocksdbEnv(directory_)),
        options_(optionsFor(env_.get())) {
    unlogged_.disableWAL = true;
  }

  /// Opens the database at `view` and reads how far it got.
  Result<> open();
  void close() { db_.reset(); }

  Position applied() const override { return Position(applied_.load(std::memory_order_acquire)); }
  Result<> apply(std::span<const ViewChange> changes, Position applied) override;
  std::optional<std::string> get(BytesView key) const override;
  void scan(BytesView prefix,
            const std::function<bool(BytesView key, BytesView value)>& visit) const override;
  Result<> checkpoint() override;
  Position safePosition() const override { return Position(safe_.load(std::memory_order_acquire)); }

  Checkpoints& checkpoints() { return checkpoints_; }
  void updateSafePosition();

 private:
  Result<Position> verifyFilled();
  Result<> verifyTables();
  void noteDamage(const rocksdb::Status& status, std::string_view what) const;

  std::shared_ptr<Directory> directory_;
  std::mutex checkpointing_;  // guards checkpoints_, checkpointed_ and verified_
  Checkpoints checkpoints_;
  uint64_t checkpointed_ = 0;       // what changes_ was at the newest checkpoint
  std::set<std::string> verified_;  // tables that checkpoints hold and that have been read whole
  std::unique_ptr<rocksdb::Env> env_;
  rocksdb::Options options_;
  rocksdb::WriteOptions unlogged_;
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteBatch batch_;  // the one writer's, kept for its memory
  std::atomic<uint64_t> applied_{0};
  std::atomic<uint64_t> changes_{0};  // calls of apply()
  std::atomic<uint64_t> safe_{0};
  mutable std::atomic<bool> damaged_{false};
};

Result<> RocksStateView::open() {
  if (auto made = directory_->subdirectory(Checkpoints::kView); !made) {
    return std::unexpected(made.error());
  }
  rocksdb::DB* opened = nullptr;
  auto status = rocksdb::DB::Open(options_, kViewPath, &opened);
  if (!status.ok()) return std::unexpected(errorOf(status, "cannot open the state view"));
  db_.reset(opened);
  // RocksDB has made files in it; that the directory itself has a name is ours to see to.
  if (auto done = directory_->sync(); !done) return done;
  auto applied = appliedOf(*db_);
  if (!applied) return std::unexpected(applied.error());
  applied_.store(applied->value(), std::memory_order_release);
  return {};
}

Result<> RocksStateView::apply(std::span<const ViewChange> changes, Position applied) {
  if (damaged_.load(std::memory_order_relaxed)) {
    return fail(ErrorKind::kCorrupt, "the state view in " + directory_->path() +
                                         " is damaged; it is replaced at the next start");
  }
  applied = std::max(applied, this->applied());  // It never moves back.
  batch_.Clear();
  for (const ViewChange& change : changes) {
    if (change.key.empty() || change.key.front() == '\0') {
      return fail(ErrorKind::kInvalid, "a state key does not begin with its table's octet");
    }
    auto status = change.value ? batch_.Put(change.key, *change.value) : batch_.Delete(change.key);
    if (!status.ok()) return std::unexpected(errorOf(status, "cannot collect state changes"));
  }
  char position[8];
  for (size_t i = 0; i < sizeof position; ++i) {
    position[i] = static_cast<char>(applied.value() >> (56 - 8 * i));
  }
  batch_.Put(sliceOf(kAppliedKey), rocksdb::Slice(position, sizeof position));
  auto status = db_->Write(unlogged_, &batch_);
  if (!status.ok()) {
    if (status.IsCorruption()) noteDamage(status, "applying changes");
    return std::unexpected(errorOf(status, "cannot apply changes to the state view"));
  }
  applied_.store(applied.value(), std::memory_order_release);
  changes_.fetch_add(1, std::memory_order_release);
  return {};
}

std::optional<std::string> RocksStateView::get(BytesView key) const {
  if (key.empty() || key.front() == '\0') return std::nullopt;
  std::string value;
  auto status = db_->Get(rocksdb::ReadOptions(), sliceOf(key), &value);
  if (status.ok()) return value;
  if (!status.IsNotFound()) noteDamage(status, "reading a key");
  return std::nullopt;
}

void RocksStateView::scan(BytesView prefix,
                          const std::function<bool(BytesView key, BytesView value)>& visit) const {
  constexpr BytesView kFirstTable("\1", 1);
  rocksdb::ReadOptions reading;
  std::string end = keyAfter(prefix);
  rocksdb::Slice bound = sliceOf(end);
  if (!end.empty()) reading.iterate_upper_bound = &bound;
  reading.fill_cache = prefix.size() > 1;  // Whole tables would only wash the cache out.
  std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(reading));
  for (at->Seek(sliceOf(std::max(prefix, kFirstTable))); at->Valid(); at->Next()) {
    if (!visit(viewOf(at->key()), viewOf(at->value()))) return;
  }
  if (!at->status().ok()) noteDamage(at->status(), "scanning");
}

/// Reads can't fail by their signature: what one of them missed must not be taken for the truth.
/// From here on nothing is applied; the next start makes the view anew.
void RocksStateView::noteDamage(const rocksdb::Status& status, std::string_view what) const {
  if (damaged_.exchange(true)) return;
  logError("the state view in " + directory_->path() + " is damaged (" + std::string(what) + ": " +
           status.ToString() + "); restart to have it replaced by a checkpoint");
}

Result<> RocksStateView::checkpoint() {
  std::lock_guard lock(checkpointing_);
  if (damaged_.load(std::memory_order_relaxed)) {
    return fail(ErrorKind::kCorrupt, "a damaged state view is not checkpointed");
  }
  // Read before the flush: what is applied meanwhile may be in this checkpoint and is in the next.
  // The position alone would not tell, several changes may go by one.
  uint64_t changes = changes_.load(std::memory_order_acquire);
  const auto& kept = checkpoints_.kept();
  if (!kept.empty() && changes == checkpointed_ && applied() == kept.back().position) return {};
  if (auto done = checkpoints_.removeLeftovers(); !done) return done;
  rocksdb::Checkpoint* made = nullptr;
  auto status = rocksdb::Checkpoint::Create(db_.get(), &made);
  std::unique_ptr<rocksdb::Checkpoint> maker(made);
  // 0: flush the memtables whatever the (empty) write-ahead log's size.
  if (status.ok()) status = maker->CreateCheckpoint(kFillingPath, 0);
  if (!status.ok()) {
    return std::unexpected(errorOf(status, "cannot take a checkpoint of the state view"));
  }
  auto position = verifyFilled();
  if (!position) return std::unexpected(position.error());
  if (auto done = checkpoints_.adopt(*position); !done) return done;
  checkpointed_ = changes;
  auto done = checkpoints_.keepNewest(kCheckpointsKept);
  updateSafePosition();
  return done;
}

/// Opens the checkpoint just filled and returns the position it holds.
Result<Position> RocksStateView::verifyFilled() {
  if (auto done = verifyTables(); !done) return std::unexpected(done.error());
  rocksdb::Options options = options_;
  options.create_if_missing = false;
  rocksdb::DB* opened = nullptr;
  auto status = rocksdb::DB::OpenForReadOnly(options, kFillingPath, &opened);
  if (!status.ok()) return std::unexpected(errorOf(status, "cannot open the new checkpoint"));
  std::unique_ptr<rocksdb::DB> db(opened);
  return appliedOf(*db);
}

/// Reads each table whole, once: later checkpoints hold the same files by links.
Result<> RocksStateView::verifyTables() {
  auto filled = directory_->subdirectory(Checkpoints::kFilling);
  if (!filled) return std::unexpected(filled.error());
  auto names = (*filled)->list();
  if (!names) return std::unexpected(names.error());
  std::set<std::string> present;
  for (const std::string& name : *names) {
    if (!name.ends_with(".sst")) continue;
    if (!verified_.contains(name)) {
      rocksdb::SstFileReader reader(options_);
      auto status = reader.Open(std::string(kFillingPath) + "/" + name);
      if (status.ok()) status = reader.VerifyChecksum();
      if (!status.ok()) {
        if (status.IsCorruption()) noteDamage(status, "verifying a checkpoint");
        return std::unexpected(errorOf(status, "the new checkpoint does not hold"));
      }
    }
    present.insert(name);
  }
  verified_ = std::move(present);
  return {};
}

void RocksStateView::updateSafePosition() {
  const auto& kept = checkpoints_.kept();
  bool enough = kept.size() >= kCheckpointsKept;
  safe_.store(enough ? kept[kept.size() - kCheckpointsKept].position.value() : 0,
              std::memory_order_release);
}

/// The steps of openStateView() and what they have to say.
class Opening {
 public:
  Opening(std::shared_ptr<Directory> directory, Position journalEnd,
          std::vector<std::string>& report)
      : directory_(std::move(directory)), journalEnd_(journalEnd), report_(report) {}

  Result<std::unique_ptr<StateView>> run() {
    Checkpoints found(directory_);
    if (auto done = found.load(); !done) return std::unexpected(done.error());
    view_ = std::make_unique<RocksStateView>(directory_, std::move(found));
    auto done = dropCheckpointsAhead();
    if (done) done = view_->checkpoints().dropView();
    if (done) done = restoreNewest();
    if (done) done = view_->checkpoints().keepNewest(kCheckpointsKept);
    if (!done) return std::unexpected(done.error());
    view_->updateSafePosition();
    return std::move(view_);
  }

 private:
  /// Positions above the journal's end will be given out again, to other entries.
  Result<> dropCheckpointsAhead() {
    while (!kept().empty() && kept().back().position > journalEnd_) {
      CheckpointId ahead = kept().back();
      if (auto done = view_->checkpoints().drop(ahead); !done) return done;
      report_.push_back("dropped the state checkpoint of position " + text(ahead.position) +
                        ", which is above the journal's end at " + text(journalEnd_));
    }
    return {};
  }

  Result<> restoreNewest() {
    while (!kept().empty()) {
      CheckpointId id = kept().back();
      auto restored = restore(id);
      if (restored) return {};
      view_->close();
      if (restored.error().kind != ErrorKind::kCorrupt) return restored;
      report_.push_back("dropped the state checkpoint of position " + text(id.position) + ": " +
                        restored.error().text);
      if (auto done = view_->checkpoints().dropView(); !done) return done;
      if (auto done = view_->checkpoints().drop(id); !done) return done;
    }
    if (!report_.empty()) report_.push_back("started an empty state view");
    return view_->open();
  }

  Result<> restore(CheckpointId id) {
    auto mended = view_->checkpoints().restoreView(id);
    if (!mended) return std::unexpected(mended.error());
    for (const std::string& name : *mended) {
      report_.push_back(name + " of the state checkpoint of position " + text(id.position) +
                        " is damaged; its second copy was taken");
    }
    if (auto done = view_->open(); !done) return done;
    if (view_->applied() != id.position) {
      return fail(ErrorKind::kCorrupt, "it is at position " + text(view_->applied()));
    }
    return {};
  }

  static std::string text(Position position) { return std::to_string(position.value()); }
  const std::vector<CheckpointId>& kept() const { return view_->checkpoints().kept(); }

  std::shared_ptr<Directory> directory_;
  Position journalEnd_;
  std::vector<std::string>& report_;
  std::unique_ptr<RocksStateView> view_;
};

}  // namespace

Result<std::unique_ptr<StateView>> openStateView(std::shared_ptr<Directory> directory,
                                                 Position journalEnd,
                                                 std::vector<std::string>& report) {
  return Opening(std::move(directory), journalEnd, report).run();
}

}  // namespace polylog::storage
