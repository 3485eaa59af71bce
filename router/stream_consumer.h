// Reads a topic as a stream: from an offset on, as fast as its windows allow, using nothing up. One
// topic of several partitions is read as their merge. All on the client's worker.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/queue.h"
#include "core/model/topic.h"
#include "router/core.h"
#include "router/partition_reader.h"
#include "router/queue.h"

namespace polylog::router {

/// Settlements of a stream use nothing up: they only wake the reader.
class StreamConsumer final : public QueueRef, public std::enable_shared_from_this<StreamConsumer> {
 public:
  /// Reads `partitions` of the topic. kInvalid: a start that it can't have.
  static Result<std::shared_ptr<StreamConsumer>> open(Core& core, Worker& worker, TopicRef topic,
                                                      std::vector<PartitionId> partitions,
                                                      ConsumeOptions& options,
                                                      QueueListener* listener);
  StreamConsumer(Core& core, Worker& worker, TopicRef topic, ConsumeOptions& options,
                 QueueListener* listener);
  ~StreamConsumer() override;

  /// Deliveries come from here on.
  void start(PrincipalRef reader) {
    reader_ = std::move(reader);
    pumpSoon();
  }
  void settle(std::span<const Settlement> settlements) override;
  void sent(int64_t count, int64_t octets);
  void resume();
  void end();

 private:
  struct Source {
    PartitionId partition;
    std::unique_ptr<PartitionReader> reader;
    int64_t next = 0;
    bool watching = false;
    storage::LogStore::WatchId watchId = 0;
  };

  void stopReading();
  void pumpSoon();
  void pump();
  bool advance(size_t at, std::vector<QueueDelivery>& out, bool& blocked);
  void watch(size_t at);

  bool cutOff();

  Core& core_;
  Worker& worker_;
  TopicRef topic_;
  PrincipalRef reader_;
  std::vector<Source> sources_;
  size_t turn_ = 0;
  Consumer consumer_;
  std::unique_ptr<Timer> retry_;
  bool pumpDue_ = false;
  bool over_ = false;
};

}  // namespace polylog::router
