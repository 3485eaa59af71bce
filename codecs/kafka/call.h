// One request from the moment that it was read until its answer is sent. Handlers hold it by
// CallRef, in the callbacks that they give the broker too: it outlives its session if need be, and
// then answers go nowhere. Everything on the connection's thread.
//
// A handler ends every call exactly once, by answer(), answerNothing() or abort(), now or later.
// The session sends answers in the order of requests, whatever order they come in.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "codecs/kafka/decoder.h"
#include "codecs/kafka/options.h"
#include "codecs/kafka/reply.h"
#include "codecs/kafka/wire/primitives.h"
#include "core/model/broker.h"

namespace polylog::kafka {

struct Api;
class FetchSessions;
class QuotaMeter;
class Sasl;
class Session;
class ShareSessions;
class Call;
using CallRef = std::shared_ptr<Call>;

/// What all sessions of a listener share.
struct Services {
  Services(Broker& b, KafkaOptions o);
  ~Services();

  Broker& broker;
  const KafkaOptions options;
  const std::unique_ptr<FetchSessions> fetchSessions;
  const std::unique_ptr<ShareSessions> shareSessions;
  const std::unique_ptr<QuotaMeter> quotaMeter;
};

/// Work that begins when its call is the first one unanswered and the connection isn't congested,
/// so that at most one a connection is under way (Fetch). It answers its call itself.
class Work {
 public:
  virtual ~Work() = default;
  virtual void start() = 0;
  /// The time given to Call::startTimer() is over.
  virtual void onTimer() = 0;
  /// The broker stops: answer with what there is.
  virtual void hurry() = 0;
};

class Call : public std::enable_shared_from_this<Call> {
 public:
  Call(Session& session, std::shared_ptr<const Services> services, PrincipalRef principal,
       const Api& api, const RequestHeader& header, SharedBytes frame)
      : session_(&session),
        services_(std::move(services)),
        principal_(std::move(principal)),
        api_(api),
        header_(header),
        frame_(std::move(frame)) {}

  Broker& broker() const { return services_->broker; }
  const KafkaOptions& options() const { return services_->options; }
  FetchSessions& fetchSessions() const { return *services_->fetchSessions; }
  ShareSessions& shareSessions() const { return *services_->shareSessions; }
  QuotaMeter& quotaMeter() const { return *services_->quotaMeter; }
  const PrincipalRef& principal() const { return principal_; }
  const Api& api() const { return api_; }
  int16_t version() const { return header_.version; }
  const RequestHeader& header() const { return header_; }
  /// What keeps the request's views alive.
  const SharedBytes& frame() const { return frame_; }
  /// `view` of the frame, sharing its memory.
  SharedBytes share(BytesView view) const { return {frame_.owner(), view}; }

  /// False once the connection is gone or the call is ended.
  bool open() const { return session_ != nullptr && !ended_; }
  /// Only while open().
  Transport& transport() const;
  /// Where this client is told to find the broker. Only while open().
  HostPort advertised() const;
  /// Only while open().
  Sasl& sasl() const;
  /// A number that no other connection of the listener has. Only while open().
  uint64_t connection() const;

  /// Encodes the response in the request's version.
  template <class Response>
  void answer(const Response& response) {
    if (!open()) return;
    const int32_t held = countTime();
    throttle(held);
    wire::Encoder out = begin();
    if constexpr (requires { response.throttleTimeMs; }) {
      if (held > response.throttleTimeMs) {
        Response told = response;
        told.throttleTimeMs = held;
        told.encode(out, version());
        return finish(std::move(out));
      }
    }
    response.encode(out, version());
    finish(std::move(out));
  }
  /// An encoder with room for the length and the response's header written.
  wire::Encoder begin() const;
  /// Sends what begin() began, its length filled in.
  void finish(wire::Encoder out);
  /// A whole response, length and header included.
  void answer(Reply reply);
  /// Ends the call without a response (acks=0).
  void answerNothing();
  /// Closes the connection. `why` goes to the log.
  void abort(std::string_view why);

  /// Nothing more is read from the connection for so long: its client has passed a quota.
  void throttle(int32_t millis);

  /// While it lives, the thread is at work for the call.
  class Busy {
   public:
    explicit Busy(Call& call);
    ~Busy();
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    Call& call_;
  };
  /// Counts the time that has been spent on the call, once. For how long its client has to be held
  /// for that; the answer is to say so.
  int32_t countTime();

  /// What the client says that it is, by ApiVersions; empty before that.
  const std::pair<std::string, std::string>& software() const;
  void softwareIs(BytesView name, BytesView version);

  /// The answer to come is the connection's last.
  void lastAnswer();

  void setWork(std::shared_ptr<Work> work) { work_ = std::move(work); }
  /// For the Work that was started: onTimer() after `micros`, once; replaces an earlier one.
  void startTimer(int64_t micros);

 private:
  friend class Session;

  Session* session_;
  std::shared_ptr<const Services> services_;
  PrincipalRef principal_;
  const Api& api_;
  RequestHeader header_;
  SharedBytes frame_;
  Reply reply_;
  std::shared_ptr<Work> work_;
  int64_t busyMicros_ = 0;
  std::optional<int64_t> busySince_;  ///< monotonic microseconds
  bool timeCounted_ = false;
  bool started_ = false;
  bool ended_ = false;
};

}  // namespace polylog::kafka
