#include "tests/simulation/transactions.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>

#include "core/base/crc32c.h"
#include "core/model/record_batch.h"

namespace polylog::simulation {
namespace {

/// First-level wildcards don't match it, so that nobody else is told of it.
constexpr const char* kTopic = "_pairs";
constexpr const char* kId = "transactor";
constexpr int32_t kTimeoutMs = 20'000;
constexpr size_t kMostRecords = 6;

std::string batchOf(const std::string& value, ProducerIdentity producer, int32_t sequence) {
  RecordBatchBuilder builder;
  Record record;
  record.key = BytesView("k");
  record.value = BytesView(value);
  record.timestampMs = 1000;
  builder.add(record);
  std::string batch = builder.finish();
  auto put = [&batch](size_t at, uint64_t v, int width) {
    for (int i = 0; i < width; ++i) {
      batch[at + static_cast<size_t>(i)] = static_cast<char>(v >> (8 * (width - 1 - i)));
    }
  };
  put(21, 16, 2);  // transactional
  put(43, static_cast<uint64_t>(producer.id), 8);
  put(51, static_cast<uint16_t>(producer.epoch), 2);
  put(53, static_cast<uint32_t>(sequence), 4);
  put(17, crc32c(BytesView(batch).substr(21)), 4);
  return batch;
}

/// Of the transaction: producers of either version may take an id up.
int versionOf(size_t number) {
  return number % 2 == 0 ? 2 : 1;
}

}  // namespace

// ---------------------------------------------------------------- life

void Transactor::onStart() {
  if (!made_) makeTopic();
  made_ = true;
}

void Transactor::onEnd(bool) {
  asking_ = false;
  inside_ = false;
  identity_ = std::nullopt;
  ++asked_;
}

void Transactor::leave(bool) {
  if (session_) machine_.on(0, [&] { session_->detach(); });
  session_ = nullptr;
}

void Transactor::open() {
  machine_.on(0, [&] {
    machine_.router().openSession(Machine::client("pairs-watcher", Protocol::kMqtt),
                                  SubscriberOptions{"pairs-watcher", false, 1'000'000}, this,
                                  [this](Result<std::shared_ptr<SubscriberSession>> opened) {
                                    if (opened) session_ = *opened;
                                  });
  });
  machine_.settle();
  if (!session_) machine_.fail("the transactions' subscriber gets no session");
}

/// Before anything fails.
void Transactor::makeTopic() {
  TopicSpec spec;
  spec.name = kTopic;
  spec.partitions = 2;
  spec.config = TopicConfig{};
  spec.config->own = TopicFields::all();
  machine_.on(
      0, [&] { machine_.router().createTopic(who_, std::move(spec), [](Result<TopicRef>) {}); });
  machine_.settle();
  open();
  if (!session_) return;
  Subscription subscription;
  subscription.text = std::string(kTopic) + "/#";
  subscription.filter.levels = {{FilterLevel::Kind::kLiteral, kTopic},
                                {FilterLevel::Kind::kRest, {}}};
  subscription.guarantee = DeliveryGuarantee::kAtLeastOnce;
  machine_.on(0, [&] {
    session_->subscribe({subscription}, [](std::vector<Result<DeliveryGuarantee>>) {});
  });
  machine_.settle();
  leave(true);
  machine_.settle();
}

// ---------------------------------------------------------------- what it does

/// Whatever it was: it begins anew, which aborts what is under way.
void Transactor::failed(const Error& error) {
  machine_.say(std::string("a transaction's request failed: ") + error.text);
  identity_ = std::nullopt;
  inside_ = false;
}

void Transactor::takeUp() {
  asking_ = true;
  inside_ = false;
  machine_.say("the transactional id is taken up");
  machine_.on(machine_.pick(Machine::kWorkers), [&] {
    machine_.router().initTransactions(
        who_, {kId, kTimeoutMs, std::nullopt},
        [this, asked = asked_](const Result<ProducerIdentity>& made) {
          if (asked != asked_) return;
          asking_ = false;
          if (!made) return failed(made.error());
          identity_ = *made;
          sequences_[0] = sequences_[1] = 0;
        });
  });
}

void Transactor::begin() {
  asking_ = true;
  transactions_.emplace_back();
  machine_.say("transaction " + std::to_string(transactions_.size() - 1) + " begins");
  machine_.on(machine_.pick(Machine::kWorkers), [&] {
    machine_.router().addToTransaction(who_, {kId, *identity_, versionOf(transactions_.size() - 1)},
                                       {{kTopic, 0}, {kTopic, 1}},
                                       [this, asked = asked_](const Result<>& added) {
                                         if (asked != asked_) return;
                                         asking_ = false;
                                         if (!added) return failed(added.error());
                                         inside_ = true;
                                       });
  });
}

void Transactor::produce() {
  asking_ = true;
  size_t partition = machine_.pick(2);
  std::vector<std::string>& values = transactions_.back().values[partition];
  values.push_back("T" + std::to_string(transactions_.size() - 1) + "." +
                   std::to_string(partition) + "." + std::to_string(values.size()));
  machine_.say("produces " + values.back());
  ProduceBatch batch{kTopic, static_cast<int32_t>(partition),
                     SharedBytes::own(batchOf(values.back(), *identity_, sequences_[partition])),
                     true};
  batch.transactionalId = kId;
  machine_.on(machine_.pick(Machine::kWorkers), [&] {
    machine_.router().produce(who_, std::move(batch),
                              [this, partition, asked = asked_](const Result<Produced>& done) {
                                if (asked != asked_) return;
                                asking_ = false;
                                if (!done) return failed(done.error());
                                ++sequences_[partition];
                              });
  });
}

void Transactor::end() {
  asking_ = true;
  bool commit = machine_.chance(60);
  size_t number = transactions_.size() - 1;
  if (commit) transactions_[number].fate = Fate::kUndecided;
  machine_.say("transaction " + std::to_string(number) + (commit ? " is to commit" : " aborts"));
  machine_.on(machine_.pick(Machine::kWorkers), [&] {
    machine_.router().endTransaction(
        who_, {kId, *identity_, versionOf(number)}, commit,
        [this, commit, number, asked = asked_](const Result<ProducerIdentity>& ended) {
          if (asked != asked_) return;
          asking_ = false;
          inside_ = false;
          Fate& fate = transactions_[number].fate;
          if (ended && commit) fate = Fate::kCommitted;
          if (ended) {
            // A new epoch counts anew.
            if (*ended != *identity_) sequences_[0] = sequences_[1] = 0;
            identity_ = *ended;
            return;
          }
          // These say that the request had no effect.
          ErrorKind kind = ended.error().kind;
          if (kind == ErrorKind::kProducerFenced || kind == ErrorKind::kConcurrentTransaction ||
              kind == ErrorKind::kInvalidTransaction) {
            fate = Fate::kNone;
          }
          failed(ended.error());
        });
  });
}

void Transactor::act() {
  if (asking_) return;
  if (!identity_ || machine_.chance(3)) return takeUp();
  if (!inside_) return begin();
  const Transaction& now = transactions_.back();
  size_t records = now.values[0].size() + now.values[1].size();
  if (records >= kMostRecords || machine_.chance(25)) return end();
  produce();
}

bool Transactor::finish() {
  if (asking_) return true;
  if (identity_ && !inside_) return false;
  takeUp();
  return true;
}

// ---------------------------------------------------------------- what it was promised

std::vector<std::string> Transactor::readCommitted(int32_t partition) {
  std::vector<std::string> values;
  Offset next(0);
  while (true) {
    auto fetched = machine_.on(
        0, [&] { return machine_.router().fetch(who_, kTopic, partition, next, 1 << 20); });
    if (!fetched) {
      machine_.fail("a transaction's partition can't be read: " + fetched.error().text);
      return values;
    }
    if (fetched->batches.empty()) {
      if (fetched->lastStable != fetched->highWatermark) {
        machine_.fail("a transaction is open, and nobody's");
      }
      return values;
    }
    for (const FetchedBatch& batch : fetched->batches) {
      next = batch.baseOffset + batch.count;
      auto header = parseRecordBatchHeader(batch.batch.view());
      if (batch.baseOffset >= fetched->lastStable ||
          hiddenFromCommitted(*header, batch.baseOffset, fetched->aborted)) {
        continue;
      }
      auto decoded = decodeRecordBatch(batch.batch, 1 << 20);
      for (const Record& record : decoded->records) values.emplace_back(*record.value);
    }
  }
}

/// `seen`: of one partition, in order.
void Transactor::verify(int32_t partition, const std::vector<std::string>& seen, const char* who) {
  std::vector<std::string> expected;
  for (const Transaction& transaction : transactions_) {
    const auto& values = transaction.values[static_cast<size_t>(partition)];
    if (transaction.fate == Fate::kCommitted) {
      expected.insert(expected.end(), values.begin(), values.end());
    }
  }
  if (seen == expected) return;
  auto [s, e] = std::ranges::mismatch(seen, expected);
  machine_.fail(std::string(who) + " of partition " + std::to_string(partition) + " sees " +
                std::to_string(seen.size()) + " records where " + std::to_string(expected.size()) +
                " were committed; first " + (s == seen.end() ? "nothing" : *s) + " instead of " +
                (e == expected.end() ? "nothing" : *e));
}

void Transactor::verify() {
  std::vector<std::string> read[2] = {readCommitted(0), readCommitted(1)};
  // An undecided transaction that one partition shows is to be there in the other too.
  std::vector<std::string> both = read[0];
  both.insert(both.end(), read[1].begin(), read[1].end());
  std::set<std::string> there(both.begin(), both.end());
  for (Transaction& transaction : transactions_) {
    if (transaction.fate != Fate::kUndecided) continue;
    bool any = std::ranges::any_of(transaction.values, [&](const auto& part) {
      return std::ranges::any_of(part, [&](const auto& value) { return there.contains(value); });
    });
    transaction.fate = any ? Fate::kCommitted : Fate::kNone;
  }
  verify(0, read[0], "a consumer");
  verify(1, read[1], "a consumer");
  open();
  if (!session_) return;
  std::vector<Delivery> deliveries;
  machine_.on(0, [&] { session_->take(1'000'000, INT64_MAX, deliveries); });
  std::vector<std::string> delivered[2];
  for (const Delivery& delivery : deliveries) {
    std::string value(delivery.record->record.value.value_or(""));
    auto partition = static_cast<size_t>(value[value.find('.') + 1] - '0');
    delivered[partition].push_back(std::move(value));
  }
  verify(0, delivered[0], "the subscriber");
  verify(1, delivered[1], "the subscriber");
}

}  // namespace polylog::simulation
