// What the parts of publishing hand one another: publisher.cc (the call, and what follows its
// commit), publish_routing.cc (what goes where), publish_entry.cc (the journal's entry),
// publish_delayed.cc (what waits for its time). For those alone.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <unordered_map>
#include <vector>

#include "router/exchange_table.h"
#include "router/publisher.h"
#include "router/routed_block.h"
#include "router/session.h"

namespace polylog::router {

/// What goes into one batch, and about what into one entry, at most (a single record may be
/// larger).
inline constexpr size_t kChunkBytes = 4U << 20;

inline bool sameText(const std::optional<BytesView>& a, const std::optional<BytesView>& b) {
  return a.has_value() == b.has_value() && (!a || *a == *b);
}

/// What the caller is told, once every chunk of its call is through.
struct Publisher::Outcome {
  Worker* worker = nullptr;
  std::vector<PublishResult> results;
  Done<std::vector<PublishResult>> done;
  size_t chunks = 0;
  void chunkDone() {
    if (--chunks == 0) done(std::move(results));
  }
};

/// A chunk on its way to the disk.
struct Publisher::Pending {
  std::shared_ptr<Outcome> outcome;
  std::vector<size_t> stored;  ///< results that hang on it
  struct Late {
    std::shared_ptr<Session> session;
    LiveItem item;
  };
  Worker* worker = nullptr;
  std::vector<Late> late;  ///< exactly-once deliveries: after the commit
  std::vector<InboxRoom> rooms;  ///< where inboxes drop new ones
  std::vector<std::pair<std::string, SharedBytes>> retained;
  std::shared_ptr<Session> self;
  std::vector<uint16_t> heldIds;
  std::vector<uint32_t> freshTags;
  uint64_t failuresBefore = 0;
};

/// A record's way to one topic, or to queues only. A publish to an exchange may have several.
struct Publisher::Prepared {
  const Publish* in = nullptr;
  size_t result = 0;
  TopicRef topic;  ///< null: ephemeral, or only for queues
  PartitionId partition;
  Address address;               ///< what it is matched against; none if only for queues
  std::optional<BytesView> key;  ///< under which it is stored
  MatchResult* match = nullptr;  ///< null if only for queues
  RouteImplRef route;            ///< with the queues and streams that its exchange leads to
  bool stored = false;
  DeliveryGuarantee guarantee = DeliveryGuarantee::kAtMostOnce;
  bool overflowed = false;
  bool needsHeader = false;
  bool onlySubscribers = false;  ///< not to the queues of its match
  uint32_t group = 0;
  uint32_t index = 0;  ///< in the group
};

/// One batch to be.
struct Publisher::Group {
  TopicRef topic;  ///< null: ephemeral, or only for queues
  PartitionId partition;
  bool stored = false;
  size_t firstTarget = 0;  ///< in the request
  RecordBatchBuilder builder;
  SharedBytes batch;
  RoutedBlockRef block;
  bool unreadable = false;
  std::shared_ptr<const std::string> addressTopic;
  std::vector<uint32_t> members;  ///< of Scratch::prepared
};

/// Whose inbox a target is, and what it takes of it.
struct Publisher::Receiver {
  Session* session = nullptr;  ///< null: it is no inbox
  uint32_t records = 1;
  uint32_t octets = 0;  ///< of each record
};

struct Publisher::Scratch {
  std::vector<Prepared> prepared;
  std::vector<Group> groups;
  size_t groupCount = 0;
  std::string text;
  Record record;
  std::vector<Receiver> receivers;  ///< of each target of the request
  /// Where inboxes let records in one by one: the latest target of each in the part that is built.
  std::unordered_map<const Session*, size_t> latest;
  Recipient narrowed;
  std::shared_ptr<const std::string> lastTopic;
};

/// One chunk of one call.
struct Publisher::Call {
  Worker& worker;
  Scratch& scratch;
  const PrincipalRef& principal;
  const std::shared_ptr<Session>& self;
  std::span<const Publish> records;
  size_t firstResult;
  std::shared_ptr<Outcome> outcome;
  std::shared_ptr<Pending> pending;
  bool anyInbox = false;  ///< or queue: it takes batches one after the other
  bool anyStored = false;
  int64_t now = 0;
  bool routeAgain = false;
  std::vector<std::pair<std::string, std::optional<SharedBytes>>> retained;
  std::vector<SharedBytes> certificates;  ///< of `retained`, those that are Sparkplug's
  std::span<const storage::StateChange> with;  ///< of the entry, too
  bool onlyWithRecords;                        ///< if it has records
};

}  // namespace polylog::router
