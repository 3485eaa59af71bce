// ShareGroupDescribe: state and members of share groups (KIP-932).
#include "codecs/kafka/wire/share_group_describe.h"

#include "codecs/kafka/handlers/group_describe.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

using Inquiry = GroupInquiry<wire::ShareGroupDescribeResponse>;

void fill(Inquiry& inquiry, const GroupMemberDescription& from, Inquiry::Member& to) {
  inquiry.fillMember(from, to);
}

}  // namespace

void handleShareGroupDescribe(const CallRef& call, wire::ShareGroupDescribeRequest&& request) {
  describeGroups<wire::ShareGroupDescribeResponse>(call, request,
                                                   {GroupKind::kShare, "share group", false}, fill);
}

}  // namespace polylog::kafka
