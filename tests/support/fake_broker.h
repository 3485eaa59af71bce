// A Broker in memory that a test controls: it records what sessions ask for, answers by posting to
// the current dispatcher (at once, or when the test says so), and delivers what the test gives it.
// It routes nothing. For codecs' tests and fuzzers; own thread only.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/event/dispatcher.h"
#include "core/model/broker.h"
#include "tests/support/fake_queues.h"

namespace polylog::test {

/// A publish as it reached the broker, with octets of its own.
struct PublishedRecord {
  std::string address;  ///< "topic/key" or "topic"
  std::string topic;
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
  DeliveryGuarantee guarantee{};
  bool retain = false;
  bool ephemeral = false;
  uint32_t partitionHash = 0;
  int64_t publishAtMs = 0;
  std::optional<uint16_t> exactlyOnceId;
  std::optional<std::string> streamKey;
  bool routed = false;  ///< to an exchange
  bool admitted = false;

  const std::string* header(std::string_view name) const;
};

class FakeBroker;

class FakeSession final : public SubscriberSession,
                          public std::enable_shared_from_this<FakeSession> {
 public:
  FakeSession(FakeBroker& broker, SubscriberOptions asked)
      : options(std::move(asked)), broker_(broker) {}

  bool resumed() const override { return isResumed; }
  uint64_t life() const override { return options.expirySeconds == 0 ? 0 : lifeId; }
  std::vector<uint16_t> heldPublishIds() const override { return {held.begin(), held.end()}; }
  void subscribe(std::vector<Subscription> added, SubscribeDone done) override;
  void unsubscribe(std::vector<std::string> filters,
                   std::move_only_function<void(Result<std::vector<bool>>)> done) override;
  size_t take(size_t max, TakeLimits limits, std::vector<Delivery>& out) override;
  void acknowledge(int64_t id) override;
  void accept(int64_t id, std::move_only_function<void(Result<>)> done) override;
  void forgetAccepted(std::move_only_function<void(Result<>)> done) override;
  int64_t acknowledgedUpTo() const override;
  int64_t sharedAcknowledgedUpTo() const override;
  void releasePublish(uint16_t id, std::move_only_function<void(Result<>)> done) override;
  void setWill(std::optional<Will> value) override { will = std::move(value); }
  void loginRenewed(std::move_only_function<void(Result<>)> done) override;
  void setExpiry(uint32_t seconds) override { options.expirySeconds = seconds; }
  void detach() override;

  /// Queues a delivery (the next id, where it needs one) and tells the listener as the contract
  /// says.
  void deliver(std::string topic, std::optional<std::string> key, std::string value,
               DeliveryGuarantee guarantee,
               std::vector<std::pair<std::string, std::string>> headers = {});
  void deliver(Delivery delivery);

  SubscriberOptions options;
  SubscriberListener* listener = nullptr;
  bool isResumed = false;
  uint64_t lifeId = 1;
  std::map<std::string, Subscription> subscriptions;
  std::set<uint16_t> held;
  std::optional<Will> will;
  std::optional<Will> publishedWill;
  int loginsRenewed = 0;
  bool detached = false;
  int64_t nextId = 0;
  int64_t nextSharedId = kSharedIds;  ///< a test gives deliveries their ids
  std::set<int64_t> acknowledged;
  std::set<int64_t> accepted;
  size_t waiting() const { return queue_.size(); }

 private:
  friend class FakeBroker;
  void reattach();

  FakeBroker& broker_;
  std::deque<Delivery> queue_;
  std::deque<Delivery> sharedQueue_;
  std::map<int64_t, Delivery> taken_;
  bool told_ = false;
};

class FakeBroker final : public Broker {
 public:
  /// While set, answers wait for answerAll() or answerOne().
  bool holdAnswers = false;
  /// Decides each publish's result.
  std::function<PublishResult(const PublishedRecord&)> judge;
  std::optional<Error> openError;
  bool isFull = false;
  /// Ends isFull and wakes who waits.
  void space();
  size_t spaceWaits() const { return spaceWaits_->size(); }
  std::optional<Error> sessionError;  ///< of subscribe, release, accept

  std::vector<PublishedRecord> published;
  std::vector<size_t> batches;     ///< records of each publish() call
  size_t unansweredPublishes = 0;  ///< publish() calls without `done`
  std::map<std::string, std::shared_ptr<FakeSession>> sessions;
  FakeQueues queues;

  void answerOne();
  void answerAll();
  /// The last one first: for tests of order.
  void answerLast();
  size_t unanswered() const { return held_.size(); }
  /// Runs `task` as an answer: posted, or held.
  void answer(Task task);

  void publish(const PrincipalRef&, SubscriberSession* session, std::span<const Publish> records,
               Done<std::vector<PublishResult>> done) override;
  bool full() const override { return isFull; }
  std::unique_ptr<WaitHandle> awaitSpace(std::move_only_function<void()> wake) override;
  void openSession(const PrincipalRef&, SubscriberOptions options, SubscriberListener* listener,
                   OpenDone done) override;
  void deleteSession(const PrincipalRef&, const std::string& clientId,
                     Done<Result<>> done) override;
  std::unique_ptr<QueueClient> openQueueClient(const PrincipalRef& principal) override {
    queueClient = principal;
    return std::make_unique<FakeQueueClient>(queues,
                                             [this](Task task) { answer(std::move(task)); });
  }
  PrincipalRef queueClient;  ///< who opened the last

  int64_t maxRecordBytes() const override { return recordLimit; }
  int64_t recordLimit = 1 << 20;

  // What MQTT sessions never call.
  void produce(const PrincipalRef&, ProduceBatch, Done<Result<Produced>>) override {}
  Result<Fetched> fetch(const PrincipalRef&, const std::string&, int32_t, Offset, size_t) override {
    return fail(ErrorKind::kUnsupported, "fake");
  }
  std::unique_ptr<WaitHandle> awaitRecords(const PrincipalRef&, std::span<const FetchPoint>,
                                           std::move_only_function<void()>) override {
    return nullptr;
  }
  Result<PartitionBounds> bounds(const PrincipalRef&, const std::string&, int32_t) override {
    return fail(ErrorKind::kUnsupported, "fake");
  }
  Result<std::optional<OffsetAtTime>> offsetAtTime(const PrincipalRef&, const std::string&, int32_t,
                                                   int64_t) override {
    return fail(ErrorKind::kUnsupported, "fake");
  }
  Result<std::optional<OffsetAtTime>> offsetOfMaxTimestamp(const PrincipalRef&, const std::string&,
                                                           int32_t) override {
    return fail(ErrorKind::kUnsupported, "fake");
  }
  void deleteRecords(const PrincipalRef&, const std::string&, int32_t, std::optional<Offset>,
                     Done<Result<Offset>>) override {}
  Result<std::vector<ActiveProducer>> activeProducers(const PrincipalRef&, const std::string&,
                                                      int32_t) override {
    return fail(ErrorKind::kUnsupported, "fake");
  }
  TopicConfig topicDefaults(Protocol) const override { return {}; }
  void alterTopic(const PrincipalRef&, const std::string&, ConfigChange,
                  Done<Result<TopicRef>>) override {}
  void growTopic(const PrincipalRef&, const std::string&, int32_t,
                 Done<Result<TopicRef>>) override {}
  TopicRef findTopic(const PrincipalRef&, const std::string&) override { return nullptr; }
  TopicRef findTopic(const PrincipalRef&, const TopicId&) override { return nullptr; }
  std::vector<TopicRef> topics(const PrincipalRef&) override { return {}; }
  void createTopic(const PrincipalRef&, TopicSpec, Done<Result<TopicRef>>) override {}
  void deleteTopic(const PrincipalRef&, const std::string&, Done<Result<>>) override {}
  bool autoCreateTopics() const override { return true; }
  const std::string& clusterId() const override { return clusterId_; }
  LeaderEpoch leaderEpoch() const override { return LeaderEpoch(1); }
  int64_t journalEnd() const override { return 0; }
  void listSessions(const PrincipalRef&, Done<std::vector<SessionInfo>>) override {}
  void joinGroup(const PrincipalRef&, GroupJoin, Done<GroupJoined>) override {}
  void syncGroup(const PrincipalRef&, GroupSync, Done<GroupSynced>) override {}
  void heartbeat(const PrincipalRef&, GroupHeartbeat, Done<Result<>>) override {}
  void leaveGroup(const PrincipalRef&, GroupLeave, Done<Result<std::vector<Result<>>>>) override {}
  void consumerHeartbeat(const PrincipalRef&, ConsumerHeartbeat,
                         Done<Result<ConsumerHeartbeatAnswer>>) override {}
  bool mayDescribeTopic(const PrincipalRef&, const std::string&) const override { return true; }
  GroupDefaults groupDefaults() const override { return {}; }
  void groupConfig(const PrincipalRef&, std::string, Done<Result<GroupConfig>>) override {}
  void alterGroupConfig(const PrincipalRef&, std::string, GroupConfigChange,
                        Done<Result<>>) override {}
  void configuredGroups(const PrincipalRef&, Done<std::vector<std::string>>) override {}
  void commitOffsets(const PrincipalRef&, GroupCommit,
                     Done<Result<std::vector<Result<>>>>) override {}
  void fetchOffsets(const PrincipalRef&, std::string, std::optional<GroupReader>,
                    std::optional<std::vector<std::pair<std::string, int32_t>>>,
                    Done<Result<std::vector<GroupOffset>>>) override {}
  void listGroups(const PrincipalRef&, Done<std::vector<GroupDescription>>) override {}
  std::vector<SharedGroupInfo> sharedGroups(const PrincipalRef&) override { return {}; }
  void publishSystem(std::vector<std::pair<std::string, std::string>>) override {}
  void publishConnection(const PrincipalRef&, const std::string& name, bool connected) override {
    connections.emplace_back(name, connected);
  }
  std::vector<std::pair<std::string, bool>> connections;  ///< what publishConnection() was told
  void describeGroup(const PrincipalRef&, std::string, Done<Result<GroupDescription>>) override {}
  void deleteGroup(const PrincipalRef&, std::string, Done<Result<>>) override {}
  void deleteOffsets(const PrincipalRef&, GroupOffsetDeletion,
                     Done<Result<std::vector<Result<>>>>) override {}
  void initProducer(const PrincipalRef&, std::optional<ProducerIdentity>,
                    Done<Result<ProducerIdentity>>) override {}
  void initTransactions(const PrincipalRef&, TransactionInit,
                        Done<Result<ProducerIdentity>>) override {}
  void addToTransaction(const PrincipalRef&, TransactionProducer,
                        std::vector<std::pair<std::string, int32_t>>, Done<Result<>>) override {}
  void addGroupToTransaction(const PrincipalRef&, TransactionProducer, std::string,
                             Done<Result<>>) override {}
  void commitInTransaction(const PrincipalRef&, TransactionProducer, GroupCommit,
                           Done<Result<std::vector<Result<>>>>) override {}
  void endTransaction(const PrincipalRef&, TransactionProducer, bool,
                      Done<Result<ProducerIdentity>>) override {}
  void abortTransaction(const PrincipalRef&, const std::string&, int32_t, ProducerIdentity,
                        Done<Result<>>) override {}
  std::vector<TransactionDescription> transactions(const PrincipalRef&) override { return {}; }
  Result<TransactionDescription> describeTransaction(const PrincipalRef&,
                                                     const std::string&) override {
    return fail(ErrorKind::kUnknownProducer, "fake");
  }

 private:
  struct SpaceWait;
  using SpaceWaits = std::map<const SpaceWait*, std::move_only_function<void()>>;
  std::shared_ptr<SpaceWaits> spaceWaits_ = std::make_shared<SpaceWaits>();
  std::deque<Task> held_;
  std::string clusterId_ = "fakefakefakefakefakefa";
};

/// A record of its own, as the router would share it.
RoutedRecordRef makeRouted(std::string topic, std::optional<std::string> key,
                           std::optional<std::string> value,
                           std::vector<std::pair<std::string, std::string>> headers = {},
                           DeliveryGuarantee published = DeliveryGuarantee::kExactlyOnce);

}  // namespace polylog::test
