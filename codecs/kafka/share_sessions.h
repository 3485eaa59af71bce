// Share sessions (KIP-932): which partitions a member of a share group fetches, so that it names
// only what changes, and which request of its comes next. A session goes with the connection over
// which its member was last heard of, and what the member has got then goes to others. In memory
// alone: a member whose session is gone is told so and begins another. It is the user's who began
// it: another who names the same member gets nowhere.
//
// Any thread. No other lock is taken with this one held.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "codecs/kafka/errors.h"
#include "core/model/share_group.h"

namespace polylog::kafka {

struct ShareMember {
  std::string group;
  std::string member;
  auto operator<=>(const ShareMember&) const = default;
};

class ShareSessions {
 public:
  static constexpr int32_t kBegins = 0;
  static constexpr int32_t kEnds = -1;

  struct Limits {
    size_t sessions = 2000;       ///< group.share.max.share.sessions
    size_t partitions = 200'000;  ///< of all sessions together
    size_t sessionsOfConnection = 50;
    size_t partitionsOfConnection = 20'000;
  };
  explicit ShareSessions(Limits limits) : limits_(limits) {}

  uint64_t newConnection() { return ++connections_; }

  /// Whose request it is.
  struct Owner {
    uint64_t connection = 0;
    std::string user;  ///< as it has logged in
  };

  struct Step {
    Code error = Code::kNone;
    std::vector<SharePlace> places;  ///< all of it, in the order to be read in
  };
  /// The request of that epoch, with what it adds and leaves out. With kEnds the session is over.
  /// kInvalidRequest where the session is another user's.
  Step advance(const ShareMember& member, int32_t epoch, const Owner& owner,
               const std::vector<SharePlace>& added, const std::vector<SharePlace>& forgotten);

  /// Ends the connection's sessions: whose they were.
  std::vector<ShareMember> closed(uint64_t connection);

  size_t size() const;

 private:
  struct Session {
    int32_t epoch = 1;  ///< of the next request
    Owner owner = {};
    std::set<SharePlace> places = {};
  };
  using Sessions = std::map<ShareMember, Session>;

  bool belongsTo(Sessions::iterator at, uint64_t connection);
  void erase(Sessions::iterator at);
  bool add(Session& session, const std::vector<SharePlace>& places);
  size_t sessionsOf(uint64_t connection) const;
  size_t partitionsOf(uint64_t connection) const;

  const Limits limits_;
  std::atomic<uint64_t> connections_{0};
  mutable std::mutex mutex_;
  Sessions sessions_;
  std::unordered_map<uint64_t, std::set<ShareMember>> byConnection_;
  size_t partitions_ = 0;
};

}  // namespace polylog::kafka
