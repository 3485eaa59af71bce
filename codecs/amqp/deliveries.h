// Deliveries on their way out of one channel: its consumers, the tags under which what they get is
// sent, what is not acknowledged, and the windows that limit it. Acknowledgements gather over a
// round of input and settle together. On the connection's thread; owned by Channel.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codecs/amqp/link.h"
#include "codecs/amqp/outgoing.h"
#include "codecs/amqp/unacknowledged.h"

namespace polylog::amqp {

class Deliveries;

/// A consumer: the listener that the queue sees. Outlives the channel where a consume() is still on
/// its way when that goes.
class Consumer final : public QueueListener {
 public:
  void onDeliveries(std::span<QueueDelivery> deliveries) override;
  void onCancelled() override;

  Deliveries* owner = nullptr;  ///< from start() to the end
  std::string tag;
  bool acknowledges = true;
  SourceRef source;
  std::unique_ptr<QueueConsumer> handle;
  Unsent unreported;
  size_t place = 0;  ///< in Link::consumers
};

class Deliveries {
 public:
  Deliveries(Link& link, uint16_t channel) : link_(link), channel_(channel) {}

  // ---- consumers
  bool hasConsumer(BytesView tag) const { return consumers_.contains(tag); }
  /// One to be offered to QueueClient::consume() as its listener. The caller keeps it until that
  /// call is answered, and then hands it to start().
  std::shared_ptr<Consumer> makeConsumer(std::string tag, const QueueInfo& queue,
                                         bool acknowledges);
  /// The windows for the consumer, into `options`.
  void setWindows(const Consumer& consumer, ConsumeOptions& options) const;
  void start(std::shared_ptr<Consumer> consumer, std::unique_ptr<QueueConsumer> handle);
  /// False if there is none of that tag. What it left unacknowledged stays so.
  bool cancel(BytesView tag);

  /// basic.qos. Limits later consumers each, and lifts the channel's limit, as RabbitMQ does.
  void limitConsumers(uint16_t prefetch);
  void limitChannel(uint16_t prefetch);
  uint16_t prefetch() const { return prefetch_; }
  bool channelLimited() const { return channelWindow_->limit() > 0; }

  /// basic.get's answer. False if the record has expired: it is dropped, ask for another.
  bool sendGot(QueueGot& got, bool acknowledges, const std::string& queue);

  // ---- acknowledgements
  size_t unacknowledged() const { return unacknowledged_.size(); }
  Outcome acknowledge(uint64_t tag, bool multiple, Disposition disposition);
  /// basic.recover: all go back to their queues.
  void recover();
  /// Tells the queues what was gathered. At the end of a round, and before any method whose effect
  /// must come after the acknowledgements in front of it.
  void settle();

  /// The transport takes more again.
  void onDrained();
  /// Ends consumers; what is unacknowledged goes back to its queue. Before the QueueClient goes.
  void close();

  // ---- for Consumer
  void deliver(Consumer& consumer, std::span<QueueDelivery> deliveries);
  void cancelled(Consumer& consumer);

 private:
  using Consumers = std::map<std::string, std::shared_ptr<Consumer>, std::less<>>;

  bool send(Consumer& consumer, const QueueDelivery& delivery, int64_t nowMs);
  void report(Consumer& consumer);
  void end(Consumers::iterator consumer);
  void gather(int64_t id, const SourceRef& source, Disposition disposition);
  void resumeAll();

  Link& link_;
  uint16_t channel_;
  uint64_t lastTag_ = 0;
  uint16_t prefetch_ = 0;
  DeliveryWindowRef channelWindow_ = std::make_shared<DeliveryWindow>();
  Consumers consumers_;
  SourceRef got_;  ///< of the last basic.get
  Unacknowledged unacknowledged_;
  std::vector<SourceRef> touched_;  ///< have settlements
  Outgoing outgoing_;
};

}  // namespace polylog::amqp
