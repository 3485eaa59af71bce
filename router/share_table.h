// Shared subscriptions by name: of each its queue, which routing fills as it does one that is bound
// to amq.topic, and its members. A share lasts as long as a session subscribes to it, connected or
// not; the queue has its records meanwhile (docs/decisions/0008-shared-subscriptions.md).
// Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/model/broker.h"
#include "router/core.h"
#include "router/exchange_table.h"

namespace polylog::router {

class Queue;
class Session;
class ShareTable;

/// That a session subscribes to a share: for as long as this lives.
class ShareMembership {
 public:
  /// `sleeper`: whose it is while the client is away; null where the session ends with it.
  ShareMembership(ShareTable& table, std::string name, std::shared_ptr<Queue> queue,
                  const Session& session, PrincipalRef sleeper)
      : table_(table),
        name_(std::move(name)),
        queue_(std::move(queue)),
        session_(session),
        sleeper_(std::move(sleeper)) {}
  ~ShareMembership();
  ShareMembership(const ShareMembership&) = delete;
  ShareMembership& operator=(const ShareMembership&) = delete;
  const std::shared_ptr<Queue>& queue() const { return queue_; }
  /// Another login has come.
  void sleepAs(PrincipalRef sleeper);

 private:
  friend class ShareTable;
  ShareTable& table_;
  const std::string name_;
  const std::shared_ptr<Queue> queue_;
  const Session& session_;  ///< outlives it
  PrincipalRef sleeper_;    ///< under the table's lock
};

class ShareTable {
 public:
  explicit ShareTable(Core& core) : core_(core) {}
  ~ShareTable();

  /// After queues, before sessions, which join again what they had subscribed to.
  void load();
  /// Once they have: lets those go that nobody has joined. On a worker.
  void prune();

  /// The share of that subscription, made if need be: what is published from now on waits in its
  /// queue. That is durable when what the caller appends next is. kBusy.
  Result<std::unique_ptr<ShareMembership>> join(Worker& worker, const Session& session,
                                                const Subscription& subscription);
  std::vector<SharedGroupInfo> list() const;
  /// By name and by what their last logins said, the members of a queue's share whose sessions
  /// outlive their connections.
  std::vector<PrincipalRef> lasting(const Queue& queue) const;
  /// The rules have changed: what is kept for members that are away is looked at again.
  void reconsider();

 private:
  friend class ShareMembership;
  struct Share {
    BindingEnd end;  ///< with its queue; known to the trie
    SubscriptionTrie::Place place = nullptr;
    std::set<const ShareMembership*> members;
  };

  void leave(const ShareMembership& member);
  Result<> make(Worker& worker, const std::string& name, Share& share);
  void bind(Share& share, const TopicFilter& filter);
  void unbind(Share& share);

  Core& core_;
  mutable std::mutex mutex_;
  std::map<std::string, Share, std::less<>> shares_;
};

}  // namespace polylog::router
