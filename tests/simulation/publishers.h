// Who publishes: producers with and without sequence numbers, and devices at each guarantee.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/model/broker.h"
#include "tests/simulation/records.h"

namespace polylog::simulation {

/// Sends batches to partitions; what fails or isn't answered is lost to it.
class PlainProducer final : public Actor {
 public:
  PlainProducer(Machine& machine, Records& records, size_t id)
      : machine_(machine), records_(records), id_(id) {}
  void act() override;

 private:
  Machine& machine_;
  Records& records_;
  size_t id_;
};

/// Sends with sequence numbers, some batches at once, and sends again, in order, whatever failed or
/// was not answered: each record gets there once, in order.
class IdempotentProducer final : public Actor {
 public:
  IdempotentProducer(Machine& machine, Records& records, size_t id)
      : machine_(machine), records_(records), id_(id) {}
  void onEnd(bool clean) override;
  void act() override;
  bool finish() override;
  void verify() override;

 private:
  struct Batch {
    std::vector<size_t> records;
    int32_t sequence = 0;
    std::string octets;
    bool waiting = false;
    bool stored = false;
  };
  void send(const std::shared_ptr<Batch>& batch);
  void goOn();

  Machine& machine_;
  Records& records_;
  size_t id_;
  bool asking_ = false;
  ProducerIdentity identity_;
  int32_t sequence_ = 0;
  std::vector<std::shared_ptr<Batch>> undone_;
};

/// Publishes as MQTT clients do, at most once or at least once, without sending anything again.
class Device final : public Actor {
 public:
  Device(Machine& machine, Records& records, size_t id)
      : machine_(machine), records_(records), id_(id) {}
  void act() override;

 private:
  Machine& machine_;
  Records& records_;
  size_t id_;
};

/// Publishes exactly once: sends again under the same id what was not answered, unless the broker
/// says that it holds it; releases the id then.
class ExactDevice final : public Actor, private SubscriberListener {
 public:
  ExactDevice(Machine& machine, Records& records, size_t id)
      : machine_(machine), records_(records), id_(id) {}
  void onStart() override { leaving_ = false; }
  void onEnd(bool clean) override;
  void leave(bool clean) override;
  void act() override;
  bool finish() override;
  void verify() override;

 private:
  enum class Stage : uint8_t { kIdle, kToPublish, kPublishing, kToRelease, kReleasing };
  void onDeliverable() override {}
  void onTakenOver(bool) override { session_ = nullptr; }
  void open();
  void publish();
  void release();

  Machine& machine_;
  Records& records_;
  size_t id_;
  size_t worker_ = 0;
  bool opening_ = false;
  bool leaving_ = false;
  std::shared_ptr<SubscriberSession> session_;
  Stage stage_ = Stage::kIdle;
  size_t record_ = 0;
  uint16_t packetId_ = 1;
  bool releaseAsked_ = false;
};

}  // namespace polylog::simulation
