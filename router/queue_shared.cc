// What a queue does for a shared subscription: who of its members is next, and exactly-once
// deliveries, which it moves to the inbox of the member that gets them.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "router/address_tags.h"
#include "router/queue.h"
#include "router/share_table.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

size_t hashOf(const std::optional<BytesView>& text) {
  return text ? std::hash<BytesView>{}(*text) : 0;
}

size_t hashOf(const Address& address) {
  return hashOf(std::optional(address.topic)) * 31 + hashOf(address.key);
}

std::optional<BytesView> publisherOf(const Record& record) {
  for (const Header& header : record.headers) {
    if (header.name == kPublisherHeader) return header.value;
  }
  return std::nullopt;
}

}  // namespace

// ---------------------------------------------------------------- whose turn it is

/// Of those with room that may read the record. None: whose turn it is has no room, and all wait
/// for it; or no member may read it.
std::deque<ConsumerRef>::iterator Queue::whoseTurn(const RoutedRecord& record) {
  if (spec_.kind != QueueKind::kShared) return ready_.begin();
  auto may = [&](const ConsumerRef& one) { return mayHave(*one, record); };
  switch (core_.options.sharedDispatch) {
    case SharedDispatch::kRoundRobin: break;
    case SharedDispatch::kRandom: {
      auto from = ready_.begin() + static_cast<std::ptrdiff_t>(core_.random.next() % ready_.size());
      if (auto at = std::find_if(from, ready_.end(), may); at != ready_.end()) return at;
      break;
    }
    case SharedDispatch::kSticky:
      if (!sticky_) sticky_ = ready_.front();
      if (may(sticky_)) return turnOf(sticky_);
      break;
    case SharedDispatch::kHashClient:
      return turnOf(memberOf(hashOf(publisherOf(record.record)), record));
    case SharedDispatch::kHashTopic: return turnOf(memberOf(hashOf(record.address), record));
    case SharedDispatch::kLeastInFlight: {
      auto least = ready_.end();
      for (auto at = ready_.begin(); at != ready_.end(); ++at) {
        bool less = least == ready_.end() || (*at)->inFlight() < (*least)->inFlight();
        if (less && may(*at)) least = at;
      }
      return least;
    }
  }
  return std::ranges::find_if(ready_, may);
}

std::deque<ConsumerRef>::iterator Queue::turnOf(const ConsumerRef& consumer) {
  return std::ranges::find(ready_, consumer);
}

/// The member whose the hash is, or the next one that may read the record. Null: none may.
ConsumerRef Queue::memberOf(size_t hash, const RoutedRecord& record) const {
  for (size_t i = 0; i < consumers_.size(); ++i) {
    const ConsumerRef& one = consumers_[(hash % consumers_.size() + i) % consumers_.size()];
    if (mayHave(*one, record)) return one;
  }
  return nullptr;
}

/// Rules may let a member have some of its group's records, and others not.
bool Queue::mayHave(const Consumer& consumer, const RoutedRecord& record) const {
  if (consumer.reader == nullptr) return true;
  if (!core_.authorizer.judges(*consumer.reader)) return true;
  return core_.authorizer.permits(consumer.reader, Operation::kRead,
                                  {ResourceKind::kTopic, record.address.topic, record.address});
}

bool Queue::someoneMayHave(const RoutedRecord& record) const {
  return std::ranges::any_of(consumers_,
                             [&](const ConsumerRef& one) { return mayHave(*one, record); });
}

/// Whether a member that is away may, by the rules for its user and by what its last login said.
bool Queue::absentMayHave(const RoutedRecord& record) const {
  auto present = [&](const PrincipalRef& who) {
    return std::ranges::any_of(consumers_, [&](const ConsumerRef& one) {
      return one->reader != nullptr && one->reader->clientId == who->clientId;
    });
  };
  const std::vector<PrincipalRef> members = core_.shares->lasting(*this);
  return std::ranges::any_of(members, [&](const PrincipalRef& who) {
    return core_.authorizer.permits(who, Operation::kRead,
                                    {ResourceKind::kTopic, record.address.topic, record.address}) &&
           !present(who);
  });
}

/// It waits for a member that is away and may read it, out of the others' way.
void Queue::keep(const Next& next) {
  kept_.emplace(next.id, next.redelivered);
  keptUnder_ = core_.authorizer.generation();
  if (next.fromReturned) {
    returned_.erase(next.id);
  } else {
    ++cursor_;
  }
}

/// What is kept waits for everybody again.
void Queue::bringBack() {
  for (const auto& [id, redelivered] : kept_) putBack(id, redelivered);
  kept_.clear();
}

void Queue::reconsider() {
  onHome([self = shared_from_this()] {
    if (self->kept_.empty() || self->ended_) return;
    self->bringBack();
    self->pump();
  });
}

/// No member may read it: as an ordinary subscription's, it is dropped, so that it doesn't bar the
/// others' way.
void Queue::deny(const Next& next) {
  acks_.add(next.id);
  if (next.fromReturned) {
    returned_.erase(next.id);
  } else {
    ++cursor_;
  }
  core_.metrics.dropped(DropReason::kDenied).add();
  changed();
}

void Queue::offer(std::vector<RoutedRecordRef> records) {
  onHome([self = shared_from_this(), records = std::move(records)] {
    std::vector<ConsumerRef> given;
    for (const RoutedRecordRef& record : records) {
      QueueDelivery delivery;
      delivery.id = -1;
      delivery.record = record;
      delivery.octets = static_cast<int64_t>(sizeOf(record->record));
      bool taken = false;
      while (!taken && !self->ended_ && !self->ready_.empty()) {
        auto turn = self->whoseTurn(*record);
        if (turn == self->ready_.end()) break;
        ConsumerRef consumer = std::move(*turn);
        self->ready_.erase(turn);
        if (!consumer->reserve(delivery.octets)) continue;
        taken = true;
        if (consumer->batch.empty()) given.push_back(consumer);
        consumer->batch.push_back(std::move(delivery));
        self->ready_.push_back(std::move(consumer));
      }
      if (taken) continue;
      bool full = self->someoneMayHave(*record) || self->consumers_.empty();
      self->core_.metrics.dropped(full ? DropReason::kQueueFull : DropReason::kDenied).add();
    }
    for (const ConsumerRef& consumer : given) self->hand(consumer);
  });
}

// ---------------------------------------------------------------- moving to an inbox
//
// Exactly once over crashes needs the packet id that the client knows, and what it has accepted:
// an inbox has both. The link into it and the acknowledgement here are one entry. So that no other
// entry tells an older state of the acknowledgements behind it, one of them is on its way at a
// time, and journal() waits, too.

bool Queue::movesTo(const Consumer& consumer, const Record& record) const {
  return consumer.moves && record.guarantee == DeliveryGuarantee::kExactlyOnce;
}

void Queue::move() {
  if (toMove_.empty() || journalOnItsWay_ || ended_) return;
  auto moves = std::make_shared<Moves>(std::exchange(toMove_, {}));
  auto fresh = std::make_shared<std::vector<uint32_t>>();
  auto chunks = std::make_shared<std::vector<int64_t>>();
  storage::AppendRequest request;
  Result<> added;
  AckSet after = acks_;
  for (const Move& one : *moves) {
    if (added) added = addMove(one, request, *fresh);
    after.add(one.delivery.id);
  }
  if (!added) return moved(*moves, std::unexpected(added.error()));
  if (after.floor() > journaledFloor_) {
    request.state.push_back(storage::logStartMoved(partition_, Offset(after.floor())));
  }
  after.takeChanged([&](int64_t chunk, std::optional<std::string> octets) {
    if (octets) chunks->push_back(chunk);
    request.state.push_back(
        {storage::StateTable::kQueueAck, queueAckKey(partition_, chunk), std::move(octets)});
  });
  int64_t floor = after.floor();
  request.durability = storage::Durability::kSynced;
  request.sink = &home_.sink;
  request.done = [weak = weak_from_this(), &core = core_, moves, fresh,
                  chunks](const Result<storage::Appended>& result) {
    if (result) {
      core.tags->journaled(*fresh);
    } else {
      ++core.writeFailures;
    }
    auto self = weak.lock();
    if (!self) return;
    self->moved(*moves, result);
    for (int64_t chunk : *chunks) self->acks_.journaledElsewhere(chunk);
    self->journaled(result.has_value());
  };
  auto appended = core_.store.append(std::move(request));
  if (!appended) return moved(*moves, std::unexpected(appended.error()));
  journalOnItsWay_ = true;
  journaledFloor_ = std::max(journaledFloor_, floor);
}

Result<> Queue::addMove(const Move& move, storage::AppendRequest& request,
                        std::vector<uint32_t>& fresh) {
  const MoveTerms& terms = *move.consumer->moves;
  uint32_t tag = tagOf(move.attributes);
  if (terms.subscriptionId != 0) {
    AddressTag meaning = core_.tags->find(tag);
    auto own = core_.tags->tagFor(*meaning.topic, terms.subscriptionId, meaning.origin,
                                  request.state, fresh);
    if (!own) return std::unexpected(own.error());
    tag = *own;
  }
  bool retain = move.delivery.record->record.retain && terms.retainAsPublished;
  request.links.push_back({move.place,
                           {{terms.inbox, move.index, 1,
                             inboxAttributes(DeliveryGuarantee::kExactlyOnce, retain, tag)}}});
  return {};
}

void Queue::moved(const Moves& moves, const Result<storage::Appended>& result) {
  bool gone = !result && result.error().kind == ErrorKind::kNotFound;
  if (!result && !gone) {
    logWarning(fmt::format("'{}': deliveries can't be moved to inboxes and wait: {}",
                           spec_.name.c_str(), result.error().text));
  }
  for (size_t i = 0; i < moves.size(); ++i) {
    const auto& [consumer, delivery, place, index, attributes] = moves[i];
    --out_;
    again_.erase(delivery.id);
    consumer->flight.give(1, delivery.octets);
    if (consumer->connectionFlight) consumer->connectionFlight->give(1, delivery.octets);
    if (result) {
      acks_.add(delivery.id);
      core_.onWorker(consumer->worker, [consumer, id = result->offsets[i].value()] {
        consumer->moves->moved({&id, 1});
      });
    } else {
      putBack(delivery.id, delivery.redelivered);
      if (consumer->channelWindow) consumer->channelWindow->give(1);
    }
  }
  changed();
  unblock();
  if (result || ended_) return pump();
  // A member whose inbox has gone is about to go itself.
  if (gone) return pumpSoon();
  retrySoon();
}

}  // namespace polylog::router
