// ConsumerGroupDescribe: state and members of groups whose partitions the broker assigns (KIP-848).
#include "codecs/kafka/wire/consumer_group_describe.h"

#include "codecs/kafka/handlers/group_describe.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

using Inquiry = GroupInquiry<wire::ConsumerGroupDescribeResponse>;

constexpr int8_t kClassicMember = 0;
constexpr int8_t kConsumerMember = 1;

void fill(Inquiry& inquiry, const GroupMemberDescription& from, Inquiry::Member& to) {
  const ConsumerDescription& consumer = *from.consumer;
  inquiry.fillMember(from, to);
  if (from.instanceId) to.instanceId = inquiry.texts.keep(*from.instanceId);
  if (!consumer.pattern.empty()) to.subscribedTopicRegex = inquiry.texts.keep(consumer.pattern);
  inquiry.fill(consumer.target, to.targetAssignment);
  to.memberType = consumer.classic ? kClassicMember : kConsumerMember;
}

}  // namespace

void handleConsumerGroupDescribe(const CallRef& call,
                                 wire::ConsumerGroupDescribeRequest&& request) {
  describeGroups<wire::ConsumerGroupDescribeResponse>(
      call, request, {GroupKind::kConsumer, "consumer group", true}, fill);
}

}  // namespace polylog::kafka
