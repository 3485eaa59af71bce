// Consumer groups: offsets that were committed stay so, and members agree on who has what.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/model/broker.h"
#include "tests/simulation/machine.h"

namespace polylog::simulation {

/// Commits offsets from outside the membership protocol.
class Committer final : public Actor {
 public:
  Committer(Machine& machine, std::string group) : machine_(machine), group_(std::move(group)) {}
  void onEnd(bool clean) override;
  void act() override;
  bool finish() override;
  void verify() override;

 private:
  void commit();
  void fetch();

  Machine& machine_;
  const std::string group_;
  int64_t next_ = 1;
  int64_t told_ = -1;                ///< the last commit that was answered
  std::set<int64_t> undecided_;      ///< later ones, that were not
  bool fetching_ = false;
  bool checked_ = false;
};

/// The members of a group: they join, lead, follow, leave and die.
class Members final : public Actor {
 public:
  static constexpr size_t kMembers = 3;
  explicit Members(Machine& machine) : machine_(machine), members_(kMembers) {}
  void onEnd(bool clean) override;
  void act() override;
  bool finish() override;
  void verify() override;

 private:
  enum class Stage : uint8_t { kOut, kJoining, kJoined, kSyncing, kStable };
  struct Member {
    Stage stage = Stage::kOut;
    std::string id;
    int32_t generation = -1;
    bool leads = false;
    std::vector<std::string> all;  ///< of a leader: who is in
    std::string assignment;
    int attempt = 0;  ///< answers to earlier ones are nobody's
  };
  void join(size_t place);
  void sync(size_t place);
  void beat(size_t place);
  void depart(size_t place);
  void joined(size_t place, const GroupJoined& answer);
  void synced(size_t place, const GroupSynced& answer);
  void out(Member& member);

  Machine& machine_;
  std::vector<Member> members_;
  /// What leaders of this life have decided: generation -> member -> assignment.
  std::map<int32_t, std::map<std::string, std::string>> decided_;
  std::map<int32_t, std::string> leaders_;
  size_t stables_ = 0;
};

}  // namespace polylog::simulation
