#include "router/share_partition.h"

#include <algorithm>
#include <iterator>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 1;

}  // namespace

// ---------------------------------------------------------------- runs

/// The run that holds `offset`, which is in [start_, end_).
SharePartition::Runs::iterator SharePartition::runAt(int64_t offset) {
  return std::prev(runs_.upper_bound(offset));
}

/// Has a run begin at `at`, if that is inside of one.
void SharePartition::split(int64_t at) {
  if (at <= start_ || at >= end_) return;
  auto run = runAt(at);
  if (run->first == at) return;
  Run rest = run->second;
  run->second.end = at;
  runs_.emplace(at, std::move(rest));
}

/// [end_, to) has `run`.
void SharePartition::append(int64_t to, Run run) {
  if (to <= end_) return;
  run.end = to;
  if (!runs_.empty() && runs_.rbegin()->second.alike(run)) {
    runs_.rbegin()->second.end = to;
  } else {
    runs_.emplace(end_, std::move(run));
  }
  end_ = to;
}

void SharePartition::finish(Run& run, State state) {
  run.state = state;
  run.deliveries = 0;
  run.member = nullptr;
  run.deadline = 0;
}

void SharePartition::giveBack(Run& run, int32_t limit) {
  if (run.deliveries >= limit) return finish(run, State::kDone);
  run.state = State::kAvailable;
  run.member = nullptr;
  run.deadline = 0;
}

void SharePartition::neverGiven(Run& run) {
  if (run.deliveries > 0) --run.deliveries;
  run.state = State::kAvailable;
  run.member = nullptr;
  run.deadline = 0;
}

/// Makes one of runs that are alike, from the one before `first` to the one behind `last`.
void SharePartition::merge(int64_t first, int64_t last) {
  auto run = runs_.upper_bound(first);
  if (run != runs_.begin()) --run;
  if (run != runs_.begin()) --run;
  while (run != runs_.end() && run->first <= last) {
    auto next = std::next(run);
    if (next == runs_.end()) return;
    if (!run->second.alike(next->second)) {
      run = next;
      continue;
    }
    run->second.end = next->second.end;
    runs_.erase(next);
  }
}

void SharePartition::advance() {
  while (!runs_.empty() && runs_.begin()->second.finished()) {
    start_ = runs_.begin()->second.end;
    runs_.erase(runs_.begin());
  }
}

int64_t SharePartition::held() const {
  int64_t sum = 0;
  for (const auto& [first, run] : runs_) {
    if (run.state != State::kNothing) sum += run.end - first;
  }
  return sum;
}

SharePartition::Progress SharePartition::progress(int64_t logStart) const {
  Progress now{std::max(start_, logStart), 0};
  for (const auto& [first, run] : runs_) {
    if (run.end <= now.start || !run.finished()) continue;
    if (first <= now.start) {
      now.start = run.end;
    } else {
      now.finished += run.end - first;
    }
  }
  return now;
}

void SharePartition::raiseStart(int64_t to) {
  if (to <= start_) return;
  split(to);
  runs_.erase(runs_.begin(), runs_.lower_bound(to));
  start_ = to;
  end_ = std::max(end_, to);
  advance();
}

// ---------------------------------------------------------------- giving out

int64_t SharePartition::nextAvailable(int64_t from) const {
  from = std::max(from, start_);
  if (from >= end_) return from;
  for (auto run = std::prev(runs_.upper_bound(from)); run != runs_.end(); ++run) {
    if (run->second.state == State::kAvailable) return std::max(from, run->first);
  }
  return end_;
}

void SharePartition::skip(int64_t first, int64_t last) {
  first = std::max(first, start_);
  if (first > last) return;
  split(first);
  split(last + 1);
  for (auto run = runs_.lower_bound(first); run != runs_.end() && run->first <= last; ++run) {
    if (run->second.state == State::kAvailable) finish(run->second, State::kNothing);
  }
  Run nothing;
  nothing.state = State::kNothing;
  append(last + 1, std::move(nothing));
  merge(first, last);
  advance();
}

int64_t SharePartition::acquire(int64_t first, int64_t last, Terms& terms,
                                std::vector<ShareRange>& out) {
  first = std::max(first, start_);
  int64_t before = terms.most;
  auto give = [&](int64_t from, int64_t to, int16_t deliveries) {
    terms.most -= to - from;
    bool follows =
        !out.empty() && out.back().last == from - 1 && out.back().deliveries == deliveries;
    if (follows) {
      out.back().last = to - 1;
    } else {
      out.push_back({from, to - 1, deliveries});
    }
  };
  for (int64_t at = nextAvailable(first); at <= last && at < end_ && terms.most > 0;
       at = nextAvailable(at)) {
    int64_t to = std::min({runAt(at)->second.end, last + 1, at + terms.most});
    split(at);
    split(to);
    Run& run = runAt(at)->second;
    run.state = State::kAcquired;
    run.member = terms.member;
    run.deadline = terms.deadline;
    if (run.deliveries < INT16_MAX) ++run.deliveries;
    give(at, to, run.deliveries);
    at = to;
  }
  int64_t fresh = std::min({last + 1 - end_, terms.most, terms.mostNew});
  if (fresh > 0 && end_ >= first) {
    int64_t from = end_;
    append(end_ + fresh, {0, State::kAcquired, 1, terms.member, terms.deadline});
    terms.mostNew -= fresh;
    give(from, end_, 1);
  }
  merge(first, last);
  return before - terms.most;
}

// ---------------------------------------------------------------- taking back

Result<> SharePartition::check(const Member& member, const ShareVerdicts& batch) {
  int64_t first = std::max(batch.first, start_);
  if (batch.last < first) return {};
  if (batch.last >= end_) {
    return fail(ErrorKind::kLocked,
                "offset " + std::to_string(batch.last) + " was never given out");
  }
  for (auto run = runAt(first); run != runs_.end() && run->first <= batch.last; ++run) {
    if (run->second.state == State::kNothing) continue;
    bool own = run->second.state == State::kAcquired && *run->second.member == *member;
    if (!own) {
      return fail(ErrorKind::kLocked, "offset " + std::to_string(std::max(first, run->first)) +
                                          " is not with member '" + *member + "' (any more)");
    }
  }
  return {};
}

void SharePartition::apply(int64_t first, int64_t last, ShareVerdict verdict, int32_t limit,
                           int64_t deadline, std::vector<Settled>& changed) {
  first = std::max(first, start_);
  if (last < first) return;
  split(first);
  split(last + 1);
  for (auto at = runs_.lower_bound(first); at != runs_.end() && at->first <= last; ++at) {
    Run& run = at->second;
    if (run.state != State::kAcquired) continue;
    if (verdict == ShareVerdict::kRenew) {
      run.deadline = deadline;
      continue;
    }
    Settled& one = changed.emplace_back(at->first, run);
    if (verdict == ShareVerdict::kRelease) {
      giveBack(run, limit);
    } else {
      finish(run, State::kDone);
    }
    one.after = run.state;
  }
  merge(first, last);
}

Result<std::vector<SharePartition::Settled>> SharePartition::settle(
    const Member& member, const std::vector<ShareVerdicts>& batches, int32_t limit,
    int64_t deadline) {
  for (const ShareVerdicts& batch : batches) {
    if (Result<> ok = check(member, batch); !ok) return std::unexpected(ok.error());
  }
  std::vector<Settled> changed;
  for (const ShareVerdicts& batch : batches) {
    const auto& verdicts = batch.verdicts;
    if (verdicts.size() == 1) {
      apply(batch.first, batch.last, verdicts.front(), limit, deadline, changed);
      continue;
    }
    for (size_t i = 0; i < verdicts.size();) {
      size_t next = i + 1;
      while (next < verdicts.size() && verdicts[next] == verdicts[i]) ++next;
      apply(batch.first + int64_t(i), batch.first + int64_t(next) - 1, verdicts[i], limit, deadline,
            changed);
      i = next;
    }
  }
  advance();
  return changed;
}

void SharePartition::takeBack(const std::vector<Settled>& changed) {
  for (const Settled& one : changed) {
    if (one.after == State::kDone && one.first < start_) {
      // All below the start is done with.
      Run done;
      done.state = State::kDone;
      done.end = start_;
      runs_.emplace(one.first, std::move(done));
      start_ = one.first;
    }
    int64_t first = std::max(one.first, start_);
    if (first >= one.before.end) continue;
    split(first);
    split(one.before.end);
    for (auto at = runs_.lower_bound(first); at != runs_.end() && at->first < one.before.end;
         ++at) {
      if (at->second.state != one.after) continue;
      int64_t end = at->second.end;
      at->second = one.before;
      at->second.end = end;
    }
  }
  merge(start_, end_);
  advance();
}

template <class Change>
bool SharePartition::changeAcquired(const Change& change) {
  bool any = false;
  for (auto& [first, run] : runs_) {
    if (run.state == State::kAcquired && change(run)) any = true;
  }
  if (!any) return false;
  merge(start_, end_);
  advance();
  return true;
}

bool SharePartition::release(const std::string& member) {
  return changeAcquired([&](Run& run) {
    if (*run.member != member) return false;
    neverGiven(run);
    return true;
  });
}

bool SharePartition::undo(const Member& grant, const std::vector<ShareRange>& ranges) {
  bool any = false;
  for (const ShareRange& range : ranges) {
    int64_t first = std::max(range.first, start_);
    int64_t last = std::min(range.last, end_ - 1);
    if (last < first) continue;
    split(first);
    split(last + 1);
    for (auto at = runs_.lower_bound(first); at != runs_.end() && at->first <= last; ++at) {
      Run& run = at->second;
      if (run.state != State::kAcquired || run.member != grant) continue;
      neverGiven(run);
      any = true;
    }
    merge(first, last);
  }
  return any;
}

bool SharePartition::expire(int64_t now, int32_t limit) {
  return changeAcquired([&](Run& run) {
    if (run.deadline > now) return false;
    giveBack(run, limit);
    return true;
  });
}

std::optional<int64_t> SharePartition::nextDeadline() const {
  std::optional<int64_t> next;
  for (const auto& [first, run] : runs_) {
    if (run.state == State::kAcquired && (!next || run.deadline < *next)) next = run.deadline;
  }
  return next;
}

// ---------------------------------------------------------------- the journal

std::string SharePartition::encode() const {
  // Runs that are told apart only by whose they are, or until when, are one here.
  struct Piece {
    int64_t length;
    State state;
    int16_t deliveries;
  };
  std::vector<Piece> pieces;
  for (const auto& [first, run] : runs_) {
    bool acquired = run.state == State::kAcquired;
    Piece piece{run.end - first, acquired ? State::kAvailable : run.state,
                static_cast<int16_t>(run.deliveries - (acquired ? 1 : 0))};
    bool joins = !pieces.empty() && pieces.back().state == piece.state &&
                 pieces.back().deliveries == piece.deliveries;
    if (joins) {
      pieces.back().length += piece.length;
    } else {
      pieces.push_back(piece);
    }
  }
  // What was never delivered needs no mention.
  if (!pieces.empty() && pieces.back().state == State::kAvailable &&
      pieces.back().deliveries == 0) {
    pieces.pop_back();
  }
  ByteWriter out;
  out.u8(kVersion);
  out.i64(start_);
  out.varuint(pieces.size());
  for (const Piece& piece : pieces) {
    out.varuint(static_cast<uint64_t>(piece.length));
    out.u8(static_cast<uint8_t>(piece.state));
    out.varuint(static_cast<uint64_t>(piece.deliveries));
  }
  return out.take();
}

Result<SharePartition> SharePartition::decode(const std::string& key, BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  SharePartition partition(in.i64());
  if (partition.start_ < 0) in.fail();
  size_t pieces = in.count(in.varuint32(), 3);
  for (size_t i = 0; i < pieces && in.ok(); ++i) {
    uint64_t length = in.varuint();
    uint8_t state = in.u8();
    uint32_t deliveries = in.varuint32();
    if (length == 0 || length > static_cast<uint64_t>(INT64_MAX - partition.end_) ||
        state > static_cast<uint8_t>(State::kNothing) || deliveries > INT16_MAX) {
      in.fail();
      break;
    }
    Run run;
    run.state = static_cast<State>(state);
    run.deliveries = static_cast<int16_t>(deliveries);
    partition.append(partition.end_ + static_cast<int64_t>(length), std::move(run));
  }
  if (!in.complete()) {
    return fail(ErrorKind::kCorrupt,
                "the state entry of a share group's partition '" + key + "' can't be read");
  }
  partition.advance();
  return partition;
}

std::string sharePartitionKey(BytesView group, const SharePlace& place) {
  ByteWriter out;
  out.bytes16(group);
  out.bytes({reinterpret_cast<const char*>(place.topic.data()), place.topic.size()});
  out.u32(static_cast<uint32_t>(place.partition));
  return out.take();
}

Result<std::pair<std::string, SharePlace>> parseSharePartitionKey(BytesView key) {
  ByteReader in(key);
  std::string group(in.bytes16());
  SharePlace place;
  BytesView id = in.bytes(place.topic.size());
  std::copy(id.begin(), id.end(), place.topic.begin());
  place.partition = in.i32();
  if (!in.complete() || place.partition < 0) {
    return fail(ErrorKind::kCorrupt, "a state entry of share group '" + group + "' can't be read");
  }
  return std::pair(std::move(group), place);
}

}  // namespace polylog::router
