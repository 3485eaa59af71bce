// Session's subscribing and unsubscribing, and the attachment that codecs hold.

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/model/record_batch.h"
#include "router/address_tags.h"
#include "router/live_fanout.h"
#include "router/retained_store.h"
#include "router/session.h"

namespace polylog::router {
namespace {

/// What one entry holds of retained records that go to an inbox.
constexpr size_t kRetainedParts = 1000;
constexpr size_t kRetainedBytes = 4U << 20;

}  // namespace

/// One SUBSCRIBE on its way.
struct Session::SubscribeCall {
  std::vector<Result<DeliveryGuarantee>> results;
  SubscriberSession::SubscribeDone done;
  storage::AppendRequest request;
  /// Retained records that don't fit the first entry, for entries of their own.
  std::vector<storage::AppendRequest> further;
  size_t partBytes = 0;
  std::vector<LiveItem> live;  ///< retained records that wait in memory
  std::vector<uint32_t> freshTags;
  uint64_t attachment = 0;
  uint64_t failuresBefore = 0;
};

void Session::subscribe(std::vector<Subscription> subscriptions,
                        SubscriberSession::SubscribeDone done) {
  auto call = std::make_shared<SubscribeCall>();
  call->done = std::move(done);
  call->attachment = attachments_;
  call->failuresBefore = core_.writeFailures.load();
  for (Subscription& subscription : subscriptions) {
    call->results.push_back(addOne(subscription, *call));
  }
  appendSubscriptions(call);
}

Result<DeliveryGuarantee> Session::addOne(Subscription& subscription, SubscribeCall& call) {
  Resource resource{ResourceKind::kTopic, subscription.text};
  if (!core_.authorizer.permits(principal_, Operation::kRead, resource)) {
    return std::unexpected(notPermitted(resource));
  }
  if (subscription.filter.levels.empty()) {
    return fail(ErrorKind::kInvalid, "a topic filter without levels");
  }
  auto there = subscriptions_.find(subscription.text);
  bool isNew = there == subscriptions_.end();
  if (isNew && subscriptions_.size() >= core_.options.maxSubscriptionsPerSession) {
    return fail(ErrorKind::kBusy, "the session has as many subscriptions as are allowed");
  }
  TrieEntry entry;
  entry.session = this;
  entry.number = isNew ? nextNumber_++ : there->second.number;
  entry.subscriptionId = subscription.id;
  entry.guarantee = std::max(subscription.guarantee, DeliveryGuarantee::kAtMostOnce);
  entry.noLocal = subscription.noLocal;
  entry.retainAsPublished = subscription.retainAsPublished;
  // What it had subscribed to before, it goes on getting.
  entry.since = isNew ? core_.store.durableEnd() : there->second.since;
  SubscriptionTrie::Place place = core_.trie->add(subscription.filter, entry);
  if (isNew) {
    core_.metrics.subscriptions.add(1);
  } else if (there->second.place != place) {
    core_.trie->remove(there->second.place, this, entry.number);
  }
  subscriptions_[subscription.text] = {place, entry.number, entry.guarantee, entry.since};
  if (persistent()) {
    call.request.state.push_back({storage::StateTable::kSubscription,
                                  subscriptionKey(inbox_->partition(), subscription.text),
                                  encodeSubscription({subscription, entry.since})});
  }
  bool wanted = subscription.retainHandling == RetainHandling::kAlways ||
                (subscription.retainHandling == RetainHandling::kIfNew && isNew);
  if (wanted) {
    // Found after the subscription is in force: what is retained from now on comes live.
    if (Result<> collected = collectRetained(subscription, call); !collected) {
      logWarning("retained records of a new subscription can't be delivered: " +
                 collected.error().text);
    }
  }
  return entry.guarantee;
}

Result<> Session::collectRetained(const Subscription& subscription, SubscribeCall& call) {
  Result<> result;
  core_.retained->match(subscription.filter, [&](BytesView text, const SharedBytes& value) {
    auto batch = RetainedStore::batchOf(value);
    if (!batch) {
      result = std::unexpected(batch.error());
      return;
    }
    Address address = splitAddressText(text);
    BlockSource source;
    source.topic = std::make_shared<const std::string>(address.topic);
    source.origin = batch->first;
    auto block = openBlock(batch->second, std::move(source), core_.options);
    if (!block || (*block)->records.empty()) return;
    DeliveryGuarantee published = (*block)->records.front().record.guarantee;
    DeliveryGuarantee granted = std::min(
        published == DeliveryGuarantee::kUnspecified ? DeliveryGuarantee::kAtLeastOnce : published,
        subscription.guarantee);
    if (!persistent() || granted < DeliveryGuarantee::kAtLeastOnce) {
      LiveItem item;
      item.block = std::move(*block);
      item.guarantee = granted;
      item.retain = true;
      if (subscription.id != 0) item.subscriptionIds.push_back(subscription.id);
      call.live.push_back(std::move(item));
      return;
    }
    std::vector<storage::StateChange> tagState;
    auto tag = core_.tags->tagFor(address.topic, subscription.id, batch->first, tagState,
                                  call.freshTags);
    if (!tag) {
      result = std::unexpected(tag.error());
      return;
    }
    storage::AppendRequest* request = &call.request;
    call.partBytes += batch->second.size();
    if (!call.further.empty()) request = &call.further.back();
    if (request->messages.size() >= kRetainedParts ||
        (call.partBytes > kRetainedBytes && !request->messages.empty())) {
      request = &call.further.emplace_back();
      request->durability = storage::Durability::kSynced;
      call.partBytes = batch->second.size();
    }
    for (auto& change : tagState) request->state.push_back(std::move(change));
    request->messages.push_back(
        {batch->second, {{inbox_->partition(), 0, 0, inboxAttributes(granted, true, *tag)}}});
  });
  return result;
}

void Session::appendSubscriptions(const std::shared_ptr<SubscribeCall>& call) {
  auto finish = [self = shared_from_this(), call](const Result<storage::Appended>& result) {
    self->onHome([self, call, failed = !result.has_value()] {
      if (failed || call->failuresBefore != self->core_.writeFailures.load()) {
        self->reloadSubscriptions();
      }
      if (!failed) self->sendRetained(*call);
    });
    self->subscribed(*call, result);
  };
  if (call->request.state.empty() && call->request.messages.empty()) {
    home().later([finish, call] { finish(storage::Appended{}); });
    return;
  }
  call->request.durability = storage::Durability::kSynced;
  call->request.sink = &home().sink;
  call->request.done = [finish, &core = core_](const Result<storage::Appended>& result) {
    if (!result) ++core.writeFailures;
    finish(result);
  };
  std::vector<storage::AppendRequest> further = std::move(call->further);
  auto appended = core_.store.append(std::move(call->request));
  if (!appended) {
    home().later([finish, error = appended.error()] { finish(std::unexpected(error)); });
    return;
  }
  for (storage::AppendRequest& request : further) {
    if (auto more = core_.store.append(std::move(request)); !more) {
      logWarning("retained records of a new subscription can't be stored: " + more.error().text);
      return;
    }
  }
}

void Session::subscribed(SubscribeCall& call, const Result<storage::Appended>& result) {
  if (result) {
    core_.tags->journaled(call.freshTags);
  } else {
    for (auto& one : call.results) {
      if (one) one = std::unexpected(result.error());
    }
  }
  call.done(std::move(call.results));
}

void Session::sendRetained(SubscribeCall& call) {
  if (call.attachment != attachments_) return;
  for (LiveItem& item : call.live) pushLive(std::move(item));
  call.live.clear();
}

/// After a failed write: what the state table says is what holds.
void Session::reloadSubscriptions() {
  if (!persistent() || phase_ == Phase::kEnded) return;
  for (const auto& [text, held] : subscriptions_) drop(held);
  subscriptions_.clear();
  core_.store.scanState(storage::StateTable::kSubscription, inboxKey(inbox_->partition()),
                        [&](BytesView key, BytesView value) {
                          if (auto state = decodeSubscription(key, value)) {
                            restoreSubscription(*state);
                          }
                          return true;
                        });
}

void Session::unsubscribe(std::vector<std::string> filters,
                          std::move_only_function<void(Result<std::vector<bool>>)> done) {
  struct Call {
    std::vector<bool> there;
    std::move_only_function<void(Result<std::vector<bool>>)> done;
    uint64_t failuresBefore = 0;
  };
  auto call = std::make_shared<Call>();
  call->done = std::move(done);
  call->failuresBefore = core_.writeFailures.load();
  storage::AppendRequest request;
  for (const std::string& text : filters) {
    auto at = subscriptions_.find(text);
    call->there.push_back(at != subscriptions_.end());
    if (at == subscriptions_.end()) continue;
    drop(at->second);
    subscriptions_.erase(at);
    if (!persistent()) continue;
    request.state.push_back({storage::StateTable::kSubscription,
                             subscriptionKey(inbox_->partition(), text), std::nullopt});
  }
  if (request.state.empty()) {
    home().later([call] { call->done(std::move(call->there)); });
    return;
  }
  request.durability = storage::Durability::kSynced;
  request.sink = &home().sink;
  auto finish = [self = shared_from_this(), call](const Result<storage::Appended>& result) {
    if (!result || call->failuresBefore != self->core_.writeFailures.load()) {
      self->onHome([self] { self->reloadSubscriptions(); });
    }
    if (result) {
      call->done(std::move(call->there));
    } else {
      call->done(std::unexpected(result.error()));
    }
  };
  request.done = [finish, &core = core_](const Result<storage::Appended>& result) {
    if (!result) ++core.writeFailures;
    finish(result);
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    home().later([finish, error = appended.error()] { finish(std::unexpected(error)); });
  }
}

// ---------------------------------------------------------------- Attachment

std::vector<uint16_t> Attachment::heldPublishIds() const {
  return session_ ? session_->heldPublishIds() : std::vector<uint16_t>{};
}
void Attachment::subscribe(std::vector<Subscription> subscriptions, SubscribeDone done) {
  if (session_) session_->subscribe(std::move(subscriptions), std::move(done));
}
void Attachment::unsubscribe(std::vector<std::string> filters,
                             std::move_only_function<void(Result<std::vector<bool>>)> done) {
  if (session_) session_->unsubscribe(std::move(filters), std::move(done));
}
size_t Attachment::take(size_t max, int64_t idLimit, std::vector<Delivery>& out) {
  return session_ ? session_->take(max, idLimit, out) : 0;
}
void Attachment::acknowledge(int64_t id) {
  if (session_) session_->acknowledge(id);
}
void Attachment::accept(int64_t id, std::move_only_function<void(Result<>)> done) {
  if (session_) session_->accept(id, std::move(done));
}
int64_t Attachment::acknowledgedUpTo() const {
  return session_ ? session_->acknowledgedUpTo() : 0;
}
void Attachment::releasePublish(uint16_t id, std::move_only_function<void(Result<>)> done) {
  if (session_) session_->releasePublish(id, std::move(done));
}
void Attachment::setWill(std::optional<Will> will) {
  if (session_) session_->setWill(std::move(will));
}
void Attachment::setExpiry(uint32_t seconds) {
  if (session_) session_->setExpiry(seconds);
}
void Attachment::detach() {
  // The session may end now, and this object's reference with it.
  if (std::shared_ptr<Session> session = session_) session->detach();
}

}  // namespace polylog::router
