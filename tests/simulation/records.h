// What was published, what its publishers were told, and what the logs must therefore hold. A
// record's value says which it is.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/simulation/machine.h"

namespace polylog::simulation {

/// A topic of the simulated broker; they exist from its first start on.
struct TopicModel {
  const char* name;
  int32_t partitions;
  bool waitsForDisk = true;  ///< flush=safe: what is told, or seen, is durable
  bool expires = false;      ///< old records go
  bool compacts = false;     ///< superseded records go
};
inline constexpr TopicModel kTopics[] = {
    {"steady", 2, true, false, false},
    {"quick", 1, false, false, false},
    {"short", 1, true, true, false},
    {"latest", 2, true, false, true},
};
constexpr size_t kTopicCount = std::size(kTopics);

struct Sent {
  enum class Fate : uint8_t { kAsked, kStored, kRefused };
  size_t topic = 0;
  int32_t partition = 0;
  std::string key;
  size_t publisher = 0;
  bool waited = true;  ///< it was to be told
  uint64_t asked = 0;  ///< Machine::tick()
  uint64_t told = 0;
  Fate fate = Fate::kAsked;
  int64_t offset = -1;  ///< if that was told

  const TopicModel& model() const { return kTopics[topic]; }
};

class Records {
 public:
  explicit Records(Machine& machine) : machine_(machine) {}

  /// A new record; its value is textOf(its number).
  size_t add(Sent sent);
  std::string textOf(size_t number) const;
  /// The record whose value that is; fails the test if none is.
  std::optional<size_t> numberOf(BytesView text) const;
  Sent& at(size_t number) { return sent_.at(number); }
  const Sent& at(size_t number) const { return sent_.at(number); }
  size_t size() const { return sent_.size(); }

  void stored(size_t number, int64_t offset = -1);
  void refused(size_t number, const Error& error);
  /// Whether a crash may have taken it, although a consumer had it.
  bool mayVanish(size_t number) const;

  /// The broker has ended: what had not been on the disk may be gone.
  void ended(bool clean);
  /// Reads every log and compares. All published before that is told must be there.
  void verify();
  /// Whether it is in its log, as of the last verify(), or was and has gone by its age.
  bool inLog(size_t number) const { return places_.contains(number); }
  /// A reader of a log saw it there.
  void seen(size_t topic, int32_t partition, int64_t offset, size_t number);

 private:
  using Log = std::map<int64_t, size_t>;  ///< offset -> record

  std::optional<Log> read(size_t topic, int32_t partition, PartitionBounds& bounds);
  void verify(size_t topic, int32_t partition);
  void fail(size_t topic, int32_t partition, const std::string& text) const;
  bool superseded(const Log& log, size_t number, int64_t offset) const;

  Machine& machine_;
  std::vector<Sent> sent_;
  std::map<std::pair<size_t, int32_t>, Log> seen_;
  std::map<std::pair<size_t, int32_t>, int64_t> logStarts_;
  std::map<size_t, int64_t> places_;
  uint64_t survivedTick_ = 0;  ///< told before: on the disk at the last crash
};

}  // namespace polylog::simulation
