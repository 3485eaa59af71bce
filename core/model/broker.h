// The broker as protocol sessions see it: pure interface, implemented by router/. No protocol's
// type passes through it, and no file, position or database.
//
// Threads: every call is made on a worker's thread (Dispatcher::current() is not null) and never
// blocks on the disk's writes. `done` callbacks run exactly once, on the calling worker, never from
// inside the call, unless the broker is shutting down, when they may be dropped.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/base/strong.h"
#include "core/model/delivery.h"
#include "core/model/group.h"
#include "core/model/principal.h"
#include "core/model/queue.h"
#include "core/model/record.h"
#include "core/model/subscriber_session.h"
#include "core/model/topic.h"
#include "core/model/transaction.h"

namespace polylog {

/// One record to be routed. Views need to live only during the call.
struct Publish {
  Address address;  ///< as published: what subscriptions are matched against
  BytesView topic;  ///< where it is stored (the user's rules may differ from the address)
  Record record;    ///< its key as stored; a timestamp of -1 becomes the broker's time
  uint32_t partitionHash = 0;  ///< modulo the number of partitions
  bool ephemeral = false;      ///< routed to live subscribers, never stored
  /// An exactly-once publish's id within the publisher's session: remembered in the same entry.
  std::optional<uint16_t> exactlyOnceId;
  /// Of a publish to an exchange. Unless it reaches amq.topic, address and topic mean nothing.
  RouteRef route;
  /// A record key for streams that bindings lead to (amq.topic has the address's).
  std::optional<BytesView> streamKey;
  /// Its session holds publishes while full() says yes and has let this one in before: it is not
  /// refused for want of space.
  bool admitted = false;
  /// Published by the broker at that time (milliseconds of the wall clock), as if it came then;
  /// answered once it waits durably. 0 = now. Not with a route.
  int64_t publishAtMs = 0;
};

struct PublishResult {
  std::optional<Error> error;
  /// Somebody subscribes; with a route: it led to a queue or stream.
  bool matched = false;
};

/// An idempotent or plain producer's batch for one partition, as it came (magic 2, CRC checked).
struct ProduceBatch {
  std::string topic;
  int32_t partition = 0;
  SharedBytes batch;
  bool waitForDurability = true;  ///< false: acks=0
  std::string transactionalId = {};  ///< of a transactional batch: checked against its transaction
};

struct Produced {
  Offset baseOffset;
  Offset logStart;
  int64_t logAppendTimeMs = -1;  ///< set if the topic uses the broker's time
};

struct FetchedBatch {
  SharedBytes batch;         ///< base offset and epoch not patched
  Offset baseOffset;         ///< what to patch in
  uint32_t firstRecord = 0;  ///< of a batch shared with other partitions; whole batches have 0
  uint32_t count = 0;        ///< offsets that it covers
};

struct Fetched {
  std::vector<FetchedBatch> batches;
  std::vector<AbortedTransaction> aborted;  ///< that touch the batches, by their first offset
  Offset highWatermark;
  Offset lastStable;
  Offset logStart;
};

struct PartitionBounds {
  Offset logStart;
  Offset highWatermark;
  Offset lastStable;
  int64_t bytes = 0;
};

struct TopicSpec {
  std::string name;
  int32_t partitions = -1;            ///< -1 = the broker's default
  /// What is its own counts; the rest follows the defaults of the principal's protocol, now and
  /// later.
  std::optional<TopicConfig> config;
};

struct OffsetAtTime {
  Offset offset;
  int64_t timestampMs = -1;
};

struct SubscriptionInfo {
  std::string filter;
  DeliveryGuarantee guarantee;
};

struct SessionInfo {
  std::string clientId;
  std::string user;
  bool connected = false;
  std::string peer;
  uint32_t expirySeconds = 0;
  int64_t waiting = 0;       ///< deliveries not acknowledged
  int64_t waitingBytes = 0;  ///< of those in the log, roughly
  int64_t inFlight = 0;      ///< of those, with the client
  int64_t dropped = 0;
  std::vector<SubscriptionInfo> subscriptions;
};

/// A shared subscription and how far its members are.
struct SharedGroupInfo {
  struct Member {
    std::string clientId;
    bool connected = false;
  };
  std::string name;      ///< as subscribed to: its identity
  int64_t lag = 0;       ///< routed to it and not acknowledged
  int64_t inFlight = 0;  ///< of those, with members
  std::vector<Member> members;
};

/// What a partition remembers of an idempotent producer.
struct ActiveProducer {
  ProducerIdentity producer;
  int32_t lastSequence = -1;
  int64_t lastMs = -1;  ///< of its last batch, by the broker's clock
  std::optional<Offset> transactionStart;  ///< of its transaction that is open in the partition
};

/// Cancels a wait when destroyed. Only on the thread that began it.
class WaitHandle {
 public:
  virtual ~WaitHandle() = default;
};

class Broker {
 public:
  virtual ~Broker() = default;

  // ---- publishing, routed
  // -------------------------------------------------------------------------

  /// Routes and stores records that arrived together: gathered by partition into few batches, one
  /// journal entry, order kept. Live at-most-once and at-least-once deliveries leave at once.
  /// `session`: the publisher's own, for noLocal and exactlyOnceId (may be null: then neither).
  /// `done` gets one result a record when all are durable; null when nobody is told (at most once).
  virtual void publish(const PrincipalRef& principal, SubscriberSession* session,
                       std::span<const Publish> records, Done<std::vector<PublishResult>> done) = 0;

  // ---- space
  // --------------------------------------------------------------------------------------

  /// Whether publishes are not taken for want of space on the disk (kNoSpace). Everything else goes
  /// on. A session whose client can't be told holds what comes until awaitSpace() wakes it; what it
  /// lets in it marks as admitted.
  virtual bool full() const = 0;
  /// Calls `wake` once, when full() has ended. Only while it says yes. Destroy the handle to stop
  /// waiting.
  virtual std::unique_ptr<WaitHandle> awaitSpace(std::move_only_function<void()> wake) = 0;

  // ---- logs
  // ---------------------------------------------------------------------------------------

  virtual void produce(const PrincipalRef& principal, ProduceBatch batch,
                       Done<Result<Produced>> done) = 0;
  /// What is below the high watermark from `from` on, about `maxBytes` (at least one batch if there
  /// is one). kNotFound, kOutOfRange, kCorrupt, kIo.
  virtual Result<Fetched> fetch(const PrincipalRef& principal, const std::string& topic,
                                int32_t partition, Offset from, size_t maxBytes) = 0;
  struct FetchPoint {
    std::string topic;
    int32_t partition = 0;
    Offset offset;
    bool committed = false;  ///< something below the last stable offset
  };
  /// Calls `wake` once as soon as one of the partitions has something at or after its offset, or is
  /// deleted. Destroy the handle to stop waiting.
  virtual std::unique_ptr<WaitHandle> awaitRecords(const PrincipalRef& principal,
                                                   std::span<const FetchPoint> points,
                                                   std::move_only_function<void()> wake) = 0;
  virtual Result<PartitionBounds> bounds(const PrincipalRef& principal, const std::string& topic,
                                         int32_t partition) = 0;
  /// The first record at or after `timestampMs`; nullopt if there is none.
  virtual Result<std::optional<OffsetAtTime>> offsetAtTime(const PrincipalRef& principal,
                                                           const std::string& topic,
                                                           int32_t partition,
                                                           int64_t timestampMs) = 0;
  virtual Result<std::optional<OffsetAtTime>> offsetOfMaxTimestamp(const PrincipalRef& principal,
                                                                   const std::string& topic,
                                                                   int32_t partition) = 0;
  /// Records below `before` (nothing: all there are) are gone for good. `done` with where the log
  /// starts, when that is durable. kNotFound; kOutOfRange beyond the high watermark.
  virtual void deleteRecords(const PrincipalRef& principal, const std::string& topic,
                             int32_t partition, std::optional<Offset> before,
                             Done<Result<Offset>> done) = 0;
  virtual Result<std::vector<ActiveProducer>> activeProducers(const PrincipalRef& principal,
                                                              const std::string& topic,
                                                              int32_t partition) = 0;

  // ---- catalogue
  // ----------------------------------------------------------------------------------

  virtual TopicRef findTopic(const PrincipalRef& principal, const std::string& name) = 0;
  virtual TopicRef findTopic(const PrincipalRef& principal, const TopicId& id) = 0;
  /// All of them, by name.
  virtual std::vector<TopicRef> topics(const PrincipalRef& principal) = 0;
  /// `done` when durable. kAlreadyExists, kInvalid, kBusy.
  virtual void createTopic(const PrincipalRef& principal, TopicSpec spec,
                           Done<Result<TopicRef>> done) = 0;
  virtual void deleteTopic(const PrincipalRef& principal, const std::string& name,
                           Done<Result<>> done) = 0;
  /// What is in force for a topic made over that protocol where nothing else is asked for.
  virtual TopicConfig topicDefaults(Protocol origin) const = 0;
  /// Applied to a topic's configuration as it stands when its turn comes; an error changes nothing.
  /// What it leaves as not the topic's own follows the defaults, whatever it says there.
  using ConfigChange = std::move_only_function<Result<>(TopicConfig& config)>;
  /// Changes of one topic are made one after the other. `done` when durable. kNotFound, the
  /// change's own errors.
  virtual void alterTopic(const PrincipalRef& principal, const std::string& name,
                          ConfigChange change, Done<Result<TopicRef>> done) = 0;
  /// Gives a topic more partitions, `partitions` in all. `done` when durable. kNotFound, kInvalid.
  virtual void growTopic(const PrincipalRef& principal, const std::string& name, int32_t partitions,
                         Done<Result<TopicRef>> done) = 0;
  /// Whether a topic that is not there may come by itself (configuration `topics.auto_create`).
  virtual bool autoCreateTopics() const = 0;

  // ---- cluster facts
  // ------------------------------------------------------------------------------

  virtual const std::string& clusterId() const = 0;  ///< 22 characters of base64url
  virtual LeaderEpoch leaderEpoch() const = 0;
  /// How much has been journaled durably, in octets: never falls, and rises with every change.
  virtual int64_t journalEnd() const = 0;
  virtual int64_t maxRecordBytes() const = 0;  ///< limits.max_message_bytes

  // ---- subscriber sessions
  // ------------------------------------------------------------------------

  using OpenDone = Done<Result<std::shared_ptr<SubscriberSession>>>;
  /// Opens or resumes the session of options.clientId for the calling worker; a connection that has
  /// it is taken over first. `done` when it is attached (and durable, where it outlives its
  /// connection). The listener must outlive the session's attachment: until detach() or
  /// onTakenOver().
  virtual void openSession(const PrincipalRef& principal, SubscriberOptions options,
                           SubscriberListener* listener, OpenDone done) = 0;
  virtual void listSessions(const PrincipalRef& principal, Done<std::vector<SessionInfo>> done) = 0;
  /// Disconnects its client and forgets the session, subscriptions and inbox included.
  virtual void deleteSession(const PrincipalRef& principal, const std::string& clientId,
                             Done<Result<>> done) = 0;

  /// All shared subscriptions, by name.
  virtual std::vector<SharedGroupInfo> sharedGroups(const PrincipalRef& principal) = 0;

  /// The broker's own values (name below `$SYS/`, text): kept in memory, the latest sent to a
  /// subscription that names `$SYS` when it begins. Those that haven't changed are not sent again.
  /// Always on the same worker.
  virtual void publishSystem(std::vector<std::pair<std::string, std::string>> values) = 0;
  /// Of those the value `broker/connection/NAME/state`: whether the bridge of that name is
  /// connected (1 or 0). On any worker. Who may not write there is not heard, nor anybody else
  /// about this broker's own bridges, nor are the names of more bridges than the broker keeps.
  virtual void publishConnection(const PrincipalRef& principal, const std::string& name,
                                 bool connected) = 0;

  // ---- exchanges and queues
  // -------------------------------------------------------------------------

  virtual std::unique_ptr<QueueClient> openQueueClient(const PrincipalRef& principal) = 0;

  // ---- consumer groups
  // ----------------------------------------------------------------------------

  virtual void joinGroup(const PrincipalRef& principal, GroupJoin join, Done<GroupJoined> done) = 0;
  virtual void syncGroup(const PrincipalRef& principal, GroupSync sync, Done<GroupSynced> done) = 0;
  virtual void heartbeat(const PrincipalRef& principal, GroupHeartbeat beat,
                         Done<Result<>> done) = 0;
  /// One result a member.
  virtual void leaveGroup(const PrincipalRef& principal, GroupLeave leave,
                          Done<Result<std::vector<Result<>>>> done) = 0;
  /// `done` when durable; one result an offset.
  virtual void commitOffsets(const PrincipalRef& principal, GroupCommit commit,
                             Done<Result<std::vector<Result<>>>> done) = 0;
  /// Committed offsets; of all topics when `partitions` is nullopt; offset -1 where there is none.
  /// `reader`: refused (kUnknownMember, kStaleEpoch) unless it is a member at that epoch.
  virtual void fetchOffsets(const PrincipalRef& principal, std::string group,
                            std::optional<GroupReader> reader,
                            std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                            Done<Result<std::vector<GroupOffset>>> done) = 0;
  virtual void listGroups(const PrincipalRef& principal,
                          Done<std::vector<GroupDescription>> done) = 0;
  virtual void describeGroup(const PrincipalRef& principal, std::string group,
                             Done<Result<GroupDescription>> done) = 0;
  /// kGroupNotEmpty while it has members.
  virtual void deleteGroup(const PrincipalRef& principal, std::string group,
                           Done<Result<>> done) = 0;

  /// `done` when durable; one result a partition: kInUse where a member reads the topic.
  /// kNotFound if there is no such group.
  virtual void deleteOffsets(const PrincipalRef& principal, GroupOffsetDeletion deletion,
                             Done<Result<std::vector<Result<>>>> done) = 0;

  // ---- producers
  // ----------------------------------------------------------------------------------

  /// A producer id never given before, epoch 0; or the next epoch of `current` if that is given.
  virtual void initProducer(const PrincipalRef& principal, std::optional<ProducerIdentity> current,
                            Done<Result<ProducerIdentity>> done) = 0;

  // ---- transactions
  // -------------------------------------------------------------------------------
  // `done` when durable. kUnknownProducer (no such id, or not that producer's), kProducerFenced,
  // kConcurrentTransaction (try again), kInvalidTransaction (not in a state for that).

  /// Takes a transactional id up, fencing who had it; a transaction under way is aborted.
  virtual void initTransactions(const PrincipalRef& principal, TransactionInit init,
                                Done<Result<ProducerIdentity>> done) = 0;
  /// Begins a transaction if none is under way; records may be produced to the partitions from here
  /// on. All or none of them: kNotFound if one is not there. In version 2 it waits for a change
  /// that is under way, instead of kConcurrentTransaction; calls from one worker keep their order.
  virtual void addToTransaction(const PrincipalRef& principal, TransactionProducer who,
                                std::vector<std::pair<std::string, int32_t>> partitions,
                                Done<Result<>> done) = 0;
  /// The same for a consumer group, whose offsets may be committed with it.
  virtual void addGroupToTransaction(const PrincipalRef& principal, TransactionProducer who,
                                     std::string group, Done<Result<>> done) = 0;
  /// Offsets that become the group's when the transaction is committed; checked as commitOffsets().
  virtual void commitInTransaction(const PrincipalRef& principal, TransactionProducer who,
                                   GroupCommit commit,
                                   Done<Result<std::vector<Result<>>>> done) = 0;
  /// All of it takes effect at once, or nothing does. `done` with who the producer is from now on:
  /// in version 2 somebody new.
  virtual void endTransaction(const PrincipalRef& principal, TransactionProducer who, bool commit,
                              Done<Result<ProducerIdentity>> done) = 0;
  /// An operator's: aborts the producer's transaction that is open in a partition; one that is
  /// under way is aborted as a whole, and its producer fenced. kInvalidTransaction if there is
  /// none.
  virtual void abortTransaction(const PrincipalRef& principal, const std::string& topic,
                                int32_t partition, ProducerIdentity producer,
                                Done<Result<>> done) = 0;
  virtual std::vector<TransactionDescription> transactions(const PrincipalRef& principal) = 0;
  /// kUnknownProducer.
  virtual Result<TransactionDescription> describeTransaction(const PrincipalRef& principal,
                                                             const std::string& id) = 0;

  // ---- consumer groups whose partitions the broker assigns
  // ------------------------------------------------------------------------------------------------

  /// A member of a group whose partitions the broker assigns joins, lives, changes or leaves; what it
  /// is told is durable. A classic group of consumers becomes such a group with the first that joins.
  virtual void consumerHeartbeat(const PrincipalRef& principal, ConsumerHeartbeat beat,
                                 Done<Result<ConsumerHeartbeatAnswer>> done) = 0;
  /// Whether a topic of that name, which need not exist, may be seen.
  virtual bool mayDescribeTopic(const PrincipalRef& principal, const std::string& topic) const = 0;
  virtual GroupDefaults groupDefaults() const = 0;
  /// What is set for a group, which need not exist.
  virtual void groupConfig(const PrincipalRef& principal, std::string group,
                           Done<Result<GroupConfig>> done) = 0;
  /// Applied to the configuration as it stands then; an error changes nothing.
  using GroupConfigChange = std::move_only_function<Result<>(GroupConfig& config)>;
  /// `done` when durable.
  virtual void alterGroupConfig(const PrincipalRef& principal, std::string group,
                                GroupConfigChange change, Done<Result<>> done) = 0;
  /// Groups for which something is set, by name.
  virtual void configuredGroups(const PrincipalRef& principal,
                                Done<std::vector<std::string>> done) = 0;
};

}  // namespace polylog
