// The router: implements Broker over the log store. Topic catalogue, subscription trie, sessions
// with their inboxes, retained records, consumer groups, producers.
//
// Threads. Built on one thread (makeRouter reads the store's state view), started once the
// dispatchers exist, then used as Broker's header says: every call on a worker's thread. A session
// belongs to one worker (where its connection is), a group to one worker (by its name's hash), the
// routing of Kafka's batches to worker 0; others reach them through Dispatcher::post(). Publishing
// goes from the calling worker straight to the store's sequencer.
//
// Life: makeRouter(), start(), ..., stop() while the dispatchers' loops still run (connections have
// been closed before), then LogStore::shutDown(), then the loops end, then the router is destroyed,
// then dispatchers and store. The store's sinks are the router's, so shutDown() comes before ~Router.
//
// Locks. No lock is held while a callback of anybody else's runs. Where two are held, it is in this
// order; those on one line are never held together:
//   0. TransactionCoordinator's map, then a transaction's lock (held over append());
//      ShareTable's lock                               (held over declaring a queue)
//   1. Catalogue's and QueueRegistry's creation locks   (held over append())
//   2. ExchangeTable's lock, DelayedStore's lock        (held over append())
//   3. IdAllocator's lock, RetainedStore's lock, SessionRegistry's of names (held over append())
//      an inbox's counts                                (held over what the store says of it)
//   4. the log store's own
//   Not held with any of the others, nor over append(): AccessStore's, LoginService's, Authorizer's,
//      ExclusiveTable's, BridgeTable's, Flapping's, ClientRegistry's and then BanList's, QuotaStore's,
//      ClientMetricsStore's, TopicDefaultsStore's, TokenRights', LoginThrottle's, SlowSubscribers'
//   5. Catalogue's map, QueueRegistry's map, SubscriptionTrie's, AddressTags', SessionRegistry's
//   map,
//      FeedRouter's queue; ReplayTable's
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/scram.h"
#include "core/event/dispatcher.h"
#include "core/model/access.h"
#include "core/model/authentication.h"
#include "core/model/bridge.h"
#include "core/model/broker.h"
#include "core/model/client.h"
#include "core/model/client_metrics.h"
#include "core/model/quotas.h"
#include "core/model/share_group.h"
#include "core/model/topic_defaults.h"
#include "router/flapping.h"
#include "storage/log_store.h"

namespace polylog::router {

/// Which member of a shared subscription gets a record. A sticky or hashed choice is kept to: while
/// that member has no room, what comes behind waits.
enum class SharedDispatch : uint8_t {
  kRoundRobin,
  kRandom,
  kSticky,      ///< one gets all, as long as it is there
  kHashClient,  ///< by the publisher's client id
  kHashTopic,   ///< by the address as published
  kLeastInFlight,
};

struct RouterOptions {
  // ---- topics
  bool autoCreateTopics = true;
  int32_t defaultPartitions = 1;
  /// Of topics made by an MQTT or AMQP publish: 7 days or 1 GiB, whichever is less.
  TopicConfig defaultsMqtt = retention(604'800'000, int64_t{1} << 30);
  /// Of topics made by Kafka clients.
  TopicConfig defaultsKafka = retention(604'800'000, -1);
  /// Topics made by MQTT or AMQP publishes; further names go to the topic `mqtt`.
  size_t maxTopicsByDevices = 10'000;
  size_t maxTopics = 200'000;
  int32_t maxPartitionsPerTopic = 10'000;

  // ---- records
  int64_t maxMessageBytes = 16 << 20;
  /// What a batch may decompress to when it is opened for routing or delivery.
  size_t maxDecodedBytes = 64U << 20;

  // ---- sessions
  size_t maxSubscriptionsPerSession = 100'000;
  /// What waits in an inbox: deliveries, octets of the log that they take, and how old they may
  /// become. What is beyond it is dropped, counted. 0 = any octets, any age.
  int64_t inboxRecords = 100'000;
  int64_t inboxBytes = 0;
  int64_t inboxMillis = 0;
  /// What is beyond the records or octets: what comes, instead of the oldest of what waits.
  bool inboxDropsNew = false;
  /// Exactly-once deliveries that may be with one client, over all listeners and bridges.
  int64_t maxInflight = 1024;
  /// Live deliveries that wait for one session; beyond it new ones are dropped, counted.
  size_t liveRecords = 100'000;
  /// Octets of live records held in memory for one session; beyond it those that can be read again
  /// wait as references, others are dropped, counted.
  size_t liveBytes = 16U << 20;
  /// Live deliveries on their way to one other worker; beyond it new ones are dropped, counted.
  int64_t crossingRecords = 500'000;
  int64_t crossingBytes = 64 << 20;

  SharedDispatch sharedDispatch = SharedDispatch::kRoundRobin;

  /// Keeps Sparkplug's birth certificates (sparkplug.h).
  bool sparkplug = true;

  /// Publishes that wait for their time; each takes some 20 octets of memory.
  size_t maxDelayed = 1'000'000;

  // ---- routing of produced batches
  size_t routingBacklogBatches = 20'000;
  size_t routingBacklogBytes = 64U << 20;
  int64_t routedPositionMillis = 1000;

  // ---- groups
  /// How long the first member of an empty group waits for others to join. Kafka's default is 3 s;
  /// short here, since a rebalance more costs less than a start that is slow for everybody.
  int64_t initialRebalanceMillis = 200;
  int32_t minSessionTimeoutMillis = 1;
  int32_t maxSessionTimeoutMillis = 1'800'000;
  size_t maxGroups = 100'000;  ///< a worker
  size_t maxGroupMembers = 10'000;
  GroupDefaults groupDefaults;  ///< its number of members is maxGroupMembers
  /// How consumers write what groups have to read (mapping/kafka_consumer.h). Its functions are
  /// needed for groups whose partitions the broker assigns.
  ConsumerFormat consumerFormat;
  size_t maxOffsetMetadataBytes = 4096;
  /// An empty group and its offsets are forgotten after this.
  int64_t offsetsRetentionMillis = 604'800'000;

  /// The address under which a record of another protocol, stored under (topic, key), is matched
  /// and delivered, where the user's rules say so (mapping's Rules::addressOf). May be null:
  /// (topic, key) itself. Called on any worker; views into the input or `scratch`.
  std::function<Address(BytesView topic, const std::optional<BytesView>& key, std::string& scratch)>
      addressOf;
  /// Topics that the rules store other addresses in.
  std::vector<std::string> ruleTopics;

  // ---- transactions
  size_t maxTransactionalIds = 100'000;
  /// An id that nobody has used for so long is forgotten.
  int64_t transactionalIdExpiryMillis = 604'800'000;

  // ---- exchanges and queues
  size_t maxQueues = 1'000'000;
  size_t maxExchanges = 100'000;
  size_t maxBindings = 2'000'000;
  /// amq.topic's routing keys and binding keys are addresses and filters in AMQP's spelling
  /// (mapping/amqp.h). Null: nothing can be bound to amq.topic.
  std::function<Result<TopicFilter>(BytesView bindingKey)> filterOf;
  std::function<bool(const Address& address, std::string& out)> routingKeyOf;

  // ---- users and rules
  struct AccessOptions {
    bool denyByDefault = false;           ///< what no rule is about
    std::vector<std::string> superusers;  ///< whom no rule binds
    /// There may be users whom the store doesn't know (client certificates, tokens): whose session
    /// it is must not be forgotten for that.
    bool usersElsewhere = false;
    std::shared_ptr<TokenVerifier> tokens;      ///< null: no tokens are taken
    std::shared_ptr<PasswordSource> passwords;  ///< null: the store has all that there are
    std::shared_ptr<LoginHook> hook;  ///< asked about users not in the store; null: nobody is
    size_t maxUsers = 100'000;
    size_t maxRules = 20'000;
    /// Of new passwords. RFC 7677's least: each login of a user costs the broker as much once a
    /// run.
    uint32_t iterations = scram::kMinIterations;
    /// That check passwords, made when first needed. 0 = the workers' own, for tests.
    size_t threads = 0;
  };
  AccessOptions access;
  Flapping::Options flapping{};
  /// Subscribers for whom a record waits longer are listed as slow; 0 = none are.
  int64_t slowSubscriberMillis = 500;

  static TopicConfig retention(int64_t millis, int64_t bytes) {
    TopicConfig config;
    config.retentionMs = millis;
    config.retentionBytes = bytes;
    return config;
  }
};

class Router : public Broker {
 public:
  /// Makes timers and takes up what was not routed before the last end. Once, from any thread.
  virtual void start() = 0;
  /// Journals what was kept back (acknowledgements, the routed position) and cancels every timer.
  /// `stopped` runs on a worker's thread when all workers are through.
  virtual void stop(std::move_only_function<void()> stopped) = 0;
  virtual Authenticator& authenticator() = 0;
  virtual AccessControl& access() = 0;
  virtual Clients& clients() = 0;
  virtual QuotaControl& quotas() = 0;
  virtual BridgeStore& bridges() = 0;
  virtual ClientMetricsControl& clientMetrics() = 0;
  virtual DynamicDefaults& dynamicDefaults() = 0;
  virtual ShareGroups& shareGroups() = 0;
};

/// Loads the router's state from the store. `workers` (at least one) need not run yet; they, the
/// store, the clock and `random` outlive the router. kCorrupt when a state entry can't be read.
Result<std::unique_ptr<Router>> makeRouter(storage::LogStore& store,
                                           std::span<Dispatcher* const> workers, Clock& clock,
                                           Random& random, RouterOptions options);

}  // namespace polylog::router
