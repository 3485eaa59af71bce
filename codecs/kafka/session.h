// One Kafka connection: frames in, answers out in the order of requests. Requests are handled as
// they come, so that produces overlap on the disk; a fetch waits until it is the first unanswered
// one. Reading pauses at the limits of limits.h and while the connection is congested. Lives on its
// connection's thread.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "codecs/kafka/call.h"
#include "codecs/kafka/sasl.h"
#include "core/event/dispatcher.h"
#include "core/net/transport.h"

namespace polylog::kafka {

class Session final : public ProtocolSession {
 public:
  Session(Transport& transport, std::shared_ptr<const Services> services);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  size_t onBytes(const SharedBytes& input) override;
  size_t wanted() const override { return wanted_; }
  void onDrained() override;
  void onShutdown() override;
  void onClosed(std::string_view why) override;

 private:
  friend class Call;

  void limitConnections();
  bool mustWait() const;
  /// False: the connection is to be closed, since this may not be asked (yet).
  bool mayAsk(const RequestHeader& header);
  bool acceptToken(const SharedBytes& token);
  void greet();
  /// Whether it may come in, whoever it is by now. False: the connection is closed.
  bool welcome(BytesView clientId);
  /// Handles one frame (without its length). False if the connection is to be closed.
  bool accept(SharedBytes frame);
  bool refuseVersion(const RequestHeader& header, const Api& api);
  const PrincipalRef& principalFor(BytesView clientId);
  void ended(Call& call);
  /// Sends what is answered and whose turn it is, starts the work whose turn it is.
  void advance();
  bool step();
  void startTimer(int64_t micros);
  void mute(int32_t millis);
  void resume();
  void onTimer();
  void hurry();
  void close(std::string_view why);
  void detachCalls();
  void dropShareSessions();

  Transport& transport_;
  std::shared_ptr<const Services> services_;
  const uint64_t connection_;  ///< no other of the listener's has that number
  Sasl sasl_;
  PrincipalRef principal_;
  std::unique_ptr<ConnectedClient> client_;
  std::deque<CallRef> calls_;  ///< in the order of requests
  size_t waitingBytes_ = 0;
  size_t wanted_ = 0;
  size_t maxRequest_;
  std::unique_ptr<Timer> timer_;
  std::pair<std::string, std::string> software_;  ///< the client's name and version
  bool identified_ = false;                       ///< its certificate has been looked at
  std::unique_ptr<Timer> muteTimer_;
  bool greeted_ = false;
  bool paused_ = false;
  bool muted_ = false;      ///< for having passed a quota
  int64_t mutedUntil_ = 0;  ///< monotonic microseconds
  bool closing_ = false;
  bool refused_ = false;  ///< closes once everything is answered
  bool expired_ = false;  ///< the login is over: closes likewise
  bool advancing_ = false;
  bool shuttingDown_ = false;
};

}  // namespace polylog::kafka
