// What bridges keep: a row a bridge in the state table kBridge, held in memory as well. find() and
// names() may be called on any thread; the rest on a worker's.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/model/bridge.h"
#include "router/core.h"

namespace polylog::router {

class BridgeTable final : public BridgeStore {
 public:
  explicit BridgeTable(Core& core) : core_(core) {}
  void load();

  std::vector<std::string> names() const override;
  std::optional<std::string> find(const std::string& name) const override;
  void store(const std::string& name, std::string value, Done<Result<>> done) override;
  void remove(const std::string& name, Done<Result<>> done) override;
  void backlog(const std::string& clientId, Done<std::optional<Backlog>> done) override;

 private:
  void journal(const std::string& name, std::optional<std::string> value, Done<Result<>> done);

  Core& core_;
  mutable std::mutex lock_;
  std::map<std::string, std::string> rows_;  ///< what is durable
};

}  // namespace polylog::router
