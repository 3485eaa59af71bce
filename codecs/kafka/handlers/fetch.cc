// Fetch: reads record batches, by reference, and waits until there are enough.
#include "codecs/kafka/wire/fetch.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/fetch_sessions.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/fetched_batches.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"
#include "codecs/kafka/quota_meter.h"
#include "core/event/dispatcher.h"
#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstByTopicId = 13;
constexpr int16_t kFirstWithStorageError = 6;
constexpr int16_t kFirstWithSessions = 7;
/// Session epochs of requests that name all they want (KIP-227).
constexpr int32_t kInitialEpoch = 0;
constexpr int32_t kFinalEpoch = -1;
constexpr int8_t kReadCommitted = 1;

/// A topic's name as the client writes it, of which each partition gets a copy. One that is too
/// long for a topic is as wrong with its first octets alone.
std::string keptName(BytesView name) {
  return owned(name.substr(0, mapping::kKafkaMaxTopic + 1));
}

bool sameTopic(const FetchKey& a, const FetchKey& b) {
  return a.topic == b.topic && a.id == b.id;
}

class FetchRun final : public Work, public std::enable_shared_from_this<FetchRun> {
 public:
  FetchRun(CallRef call, wire::FetchRequest request)
      : call_(std::move(call)), request_(std::move(request)) {
    auto asked = static_cast<size_t>(std::max(request_.maxBytes, 1));
    budget_ = std::min(asked, call_->options().maxFetchBytes);
    budget_ = call_->quotaMeter().largestFetch(*call_->principal(), budget_, nowMs());
    enough_ = std::min(static_cast<size_t>(std::max(request_.minBytes, 0)), budget_);
  }

  void start() override;
  void onTimer() override { respond(); }
  void hurry() override { respond(); }

 private:
  /// What is asked of one partition, and what was read so far.
  struct Part {
    FetchEntry asked;
    std::string topic;  ///< canonical
    int32_t index = 0;
    size_t maxBytes = 0;
    Offset next;
    Code refused = Code::kNone;
    PartRead read;
    bool told = true;  ///< in the answer

    int16_t errorCode() const { return refused == Code::kNone ? read.errorCode : code(refused); }
    size_t bytes() const { return errorCode() == 0 ? read.bytes : 0; }
  };

  Code open();
  bool byId() const { return call_->version() >= kFirstByTopicId; }
  int64_t nowMs() const { return call_->transport().dispatcher().clock().monotonicMicros() / 1000; }
  FetchSessions& sessions() const { return call_->fetchSessions(); }
  std::vector<FetchEntry> entriesAsked() const;
  std::vector<FetchKey> keysForgotten() const;
  void resolve(std::vector<FetchEntry> entries);
  bool settleSession();
  void readAll();
  void readPart(Part& part);
  void run();
  void wait();
  void onWake();
  void respond();
  void refuse(Code error);
  bool complete() const;
  bool committed() const { return request_.isolationLevel == kReadCommitted; }
  wire::FetchResponse describe() const;
  bool mayGive(size_t records, int32_t& holdMs);

  CallRef call_;
  wire::FetchRequest request_;
  std::vector<Part> parts_;  ///< of all topics, in the order of the request or the session
  std::shared_ptr<FetchSession> session_;
  int32_t sessionId_ = 0;  ///< in the answer
  std::unique_ptr<WaitHandle> waiting_;
  size_t budget_ = 0;
  size_t enough_ = 0;
  size_t bytes_ = 0;
  bool failed_ = false;
  bool timed_ = false;
  bool asking_ = false;
  bool woken_ = false;
};

void FetchRun::start() {
  Code refused = open();
  if (refused != Code::kNone) return refuse(refused);
  run();
}

void FetchRun::refuse(Code error) {
  wire::FetchResponse response;
  response.errorCode = code(error);
  call_->answer(response);
}

/// Finds out what is to be read: what the request says, or what its session does.
Code FetchRun::open() {
  if (request_.sessionEpoch == kInitialEpoch || request_.sessionEpoch == kFinalEpoch) {
    // A full request ends the session that it names, and with epoch 0 it begins another.
    if (request_.sessionId != 0) sessions().remove(request_.sessionId);
    resolve(entriesAsked());
    return Code::kNone;
  }
  FetchSessions::Step step = sessions().advance(request_.sessionId, request_.sessionEpoch, byId(),
                                                entriesAsked(), keysForgotten(), nowMs());
  if (step.error != Code::kNone) return step.error;
  session_ = std::move(step.session);
  if (session_) sessionId_ = session_->id();
  resolve(std::move(step.entries));
  return Code::kNone;
}

std::vector<FetchEntry> FetchRun::entriesAsked() const {
  std::vector<FetchEntry> entries;
  for (const auto& topic : request_.topics) {
    for (const auto& partition : topic.partitions) {
      entries.push_back({{keptName(topic.name), topic.id, partition.index},
                         partition.fetchOffset,
                         partition.maxBytes});
    }
  }
  return entries;
}

std::vector<FetchKey> FetchRun::keysForgotten() const {
  std::vector<FetchKey> keys;
  for (const auto& topic : request_.forgotten) {
    for (int32_t index : topic.partitions) keys.push_back({keptName(topic.name), topic.id, index});
  }
  return keys;
}

/// Fills parts_.
void FetchRun::resolve(std::vector<FetchEntry> entries) {
  parts_.reserve(entries.size());
  for (FetchEntry& entry : entries) {
    const Part* before = parts_.empty() ? nullptr : &parts_.back();
    Part part;
    part.index = entry.key.index;
    part.maxBytes = static_cast<size_t>(std::max(entry.maxBytes, 1));
    part.next = Offset(entry.offset);
    part.asked = std::move(entry);
    if (before != nullptr && sameTopic(before->asked.key, part.asked.key)) {
      part.topic = before->topic;
      part.refused = before->refused;
    } else if (byId()) {
      TopicRef found = call_->broker().findTopic(call_->principal(), part.asked.key.id);
      if (found != nullptr) part.topic = found->name;
      if (found == nullptr) part.refused = Code::kUnknownTopicId;
    } else if (Result<std::string> canonical = canonicalTopic(part.asked.key.topic)) {
      part.topic = std::move(*canonical);
    } else {
      part.refused = Code::kUnknownTopicOrPartition;
    }
    if (part.refused != Code::kNone) failed_ = true;
    parts_.push_back(std::move(part));
  }
}

/// Begins the session that a full request asks for, or finds out what is new to one that there is.
/// False: the session has gone on without this request.
bool FetchRun::settleSession() {
  bool begins = request_.sessionEpoch == kInitialEpoch && call_->version() >= kFirstWithSessions;
  if (!begins && !session_) return true;
  std::vector<FetchEntry> entries;
  std::vector<FetchFinding> findings;
  for (const Part& part : parts_) {
    entries.push_back(part.asked);
    findings.push_back(
        {part.bytes() > 0, part.errorCode(), part.read.highWatermark, part.read.logStart});
    if (!begins) continue;
    if (part.errorCode() == 0) entries.back().highWatermark = part.read.highWatermark;
    entries.back().logStart = part.read.logStart;
  }
  if (begins) {
    sessionId_ = sessions().create(std::move(entries), byId(), nowMs());
    return true;
  }
  std::vector<bool> told = sessions().tell(*session_, request_.sessionEpoch, entries, findings);
  if (told.size() != parts_.size()) return false;
  for (size_t i = 0; i < told.size(); ++i) parts_[i].told = told[i];
  return true;
}

void FetchRun::run() {
  readAll();
  if (complete()) return respond();
  wait();
}

bool FetchRun::complete() const {
  return failed_ || bytes_ >= enough_ || request_.maxWaitMs <= 0 || parts_.empty();
}

void FetchRun::readAll() {
  for (Part& part : parts_) {
    if (part.refused == Code::kNone && part.read.errorCode == 0) readPart(part);
  }
}

/// Reads what is new in one partition, as far as the request's limits go.
void FetchRun::readPart(Part& part) {
  if (bytes_ >= budget_ || part.read.bytes >= part.maxBytes) {
    Result<PartitionBounds> bounds =
        call_->broker().bounds(call_->principal(), part.topic, part.index);
    if (bounds) part.read.setEnds(bounds->logStart, bounds->highWatermark, bounds->lastStable);
    if (!bounds) part.read.fail(code(bounds.error(), Area::kTopic));
  } else {
    size_t room = std::min(budget_ - bytes_, part.maxBytes - part.read.bytes);
    Result<Fetched> fetched =
        call_->broker().fetch(call_->principal(), part.topic, part.index, part.next, room);
    if (!fetched) {
      part.read.fail(code(fetched.error(), Area::kTopic));
    } else {
      size_t before = part.read.bytes;
      part.next = part.read.take(std::move(*fetched), part.next, committed());
      bytes_ += part.read.bytes - before;
    }
  }
  if (part.read.errorCode == code(Code::kStorageError) &&
      call_->version() < kFirstWithStorageError) {
    part.read.errorCode = code(Code::kNotLeader);
  }
  if (part.read.errorCode != 0) failed_ = true;
}

/// Waits for records behind what was read.
void FetchRun::wait() {
  std::vector<Broker::FetchPoint> points;
  points.reserve(parts_.size());
  for (const Part& part : parts_) {
    if (part.read.bytes < part.maxBytes)
      points.push_back({part.topic, part.index, part.next, committed()});
  }
  if (points.empty()) return respond();
  if (!timed_) {
    timed_ = true;
    call_->startTimer(int64_t{std::min(request_.maxWaitMs, kMaxFetchWaitMs)} * 1000);
  }
  asking_ = true;
  woken_ = false;
  waiting_ = call_->broker().awaitRecords(call_->principal(), points, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->onWake();
  });
  asking_ = false;
  if (!woken_) return;
  call_->transport().dispatcher().post([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->onWake();
  });
}

void FetchRun::onWake() {
  if (asking_) {
    woken_ = true;
    return;
  }
  if (!call_->open()) return;
  // We may be inside a call of the handle's: let it go when that is over.
  if (waiting_ != nullptr) {
    call_->transport().dispatcher().defer(
        [handle = std::move(waiting_)]() mutable { handle.reset(); });
  }
  Call::Busy busy(*call_);
  run();
}

wire::FetchResponse FetchRun::describe() const {
  wire::FetchResponse response;
  response.sessionId = sessionId_;
  const Part* before = nullptr;
  for (const Part& part : parts_) {
    if (!part.told) continue;
    if (before == nullptr || !sameTopic(before->asked.key, part.asked.key)) {
      auto& topic = response.topics.emplace_back();
      topic.name = part.asked.key.topic;
      topic.id = part.asked.key.id;
    }
    before = &part;
    auto& partition = response.topics.back().partitions.emplace_back();
    partition.index = part.index;
    partition.errorCode = part.errorCode();
    partition.highWatermark = part.read.highWatermark;
    partition.lastStableOffset = part.read.lastStable;
    partition.logStartOffset = part.read.logStart;
    // To one who reads committed records only, also "none aborted"; to others, "not said".
    if (committed()) {
      auto& aborted = partition.abortedTransactions.emplace();
      for (const AbortedTransaction& one : part.read.aborted) {
        aborted.push_back({one.producer, one.first.value()});
      }
    }
    partition.records = {BytesView(), part.bytes()};
  }
  return response;
}

/// Who passes a quota is held, and told, and gets nothing now: as from Kafka. What was found stays
/// new to the session.
bool FetchRun::mayGive(size_t records, int32_t& holdMs) {
  const int32_t forTime = call_->countTime();
  QuotaMeter::FetchVerdict verdict =
      call_->quotaMeter().countFetch(*call_->principal(), records, forTime == 0, nowMs());
  holdMs = std::max(forTime, verdict.holdMs);
  call_->throttle(holdMs);
  return verdict.given;
}

void FetchRun::respond() {
  if (!call_->open()) return;
  size_t records = 0;
  for (const Part& part : parts_) records += part.bytes();
  int32_t holdMs = 0;
  if (!mayGive(records, holdMs)) {
    wire::FetchResponse nothing;
    nothing.sessionId = sessionId_;
    nothing.throttleTimeMs = holdMs;
    return call_->answer(nothing);
  }
  if (!settleSession()) return refuse(Code::kInvalidFetchSessionEpoch);
  wire::FetchResponse response = describe();
  response.throttleTimeMs = holdMs;
  wire::Encoder out = call_->begin();
  response.encode(out, call_->version());
  std::vector<const PartRead*> reads;
  for (const Part& part : parts_) {
    if (part.bytes() > 0) reads.push_back(&part.read);
  }
  Reply reply = withBatches(std::move(out), reads, call_->broker().leaderEpoch());
  waiting_.reset();
  call_->answer(std::move(reply));
}

}  // namespace

void handleFetch(const CallRef& call, wire::FetchRequest&& request) {
  call->setWork(std::make_shared<FetchRun>(call, std::move(request)));
}

}  // namespace polylog::kafka
