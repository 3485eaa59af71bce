#include "router/share_access.h"

#include <algorithm>

#include "router/group_coordinator.h"

namespace polylog::router {
namespace {

using Results = std::vector<Result<>>;

std::unexpected<Error> topicDenied(const std::string& topic) {
  return std::unexpected(notPermitted({ResourceKind::kTopic, topic}));
}

/// Puts the refusals of some back among the answers to the rest.
Done<Result<Results>> withRefusals(Results refusals, Done<Result<Results>> done) {
  return [refusals = std::move(refusals), done = std::move(done)](Result<Results> rest) mutable {
    if (!rest) return done(std::unexpected(rest.error()));
    size_t next = 0;
    for (Result<>& result : refusals) {
      if (result && next < rest->size()) result = std::move((*rest)[next++]);
    }
    done(std::move(refusals));
  };
}

}  // namespace

bool ShareAccess::permits(const PrincipalRef& principal, Operation operation,
                          const std::string& group) const {
  return core_.authorizer.permits(principal, operation, {ResourceKind::kGroup, group});
}

bool ShareAccess::topicPermits(const PrincipalRef& principal, Operation operation,
                               const std::string& topic) const {
  return core_.authorizer.permits(principal, operation, {ResourceKind::kTopic, topic});
}

template <class T>
void ShareAccess::refuse(const std::string& group, Done<Result<T>> done) const {
  core_.here().later(
      [done = std::move(done), error = notPermitted({ResourceKind::kGroup, group})]() mutable {
        done(std::unexpected(std::move(error)));
      });
}

void ShareAccess::shareHeartbeat(const PrincipalRef& principal, ShareHeartbeat beat,
                                 Done<Result<ConsumerHeartbeatAnswer>> done) {
  if (!permits(principal, Operation::kJoin, beat.group)) return refuse(beat.group, std::move(done));
  core_.groups->shareHeartbeat(std::move(beat), std::move(done));
}

void ShareAccess::settleShares(const PrincipalRef& principal, std::string group,
                               std::string memberId, std::vector<ShareSettlement> settlements,
                               Done<Result<ShareSettled>> done) {
  if (!permits(principal, Operation::kJoin, group)) return refuse(group, std::move(done));
  core_.groups->settleShares(principal, std::move(group), std::move(memberId),
                             std::move(settlements), std::move(done));
}

std::unique_ptr<WaitHandle> ShareAccess::acquireShares(const PrincipalRef& principal,
                                                       ShareAcquire asked,
                                                       Done<Result<ShareAcquired>> done) {
  if (!permits(principal, Operation::kJoin, asked.group)) {
    refuse(asked.group, std::move(done));
    return nullptr;
  }
  return core_.groups->acquireShares(principal, std::move(asked), std::move(done));
}

void ShareAccess::releaseShares(std::string group, std::string memberId, Task done) {
  core_.groups->releaseShares(std::move(group), std::move(memberId), std::move(done));
}

void ShareAccess::shareOffsets(
    const PrincipalRef& principal, std::string group,
    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
    Done<Result<std::vector<ShareOffset>>> done) {
  if (!permits(principal, Operation::kDescribe, group)) return refuse(group, std::move(done));
  bool all = !partitions;
  auto seen = [this, principal, all,
               done = std::move(done)](Result<std::vector<ShareOffset>> offsets) mutable {
    if (!offsets) return done(std::move(offsets));
    auto hidden = [&](const ShareOffset& one) {
      return !topicPermits(principal, Operation::kDescribe, one.topic);
    };
    if (all) std::erase_if(*offsets, hidden);
    for (ShareOffset& one : *offsets) {
      if (!hidden(one)) continue;
      one.id = {};
      one.start = one.lag = -1;
      one.error = topicDenied(one.topic).error();
    }
    done(std::move(offsets));
  };
  core_.groups->shareOffsets(std::move(group), std::move(partitions), std::move(seen));
}

void ShareAccess::alterShareOffsets(const PrincipalRef& principal, std::string group,
                                    std::vector<ShareOffset> offsets,
                                    Done<Result<std::vector<Result<>>>> done) {
  if (!permits(principal, Operation::kJoin, group)) return refuse(group, std::move(done));
  Results refusals;
  std::vector<ShareOffset> allowed;
  for (ShareOffset& one : offsets) {
    bool may = topicPermits(principal, Operation::kRead, one.topic);
    refusals.push_back(may ? Result<>() : topicDenied(one.topic));
    if (may) allowed.push_back(std::move(one));
  }
  core_.groups->alterShareOffsets(std::move(group), std::move(allowed),
                                  withRefusals(std::move(refusals), std::move(done)));
}

void ShareAccess::deleteShareOffsets(const PrincipalRef& principal, std::string group,
                                     std::vector<std::string> topics,
                                     Done<Result<std::vector<Result<>>>> done) {
  if (!permits(principal, Operation::kDelete, group)) return refuse(group, std::move(done));
  Results refusals;
  std::vector<std::string> allowed;
  for (std::string& topic : topics) {
    bool may = topicPermits(principal, Operation::kRead, topic);
    refusals.push_back(may ? Result<>() : topicDenied(topic));
    if (may) allowed.push_back(std::move(topic));
  }
  core_.groups->deleteShareOffsets(std::move(group), std::move(allowed),
                                   withRefusals(std::move(refusals), std::move(done)));
}

}  // namespace polylog::router
