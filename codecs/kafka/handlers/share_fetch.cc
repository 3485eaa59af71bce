// ShareFetch: what a member of a share group says of records that it has got, and more records
// for it (KIP-932; acquire modes KIP-1206, renewing KIP-1222).
#include "codecs/kafka/wire/share_fetch.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/fetched_batches.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/share_verdicts.h"
#include "codecs/kafka/limits.h"
#include "codecs/kafka/quota_meter.h"
#include "core/event/dispatcher.h"

namespace polylog::kafka {
namespace {

using Request = wire::ShareFetchRequest;
using Response = wire::ShareFetchResponse;

constexpr int8_t kRecordLimit = 1;
/// Who names no number of records gets so many, as the Java client asks for.
constexpr int32_t kUsualRecords = 500;
/// Who is held for a quota is heard again after this part of the time that it has for its records.
constexpr int32_t kPartOfLock = 3;

/// Ranges of `size` offsets at most, as the client likes to acknowledge them; 0 = as they are.
std::vector<ShareRange> divided(const std::vector<ShareRange>& ranges, int32_t size) {
  if (size <= 0) return ranges;
  std::vector<ShareRange> pieces;
  for (ShareRange range : ranges) {
    while (range.last - range.first >= size) {
      pieces.push_back({range.first, range.first + size - 1, range.deliveries});
      range.first += size;
    }
    pieces.push_back(range);
  }
  return pieces;
}

class ShareFetchRun final : public Work, public std::enable_shared_from_this<ShareFetchRun> {
 public:
  ShareFetchRun(CallRef call, Request request)
      : call_(std::move(call)), request_(std::move(request)) {}

  void start() override;
  void onTimer() override {}
  /// What has been said is on its way to the disk, and answered then; nothing more is waited for.
  void hurry() override {
    hurried_ = true;
    if (claim_ != nullptr) respond();
  }

 private:
  /// What the answer says of a partition.
  struct Part {
    const ShareSaid* said = nullptr;
    int16_t errorCode = 0;
    std::string text;
    PartRead read;
    std::vector<ShareRange> ranges;
  };

  std::string fault() const;
  bool renews() const { return request_.isRenewAck; }
  bool ends() const { return request_.shareSessionEpoch == ShareSessions::kEnds; }
  bool begins() const { return request_.shareSessionEpoch == ShareSessions::kBegins; }
  ShareGroups& groups() const { return *call_->options().shareGroups; }
  int64_t nowMs() const { return call_->transport().dispatcher().clock().monotonicMicros() / 1000; }
  void settle();
  void settled(const Result<ShareSettled>& result);
  void acquire();
  void acquired(Result<ShareAcquired> result);
  void refuse(int16_t errorCode, std::string_view why);
  int32_t hold(size_t records);
  void respond();
  Response describe() const;

  CallRef call_;
  Request request_;
  ShareMember member_;
  std::vector<SharePlace> places_;
  std::vector<ShareSaid> said_;
  std::vector<ShareSettlement> settlements_;
  std::map<SharePlace, Part> parts_;
  std::unique_ptr<WaitHandle> claim_;
  int32_t lockMs_ = 0;
  int32_t holdMs_ = 0;  ///< its quota was used up before it came
  bool hurried_ = false;
};

/// What is wrong with the request, whatever there is; empty = nothing.
std::string ShareFetchRun::fault() const {
  bool says = std::ranges::any_of(request_.topics, [](const auto& topic) {
    return std::ranges::any_of(topic.partitions, [](const auto& partition) {
      return !partition.acknowledgementBatches.empty();
    });
  });
  if (begins() && says) return "A session can't begin with acknowledgements.";
  if (!renews()) return {};
  bool fetches = request_.maxBytes != 0 || request_.minBytes != 0 || request_.maxRecords != 0 ||
                 request_.maxWaitMs != 0;
  return fetches ? "Who renews fetches nothing: all that is about records has to be 0." : "";
}

void ShareFetchRun::start() {
  if (call_->options().shareGroups == nullptr) {
    return refuse(code(Code::kUnsupportedVersion), "There are no share groups here.");
  }
  lockMs_ = call_->broker().groupDefaults().shareLockMs;
  auto member = shareMember(request_.groupId, request_.memberId);
  if (!member) {
    return refuse(code(Code::kInvalidRequest),
                  "GroupId and MemberId are needed; the latter has 36 octets at most.");
  }
  member_ = std::move(*member);
  if (!groups().mayTakePart(call_->principal(), member_.group)) {
    return refuse(code(Code::kGroupAuthorizationFailed),
                  "The client may not take part in the group.");
  }
  if (std::string why = fault(); !why.empty()) return refuse(code(Code::kInvalidRequest), why);
  ShareSessions::Step step =
      call_->shareSessions().advance(member_, request_.shareSessionEpoch, sessionOwner(*call_),
                                     placesOf(request_.topics), placesOf(request_.forgotten));
  if (step.error != Code::kNone) return refuse(code(step.error), "");
  places_ = std::move(step.places);
  said_ = readVerdicts(request_.topics, renews(), settlements_);
  holdMs_ = call_->quotaMeter().fetchHold(*call_->principal(), nowMs());
  // Who is to be held has to be told what the group's time for records is.
  bool ask = !settlements_.empty() || holdMs_ > 0;
  ask ? settle() : settled(ShareSettled{{}, lockMs_});
}

void ShareFetchRun::settle() {
  groups().settleShares(call_->principal(), member_.group, member_.member, std::move(settlements_),
                        [self = shared_from_this()](const Result<ShareSettled>& result) {
                          if (self->call_->open()) self->settled(result);
                        });
}

void ShareFetchRun::settled(const Result<ShareSettled>& result) {
  if (!result) {
    if (ends()) groups().releaseShares(member_.group, member_.member, nullptr);
    return refuse(code(result.error(), Area::kGroup), result.error().text);
  }
  putResults(*call_, *result, said_);
  lockMs_ = result->lockMs;
  for (const ShareSaid& one : said_) parts_[one.place].said = &one;
  if (ends()) {
    return groups().releaseShares(member_.group, member_.member,
                                  [self = shared_from_this()] { self->respond(); });
  }
  // Whose quota is used up gets nothing now: others may have it meanwhile.
  if (renews() || hurried_ || holdMs_ > 0) return respond();
  acquire();
}

void ShareFetchRun::acquire() {
  ShareAcquire asked;
  asked.group = member_.group;
  asked.memberId = member_.member;
  asked.places = places_;
  size_t most =
      std::min(static_cast<size_t>(std::max(request_.maxBytes, 1)), call_->options().maxFetchBytes);
  asked.maxBytes = call_->quotaMeter().largestFetch(*call_->principal(), most, nowMs());
  asked.minBytes = std::min(static_cast<size_t>(std::max(request_.minBytes, 0)), asked.maxBytes);
  asked.maxRecords = request_.maxRecords > 0 ? request_.maxRecords : kUsualRecords;
  asked.exactly = request_.shareAcquireMode == kRecordLimit;
  asked.maxWaitMs = std::clamp(request_.maxWaitMs, 0, kMaxFetchWaitMs);
  claim_ = groups().acquireShares(call_->principal(), std::move(asked),
                                  [weak = weak_from_this()](Result<ShareAcquired> result) {
                                    if (auto self = weak.lock()) self->acquired(std::move(result));
                                  });
}

void ShareFetchRun::acquired(Result<ShareAcquired> result) {
  if (!call_->open()) return;
  Call::Busy busy(*call_);
  if (!result) return refuse(code(result.error(), Area::kGroup), result.error().text);
  lockMs_ = result->lockMs;
  for (ShareAcquired::Part& got : result->parts) {
    Part& part = parts_[got.place];
    if (got.error) {
      part.errorCode = sharePartitionCode(*call_, got.place, *got.error);
      part.text = got.error->text;
      continue;
    }
    part.read.take(std::move(got.fetched), Offset(0), false);
    part.errorCode = part.read.errorCode;
    if (part.errorCode == 0) part.ranges = divided(got.ranges, request_.batchSize);
  }
  respond();
}

void ShareFetchRun::refuse(int16_t errorCode, std::string_view why) {
  Response response;
  response.errorCode = errorCode;
  if (!why.empty()) response.errorMessage = why;
  response.acquisitionLockTimeoutMs = lockMs_;
  call_->answer(response);
}

Response ShareFetchRun::describe() const {
  Response response;
  response.acquisitionLockTimeoutMs = lockMs_;
  for (const auto& [place, part] : parts_) {
    if (response.topics.empty() || response.topics.back().topicId != place.topic) {
      response.topics.emplace_back().topicId = place.topic;
    }
    auto& out = response.topics.back().partitions.emplace_back();
    out.index = place.partition;
    out.errorCode = part.errorCode;
    if (part.errorCode != 0) out.errorMessage = part.text;
    if (part.said != nullptr && part.said->errorCode != 0) {
      out.acknowledgeErrorCode = part.said->errorCode;
      out.acknowledgeErrorMessage = part.said->text;
    }
    out.currentLeader.leaderId = call_->options().nodeId;
    out.currentLeader.leaderEpoch = call_->broker().leaderEpoch().value();
    out.records = {BytesView(), part.read.bytes};
    for (const ShareRange& range : part.ranges) {
      out.acquiredRecords.push_back({range.first, range.last, range.deliveries});
    }
  }
  return response;
}

/// Counts what is answered with. For how long the client is held: never for so long that it
/// couldn't settle what it has got in time, and if need be it is held again.
int32_t ShareFetchRun::hold(size_t records) {
  const Principal& who = *call_->principal();
  int32_t millis = holdMs_;
  if (millis == 0) millis = call_->quotaMeter().count(QuotaKind::kFetch, who, records, nowMs());
  millis = std::max(millis, call_->countTime());
  millis = std::min(millis, std::max(lockMs_ / kPartOfLock, 1));
  call_->throttle(millis);
  return millis;
}

void ShareFetchRun::respond() {
  if (!call_->open()) return;
  // A new session is told of all its partitions.
  if (begins()) {
    for (const SharePlace& place : places_) parts_[place];
  }
  Response response = describe();
  std::vector<const PartRead*> reads;
  size_t records = 0;
  for (const auto& [place, part] : parts_) {
    if (part.read.bytes > 0) reads.push_back(&part.read);
    records += part.read.bytes;
  }
  response.throttleTimeMs = hold(records);
  wire::Encoder out = call_->begin();
  response.encode(out, call_->version());
  Reply reply = withBatches(std::move(out), reads, call_->broker().leaderEpoch());
  claim_.reset();
  call_->answer(std::move(reply));
}

}  // namespace

void handleShareFetch(const CallRef& call, Request&& request) {
  call->setWork(std::make_shared<ShareFetchRun>(call, std::move(request)));
}

}  // namespace polylog::kafka
