// A session's shared subscriptions: its memberships and, while the client is connected, a consumer
// at the queue of each. What these hand over waits here until the client takes it; its ids are of a
// sequence of their own, from kSharedIds on, and of the connection alone: what has not been
// acknowledged when it ends goes back to its queue, to whichever member is there. Exactly-once
// deliveries of a session that outlives its connection do not come this way: the queue moves them
// to the session's inbox. On the session's worker only.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/model/delivery.h"
#include "core/model/queue.h"
#include "core/model/subscriber_session.h"
#include "router/core.h"

namespace polylog::router {

class Queue;
class Session;
class ShareMembership;

class SharedLane {
  class Member;

 public:
  SharedLane(Core& core, Session& session);
  ~SharedLane();

  /// Joins, or changes what it wants. ShareTable::join()'s errors.
  Result<> add(const Subscription& subscription, Position since);
  /// The share knows of the member until what this returns goes: when its unsubscribing is durable.
  std::shared_ptr<ShareMembership> remove(const std::string& text);

  struct Share {
    Subscription subscription;
    Position since;                               ///< when it was first subscribed to
    std::shared_ptr<ShareMembership> membership;  ///< null: its queue could not be made yet
    std::shared_ptr<Member> member;               ///< while connected
  };
  size_t size() const { return shares_.size(); }
  const Share* find(const std::string& text) const {
    auto at = shares_.find(text);
    return at == shares_.end() ? nullptr : &at->second;
  }
  std::vector<std::string> names() const;
  /// visit(const Subscription&)
  template <class Visit>
  void forEach(Visit&& visit) const {
    for (const auto& [text, share] : shares_) visit(share.subscription);
  }

  /// A connection begins, which takes so many at a time; and ends.
  void attach(int64_t window);
  void detach();
  /// The client may read other things than before.
  void reconsider();

  size_t take(size_t max, int64_t idLimit, std::vector<Delivery>& out);
  void acknowledge(int64_t id);
  /// Accepted (PUBREC): no other member gets it any more.
  void accept(int64_t id);
  int64_t acknowledgedUpTo() const;
  /// One that the queue had moved to the inbox is through.
  void inboxAcknowledged(int64_t id);

 private:
  using MemberRef = std::shared_ptr<Member>;
  struct Ready {
    MemberRef member;
    QueueDelivery delivery;
  };
  struct Out {
    MemberRef member;
    int64_t queueId = 0;
    DeliveryGuarantee guarantee{};
    bool settled = false;
  };
  using Settlements = std::vector<std::pair<std::shared_ptr<Queue>, Settlement>>;

  void begin(Share& share);
  void end(Share& share);
  bool deliver(Ready& ready, std::vector<Delivery>& out, int64_t idLimit);
  void sendBack(const Ready& ready);
  void arrived(const MemberRef& member, std::span<QueueDelivery> deliveries);
  void cancelled(const MemberRef& member);
  void moved(const Member& member, std::span<const int64_t> inboxIds);
  void settleSoon(const MemberRef& member, int64_t queueId, Disposition disposition);
  void resumeSoon();
  void settleNow();

  Core& core_;
  Session& session_;
  std::map<std::string, Share> shares_;
  /// Of the connection.
  DeliveryWindowRef window_;
  DeliveryFlightRef flight_;
  std::deque<Ready> ready_;
  std::map<int64_t, Out> out_;
  std::set<int64_t> moved_;  ///< inbox ids that hold a place of the window
  int64_t nextId_ = 0;
  Settlements due_;
  bool settling_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace polylog::router
