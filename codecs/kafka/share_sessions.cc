#include "codecs/kafka/share_sessions.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace polylog::kafka {

ShareSessions::Step ShareSessions::advance(const ShareMember& member, int32_t epoch,
                                           const Owner& owner, const std::vector<SharePlace>& added,
                                           const std::vector<SharePlace>& forgotten) {
  std::lock_guard lock(mutex_);
  auto at = sessions_.find(member);
  if (at != sessions_.end() && at->second.owner.user != owner.user) {
    return {Code::kInvalidRequest, {}};
  }
  if (epoch == kBegins) {
    if (at != sessions_.end()) erase(at);
    if (sessions_.size() >= limits_.sessions ||
        sessionsOf(owner.connection) >= limits_.sessionsOfConnection) {
      return {Code::kShareSessionLimitReached, {}};
    }
    at = sessions_.try_emplace(member, Session{1, owner}).first;
    byConnection_[owner.connection].insert(member);
  } else {
    if (at == sessions_.end()) return {Code::kShareSessionNotFound, {}};
    if (epoch == kEnds) {
      erase(at);
      return {};
    }
    if (epoch != at->second.epoch) return {Code::kInvalidShareSessionEpoch, {}};
    if (!belongsTo(at, owner.connection)) return {Code::kShareSessionLimitReached, {}};
    bool last = epoch == std::numeric_limits<int32_t>::max();
    at->second.epoch = last ? 1 : epoch + 1;
  }
  Session& session = at->second;
  for (const SharePlace& place : forgotten) partitions_ -= session.places.erase(place);
  if (!add(session, added)) {
    erase(at);
    return {Code::kShareSessionLimitReached, {}};
  }
  Step step;
  step.places.assign(session.places.begin(), session.places.end());
  // Each has its turn to be the first.
  if (!step.places.empty()) {
    auto turn = static_cast<size_t>(epoch) % step.places.size();
    std::ranges::rotate(step.places, step.places.begin() + static_cast<ptrdiff_t>(turn));
  }
  return step;
}

bool ShareSessions::add(Session& session, const std::vector<SharePlace>& places) {
  size_t ofConnection = partitionsOf(session.owner.connection);
  for (const SharePlace& place : places) {
    if (!session.places.insert(place).second) continue;
    ++partitions_;
    ++ofConnection;
    if (partitions_ > limits_.partitions || ofConnection > limits_.partitionsOfConnection) {
      return false;
    }
  }
  return true;
}

size_t ShareSessions::sessionsOf(uint64_t connection) const {
  auto own = byConnection_.find(connection);
  return own == byConnection_.end() ? 0 : own->second.size();
}

size_t ShareSessions::partitionsOf(uint64_t connection) const {
  auto own = byConnection_.find(connection);
  if (own == byConnection_.end()) return 0;
  size_t sum = 0;
  for (const ShareMember& member : own->second) sum += sessions_.at(member).places.size();
  return sum;
}

/// False if that is too much for the connection.
bool ShareSessions::belongsTo(Sessions::iterator at, uint64_t connection) {
  const uint64_t before = at->second.owner.connection;
  if (before == connection) return true;
  if (sessionsOf(connection) >= limits_.sessionsOfConnection ||
      partitionsOf(connection) + at->second.places.size() > limits_.partitionsOfConnection) {
    return false;
  }
  at->second.owner.connection = connection;
  auto old = byConnection_.find(before);
  if (old != byConnection_.end()) {
    old->second.erase(at->first);
    if (old->second.empty()) byConnection_.erase(old);
  }
  byConnection_[connection].insert(at->first);
  return true;
}

void ShareSessions::erase(Sessions::iterator at) {
  partitions_ -= at->second.places.size();
  auto owner = byConnection_.find(at->second.owner.connection);
  if (owner != byConnection_.end()) {
    owner->second.erase(at->first);
    if (owner->second.empty()) byConnection_.erase(owner);
  }
  sessions_.erase(at);
}

std::vector<ShareMember> ShareSessions::closed(uint64_t connection) {
  std::lock_guard lock(mutex_);
  auto owner = byConnection_.find(connection);
  if (owner == byConnection_.end()) return {};
  std::vector<ShareMember> members(owner->second.begin(), owner->second.end());
  for (const ShareMember& member : members) erase(sessions_.find(member));
  return members;
}

size_t ShareSessions::size() const {
  std::lock_guard lock(mutex_);
  return sessions_.size();
}

}  // namespace polylog::kafka
