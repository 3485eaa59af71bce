// Who consumes: sessions that come and go, a queue's consumers, readers of logs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/broker.h"
#include "tests/simulation/deliveries.h"

namespace polylog::simulation {

/// A device with a session that outlives its connections.
class Subscriber final : public Actor, private SubscriberListener {
 public:
  /// `filter`: "steady/#", "steady/k1" or "#".
  Subscriber(Machine& machine, Records& records, std::string id, std::string filter);
  void onStart() override { leaving_ = false; }
  void onEnd(bool clean) override;
  void leave(bool clean) override;
  void act() override;
  bool finish() override;
  void verify() override;

 private:
  void onDeliverable() override {}
  void onTakenOver(bool) override { lost(); }
  void lost();
  void open();
  void subscribe();
  size_t take(size_t most);
  bool wants(const Sent& sent) const;

  Machine& machine_;
  const std::string id_;
  const std::string filter_;
  Deliveries deliveries_;
  size_t worker_ = 0;
  bool opening_ = false;
  bool leaving_ = false;
  bool subscribing_ = false;
  std::optional<uint64_t> subscribed_;  ///< told at that tick
  std::shared_ptr<SubscriberSession> session_;
  std::vector<int64_t> open_;  ///< taken, not acknowledged
  int quiet_ = 0;
};

/// A durable queue that amq.topic's records of a topic lead to, and who gets from it.
class Worker final : public Actor {
 public:
  Worker(Machine& machine, Records& records, std::string queue, size_t topic);
  void onStart() override;
  void onEnd(bool clean) override;
  void leave(bool clean) override;
  void act() override;
  bool finish() override;
  void verify() override;

 private:
  struct Held {
    int64_t id = 0;
    std::shared_ptr<QueueRef> queue;
  };
  void declare();
  void get();
  void settle(size_t place, Disposition disposition);

  Machine& machine_;
  const std::string queue_;
  const size_t topic_;
  Deliveries deliveries_;
  size_t worker_ = 0;
  std::unique_ptr<QueueClient> client_;
  bool declaring_ = false;
  int getting_ = 0;
  std::optional<uint64_t> bound_;  ///< told at that tick
  std::vector<Held> held_;
  bool empty_ = false;
  int quiet_ = 0;
};

/// Reads logs as they grow; what it saw has to stay.
class Reader final : public Actor {
 public:
  Reader(Machine& machine, Records& records) : machine_(machine), records_(records) {}
  void act() override;

 private:
  Machine& machine_;
  Records& records_;
};

}  // namespace polylog::simulation
