#include "router/publisher.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/live_fanout.h"
#include "router/publish_call.h"
#include "router/queue.h"
#include "router/retained_store.h"
#include "router/session.h"

namespace polylog::router {
namespace {

constexpr size_t kChunkRecords = 4096;
/// Topics, queues and inboxes may be deleted between looking and appending: then all is looked up
/// again.
constexpr int kAttempts = 4;
/// Of what is dropped without its publisher being told, lines of the log.
constexpr int64_t kRefusalLogsPerSecond = 1;

}  // namespace

const PrincipalRef& brokerItself() {
  static const PrincipalRef kBroker = std::make_shared<const Principal>(
      Principal{{}, {}, {}, Protocol::kInternal, nullptr, nullptr, true});
  return kBroker;
}

Publisher::Publisher(Core& core)
    : core_(core), matcher_(core), refusalLogs_(kRefusalLogsPerSecond) {
  for (size_t i = 0; i < core.workers.size(); ++i) scratch_.push_back(std::make_unique<Scratch>());
}
Publisher::~Publisher() = default;

void Publisher::publish(const PrincipalRef& principal, const std::shared_ptr<Session>& self,
                        std::span<const Publish> records, Done<std::vector<PublishResult>> done,
                        std::vector<storage::StateChange> with, bool onlyWithRecords) {
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
    const bool delayed = records[from].publishAtMs > 0;
    bool full = at - from >= kChunkRecords || at == records.size() ||
                bytes + sizeOf(records[at].record) > kChunkBytes ||
                delayed != (records[at].publishAtMs > 0);
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
              {},
              {},
              with,
              onlyWithRecords};
    if (delayed) {
      publishDelayed(call);  // counted when it is published
    } else {
      publishChunk(call);
      core_.metrics.recordsIn(principal->protocol).add(static_cast<int64_t>(at - from));
      core_.metrics.bytesIn(principal->protocol).add(static_cast<int64_t>(bytes));
    }
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
    if (!appended) giveRoomBack(call);
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
  call.certificates.clear();
  call.scratch.receivers.clear();
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

/// In inboxes that let in what was not appended after all.
void Publisher::giveRoomBack(Call& call) {
  for (const Receiver& to : call.scratch.receivers) {
    if (!core_.options.inboxDropsNew || to.session == nullptr) continue;
    InboxRoom{to.session->shared_from_this(), to.records, int64_t{to.octets} * to.records, {}}
        .settle(false);
  }
  call.scratch.receivers.clear();
}

// ---------------------------------------------------------------- once sequenced

void Publisher::afterAppend(Call& call, const storage::Appended& appended) {
  Scratch& scratch = call.scratch;
  // Inboxes that are too full lose their oldest.
  const bool dropsNew = core_.options.inboxDropsNew;
  for (size_t i = 0; i < scratch.receivers.size() && i < appended.offsets.size(); ++i) {
    const Receiver& to = scratch.receivers[i];
    if (to.session == nullptr) continue;
    const Offset end = appended.offsets[i] + to.records;
    const int64_t octets = int64_t{to.octets} * to.records;
    if (dropsNew) {
      call.pending->rooms.push_back({to.session->shared_from_this(), to.records, octets, end});
      call.pending->rooms.back().sequenced();
    } else {
      to.session->appended(end, octets);
    }
  }
  deliverLive(call, appended);
  tellCertificates(call);
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
      return match != nullptr &&
             (!match->recipients.empty() || (match->anyShared && !group.stored));
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
    if (!prepared.stored) offerShared(*prepared.match, block, prepared.index);
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

/// To who subscribes to them now. At most once: the retained one is there for everybody else.
void Publisher::tellCertificates(Call& call) {
  for (SharedBytes& kept : call.certificates) {
    call.worker.later([this, kept = std::move(kept)] {
      static const std::shared_ptr<Session> kNobody;
      auto batch = RetainedStore::batchOf(kept);
      auto decoded = batch ? decodeRecordBatch(batch->second, core_.options.maxDecodedBytes)
                           : Result<DecodedBatch>(std::unexpected(batch.error()));
      if (!decoded || decoded->records.empty()) return;
      Publish publish;
      publish.record = decoded->records.front();
      publish.topic = kSparkplugTopic;
      publish.address = {kSparkplugTopic, publish.record.key};
      publish.ephemeral = true;
      publish.record.retain = true;
      this->publish(brokerItself(), kNobody, {&publish, 1}, nullptr);
    });
  }
  call.certificates.clear();
}

/// What is stored nowhere, to shared subscriptions.
void Publisher::offerShared(const MatchResult& match, const RoutedBlockRef& block, size_t index) {
  if (!match.anyShared) return;
  for (const BoundQueue& bound : match.queues) {
    if (bound.shared) bound.queue->offer({recordOf(block, index)});
  }
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
  // Before anybody is told: who publishes again then finds the room that there is.
  for (const InboxRoom& room : pending.rooms) room.settle(result.has_value());
  pending.rooms.clear();
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
