// A subscriber's session: its subscriptions, what waits for it, and what it has acknowledged. MQTT
// sessions today. The router implements SubscriberSession; a codec attaches a SubscriberListener to
// it for as long as its connection lives. All calls, both ways, on the worker that opened the
// session.
//
// Delivery is pulled: the session says onDeliverable() once when deliveries go from none to some,
// and the codec take()s as many as its window and its connection's watermark admit. Nothing grows
// while it does not.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/delivery.h"
#include "core/model/replay.h"
#include "core/model/topic_filter.h"

namespace polylog {

inline constexpr uint32_t kNeverExpires = 0xFFFFFFFF;

/// A last will: published when the session's connection is lost.
struct Will {
  /// The address as published, and where the user's rules store it: as Publish has them.
  std::string topic;
  std::optional<std::string> key;
  std::string storedTopic;
  std::optional<std::string> storedKey;
  bool ephemeral = false;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
  DeliveryGuarantee guarantee = DeliveryGuarantee::kAtMostOnce;
  bool retain = false;
  uint32_t delaySeconds = 0;
  uint32_t partitionHash = 0;
  /// When its publication makes it a delayed one (Publish::publishAtMs): so long after that, or at
  /// that time. Both 0 = it isn't one.
  uint32_t publishDelaySeconds = 0;
  int64_t publishAtMs = 0;
  /// The record's lifetime, counted from its publication: whoever publishes the will adds the
  /// header `expiry` (decimal milliseconds since 1970 UTC) to `headers`. Nothing = it does not
  /// expire.
  std::optional<uint32_t> expirySeconds;
  bool operator==(const Will&) const = default;
};

struct SubscriberOptions {
  std::string clientId;  ///< not empty: the codec has assigned one where the client gave none
  bool cleanStart = true;
  /// How long the session outlives its connection: 0 = not at all (nothing of it is journaled),
  /// kNeverExpires = for ever.
  uint32_t expirySeconds = 0;
  /// Deliveries with acknowledgement that the client takes at a time: so many of a shared
  /// subscription's may be held ready for it.
  int64_t window = 1024;
  /// Durable with the session, where that outlives its connection.
  std::optional<Will> will{};
};

/// When retained records are sent for a new subscription (MQTT 5 retain handling 0, 1, 2).
enum class RetainHandling : uint8_t { kAlways = 0, kIfNew = 1, kNever = 2 };

struct Subscription {
  std::string text;  ///< the filter as the client wrote it: its identity within the session
  TopicFilter filter;
  DeliveryGuarantee guarantee = DeliveryGuarantee::kAtMostOnce;  ///< the most it wants
  bool noLocal = false;
  bool retainAsPublished = false;
  RetainHandling retainHandling = RetainHandling::kAlways;
  uint32_t id = 0;  ///< subscription identifier, 0 = none
  /// Nobody else may have one of the same `text` beside it (kLocked).
  bool exclusive = false;
  /// Not empty: a shared subscription's group. Of those who name the same `text`, one gets each
  /// record; retained records are not sent for it.
  std::string share;
  /// The stored past of what the filter matches comes first, and what is stored from then on behind
  /// it, all from the log: nothing is missing or comes twice in between. Retained records are not
  /// sent for it. The same filter with the same start again goes on where it is.
  std::optional<ReplayStart> replay{};
};

class SubscriberListener {
 public:
  virtual ~SubscriberListener() = default;
  /// There is something to take() again. Never called from inside a call of the codec's.
  virtual void onDeliverable() = 0;
  /// Another connection has opened this session (or an operator has ended it): close at once; the
  /// session object answers no further calls.
  virtual void onTakenOver(bool byOperator) = 0;
};

/// The ids below which deliveries may be taken: of the session's own, and from kSharedIds on.
struct TakeLimits {
  // NOLINTNEXTLINE(google-explicit-constructor): most callers have no shared subscriptions
  TakeLimits(int64_t ownIds, int64_t sharedIds = 0) : own(ownIds), shared(sharedIds) {}
  int64_t own;
  int64_t shared;
};

class SubscriberSession {
 public:
  virtual ~SubscriberSession() = default;

  /// False when the session began with this connection.
  virtual bool resumed() const = 0;
  /// Tells the sessions apart that have had this client id one after the other: never given twice.
  /// 0: it doesn't outlive its connection.
  virtual uint64_t life() const = 0;
  /// Ids of exactly-once publishes received earlier and not yet released (journaled ones survive a
  /// crash): a repeat of one is acknowledged and not published again.
  virtual std::vector<uint16_t> heldPublishIds() const = 0;

  using SubscribeDone = std::move_only_function<void(std::vector<Result<DeliveryGuarantee>>)>;
  /// Adds or replaces subscriptions, one result each (the granted guarantee). `done` runs when they
  /// are durable (sessions that outlive their connection) and in force; retained records that match
  /// become deliverable after it.
  virtual void subscribe(std::vector<Subscription> subscriptions, SubscribeDone done) = 0;
  /// `done` gets for each filter text whether there was such a subscription.
  virtual void unsubscribe(std::vector<std::string> filters,
                           std::move_only_function<void(Result<std::vector<bool>>)> done) = 0;

  /// Moves up to `max` deliveries to `out`. Deliveries that need acknowledgement are taken in order
  /// of id, only ids below the limits (the codec derives packet ids from ids: id modulo window).
  /// Returns how many; fewer than `max` means: wait for onDeliverable() (or for a limit to rise).
  virtual size_t take(size_t max, TakeLimits limits, std::vector<Delivery>& out) = 0;
  /// The client has it for good (PUBACK, PUBCOMP, or a refusal): never delivered again.
  virtual void acknowledge(int64_t id) = 0;
  /// kExactlyOnce: the client has accepted it (PUBREC). `done` when that is durable; from then on
  /// it comes back only with `accepted` set.
  virtual void accept(int64_t id, std::move_only_function<void(Result<>)> done) = 0;
  /// The client has forgotten what it accepted: `done` when it is durable that all of that comes
  /// again without `accepted`. Before anything is taken.
  virtual void forgetAccepted(std::move_only_function<void(Result<>)> done) = 0;
  /// The lowest id not acknowledged yet.
  virtual int64_t acknowledgedUpTo() const = 0;
  /// The same of those from kSharedIds on.
  virtual int64_t sharedAcknowledgedUpTo() const = 0;
  /// Forgets the id of an exactly-once publish (PUBREL). `done` when that is durable.
  virtual void releasePublish(uint16_t id, std::move_only_function<void(Result<>)> done) = 0;

  /// Replaces the will of this connection, or clears it: then a crash does not bring it back, once
  /// the journal has heard of it.
  virtual void setWill(std::optional<Will> will) = 0;
  /// A newer login has taken the earlier one's place (Login::succeed), and may say otherwise what
  /// its principal may do. `done` when what is kept for after a crash goes by it.
  virtual void loginRenewed(std::move_only_function<void(Result<>)> done) = 0;
  /// Changes the expiry (MQTT 5: DISCONNECT may).
  virtual void setExpiry(uint32_t seconds) = 0;
  /// The connection is gone. The will is published if there still is one (after its delay, unless
  /// the session is opened again before). The session lives on for its expiry.
  virtual void detach() = 0;
};

}  // namespace polylog
