// OffsetFetch: offsets that groups committed. Who asks for stable ones gets none where an open
// transaction has another, and asks again.
#include "codecs/kafka/wire/offset_fetch.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "mapping/address.h"
#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstWithManyGroups = 8;
constexpr int16_t kFirstWithGroupError = 2;
constexpr int16_t kFirstWithTopicIds = 10;

using Offsets = Result<std::vector<GroupOffset>>;
using Groups = std::vector<wire::OffsetFetchRequest::Group>;
using Topic = wire::OffsetFetchResponse::Group::Topic;

/// One request under way, in the shape of version 8 whatever its own is.
struct Inquiry {
  explicit Inquiry(CallRef c) : call(std::move(c)) {}

  void release() {
    if (--waiting == 0) answer();
  }
  void fill(size_t group, const Offsets& offsets);
  void fillAsked(size_t group, const std::vector<GroupOffset>& offsets);
  void fillAll(size_t group, const std::vector<GroupOffset>& offsets);
  void answer();

  Topic::Partition partitionOf(int32_t index, const GroupOffset* offset);

  CallRef call;
  Groups groups;
  bool stable = false;
  wire::OffsetFetchResponse response;
  mapping::TextArena texts;
  size_t waiting = 1;
};
using InquiryRef = std::shared_ptr<Inquiry>;

Topic::Partition Inquiry::partitionOf(int32_t index, const GroupOffset* offset) {
  Topic::Partition out;
  out.index = index;
  if (stable && offset != nullptr && offset->undecided) {
    out.errorCode = code(Code::kUnstableOffsetCommit);
    offset = nullptr;
  }
  out.offset = offset != nullptr ? offset->offset : -1;
  out.leaderEpoch = offset != nullptr ? offset->leaderEpoch : -1;
  out.metadata = BytesView();
  if (offset != nullptr && !offset->metadata.empty()) out.metadata = texts.keep(offset->metadata);
  return out;
}

/// The name of the topic that is asked for, by name or by id.
Result<std::string> canonicalName(const Call& call,
                                  const wire::OffsetFetchRequest::Group::Topic& asked) {
  if (call.version() < kFirstWithTopicIds) return canonicalTopic(asked.name);
  TopicRef topic = call.broker().findTopic(call.principal(), asked.id);
  if (topic == nullptr) return fail(ErrorKind::kNotFound, "no topic of that id");
  return topic->name;
}

void Inquiry::fill(size_t group, const Offsets& offsets) {
  auto& out = response.groups[group];
  if (!offsets && offsets.error().kind != ErrorKind::kNotFound) {
    out.errorCode = code(offsets.error(), Area::kGroup);
    return;
  }
  // A group that isn't there has committed nothing.
  static const std::vector<GroupOffset> kNone;
  const std::vector<GroupOffset>& found = offsets ? *offsets : kNone;
  groups[group].topics ? fillAsked(group, found) : fillAll(group, found);
}

void Inquiry::fillAsked(size_t group, const std::vector<GroupOffset>& offsets) {
  std::map<std::pair<BytesView, int32_t>, const GroupOffset*> byPlace;
  for (const GroupOffset& offset : offsets) byPlace[{offset.topic, offset.partition}] = &offset;
  for (const auto& asked : *groups[group].topics) {
    Topic& topic = response.groups[group].topics.emplace_back();
    topic.name = asked.name;
    topic.id = asked.id;
    Result<std::string> name = canonicalName(*call, asked);
    for (int32_t index : asked.partitions) {
      auto found = name ? byPlace.find({*name, index}) : byPlace.end();
      topic.partitions.push_back(
          partitionOf(index, found == byPlace.end() ? nullptr : found->second));
      if (name || call->version() < kFirstWithTopicIds) continue;
      topic.partitions.back().errorCode = code(Code::kUnknownTopicId);
    }
  }
}

void Inquiry::fillAll(size_t group, const std::vector<GroupOffset>& offsets) {
  std::map<BytesView, std::vector<const GroupOffset*>> byTopic;
  for (const GroupOffset& offset : offsets) {
    if (offset.offset >= 0) byTopic[offset.topic].push_back(&offset);
  }
  for (auto& [canonical, places] : byTopic) {
    std::string name;
    if (!mapping::appendKafkaTopic(canonical, name)) continue;
    Topic& topic = response.groups[group].topics.emplace_back();
    topic.name = texts.keep(std::move(name));
    TopicRef found = call->broker().findTopic(call->principal(), std::string(canonical));
    if (found != nullptr) topic.id = found->id;
    std::ranges::sort(places, {}, &GroupOffset::partition);
    for (const GroupOffset* offset : places) {
      topic.partitions.push_back(partitionOf(offset->partition, offset));
    }
  }
}

void Inquiry::answer() {
  if (call->version() < kFirstWithManyGroups) {
    auto& only = response.groups.front();
    response.errorCode = only.errorCode;
    for (const Topic& from : only.topics) {
      auto& topic = response.topics.emplace_back();
      topic.name = from.name;
      for (const Topic::Partition& p : from.partitions) {
        topic.partitions.push_back({p.index, p.offset, p.leaderEpoch, p.metadata, p.errorCode});
      }
    }
    // Version 1 has nowhere else to say what went wrong.
    if (only.errorCode != 0 && call->version() < kFirstWithGroupError && groups.front().topics) {
      for (const auto& asked : *groups.front().topics) {
        auto& topic = response.topics.emplace_back();
        topic.name = asked.name;
        for (int32_t index : asked.partitions) {
          topic.partitions.push_back({index, -1, -1, BytesView(), only.errorCode});
        }
      }
    }
  }
  call->answer(response);
}

Groups groupsOf(wire::OffsetFetchRequest&& request, int16_t version) {
  if (version >= kFirstWithManyGroups) return std::move(request.groups);
  Groups groups(1);
  groups[0].groupId = request.groupId;
  if (request.topics) {
    auto& topics = groups[0].topics.emplace();
    for (auto& topic : *request.topics) {
      topics.push_back({topic.name, {}, std::move(topic.partitions)});
    }
  }
  return groups;
}

void ask(const InquiryRef& inquiry, size_t at) {
  const auto& group = inquiry->groups[at];
  inquiry->response.groups[at].groupId = group.groupId;
  std::optional<std::vector<std::pair<std::string, int32_t>>> places;
  if (group.topics) {
    places.emplace();
    for (const auto& topic : *group.topics) {
      Result<std::string> name = canonicalName(*inquiry->call, topic);
      if (!name) continue;
      for (int32_t index : topic.partitions) places->emplace_back(*name, index);
    }
  }
  std::optional<GroupReader> reader;
  if (group.memberId || group.memberEpoch >= 0) {
    reader = {owned(group.memberId.value_or(BytesView())), group.memberEpoch};
  }
  ++inquiry->waiting;
  Call& call = *inquiry->call;
  call.broker().fetchOffsets(call.principal(), owned(group.groupId), std::move(reader),
                             std::move(places), [inquiry, at](const Offsets& offsets) {
                               inquiry->fill(at, offsets);
                               inquiry->release();
                             });
}

}  // namespace

void handleOffsetFetch(const CallRef& call, wire::OffsetFetchRequest&& request) {
  auto inquiry = std::make_shared<Inquiry>(call);
  inquiry->stable = request.requireStable;
  inquiry->groups = groupsOf(std::move(request), call->version());
  inquiry->response.groups.resize(inquiry->groups.size());
  for (size_t i = 0; i < inquiry->groups.size(); ++i) ask(inquiry, i);
  inquiry->release();
}

}  // namespace polylog::kafka
