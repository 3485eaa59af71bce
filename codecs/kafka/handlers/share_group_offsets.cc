// DescribeShareGroupOffsets, AlterShareGroupOffsets and DeleteShareGroupOffsets: how far share
// groups are, and where they go on (KIP-932, KIP-1226).
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/wire/alter_share_group_offsets.h"
#include "codecs/kafka/wire/delete_share_group_offsets.h"
#include "codecs/kafka/wire/describe_share_group_offsets.h"
#include "core/model/share_group.h"
#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

using Results = std::vector<Result<>>;
constexpr const char* kNoShareGroups = "There are no share groups here.";

int16_t partitionCode(const Error& error) {
  if (error.kind == ErrorKind::kInvalid) return code(Code::kInvalidRequest);
  return code(error, Area::kTopic);
}

// ---------------------------------------------------------------- describing

using Described = wire::DescribeShareGroupOffsetsResponse;

struct Inquiry : Pending<Described> {
  using Pending::Pending;

  void fill(const Result<std::vector<ShareOffset>>& found, Described::Group& out);
};

void ask(const std::shared_ptr<Inquiry>& inquiry, size_t at,
         const wire::DescribeShareGroupOffsetsRequest::Group& asked) {
  std::optional<std::vector<std::pair<std::string, int32_t>>> partitions;
  if (asked.topics) {
    partitions.emplace();
    for (const auto& topic : *asked.topics) {
      // A name that no topic can have is told as one that isn't there.
      Result<std::string> name = canonicalTopic(topic.topicName);
      for (int32_t index : topic.partitions) {
        partitions->emplace_back(name ? *name : owned(topic.topicName), index);
      }
    }
  }
  ++inquiry->waiting;
  const Call& call = *inquiry->call;
  call.options().shareGroups->shareOffsets(
      call.principal(), owned(asked.groupId), std::move(partitions),
      [inquiry, at](const Result<std::vector<ShareOffset>>& found) {
        inquiry->fill(found, inquiry->response.groups[at]);
        inquiry->release();
      });
}

void Inquiry::fill(const Result<std::vector<ShareOffset>>& found, Described::Group& out) {
  if (!found) {
    out.errorCode = code(found.error(), Area::kGroup);
    out.errorMessage = texts.keep(found.error().text);
    return;
  }
  const std::string* before = nullptr;
  for (const ShareOffset& offset : *found) {
    std::string name;
    if (!mapping::appendKafkaTopic(offset.topic, name)) continue;
    if (before == nullptr || *before != offset.topic) {
      auto& topic = out.topics.emplace_back();
      topic.topicName = texts.keep(std::move(name));
      topic.topicId = offset.id;
    }
    before = &offset.topic;
    auto& partition = out.topics.back().partitions.emplace_back();
    partition.index = offset.partition;
    partition.startOffset = offset.start;
    partition.lag = offset.lag;
    if (offset.error) {
      partition.errorCode = partitionCode(*offset.error);
      partition.errorMessage = texts.keep(offset.error->text);
    } else {
      partition.leaderEpoch = call->broker().leaderEpoch().value();
    }
  }
}

// ---------------------------------------------------------------- altering and deleting

template <class Response>
void refuse(Response& response, mapping::TextArena& texts, const Error& error) {
  response.topics.clear();
  response.errorCode = code(error, Area::kGroup);
  response.errorMessage = texts.keep(error.text);
}

template <class Out>
void fill(const Result<>& result, mapping::TextArena& texts, Out& out) {
  if (result) return;
  out.errorCode = partitionCode(result.error());
  out.errorMessage = texts.keep(result.error().text);
}

TopicId idOf(const Call& call, BytesView name) {
  TopicRef topic = findTopic(call, name);
  return topic ? topic->id : TopicId{};
}

}  // namespace

void handleDescribeShareGroupOffsets(const CallRef& call,
                                     wire::DescribeShareGroupOffsetsRequest&& request) {
  auto inquiry = std::make_shared<Inquiry>(call);
  auto& groups = inquiry->response.groups;
  groups.resize(request.groups.size());
  for (size_t i = 0; i < groups.size(); ++i) {
    groups[i].groupId = request.groups[i].groupId;
    if (call->options().shareGroups != nullptr) {
      ask(inquiry, i, request.groups[i]);
    } else {
      groups[i].errorCode = code(Code::kUnsupportedVersion);
    }
  }
  inquiry->release();
}

void handleAlterShareGroupOffsets(const CallRef& call,
                                  wire::AlterShareGroupOffsetsRequest&& request) {
  auto pending = std::make_shared<Pending<wire::AlterShareGroupOffsetsResponse>>(call);
  if (call->options().shareGroups == nullptr) {
    refuse(pending->response, pending->texts, {ErrorKind::kUnsupported, kNoShareGroups});
    return pending->release();
  }
  std::vector<ShareOffset> offsets;
  for (const auto& topic : request.topics) {
    auto& out = pending->response.topics.emplace_back();
    out.topicName = topic.topicName;
    out.topicId = idOf(*call, topic.topicName);
    Result<std::string> name = canonicalTopic(topic.topicName);
    for (const auto& partition : topic.partitions) {
      out.partitions.emplace_back().index = partition.index;
      ShareOffset& offset = offsets.emplace_back();
      offset.topic = name ? *name : owned(topic.topicName);
      offset.partition = partition.index;
      offset.start = partition.startOffset;
    }
  }
  call->options().shareGroups->alterShareOffsets(
      call->principal(), owned(request.groupId), std::move(offsets),
      [pending](const Result<Results>& results) {
        auto& response = pending->response;
        if (!results) refuse(response, pending->texts, results.error());
        size_t next = 0;
        for (auto& topic : response.topics) {
          for (auto& out : topic.partitions) fill(results->at(next++), pending->texts, out);
        }
        pending->release();
      });
}

void handleDeleteShareGroupOffsets(const CallRef& call,
                                   wire::DeleteShareGroupOffsetsRequest&& request) {
  auto pending = std::make_shared<Pending<wire::DeleteShareGroupOffsetsResponse>>(call);
  if (call->options().shareGroups == nullptr) {
    refuse(pending->response, pending->texts, {ErrorKind::kUnsupported, kNoShareGroups});
    return pending->release();
  }
  std::vector<std::string> topics;
  for (const auto& topic : request.topics) {
    auto& out = pending->response.topics.emplace_back();
    out.topicName = topic.topicName;
    out.topicId = idOf(*call, topic.topicName);
    Result<std::string> name = canonicalTopic(topic.topicName);
    topics.push_back(name ? *name : owned(topic.topicName));
  }
  call->options().shareGroups->deleteShareOffsets(
      call->principal(), owned(request.groupId), std::move(topics),
      [pending](const Result<Results>& results) {
        auto& response = pending->response;
        if (!results) refuse(response, pending->texts, results.error());
        size_t next = 0;
        for (auto& out : response.topics) fill(results->at(next++), pending->texts, out);
        pending->release();
      });
}

}  // namespace polylog::kafka
