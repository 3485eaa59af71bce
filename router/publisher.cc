#include "router/publisher.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/catalogue.h"
#include "router/exchange_table.h"
#include "router/live_fanout.h"
#include "router/queue.h"
#include "router/retained_store.h"
#include "router/rewrite.h"
#include "router/session.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

/// What goes into one entry at most (a single record may be larger).
constexpr size_t kChunkBytes = 4U << 20;
constexpr size_t kChunkRecords = 4096;
/// Topics and inboxes may be deleted between looking and appending: then all is looked up again.
constexpr int kAttempts = 4;

DeliveryGuarantee effectiveGuarantee(DeliveryGuarantee published) {
  return published == DeliveryGuarantee::kUnspecified ? DeliveryGuarantee::kAtLeastOnce : published;
}

bool holds(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool sameText(const std::optional<BytesView>& a, const std::optional<BytesView>& b) {
  return a.has_value() == b.has_value() && (!a || *a == *b);
}

}  // namespace

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

struct Publisher::Scratch {
  std::vector<Prepared> prepared;
  std::vector<Group> groups;
  size_t groupCount = 0;
  std::string text;
  Record record;
  std::vector<Session*> targetSessions;  ///< of each target of the request, null for the others
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
};

Publisher::Publisher(Core& core) : core_(core), matcher_(core) {
  for (size_t i = 0; i < core.workers.size(); ++i) scratch_.push_back(std::make_unique<Scratch>());
}
Publisher::~Publisher() = default;

void Publisher::publish(const PrincipalRef& principal, const std::shared_ptr<Session>& self,
                        std::span<const Publish> records, Done<std::vector<PublishResult>> done) {
  Worker& worker = core_.here();
  std::shared_ptr<Outcome> outcome;
  if (done) {
    outcome = std::make_shared<Outcome>();
    outcome->worker = &worker;
    outcome->results.resize(records.size());
    outcome->done = std::move(done);
    outcome->chunks = 1;
  }
  size_t bytes = 0;
  for (size_t from = 0, at = 0; at < records.size();) {
    bytes += sizeOf(records[at].record);
    ++at;
    bool full = at - from >= kChunkRecords || at == records.size() ||
                bytes + sizeOf(records[at].record) > kChunkBytes;
    if (!full) continue;
    if (outcome) ++outcome->chunks;
    Call call{worker,
              *scratch_[worker.index],
              principal,
              self,
              records.subspan(from, at - from),
              from,
              outcome,
              nullptr,
              false,
              false,
              core_.clock.wallMillis(),
              false,
              {}};
    publishChunk(call);
    core_.metrics.recordsIn(principal->protocol).add(static_cast<int64_t>(at - from));
    core_.metrics.bytesIn(principal->protocol).add(static_cast<int64_t>(bytes));
    from = at;
    bytes = 0;
  }
  if (outcome) worker.later([outcome] { outcome->chunkDone(); });
}

void Publisher::publishChunk(Call& call) {
  Result<storage::Appended> appended;
  for (int i = 0; i < kAttempts; ++i) {
    call.routeAgain = i > 0;  // a queue in the route may be gone
    appended = attempt(call);
    if (appended || appended.error().kind != ErrorKind::kNotFound) break;
  }
  if (appended) {
    afterAppend(call, *appended);
  } else {
    failChunk(call, appended.error());
  }
  for (Prepared& one : call.scratch.prepared) {
    one.topic = nullptr;
    one.route = nullptr;
  }
  for (size_t i = 0; i < call.scratch.groupCount; ++i) {
    Group& group = call.scratch.groups[i];
    group.topic = nullptr;
    group.batch = {};
    group.block = nullptr;
    group.addressTopic = nullptr;
  }
}

Result<storage::Appended> Publisher::attempt(Call& call) {
  call.pending = nullptr;
  call.retained.clear();
  prepare(call);
  gather(call);
  storage::AppendRequest request;
  if (Result<> built = buildRequest(call, request); !built) return std::unexpected(built.error());
  if (request.messages.empty() && request.state.empty()) return storage::Appended{};
  if (call.retained.empty()) return core_.store.append(std::move(request));
  // Retained state in memory must follow the journal's order.
  RetainedStore::Change change(*core_.retained);
  Result<storage::Appended> appended = core_.store.append(std::move(request));
  if (!appended) return appended;
  for (auto& [address, value] : call.retained) change.apply(address, value);
  return appended;
}

// ---------------------------------------------------------------- what goes where

void Publisher::prepare(Call& call) {
  Scratch& scratch = call.scratch;
  scratch.prepared.clear();
  call.anyInbox = call.anyStored = false;
  matcher_.begin(call.worker);
  for (size_t i = 0; i < call.records.size(); ++i) {
    const Publish& in = call.records[i];
    // What an attempt before found need not be there any more.
    if (call.outcome) call.outcome->results[call.firstResult + i] = {};
    if (in.route) {
      prepareRouted(call, i);
      continue;
    }
    Prepared& prepared = scratch.prepared.emplace_back();
    if (prepareOne(call, i, prepared)) {
      settlePrepared(call, prepared);
    } else {
      scratch.prepared.pop_back();
    }
  }
}

bool Publisher::leadsToQueues(const Prepared& prepared) {
  if (!prepared.stored) return false;
  if (prepared.route && !prepared.route->queues.empty()) return true;
  return prepared.match != nullptr && !prepared.onlySubscribers && !prepared.match->queues.empty();
}

/// What the whole call has to know of it.
void Publisher::settlePrepared(Call& call, Prepared& prepared) {
  const MatchResult* match = prepared.match;
  bool toQueues = leadsToQueues(prepared);
  if (call.outcome) {
    bool toStreams =
        prepared.onlySubscribers || (prepared.route && !prepared.route->streams.empty());
    bool subscribed = !prepared.in->route && match != nullptr && !match->recipients.empty();
    if (toQueues || toStreams || subscribed) call.outcome->results[prepared.result].matched = true;
  }
  if (!prepared.stored) return;
  call.anyStored = true;
  if (toQueues) call.anyInbox = true;
  if (match != nullptr && match->anyInbox &&
      prepared.guarantee >= DeliveryGuarantee::kAtLeastOnce) {
    call.anyInbox = true;
  }
}

/// A publish to an exchange: to the queues that it leads to, to the topic of its address if it
/// reaches amq.topic, and to each stream. What a binding led to is matched against subscriptions,
/// but not against bindings again.
void Publisher::prepareRouted(Call& call, size_t index) {
  Scratch& scratch = call.scratch;
  const Publish& in = call.records[index];
  const Prepared* before = scratch.prepared.empty() ? nullptr : &scratch.prepared.back();
  RouteImplRef route;
  if (call.routeAgain) {
    // One of a burst has mostly the route of the one before.
    bool same = before != nullptr && before->in->route == in.route && before->route;
    route = same ? before->route
                 : core_.exchanges->routeAgain(static_cast<const RouteImpl&>(*in.route));
  } else {
    route = std::static_pointer_cast<const RouteImpl>(in.route);
  }
  size_t first = scratch.prepared.size();
  std::string_view own;
  if (route->amqTopic) {
    Prepared& prepared = scratch.prepared.emplace_back();
    if (!prepareOne(call, index, prepared)) {
      scratch.prepared.pop_back();
      return;
    }
    if (prepared.topic) own = prepared.topic->name;
  }
  for (const std::string& stream : route->streams) {
    if (stream == own) continue;
    Prepared& prepared = scratch.prepared.emplace_back();
    if (!prepareStream(call, index, stream, prepared)) scratch.prepared.pop_back();
  }
  // One that is stored takes the queues along.
  auto carrier = std::find_if(scratch.prepared.begin() + static_cast<std::ptrdiff_t>(first),
                              scratch.prepared.end(), [](const Prepared& p) { return p.stored; });
  if (carrier != scratch.prepared.end()) {
    carrier->route = route;
  } else if (!route->queues.empty()) {
    Prepared& prepared = scratch.prepared.emplace_back();
    prepared.in = &in;
    prepared.result = call.firstResult + index;
    prepared.guarantee = DeliveryGuarantee::kAtLeastOnce;
    prepared.key = in.record.key;
    prepared.stored = true;
    prepared.route = route;
    if (!fitsLimit(call, prepared, core_.options.maxMessageBytes)) scratch.prepared.pop_back();
  }
  for (size_t i = first; i < scratch.prepared.size(); ++i) {
    settlePrepared(call, scratch.prepared[i]);
  }
}

bool Publisher::refuse(Call& call, const Prepared& prepared, Error error) {
  if (call.outcome) call.outcome->results[prepared.result].error = std::move(error);
  return false;
}

bool Publisher::fitsLimit(Call& call, const Prepared& prepared, int64_t limit) {
  if (static_cast<int64_t>(sizeOf(prepared.in->record)) <= limit) return true;
  return refuse(call, prepared,
                {ErrorKind::kTooLarge, "a record larger than " + std::to_string(limit) +
                                           " octets (limits.max_message_bytes)"});
}

/// A stream that a binding led to: its topic, under the key that the codec gave for it.
bool Publisher::prepareStream(Call& call, size_t index, const std::string& stream, Prepared& out) {
  const Publish& in = call.records[index];
  out.in = &in;
  out.result = call.firstResult + index;
  out.guarantee = effectiveGuarantee(in.record.guarantee);
  Resource resource{ResourceKind::kTopic, stream};
  if (!core_.authorizer.permits(call.principal, Operation::kWrite, resource)) {
    return refuse(call, out, notPermitted(resource));
  }
  out.topic = core_.catalogue->find(stream);
  if (!out.topic) return false;  // deleted since: the queue that it was is gone
  const std::vector<PartitionId>& partitions = out.topic->partitions;
  out.partition = partitions[in.partitionHash % partitions.size()];
  out.key = in.streamKey;
  out.address = {out.topic->name, in.streamKey};
  MatchResult& match = matcher_.match(call.worker, out.address);
  // Queues bound to amq.topic don't get what a binding put here.
  out.match = &match;
  out.onlySubscribers = true;
  out.stored = true;
  return fitsLimit(call, out, core_.options.maxMessageBytes);
}

bool Publisher::prepareOne(Call& call, size_t index, Prepared& out) {
  const Publish& in = call.records[index];
  Scratch& scratch = call.scratch;
  out.in = &in;
  out.result = call.firstResult + index;
  out.guarantee = effectiveGuarantee(in.record.guarantee);
  out.address = in.address;
  out.key = in.record.key;
  out.stored = !in.ephemeral;
  Resource resource{ResourceKind::kTopic, in.topic};
  if (!core_.authorizer.permits(call.principal, Operation::kWrite, resource)) {
    return refuse(call, out, notPermitted(resource));
  }
  if (in.address.topic.starts_with('$')) {
    return refuse(call, out,
                  {ErrorKind::kInvalid, "names that begin with '$' are the broker's own"});
  }
  // Bursts mostly go to one topic and one address.
  const Prepared* before = scratch.prepared.size() > 1 ? &scratch.prepared.end()[-2] : nullptr;
  if (before != nullptr && (before->onlySubscribers || before->match == nullptr)) before = nullptr;
  if (before != nullptr && before->in->address.topic == in.address.topic &&
      sameText(before->in->address.key, in.address.key)) {
    out.match = before->match;
  } else {
    out.match = &matcher_.match(call.worker, in.address);
  }
  int64_t limit = core_.options.maxMessageBytes;
  if (!in.ephemeral) {
    if (before != nullptr && before->topic && before->in->topic == in.topic) {
      out.topic = before->topic;
      out.overflowed = before->overflowed;
    } else {
      auto topic = core_.catalogue->forPublish(call.worker, in.topic, call.principal->protocol,
                                               out.overflowed);
      if (!topic) return refuse(call, out, topic.error());
      out.topic = std::move(*topic);
    }
    const std::vector<PartitionId>& partitions = out.topic->partitions;
    out.partition = partitions[in.partitionHash % partitions.size()];
    if (out.topic->config.maxBatchBytes >= 0) {
      limit = std::min<int64_t>(limit, out.topic->config.maxBatchBytes);
    }
  }
  if (!fitsLimit(call, out, limit)) return false;
  out.needsHeader =
      out.overflowed || in.address.topic != in.topic || !sameText(in.address.key, in.record.key);
  return true;
}

/// Divides the records into batches: by partition. Where inboxes get some of them, only
/// neighbours share a batch, since an inbox takes batches one after the other.
void Publisher::gather(Call& call) {
  Scratch& scratch = call.scratch;
  scratch.groupCount = 0;
  for (Prepared& prepared : scratch.prepared) addRecord(call, prepared, call.anyInbox);
  for (size_t i = 0; i < scratch.groupCount; ++i) {
    Group& group = scratch.groups[i];
    std::string batch = group.builder.finish();
    if (group.topic && group.topic->config.logAppendTime) stampBatch(batch, call.now);
    group.batch = SharedBytes::own(std::move(batch));
  }
}

void Publisher::addRecord(Call& call, Prepared& prepared, bool keepOrder) {
  Scratch& scratch = call.scratch;
  const Publish& in = *prepared.in;
  Group* group = nullptr;
  // Records in one batch have one address topic, unless a header names theirs.
  auto fits = [&](const Group& there) {
    return there.stored == prepared.stored && there.topic == prepared.topic &&
           there.partition == prepared.partition && there.builder.size() < kChunkBytes &&
           (prepared.needsHeader || *there.addressTopic == prepared.address.topic);
  };
  size_t oldest = keepOrder && scratch.groupCount > 0 ? scratch.groupCount - 1 : 0;
  // Only the last few are looked at: a burst to very many topics must not take quadratic time. (A
  // partition's order holds: what is not found here begins a later batch.)
  constexpr size_t kLookBack = 16;
  if (scratch.groupCount > kLookBack) oldest = std::max(oldest, scratch.groupCount - kLookBack);
  for (size_t i = scratch.groupCount; i-- > oldest;) {
    if (fits(scratch.groups[i])) {
      group = &scratch.groups[i];
      break;
    }
    // An earlier batch of this partition is as far as one may go back.
    if (scratch.groups[i].topic == prepared.topic &&
        scratch.groups[i].partition == prepared.partition) {
      break;
    }
  }
  if (group == nullptr) {
    if (scratch.groupCount == scratch.groups.size()) scratch.groups.emplace_back();
    group = &scratch.groups[scratch.groupCount++];
    group->topic = prepared.topic;
    group->partition = prepared.partition;
    group->stored = prepared.stored;
    group->block = nullptr;
    group->unreadable = false;
    group->members.clear();
    if (prepared.topic && prepared.topic->name == prepared.address.topic) {
      group->addressTopic = {prepared.topic, &prepared.topic->name};
    } else {
      group->addressTopic = std::make_shared<const std::string>(prepared.address.topic);
    }
  }
  prepared.group = static_cast<uint32_t>(group - scratch.groups.data());
  prepared.index = static_cast<uint32_t>(group->builder.count());
  group->members.push_back(static_cast<uint32_t>(&prepared - scratch.prepared.data()));
  bool ownTime = prepared.topic && prepared.topic->config.logAppendTime;
  bool ownKey = sameText(prepared.key, in.record.key);
  if (!prepared.needsHeader && ownKey && in.record.timestampMs >= 0 && !ownTime) {
    return group->builder.add(in.record);
  }
  Record& record = scratch.record;
  record.key = prepared.key;
  record.value = in.record.value;
  record.timestampMs = in.record.timestampMs >= 0 && !ownTime ? in.record.timestampMs : call.now;
  record.guarantee = in.record.guarantee;
  record.retain = in.record.retain;
  record.headers.assign(in.record.headers.begin(), in.record.headers.end());
  if (prepared.needsHeader) {
    scratch.text.clear();
    appendAddressText(in.address, scratch.text);
    bool there = std::any_of(record.headers.begin(), record.headers.end(),
                             [](const Header& header) { return header.name == kAddressHeader; });
    if (!there) record.headers.push_back({kAddressHeader, BytesView(scratch.text)});
    if (prepared.overflowed) record.key = BytesView(scratch.text);
  }
  group->builder.add(record);
}

// ---------------------------------------------------------------- the entry

Result<> Publisher::buildRequest(Call& call, storage::AppendRequest& request) {
  Scratch& scratch = call.scratch;
  bool synced = false;
  bool written = false;
  bool needsPending = call.outcome != nullptr;
  for (const Prepared& prepared : scratch.prepared) {
    if (!prepared.stored) continue;
    if (leadsToQueues(prepared)) {
      synced = true;  // queues are read below the high watermark
    } else if (prepared.guarantee >= DeliveryGuarantee::kAtLeastOnce || call.outcome) {
      (prepared.topic->config.flush == FlushPolicy::kSafe ? synced : written) = true;
      needsPending = true;
    }
    if (prepared.in->record.retain || prepared.in->exactlyOnceId) needsPending = true;
    if (prepared.in->exactlyOnceId) synced = true;
  }
  request.durability = synced    ? storage::Durability::kSynced
                       : written ? storage::Durability::kWritten
                                 : storage::Durability::kUnwaited;
  if (!call.anyStored) return {};
  if (needsPending) begin(call, request);
  if (Result<> added = addTargets(call, request); !added) return added;
  addRetained(call, request);
  if (!call.self || !call.self->persistent()) return {};
  for (const Prepared& prepared : scratch.prepared) {
    if (!prepared.stored || !prepared.in->exactlyOnceId) continue;
    uint16_t id = *prepared.in->exactlyOnceId;
    request.state.push_back(
        {storage::StateTable::kHeldPublish, heldPublishKey(call.self->inbox(), id), std::string()});
    call.pending->heldIds.push_back(id);
  }
  return {};
}

/// Somebody has to hear of the commit.
void Publisher::begin(Call& call, storage::AppendRequest& request) {
  call.pending = std::make_shared<Pending>();
  call.pending->outcome = call.outcome;
  call.pending->worker = &call.worker;
  call.pending->self = call.self;
  call.pending->failuresBefore = core_.writeFailures.load();
  request.sink = &call.worker.sink;
  request.done = [this, pending = call.pending](const Result<storage::Appended>& result) {
    completed(*pending, result);
  };
}

Result<> Publisher::addTargets(Call& call, storage::AppendRequest& request) {
  Scratch& scratch = call.scratch;
  scratch.targetSessions.clear();
  for (size_t i = 0; i < scratch.groupCount; ++i) {
    Group& group = scratch.groups[i];
    if (!group.stored) continue;
    storage::MessagesPart& part = request.messages.emplace_back();
    part.batch = group.batch;
    group.firstTarget = scratch.targetSessions.size();
    if (group.topic) {
      part.targets.push_back({group.partition, 0, 0, 0});
      scratch.targetSessions.push_back(nullptr);
    }
    if (!call.anyInbox) continue;
    const Prepared* before = nullptr;
    size_t runFrom = 0;
    for (uint32_t member : group.members) {
      Prepared& prepared = scratch.prepared[member];
      bool goesOn = before != nullptr && before->match == prepared.match &&
                    before->route == prepared.route &&
                    before->onlySubscribers == prepared.onlySubscribers &&
                    before->guarantee == prepared.guarantee &&
                    before->in->record.retain == prepared.in->record.retain &&
                    (prepared.match == nullptr || !prepared.match->severalIds);
      before = &prepared;
      if (goesOn) {
        for (size_t t = runFrom; t < part.targets.size(); ++t) ++part.targets[t].count;
        continue;
      }
      runFrom = part.targets.size();
      if (Result<> added = addInboxTargets(call, prepared, request, part); !added) return added;
      if (Result<> added = addQueueTargets(call, prepared, request, part); !added) return added;
    }
  }
  return {};
}

/// The queues of a route and of a match are a set: what both lead to gets it once.
Result<> Publisher::addQueueTargets(Call& call, Prepared& prepared, storage::AppendRequest& request,
                                    storage::MessagesPart& part) {
  auto add = [&](PartitionId partition, uint32_t attributes) {
    part.targets.push_back({partition, prepared.index, 1, attributes});
    call.scratch.targetSessions.push_back(nullptr);
  };
  std::span<const std::shared_ptr<Queue>> routed;
  if (prepared.route) routed = prepared.route->queues;
  for (const auto& queue : routed) add(queue->partition(), 0);
  if (prepared.match == nullptr || prepared.onlySubscribers) return {};
  Protocol origin = call.principal->protocol;
  for (BoundQueue& bound : prepared.match->queues) {
    if (!bound.queue) {
      bool there = prepared.route && holds(prepared.route->streams, bound.stream);
      if (!there) addStreamTarget(call, prepared, bound, part);
      continue;
    }
    if (std::find(routed.begin(), routed.end(), bound.queue) != routed.end()) continue;
    if (bound.tag == 0 || bound.tagOrigin != origin) {
      if (!call.pending) begin(call, request);
      size_t freshBefore = call.pending->freshTags.size();
      auto tag = core_.tags->tagFor(prepared.address.topic, 0, origin, request.state,
                                    call.pending->freshTags);
      if (!tag) return std::unexpected(tag.error());
      add(bound.queue->partition(), inboxAttributes(prepared.guarantee, false, *tag));
      // Remembered only once it needs no journal entry any more.
      bool durable = call.pending->freshTags.size() == freshBefore;
      bound.tag = durable ? *tag : 0;
      bound.tagOrigin = origin;
      continue;
    }
    add(bound.queue->partition(), inboxAttributes(prepared.guarantee, false, bound.tag));
  }
  return {};
}

void Publisher::addStreamTarget(Call& call, const Prepared& prepared, const BoundQueue& bound,
                                storage::MessagesPart& part) {
  TopicRef topic = core_.catalogue->find(bound.stream);
  if (!topic || topic == prepared.topic) return;
  PartitionId partition = topic->partitions[prepared.in->partitionHash % topic->partitions.size()];
  part.targets.push_back({partition, prepared.index, 1, 0});
  call.scratch.targetSessions.push_back(nullptr);
}

Result<> Publisher::addInboxTargets(Call& call, Prepared& prepared, storage::AppendRequest& request,
                                    storage::MessagesPart& part) {
  if (prepared.match == nullptr || !prepared.match->anyInbox ||
      prepared.guarantee < DeliveryGuarantee::kAtLeastOnce) {
    return {};
  }
  Protocol origin = call.principal->protocol;
  Recipient narrowed;
  for (Recipient& known : prepared.match->recipients) {
    if (!known.session->persistent()) continue;
    const Recipient* recipient = effective(call, *prepared.match, known, narrowed);
    if (recipient == nullptr) continue;
    DeliveryGuarantee granted = std::min(prepared.guarantee, recipient->guarantee);
    if (granted < DeliveryGuarantee::kAtLeastOnce) continue;
    Recipient& tagged = recipient == &known ? known : narrowed;
    if (tagged.tags.empty() || tagged.tagsOrigin != origin) {
      tagged.tags.clear();
      size_t freshBefore = call.pending->freshTags.size();
      static constexpr uint32_t kNone[] = {0};
      std::span<const uint32_t> ids = tagged.ids;
      if (ids.empty()) ids = kNone;
      for (uint32_t id : ids) {
        auto tag = core_.tags->tagFor(prepared.address.topic, id, origin, request.state,
                                      call.pending->freshTags);
        if (!tag) return std::unexpected(tag.error());
        part.targets.push_back(
            {known.session->inbox(), prepared.index, 1,
             inboxAttributes(granted, prepared.in->record.retain && recipient->retainAsPublished,
                             *tag)});
        call.scratch.targetSessions.push_back(known.session.get());
        tagged.tags.push_back(*tag);
      }
      // Remembered only once they need no journal entry any more.
      if (call.pending->freshTags.size() != freshBefore) tagged.tags.clear();
      tagged.tagsOrigin = origin;
      continue;
    }
    for (uint32_t tag : tagged.tags) {
      part.targets.push_back(
          {known.session->inbox(), prepared.index, 1,
           inboxAttributes(granted, prepared.in->record.retain && recipient->retainAsPublished,
                           tag)});
      call.scratch.targetSessions.push_back(known.session.get());
    }
  }
  return {};
}

void Publisher::addRetained(Call& call, storage::AppendRequest& request) {
  for (const Prepared& prepared : call.scratch.prepared) {
    const Publish& in = *prepared.in;
    if (in.ephemeral || !in.record.retain) continue;
    std::string address;
    appendAddressText(in.address, address);
    bool clears = !in.record.value || in.record.value->empty();
    if (clears) {
      request.state.push_back({storage::StateTable::kRetained, address, std::nullopt});
      call.retained.emplace_back(address, std::nullopt);
      call.pending->retained.emplace_back(std::move(address), SharedBytes());
      continue;
    }
    Record record = in.record;
    record.key = in.address.key;  // whatever a rule stores it under: its address is found by it
    if (record.timestampMs < 0) record.timestampMs = call.now;
    std::string value = RetainedStore::encode(call.principal->protocol, record);
    request.state.push_back({storage::StateTable::kRetained, address, value});
    SharedBytes shared = SharedBytes::own(std::move(value));
    call.retained.emplace_back(address, shared);
    call.pending->retained.emplace_back(std::move(address), std::move(shared));
  }
}

const Recipient* Publisher::effective(const Call& call, const MatchResult& match,
                                      const Recipient& recipient, Recipient& narrowed) const {
  if (!recipient.anyNoLocal || recipient.session != call.self) return &recipient;
  bool any = Matcher::narrow(
      match, recipient, [](const TrieEntry& entry) { return !entry.noLocal; }, narrowed);
  return any ? &narrowed : nullptr;
}

// ---------------------------------------------------------------- once sequenced

void Publisher::afterAppend(Call& call, const storage::Appended& appended) {
  Scratch& scratch = call.scratch;
  // Inboxes that are too full lose their oldest.
  for (size_t i = 0; i < scratch.targetSessions.size() && i < appended.offsets.size(); ++i) {
    if (scratch.targetSessions[i] != nullptr) {
      scratch.targetSessions[i]->checkDepth(appended.offsets[i]);
    }
  }
  deliverLive(call, appended);
  if (!call.pending) {
    if (call.outcome) call.outcome->chunkDone();
    return;
  }
  Pending& pending = *call.pending;
  if (!pending.heldIds.empty()) call.self->holdPublishes(pending.heldIds);
  if (!call.outcome) return;
  for (const Prepared& prepared : scratch.prepared) {
    if (prepared.stored) pending.stored.push_back(prepared.result);
  }
}

void Publisher::deliverLive(Call& call, const storage::Appended& appended) {
  Scratch& scratch = call.scratch;
  // Groups that are stored are the request's messages, in order; targets of each before the next.
  size_t part = 0;
  for (size_t g = 0; g < scratch.groupCount; ++g) {
    Group& group = scratch.groups[g];
    BlockSource source;
    source.topic = group.addressTopic;
    source.origin = call.principal->protocol;
    if (group.stored) {
      source.stored = true;
      source.place = appended.batches[part++];
      source.partition = group.partition;
      source.base = appended.offsets[group.firstTarget];
    }
    bool wanted = std::any_of(group.members.begin(), group.members.end(), [&](uint32_t member) {
      const MatchResult* match = scratch.prepared[member].match;
      return match != nullptr && !match->recipients.empty();
    });
    if (!wanted) continue;
    Result<RoutedBlockRef> block = openBlock(group.batch, std::move(source), core_.options);
    if (!block) {
      logError("a batch of our own can't be read: " + block.error().text);
      continue;
    }
    group.block = std::move(*block);
  }
  for (Prepared& prepared : scratch.prepared) {
    const RoutedBlockRef& block = scratch.groups[prepared.group].block;
    if (!block || prepared.match == nullptr) continue;
    for (const Recipient& known : prepared.match->recipients) {
      if (!known.session->connected()) continue;
      const Recipient* recipient = effective(call, *prepared.match, known, scratch.narrowed);
      if (recipient == nullptr) continue;
      DeliveryGuarantee granted = std::min(prepared.guarantee, recipient->guarantee);
      if (granted >= DeliveryGuarantee::kAtLeastOnce && known.session->persistent()) {
        if (prepared.stored) continue;  // through its inbox
        granted = DeliveryGuarantee::kAtMostOnce;
      }
      LiveItem item;
      item.block = block;
      item.index = prepared.index;
      item.guarantee = granted;
      item.retain = prepared.in->record.retain && recipient->retainAsPublished;
      item.subscriptionIds = recipient->ids;
      if (granted == DeliveryGuarantee::kExactlyOnce && call.pending && prepared.stored) {
        call.pending->late.push_back({known.session, std::move(item)});
      } else {
        core_.fanout->add(call.worker, known.session, std::move(item));
      }
    }
  }
  core_.fanout->flush(call.worker);
}

void Publisher::failChunk(Call& call, const Error& error) {
  if (!call.outcome) {
    core_.metrics.dropped(DropReason::kNotStored).add(static_cast<int64_t>(call.records.size()));
    return;
  }
  for (size_t i = 0; i < call.records.size(); ++i) {
    auto& result = call.outcome->results[call.firstResult + i];
    if (!result.error) result.error = error;
  }
  // publish() itself holds a chunk back, so the caller is not called from inside its call.
  call.outcome->chunkDone();
}

void Publisher::completed(Pending& pending, const Result<storage::Appended>& result) {
  if (result) {
    core_.tags->journaled(pending.freshTags);
    for (Pending::Late& late : pending.late) {
      core_.fanout->add(*pending.worker, late.session, std::move(late.item));
    }
    core_.fanout->flush(*pending.worker);
    for (const auto& [address, value] : pending.retained) core_.retained->settled(address, value);
  } else {
    ++core_.writeFailures;
    if (pending.self && !pending.heldIds.empty()) {
      // The session may have moved to another worker meanwhile.
      pending.self->onHome(
          [self = pending.self, ids = pending.heldIds] { self->unholdPublishes(ids); });
    }
    if (pending.outcome) {
      for (size_t at : pending.stored) pending.outcome->results[at].error = result.error();
    }
  }
  if (core_.writeFailures.load() != pending.failuresBefore) {
    for (const auto& [address, value] : pending.retained) core_.retained->refresh(address);
  }
  pending.late.clear();
  if (pending.outcome) pending.outcome->chunkDone();
}

}  // namespace polylog::router
