// Fetch: reads record batches, by reference, and waits until there are enough.
#include "codecs/kafka/wire/fetch.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/fetched_batches.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"
#include "core/event/dispatcher.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstByTopicId = 13;
constexpr int16_t kFirstWithStorageError = 6;
constexpr int8_t kReadCommitted = 1;

class FetchRun final : public Work, public std::enable_shared_from_this<FetchRun> {
 public:
  FetchRun(CallRef call, wire::FetchRequest request)
      : call_(std::move(call)), request_(std::move(request)) {
    auto asked = static_cast<size_t>(std::max(request_.maxBytes, 1));
    budget_ = std::min(asked, call_->options().maxFetchBytes);
    enough_ = std::min(static_cast<size_t>(std::max(request_.minBytes, 0)), budget_);
  }

  void start() override;
  void onTimer() override { respond(); }
  void hurry() override { respond(); }

 private:
  /// What is asked of one partition, and what was read so far.
  struct Part {
    std::string topic;  ///< canonical
    int32_t index = 0;
    size_t maxBytes = 0;
    Offset next;
    Code refused = Code::kNone;
    PartRead read;
  };

  void resolve();
  void readAll();
  void readPart(Part& part);
  void run();
  void wait();
  void onWake();
  void respond();
  bool complete() const;
  bool committed() const { return request_.isolationLevel == kReadCommitted; }
  wire::FetchResponse describe() const;

  CallRef call_;
  wire::FetchRequest request_;
  std::vector<Part> parts_;  ///< of all topics, in the order of the request
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
  if (request_.sessionId != 0) {
    // We never give out sessions; this one is of a broker that was here before.
    wire::FetchResponse response;
    response.errorCode = code(Code::kFetchSessionIdNotFound);
    return call_->answer(response);
  }
  resolve();
  run();
}

/// Fills parts_ from the request.
void FetchRun::resolve() {
  for (const auto& topic : request_.topics) {
    Code refused = Code::kNone;
    std::string name;
    if (call_->version() >= kFirstByTopicId) {
      TopicRef found = call_->broker().findTopic(call_->principal(), topic.id);
      if (found == nullptr) {
        refused = Code::kUnknownTopicId;
      } else {
        name = found->name;
      }
    } else if (Result<std::string> canonical = canonicalTopic(topic.name)) {
      name = std::move(*canonical);
    } else {
      refused = Code::kUnknownTopicOrPartition;
    }
    for (const auto& partition : topic.partitions) {
      Part& part = parts_.emplace_back();
      part.topic = name;
      part.index = partition.index;
      part.maxBytes = static_cast<size_t>(std::max(partition.maxBytes, 1));
      part.next = Offset(partition.fetchOffset);
      part.refused = refused;
      if (refused != Code::kNone) failed_ = true;
    }
  }
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
  run();
}

wire::FetchResponse FetchRun::describe() const {
  wire::FetchResponse response;
  response.topics.resize(request_.topics.size());
  const Part* part = parts_.data();
  for (size_t i = 0; i < response.topics.size(); ++i) {
    auto& topic = response.topics[i];
    topic.name = request_.topics[i].name;
    topic.id = request_.topics[i].id;
    topic.partitions.resize(request_.topics[i].partitions.size());
    for (auto& partition : topic.partitions) {
      partition.index = part->index;
      partition.errorCode =
          part->refused == Code::kNone ? part->read.errorCode : code(part->refused);
      partition.highWatermark = part->read.highWatermark;
      partition.lastStableOffset = part->read.lastStable;
      partition.logStartOffset = part->read.logStart;
      // To one who reads committed records only, also "none aborted"; to others, "not said".
      if (committed()) {
        auto& aborted = partition.abortedTransactions.emplace();
        for (const AbortedTransaction& one : part->read.aborted) {
          aborted.push_back({one.producer, one.first.value()});
        }
      }
      partition.records = {BytesView(), part->read.errorCode == 0 ? part->read.bytes : 0};
      ++part;
    }
  }
  return response;
}

void FetchRun::respond() {
  if (!call_->open()) return;
  wire::FetchResponse response = describe();
  wire::Encoder out = call_->begin();
  response.encode(out, call_->version());

  size_t records = 0;
  for (const Part& part : parts_) records += part.read.errorCode == 0 ? part.read.bytes : 0;
  out.patchU32(0, static_cast<uint32_t>(out.size() - kFrameLengthSize + records));

  // The batches go between the pieces of the encoded message.
  std::vector<size_t> cuts = std::move(out.cuts);
  std::string message = out.take();
  LeaderEpoch epoch = call_->broker().leaderEpoch();
  Reply reply;
  size_t at = 0;
  auto cut = cuts.begin();
  for (const Part& part : parts_) {
    if (part.read.bytes == 0 || part.read.errorCode != 0) continue;
    reply.append(BytesView(message).substr(at, *cut - at));
    at = *cut++;
    for (const FetchedBatch& batch : part.read.batches) appendBatch(batch, epoch, reply);
  }
  reply.append(BytesView(message).substr(at));
  waiting_.reset();
  call_->answer(std::move(reply));
}

}  // namespace

void handleFetch(const CallRef& call, wire::FetchRequest&& request) {
  call->setWork(std::make_shared<FetchRun>(call, std::move(request)));
}

}  // namespace polylog::kafka
