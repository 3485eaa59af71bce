#include "codecs/amqp/deliveries.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/metrics.h"

namespace polylog::amqp {
namespace {

void countDrop(Undeliverable why) {
  constexpr const char* kName = "polylog_deliveries_dropped_total";
  constexpr const char* kHelp = "Deliveries that were not made, by reason.";
  static Metric& expired = counter(kName, kHelp, R"(protocol="amqp",reason="expired")");
  static Metric& unnameable = counter(kName, kHelp, R"(protocol="amqp",reason="name")");
  static Metric& tooLarge = counter(kName, kHelp, R"(protocol="amqp",reason="too_large")");
  switch (why) {
    case Undeliverable::kExpired: return expired.add();
    case Undeliverable::kUnnameable: return unnameable.add();
    case Undeliverable::kTooLarge: return tooLarge.add();
  }
}

}  // namespace

void Consumer::onDeliveries(std::span<QueueDelivery> deliveries) {
  if (owner != nullptr) owner->deliver(*this, deliveries);
}

void Consumer::onCancelled() {
  if (owner != nullptr) owner->cancelled(*this);
}

void Link::deliveriesSent() {
  const Unsent sent = std::exchange(unsent, {});
  flight->give(sent.count, sent.octets);
  if (flight->takeRefused()) resumeConsumers();
}

/// Each begins once: the first of them may take all there is.
void Link::resumeConsumers() {
  if (consumers.empty()) return;
  ++turn;
  for (size_t i = 0; i < consumers.size(); ++i) {
    consumers[(turn + i) % consumers.size()]->handle->resume();
  }
}

std::shared_ptr<Consumer> Deliveries::makeConsumer(std::string tag, const QueueInfo& queue,
                                                   bool acknowledges) {
  auto consumer = std::make_shared<Consumer>();
  consumer->tag = std::move(tag);
  consumer->acknowledges = acknowledges;
  consumer->source = std::make_shared<Source>();
  consumer->source->queueName = queue.spec.name;
  consumer->source->stream = queue.spec.kind == QueueKind::kStream;
  if (acknowledges) {
    consumer->source->window = std::make_shared<DeliveryWindow>();
    consumer->source->window->setLimit(prefetch_ > 0 ? prefetch_ : kMaxUnacknowledged);
    consumer->source->channelWindow = channelWindow_;
  }
  return consumer;
}

void Deliveries::setWindows(const Consumer& consumer, ConsumeOptions& options) const {
  options.acknowledges = consumer.acknowledges;
  options.window = consumer.source->window;
  options.channelWindow = consumer.source->channelWindow;
  options.flight = link_.flight;
  options.returned = [&link = link_, guard = link_.guard()] {
    if (!guard.expired()) link.resumeConsumers();
  };
}

void Deliveries::start(std::shared_ptr<Consumer> consumer, std::unique_ptr<QueueConsumer> handle) {
  consumer->owner = this;
  consumer->source->queue = handle->queue();
  consumer->handle = std::move(handle);
  consumer->place = link_.consumers.size();
  link_.consumers.push_back(consumer.get());
  std::string tag = consumer->tag;
  consumers_.emplace(std::move(tag), std::move(consumer));
}

bool Deliveries::cancel(BytesView tag) {
  auto found = consumers_.find(tag);
  if (found == consumers_.end()) return false;
  end(found);
  return true;
}

void Deliveries::end(Consumers::iterator consumer) {
  const std::shared_ptr<Consumer> gone = std::move(consumer->second);
  consumers_.erase(consumer);
  link_.consumers[gone->place] = link_.consumers.back();
  link_.consumers[gone->place]->place = gone->place;
  link_.consumers.pop_back();
  gone->owner = nullptr;
  gone->handle.reset();
}

/// The queue is gone. Only clients that asked for it are told.
void Deliveries::cancelled(Consumer& consumer) {
  const std::string tag = consumer.tag;
  auto found = consumers_.find(tag);
  if (found == consumers_.end()) return;
  end(found);
  if (!link_.cancelNotify) return;
  BasicCancel method;
  method.consumerTag = tag;
  method.noWait = true;
  link_.encodeMethod(channel_, method);
  link_.flush();
}

void Deliveries::limitConsumers(uint16_t prefetch) {
  prefetch_ = prefetch;
  limitChannel(0);
}

void Deliveries::limitChannel(uint16_t prefetch) {
  if (channelWindow_->limit() == prefetch) return;
  channelWindow_->setLimit(prefetch);
  resumeAll();
}

void Deliveries::resumeAll() {
  for (const auto& [tag, consumer] : consumers_) consumer->handle->resume();
}

// ---- sending

void Deliveries::deliver(Consumer& consumer, std::span<QueueDelivery> deliveries) {
  const int64_t nowMs = link_.wallMillis();
  for (const QueueDelivery& delivery : deliveries) {
    for (Unsent* unsent : {&consumer.unreported, &link_.unsent}) {
      ++unsent->count;
      unsent->octets += delivery.octets;
    }
    if (send(consumer, delivery, nowMs) || !consumer.acknowledges) continue;
    const bool stream = consumer.source->stream;
    gather(delivery.id, consumer.source, stream ? Disposition::kAccept : Disposition::kReject);
  }
  outgoing_.release();
  link_.flush();
  if (!link_.transport.congested()) {
    report(consumer);
    link_.deliveriesSent();
  }
  settle();
}

/// False if it can't be delivered.
bool Deliveries::send(Consumer& consumer, const QueueDelivery& delivery, int64_t nowMs) {
  const Source& source = *consumer.source;
  const auto offset = source.stream ? std::optional(delivery.id) : std::nullopt;
  if (auto why = outgoing_.describe(*delivery.record, nowMs, offset, link_.frameMax)) {
    countDrop(*why);
    return false;
  }
  BasicDeliver method;
  method.consumerTag = consumer.tag;
  method.deliveryTag = ++lastTag_;
  method.redelivered = delivery.redelivered && !source.stream;
  method.exchange = outgoing_.exchange;
  method.routingKey = outgoing_.routingKey;
  link_.encodeMethod(channel_, method);
  sendContent(link_, channel_, outgoing_.properties, outgoing_.body);
  if (consumer.acknowledges) unacknowledged_.add(lastTag_, delivery.id, consumer.source);
  return true;
}

bool Deliveries::sendGot(QueueGot& got, bool acknowledges, const std::string& queue) {
  if (!got_ || got_->queue != got.queue) {
    got_ = std::make_shared<Source>();
    got_->queue = got.queue;
    got_->queueName = queue;
  }
  if (auto why = outgoing_.describe(*got.delivery.record, link_.wallMillis(), std::nullopt,
                                    link_.frameMax)) {
    countDrop(*why);
    outgoing_.release();
    if (acknowledges) gather(got.delivery.id, got_, Disposition::kReject);
    settle();
    return false;
  }
  BasicGetOk method;
  method.deliveryTag = ++lastTag_;
  method.redelivered = got.delivery.redelivered;
  method.exchange = outgoing_.exchange;
  method.routingKey = outgoing_.routingKey;
  method.messageCount = static_cast<uint32_t>(std::clamp<int64_t>(got.remaining, 0, UINT32_MAX));
  link_.encodeMethod(channel_, method);
  sendContent(link_, channel_, outgoing_.properties, outgoing_.body);
  link_.countAnswer(outgoing_.properties.size() + outgoing_.body.size());
  outgoing_.release();
  if (acknowledges) unacknowledged_.add(lastTag_, got.delivery.id, got_);
  return true;
}

void Deliveries::report(Consumer& consumer) {
  if (consumer.unreported.count == 0) return;
  const Unsent sent = std::exchange(consumer.unreported, {});
  consumer.handle->sent(sent.count, sent.octets);
}

void Deliveries::onDrained() {
  for (const auto& [tag, consumer] : consumers_) report(*consumer);
}

// ---- acknowledgements

Outcome Deliveries::acknowledge(uint64_t tag, bool multiple, Disposition disposition) {
  const auto with = [&](int64_t id, const SourceRef& source) { gather(id, source, disposition); };
  const bool all = multiple && tag == 0;
  if (!all && !unacknowledged_.contains(tag)) {
    return fault(ReplyCode::kPreconditionFailed, fmt::format("unknown delivery tag {}", tag));
  }
  if (disposition != Disposition::kAccept) {
    std::string stream;
    const auto isStream = [&](const Source& source) {
      if (source.stream) stream = source.queueName;
      return source.stream;
    };
    const uint64_t last = all ? lastTag_ : tag;
    if (unacknowledged_.any(last, multiple, isStream)) {
      return fault(
          ReplyCode::kNotImplemented,
          "basic.nack and basic.reject not supported by stream queues " + queueText(stream));
    }
  }
  if (all) {
    unacknowledged_.takeAll(with);
  } else {
    unacknowledged_.take(tag, multiple, with);
  }
  return {};
}

void Deliveries::recover() {
  unacknowledged_.takeAll([this](int64_t id, const SourceRef& source) {
    // Nothing returns to a stream: it is all still there.
    gather(id, source, source->stream ? Disposition::kAccept : Disposition::kRequeue);
  });
}

void Deliveries::gather(int64_t id, const SourceRef& source, Disposition disposition) {
  if (source->settlements.empty()) touched_.push_back(source);
  source->settlements.push_back({id, disposition});
}

void Deliveries::settle() {
  if (touched_.empty()) return;
  bool channelMayGoOn = false;
  // What a queue does about it can bring the next deliveries, but not within this call.
  for (const SourceRef& source : std::exchange(touched_, {})) {
    const auto count = static_cast<int64_t>(source->settlements.size());
    if (source->window) source->window->give(count);
    if (source->channelWindow) {
      source->channelWindow->give(count);
      channelMayGoOn = channelMayGoOn || source->channelWindow->limit() > 0;
    }
    source->queue->settle(source->settlements);
    source->settlements.clear();
  }
  if (channelMayGoOn) resumeAll();
}

void Deliveries::close() {
  while (!consumers_.empty()) end(consumers_.begin());
  recover();
  settle();
  got_.reset();
}

}  // namespace polylog::amqp
