#include "tests/simulation/records.h"

#include <charconv>

#include "core/model/record_batch.h"

namespace polylog::simulation {

using Fate = Sent::Fate;

size_t Records::add(Sent sent) {
  sent.asked = machine_.tick();
  sent_.push_back(std::move(sent));
  return sent_.size() - 1;
}

/// Of many lengths, so that entries, groups and segments end in many places.
std::string Records::textOf(size_t number) const {
  return "r" + std::to_string(number) + ":" + std::string(number * 7919 % 400, '.');
}

std::optional<size_t> Records::numberOf(BytesView text) const {
  size_t number = 0;
  if (text.starts_with('r')) {
    std::from_chars(text.data() + 1, text.data() + text.size(), number);
    if (number < sent_.size() && textOf(number) == text) return number;
  }
  machine_.fail("nobody published '" + std::string(text.substr(0, 40)) + "'");
  return std::nullopt;
}

void Records::stored(size_t number, int64_t offset) {
  Sent& one = at(number);
  one.fate = Fate::kStored;
  one.told = machine_.tick();
  one.offset = offset;
  machine_.say("r" + std::to_string(number) + " is stored");
}

void Records::refused(size_t number, const Error& error) {
  machine_.say("r" + std::to_string(number) + " is refused: " + error.text);
  Sent& one = at(number);
  one.fate = Fate::kRefused;
  one.told = machine_.tick();
}

bool Records::mayVanish(size_t number) const {
  const Sent& one = at(number);
  bool durable = one.fate == Fate::kStored && one.told <= survivedTick_;
  return !one.model().waitsForDisk && !durable;
}

void Records::ended(bool clean) {
  survivedTick_ = machine_.durableTick();
  if (clean) return;
  for (Sent& one : sent_) {
    // Told too early for the disk: as good as untold.
    if (one.fate == Fate::kStored && !one.model().waitsForDisk && one.told > survivedTick_) {
      one.fate = Fate::kAsked;
      one.offset = -1;
    }
  }
  for (auto& [log, content] : seen_) {
    if (kTopics[log.first].waitsForDisk) continue;
    std::erase_if(content, [&](const auto& one) { return mayVanish(one.second); });
  }
}

void Records::seen(size_t topic, int32_t partition, int64_t offset, size_t number) {
  auto [at, fresh] = seen_[{topic, partition}].try_emplace(offset, number);
  if (!fresh && at->second != number) {
    fail(topic, partition, "offset " + std::to_string(offset) + " was r" +
                               std::to_string(at->second) + " and is r" + std::to_string(number));
  }
}

void Records::fail(size_t topic, int32_t partition, const std::string& text) const {
  machine_.fail(std::string(kTopics[topic].name) + ", partition " + std::to_string(partition) +
                ": " + text);
}

std::optional<Records::Log> Records::read(size_t topic, int32_t partition,
                                          PartitionBounds& bounds) {
  PrincipalRef reader = Machine::client("reader", Protocol::kKafka);
  std::string name = kTopics[topic].name;
  auto got = machine_.on(0, [&] { return machine_.router().bounds(reader, name, partition); });
  if (!got) {
    fail(topic, partition, got.error().text);
    return std::nullopt;
  }
  bounds = *got;
  Log log;
  for (Offset next = bounds.logStart; next < bounds.highWatermark;) {
    auto fetched = machine_.on(
        0, [&] { return machine_.router().fetch(reader, name, partition, next, 4000); });
    if (!fetched) {
      fail(topic, partition, "offset " + std::to_string(next.value()) + " isn't read: " +
                                 fetched.error().text);
      return std::nullopt;
    }
    if (fetched->batches.empty()) break;
    for (const FetchedBatch& batch : fetched->batches) {
      auto decoded = decodeRecordBatch(batch.batch, 1 << 24);
      if (!decoded) {
        fail(topic, partition, decoded.error().text);
        return std::nullopt;
      }
      for (size_t i = 0; i < decoded->records.size(); ++i) {
        auto delta = static_cast<uint32_t>(decoded->offsetDeltas[i]);
        if (delta < batch.firstRecord || delta >= batch.firstRecord + batch.count) continue;
        Offset offset = batch.baseOffset + static_cast<int64_t>(delta - batch.firstRecord);
        auto number = numberOf(decoded->records[i].value.value_or(""));
        if (!number) return std::nullopt;
        if (offset >= bounds.logStart) log[offset.value()] = *number;
      }
      next = batch.baseOffset + batch.count;
    }
  }
  return log;
}

/// Whether a later record of its key is there.
bool Records::superseded(const Log& log, size_t number, int64_t offset) const {
  for (auto later = log.upper_bound(offset); later != log.end(); ++later) {
    if (at(later->second).key == at(number).key) return true;
  }
  return false;
}

void Records::verify(size_t topic, int32_t partition) {
  PartitionBounds bounds;
  auto log = read(topic, partition, bounds);
  if (!log) return;
  const TopicModel& model = kTopics[topic];
  int64_t start = bounds.logStart.value();
  int64_t& lastStart = logStarts_[{topic, partition}];
  if (start < lastStart || (start > 0 && !model.expires)) {
    fail(topic, partition, "the log start went from " + std::to_string(lastStart) + " to " +
                               std::to_string(start));
  }
  lastStart = start;
  std::map<size_t, size_t> latest;  // of each publisher
  for (const auto& [offset, number] : *log) {
    std::string name = "r" + std::to_string(number);
    const Sent& one = at(number);
    if (one.topic != topic || one.partition != partition) {
      return fail(topic, partition, name + " is of another");
    }
    seen(topic, partition, offset, number);
    auto [place, fresh] = places_.try_emplace(number, offset);
    if (!fresh && place->second != offset) {
      if (log->contains(place->second) && log->at(place->second) == number) {
        return fail(topic, partition, name + " is there twice, at " +
                                          std::to_string(place->second) + " and " +
                                          std::to_string(offset));
      }
      place->second = offset;
    }
    if (one.offset >= 0 && one.offset != offset) {
      return fail(topic, partition, name + " was told to be at " + std::to_string(one.offset) +
                                        " and is at " + std::to_string(offset));
    }
    auto [before, first] = latest.try_emplace(one.publisher, number);
    if (!first && before->second > number) {
      return fail(topic, partition, name + " comes after r" + std::to_string(before->second) +
                                        " of the same publisher");
    }
    before->second = number;
  }
  for (const auto& [offset, number] : seen_[{topic, partition}]) {
    if (offset < start || log->contains(offset)) continue;
    if (model.compacts && superseded(*log, number, offset)) continue;
    return fail(topic, partition, "r" + std::to_string(number) + " was read at " +
                                      std::to_string(offset) + " and is gone");
  }
  for (size_t number = 0; number < size(); ++number) {
    const Sent& one = at(number);
    if (one.topic != topic || one.partition != partition) continue;
    auto place = places_.find(number);
    bool there = place != places_.end() && (place->second < start || log->contains(place->second));
    if (place != places_.end() && !there && !model.compacts) places_.erase(place);
    if (there || one.fate != Fate::kStored) continue;
    if (model.expires && (one.offset < 0 || one.offset < start)) continue;
    if (model.compacts && superseded(*log, number, one.offset)) continue;
    return fail(topic, partition, "r" + std::to_string(number) + " was acknowledged and is lost");
  }
}

void Records::verify() {
  for (size_t topic = 0; topic < kTopicCount; ++topic) {
    for (int32_t partition = 0; partition < kTopics[topic].partitions; ++partition) {
      verify(topic, partition);
    }
  }
}

}  // namespace polylog::simulation
