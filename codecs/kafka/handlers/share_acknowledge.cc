// ShareAcknowledge: what a member of a share group says of records that it has got (KIP-932;
// renewing KIP-1222).
#include "codecs/kafka/wire/share_acknowledge.h"

#include <memory>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/share_verdicts.h"

namespace polylog::kafka {
namespace {

using Request = wire::ShareAcknowledgeRequest;
using Response = wire::ShareAcknowledgeResponse;

/// A Work, so that it takes its turn in the session behind fetches that came before.
class ShareAcknowledgeRun final : public Work,
                                  public std::enable_shared_from_this<ShareAcknowledgeRun> {
 public:
  ShareAcknowledgeRun(CallRef call, Request request)
      : call_(std::move(call)), request_(std::move(request)) {}

  void start() override;
  void onTimer() override {}
  void hurry() override {}  // answered as soon as the disk has it

 private:
  bool ends() const { return request_.shareSessionEpoch == ShareSessions::kEnds; }
  ShareGroups& groups() const { return *call_->options().shareGroups; }
  void refuse(Code error, std::string_view why) { refuse(code(error), why); }
  void settled(const Result<ShareSettled>& result);
  void refuse(int16_t error, std::string_view why);
  void respond();

  CallRef call_;
  Request request_;
  ShareMember member_;
  std::vector<ShareSaid> said_;
  int32_t lockMs_ = 0;
};

void ShareAcknowledgeRun::start() {
  if (call_->options().shareGroups == nullptr) {
    return refuse(Code::kUnsupportedVersion, "There are no share groups here.");
  }
  auto member = shareMember(request_.groupId, request_.memberId);
  if (!member) {
    return refuse(Code::kInvalidRequest,
                  "GroupId and MemberId are needed; the latter has 36 octets at most.");
  }
  member_ = std::move(*member);
  if (!groups().mayTakePart(call_->principal(), member_.group)) {
    return refuse(Code::kGroupAuthorizationFailed, "The client may not take part in the group.");
  }
  if (request_.shareSessionEpoch == ShareSessions::kBegins) {
    return refuse(Code::kInvalidShareSessionEpoch, "A session begins with a ShareFetch.");
  }
  ShareSessions::Step step = call_->shareSessions().advance(member_, request_.shareSessionEpoch,
                                                            sessionOwner(*call_), {}, {});
  if (step.error != Code::kNone) return refuse(step.error, "");
  std::vector<ShareSettlement> settlements;
  said_ = readVerdicts(request_.topics, request_.isRenewAck, settlements);
  lockMs_ = call_->broker().groupDefaults().shareLockMs;
  if (settlements.empty()) return settled(ShareSettled{{}, lockMs_});
  groups().settleShares(call_->principal(), member_.group, member_.member, std::move(settlements),
                        [self = shared_from_this()](const Result<ShareSettled>& result) {
                          if (self->call_->open()) self->settled(result);
                        });
}

void ShareAcknowledgeRun::settled(const Result<ShareSettled>& result) {
  if (!result) {
    if (ends()) groups().releaseShares(member_.group, member_.member, nullptr);
    return refuse(code(result.error(), Area::kGroup), result.error().text);
  }
  putResults(*call_, *result, said_);
  lockMs_ = result->lockMs;
  if (!ends()) return respond();
  groups().releaseShares(member_.group, member_.member,
                         [self = shared_from_this()] { self->respond(); });
}

void ShareAcknowledgeRun::refuse(int16_t error, std::string_view why) {
  Response response;
  response.errorCode = error;
  if (!why.empty()) response.errorMessage = why;
  call_->answer(response);
}

void ShareAcknowledgeRun::respond() {
  if (!call_->open()) return;
  Response response;
  response.acquisitionLockTimeoutMs = lockMs_;
  for (const ShareSaid& one : said_) {
    if (response.topics.empty() || response.topics.back().topicId != one.place.topic) {
      response.topics.emplace_back().topicId = one.place.topic;
    }
    auto& out = response.topics.back().partitions.emplace_back();
    out.index = one.place.partition;
    out.errorCode = one.errorCode;
    if (one.errorCode != 0) out.errorMessage = one.text;
    out.currentLeader.leaderId = call_->options().nodeId;
    out.currentLeader.leaderEpoch = call_->broker().leaderEpoch().value();
  }
  call_->answer(response);
}

}  // namespace

void handleShareAcknowledge(const CallRef& call, Request&& request) {
  call->setWork(std::make_shared<ShareAcknowledgeRun>(call, std::move(request)));
}

}  // namespace polylog::kafka
