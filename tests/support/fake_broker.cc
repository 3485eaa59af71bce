#include "tests/support/fake_broker.h"

#include <algorithm>
#include <utility>

namespace polylog::test {
namespace {

std::optional<std::string> owned(const std::optional<BytesView>& view) {
  return view ? std::optional<std::string>(std::string(*view)) : std::nullopt;
}

std::string addressText(const Address& address) {
  std::string text(address.topic);
  if (address.key) text.append("/").append(*address.key);
  return text;
}

PublishedRecord copyOf(const Publish& publish) {
  PublishedRecord copy;
  copy.address = addressText(publish.address);
  copy.topic = std::string(publish.topic);
  copy.key = owned(publish.record.key);
  copy.value = owned(publish.record.value);
  for (const Header& header : publish.record.headers) {
    copy.headers.emplace_back(std::string(header.name), owned(header.value));
  }
  copy.guarantee = publish.record.guarantee;
  copy.retain = publish.record.retain;
  copy.ephemeral = publish.ephemeral;
  copy.publishAtMs = publish.publishAtMs;
  copy.partitionHash = publish.partitionHash;
  copy.exactlyOnceId = publish.exactlyOnceId;
  copy.streamKey = owned(publish.streamKey);
  copy.routed = publish.route != nullptr;
  copy.admitted = publish.admitted;
  return copy;
}

/// What a RoutedRecord's views point into.
struct Octets {
  std::string topic;
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::string>> headers;
};

}  // namespace

const std::string* PublishedRecord::header(std::string_view name) const {
  for (const auto& [each, text] : headers) {
    if (each == name && text) return &*text;
  }
  return nullptr;
}

RoutedRecordRef makeRouted(std::string topic, std::optional<std::string> key,
                           std::optional<std::string> value,
                           std::vector<std::pair<std::string, std::string>> headers,
                           DeliveryGuarantee published) {
  auto octets = std::make_shared<Octets>(
      Octets{std::move(topic), std::move(key), std::move(value), std::move(headers)});
  auto routed = std::make_shared<RoutedRecord>();
  routed->owner = SharedBytes(octets, {});
  routed->address.topic = octets->topic;
  if (octets->key) routed->address.key = *octets->key;
  routed->record.key = routed->address.key;
  if (octets->value) routed->record.value = *octets->value;
  for (const auto& [name, text] : octets->headers) {
    routed->record.headers.push_back(Header{name, BytesView(text)});
  }
  routed->record.guarantee = published;
  routed->record.timestampMs = 1'700'000'000'000;
  routed->origin = Protocol::kMqtt;
  return routed;
}

// ---- sessions
// --------------------------------------------------------------------------------------

void FakeSession::subscribe(std::vector<Subscription> added, SubscribeDone done) {
  std::vector<Result<DeliveryGuarantee>> results;
  for (Subscription& each : added) {
    if (broker_.sessionError) {
      results.emplace_back(std::unexpected(*broker_.sessionError));
      continue;
    }
    results.emplace_back(each.guarantee);
    std::string text = each.text;
    subscriptions.insert_or_assign(std::move(text), std::move(each));
  }
  broker_.answer([done = std::move(done), results = std::move(results)]() mutable {
    done(std::move(results));
  });
}

void FakeSession::unsubscribe(std::vector<std::string> filters,
                              std::move_only_function<void(Result<std::vector<bool>>)> done) {
  Result<std::vector<bool>> result;
  for (const std::string& filter : filters) result->push_back(subscriptions.erase(filter) > 0);
  if (broker_.sessionError) result = std::unexpected(*broker_.sessionError);
  broker_.answer(
      [done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

size_t FakeSession::take(size_t max, TakeLimits limits, std::vector<Delivery>& out) {
  size_t count = 0;
  auto takeFrom = [&](std::deque<Delivery>& queue, int64_t idLimit) {
    while (count < max && !queue.empty() && queue.front().id < idLimit) {
      Delivery delivery = std::move(queue.front());
      queue.pop_front();
      if (delivery.id >= 0) taken_.insert_or_assign(delivery.id, delivery);
      out.push_back(std::move(delivery));
      ++count;
    }
  };
  takeFrom(queue_, limits.own);
  takeFrom(sharedQueue_, limits.shared);
  if (queue_.empty() && sharedQueue_.empty()) told_ = false;
  return count;
}

void FakeSession::acknowledge(int64_t id) {
  acknowledged.insert(id);
  accepted.erase(id);
  taken_.erase(id);
}

void FakeSession::accept(int64_t id, std::move_only_function<void(Result<>)> done) {
  accepted.insert(id);
  Result<> result;
  if (broker_.sessionError) result = std::unexpected(*broker_.sessionError);
  broker_.answer([done = std::move(done), result]() mutable { done(result); });
}

void FakeSession::loginRenewed(std::move_only_function<void(Result<>)> done) {
  ++loginsRenewed;
  Result<> result;
  if (broker_.sessionError) result = std::unexpected(*broker_.sessionError);
  broker_.answer([done = std::move(done), result]() mutable { done(result); });
}

void FakeSession::forgetAccepted(std::move_only_function<void(Result<>)> done) {
  Result<> result;
  if (broker_.sessionError) {
    result = std::unexpected(*broker_.sessionError);
  } else {
    accepted.clear();
    for (Delivery& delivery : queue_) delivery.accepted = false;
  }
  broker_.answer([done = std::move(done), result]() mutable { done(result); });
}

int64_t FakeSession::acknowledgedUpTo() const {
  int64_t lowest = nextId;
  for (const auto& [id, delivery] : taken_) {
    if (id < kSharedIds) lowest = std::min(lowest, id);
  }
  for (const Delivery& delivery : queue_) {
    if (delivery.id >= 0) lowest = std::min(lowest, delivery.id);
  }
  return lowest;
}

int64_t FakeSession::sharedAcknowledgedUpTo() const {
  auto taken = taken_.lower_bound(kSharedIds);
  if (taken != taken_.end()) return taken->first;
  return sharedQueue_.empty() ? nextSharedId : sharedQueue_.front().id;
}

void FakeSession::releasePublish(uint16_t id, std::move_only_function<void(Result<>)> done) {
  held.erase(id);
  Result<> result;
  if (broker_.sessionError) result = std::unexpected(*broker_.sessionError);
  broker_.answer([done = std::move(done), result]() mutable { done(result); });
}

void FakeSession::detach() {
  detached = true;
  listener = nullptr;
  publishedWill = std::exchange(will, std::nullopt);
}

void FakeSession::deliver(std::string topic, std::optional<std::string> key, std::string value,
                          DeliveryGuarantee guarantee,
                          std::vector<std::pair<std::string, std::string>> headers) {
  Delivery delivery;
  delivery.record =
      makeRouted(std::move(topic), std::move(key), std::move(value), std::move(headers));
  delivery.guarantee = guarantee;
  deliver(std::move(delivery));
}

void FakeSession::deliver(Delivery delivery) {
  if (delivery.guarantee != DeliveryGuarantee::kAtMostOnce && delivery.id < 0) {
    delivery.id = nextId++;
  }
  (delivery.id >= kSharedIds ? sharedQueue_ : queue_).push_back(std::move(delivery));
  if (told_ || listener == nullptr) return;
  told_ = true;
  Dispatcher::current()->post([self = weak_from_this()] {
    if (auto session = self.lock(); session && session->listener != nullptr) {
      session->listener->onDeliverable();
    }
  });
}

/// What was taken and not acknowledged comes again, in front, in order of id.
void FakeSession::reattach() {
  for (auto it = taken_.rbegin(); it != taken_.rend(); ++it) {
    Delivery delivery = it->second;
    delivery.redelivered = true;
    delivery.accepted = accepted.contains(delivery.id);
    if (delivery.id >= kSharedIds) continue;  // another member's by now
    queue_.push_front(std::move(delivery));
  }
  taken_.clear();
  told_ = false;
  detached = false;
}

// ---- the broker
// ------------------------------------------------------------------------------------

void FakeBroker::answer(Task task) {
  if (holdAnswers) {
    held_.push_back(std::move(task));
  } else {
    Dispatcher::current()->post(std::move(task));
  }
}

void FakeBroker::answerOne() {
  Task task = std::move(held_.front());
  held_.pop_front();
  task();
}

void FakeBroker::answerLast() {
  Task task = std::move(held_.back());
  held_.pop_back();
  task();
}

void FakeBroker::answerAll() {
  while (!held_.empty()) answerOne();
}

void FakeBroker::publish(const PrincipalRef&, SubscriberSession* session,
                         std::span<const Publish> records, Done<std::vector<PublishResult>> done) {
  batches.push_back(records.size());
  std::vector<PublishResult> results;
  for (const Publish& record : records) {
    PublishedRecord copy = copyOf(record);
    PublishResult result{std::nullopt, true};
    if (judge) result = judge(copy);
    if (record.route && !result.error) result.matched = queues.publish(record);
    if (copy.exactlyOnceId && session != nullptr && !result.error) {
      static_cast<FakeSession*>(session)->held.insert(*copy.exactlyOnceId);
    }
    if (!result.error) published.push_back(std::move(copy));
    results.push_back(std::move(result));
  }
  if (!done) {
    ++unansweredPublishes;
    return;
  }
  answer([done = std::move(done), results = std::move(results)]() mutable {
    done(std::move(results));
  });
}

struct FakeBroker::SpaceWait final : WaitHandle {
  explicit SpaceWait(std::shared_ptr<SpaceWaits> where) : waits(std::move(where)) {}
  ~SpaceWait() override { waits->erase(this); }
  std::shared_ptr<SpaceWaits> waits;
};

std::unique_ptr<WaitHandle> FakeBroker::awaitSpace(std::move_only_function<void()> wake) {
  auto wait = std::make_unique<SpaceWait>(spaceWaits_);
  spaceWaits_->emplace(wait.get(), std::move(wake));
  return wait;
}

void FakeBroker::space() {
  isFull = false;
  std::vector<std::move_only_function<void()>> wakes;
  for (auto& [wait, wake] : *spaceWaits_) wakes.push_back(std::move(wake));
  spaceWaits_->clear();
  for (auto& wake : wakes) wake();
}

void FakeBroker::openSession(const PrincipalRef&, SubscriberOptions options,
                             SubscriberListener* listener, OpenDone done) {
  if (openError) {
    answer([done = std::move(done), error = *openError]() mutable {
      done(std::unexpected(std::move(error)));
    });
    return;
  }
  auto found = sessions.find(options.clientId);
  std::shared_ptr<FakeSession> session;
  if (found != sessions.end()) {
    session = found->second;
    if (session->listener != nullptr) {
      std::exchange(session->listener, nullptr)->onTakenOver(false);
    }
  }
  const bool kept = session && !options.cleanStart && session->options.expirySeconds > 0;
  if (kept) {
    session->isResumed = true;
    session->options = options;
    session->reattach();
  } else {
    session = std::make_shared<FakeSession>(*this, options);
    sessions.insert_or_assign(options.clientId, session);
  }
  session->listener = listener;
  session->will = session->options.will;
  answer([done = std::move(done), session]() mutable {
    done(std::shared_ptr<SubscriberSession>(std::move(session)));
  });
}

void FakeBroker::deleteSession(const PrincipalRef&, const std::string& clientId,
                               Done<Result<>> done) {
  auto found = sessions.find(clientId);
  if (found != sessions.end()) {
    if (found->second->listener != nullptr) {
      std::exchange(found->second->listener, nullptr)->onTakenOver(true);
    }
    sessions.erase(found);
  }
  answer([done = std::move(done)]() mutable { done({}); });
}

}  // namespace polylog::test
