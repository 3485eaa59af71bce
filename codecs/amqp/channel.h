// One channel: its methods in the order in which they come, one at a time where the broker has to
// be asked, until it is closed by either side. Handlers stand by class: channel.cc (channel,
// confirm, publishing), declarations.cc (exchange, queue), consuming.cc (the rest of basic). On the
// connection's thread.
//
// Lifetime: Session holds it, and so do publishes on their way; close() comes before the
// connection's end, and a closed channel touches nothing any more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "codecs/amqp/assembly.h"
#include "codecs/amqp/deliveries.h"
#include "codecs/amqp/link.h"
#include "codecs/amqp/publishing.h"

namespace polylog::amqp {

class Channel final : public std::enable_shared_from_this<Channel> {
 public:
  Channel(Link& link, Publishing& publishing, uint16_t number)
      : link_(link),
        publishing_(publishing),
        number_(number),
        assembly_(link),
        deliveries_(link, number) {}

  uint16_t number() const { return number_; }
  bool open() const { return state_ == State::kOpen; }
  /// The server has closed it and waits for channel.close-ok.
  bool closing() const { return state_ == State::kClosing; }
  /// A method waits for the broker: the next has to wait for it.
  bool waiting() const { return open() && waiting_; }

  /// A method, header or body frame other than channel.open, channel.close and channel.close-ok.
  /// While open and not waiting. The outcome's method is set.
  Outcome onFrame(const Frame& frame);
  /// The round of input ends: acknowledgements take effect, what is incomplete is kept.
  void endRound();
  /// True for the first frame of a round.
  bool touch() { return !std::exchange(touched_, true); }
  void onDrained() { deliveries_.onDrained(); }

  /// Closes it over `fault`, or the connection, whichever the code says.
  void fail(const Fault& fault);
  /// Ends consumers, gives back what is unacknowledged, says nothing.
  void close();

  // ---- for Publishing
  /// The next publish's number in confirm mode, 0 = not in confirm mode.
  uint64_t nextConfirm() { return confirming_ ? ++lastConfirm_ : 0; }
  /// Publishes are confirmed in their order; positive ones gather until sendConfirms().
  void confirmed(uint64_t number, bool stored);
  void sendConfirms();

 private:
  enum class State : uint8_t { kOpen, kClosing, kClosed };

  Outcome onMethod(BytesView payload);

  // channel.cc
  template <class M>
  Outcome on(const M&) {
    return fault(ReplyCode::kCommandInvalid, "unimplemented method");
  }
  Outcome on(const ChannelOpen&);
  Outcome on(const ChannelFlow& method);
  Outcome on(const AccessRequest&);
  Outcome on(const BasicPublish& method);
  Outcome on(const ConfirmSelect& method);
  Outcome on(const TxSelect&) { return noTransactions(); }
  Outcome on(const TxCommit&) { return noTransactions(); }
  Outcome on(const TxRollback&) { return noTransactions(); }
  Outcome noTransactions();

  // declarations.cc
  Outcome on(const ExchangeDeclare& method);
  Outcome on(const ExchangeDelete& method);
  Outcome on(const ExchangeBind& method);
  Outcome on(const ExchangeUnbind& method);
  Outcome on(const QueueDeclare& method);
  Outcome on(const QueueBind& method);
  Outcome on(const QueueUnbind& method);
  Outcome on(const QueuePurge& method);
  Outcome on(const QueueDelete& method);
  Outcome sameQueue(const QueueInfo& current, const QueueSpec& asked, bool noWait);
  Outcome createQueue(const QueueDeclare& method, QueueSpec spec);
  Outcome queueDeclared(const QueueInfo& info, bool noWait);
  Outcome checkEnds(const BindingSpec& binding) const;
  template <class Ok, class M>
  Outcome bind(const M& method, BindingSpec binding, bool noWait);
  template <class Ok, class M>
  Outcome unbind(const M& method, BindingSpec binding, bool noWait);

  // consuming.cc
  Outcome on(const BasicQos& method);
  Outcome on(const BasicConsume& method);
  Outcome on(const BasicCancel& method);
  Outcome on(const BasicGet& method);
  Outcome on(const BasicAck& method);
  Outcome on(const BasicReject& method);
  Outcome on(const BasicNack& method);
  Outcome on(const BasicRecover& method);
  Outcome on(const BasicRecoverAsync& method);
  Outcome checkConsume(const BasicConsume& method, const QueueInfo& queue,
                       ConsumeOptions& options) const;
  Fault refusedConsumer(const Error& error, const std::string& queue) const;
  void get(const std::string& queue, bool acknowledges);
  void got(const std::string& queue, bool acknowledges, Result<std::optional<QueueGot>> result);

  /// What came before takes effect before what follows.
  void settle();
  /// The queue meant, "" being the last declared. False: there is none.
  bool expand(BytesView name, std::string& out) const;
  /// The queue, if this connection may touch it.
  Outcome findQueue(const std::string& name, QueueInfo& out) const;
  /// `prefix` and 22 random characters.
  std::string madeUpName(const char* prefix) const;
  template <class M>
  void answer(const M& method) {
    link_.answer(number_, method);
  }
  /// A callback for the broker: runs `then` unless the channel is gone, whose outcome, if there is
  /// one, is about the method that asked. Until it has run the channel waits.
  template <class T, class M, class Then>
  Done<T> await(const M&, Then then) {
    waiting_ = true;
    return [weak = weak_from_this(), then = std::move(then)](T result) mutable {
      const std::shared_ptr<Channel> self = weak.lock();
      if (!self || !self->open()) return;
      self->waiting_ = false;
      self->answered(then(std::move(result)), MethodId{M::kClassId, M::kMethodId});
    };
  }
  void answered(Outcome outcome, MethodId method);

  Link& link_;
  Publishing& publishing_;
  uint16_t number_;
  State state_ = State::kOpen;
  bool waiting_ = false;
  bool touched_ = false;

  Assembly assembly_;
  Deliveries deliveries_;
  std::string lastQueue_;  ///< what an empty queue name means

  bool confirming_ = false;
  uint64_t lastConfirm_ = 0;
  uint64_t toConfirm_ = 0;  ///< the last that is stored and not told
  uint64_t untold_ = 0;     ///< how many those are
};

}  // namespace polylog::amqp
