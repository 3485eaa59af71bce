// What lies between a connection and its session has in common: a ProtocolSession towards what is
// below (a connection or another layer), a Transport towards the session above, which it makes when
// it knows enough (after its own handshake) and owns. Layers stack: PROXY header, TLS, WebSocket.
//
// The promises of core/net/transport.h hold on both sides: the session above is never called from
// inside a Transport call, nor from inside another of its own. Own thread only.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "core/event/dispatcher.h"
#include "core/net/buffer.h"
#include "core/net/transport.h"

namespace polylog {

/// Bounds of decoded octets that the session above has not used up, as ConnectionLimits has them.
struct LayerLimits {
  size_t maxInput = size_t{17} * 1024 * 1024;
  size_t handshakeInput = 4096;
};

class Layer : public ProtocolSession, public Transport {
 public:
  using UpperFactory = std::shared_ptr<const SessionFactory>;

  /// `lower` outlives the layer.
  Layer(Transport& lower, UpperFactory makeUpper)
      : lower_(lower), makeUpper_(std::move(makeUpper)) {}

  void onDrained() override;
  void onShutdown() override;
  void onClosed(std::string_view why) override;

  void send(BytesView bytes) override;
  void send(SharedBytes bytes) override;
  size_t unsent() const override { return lower_.unsent(); }
  bool congested() const override { return lower_.congested(); }
  void pauseReading(bool paused) override;
  void close(std::string_view why) override;
  void handshakeDone() override;
  const std::string& peer() const override { return lower_.peer(); }
  const HostPort& local() const override { return lower_.local(); }
  PeerIdentityRef identity() const override { return lower_.identity(); }
  Dispatcher& dispatcher() override { return lower_.dispatcher(); }

 protected:
  /// What the layer has to say before the connection closes; open() is false then.
  virtual void sayGoodbye() {}

  /// Makes the session above.
  void openUpper() { upper_ = (*makeUpper_)(*this); }
  ProtocolSession* upper() const { return upper_.get(); }
  Transport& lower() const { return lower_; }
  /// Neither side has closed.
  bool open() const { return open_; }
  bool paused() const { return paused_; }
  bool inHandshake() const { return inHandshake_; }
  /// Runs `task` when the round is through, unless the layer is gone by then.
  template <class Callable>
  void afterRound(Callable task) {
    dispatcher().defer([life = std::weak_ptr<char>(life_), task = std::move(task)]() mutable {
      if (!life.expired()) task();
    });
  }

 private:
  Transport& lower_;
  UpperFactory makeUpper_;
  std::unique_ptr<ProtocolSession> upper_;
  std::shared_ptr<char> life_ = std::make_shared<char>();
  bool open_ = true;
  bool paused_ = false;
  bool inHandshake_ = true;
};

/// A layer that decodes: it fills a buffer of its own, of which the session above uses up whole
/// packets, within the same limits as a connection's input.
class DecodingLayer : public Layer {
 public:
  DecodingLayer(Transport& lower, UpperFactory makeUpper, const LayerLimits& limits)
      : Layer(lower, std::move(makeUpper)), limits_(limits) {}

  void pauseReading(bool paused) override;

 protected:
  /// Decodes what the layer itself still holds; called when the session above reads again.
  virtual void decodeHeld() {}
  virtual bool holdsInput() const { return false; }

  /// Where to put decoded octets, one at least; of size 0 if that would pass the limit, whereupon
  /// it has closed.
  InputBuffer::Room room();
  /// Hands on `count` (> 0) octets that were put in the last room().
  void deliver(size_t count);
  /// Lets go of memory that nobody needs while nothing comes.
  void rest() { input_.releaseIdle(); }

 private:
  void pass();
  bool withinLimit();
  void resume();

  LayerLimits limits_;
  InputBuffer input_;
  bool resuming_ = false;
};

}  // namespace polylog
