#include "codecs/kafka/api.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/wire/all.h"
#include "core/base/metrics.h"

namespace polylog::kafka {
namespace {

template <class Request, void (*Handle)(const CallRef&, Request&&)>
constexpr Api served() {
  return {Request::kApiKey,
          Request::kName,
          Request::kMinVersion,
          Request::kMaxVersion,
          Request::kFlexibleFrom,
          [](const CallRef& call) {
            Request request;
            wire::Decoder in(call->header().body);
            request.decode(in, call->version());
            if (!in.ok()) return false;
            Handle(call, std::move(request));
            return true;
          }};
}

constexpr Api kApis[] = {
    served<wire::ProduceRequest, handleProduce>(),
    served<wire::FetchRequest, handleFetch>(),
    served<wire::ListOffsetsRequest, handleListOffsets>(),
    served<wire::MetadataRequest, handleMetadata>(),
    served<wire::OffsetCommitRequest, handleOffsetCommit>(),
    served<wire::OffsetFetchRequest, handleOffsetFetch>(),
    served<wire::FindCoordinatorRequest, handleFindCoordinator>(),
    served<wire::JoinGroupRequest, handleJoinGroup>(),
    served<wire::HeartbeatRequest, handleHeartbeat>(),
    served<wire::LeaveGroupRequest, handleLeaveGroup>(),
    served<wire::SyncGroupRequest, handleSyncGroup>(),
    served<wire::DescribeGroupsRequest, handleDescribeGroups>(),
    served<wire::ListGroupsRequest, handleListGroups>(),
    served<wire::ApiVersionsRequest, handleApiVersions>(),
    served<wire::CreateTopicsRequest, handleCreateTopics>(),
    served<wire::DeleteTopicsRequest, handleDeleteTopics>(),
    served<wire::InitProducerIdRequest, handleInitProducerId>(),
    served<wire::DeleteGroupsRequest, handleDeleteGroups>(),
};

static_assert(std::ranges::is_sorted(kApis, {}, &Api::key));
static_assert(wire::ApiVersionsRequest::kApiKey == kApiVersionsKey);

}  // namespace

std::span<const Api> apis() {
  return kApis;
}

const Api* findApi(int16_t key) {
  const auto* found = std::ranges::lower_bound(kApis, key, {}, &Api::key);
  return found != std::end(kApis) && found->key == key ? found : nullptr;
}

Metric& requestsOf(const Api& api) {
  static const auto metrics = [] {
    std::array<Metric*, std::size(kApis)> made{};
    for (size_t i = 0; i < std::size(kApis); ++i) {
      made[i] = &counter("polylog_kafka_requests_total", "Requests of Kafka clients, by API.",
                         "api=\"" + std::string(kApis[i].name) + "\"");
    }
    return made;
  }();
  return *metrics[static_cast<size_t>(&api - kApis)];
}

}  // namespace polylog::kafka
