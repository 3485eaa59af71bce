// The entry that a chunk of publishes becomes: its batches, their targets, and the state beside
// them.
#include <algorithm>
#include <utility>

#include "router/address_tags.h"
#include "router/catalogue.h"
#include "router/publish_call.h"
#include "router/queue.h"
#include "router/retained_store.h"
#include "router/rewrite.h"
#include "router/session.h"
#include "router/sparkplug.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

bool holds(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

}  // namespace

/// Divides the records into batches: by partition. Where inboxes get some of them, only
/// neighbours share a batch, since an inbox takes batches one after the other.
void Publisher::gather(Call& call) {
  Scratch& scratch = call.scratch;
  scratch.groupCount = 0;
  for (Prepared& prepared : scratch.prepared) addRecord(call, prepared, call.anyInbox);
  for (size_t i = 0; i < scratch.groupCount; ++i) {
    Group& group = scratch.groups[i];
    Compression codec = Compression::kNone;
    if (group.topic && group.topic->config.compression) codec = *group.topic->config.compression;
    std::string batch = group.builder.finish(codec);
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
  bool namesPublisher = core_.options.sharedDispatch == SharedDispatch::kHashClient &&
                        prepared.match != nullptr && prepared.match->anyShared;
  if (!prepared.needsHeader && !namesPublisher && ownKey && in.record.timestampMs >= 0 &&
      !ownTime) {
    return group->builder.add(in.record);
  }
  Record& record = scratch.record;
  record.key = prepared.key;
  record.value = in.record.value;
  record.timestampMs = in.record.timestampMs >= 0 && !ownTime ? in.record.timestampMs : call.now;
  record.guarantee = in.record.guarantee;
  record.retain = in.record.retain;
  record.headers.assign(in.record.headers.begin(), in.record.headers.end());
  if (namesPublisher) record.headers.push_back({kPublisherHeader, call.principal->clientId});
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
    request.admitted |= prepared.in->admitted;
    // Inboxes, and what is sent once it is durable, need it even if nobody waits for an answer.
    needsPending |= prepared.guarantee >= DeliveryGuarantee::kAtLeastOnce;
    if (leadsToQueues(prepared)) {
      synced = true;  // queues are read below the high watermark
    } else if (prepared.guarantee >= DeliveryGuarantee::kAtLeastOnce || call.outcome) {
      (prepared.topic->config.flush == FlushPolicy::kSafe ? synced : written) = true;
    }
    if (prepared.in->record.retain || prepared.in->exactlyOnceId) needsPending = true;
    if (isCertificate(*prepared.in)) needsPending = true;
    if (prepared.in->exactlyOnceId) synced = true;
  }
  request.durability = synced    ? storage::Durability::kSynced
                       : written ? storage::Durability::kWritten
                                 : storage::Durability::kUnwaited;
  if (!call.onlyWithRecords || !scratch.prepared.empty()) {
    request.state.assign(call.with.begin(), call.with.end());
  }
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
  for (size_t i = 0; i < scratch.groupCount; ++i) {
    Group& group = scratch.groups[i];
    if (!group.stored) continue;
    storage::MessagesPart& part = request.messages.emplace_back();
    part.batch = group.batch;
    group.firstTarget = scratch.receivers.size();
    scratch.latest.clear();
    if (group.topic) {
      part.targets.push_back({group.partition, 0, 0, originAttribute(call.principal->protocol)});
      scratch.receivers.push_back({});
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
                    (prepared.match == nullptr ||
                     // Where inboxes say to each what they let in, each has targets of its own.
                     (!prepared.match->severalIds &&
                      !(core_.options.inboxDropsNew && prepared.match->anyInbox)));
      before = &prepared;
      if (goesOn) {
        for (size_t t = runFrom; t < part.targets.size(); ++t) {
          ++part.targets[t].count;
          ++scratch.receivers[group.firstTarget + t].records;
        }
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
    call.scratch.receivers.push_back({});
  };
  std::span<const std::shared_ptr<Queue>> routed;
  if (prepared.route) routed = prepared.route->queues;
  for (const auto& queue : routed) add(queue->partition(), 0);
  if (prepared.match == nullptr) return {};
  Protocol origin = call.principal->protocol;
  for (BoundQueue& bound : prepared.match->queues) {
    if (prepared.onlySubscribers && !bound.shared) continue;
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
  part.targets.push_back({partition, prepared.index, 1, originAttribute(call.principal->protocol)});
  call.scratch.receivers.push_back({});
}

Result<> Publisher::addInboxTargets(Call& call, Prepared& prepared, storage::AppendRequest& request,
                                    storage::MessagesPart& part) {
  if (prepared.match == nullptr || !prepared.match->anyInbox ||
      prepared.guarantee < DeliveryGuarantee::kAtLeastOnce) {
    return {};
  }
  Protocol origin = call.principal->protocol;
  const size_t records = call.scratch.groups[prepared.group].members.size();
  const auto octets = static_cast<uint32_t>((part.batch.size() + records - 1) / records);
  auto add = [&](Session& session, uint32_t attributes) {
    Scratch& scratch = call.scratch;
    if (core_.options.inboxDropsNew) {
      if (!session.admits(octets)) return;
      auto [at, isNew] = scratch.latest.try_emplace(&session, part.targets.size());
      if (!isNew) {
        storage::Target& before = part.targets[at->second];
        if (before.attributes == attributes &&
            before.firstRecord + before.count == prepared.index) {
          ++before.count;
          ++scratch.receivers[scratch.groups[prepared.group].firstTarget + at->second].records;
          return;
        }
        at->second = part.targets.size();
      }
    }
    part.targets.push_back({session.inbox(), prepared.index, 1, attributes});
    scratch.receivers.push_back({&session, 1, octets});
  };
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
        tagged.tags.push_back(*tag);
        add(*known.session,
            inboxAttributes(granted, prepared.in->record.retain && recipient->retainAsPublished,
                            *tag));
      }
      // Remembered only once they need no journal entry any more.
      if (call.pending->freshTags.size() != freshBefore) tagged.tags.clear();
      tagged.tagsOrigin = origin;
      continue;
    }
    for (uint32_t tag : tagged.tags) {
      add(*known.session,
          inboxAttributes(granted, prepared.in->record.retain && recipient->retainAsPublished,
                          tag));
    }
  }
  return {};
}

bool Publisher::isCertificate(const Publish& in) const {
  return core_.options.sparkplug && !in.route && isBirth(in.address);
}

/// Retained in the birth's own entry; those who are there get it as it comes. One without a payload
/// takes away what was kept, as of any retained message.
void Publisher::keepCertificate(Call& call, const Publish& in, storage::AppendRequest& request) {
  std::string key(kCertificates);
  appendAddressText(in.address, key);
  const std::string address = std::string(kSparkplugTopic) + "/" + key;
  if (!in.record.value || in.record.value->empty()) {
    request.state.push_back({storage::StateTable::kRetained, address, std::nullopt});
    call.retained.emplace_back(address, std::nullopt);
    call.pending->retained.emplace_back(address, SharedBytes());
    return;
  }
  Record record = in.record;
  record.key = BytesView(key);
  record.retain = true;
  if (record.timestampMs < 0) record.timestampMs = call.now;
  std::string value = RetainedStore::encode(call.principal->protocol, record);
  request.state.push_back({storage::StateTable::kRetained, address, value});
  SharedBytes shared = SharedBytes::own(std::move(value));
  call.retained.emplace_back(address, shared);
  call.pending->retained.emplace_back(address, shared);
  call.certificates.push_back(shared);
}

void Publisher::addRetained(Call& call, storage::AppendRequest& request) {
  for (const Prepared& prepared : call.scratch.prepared) {
    const Publish& in = *prepared.in;
    if (!in.ephemeral && isCertificate(in)) keepCertificate(call, in, request);
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

}  // namespace polylog::router
