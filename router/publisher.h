// Publishing: routes what arrived together, stores it as one entry (records and the inboxes that
// they go to, retained state, the ids of exactly-once publishes), and hands it to live subscribers.
// On the publisher's worker; the buffers of each worker are its own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/model/broker.h"
#include "core/model/record_batch.h"
#include "core/net/rate_limit.h"
#include "router/core.h"
#include "router/live_queue.h"
#include "router/matcher.h"

namespace polylog::router {

class Session;

/// Whose the broker's own values are: no rule applies.
const PrincipalRef& brokerItself();

class Publisher {
 public:
  explicit Publisher(Core& core);
  ~Publisher();

  /// As Broker::publish(). `self`: the publisher's session, or null. `with`: state changes of the
  /// same entry as the records, which are not many; `onlyWithRecords`: not if all are refused.
  void publish(const PrincipalRef& principal, const std::shared_ptr<Session>& self,
               std::span<const Publish> records, Done<std::vector<PublishResult>> done,
               std::vector<storage::StateChange> with = {}, bool onlyWithRecords = false);

  Matcher& matcher() { return matcher_; }

 private:
  struct Outcome;
  struct Pending;
  struct Prepared;
  struct Group;
  struct Receiver;
  struct Scratch;
  struct Call;

  void publishChunk(Call& call);
  void publishDelayed(Call& call);
  std::optional<Error> delayedRefused(const Call& call, const Publish& in);
  Result<storage::Appended> attempt(Call& call);
  void prepare(Call& call);
  bool prepareOne(Call& call, size_t index, Prepared& out);
  void prepareRouted(Call& call, size_t index);
  bool prepareStream(Call& call, size_t index, const std::string& stream, Prepared& out);
  static bool leadsToQueues(const Prepared& prepared);
  void settlePrepared(Call& call, Prepared& prepared);
  std::optional<Resource> whereDenied(const Call& call, const Publish& in) const;
  bool refuse(Call& call, const Prepared& prepared, Error error);
  Error tooLarge(const Call& call, const Publish& in, const Topic* topic, int64_t limit);
  bool fitsLimit(Call& call, const Prepared& prepared, int64_t limit);
  void gather(Call& call);
  void addRecord(Call& call, Prepared& prepared, bool keepOrder);
  Result<> buildRequest(Call& call, storage::AppendRequest& request);
  void begin(Call& call, storage::AppendRequest& request);
  Result<> addTargets(Call& call, storage::AppendRequest& request);
  Result<> addQueueTargets(Call& call, Prepared& prepared, storage::AppendRequest& request,
                           storage::MessagesPart& part);
  void addStreamTarget(Call& call, const Prepared& prepared, const BoundQueue& bound,
                       storage::MessagesPart& part);
  Result<> addInboxTargets(Call& call, Prepared& prepared, storage::AppendRequest& request,
                           storage::MessagesPart& part);
  bool isCertificate(const Publish& in) const;
  void keepCertificate(Call& call, const Publish& in, storage::AppendRequest& request);
  void tellCertificates(Call& call);
  void addRetained(Call& call, storage::AppendRequest& request);
  void giveRoomBack(Call& call);
  void afterAppend(Call& call, const storage::Appended& appended);
  static void offerShared(const MatchResult& match, const RoutedBlockRef& block, size_t index);
  void deliverLive(Call& call, const storage::Appended& appended);
  void failChunk(Call& call, const Error& error);
  void completed(Pending& pending, const Result<storage::Appended>& result);
  /// The recipient as this publisher's records reach it, or null when they don't.
  const Recipient* effective(const Call& call, const MatchResult& match, const Recipient& recipient,
                             Recipient& narrowed) const;

  Core& core_;
  Matcher matcher_;
  std::vector<std::unique_ptr<Scratch>> scratch_;
  RateLimit refusalLogs_;
};

}  // namespace polylog::router
