// Who may do what with share groups: asks the one authorizer, then GroupCoordinator. Any worker.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/model/share_group.h"
#include "router/core.h"

namespace polylog::router {

class ShareAccess final : public ShareGroups {
 public:
  explicit ShareAccess(Core& core) : core_(core) {}

  void shareHeartbeat(const PrincipalRef& principal, ShareHeartbeat beat,
                      Done<Result<ConsumerHeartbeatAnswer>> done) override;
  bool mayTakePart(const PrincipalRef& principal, const std::string& group) const override {
    return permits(principal, Operation::kJoin, group);
  }
  void settleShares(const PrincipalRef& principal, std::string group, std::string memberId,
                    std::vector<ShareSettlement> settlements,
                    Done<Result<ShareSettled>> done) override;
  std::unique_ptr<WaitHandle> acquireShares(const PrincipalRef& principal, ShareAcquire asked,
                                            Done<Result<ShareAcquired>> done) override;
  void releaseShares(std::string group, std::string memberId, Task done) override;
  void shareOffsets(const PrincipalRef& principal, std::string group,
                    std::optional<std::vector<std::pair<std::string, int32_t>>> partitions,
                    Done<Result<std::vector<ShareOffset>>> done) override;
  void alterShareOffsets(const PrincipalRef& principal, std::string group,
                         std::vector<ShareOffset> offsets,
                         Done<Result<std::vector<Result<>>>> done) override;
  void deleteShareOffsets(const PrincipalRef& principal, std::string group,
                          std::vector<std::string> topics,
                          Done<Result<std::vector<Result<>>>> done) override;

 private:
  bool permits(const PrincipalRef& principal, Operation operation, const std::string& group) const;
  bool topicPermits(const PrincipalRef& principal, Operation operation,
                    const std::string& topic) const;
  template <class T>
  void refuse(const std::string& group, Done<Result<T>> done) const;

  Core& core_;
};

}  // namespace polylog::router
