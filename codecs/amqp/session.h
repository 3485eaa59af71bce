// One AMQP 0-9-1 connection's state machine: protocol header, handshake, frames to channels, the
// heartbeat, the end; over Broker and Transport and nothing else. Octets come in through onBytes(),
// frames go out through the transport. On the connection's thread only.
//
// A channel whose method waits for the broker holds up what follows on it, so input stops at its
// next frame; reading pauses until the answer is there. So it does before a method that looks into
// a queue while publishes are on their way to the journal, as what was published before is to be
// found.
//
// While the disk is full a connection is blocked at the first publish: it is told so, if it can be,
// and nothing more is read of it until there is space.
//
// Lifetime: the broker's callbacks may come after the connection is gone; they hold a weak guard,
// or a channel that is closed by then.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "codecs/amqp/channel.h"
#include "codecs/amqp/handshake.h"
#include "codecs/amqp/link.h"
#include "codecs/amqp/publishing.h"
#include "core/event/dispatcher.h"
#include "core/net/transport.h"

namespace polylog::amqp {

class Session final : public ProtocolSession {
 public:
  Session(Transport& transport, Broker& broker, std::shared_ptr<const AmqpOptions> options);
  ~Session() override;

  size_t onBytes(const SharedBytes& input) override;
  size_t wanted() const override { return wanted_; }
  void onDrained() override;
  void onShutdown() override;
  void onClosed(std::string_view why) override;

 private:
  enum class State : uint8_t {
    kHeader,    ///< nothing has come
    kStarting,  ///< connection.start is sent
    kTuning,    ///< connection.tune is sent
    kOpening,   ///< tuned
    kOpen,
    kClosing,  ///< we have closed and wait for close-ok; the rest is dropped
    kEnded,    ///< nothing is read or sent any more
  };

  size_t onProtocolHeader(BytesView input);
  size_t onFrames(const SharedBytes& input);
  void onBrokenFrame(const FrameResult& result);
  void onFrame(const Frame& frame);
  void endRound();

  // Channel 0.
  Outcome onConnectionFrame(const Frame& frame);
  template <class M>
  Outcome on(const M&) {
    return unexpectedMethod();
  }
  Outcome on(const ConnectionStartOk& method);
  Outcome on(const ConnectionTuneOk& method);
  Outcome on(const ConnectionOpen& method);
  Outcome on(const ConnectionClose&);
  Outcome on(const ConnectionUpdateSecret&);
  Outcome unexpectedMethod() const;
  LoginPoint loginPoint() const;
  /// The user that the client's certificate names; empty = none.
  std::string certified() const;
  void loggedIn(Result<LoginRef> login, const Fault& refusal);
  void watchLogin();
  void renewed(Result<LoginRef> login);
  void refuseLogin(const Fault& refusal);
  Outcome welcome(const PrincipalRef& principal);
  void offerTuning();
  void whileClosing(const Frame& frame);

  // Other channels.
  Outcome onChannelFrame(const Frame& frame);
  Outcome openChannel(const Frame& frame);
  Outcome whileChannelCloses(const Frame& frame);
  void closeChannel(uint16_t number);
  bool mustWait(const Frame& frame) const;

  void end(const Fault& fault);
  void leave(std::string_view why);
  void detach();
  bool full() const;
  bool mustBlock(const Frame& frame) const;
  void block();
  void unblock();
  void considerReading();
  void startHeartbeat(uint16_t seconds);
  void beat();
  int64_t now() const { return link_.transport.dispatcher().clock().monotonicMicros(); }

  Link link_;
  Publishing publishing_;
  std::unordered_map<uint16_t, std::shared_ptr<Channel>> channels_;
  std::vector<std::shared_ptr<Channel>> touched_;  ///< in this round

  State state_ = State::kHeader;
  bool inInput_ = false;  ///< onBytes() is on the stack: its end will flush
  bool stalled_ = false;  ///< the next frame has to wait for its channel
  bool readingPaused_ = false;
  bool closeAnswered_ = false;
  std::unique_ptr<WaitHandle> blocked_;  ///< until there is space on the disk
  size_t wanted_ = 0;
  LoginRef login_;
  std::unique_ptr<ConnectedClient> client_;
  LoginRef firstLogin_;        ///< whom the principal is of, once login_ is a newer one
  bool loggingIn_ = false;     ///< its password is being checked
  bool failureClose_ = false;  ///< the client takes connection.close as the answer to that
  std::string connectionName_;

  int64_t lastInput_ = 0;         ///< monotonic microseconds
  int64_t heartbeatMicros_ = 0;   ///< 0 = none
  std::unique_ptr<Timer> timer_;  ///< the heartbeat's, then the wait for close-ok
};

}  // namespace polylog::amqp
