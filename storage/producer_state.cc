#include "storage/producer_state.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace polylog::storage {

int32_t advanceSequence(int32_t first, int32_t delta) {
  constexpr int32_t kLargest = std::numeric_limits<int32_t>::max();
  if (first > kLargest - delta) return delta - (kLargest - first) - 1;
  return first + delta;
}

ProducerBatch producerBatch(const RecordBatchHeader& header) {
  ProducerBatch batch;
  batch.epoch = header.producerEpoch;
  batch.firstSequence = header.baseSequence;
  batch.lastSequence = advanceSequence(header.baseSequence, header.lastOffsetDelta);
  return batch;
}

namespace {

std::unexpected<Error> outOfOrder(int32_t sequence, int32_t expected) {
  return fail(ErrorKind::kOutOfOrderSequence,
              fmt::format("sequence {} where {} comes next", sequence, expected));
}

}  // namespace

Result<> ProducerTable::checkAfter(const ProducerBatch& last, const ProducerBatch& batch) {
  if (batch.epoch < last.epoch) {
    return fail(ErrorKind::kProducerFenced,
                fmt::format("producer epoch {} is older than {}", batch.epoch, last.epoch));
  }
  int32_t expected = batch.epoch > last.epoch ? 0 : advanceSequence(last.lastSequence, 1);
  if (batch.firstSequence != expected) return outOfOrder(batch.firstSequence, expected);
  return {};
}

Result<const ProducerBatch*> ProducerTable::check(ProducerId id,
                                                  const ProducerBatch& batch) const {
  auto found = producers_.find(id);
  if (found == producers_.end()) return nullptr;
  const std::vector<ProducerBatch>& batches = found->second.batches;
  if (batches.empty()) {
    const ProducerBatch& next = found->second.takenBack;
    if (batch.epoch != next.epoch || batch.firstSequence == next.firstSequence) return nullptr;
    return outOfOrder(batch.firstSequence, next.firstSequence);
  }
  size_t back = 0;
  for (auto it = batches.rbegin(); it != batches.rend() && back < kRemembered; ++it, ++back) {
    if (it->epoch == batch.epoch && it->firstSequence == batch.firstSequence &&
        it->lastSequence == batch.lastSequence && batch.epoch == batches.back().epoch) {
      return &*it;
    }
  }
  if (auto next = checkAfter(batches.back(), batch); !next) return std::unexpected(next.error());
  return nullptr;
}

void ProducerTable::add(ProducerId id, const ProducerBatch& batch, int64_t nowMs,
                        Position durable) {
  if (producers_.size() >= kMaxProducers && !producers_.contains(id)) {
    auto oldest = std::min_element(
        producers_.begin(), producers_.end(),
        [](const auto& a, const auto& b) { return a.second.lastMs < b.second.lastMs; });
    if (oldest->second.forgettable(durable)) producers_.erase(oldest);
  }
  Producer& producer = producers_[id];
  std::vector<ProducerBatch>& batches = producer.batches;
  // Replay meets what a checkpoint already held.
  if (!batches.empty() && batch.base <= batches.back().base) return;
  producer.lastMs = std::max(producer.lastMs, nowMs);
  batches.push_back(batch);
  // The oldest may go once kRemembered durable ones come after it: then no failed write can bring
  // it back among the last.
  while (batches.size() > kRemembered && batches[kRemembered].position < durable) {
    batches.erase(batches.begin());
  }
}

void ProducerTable::rewind(ProducerId id, Position position) {
  auto found = producers_.find(id);
  if (found == producers_.end()) return;
  std::vector<ProducerBatch>& batches = found->second.batches;
  while (!batches.empty() && batches.back().position >= position) {
    found->second.takenBack = batches.back();
    batches.pop_back();
  }
}

bool ProducerTable::expire(int64_t cutMs, Position durable) {
  return std::erase_if(producers_, [&](const auto& producer) {
           return producer.second.lastMs < cutMs && producer.second.forgettable(durable);
         }) != 0;
}

std::vector<ProducerInfo> ProducerTable::list() const {
  std::vector<ProducerInfo> all;
  all.reserve(producers_.size());
  for (const auto& [id, producer] : producers_) {
    if (producer.batches.empty()) continue;  // a failed write took them all back
    const ProducerBatch& last = producer.batches.back();
    all.push_back({id, last.epoch, last.lastSequence, producer.lastMs});
  }
  std::ranges::sort(all, {}, &ProducerInfo::id);
  return all;
}

void ProducerTable::encode(ByteWriter& out, Position durable) const {
  out.varuint(producers_.size());
  for (const auto& [id, producer] : producers_) {
    const auto& batches = producer.batches;
    auto pending = std::find_if(batches.begin(), batches.end(), [&](const ProducerBatch& batch) {
      return batch.position >= durable;
    });
    size_t count = static_cast<size_t>(pending - batches.begin());
    size_t skipped = count > kRemembered ? count - kRemembered : 0;
    out.i64(id.value());
    out.i64(producer.lastMs);
    out.varuint(count - skipped);
    for (size_t i = skipped; i < count; ++i) {
      const ProducerBatch& batch = batches[i];
      out.i16(batch.epoch);
      out.i32(batch.firstSequence);
      out.i32(batch.lastSequence);
      out.varuint(static_cast<uint64_t>(batch.base.value()));
      out.varuint(batch.position.value());
      out.varuint(batch.length);
    }
  }
}

bool ProducerTable::decode(ByteReader& in) {
  size_t producers = in.count(in.varuint(), 17);
  for (size_t i = 0; i < producers; ++i) {
    ProducerId id(in.i64());
    Producer producer;
    producer.lastMs = in.i64();
    producer.batches.resize(in.count(in.varuint(), 13));
    for (ProducerBatch& batch : producer.batches) {
      batch.epoch = in.i16();
      batch.firstSequence = in.i32();
      batch.lastSequence = in.i32();
      batch.base = Offset(static_cast<int64_t>(in.varuint()));
      batch.position = Position(in.varuint());
      batch.length = in.varuint32();
    }
    if (!in.ok()) return false;
    if (!producer.batches.empty()) producers_.emplace(id, std::move(producer));
  }
  return in.ok();
}

}  // namespace polylog::storage
