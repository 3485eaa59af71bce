#include "tests/simulation/consumers.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/model/record_batch.h"
#include "tests/router/router_fixture.h"

namespace polylog::simulation {

// ---------------------------------------------------------------- sessions

Subscriber::Subscriber(Machine& machine, Records& records, std::string id, std::string filter)
    : machine_(machine),
      id_(std::move(id)),
      filter_(std::move(filter)),
      deliveries_(machine, records, id_) {}

void Subscriber::lost() {
  session_ = nullptr;
  subscribing_ = false;
  open_.clear();
  deliveries_.disconnected();
}

void Subscriber::onEnd(bool clean) {
  opening_ = false;
  deliveries_.ended(clean);
}

void Subscriber::leave(bool clean) {
  leaving_ = true;
  if (clean && session_) machine_.on(worker_, [&] { session_->detach(); });
  lost();
}

void Subscriber::open() {
  opening_ = true;
  worker_ = machine_.pick(Machine::kWorkers);
  machine_.say(id_ + " connects");
  machine_.on(worker_, [&] {
    machine_.router().openSession(Machine::client(id_, Protocol::kMqtt), {id_, false, kNeverExpires},
                                  this, [this](Result<std::shared_ptr<SubscriberSession>> opened) {
                                    opening_ = false;
                                    if (!opened) return;
                                    if (leaving_) return (*opened)->detach();
                                    session_ = *opened;
                                    if (subscribed_ && !session_->resumed()) {
                                      machine_.fail(id_ + ": the session is gone");
                                    }
                                  });
  });
}

void Subscriber::subscribe() {
  subscribing_ = true;
  machine_.on(worker_, [&] {
    session_->subscribe(
        {router::subscription(filter_, DeliveryGuarantee::kAtLeastOnce)},
        [this](std::vector<Result<DeliveryGuarantee>> granted) {
          subscribing_ = false;
          if (granted.at(0)) {
            subscribed_ = machine_.tick();
            machine_.say(id_ + " is subscribed to " + filter_);
          }
        });
  });
}

size_t Subscriber::take(size_t most) {
  std::vector<Delivery> taken;
  machine_.on(worker_, [&] { session_->take(most, INT64_MAX, taken); });
  for (const Delivery& delivery : taken) {
    if (delivery.id < 0) continue;
    open_.push_back(delivery.id);
    deliveries_.delivered(delivery.id, delivery.record->record.value.value_or(""),
                          delivery.redelivered);
  }
  return taken.size();
}

void Subscriber::act() {
  if (!session_) {
    if (!opening_) open();
    return;
  }
  if (!subscribed_) {
    if (!subscribing_) subscribe();
    return;
  }
  size_t what = machine_.pick(10);
  if (what == 0) {
    machine_.say(id_ + " disconnects");
    machine_.on(worker_, [&] { session_->detach(); });
    lost();
  } else if (what < 5) {
    take(1 + machine_.pick(8));
  } else if (!open_.empty()) {
    auto which = open_.begin() + static_cast<ptrdiff_t>(machine_.pick(open_.size()));
    int64_t id = *which;
    open_.erase(which);
    deliveries_.settled(id);
    machine_.on(worker_, [&] { session_->acknowledge(id); });
  }
}

bool Subscriber::finish() {
  if (!session_ || !subscribed_) {
    act();
    return true;
  }
  bool any = take(100) > 0 || !open_.empty();
  for (int64_t id : std::exchange(open_, {})) {
    deliveries_.settled(id);
    machine_.on(worker_, [&] { session_->acknowledge(id); });
  }
  quiet_ = any ? 0 : quiet_ + 1;
  return quiet_ < 3;
}

bool Subscriber::wants(const Sent& sent) const {
  if (!subscribed_ || sent.asked < *subscribed_) return false;
  if (sent.fate != Sent::Fate::kStored) return false;
  std::string address = std::string(sent.model().name) + "/" + sent.key;
  return filter_ == "#" || filter_ == address ||
         (filter_.ends_with("/#") && address.starts_with(filter_.substr(0, filter_.size() - 1)));
}

void Subscriber::verify() {
  deliveries_.verify([&](const Sent& sent) { return wants(sent); });
}

// ---------------------------------------------------------------- queues

Worker::Worker(Machine& machine, Records& records, std::string queue, size_t topic)
    : machine_(machine),
      queue_(std::move(queue)),
      topic_(topic),
      deliveries_(machine, records, "queue " + queue_) {}

void Worker::onStart() {
  worker_ = machine_.pick(Machine::kWorkers);
  client_ = machine_.on(worker_, [&] {
    return machine_.router().openQueueClient(Machine::client("worker", Protocol::kAmqp));
  });
  if (bound_ && !machine_.on(worker_, [&] { return client_->findQueue(queue_); })) {
    machine_.fail("queue " + queue_ + " is gone");
  }
}

void Worker::leave(bool clean) {
  if (clean) {
    while (!held_.empty()) settle(0, Disposition::kRequeue);
  }
  held_.clear();
  machine_.on(worker_, [&] { client_ = nullptr; });
}

void Worker::onEnd(bool clean) {
  declaring_ = false;
  getting_ = 0;
  deliveries_.ended(clean);
}

void Worker::declare() {
  declaring_ = true;
  QueueSpec spec;
  spec.name = queue_;
  spec.durable = true;
  machine_.on(worker_, [&] {
    client_->declareQueue(spec, [this](Result<QueueDeclared> declared) {
      if (!declared) {
        declaring_ = false;
        return;
      }
      BindingSpec binding;
      binding.source = "amq.topic";
      binding.destination = queue_;
      binding.routingKey = std::string(kTopics[topic_].name) + ".#";
      client_->bind(binding, [this](Result<> bound) {
        declaring_ = false;
        if (!bound) return;
        bound_ = machine_.tick();
        machine_.say("queue " + queue_ + " is bound");
      });
    });
  });
}

void Worker::get() {
  ++getting_;
  machine_.on(worker_, [&] {
    client_->get(queue_, true, [this](Result<std::optional<QueueGot>> got) {
      --getting_;
      if (!got) return machine_.fail("queue " + queue_ + ": " + got.error().text);
      empty_ = !got->has_value();
      if (empty_) return;
      const QueueDelivery& delivery = (*got)->delivery;
      held_.push_back({delivery.id, (*got)->queue});
      deliveries_.delivered(delivery.id, delivery.record->record.value.value_or(""),
                            delivery.redelivered);
    });
  });
}

void Worker::settle(size_t place, Disposition disposition) {
  Held one = held_[place];
  held_.erase(held_.begin() + static_cast<ptrdiff_t>(place));
  if (disposition == Disposition::kRequeue) {
    deliveries_.returned(one.id);
  } else {
    deliveries_.settled(one.id);
  }
  machine_.on(worker_, [&] {
    std::array settlements{Settlement{one.id, disposition}};
    one.queue->settle(settlements);
  });
}

void Worker::act() {
  if (!bound_) {
    if (!declaring_) declare();
    return;
  }
  if (!held_.empty() && machine_.chance(55)) {
    constexpr std::array kEnds{Disposition::kAccept, Disposition::kAccept, Disposition::kReject,
                               Disposition::kRequeue};
    settle(machine_.pick(held_.size()), kEnds[machine_.pick(kEnds.size())]);
  } else if (getting_ == 0) {
    get();
  }
}

bool Worker::finish() {
  if (!bound_) {
    act();
    return true;
  }
  while (!held_.empty()) settle(0, Disposition::kAccept);
  quiet_ = empty_ && getting_ == 0 ? quiet_ + 1 : 0;
  if (getting_ == 0) {
    for (int i = 0; i < 20; ++i) get();
  }
  return quiet_ < 5;
}

void Worker::verify() {
  deliveries_.verify([&](const Sent& sent) {
    return bound_ && sent.topic == topic_ && sent.asked > *bound_ &&
           sent.fate == Sent::Fate::kStored;
  });
}

// ---------------------------------------------------------------- readers

void Reader::act() {
  PrincipalRef reader = Machine::client("reader", Protocol::kKafka);
  size_t topic = machine_.pick(kTopicCount);
  auto partition =
      static_cast<int32_t>(machine_.pick(static_cast<size_t>(kTopics[topic].partitions)));
  std::string name = kTopics[topic].name;
  size_t worker = machine_.pick(Machine::kWorkers);
  auto bounds =
      machine_.on(worker, [&] { return machine_.router().bounds(reader, name, partition); });
  if (!bounds) return machine_.fail(name + ": " + bounds.error().text);
  int64_t length = bounds->highWatermark - bounds->logStart;
  if (length == 0) return;
  Offset from = bounds->logStart + static_cast<int64_t>(machine_.pick(static_cast<size_t>(length)));
  auto fetched = machine_.on(
      worker, [&] { return machine_.router().fetch(reader, name, partition, from, 2000); });
  if (!fetched) {
    if (machine_.doomed()) return;
    return machine_.fail(name + " offset " + std::to_string(from.value()) + ": " +
                         fetched.error().text);
  }
  for (const FetchedBatch& batch : fetched->batches) {
    auto decoded = decodeRecordBatch(batch.batch, 1 << 24);
    if (!decoded) return machine_.fail(name + ": " + decoded.error().text);
    for (size_t i = 0; i < decoded->records.size(); ++i) {
      auto delta = static_cast<uint32_t>(decoded->offsetDeltas[i]);
      if (delta < batch.firstRecord || delta >= batch.firstRecord + batch.count) continue;
      auto number = records_.numberOf(decoded->records[i].value.value_or(""));
      if (!number) return;
      records_.seen(topic, partition, batch.baseOffset.value() + delta - batch.firstRecord, *number);
    }
  }
}

}  // namespace polylog::simulation
