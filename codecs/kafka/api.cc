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
constexpr Api served(const char* note = "") {
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
          },
          note};
}

constexpr Api kApis[] = {
    served<wire::ProduceRequest, handleProduce>("advertised from 0, as Kafka 4 does (KAFKA-18659); "
                                                "0 to 2 are answered with UNSUPPORTED_VERSION; "
                                                "from 12 on partitions join transactions by "
                                                "themselves (KIP-890)"),
    served<wire::FetchRequest, handleFetch>(
        "long poll; incremental fetch sessions (KIP-227) from version 7 on"),
    served<wire::ListOffsetsRequest, handleListOffsets>(
        "nothing is tiered: \"latest tiered\" and \"earliest to be moved\" are none"),
    served<wire::MetadataRequest, handleMetadata>(
        "topics come by themselves where the request and the configuration allow it"),
    served<wire::OffsetCommitRequest, handleOffsetCommit>(),
    served<wire::OffsetFetchRequest, handleOffsetFetch>(),
    served<wire::FindCoordinatorRequest, handleFindCoordinator>(
        "groups and transactions; other types are answered with "
        "INVALID_REQUEST"),
    served<wire::JoinGroupRequest, handleJoinGroup>(
        "the classic protocol, static members too, also into groups of the consumer protocol"),
    served<wire::HeartbeatRequest, handleHeartbeat>(),
    served<wire::LeaveGroupRequest, handleLeaveGroup>(),
    served<wire::SyncGroupRequest, handleSyncGroup>(),
    served<wire::DescribeGroupsRequest, handleDescribeGroups>(
        "groups of the classic protocol; others are told as `Dead`, from 6 on GROUP_ID_NOT_FOUND"),
    served<wire::ListGroupsRequest, handleListGroups>(),
    served<wire::SaslHandshakeRequest, handleSaslHandshake>(
        "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, and OAUTHBEARER where tokens are taken"),
    served<wire::ApiVersionsRequest, handleApiVersions>(
        "a later version is answered in version 0 with error 35 and the range there is"),
    served<wire::CreateTopicsRequest, handleCreateTopics>("one replica a partition"),
    served<wire::DeleteTopicsRequest, handleDeleteTopics>(),
    served<wire::DeleteRecordsRequest, handleDeleteRecords>(
        "a topic that is only compacted refuses with POLICY_VIOLATION"),
    served<wire::InitProducerIdRequest, handleInitProducerId>(
        "idempotent and transactional producers; 6 (two-phase commit, KIP-939) is not stable in "
        "Kafka either"),
    served<wire::OffsetForLeaderEpochRequest, handleOffsetForLeaderEpoch>(
        "every epoch reaches to the end: nothing that was answered is ever cut off"),
    served<wire::AddPartitionsToTxnRequest, handleAddPartitionsToTxn>(
        "from 4 on it is between brokers, and asks for the right to act as one"),
    served<wire::AddOffsetsToTxnRequest, handleAddOffsetsToTxn>(),
    served<wire::EndTxnRequest, handleEndTxn>("from 5 on with a new epoch (KIP-890)"),
    served<wire::WriteTxnMarkersRequest, handleWriteTxnMarkers>(
        "aborting only, for administrators"),
    served<wire::TxnOffsetCommitRequest, handleTxnOffsetCommit>(
        "from 5 on the group joins the transaction by itself (KIP-890)"),
    served<wire::DescribeAclsRequest, handleDescribeAcls>(
        "rules about queues, exchanges, sessions and with filters aren't shown"),
    served<wire::CreateAclsRequest, handleCreateAcls>(),
    served<wire::DeleteAclsRequest, handleDeleteAcls>(),
    served<wire::DescribeConfigsRequest, handleDescribeConfigs>(
        "topics, groups, client metrics and the broker; other resources are refused with "
        "INVALID_REQUEST"),
    served<wire::AlterConfigsRequest, handleAlterConfigs>(
        "topics, groups, client metrics and what topics follow of the broker's: [below]"
        "(#the-brokers-configuration)"),
    served<wire::DescribeLogDirsRequest, handleDescribeLogDirs>(
        "the data directory holds every partition"),
    served<wire::SaslAuthenticateRequest, handleSaslAuthenticate>(
        "re-authentication as the same user"),
    served<wire::CreatePartitionsRequest, handleCreatePartitions>("one replica a partition"),
    served<wire::DeleteGroupsRequest, handleDeleteGroups>(),
    served<wire::ElectLeadersRequest, handleElectLeaders>(
        "ELECTION_NOT_NEEDED: this broker leads every partition"),
    served<wire::IncrementalAlterConfigsRequest, handleIncrementalAlterConfigs>(
        "topics, groups, client metrics and what topics follow of the broker's: [below]"
        "(#the-brokers-configuration)"),
    served<wire::AlterPartitionReassignmentsRequest, handleAlterPartitionReassignments>(
        "a partition can only be where it is: INVALID_REPLICA_ASSIGNMENT, or "
        "NO_REASSIGNMENT_IN_PROGRESS"),
    served<wire::ListPartitionReassignmentsRequest, handleListPartitionReassignments>(
        "always none"),
    served<wire::OffsetDeleteRequest, handleOffsetDelete>(),
    served<wire::DescribeClientQuotasRequest, handleDescribeClientQuotas>(),
    served<wire::AlterClientQuotasRequest, handleAlterClientQuotas>(
        "of users, client ids and addresses: [quotas](#quotas)"),
    served<wire::DescribeUserScramCredentialsRequest, handleDescribeUserScramCredentials>(),
    served<wire::AlterUserScramCredentialsRequest, handleAlterUserScramCredentials>(
        "4,096 to 16,384 iterations"),
    served<wire::DescribeQuorumRequest, handleDescribeQuorum>(
        "this broker is the one voter; the journal's durable end is the high watermark"),
    served<wire::UpdateFeaturesRequest, handleUpdateFeatures>(
        "every feature stays at its level: FEATURE_UPDATE_FAILED"),
    served<wire::DescribeClusterRequest, handleDescribeCluster>(),
    served<wire::DescribeProducersRequest, handleDescribeProducers>("the time is the broker's"),
    served<wire::DescribeTransactionsRequest, handleDescribeTransactions>(),
    served<wire::ListTransactionsRequest, handleListTransactions>(
        "from 2 on by a regular expression in RE2's syntax"),
    served<wire::ConsumerGroupHeartbeatRequest, handleConsumerGroupHeartbeat>(
        "assignors `uniform` and `range`; regular expressions in RE2's syntax, resolved here"),
    served<wire::ConsumerGroupDescribeRequest, handleConsumerGroupDescribe>(),
    served<wire::GetTelemetrySubscriptionsRequest, handleGetTelemetrySubscriptions>(
        "KIP-714: [clients' metrics](#clients-metrics)"),
    served<wire::PushTelemetryRequest, handlePushTelemetry>(
        "gauges and sums, shown by the admin listener's `/metrics`"),
    served<wire::ListConfigResourcesRequest, handleListConfigResources>(
        "topics, groups, client metrics and the broker"),
    served<wire::DescribeTopicPartitionsRequest, handleDescribeTopicPartitions>(
        "2,000 partitions a page at most"),
    served<wire::ShareGroupHeartbeatRequest, handleShareGroupHeartbeat>(
        "every partition to one member at least, every member something to read"),
    served<wire::ShareGroupDescribeRequest, handleShareGroupDescribe>(),
    served<wire::ShareFetchRequest, handleShareFetch>(
        "long poll; 2 has acquire modes (KIP-1206) and renewing (KIP-1222)"),
    served<wire::ShareAcknowledgeRequest, handleShareAcknowledge>(
        "answered when it is on the disk"),
    served<wire::DescribeShareGroupOffsetsRequest, handleDescribeShareGroupOffsets>(
        "1 has the lag (KIP-1226)"),
    served<wire::AlterShareGroupOffsetsRequest, handleAlterShareGroupOffsets>(),
    served<wire::DeleteShareGroupOffsetsRequest, handleDeleteShareGroupOffsets>(),
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
