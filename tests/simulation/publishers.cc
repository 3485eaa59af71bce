#include "tests/simulation/publishers.h"

#include <algorithm>

#include "core/base/crc32c.h"
#include "core/model/record_batch.h"

namespace polylog::simulation {
namespace {

constexpr size_t kKeys = 6;

std::string batchOf(const Machine& machine, const Records& records,
                    const std::vector<size_t>& numbers, Compression compression) {
  RecordBatchBuilder builder;
  for (size_t number : numbers) {
    std::string value = records.textOf(number);
    Record record;
    record.key = BytesView(records.at(number).key);
    record.value = BytesView(value);
    record.timestampMs = 1'700'000'000'000 + machine.nowMicros() / 1000;
    builder.add(record);
  }
  return builder.finish(compression);
}

void put(std::string& batch, size_t at, uint64_t value, size_t octets) {
  for (size_t i = 0; i < octets; ++i) {
    batch[at + i] = static_cast<char>(value >> (8 * (octets - 1 - i)));
  }
}

/// Kafka documentation, "Record Batch": producer id at 43, epoch at 51, base sequence at 53.
void putProducer(std::string& batch, const ProducerIdentity& identity, int32_t sequence) {
  put(batch, 43, static_cast<uint64_t>(identity.id), 8);
  put(batch, 51, static_cast<uint16_t>(identity.epoch), 2);
  put(batch, 53, static_cast<uint32_t>(sequence), 4);
  BytesView checked(batch.data() + kRecordBatchUncheckedSize,
                    batch.size() - kRecordBatchUncheckedSize);
  put(batch, kRecordBatchUncheckedSize - 4, crc32c(checked), 4);
}

std::string describe(const std::vector<size_t>& numbers) {
  std::string text;
  for (size_t number : numbers) text += " r" + std::to_string(number);
  return text;
}

/// An MQTT publish of a record: the address is its topic and key.
Publish publishOf(const Sent& sent, const std::string& value, DeliveryGuarantee guarantee) {
  Publish publish;
  publish.topic = sent.model().name;
  publish.address = {publish.topic, BytesView(sent.key)};
  publish.record.key = BytesView(sent.key);
  publish.record.value = BytesView(value);
  publish.record.guarantee = guarantee;
  publish.partitionHash = static_cast<uint32_t>(sent.partition);
  return publish;
}

Sent draw(Machine& machine, size_t publisher, size_t topic) {
  Sent sent;
  sent.topic = topic;
  sent.publisher = publisher;
  size_t key = machine.pick(kKeys);
  sent.key = "k" + std::to_string(key);
  sent.partition =
      static_cast<int32_t>(key % static_cast<size_t>(kTopics[topic].partitions));
  return sent;
}

}  // namespace

// ---------------------------------------------------------------- plain producers

void PlainProducer::act() {
  Sent first = draw(machine_, id_, machine_.pick(kTopicCount));
  first.waited = machine_.chance(90);
  std::vector<size_t> numbers;
  for (size_t count = 1 + machine_.pick(4); numbers.size() < count;) {
    numbers.push_back(records_.add(first));
  }
  machine_.say("producer " + std::to_string(id_) + " to " + first.model().name + "-" +
               std::to_string(first.partition) + ":" + describe(numbers));
  auto compression = static_cast<Compression>(machine_.pick(5));
  ProduceBatch batch{first.model().name, first.partition,
                     SharedBytes::own(batchOf(machine_, records_, numbers, compression)),
                     first.waited};
  machine_.on(machine_.pick(Machine::kWorkers), [&] {
    machine_.router().produce(
        Machine::client("producer", Protocol::kKafka), std::move(batch),
        [this, numbers, waited = first.waited](Result<Produced> result) {
          if (!waited) return;
          for (size_t i = 0; i < numbers.size(); ++i) {
            if (result) {
              records_.stored(numbers[i], result->baseOffset.value() + static_cast<int64_t>(i));
            } else {
              records_.refused(numbers[i], result.error());
            }
          }
        });
  });
}

// ---------------------------------------------------------------- idempotent producers

void IdempotentProducer::onEnd(bool) {
  asking_ = false;
  for (auto& batch : undone_) batch->waiting = false;
}

void IdempotentProducer::send(const std::shared_ptr<Batch>& batch) {
  batch->waiting = true;
  const Sent& first = records_.at(batch->records.front());
  machine_.say("idempotent " + std::to_string(id_) + " sequence " +
               std::to_string(batch->sequence) + ":" + describe(batch->records));
  ProduceBatch asked{first.model().name, first.partition, SharedBytes::own(batch->octets), true};
  machine_.on(0, [&] {
    machine_.router().produce(
        Machine::client("idempotent", Protocol::kKafka), std::move(asked),
        [this, batch](Result<Produced> result) {
          batch->waiting = false;
          if (!result) {
            machine_.say("sequence " + std::to_string(batch->sequence) +
                         " failed: " + result.error().text);
            return;
          }
          batch->stored = true;
          for (size_t i = 0; i < batch->records.size(); ++i) {
            records_.stored(batch->records[i],
                            result->baseOffset.value() + static_cast<int64_t>(i));
          }
        });
  });
}

/// Sends again what failed, once nothing is on its way.
void IdempotentProducer::goOn() {
  std::erase_if(undone_, [](const auto& batch) { return batch->stored; });
  for (const auto& batch : undone_) {
    if (batch->waiting) return;
  }
  for (const auto& batch : std::vector(undone_)) send(batch);
}

void IdempotentProducer::act() {
  if (identity_.id < 0) {
    if (asking_) return;
    asking_ = true;
    machine_.on(0, [&] {
      machine_.router().initProducer(Machine::client("idempotent", Protocol::kKafka), std::nullopt,
                                     [this](Result<ProducerIdentity> result) {
                                       asking_ = false;
                                       if (result) identity_ = *result;
                                     });
    });
    return;
  }
  bool failed = false;
  size_t waiting = 0;
  for (const auto& batch : undone_) {
    failed |= !batch->waiting && !batch->stored;
    waiting += batch->waiting ? 1 : 0;
  }
  if (failed || waiting >= 3) return goOn();
  Sent first;
  first.publisher = id_;
  first.key = "k" + std::to_string(id_);
  first.partition = static_cast<int32_t>(id_ % 2);
  auto batch = std::make_shared<Batch>();
  batch->sequence = sequence_;
  for (size_t count = 1 + machine_.pick(3); batch->records.size() < count;) {
    batch->records.push_back(records_.add(first));
  }
  sequence_ += static_cast<int32_t>(batch->records.size());
  batch->octets = batchOf(machine_, records_, batch->records, Compression::kNone);
  putProducer(batch->octets, identity_, batch->sequence);
  undone_.push_back(batch);
  send(batch);
}

bool IdempotentProducer::finish() {
  goOn();
  return !undone_.empty();
}

void IdempotentProducer::verify() {
  if (!undone_.empty()) {
    machine_.fail("idempotent " + std::to_string(id_) + " doesn't get sequence " +
                  std::to_string(undone_.front()->sequence) + " through");
  }
}

// ---------------------------------------------------------------- devices

void Device::act() {
  Sent sent = draw(machine_, id_, machine_.chance(50) ? 0 : machine_.pick(3));
  sent.waited = machine_.chance(70);
  size_t number = records_.add(sent);
  machine_.say("device " + std::to_string(id_) + " to " + sent.model().name + "/" + sent.key +
               (sent.waited ? ": r" : " at most once: r") + std::to_string(number));
  std::string value = records_.textOf(number);
  Publish publish = publishOf(sent, value,
                              sent.waited ? DeliveryGuarantee::kAtLeastOnce
                                          : DeliveryGuarantee::kAtMostOnce);
  Done<std::vector<PublishResult>> done;
  if (sent.waited) {
    done = [this, number](std::vector<PublishResult> results) {
      if (results.at(0).error) {
        records_.refused(number, *results[0].error);
      } else {
        records_.stored(number);
      }
    };
  }
  machine_.on(id_ % Machine::kWorkers, [&] {
    machine_.router().publish(Machine::client("device", Protocol::kMqtt), nullptr,
                              std::span(&publish, 1), std::move(done));
  });
}

// ---------------------------------------------------------------- exactly once

void ExactDevice::open() {
  worker_ = machine_.pick(Machine::kWorkers);
  opening_ = true;
  SubscriberOptions options{"exact" + std::to_string(id_), false, kNeverExpires};
  machine_.on(worker_, [&] {
    machine_.router().openSession(
        Machine::client(options.clientId, Protocol::kMqtt), options, this,
        [this](Result<std::shared_ptr<SubscriberSession>> opened) {
          opening_ = false;
          if (!opened) return;
          if (leaving_) return (*opened)->detach();
          session_ = *opened;
          auto held = session_->heldPublishIds();
          if (stage_ == Stage::kToPublish && !held.empty()) {
            records_.stored(record_);
            stage_ = Stage::kToRelease;
          } else if (stage_ == Stage::kIdle && !held.empty()) {
            machine_.fail("a released id is held");
          } else if (stage_ == Stage::kToRelease && held.empty() && !releaseAsked_) {
            machine_.fail("a held id was forgotten");
          }
        });
  });
}

void ExactDevice::leave(bool clean) {
  leaving_ = true;
  if (clean && session_) machine_.on(worker_, [&] { session_->detach(); });
  session_ = nullptr;
}

void ExactDevice::onEnd(bool) {
  opening_ = false;
  if (stage_ == Stage::kPublishing) stage_ = Stage::kToPublish;
  if (stage_ == Stage::kReleasing) stage_ = Stage::kToRelease;
}

void ExactDevice::publish() {
  stage_ = Stage::kPublishing;
  releaseAsked_ = false;
  machine_.say("exactly once: r" + std::to_string(record_));
  std::string value = records_.textOf(record_);
  Publish publish = publishOf(records_.at(record_), value, DeliveryGuarantee::kExactlyOnce);
  publish.exactlyOnceId = packetId_;
  machine_.on(worker_, [&] {
    machine_.router().publish(Machine::client("exact", Protocol::kMqtt), session_.get(),
                              std::span(&publish, 1), [this](std::vector<PublishResult> results) {
                                if (results.at(0).error) {
                                  stage_ = Stage::kToPublish;
                                  return;
                                }
                                records_.stored(record_);
                                stage_ = Stage::kToRelease;
                              });
  });
}

void ExactDevice::release() {
  stage_ = Stage::kReleasing;
  releaseAsked_ = true;
  machine_.on(worker_, [&] {
    session_->releasePublish(packetId_, [this](Result<> result) {
      stage_ = result ? Stage::kIdle : Stage::kToRelease;
      if (result) packetId_ = static_cast<uint16_t>(packetId_ % 9 + 1);
    });
  });
}

void ExactDevice::act() {
  if (!session_) {
    if (!opening_) open();
    return;
  }
  if (stage_ == Stage::kIdle) {
    record_ = records_.add(draw(machine_, id_, 0));
    stage_ = Stage::kToPublish;
  }
  if (stage_ == Stage::kToPublish) return publish();
  if (stage_ == Stage::kToRelease) return release();
}

bool ExactDevice::finish() {
  if (stage_ == Stage::kIdle) return false;
  if (!session_) {
    if (!opening_) open();
  } else if (stage_ == Stage::kToPublish) {
    publish();
  } else if (stage_ == Stage::kToRelease) {
    release();
  }
  return true;
}

void ExactDevice::verify() {
  if (stage_ != Stage::kIdle) machine_.fail("an exactly-once publish doesn't get through");
}

}  // namespace polylog::simulation
