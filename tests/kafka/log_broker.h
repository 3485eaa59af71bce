// A Broker in memory with topics and logs, for the Kafka codec's tests and fuzzers: it answers by
// posting to the current dispatcher, or when the test says so. Own thread only.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/event/dispatcher.h"
#include "core/model/broker.h"
#include "core/model/record_batch.h"

namespace polylog::test {

class LogBroker final : public Broker {
 public:
  struct Log {
    std::vector<FetchedBatch> batches;
    int64_t end = 0;
    int64_t start = 0;
  };

  // ---- for the test

  /// While set, answers wait in `held`.
  bool hold = false;
  std::deque<Task> held;
  void answer(Task task) {
    if (hold) {
      held.push_back(std::move(task));
    } else {
      Dispatcher::current()->post(std::move(task));
    }
  }
  void answerFirst() {
    Task task = std::move(held.front());
    held.pop_front();
    task();
  }
  void answerLast() {
    Task task = std::move(held.back());
    held.pop_back();
    task();
  }

  TopicRef addTopic(const std::string& name, int partitions = 1, TopicConfig config = {}) {
    auto topic = std::make_shared<Topic>();
    topic->name = name;
    topic->id.fill(0);
    topic->id[0] = 1;
    topic->id[15] = static_cast<uint8_t>(byName.size() + 1);
    for (int i = 0; i < partitions; ++i) topic->partitions.emplace_back(nextPartition++);
    topic->config = std::move(config);
    logs[name].resize(static_cast<size_t>(partitions));
    return byName[name] = topic;
  }
  /// Appends, and wakes who waits.
  void append(const std::string& topic, int32_t partition, SharedBytes batch, uint32_t first,
              uint32_t count) {
    Log& log = logs.at(topic).at(static_cast<size_t>(partition));
    log.batches.push_back({std::move(batch), Offset(log.end), first, count});
    log.end += count;
    wakeAll();
  }
  void wakeAll() {
    auto all = std::exchange(wakes, {});
    for (auto& [id, wake] : all) wake();
  }

  std::map<std::string, TopicRef> byName;
  std::map<std::string, std::vector<Log>> logs;
  std::map<int, std::move_only_function<void()>> wakes;
  std::vector<ProduceBatch> produced;
  std::vector<PrincipalRef> principals;
  std::optional<Error> produceError;
  std::optional<Error> fetchError;
  size_t fetches = 0;
  bool autoCreate = true;
  bool wakeInside = false;
  int64_t limit = 1 << 20;
  uint64_t nextPartition = 1;
  std::vector<TopicSpec> created;
  std::optional<Error> createError;
  std::vector<std::string> deleted;

  std::vector<GroupJoin> joins;
  GroupJoined joined;
  std::vector<GroupSync> syncs;
  GroupSynced synced;
  std::vector<GroupHeartbeat> beats;
  Result<> beatResult;
  std::vector<GroupLeave> leaves;
  Result<std::vector<Result<>>> leaveResult;
  std::vector<GroupCommit> commits;
  std::optional<Result<std::vector<Result<>>>> commitResult;
  std::optional<Error> offsetsError;
  std::map<std::pair<std::string, int32_t>, GroupOffset> offsets;
  std::vector<GroupDescription> groups;
  std::vector<ConsumerHeartbeat> consumerBeats;
  Result<ConsumerHeartbeatAnswer> consumerAnswer;
  std::set<std::string> hiddenTopics;
  std::map<std::string, GroupConfig> groupConfigs;
  std::vector<std::optional<GroupReader>> readers;
  std::vector<std::optional<ProducerIdentity>> inits;

  // ---- Broker

  void publish(const PrincipalRef&, SubscriberSession*, std::span<const Publish>,
               Done<std::vector<PublishResult>>) override {}

  bool full() const override { return false; }
  std::unique_ptr<WaitHandle> awaitSpace(std::move_only_function<void()>) override {
    return nullptr;
  }

  void produce(const PrincipalRef& principal, ProduceBatch batch,
               Done<Result<Produced>> done) override {
    principals.push_back(principal);
    produced.push_back(batch);
    Result<Produced> result = fail(ErrorKind::kNotFound, "no such partition");
    auto found = logs.find(batch.topic);
    if (produceError) {
      result = std::unexpected(*produceError);
    } else if (found != logs.end() && batch.partition >= 0 &&
               static_cast<size_t>(batch.partition) < found->second.size()) {
      Log& log = found->second[static_cast<size_t>(batch.partition)];
      auto header = parseRecordBatchHeader(batch.batch.view());
      result = Produced{Offset(log.end), Offset(log.start), -1};
      append(batch.topic, batch.partition, batch.batch, 0,
             static_cast<uint32_t>(header->offsetCount()));
    }
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }

  Result<Fetched> fetch(const PrincipalRef&, const std::string& topic, int32_t partition,
                        Offset from, size_t maxBytes) override {
    ++fetches;
    if (fetchError) return std::unexpected(*fetchError);
    Log* log = find(topic, partition);
    if (log == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
    if (from.value() < log->start || from.value() > log->end) {
      return fail(ErrorKind::kOutOfRange, "out of range");
    }
    Fetched out;
    out.highWatermark = Offset(log->end);
    out.lastStable = lastStable.value_or(out.highWatermark);
    out.aborted = aborted;
    out.logStart = Offset(log->start);
    size_t bytes = 0;
    for (const FetchedBatch& batch : log->batches) {
      if (batch.baseOffset.value() + batch.count <= from.value()) continue;
      if (!out.batches.empty() && bytes + batch.batch.size() > maxBytes) break;
      bytes += batch.batch.size();
      out.batches.push_back(batch);
    }
    return out;
  }

  struct Handle final : WaitHandle {
    Handle(LogBroker& b, int i) : broker(b), id(i) {}
    ~Handle() override { broker.wakes.erase(id); }
    LogBroker& broker;
    int id;
  };
  std::unique_ptr<WaitHandle> awaitRecords(const PrincipalRef&, std::span<const FetchPoint>,
                                           std::move_only_function<void()> wake) override {
    int id = nextWake_++;
    if (wakeInside) {
      wakeInside = false;
      wake();
    } else {
      wakes[id] = std::move(wake);
    }
    return std::make_unique<Handle>(*this, id);
  }

  Result<PartitionBounds> bounds(const PrincipalRef&, const std::string& topic,
                                 int32_t partition) override {
    Log* log = find(topic, partition);
    if (log == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
    return PartitionBounds{Offset(log->start), Offset(log->end),
                           lastStable.value_or(Offset(log->end)), 0};
  }
  Result<std::optional<OffsetAtTime>> offsetAtTime(const PrincipalRef&, const std::string& topic,
                                                   int32_t partition,
                                                   int64_t timestampMs) override {
    Log* log = find(topic, partition);
    if (log == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
    for (const FetchedBatch& batch : log->batches) {
      auto header = parseRecordBatchHeader(batch.batch.view());
      if (header->maxTimestamp >= timestampMs)
        return OffsetAtTime{batch.baseOffset, header->maxTimestamp};
    }
    return std::nullopt;
  }
  Result<std::optional<OffsetAtTime>> offsetOfMaxTimestamp(const PrincipalRef&,
                                                           const std::string& topic,
                                                           int32_t partition) override {
    Log* log = find(topic, partition);
    if (log == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
    std::optional<OffsetAtTime> best;
    for (const FetchedBatch& batch : log->batches) {
      auto header = parseRecordBatchHeader(batch.batch.view());
      if (!best || header->maxTimestamp > best->timestampMs) {
        best = OffsetAtTime{batch.baseOffset, header->maxTimestamp};
      }
    }
    return best;
  }

  TopicRef findTopic(const PrincipalRef&, const std::string& name) override {
    auto found = byName.find(name);
    return found == byName.end() ? nullptr : found->second;
  }
  TopicRef findTopic(const PrincipalRef&, const TopicId& id) override {
    for (auto& [name, topic] : byName) {
      if (topic->id == id) return topic;
    }
    return nullptr;
  }
  std::vector<TopicRef> topics(const PrincipalRef&) override {
    std::vector<TopicRef> all;
    for (auto& [name, topic] : byName) all.push_back(topic);
    return all;
  }
  void deleteRecords(const PrincipalRef&, const std::string& topic, int32_t partition,
                     std::optional<Offset> before, Done<Result<Offset>> done) override {
    Result<Offset> result = fail(ErrorKind::kNotFound, "no such partition");
    if (Log* log = find(topic, partition)) {
      int64_t offset = before ? before->value() : log->end;
      if (offset > log->end) {
        result = fail(ErrorKind::kOutOfRange, "beyond the end");
      } else {
        log->start = std::max(log->start, offset);
        result = Offset(log->start);
      }
    }
    answer([done = std::move(done), result]() mutable { done(result); });
  }
  std::vector<ActiveProducer> producers;
  Result<std::vector<ActiveProducer>> activeProducers(const PrincipalRef&, const std::string& topic,
                                                      int32_t partition) override {
    if (find(topic, partition) == nullptr) return fail(ErrorKind::kNotFound, "no such partition");
    return producers;
  }
  TopicConfig defaults{.retentionMs = 604'800'000, .overrides = {}};
  TopicConfig topicDefaults(Protocol) const override { return defaults; }
  void change(const std::string& name, std::move_only_function<Result<>(Topic&)> edit,
              Done<Result<TopicRef>> done) {
    Result<TopicRef> result = fail(ErrorKind::kNotFound, "no such topic");
    if (auto found = byName.find(name); found != byName.end()) {
      auto topic = std::make_shared<Topic>(*found->second);
      Result<> edited = edit(*topic);
      result = edited ? Result<TopicRef>(topic) : std::unexpected(edited.error());
      if (edited) found->second = topic;
    }
    if (alterError) result = std::unexpected(*alterError);
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  std::optional<Error> alterError;
  void alterTopic(const PrincipalRef&, const std::string& name, ConfigChange edit,
                  Done<Result<TopicRef>> done) override {
    change(
        name, [edit = std::move(edit)](Topic& topic) mutable { return edit(topic.config); },
        std::move(done));
  }
  void growTopic(const PrincipalRef&, const std::string& name, int32_t partitions,
                 Done<Result<TopicRef>> done) override {
    change(
        name,
        [this, &name, partitions](Topic& topic) -> Result<> {
          if (static_cast<size_t>(partitions) <= topic.partitions.size()) {
            return fail(ErrorKind::kInvalid, "not more");
          }
          while (topic.partitions.size() < static_cast<size_t>(partitions)) {
            topic.partitions.emplace_back(nextPartition++);
          }
          logs[name].resize(topic.partitions.size());
          return {};
        },
        std::move(done));
  }
  void createTopic(const PrincipalRef&, TopicSpec spec, Done<Result<TopicRef>> done) override {
    created.push_back(spec);
    Result<TopicRef> result = fail(ErrorKind::kAlreadyExists, "exists");
    if (createError) {
      result = std::unexpected(*createError);
    } else if (!byName.contains(spec.name)) {
      result = addTopic(spec.name, spec.partitions < 0 ? 1 : spec.partitions,
                        spec.config.value_or(TopicConfig()));
    }
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void deleteTopic(const PrincipalRef&, const std::string& name, Done<Result<>> done) override {
    deleted.push_back(name);
    byName.erase(name);
    logs.erase(name);
    answer([done = std::move(done)]() mutable { done({}); });
  }
  bool autoCreateTopics() const override { return autoCreate; }

  const std::string& clusterId() const override { return clusterId_; }
  LeaderEpoch leaderEpoch() const override { return LeaderEpoch(7); }
  int64_t journalEnd() const override { return 12'345; }
  int64_t maxRecordBytes() const override { return limit; }

  std::unique_ptr<QueueClient> openQueueClient(const PrincipalRef&) override { return nullptr; }
  void openSession(const PrincipalRef&, SubscriberOptions, SubscriberListener*, OpenDone) override {
  }
  void listSessions(const PrincipalRef&, Done<std::vector<SessionInfo>>) override {}
  void deleteSession(const PrincipalRef&, const std::string&, Done<Result<>>) override {}

  void joinGroup(const PrincipalRef&, GroupJoin join, Done<GroupJoined> done) override {
    joins.push_back(std::move(join));
    answer([this, done = std::move(done)]() mutable { done(joined); });
  }
  void syncGroup(const PrincipalRef&, GroupSync sync, Done<GroupSynced> done) override {
    syncs.push_back(std::move(sync));
    answer([this, done = std::move(done)]() mutable { done(synced); });
  }
  void heartbeat(const PrincipalRef&, GroupHeartbeat beat, Done<Result<>> done) override {
    beats.push_back(std::move(beat));
    answer([this, done = std::move(done)]() mutable { done(beatResult); });
  }
  void leaveGroup(const PrincipalRef&, GroupLeave leave,
                  Done<Result<std::vector<Result<>>>> done) override {
    leaves.push_back(std::move(leave));
    answer([this, done = std::move(done)]() mutable { done(leaveResult); });
  }
  void consumerHeartbeat(const PrincipalRef&, ConsumerHeartbeat beat,
                         Done<Result<ConsumerHeartbeatAnswer>> done) override {
    consumerBeats.push_back(std::move(beat));
    answer([this, done = std::move(done)]() mutable { done(consumerAnswer); });
  }
  bool mayDescribeTopic(const PrincipalRef&, const std::string& topic) const override {
    return !hiddenTopics.contains(topic);
  }
  GroupDefaults groupDefaults() const override { return {}; }
  void groupConfig(const PrincipalRef&, std::string group,
                   Done<Result<GroupConfig>> done) override {
    answer([this, group, done = std::move(done)]() mutable { done(groupConfigs[group]); });
  }
  void alterGroupConfig(const PrincipalRef&, std::string group, GroupConfigChange change,
                        Done<Result<>> done) override {
    Result<> result = change(groupConfigs[group]);
    answer([result, done = std::move(done)]() mutable { done(result); });
  }
  void configuredGroups(const PrincipalRef&, Done<std::vector<std::string>> done) override {
    std::vector<std::string> names;
    for (const auto& [name, config] : groupConfigs) names.push_back(name);
    answer([names, done = std::move(done)]() mutable { done(names); });
  }
  void commitOffsets(const PrincipalRef&, GroupCommit commit,
                     Done<Result<std::vector<Result<>>>> done) override {
    Result<std::vector<Result<>>> result = std::vector<Result<>>(commit.offsets.size());
    if (commitResult) result = *commitResult;
    for (const GroupOffset& offset : commit.offsets)
      offsets[{offset.topic, offset.partition}] = offset;
    commits.push_back(std::move(commit));
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void fetchOffsets(const PrincipalRef&, std::string group, std::optional<GroupReader> reader,
                    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                    Done<Result<std::vector<GroupOffset>>> done) override {
    readers.push_back(std::move(reader));
    std::vector<GroupOffset> found;
    if (!partitions) {
      for (auto& [place, offset] : offsets) found.push_back(offset);
    } else {
      for (auto& place : *partitions) {
        auto at = offsets.find(place);
        found.push_back(at != offsets.end() ? at->second
                                            : GroupOffset{place.first, place.second, -1, -1, {}});
      }
    }
    Result<std::vector<GroupOffset>> result = std::move(found);
    if (group == "unknown") result = fail(ErrorKind::kNotFound, "no such group");
    if (offsetsError) result = std::unexpected(*offsetsError);
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  std::vector<SharedGroupInfo> sharedGroups(const PrincipalRef&) override { return {}; }
  void publishSystem(std::vector<std::pair<std::string, std::string>>) override {}
  void publishConnection(const PrincipalRef&, const std::string&, bool) override {}
  void listGroups(const PrincipalRef&, Done<std::vector<GroupDescription>> done) override {
    answer([this, done = std::move(done)]() mutable { done(groups); });
  }
  void describeGroup(const PrincipalRef&, std::string group,
                     Done<Result<GroupDescription>> done) override {
    Result<GroupDescription> result = fail(ErrorKind::kNotFound, "no such group");
    for (const GroupDescription& known : groups) {
      if (known.group == group) result = known;
    }
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void deleteGroup(const PrincipalRef&, std::string group, Done<Result<>> done) override {
    Result<> result = fail(ErrorKind::kNotFound, "no such group");
    for (const GroupDescription& known : groups) {
      if (known.group != group) continue;
      result = Result<>();
      if (!known.members.empty()) result = fail(ErrorKind::kGroupNotEmpty, "has members");
    }
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void deleteOffsets(const PrincipalRef&, GroupOffsetDeletion deletion,
                     Done<Result<std::vector<Result<>>>> done) override {
    Result<std::vector<Result<>>> result = fail(ErrorKind::kNotFound, "no such group");
    for (const GroupDescription& known : groups) {
      if (known.group != deletion.group) continue;
      Result<std::set<std::string>> inUse;
      if (!known.members.empty()) inUse = deletion.topicsInUse(known);
      result = std::vector<Result<>>();
      if (!inUse) result = std::unexpected(inUse.error());
      for (const auto& place : deletion.partitions) {
        if (!result) break;
        bool kept = inUse->contains(place.first);
        result->push_back(kept ? Result<>(fail(ErrorKind::kInUse, "in use")) : Result<>());
        if (!kept) offsets.erase(place);
      }
    }
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void initProducer(const PrincipalRef&, std::optional<ProducerIdentity> current,
                    Done<Result<ProducerIdentity>> done) override {
    inits.push_back(current);
    answer([done = std::move(done)]() mutable { done(ProducerIdentity{42, 0}); });
  }
  void initTransactions(const PrincipalRef&, TransactionInit init,
                        Done<Result<ProducerIdentity>> done) override {
    transactionInits.push_back(std::move(init));
    Result<ProducerIdentity> result = ProducerIdentity{43, 2};
    if (transactionError) result = std::unexpected(*transactionError);
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void addToTransaction(const PrincipalRef&, TransactionProducer who,
                        std::vector<std::pair<std::string, int32_t>> partitions,
                        Done<Result<>> done) override {
    transactionVersions.push_back(who.version);
    for (auto& [topic, partition] : partitions) {
      transactionCalls.push_back(who.id + " add " + topic + "/" + std::to_string(partition));
    }
    answerTransaction(std::move(done));
  }
  void addGroupToTransaction(const PrincipalRef&, TransactionProducer who, std::string group,
                             Done<Result<>> done) override {
    transactionCalls.push_back(who.id + " group " + group);
    answerTransaction(std::move(done));
  }
  void commitInTransaction(const PrincipalRef&, TransactionProducer who, GroupCommit commit,
                           Done<Result<std::vector<Result<>>>> done) override {
    transactionCalls.push_back(who.id + " offsets of " + commit.group);
    transactionVersions.push_back(who.version);
    Result<std::vector<Result<>>> result = std::vector<Result<>>(commit.offsets.size());
    if (transactionError) result = std::unexpected(*transactionError);
    commits.push_back(std::move(commit));
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void endTransaction(const PrincipalRef&, TransactionProducer who, bool commit,
                      Done<Result<ProducerIdentity>> done) override {
    transactionCalls.push_back(who.id + (commit ? " commit" : " abort"));
    transactionVersions.push_back(who.version);
    Result<ProducerIdentity> result = ProducerIdentity{who.producer.id, 77};
    if (transactionError) result = std::unexpected(*transactionError);
    answer([done = std::move(done), result]() mutable { done(std::move(result)); });
  }
  void abortTransaction(const PrincipalRef&, const std::string& topic, int32_t partition,
                        ProducerIdentity producer, Done<Result<>> done) override {
    transactionCalls.push_back("abort " + std::to_string(producer.id) + " in " + topic + "/" +
                               std::to_string(partition));
    answerTransaction(std::move(done));
  }
  std::vector<TransactionDescription> transactions(const PrincipalRef&) override {
    return knownTransactions;
  }
  Result<TransactionDescription> describeTransaction(const PrincipalRef&,
                                                     const std::string& id) override {
    for (const TransactionDescription& one : knownTransactions) {
      if (one.id == id) return one;
    }
    return fail(ErrorKind::kUnknownProducer, "no such id");
  }

  std::vector<TransactionInit> transactionInits;
  std::vector<std::string> transactionCalls;
  std::vector<int> transactionVersions;  ///< of adding partitions, offsets and ending
  std::optional<Error> transactionError;
  std::vector<TransactionDescription> knownTransactions;
  /// Of every partition; what fetch() says beside its batches.
  std::optional<Offset> lastStable;
  std::vector<AbortedTransaction> aborted;

 private:
  void answerTransaction(Done<Result<>> done) {
    Result<> result;
    if (transactionError) result = std::unexpected(*transactionError);
    answer([done = std::move(done), result]() mutable { done(result); });
  }
  Log* find(const std::string& topic, int32_t partition) {
    auto found = logs.find(topic);
    if (found == logs.end() || partition < 0 ||
        static_cast<size_t>(partition) >= found->second.size()) {
      return nullptr;
    }
    return &found->second[static_cast<size_t>(partition)];
  }

  std::string clusterId_ = "abcdefghijklmnopqrstuv";
  int nextWake_ = 1;
};

}  // namespace polylog::test
