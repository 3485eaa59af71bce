#include "router/bridge_store.h"

#include <memory>
#include <utility>

#include "router/session_registry.h"

namespace polylog::router {

using storage::StateTable;

void BridgeTable::load() {
  core_.store.scanState(StateTable::kBridge, {}, [&](BytesView key, BytesView value) {
    rows_.emplace(std::string(key), std::string(value));
    return true;
  });
}

std::vector<std::string> BridgeTable::names() const {
  std::lock_guard hold(lock_);
  std::vector<std::string> all;
  for (const auto& [name, value] : rows_) all.push_back(name);
  return all;
}

std::optional<std::string> BridgeTable::find(const std::string& name) const {
  std::lock_guard hold(lock_);
  auto found = rows_.find(name);
  return found == rows_.end() ? std::nullopt : std::optional(found->second);
}

void BridgeTable::store(const std::string& name, std::string value, Done<Result<>> done) {
  journal(name, std::move(value), std::move(done));
}

void BridgeTable::remove(const std::string& name, Done<Result<>> done) {
  journal(name, std::nullopt, std::move(done));
}

void BridgeTable::journal(const std::string& name, std::optional<std::string> value,
                          Done<Result<>> done) {
  Worker& worker = core_.here();
  auto shared = std::make_shared<Done<Result<>>>(std::move(done));
  storage::AppendRequest request;
  request.state.push_back({StateTable::kBridge, name, value});
  request.durability = storage::Durability::kSynced;
  request.sink = &worker.sink;
  request.done = [this, shared, name,
                  value = std::move(value)](const Result<storage::Appended>& result) {
    if (!result) {
      ++core_.writeFailures;
      return (*shared)(std::unexpected(result.error()));
    }
    {
      std::lock_guard hold(lock_);
      value ? (void)rows_.insert_or_assign(name, *value) : (void)rows_.erase(name);
    }
    (*shared)({});
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    worker.later([shared, error = appended.error()] { (*shared)(std::unexpected(error)); });
  }
}

void BridgeTable::backlog(const std::string& clientId, Done<std::optional<Backlog>> done) {
  Worker& caller = core_.here();
  auto session = core_.sessions->find(clientId);
  if (!session) {
    return caller.later([done = std::move(done)]() mutable { done(std::nullopt); });
  }
  session->onHome([session, &caller, done = std::move(done)]() mutable {
    const Session::Backlog found = session->backlog();
    Backlog told{found.waiting, found.inFlight, found.dropped};
    caller.post([done = std::move(done), told]() mutable { done(told); });
  });
}

}  // namespace polylog::router
