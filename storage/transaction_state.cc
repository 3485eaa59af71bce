#include "storage/transaction_state.h"

#include <algorithm>

namespace polylog::storage {

void TransactionTable::began(ProducerId producer, int16_t epoch, Offset first, Position at) {
  if (at < through_ || find(producer) != nullptr) return;
  open_.push_back({producer, epoch, first, at, std::nullopt, {}, {}});
}

void TransactionTable::ended(ProducerId producer, EndMarker end, Offset marker, Position at) {
  if (at < through_) return;
  for (Open& one : open_) {
    if (one.producer != producer || one.end) continue;
    one.end = end;
    one.marker = marker;
    one.markerAt = at;
  }
}

void TransactionTable::abort(const Open& one) {
  auto behind = std::upper_bound(
      aborted_.begin(), aborted_.end(), one.marker,
      [](Offset marker, const AbortedTransaction& other) { return marker < other.last; });
  aborted_.insert(behind, {one.producer.value(), one.first, one.marker});
}

void TransactionTable::settle(Offset highWatermark, bool remember) {
  std::erase_if(open_, [&](const Open& one) {
    if (!one.end || one.marker >= highWatermark) return false;
    if (*one.end == EndMarker::kAbort) {
      abort(one);
    } else if (remember) {
      committed_.emplace_back(one.first, one.markerAt);
    }
    return true;
  });
}

std::optional<Offset> TransactionTable::firstCommitted(Position routed) {
  std::erase_if(committed_, [routed](const auto& one) { return one.second < routed; });
  auto first = std::min_element(committed_.begin(), committed_.end());
  return first == committed_.end() ? std::nullopt : std::optional(first->first);
}

void TransactionTable::rewind(Offset end) {
  std::erase_if(open_, [end](const Open& one) { return one.first >= end; });
  for (Open& one : open_) {
    if (one.end && one.marker >= end) one.end = std::nullopt;
  }
}

void TransactionTable::forget(Offset logStart) {
  auto kept = std::find_if(aborted_.begin(), aborted_.end(),
                           [logStart](const auto& one) { return one.last >= logStart; });
  aborted_.erase(aborted_.begin(), kept);
}

std::optional<Offset> TransactionTable::firstOpen() const {
  return open_.empty() ? std::nullopt : std::optional(open_.front().first);
}

const TransactionTable::Open* TransactionTable::find(ProducerId producer) const {
  auto found = std::find_if(open_.begin(), open_.end(), [producer](const Open& one) {
    return one.producer == producer && !one.end;
  });
  return found == open_.end() ? nullptr : &*found;
}

std::vector<AbortedTransaction> TransactionTable::aborted(Offset from, Offset to) const {
  auto first = std::lower_bound(
      aborted_.begin(), aborted_.end(), from,
      [](const AbortedTransaction& one, Offset offset) { return one.last < offset; });
  std::vector<AbortedTransaction> found;
  std::copy_if(first, aborted_.end(), std::back_inserter(found),
               [to](const AbortedTransaction& one) { return one.first < to; });
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return found;
}

void TransactionTable::encode(ByteWriter& out, Position durable) const {
  std::vector<const Open*> open;
  std::vector<AbortedTransaction> aborted = aborted_;
  for (const Open& one : open_) {
    if (one.at >= durable) continue;
    if (!one.end || one.markerAt >= durable) {
      open.push_back(&one);
    } else if (*one.end == EndMarker::kAbort) {
      aborted.push_back({one.producer.value(), one.first, one.marker});
    }
  }
  out.varuint(durable.value());
  out.varuint(open.size());
  for (const Open* one : open) {
    out.i64(one->producer.value());
    out.i16(one->epoch);
    out.varuint(static_cast<uint64_t>(one->first.value()));
    out.varuint(one->at.value());
  }
  out.varuint(aborted.size());
  for (const AbortedTransaction& one : aborted) {
    out.i64(one.producer);
    out.varuint(static_cast<uint64_t>(one.first.value()));
    out.varuint(static_cast<uint64_t>(one.last - one.first));
  }
}

bool TransactionTable::decode(ByteReader& in) {
  through_ = Position(in.varuint());
  size_t open = in.count(in.varuint(), 12);
  for (size_t i = 0; i < open; ++i) {
    Open& one = open_.emplace_back();
    one.producer = ProducerId(in.i64());
    one.epoch = in.i16();
    one.first = Offset(static_cast<int64_t>(in.varuint()));
    one.at = Position(in.varuint());
  }
  size_t aborted = in.count(in.varuint(), 10);
  for (size_t i = 0; i < aborted; ++i) {
    AbortedTransaction& one = aborted_.emplace_back();
    one.producer = in.i64();
    one.first = Offset(static_cast<int64_t>(in.varuint()));
    one.last = one.first + static_cast<int64_t>(in.varuint());
  }
  std::sort(aborted_.begin(), aborted_.end(),
            [](const auto& a, const auto& b) { return a.last < b.last; });
  return in.ok();
}

}  // namespace polylog::storage
