// Incremental fetch sessions (KIP-227): what a consumer reads is remembered, so that it names only
// what changes, and is told only of partitions where something has. All connections of a listener
// share them, since a client may go on with its session over another connection. In memory alone: a
// client whose session is gone is told so and begins another.
//
// Any thread. Neither lock is taken with the other held.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "codecs/kafka/errors.h"
#include "core/base/clock.h"
#include "core/model/topic.h"

namespace polylog::kafka {

/// A partition as its client names it: by the topic's name, or from version 13 on by its id.
struct FetchKey {
  std::string topic;
  TopicId id{};
  int32_t index = 0;

  bool operator==(const FetchKey&) const = default;
};

struct FetchEntry {
  FetchKey key;
  int64_t offset = 0;
  int32_t maxBytes = 0;
  // What the client was told last.
  int64_t highWatermark = -1;
  int64_t logStart = -1;
};

/// What a fetch has found of a partition.
struct FetchFinding {
  bool records = false;
  int16_t errorCode = 0;
  int64_t highWatermark = -1;
  int64_t logStart = -1;
};

class FetchSession {
 public:
  FetchSession(int32_t id, bool byId, std::vector<FetchEntry> entries);

  int32_t id() const { return id_; }

 private:
  friend class FetchSessions;

  struct Hash {
    size_t operator()(const FetchKey& key) const;
  };

  Code update(int32_t epoch, bool byId, std::vector<FetchEntry> changed,
              const std::vector<FetchKey>& forgotten);
  void put(FetchEntry entry);

  const int32_t id_;
  const bool byId_;
  std::mutex mutex_;
  int32_t epoch_ = 1;  ///< of the next request
  std::list<FetchEntry> order_;
  std::unordered_map<FetchKey, std::list<FetchEntry>::iterator, Hash> places_;
};

class FetchSessions {
 public:
  struct Limits {
    size_t sessions = 1000;        ///< max.incremental.fetch.session.cache.slots
    size_t partitions = 200'000;   ///< of all sessions together
    int64_t evictionMs = 120'000;  ///< how long a session has its place for sure
  };

  FetchSessions(Limits limits, Random& random) : limits_(limits), random_(random) {}

  /// A session of these partitions, whose next request has epoch 1. Its id; 0 if there is no place
  /// for it. A place has who isn't used for longer than `evictionMs`, or is older than that and
  /// smaller.
  int32_t create(std::vector<FetchEntry> entries, bool byId, int64_t nowMs);

  struct Step {
    Code error = Code::kNone;
    /// Null with an error, and once there is nothing left in it.
    std::shared_ptr<FetchSession> session;
    std::vector<FetchEntry> entries;  ///< all of it, in the order to be read in
  };
  /// The request of that epoch: what it adds, changes and leaves out.
  Step advance(int32_t id, int32_t epoch, bool byId, std::vector<FetchEntry> changed,
               const std::vector<FetchKey>& forgotten, int64_t nowMs);

  /// Which of the entries that advance() gave its client is to be told of; that is remembered as
  /// told. What had records is read last from now on, so that the others have their turn. Empty:
  /// another request has been made of the session since.
  std::vector<bool> tell(FetchSession& session, int32_t epoch,
                         const std::vector<FetchEntry>& entries,
                         const std::vector<FetchFinding>& findings);

  void remove(int32_t id);

  size_t size() const;

 private:
  struct Slot {
    std::shared_ptr<FetchSession> session;
    size_t partitions = 0;
    int64_t createdMs = 0;
    int64_t usedMs = 0;
  };
  using Slots = std::unordered_map<int32_t, Slot>;

  bool makeRoom(size_t partitions, int64_t nowMs);
  void erase(Slots::iterator at);
  /// The session has so many partitions now. False if that is too many, and it is gone.
  bool resized(int32_t id, size_t partitions, int64_t nowMs);

  const Limits limits_;
  Random& random_;
  mutable std::mutex mutex_;
  Slots slots_;
  size_t partitions_ = 0;
};

}  // namespace polylog::kafka
