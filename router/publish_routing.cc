// What goes where: a publish's topic, subscribers, queues and streams.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/publish_call.h"
#include "router/queue.h"
#include "router/retained_store.h"
#include "router/session.h"

namespace polylog::router {
namespace {

DeliveryGuarantee effectiveGuarantee(DeliveryGuarantee published) {
  return published == DeliveryGuarantee::kUnspecified ? DeliveryGuarantee::kAtLeastOnce : published;
}

/// For a line of the log: as much as a person reads, and no line ends.
std::string quoted(const Address& address) {
  constexpr size_t kMost = 200;
  std::string text;
  appendAddressText(address, text);
  if (text.size() > kMost) text.replace(kMost, text.npos, "...");
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return text;
}

}  // namespace

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
  if (prepared.match == nullptr) return false;
  return prepared.match->anyShared || (!prepared.onlySubscribers && prepared.match->anyBound);
}

/// What the whole call has to know of it.
void Publisher::settlePrepared(Call& call, Prepared& prepared) {
  const MatchResult* match = prepared.match;
  bool toQueues = leadsToQueues(prepared);
  if (call.outcome) {
    bool toStreams =
        prepared.onlySubscribers || (prepared.route && !prepared.route->streams.empty());
    bool routed = prepared.stored && prepared.route && !prepared.route->queues.empty();
    bool bound =
        prepared.stored && match != nullptr && !prepared.onlySubscribers && match->anyBound;
    bool subscribed =
        !prepared.in->route && match != nullptr && (match->anyShared || !match->recipients.empty());
    if (routed || bound || toStreams || subscribed)
      call.outcome->results[prepared.result].matched = true;
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
  if (call.outcome) {
    call.outcome->results[prepared.result].error = std::move(error);
  } else if (!call.routeAgain) {
    core_.metrics.refused(call.principal->protocol).add();  // else who is told counts it
  }
  return false;
}

/// Counted, and said here where the publisher isn't told. `topic`: whose limit it is, or null.
Error Publisher::tooLarge(const Call& call, const Publish& in, const Topic* topic, int64_t limit) {
  Error error{ErrorKind::kTooLarge,
              fmt::format("a record of {} octets for '{}', {} at most ({})",
                          in.record.value->size(), quoted(in.address), limit,
                          topic == nullptr
                              ? "limits.max_message_bytes"
                              : fmt::format("max.message.bytes of topic '{}'", topic->name))};
  if (call.routeAgain) return error;
  const Principal& who = *call.principal;
  core_.metrics.tooLarge(who.protocol).add();
  const bool told = call.outcome && in.record.guarantee != DeliveryGuarantee::kAtMostOnce;
  if (!told && refusalLogs_.take(core_.clock.monotonicMicros())) {
    logWarning(fmt::format("{} {} client '{}': dropped {}", protocolName(who.protocol), who.peer,
                           who.clientId, error.text));
  }
  return error;
}

/// The value alone: codecs limit names and headers, and a body that was taken in must not fail for
/// what is stored beside it.
bool Publisher::fitsLimit(Call& call, const Prepared& prepared, int64_t limit) {
  const std::optional<BytesView>& value = prepared.in->record.value;
  if (!value || static_cast<int64_t>(value->size()) <= limit) return true;
  const bool topics = limit < core_.options.maxMessageBytes;
  const Topic* topic = topics ? prepared.topic.get() : nullptr;
  return refuse(call, prepared, tooLarge(call, *prepared.in, topic, limit));
}

/// A stream that a binding led to: its topic, under the key that the codec gave for it.
bool Publisher::prepareStream(Call& call, size_t index, const std::string& stream, Prepared& out) {
  const Publish& in = call.records[index];
  out.in = &in;
  out.result = call.firstResult + index;
  out.guarantee = effectiveGuarantee(in.record.guarantee);
  Resource resource{ResourceKind::kTopic, stream, Address{stream, in.streamKey}};
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

/// The user's rules may keep it elsewhere than under its name: it takes the right to write both.
std::optional<Resource> Publisher::whereDenied(const Call& call, const Publish& in) const {
  auto denied = [&](const Resource& resource) {
    return !core_.authorizer.permits(call.principal, Operation::kWrite, resource);
  };
  Resource named{ResourceKind::kTopic, in.address.topic, in.address};
  if (denied(named)) return named;
  if (in.ephemeral || in.topic == in.address.topic) return std::nullopt;
  Resource stored{ResourceKind::kTopic, in.topic, Address{in.topic, in.record.key}};
  if (denied(stored)) return stored;
  return std::nullopt;
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
  if (auto denied = whereDenied(call, in)) return refuse(call, out, notPermitted(*denied));
  bool own = call.principal->protocol == Protocol::kInternal && in.ephemeral &&
             (in.address.topic == kSystemTopic || in.address.topic == kSparkplugTopic);
  if (in.address.topic.starts_with('$') && !own) {
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

}  // namespace polylog::router
