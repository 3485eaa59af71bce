// A producer with a transactional id, in whatever way it is cut short, and who reads what it
// commits.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/model/broker.h"
#include "tests/simulation/machine.h"

namespace polylog::simulation {

/// Writes transactions over the two partitions of a topic of its own, commits or aborts them, and
/// takes its id up again whenever something has failed. Each transaction that was told to be
/// committed is there as a whole, each that may have been is there as a whole or not at all, and no
/// other is, for a consumer of committed records and for an MQTT session that sleeps all the time.
class Transactor final : public Actor, private SubscriberListener {
 public:
  explicit Transactor(Machine& machine) : machine_(machine) {}
  void onStart() override;
  void onEnd(bool clean) override;
  void leave(bool clean) override;
  void act() override;
  bool finish() override;
  void verify() override;

 private:
  enum class Fate : uint8_t { kNone, kUndecided, kCommitted };
  struct Transaction {
    std::vector<std::vector<std::string>> values{2};  ///< of each partition, told or not
    Fate fate = Fate::kNone;
  };

  void onDeliverable() override {}
  void onTakenOver(bool) override { session_ = nullptr; }
  void makeTopic();
  void open();
  void takeUp();
  void begin();
  void produce();
  void end();
  void failed(const Error& error);
  std::vector<std::string> readCommitted(int32_t partition);
  void verify(int32_t partition, const std::vector<std::string>& seen, const char* who);

  Machine& machine_;
  PrincipalRef who_ = Machine::client("transactor", Protocol::kKafka);
  std::shared_ptr<SubscriberSession> session_;
  bool made_ = false;
  bool asking_ = false;
  std::optional<ProducerIdentity> identity_;
  bool inside_ = false;  ///< a transaction is under way
  int32_t sequences_[2] = {0, 0};
  std::vector<Transaction> transactions_;
  uint64_t asked_ = 0;  ///< answers of an earlier life are nobody's
};

}  // namespace polylog::simulation
