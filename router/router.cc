#include "router/router.h"

#include <atomic>
#include <utility>

#include "router/access_store.h"
#include "router/address_tags.h"
#include "router/batch_cache.h"
#include "router/bridge_store.h"
#include "router/catalogue.h"
#include "router/client_metrics_store.h"
#include "router/client_registry.h"
#include "router/core.h"
#include "router/delayed_store.h"
#include "router/exchange_table.h"
#include "router/exclusive_table.h"
#include "router/feed_router.h"
#include "router/group_coordinator.h"
#include "router/id_allocator.h"
#include "router/identity.h"
#include "router/live_fanout.h"
#include "router/liveness.h"
#include "router/log_access.h"
#include "router/login_service.h"
#include "router/publisher.h"
#include "router/queue_client.h"
#include "router/queue_registry.h"
#include "router/quota_store.h"
#include "router/replay_table.h"
#include "router/retained_store.h"
#include "router/session_registry.h"
#include "router/share_access.h"
#include "router/share_table.h"
#include "router/slow_subscribers.h"
#include "router/space_waits.h"
#include "router/subscription_trie.h"
#include "router/system_values.h"
#include "router/topic_defaults_store.h"
#include "router/transaction_coordinator.h"

namespace polylog::router {
namespace {

class RouterImpl final : public Router {
 public:
  RouterImpl(storage::LogStore& store, std::span<Dispatcher* const> workers, Clock& clock,
             Random& random, RouterOptions options)
      : core_(store, workers, clock, random, std::move(options)),
        logs_(core_),
        quotas_(core_),
        bridges_(core_),
        system_(core_, bridges_),
        clientMetrics_(core_),
        topicDefaults_(core_),
        shares_(core_) {
    auto access = std::make_unique<AccessStore>(core_);
    core_.logins = std::make_unique<LoginService>(core_, *access);
    core_.access = std::move(access);
    core_.slow = std::make_unique<SlowSubscribers>(core_.options.slowSubscriberMillis);
    core_.clients = std::make_unique<ClientRegistry>(core_);
    core_.ids = std::make_unique<IdAllocator>(core_);
    core_.catalogue = std::make_unique<Catalogue>(core_);
    core_.trie = std::make_unique<SubscriptionTrie>();
    core_.tags = std::make_unique<AddressTags>(core_);
    core_.retained = std::make_unique<RetainedStore>(core_);
    core_.batches = std::make_unique<BatchCache>(core_);
    core_.fanout = std::make_unique<LiveFanout>(core_);
    core_.publisher = std::make_unique<Publisher>(core_);
    core_.delayed = std::make_unique<DelayedStore>(core_);
    core_.space = std::make_unique<SpaceWaits>(core_);
    core_.exclusive = std::make_unique<ExclusiveTable>();
    core_.shares = std::make_unique<ShareTable>(core_);
    core_.replays = std::make_unique<ReplayTable>(core_);
    core_.sessions = std::make_unique<SessionRegistry>(core_);
    core_.feed = std::make_unique<FeedRouter>(core_);
    core_.groups = std::make_unique<GroupCoordinator>(core_);
    core_.transactions = std::make_unique<TransactionCoordinator>(core_);
    core_.queues = std::make_unique<QueueRegistry>(core_);
    core_.exchanges = std::make_unique<ExchangeTable>(core_);
    core_.deleteTopic = [this](const PrincipalRef& principal, const std::string& name,
                               Done<Result<>> done) {
      deleteTopic(principal, name, std::move(done));
    };
  }
  ~RouterImpl() override {
    core_.stopping.store(true);
    core_.logins->stop();
  }

  Result<> load();
  void start() override;
  void stop(std::move_only_function<void()> stopped) override;
  Authenticator& authenticator() override { return *core_.logins; }
  AccessControl& access() override { return *core_.access; }
  Clients& clients() override { return *core_.clients; }
  QuotaControl& quotas() override { return quotas_; }
  BridgeStore& bridges() override { return bridges_; }
  ClientMetricsControl& clientMetrics() override { return clientMetrics_; }
  DynamicDefaults& dynamicDefaults() override { return topicDefaults_; }
  ShareGroups& shareGroups() override { return shares_; }

  // ---- publishing and logs
  void publish(const PrincipalRef& principal, SubscriberSession* session,
               std::span<const Publish> records, Done<std::vector<PublishResult>> done) override {
    static const std::shared_ptr<Session> kNobody;
    // Every SubscriberSession that a codec has is one of ours.
    auto* attachment = static_cast<Attachment*>(session);
    core_.publisher->publish(principal, attachment ? attachment->session() : kNobody, records,
                             std::move(done));
  }
  bool full() const override { return core_.store.full(); }
  std::unique_ptr<WaitHandle> awaitSpace(std::move_only_function<void()> wake) override {
    return core_.space->wait(std::move(wake));
  }
  void produce(const PrincipalRef& principal, ProduceBatch batch,
               Done<Result<Produced>> done) override {
    logs_.produce(principal, std::move(batch), std::move(done));
  }
  Result<Fetched> fetch(const PrincipalRef& principal, const std::string& topic, int32_t partition,
                        Offset from, size_t maxBytes) override {
    return logs_.fetch(principal, topic, partition, from, maxBytes);
  }
  std::unique_ptr<WaitHandle> awaitRecords(const PrincipalRef& /*principal*/,
                                           std::span<const FetchPoint> points,
                                           std::move_only_function<void()> wake) override {
    return logs_.awaitRecords(points, std::move(wake));
  }
  Result<PartitionBounds> bounds(const PrincipalRef& principal, const std::string& topic,
                                 int32_t partition) override {
    if (auto ok = permitted(principal, Operation::kDescribe, topic); !ok) {
      return std::unexpected(ok.error());
    }
    return logs_.bounds(topic, partition);
  }
  Result<std::optional<OffsetAtTime>> offsetAtTime(const PrincipalRef& principal,
                                                   const std::string& topic, int32_t partition,
                                                   int64_t timestampMs) override {
    if (auto ok = permitted(principal, Operation::kDescribe, topic); !ok) {
      return std::unexpected(ok.error());
    }
    return logs_.offsetAtTime(topic, partition, timestampMs);
  }
  Result<std::optional<OffsetAtTime>> offsetOfMaxTimestamp(const PrincipalRef& principal,
                                                           const std::string& topic,
                                                           int32_t partition) override {
    if (auto ok = permitted(principal, Operation::kDescribe, topic); !ok) {
      return std::unexpected(ok.error());
    }
    return logs_.offsetOfMaxTimestamp(topic, partition);
  }

  void deleteRecords(const PrincipalRef& principal, const std::string& topic, int32_t partition,
                     std::optional<Offset> before, Done<Result<Offset>> done) override {
    if (auto ok = permitted(principal, Operation::kDelete, topic); !ok) {
      return refuse(std::move(done), ok.error());
    }
    logs_.deleteRecords(topic, partition, before, std::move(done));
  }
  Result<std::vector<ActiveProducer>> activeProducers(const PrincipalRef& principal,
                                                      const std::string& topic,
                                                      int32_t partition) override {
    if (auto ok = permitted(principal, Operation::kRead, topic); !ok) {
      return std::unexpected(ok.error());
    }
    return logs_.activeProducers(topic, partition);
  }

  // ---- catalogue
  TopicRef findTopic(const PrincipalRef& principal, const std::string& name) override {
    TopicRef topic = core_.catalogue->find(name);
    return topic && permitted(principal, Operation::kDescribe, name) ? topic : nullptr;
  }
  TopicRef findTopic(const PrincipalRef& principal, const TopicId& id) override {
    TopicRef topic = core_.catalogue->find(id);
    return topic && permitted(principal, Operation::kDescribe, topic->name) ? topic : nullptr;
  }
  std::vector<TopicRef> topics(const PrincipalRef& principal) override {
    std::vector<TopicRef> all = core_.catalogue->all();
    std::erase_if(all, [&](const TopicRef& topic) {
      return !permitted(principal, Operation::kDescribe, topic->name);
    });
    return all;
  }
  void createTopic(const PrincipalRef& principal, TopicSpec spec,
                   Done<Result<TopicRef>> done) override {
    if (auto ok = permitted(principal, Operation::kCreate, spec.name); !ok) {
      return refuse(std::move(done), ok.error());
    }
    core_.catalogue->create(core_.here(), std::move(spec), principal->protocol, std::move(done));
  }
  void deleteTopic(const PrincipalRef& principal, const std::string& name,
                   Done<Result<>> done) override;
  TopicConfig topicDefaults(Protocol origin) const override {
    return core_.catalogue->defaultsFor(origin);
  }
  void alterTopic(const PrincipalRef& principal, const std::string& name, ConfigChange change,
                  Done<Result<TopicRef>> done) override {
    if (auto ok = permitted(principal, Operation::kAlterConfigs, name); !ok) {
      return refuse(std::move(done), ok.error());
    }
    core_.catalogue->alter(core_.here(), name, std::move(change), std::move(done));
  }
  void growTopic(const PrincipalRef& principal, const std::string& name, int32_t partitions,
                 Done<Result<TopicRef>> done) override {
    if (auto ok = permitted(principal, Operation::kAlter, name); !ok) {
      return refuse(std::move(done), ok.error());
    }
    core_.catalogue->grow(core_.here(), name, partitions, std::move(done));
  }
  bool autoCreateTopics() const override { return core_.options.autoCreateTopics; }

  // ---- cluster facts
  const std::string& clusterId() const override { return identity_.clusterId; }
  LeaderEpoch leaderEpoch() const override { return identity_.leaderEpoch; }
  int64_t journalEnd() const override {
    return static_cast<int64_t>(core_.store.durableEnd().value());
  }
  int64_t maxRecordBytes() const override { return core_.options.maxMessageBytes; }

  // ---- sessions
  void openSession(const PrincipalRef& principal, SubscriberOptions options,
                   SubscriberListener* listener, OpenDone done) override {
    Resource resource{ResourceKind::kSession, options.clientId};
    if (!core_.authorizer.permits(principal, Operation::kRead, resource)) {
      return refuse(std::move(done), notPermitted(resource));
    }
    core_.sessions->open(principal, std::move(options), listener, std::move(done));
  }
  void listSessions(const PrincipalRef& principal, Done<std::vector<SessionInfo>> done) override {
    auto seen = [this, principal, done = std::move(done)](std::vector<SessionInfo> all) mutable {
      std::erase_if(all, [&](const SessionInfo& session) {
        Resource resource{ResourceKind::kSession, session.clientId};
        return !core_.authorizer.permits(principal, Operation::kDescribe, resource);
      });
      done(std::move(all));
    };
    core_.sessions->list(std::move(seen));
  }
  void deleteSession(const PrincipalRef& principal, const std::string& clientId,
                     Done<Result<>> done) override {
    Resource resource{ResourceKind::kSession, clientId};
    if (!core_.authorizer.permits(principal, Operation::kDelete, resource)) {
      return refuse(std::move(done), notPermitted(resource));
    }
    core_.sessions->remove(clientId, std::move(done));
  }

  std::vector<SharedGroupInfo> sharedGroups(const PrincipalRef& principal) override {
    if (!groupPermits(principal, Operation::kDescribe, {})) return {};
    return core_.shares->list();
  }

  void publishSystem(std::vector<std::pair<std::string, std::string>> values) override {
    system_.publish(std::move(values));
  }
  void publishConnection(const PrincipalRef& principal, const std::string& name,
                         bool connected) override {
    system_.publishConnection(principal, name, connected);
  }

  // ---- exchanges and queues
  std::unique_ptr<QueueClient> openQueueClient(const PrincipalRef& principal) override {
    return makeQueueClient(core_, principal);
  }

  // ---- groups
  void joinGroup(const PrincipalRef& principal, GroupJoin join, Done<GroupJoined> done) override {
    if (!member(principal, join.group)) {
      GroupJoined answer;
      answer.error = notPermitted({ResourceKind::kGroup, join.group});
      return answerLater(std::move(done), std::move(answer));
    }
    core_.groups->join(std::move(join), std::move(done));
  }
  void syncGroup(const PrincipalRef& principal, GroupSync sync, Done<GroupSynced> done) override {
    if (!member(principal, sync.group)) {
      GroupSynced answer;
      answer.error = notPermitted({ResourceKind::kGroup, sync.group});
      return answerLater(std::move(done), std::move(answer));
    }
    core_.groups->sync(std::move(sync), std::move(done));
  }
  void heartbeat(const PrincipalRef& principal, GroupHeartbeat beat, Done<Result<>> done) override {
    if (!member(principal, beat.group)) return refuseGroup(std::move(done), beat.group);
    core_.groups->heartbeat(std::move(beat), std::move(done));
  }
  void leaveGroup(const PrincipalRef& principal, GroupLeave leave,
                  Done<Result<std::vector<Result<>>>> done) override {
    if (!member(principal, leave.group)) return refuseGroup(std::move(done), leave.group);
    core_.groups->leave(std::move(leave), std::move(done));
  }
  void consumerHeartbeat(const PrincipalRef& principal, ConsumerHeartbeat beat,
                         Done<Result<ConsumerHeartbeatAnswer>> done) override {
    if (!member(principal, beat.group)) return refuseGroup(std::move(done), beat.group);
    core_.groups->consumerHeartbeat(principal, std::move(beat), std::move(done));
  }
  bool mayDescribeTopic(const PrincipalRef& principal, const std::string& topic) const override {
    return permitted(principal, Operation::kDescribe, topic).has_value();
  }
  GroupDefaults groupDefaults() const override {
    GroupDefaults defaults = core_.options.groupDefaults;
    defaults.maxMembers = static_cast<int32_t>(core_.options.maxGroupMembers);
    return defaults;
  }
  void groupConfig(const PrincipalRef& principal, std::string group,
                   Done<Result<GroupConfig>> done) override {
    if (!groupPermits(principal, Operation::kDescribeConfigs, group)) {
      return refuseGroup(std::move(done), group);
    }
    core_.groups->config(std::move(group), std::move(done));
  }
  void alterGroupConfig(const PrincipalRef& principal, std::string group, GroupConfigChange change,
                        Done<Result<>> done) override {
    if (!groupPermits(principal, Operation::kAlterConfigs, group)) {
      return refuseGroup(std::move(done), group);
    }
    core_.groups->alterConfig(std::move(group), std::move(change), std::move(done));
  }
  void configuredGroups(const PrincipalRef& principal,
                        Done<std::vector<std::string>> done) override {
    auto seen = [this, principal, done = std::move(done)](std::vector<std::string> all) mutable {
      std::erase_if(all, [&](const std::string& group) {
        return !groupPermits(principal, Operation::kDescribeConfigs, group);
      });
      done(std::move(all));
    };
    core_.groups->configured(std::move(seen));
  }
  void commitOffsets(const PrincipalRef& principal, GroupCommit commit,
                     Done<Result<std::vector<Result<>>>> done) override {
    if (!member(principal, commit.group)) return refuseGroup(std::move(done), commit.group);
    core_.groups->commit(std::move(commit), std::move(done));
  }
  void fetchOffsets(const PrincipalRef& principal, std::string group,
                    std::optional<GroupReader> reader,
                    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                    Done<Result<std::vector<GroupOffset>>> done) override {
    if (!groupPermits(principal, Operation::kDescribe, group)) {
      return refuseGroup(std::move(done), group);
    }
    core_.groups->fetchOffsets(std::move(group), std::move(reader), std::move(partitions),
                               std::move(done));
  }
  void listGroups(const PrincipalRef& principal,
                  Done<std::vector<GroupDescription>> done) override {
    auto seen = [this, principal,
                 done = std::move(done)](std::vector<GroupDescription> all) mutable {
      std::erase_if(all, [&](const GroupDescription& group) {
        return !groupPermits(principal, Operation::kDescribe, group.group);
      });
      done(std::move(all));
    };
    core_.groups->list(std::move(seen));
  }
  void describeGroup(const PrincipalRef& principal, std::string group,
                     Done<Result<GroupDescription>> done) override {
    if (!groupPermits(principal, Operation::kDescribe, group)) {
      return refuseGroup(std::move(done), group);
    }
    core_.groups->describe(std::move(group), std::move(done));
  }
  void deleteGroup(const PrincipalRef& principal, std::string group, Done<Result<>> done) override {
    if (!groupPermits(principal, Operation::kDelete, group))
      return refuseGroup(std::move(done), group);
    core_.groups->remove(std::move(group), std::move(done));
  }
  void deleteOffsets(const PrincipalRef& principal, GroupOffsetDeletion deletion,
                     Done<Result<std::vector<Result<>>>> done) override {
    if (!groupPermits(principal, Operation::kDelete, deletion.group)) {
      return refuseGroup(std::move(done), deletion.group);
    }
    core_.groups->deleteOffsets(std::move(deletion), std::move(done));
  }

  // ---- producers
  void initProducer(const PrincipalRef& principal, std::optional<ProducerIdentity> current,
                    Done<Result<ProducerIdentity>> done) override {
    // As Kafka has it: who may write somewhere may have an id to write with.
    Resource resource{ResourceKind::kCluster, kClusterName};
    if (!core_.authorizer.permitsSomewhere(principal, Operation::kWrite, ResourceKind::kTopic) &&
        !core_.authorizer.permits(principal, Operation::kIdempotentWrite, resource)) {
      return refuse(std::move(done), notPermitted(resource));
    }
    logs_.initProducer(current, std::move(done));
  }

  // ---- transactions
  void initTransactions(const PrincipalRef& principal, TransactionInit init,
                        Done<Result<ProducerIdentity>> done) override {
    if (auto ok = transacts(principal, Operation::kWrite, init.id); !ok) {
      return refuse(std::move(done), ok.error());
    }
    core_.transactions->init(std::move(init), std::move(done));
  }
  void addToTransaction(const PrincipalRef& principal, TransactionProducer who,
                        std::vector<std::pair<std::string, int32_t>> partitions,
                        Done<Result<>> done) override {
    auto ok = transacts(principal, Operation::kWrite, who.id);
    for (size_t i = 0; i < partitions.size() && ok; ++i) {
      ok = permitted(principal, Operation::kWrite, partitions[i].first);
    }
    if (!ok) return refuse(std::move(done), ok.error());
    core_.transactions->addPartitions(who, partitions, std::move(done));
  }
  void addGroupToTransaction(const PrincipalRef& principal, TransactionProducer who,
                             std::string group, Done<Result<>> done) override {
    if (auto ok = transacts(principal, Operation::kWrite, who.id); !ok) {
      return refuse(std::move(done), ok.error());
    }
    if (!member(principal, group)) return refuseGroup(std::move(done), group);
    core_.transactions->addGroup(who, std::move(group), std::move(done));
  }
  void commitInTransaction(const PrincipalRef& principal, TransactionProducer who,
                           GroupCommit commit, Done<Result<std::vector<Result<>>>> done) override {
    if (auto ok = transacts(principal, Operation::kWrite, who.id); !ok) {
      return refuse(std::move(done), ok.error());
    }
    if (!member(principal, commit.group)) return refuseGroup(std::move(done), commit.group);
    core_.groups->commitInTransaction(std::move(who), std::move(commit), std::move(done));
  }
  void endTransaction(const PrincipalRef& principal, TransactionProducer who, bool commit,
                      Done<Result<ProducerIdentity>> done) override {
    if (auto ok = transacts(principal, Operation::kWrite, who.id); !ok) {
      return refuse(std::move(done), ok.error());
    }
    core_.transactions->end(who, commit, std::move(done));
  }
  void abortTransaction(const PrincipalRef& principal, const std::string& topic, int32_t partition,
                        ProducerIdentity producer, Done<Result<>> done) override {
    Resource resource{ResourceKind::kCluster, {}};
    if (!core_.authorizer.permits(principal, Operation::kWrite, resource)) {
      return refuse(std::move(done), notPermitted(resource));
    }
    auto id = logs_.partitionOf(topic, partition);
    if (!id) return refuse(std::move(done), id.error());
    core_.transactions->abort(*id, producer, std::move(done));
  }
  std::vector<TransactionDescription> transactions(const PrincipalRef& principal) override {
    std::vector<TransactionDescription> all = core_.transactions->list();
    std::erase_if(all, [&](const TransactionDescription& one) {
      return !transacts(principal, Operation::kDescribe, one.id);
    });
    return all;
  }
  Result<TransactionDescription> describeTransaction(const PrincipalRef& principal,
                                                     const std::string& id) override {
    if (auto ok = transacts(principal, Operation::kDescribe, id); !ok) {
      return std::unexpected(ok.error());
    }
    return core_.transactions->describe(id);
  }

 private:
  Result<> permitted(const PrincipalRef& principal, Operation operation,
                     const std::string& topic) const {
    Resource resource{ResourceKind::kTopic, topic};
    if (core_.authorizer.permits(principal, operation, resource)) return {};
    return std::unexpected(notPermitted(resource));
  }
  Result<> transacts(const PrincipalRef& principal, Operation operation, BytesView id) const {
    Resource resource{ResourceKind::kTransaction, id};
    if (core_.authorizer.permits(principal, operation, resource)) return {};
    return std::unexpected(notPermitted(resource));
  }
  bool groupPermits(const PrincipalRef& principal, Operation operation, BytesView name) const {
    return core_.authorizer.permits(principal, operation, {ResourceKind::kGroup, name});
  }
  bool member(const PrincipalRef& principal, BytesView name) const {
    return groupPermits(principal, Operation::kJoin, name);
  }
  template <class T>
  void answerLater(Done<T> done, T value) {
    core_.here().later(
        [done = std::move(done), value = std::move(value)]() mutable { done(std::move(value)); });
  }
  template <class T>
  void refuse(Done<Result<T>> done, Error error) {
    answerLater<Result<T>>(std::move(done), std::unexpected(std::move(error)));
  }
  template <class T>
  void refuseGroup(Done<Result<T>> done, const std::string& name) {
    refuse(std::move(done), notPermitted({ResourceKind::kGroup, name}));
  }

  Core core_;
  DurableLiveness liveness_{core_.store};
  LogAccess logs_;
  QuotaStore quotas_;
  BridgeTable bridges_;
  SystemValues system_;
  ClientMetricsStore clientMetrics_;
  TopicDefaultsStore topicDefaults_;
  ShareAccess shares_;
  Identity identity_;
};

Result<> RouterImpl::load() {
  storage::AppendRequest request;
  if (auto ok = identity_.load(core_, request.state); !ok) return ok;
  if (auto ok = core_.access->load(); !ok) return ok;
  if (auto ok = core_.clients->load(); !ok) return ok;
  if (auto ok = quotas_.load(); !ok) return ok;
  bridges_.load();
  if (auto ok = clientMetrics_.load(); !ok) return ok;
  // The feed is set before anything is appended.
  if (auto ok = core_.feed->load(); !ok) return ok;
  if (auto ok = core_.ids->load(); !ok) return ok;
  if (auto ok = topicDefaults_.load(); !ok) return ok;
  if (auto ok = core_.catalogue->load(); !ok) return ok;
  if (auto ok = core_.tags->load(); !ok) return ok;
  if (auto ok = core_.retained->load(); !ok) return ok;
  if (auto ok = core_.queues->load(identity_.leaderEpoch); !ok) return ok;
  core_.shares->load();
  if (auto ok = core_.sessions->load(); !ok) return ok;
  if (auto ok = core_.delayed->load(); !ok) return ok;
  if (auto ok = core_.groups->load(); !ok) return ok;
  if (auto ok = core_.transactions->load(); !ok) return ok;
  if (auto ok = core_.exchanges->load(); !ok) return ok;
  request.durability = storage::Durability::kSynced;
  // Before anything is served: what a client does now must be told apart from what the run before
  // did, also if the first write fails.
  uint64_t failures = core_.store.failures();
  if (auto ok = core_.catalogue->catchUpAtStart(); !ok) return ok;
  auto appended = core_.store.append(std::move(request));
  if (!appended) return std::unexpected(appended.error());
  auto durable = core_.store.waitDurable(appended->position, failures);
  return durable ? core_.transactions->abortOrphans() : durable;
}

void RouterImpl::start() {
  for (const auto& worker : core_.workers) {
    worker->post([this, &worker = *worker] {
      core_.sessions->start(worker);
      core_.groups->start(worker);
      if (worker.index == 0) core_.shares->prune();
      if (worker.index == 0) core_.feed->start(worker);
      if (worker.index == 0) core_.transactions->start(worker);
      if (worker.index == 0) core_.delayed->start(worker);
    });
  }
}

void RouterImpl::stop(std::move_only_function<void()> stopped) {
  core_.stopping.store(true);
  core_.logins->stop();
  struct Gather {
    std::atomic<size_t> left;
    std::move_only_function<void()> stopped;
  };
  auto gather = std::make_shared<Gather>();
  gather->left = core_.workers.size();
  gather->stopped = std::move(stopped);
  for (const auto& worker : core_.workers) {
    worker->post([this, gather, &worker = *worker] {
      core_.sessions->stop(worker);
      core_.groups->stop(worker);
      core_.queues->stop(worker);
      if (worker.index == 0) core_.transactions->stop(worker);
      if (worker.index == 0) core_.delayed->stop();
      if (worker.index == 0) core_.catalogue->stop();
      if (worker.index == 0) core_.feed->stop(worker);
      worker.owedTimer = nullptr;
      if (--gather->left == 0) gather->stopped();
    });
  }
}

void RouterImpl::deleteTopic(const PrincipalRef& principal, const std::string& name,
                             Done<Result<>> done) {
  if (auto ok = permitted(principal, Operation::kDelete, name); !ok) {
    return refuse(std::move(done), ok.error());
  }
  core_.catalogue->remove(
      core_.here(), name, [this, done = std::move(done)](Result<TopicRef> topic) mutable {
        if (!topic) return done(std::unexpected(topic.error()));
        std::vector<storage::StateChange> bindings;
        core_.exchanges->dropStream(**topic, bindings);
        if (!bindings.empty()) {
          core_.appendEventually(core_.here(), std::move(bindings), core_.exchanges->whatIsDue());
        }
        core_.groups->topicDeleted((*topic)->name,
                                   [done = std::move(done)]() mutable { done({}); });
      });
}

}  // namespace

Result<std::unique_ptr<Router>> makeRouter(storage::LogStore& store,
                                           std::span<Dispatcher* const> workers, Clock& clock,
                                           Random& random, RouterOptions options) {
  if (workers.empty()) return fail(ErrorKind::kInvalid, "a router needs a worker");
  auto router = std::make_unique<RouterImpl>(store, workers, clock, random, std::move(options));
  if (Result<> loaded = router->load(); !loaded) return std::unexpected(loaded.error());
  return router;
}

}  // namespace polylog::router
