#include "router/shared_lane.h"

#include <algorithm>

#include "core/base/log.h"
#include "router/queue.h"
#include "router/session.h"
#include "router/share_table.h"

namespace polylog::router {
namespace {

/// Handed over by the queues and not sent, over all of a session's shares.
constexpr int64_t kFlightCount = 1024;
constexpr int64_t kFlightOctets = 4 << 20;

DeliveryGuarantee publishedAs(const Record& record) {
  return record.guarantee == DeliveryGuarantee::kUnspecified ? DeliveryGuarantee::kAtLeastOnce
                                                             : record.guarantee;
}

void settle(std::vector<std::pair<std::shared_ptr<Queue>, Settlement>> due) {
  std::ranges::sort(due, {},
                    [](const auto& one) { return std::pair(one.first.get(), one.second.id); });
  std::vector<Settlement> together;
  for (size_t i = 0; i < due.size(); ++i) {
    together.push_back(due[i].second);
    if (i + 1 < due.size() && due[i + 1].first == due[i].first) continue;
    due[i].first->settle(together);
    together.clear();
  }
}

}  // namespace

/// A share's consumer for one connection. Outlives it in what has not been settled.
class SharedLane::Member final : public QueueListener, public std::enable_shared_from_this<Member> {
 public:
  Member(SharedLane& itsLane, const Subscription& wanted, std::shared_ptr<Queue> itsQueue)
      : lane(&itsLane),
        queue(std::move(itsQueue)),
        name(wanted.text),
        guarantee(wanted.guarantee),
        retainAsPublished(wanted.retainAsPublished),
        subscriptionId(wanted.id) {}

  void onDeliveries(std::span<QueueDelivery> deliveries) override {
    lane->arrived(shared_from_this(), deliveries);
  }
  void onCancelled() override { lane->cancelled(shared_from_this()); }

  SharedLane* const lane;  ///< not to be asked once consumer->listener is null
  const std::shared_ptr<Queue> queue;
  const std::string name;
  const DeliveryGuarantee guarantee;
  const bool retainAsPublished;
  const uint32_t subscriptionId;
  ConsumerRef consumer;
};

SharedLane::SharedLane(Core& core, Session& session) : core_(core), session_(session) {}
SharedLane::~SharedLane() = default;

// ---------------------------------------------------------------- membership

Result<> SharedLane::add(const Subscription& subscription, Position since) {
  auto [at, isNew] = shares_.try_emplace(subscription.text);
  Share& share = at->second;
  if (isNew) share.since = since;
  if (share.member) end(share);
  share.subscription = subscription;
  if (!share.membership) {
    auto joined = core_.shares->join(session_.home(), session_, subscription);
    if (!joined) return std::unexpected(joined.error());
    share.membership = std::move(*joined);
  }
  if (window_) begin(share);
  return {};
}

std::shared_ptr<ShareMembership> SharedLane::remove(const std::string& text) {
  auto at = shares_.find(text);
  if (at == shares_.end()) return nullptr;
  if (at->second.member) end(at->second);
  auto membership = std::move(at->second.membership);
  shares_.erase(at);
  return membership;
}

std::vector<std::string> SharedLane::names() const {
  std::vector<std::string> all;
  for (const auto& [text, share] : shares_) all.push_back(text);
  return all;
}

void SharedLane::attach(int64_t window) {
  window_ = std::make_shared<DeliveryWindow>();
  window_->setLimit(std::max<int64_t>(1, window));
  flight_ = std::make_shared<DeliveryFlight>(kFlightCount, kFlightOctets);
  for (auto& [name, share] : shares_) {
    if (!share.membership) {
      auto joined = core_.shares->join(session_.home(), session_, share.subscription);
      if (!joined) {
        logWarning("session '" + session_.clientId() + "': " + joined.error().text);
        continue;
      }
      share.membership = std::move(*joined);
    } else {
      share.membership->sleepAs(session_.sleeper());
    }
    begin(share);
  }
}

void SharedLane::reconsider() {
  for (auto& [name, share] : shares_) {
    if (share.membership) share.membership->queue()->reconsider();
  }
}

void SharedLane::begin(Share& share) {
  const Subscription& wanted = share.subscription;
  share.member = std::make_shared<Member>(*this, wanted, share.membership->queue());
  bool plain = wanted.guarantee <= DeliveryGuarantee::kAtMostOnce;
  ConsumeOptions options;
  if (!plain) options.channelWindow = window_;
  options.flight = flight_;
  options.returned = [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.lock()) resumeSoon();
  };
  auto consumer = std::make_shared<Consumer>(session_.home(), share.member.get(), options);
  consumer->reader = session_.principal();
  if (session_.persistent() && wanted.guarantee == DeliveryGuarantee::kExactlyOnce) {
    consumer->moves = MoveTerms{session_.inbox(), wanted.id, wanted.retainAsPublished, {}};
    consumer->moves->moved = [member = std::weak_ptr<Member>(share.member),
                              session = session_.weak_from_this()](auto ids) {
      // They are in its inbox, whether or not it is a member still.
      if (auto there = session.lock()) there->movedHere(ids);
      auto self = member.lock();
      if (self && self->consumer->listener != nullptr) self->lane->moved(*self, ids);
    };
  }
  share.member->consumer = consumer;
  auto queue = share.member->queue;
  // Gone already: ShareTable finds out at the next join.
  queue->onHome([queue, consumer] { (void)queue->addConsumer(consumer); });
}

/// What the client has not been sent goes back; what it has been stays its own to acknowledge.
void SharedLane::end(Share& share) {
  MemberRef member = std::exchange(share.member, nullptr);
  member->consumer->listener = nullptr;
  if (core_.stopping.load()) return;
  Settlements back;
  std::vector<QueueDelivery> unsent;
  std::erase_if(ready_, [&](Ready& ready) {
    if (ready.member != member) return false;
    if (ready.delivery.id >= 0) {
      back.push_back({member->queue, {ready.delivery.id, Disposition::kReturn}});
    }
    unsent.push_back(std::move(ready.delivery));
    return true;
  });
  auto queue = member->queue;
  queue->onHome([queue, consumer = member->consumer] { queue->removeConsumer(consumer); });
  settle(std::move(back));
  if (!unsent.empty()) member->consumer->giveBack(unsent);
}

void SharedLane::detach() {
  if (!window_) return;
  bool stopping = core_.stopping.load();
  if (!stopping) settleNow();
  for (auto& [name, share] : shares_) {
    if (share.member) end(share);
  }
  Settlements back;
  for (auto& [id, out] : out_) {
    // One that is sent exactly once is nobody else's [MQTT-4.8.2-5].
    bool once = out.guarantee == DeliveryGuarantee::kExactlyOnce;
    if (out.settled) continue;
    back.push_back(
        {out.member->queue, {out.queueId, once ? Disposition::kReject : Disposition::kRequeue}});
  }
  if (!stopping) settle(std::move(back));
  out_.clear();
  ready_.clear();
  moved_.clear();
  window_ = nullptr;
  flight_ = nullptr;
  // What is still to run on this worker is not to be run: the session may move to another.
  alive_ = std::make_shared<bool>(true);
  settling_ = false;
}

// ---------------------------------------------------------------- delivery

void SharedLane::arrived(const MemberRef& member, std::span<QueueDelivery> deliveries) {
  for (QueueDelivery& delivery : deliveries) ready_.push_back({member, std::move(delivery)});
  session_.notify();
}

/// Its queue is gone and it is not: the declaration did not reach the disk. A new one, then.
void SharedLane::cancelled(const MemberRef& member) {
  auto at = shares_.find(member->name);
  if (at == shares_.end() || at->second.member != member) return;
  at->second.membership = nullptr;
  Subscription again = at->second.subscription;
  if (auto joined = add(again, at->second.since); !joined) {
    logWarning("session '" + session_.clientId() + "': " + joined.error().text);
  }
}

size_t SharedLane::take(size_t max, int64_t idLimit, std::vector<Delivery>& out) {
  size_t taken = 0;
  while (taken < max && !ready_.empty()) {
    Ready& ready = ready_.front();
    if (!session_.mayRead(ready.delivery.record->address)) {
      sendBack(ready);
    } else if (deliver(ready, out, idLimit)) {
      ++taken;
    } else {
      break;
    }
    ready_.pop_front();
  }
  if (taken > 0) resumeSoon();
  return taken;
}

/// The rules have changed since the queue chose this member: to another one that may read it.
void SharedLane::sendBack(const Ready& ready) {
  const QueueDelivery& delivery = ready.delivery;
  Consumer& consumer = *ready.member->consumer;
  consumer.flight.give(1, delivery.octets);
  consumer.giveBack({&delivery, 1});
  if (delivery.id >= 0) return settleSoon(ready.member, delivery.id, Disposition::kReturn);
  core_.metrics.dropped(DropReason::kDenied).add();
}

/// False: it needs an id above the limit.
bool SharedLane::deliver(Ready& ready, std::vector<Delivery>& out, int64_t idLimit) {
  const Member& member = *ready.member;
  QueueDelivery& from = ready.delivery;
  DeliveryGuarantee guarantee = std::min(publishedAs(from.record->record), member.guarantee);
  if (from.id < 0) guarantee = DeliveryGuarantee::kAtMostOnce;  // stored nowhere
  bool plain = guarantee <= DeliveryGuarantee::kAtMostOnce;
  if (!plain && nextId_ >= idLimit - kSharedIds) return false;
  Delivery& delivery = out.emplace_back();
  delivery.record = std::move(from.record);
  delivery.guarantee = guarantee;
  delivery.retain = delivery.record->record.retain && member.retainAsPublished;
  if (member.subscriptionId != 0) delivery.subscriptionIds.push_back(member.subscriptionId);
  member.consumer->flight.give(1, from.octets);
  flight_->give(1, from.octets);
  if (plain) {
    if (member.consumer->channelWindow) member.consumer->channelWindow->give(1);
    if (from.id >= 0) settleSoon(ready.member, from.id, Disposition::kAccept);
    return true;
  }
  delivery.redelivered = from.redelivered;
  delivery.id = kSharedIds + nextId_;
  out_.emplace(nextId_++, Out{ready.member, from.id, guarantee});
  return true;
}

void SharedLane::acknowledge(int64_t id) {
  auto at = out_.find(id - kSharedIds);
  if (at == out_.end()) return;
  if (!at->second.settled) settleSoon(at->second.member, at->second.queueId, Disposition::kAccept);
  // Given to the window that it was taken from, which may be another connection's by now.
  if (const auto& window = at->second.member->consumer->channelWindow) window->give(1);
  out_.erase(at);
  resumeSoon();
}

void SharedLane::accept(int64_t id) {
  auto at = out_.find(id - kSharedIds);
  if (at == out_.end() || std::exchange(at->second.settled, true)) return;
  settleSoon(at->second.member, at->second.queueId, Disposition::kAccept);
}

int64_t SharedLane::acknowledgedUpTo() const {
  return kSharedIds + (out_.empty() ? nextId_ : out_.begin()->first);
}

// ---------------------------------------------------------------- moved to the inbox

void SharedLane::moved(const Member& member, std::span<const int64_t> inboxIds) {
  for (int64_t id : inboxIds) {
    if (session_.inboxHas(id)) {
      moved_.insert(id);
    } else if (member.consumer->channelWindow) {
      member.consumer->channelWindow->give(1);  // through already
    }
  }
  resumeSoon();
}

void SharedLane::inboxAcknowledged(int64_t id) {
  if (moved_.erase(id) == 0) return;
  window_->give(1);
  resumeSoon();
}

// ---------------------------------------------------------------- settling
//
// Once a round, for all that came meanwhile: then who waits for a window may go on, too.

void SharedLane::settleSoon(const MemberRef& member, int64_t queueId, Disposition disposition) {
  due_.push_back({member->queue, {queueId, disposition}});
  resumeSoon();
}

void SharedLane::resumeSoon() {
  if (std::exchange(settling_, true)) return;
  session_.home().later([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.lock()) settleNow();
  });
}

void SharedLane::settleNow() {
  settling_ = false;
  settle(std::exchange(due_, {}));
  for (auto& [name, share] : shares_) {
    if (share.member) share.member->queue->resume(share.member->consumer);
  }
}

}  // namespace polylog::router
