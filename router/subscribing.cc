// Session's subscribing and unsubscribing, and the attachment that codecs hold.

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/base/log.h"
#include "core/model/record_batch.h"
#include "router/address_tags.h"
#include "router/exclusive_table.h"
#include "router/live_fanout.h"
#include "router/replay_lane.h"
#include "router/retained_store.h"
#include "router/session.h"
#include "router/share_table.h"
#include "router/shared_lane.h"

namespace polylog::router {
namespace {

/// What one entry holds of retained records that go to an inbox.
constexpr size_t kRetainedParts = 1000;
constexpr size_t kRetainedBytes = 4U << 20;
/// Retained records and filters looked at in one go, before the worker's other work has its turn.
constexpr size_t kRetainedSteps = 1000;

DeliveryGuarantee grantedTo(const Subscription& subscription) {
  return std::max(subscription.guarantee, DeliveryGuarantee::kAtMostOnce);
}

}  // namespace

/// One entry of retained records on their way to the inbox, and what a step may still look at.
struct Session::RetainedPiece {
  storage::AppendRequest request;
  std::vector<uint32_t> freshTags;
  size_t bytes = 0;
  int64_t records = 0;
  size_t left = kRetainedSteps;
  bool full = false;
  Offset end;  ///< of its records in the inbox, once appended
};

/// One SUBSCRIBE on its way.
struct Session::SubscribeCall {
  std::vector<Result<DeliveryGuarantee>> results;
  SubscriberSession::SubscribeDone done;
  /// The subscriptions, and as many retained records as one entry may hold.
  RetainedPiece first;
  std::list<RetainedWalk> walks;  ///< the others
  uint64_t failuresBefore = 0;
};

void Session::subscribe(std::vector<Subscription> subscriptions,
                        SubscriberSession::SubscribeDone done) {
  auto call = std::make_shared<SubscribeCall>();
  call->done = std::move(done);
  call->failuresBefore = core_.writeFailures.load();
  // Of one filter named twice the last counts, and its retained records come once.
  std::unordered_map<std::string_view, size_t> last;
  for (size_t i = 0; i < subscriptions.size(); ++i) last[subscriptions[i].text] = i;
  call->results.resize(subscriptions.size());
  for (size_t i = 0; i < subscriptions.size(); ++i) {
    if (last[subscriptions[i].text] == i) call->results[i] = addOne(subscriptions[i], *call);
  }
  for (size_t i = 0; i < subscriptions.size(); ++i) {
    size_t counts = last[subscriptions[i].text];
    if (counts == i) continue;
    call->results[i] = call->results[counts];
    if (call->results[i]) call->results[i] = grantedTo(subscriptions[i]);
  }
  auto& walks = call->walks;
  for (auto at = walks.begin(); at != walks.end() && !call->first.full && call->first.left > 0;) {
    if (!at->live) walkToInbox(*at, call->first);
    at = at->cursor.ended ? walks.erase(at) : std::next(at);
  }
  appendSubscriptions(call);
}

Result<DeliveryGuarantee> Session::addOne(const Subscription& subscription, SubscribeCall& call) {
  Resource resource{ResourceKind::kTopic, subscription.text};
  if (subscription.filter.levels.empty()) {
    return fail(ErrorKind::kInvalid, "a topic filter without levels");
  }
  // What it matches is judged again at delivery, record by record.
  if (!core_.authorizer.permitsSome(live_->principal, subscription.filter)) {
    return std::unexpected(notPermitted(resource));
  }
  bool shared = !subscription.share.empty();
  SubscriptionTrie::Place* there = shared ? nullptr : subscriptions_.find(subscription.text);
  bool isNew = there == nullptr;
  if (shared && aside_->shared) isNew = aside_->shared->find(subscription.text) == nullptr;
  ReplayLane* replays = aside_->replay.get();
  bool replayed = replays != nullptr && replays->find(subscription.text) != nullptr;
  isNew = isNew && !replayed;
  size_t others = aside_->shared ? aside_->shared->size() : 0;
  if (replays != nullptr) others += replays->size();
  if (isNew && subscriptions_.size() + others >= core_.options.maxSubscriptionsPerSession) {
    return fail(ErrorKind::kBusy, "the session has as many subscriptions as are allowed");
  }
  if (subscription.replay) return addReplay(subscription, call);
  if (replayed) replays->remove(subscription.text, call.first.request.state);
  if (shared) return addShared(subscription, call);
  if (subscription.exclusive && !core_.exclusive->claim(subscription.text, *this)) {
    return fail(ErrorKind::kLocked,
                "another session is subscribed to '" + subscription.text + "'");
  }
  isNew = there == nullptr;
  TrieEntry entry;
  entry.session = this;
  entry.number = isNew ? nextNumber_++ : (*there)->entry.number;
  entry.subscriptionId = subscription.id;
  entry.guarantee = grantedTo(subscription);
  entry.noLocal = subscription.noLocal;
  entry.retainAsPublished = subscription.retainAsPublished;
  // What it had subscribed to before, it goes on getting.
  entry.since = isNew ? core_.store.durableEnd() : (*there)->entry.since;
  auto place = core_.trie->add(subscription.filter, entry, isNew ? nullptr : *there);
  if (isNew) {
    core_.metrics.subscriptions.add(1);
    subscriptions_.put(subscription.text, place);
  }
  if (persistent()) {
    call.first.request.state.push_back({storage::StateTable::kSubscription,
                                        subscriptionKey(inbox_->partition(), subscription.text),
                                        encodeSubscription({subscription, entry.since})});
  }
  bool wanted = subscription.retainHandling == RetainHandling::kAlways ||
                (subscription.retainHandling == RetainHandling::kIfNew && isNew);
  if (wanted) {
    // Looked for once the subscription is in force: what is retained from now on comes live.
    RetainedWalk& walk = call.walks.emplace_back();
    walk.text = subscription.text;
    walk.filter = subscription.filter;
    walk.guarantee = entry.guarantee;
    walk.id = subscription.id;
    walk.live = !persistent() || entry.guarantee < DeliveryGuarantee::kAtLeastOnce;
    walk.attachment = attachments_;
  }
  return entry.guarantee;
}

/// No retained records are sent for it.
Result<DeliveryGuarantee> Session::addShared(const Subscription& subscription,
                                             SubscribeCall& call) {
  SharedLane& lane = sharedLane();
  bool isNew = lane.find(subscription.text) == nullptr;
  Subscription wanted = subscription;
  wanted.guarantee = grantedTo(subscription);
  if (auto joined = lane.add(wanted, core_.store.durableEnd()); !joined) {
    if (isNew) lane.remove(subscription.text);
    return std::unexpected(joined.error());
  }
  if (isNew) core_.metrics.subscriptions.add(1);
  if (persistent()) {
    call.first.request.state.push_back(
        {storage::StateTable::kSubscription, subscriptionKey(inbox_->partition(), wanted.text),
         encodeSubscription({wanted, lane.find(wanted.text)->since})});
  }
  return wanted.guarantee;
}

/// Instead of one of the same text that doesn't replay. No retained records are sent for it.
Result<DeliveryGuarantee> Session::addReplay(const Subscription& subscription,
                                             SubscribeCall& call) {
  Subscription wanted = subscription;
  wanted.guarantee = grantedTo(subscription);
  auto& state = call.first.request.state;
  if (Result<> added = replayLane().add(wanted, state); !added) {
    return std::unexpected(added.error());
  }
  if (SubscriptionTrie::Place* at = subscriptions_.find(subscription.text)) {
    drop(subscription.text, *at);
    subscriptions_.erase(subscription.text);
    if (persistent()) {
      state.push_back({storage::StateTable::kSubscription,
                       subscriptionKey(inbox_->partition(), subscription.text), std::nullopt});
    }
  }
  return wanted.guarantee;
}

void Session::appendSubscriptions(const std::shared_ptr<SubscribeCall>& call) {
  auto finish = [self = shared_from_this(), call](const Result<storage::Appended>& result) {
    self->onHome([self, call, failed = !result.has_value()] {
      self->retainedSettled(call->first, !failed);
      if (failed || call->failuresBefore != self->core_.writeFailures.load()) {
        self->reloadSubscriptions();
      }
      if (!failed) self->startRetained(std::move(call->walks));
      if (!failed && self->aside_->replay) self->aside_->replay->begin();
    });
    self->subscribed(*call, result);
  };
  storage::AppendRequest& request = call->first.request;
  if (request.state.empty() && request.messages.empty()) {
    home().later([finish, call] { finish(storage::Appended{}); });
    return;
  }
  request.durability = storage::Durability::kSynced;
  request.sink = &home().sink;
  request.done = [finish, &core = core_](const Result<storage::Appended>& result) {
    if (!result) ++core.writeFailures;
    finish(result);
  };
  auto appended = core_.store.append(std::move(request));
  if (!appended) {
    home().later([finish, error = appended.error()] { finish(std::unexpected(error)); });
  } else if (!appended->offsets.empty()) {
    retainedLinked(call->first, appended->offsets.back());
  }
}

void Session::subscribed(SubscribeCall& call, const Result<storage::Appended>& result) {
  if (result) {
    core_.tags->journaled(call.first.freshTags);
  } else {
    for (auto& one : call.results) {
      if (one) one = std::unexpected(result.error());
    }
  }
  call.done(std::move(call.results));
}

// ---------------------------------------------------------------- replays

ReplayLane& Session::replayLane() {
  auto& replay = aside_.write().replay;
  if (!replay) {
    replay = std::make_unique<ReplayLane>(core_, *this);
    if (live_) replay->attach();
  }
  return *replay;
}

Result<> Session::restoreReplay(const ReplayKey& key, BytesView value) {
  return replayLane().restore(key, value);
}

std::optional<LogPlace> Session::placeOf(int64_t id, Position batch, uint32_t index) const {
  return aside_->replay ? aside_->replay->placeOf(id, batch, index) : std::nullopt;
}

// ---------------------------------------------------------------- retained records
//
// They are looked for in steps, a bounded piece at a time, so that neither memory nor the worker's
// time follows how much is retained. One entry of them is on its way at a time, and what waits in
// memory is filled up to half of what may: the next come when the client has taken some.

void Session::startRetained(std::list<RetainedWalk> walks) {
  if (walks.empty() || phase_ == Phase::kEnded) return;
  // A filter that is subscribed to again begins anew.
  std::unordered_set<std::string_view> texts;
  for (const RetainedWalk& walk : walks) texts.insert(walk.text);
  auto& mine = aside_.write().walks;
  mine.remove_if([&](const RetainedWalk& walk) { return texts.contains(walk.text); });
  mine.splice(mine.end(), walks);
  // At once, if it can be: what is published once the client knows of its subscription shall not
  // come a second time as a retained record.
  if (!aside_->walking) walkRetained();
}

void Session::goOnRetained() {
  if (aside_->walking || aside_->walks.empty()) return tidy();
  aside_.write().walking = true;
  home().post([self = shared_from_this()] { self->onHome([self] { self->walkRetained(); }); });
}

void Session::walkRetained() {
  aside_.write().walking = false;
  auto& walks = aside_.write().walks;
  auto piece = std::make_shared<RetainedPiece>();
  size_t held = 0;  // in a row, for want of room
  while (held < walks.size() && piece->left > 0 && !piece->full) {
    RetainedWalk& walk = walks.front();
    bool over = false;
    if (!walk.live) {
      walkToInbox(walk, *piece);
    } else if (!live_ || walk.attachment != attachments_) {
      over = true;
    } else if (!walkLive(walk, piece->left)) {
      ++held;
      walks.splice(walks.end(), walks, walks.begin());
      continue;
    }
    held = 0;
    if (over || walk.cursor.ended) {
      walks.pop_front();
    } else {
      walks.splice(walks.end(), walks, walks.begin());  // they take turns
    }
  }
  bool paused = aside_.write().walkPaused = held > 0 && held == walks.size();
  if (!piece->request.messages.empty()) return appendPiece(piece);
  if (!paused) goOnRetained();
}

void Session::appendPiece(const std::shared_ptr<RetainedPiece>& piece) {
  aside_.write().walking = true;
  auto finish = [self = shared_from_this(), piece](const Result<storage::Appended>& result) {
    if (result) {
      self->core_.tags->journaled(piece->freshTags);
    } else {
      logWarning("retained records of a new subscription can't be stored: " + result.error().text);
    }
    self->onHome([self, piece, stored = result.has_value()] {
      self->retainedSettled(*piece, stored);
      Aside& aside = self->aside_.write();
      aside.walking = false;
      if (!stored) aside.walks.remove_if([](const RetainedWalk& walk) { return !walk.live; });
      self->goOnRetained();
    });
  };
  storage::AppendRequest& request = piece->request;
  request.durability = storage::Durability::kSynced;
  request.sink = &home().sink;
  request.done = [finish, &core = core_](const Result<storage::Appended>& result) {
    if (!result) ++core.writeFailures;
    finish(result);
  };
  auto appended = core_.store.append(std::move(request));
  if (!appended) {
    home().later([finish, error = appended.error()] { finish(std::unexpected(error)); });
    return;
  }
  retainedLinked(*piece, appended->offsets.back());
}

/// `last`: the offset of its last record.
void Session::retainedLinked(RetainedPiece& piece, Offset last) {
  piece.end = last + 1;
  const auto octets = static_cast<int64_t>(piece.bytes);
  if (!core_.options.inboxDropsNew) return appended(piece.end, octets);
  InboxRoom{shared_from_this(), piece.records, octets, piece.end}.sequenced();
}

void Session::retainedSettled(const RetainedPiece& piece, bool stored) {
  if (!core_.options.inboxDropsNew) return;
  const auto octets = static_cast<int64_t>(piece.bytes);
  InboxRoom{shared_from_this(), piece.records, octets, piece.end}.settle(stored);
}

/// On to the end of what matches or of what the piece may hold. Then, if some of it waits in
/// memory, the same way again for that.
void Session::walkToInbox(RetainedWalk& walk, RetainedPiece& piece) {
  size_t most = std::exchange(piece.left, 0);
  size_t seen = 1;  // a filter that finds nothing is work too
  core_.retained->match(walk.filter, walk.cursor, most, [&](BytesView text, const SharedBytes& v) {
    if (!addToPiece(walk, piece, text, v)) return false;
    ++seen;
    return true;
  });
  if (walk.cutOff) {
    logWarning("session '" + clientId_ + "': the retained records of '" + walk.text +
               "' are more than its inbox holds; the others are left out");
    ++aside_.write().dropped;
    core_.metrics.dropped(DropReason::kInboxFull).add();
    walk.cursor.ended = true;
  }
  piece.left = most - std::min(most, seen);
  if (!walk.cursor.ended || !walk.sawPlain) return;
  walk.live = true;
  walk.cursor = {};
}

/// False: the walk stops before this one.
bool Session::addToPiece(RetainedWalk& walk, RetainedPiece& piece, BytesView text,
                         const SharedBytes& value) {
  auto item = openRetained(walk, text, value);
  if (!item) return true;
  if (item->guarantee < DeliveryGuarantee::kAtLeastOnce) return walk.sawPlain = true;
  const RouterOptions& options = core_.options;
  const auto octets = static_cast<int64_t>(value.size() - 1);
  walk.cutOff = walk.stored >= options.inboxRecords || (options.inboxBytes > 0 && walk.stored > 0 &&
                                                        octets > options.inboxBytes - walk.octets);
  if (walk.cutOff) return false;
  const BlockSource& source = item->block->source;
  SharedBytes batch = value.slice(1);
  piece.full = piece.request.messages.size() >= kRetainedParts ||
               (piece.bytes + batch.size() > kRetainedBytes && !piece.request.messages.empty());
  if (piece.full) return false;
  auto tag = core_.tags->tagFor(*source.topic, walk.id, source.origin, piece.request.state,
                                piece.freshTags);
  if (!tag) {
    logWarning("retained records of a new subscription can't be delivered: " + tag.error().text);
    return true;
  }
  walk.cutOff = options.inboxDropsNew && !inbox_->admit(octets);
  if (walk.cutOff) return false;
  walk.octets += octets;
  ++piece.records;
  piece.bytes += batch.size();
  piece.request.messages.push_back(
      {std::move(batch),
       {{inbox_->partition(), 0, 0, inboxAttributes(item->guarantee, true, *tag)}}});
  ++walk.stored;
  return true;
}

/// False: there is no room before the client has taken something.
bool Session::walkLive(RetainedWalk& walk, size_t& left) {
  bool room = true;
  size_t most = std::exchange(left, 0);
  size_t seen = 1;
  core_.retained->match(walk.filter, walk.cursor, most, [&](BytesView text, const SharedBytes& v) {
    auto item = openRetained(walk, text, v);
    ++seen;
    if (!item) return true;
    bool throughInbox = persistent() && item->guarantee >= DeliveryGuarantee::kAtLeastOnce;
    if (throughInbox) return true;
    room = hasRoomFor(*item);
    if (room) pushLive(std::move(*item));
    return room;
  });
  left = most - std::min(most, seen);
  return room;
}

/// As it would wait in memory.
Result<LiveItem> Session::openRetained(const RetainedWalk& walk, BytesView text,
                                       const SharedBytes& value) const {
  auto batch = RetainedStore::batchOf(value);
  if (!batch) {
    logWarning("a retained record can't be delivered: " + batch.error().text);
    return std::unexpected(batch.error());
  }
  BlockSource source;
  source.topic = std::make_shared<const std::string>(splitAddressText(text).topic);
  source.origin = batch->first;
  auto block = openBlock(batch->second, std::move(source), core_.options);
  if (!block) return std::unexpected(block.error());
  if ((*block)->records.empty()) return fail(ErrorKind::kCorrupt, "an empty retained record");
  DeliveryGuarantee published = (*block)->records.front().record.guarantee;
  if (published == DeliveryGuarantee::kUnspecified) published = DeliveryGuarantee::kAtLeastOnce;
  LiveItem item;
  item.block = std::move(*block);
  item.guarantee = std::min(published, walk.guarantee);
  item.retain = true;
  if (walk.id != 0) item.subscriptionIds.push_back(walk.id);
  return item;
}

/// Retained records take up half of what may wait, so that what comes meanwhile has its place.
bool Session::hasRoomFor(const LiveItem& item) {
  const LiveQueue& queue = queueFor(item.guarantee);
  return queue.empty() || (queue.size() < core_.options.liveRecords / 2 &&
                           queue.bytes() + item.block->bytes <= core_.options.liveBytes / 2);
}

// ---------------------------------------------------------------- the others

/// After a failed write: what the state table says is what holds.
void Session::reloadSubscriptions() {
  if (!persistent() || phase_ == Phase::kEnded) return;
  if (aside_->replay) aside_->replay->reload();
  // The shares that it stays with shall not take it for their last member gone.
  std::vector<std::shared_ptr<ShareMembership>> kept;
  if (aside_->shared) {
    for (const std::string& text : aside_->shared->names()) kept.push_back(dropShared(text));
  }
  subscriptions_.forEach([this](const std::string& text, auto place) { drop(text, place); });
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
    std::vector<std::shared_ptr<ShareMembership>> left;  ///< once that is durable
  };
  auto call = std::make_shared<Call>();
  call->done = std::move(done);
  call->failuresBefore = core_.writeFailures.load();
  storage::AppendRequest request;
  for (const std::string& text : filters) {
    SubscriptionTrie::Place* at = subscriptions_.find(text);
    bool shared = aside_->shared && aside_->shared->find(text) != nullptr;
    bool replayed = aside_->replay && aside_->replay->remove(text, request.state);
    call->there.push_back(at != nullptr || shared || replayed);
    if (replayed) continue;
    if (shared) {
      call->left.push_back(dropShared(text));
    } else if (at != nullptr) {
      drop(text, *at);
      subscriptions_.erase(text);
    } else {
      continue;
    }
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
      self->onHome([self, call] { self->reloadSubscriptions(); });
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
size_t Attachment::take(size_t max, TakeLimits limits, std::vector<Delivery>& out) {
  return session_ ? session_->take(max, limits, out) : 0;
}
int64_t Attachment::sharedAcknowledgedUpTo() const {
  return session_ ? session_->sharedAcknowledgedUpTo() : kSharedIds;
}
void Attachment::acknowledge(int64_t id) {
  if (session_) session_->acknowledge(id);
}
void Attachment::accept(int64_t id, std::move_only_function<void(Result<>)> done) {
  if (session_) session_->accept(id, std::move(done));
}
void Attachment::forgetAccepted(std::move_only_function<void(Result<>)> done) {
  if (session_) session_->forgetAccepted(std::move(done));
}
uint64_t Attachment::life() const {
  return session_ && session_->persistent() ? session_->inbox().value() : 0;
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
void Attachment::loginRenewed(std::move_only_function<void(Result<>)> done) {
  if (session_) session_->loginRenewed(std::move(done));
}
void Attachment::setExpiry(uint32_t seconds) {
  if (session_) session_->setExpiry(seconds);
}
void Attachment::detach() {
  // The session may end now, and this object's reference with it.
  if (std::shared_ptr<Session> session = session_) session->detach();
}

}  // namespace polylog::router
