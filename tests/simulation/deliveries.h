// What one inbox or queue has handed out, and what it still owes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "tests/simulation/records.h"

namespace polylog::simulation {

class Deliveries {
 public:
  Deliveries(Machine& machine, const Records& records, std::string owner)
      : machine_(machine), records_(records), owner_(std::move(owner)) {}

  /// It gave record `text` under that id. `again`: with the flag that says it may have been before.
  void delivered(int64_t id, BytesView text, bool again);
  /// Its consumer has done with it.
  void settled(int64_t id);
  /// Its consumer has given it back.
  void returned(int64_t id) { held_.erase(id); }
  /// What its consumers hold comes back.
  void disconnected() { held_.clear(); }
  /// The broker has ended.
  void ended(bool clean);
  /// All that `promised` says yes to was delivered.
  void verify(const std::function<bool(const Sent& sent)>& promised) const;

 private:
  struct Delivery {
    size_t number = 0;
    bool settled = false;
    bool settledForGood = false;  ///< durably so
  };
  void fail(const std::string& text) const { machine_.fail(owner_ + ": " + text); }

  Machine& machine_;
  const Records& records_;
  std::string owner_;
  std::map<int64_t, Delivery> got_;  ///< by id
  std::set<int64_t> held_;           ///< with a consumer
};

}  // namespace polylog::simulation
