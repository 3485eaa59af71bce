// Publishes that wait for their time: judged as they will be, and stored until then.
#include <fmt/format.h>

#include <utility>

#include "core/model/record_batch.h"
#include "router/delayed_store.h"
#include "router/publish_call.h"
#include "router/session.h"
#include "router/state_codec.h"

namespace polylog::router {

std::optional<Error> Publisher::delayedRefused(const Call& call, const Publish& in) {
  if (auto denied = whereDenied(call, in)) return notPermitted(*denied);
  if (in.address.topic.starts_with('$')) {
    return Error{ErrorKind::kInvalid, "names that begin with '$' are the broker's own"};
  }
  const auto& value = in.record.value;
  const int64_t most = core_.options.maxMessageBytes;
  if (value && static_cast<int64_t>(value->size()) > most) return tooLarge(call, in, nullptr, most);
  if (core_.delayed->reserve()) return std::nullopt;
  return Error{ErrorKind::kBusy, fmt::format("{} publishes wait for their time, the most allowed "
                                             "(mqtt.delayed.max_records)",
                                             core_.options.maxDelayed)};
}

void Publisher::publishDelayed(Call& call) {
  auto pending = std::make_shared<Pending>();
  pending->outcome = call.outcome;
  pending->worker = &call.worker;
  pending->self = call.self;
  pending->failuresBefore = core_.writeFailures.load();
  storage::AppendRequest request;
  request.durability = call.outcome ? storage::Durability::kSynced : storage::Durability::kUnwaited;
  RecordBatchBuilder builder;
  std::vector<int64_t> due;
  for (size_t i = 0; i < call.records.size(); ++i) {
    const Publish& in = call.records[i];
    const size_t at = call.firstResult + i;
    if (auto refused = delayedRefused(call, in)) {
      if (call.outcome) {
        call.outcome->results[at].error = std::move(*refused);
      } else {
        core_.metrics.refused(call.principal->protocol).add();
      }
      continue;
    }
    const OwnVerdict own = core_.authorizer.ownVerdict(
        call.principal, Operation::kWrite, {ResourceKind::kTopic, in.address.topic, in.address});
    const std::string meta = encodeDelayed(in, *call.principal, own);
    Record record = in.record;
    record.headers.push_back({kDelayedHeader, BytesView(meta)});
    record.timestampMs = call.now;
    builder.add(record);
    due.push_back(in.publishAtMs);
    pending->stored.push_back(at);
    request.admitted |= in.admitted;
    if (call.outcome) call.outcome->results[at].matched = true;  // nobody knows who will
    if (!in.exactlyOnceId || !call.self || !call.self->persistent()) continue;
    request.state.push_back({storage::StateTable::kHeldPublish,
                             heldPublishKey(call.self->inbox(), *in.exactlyOnceId), std::string()});
    pending->heldIds.push_back(*in.exactlyOnceId);
  }
  request.state.insert(request.state.end(), call.with.begin(), call.with.end());
  if (due.empty()) {
    if (!request.state.empty()) (void)core_.store.append(std::move(request));
    if (call.outcome) call.outcome->chunkDone();
    return;
  }
  const size_t count = due.size();
  auto told = [this, pending](const Result<storage::Appended>& result) {
    completed(*pending, result);
  };
  auto appended = core_.delayed->append(call.worker, std::move(request),
                                        SharedBytes::own(builder.finish(Compression::kNone)),
                                        std::move(due), std::move(told));
  if (!appended) {
    core_.delayed->release(count);
    return failChunk(call, appended.error());
  }
  if (!pending->heldIds.empty()) call.self->holdPublishes(pending->heldIds);
}

}  // namespace polylog::router
