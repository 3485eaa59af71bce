// One function an API, each in a file of its own, named by api.cc's list. Each ends its call
// exactly once, now or when the broker has answered. The request's views are the call's frame's.
#pragma once

#include "codecs/kafka/call.h"

namespace polylog::kafka {

namespace wire {
struct ProduceRequest;
struct FetchRequest;
struct ListOffsetsRequest;
struct MetadataRequest;
struct OffsetCommitRequest;
struct OffsetFetchRequest;
struct FindCoordinatorRequest;
struct JoinGroupRequest;
struct HeartbeatRequest;
struct LeaveGroupRequest;
struct SyncGroupRequest;
struct DescribeGroupsRequest;
struct ListGroupsRequest;
struct ApiVersionsRequest;
struct ConsumerGroupHeartbeatRequest;
struct ConsumerGroupDescribeRequest;
struct CreateTopicsRequest;
struct DeleteTopicsRequest;
struct InitProducerIdRequest;
struct DeleteGroupsRequest;
struct DeleteRecordsRequest;
struct OffsetForLeaderEpochRequest;
struct DescribeConfigsRequest;
struct AlterConfigsRequest;
struct DescribeLogDirsRequest;
struct CreatePartitionsRequest;
struct ElectLeadersRequest;
struct IncrementalAlterConfigsRequest;
struct AlterPartitionReassignmentsRequest;
struct ListPartitionReassignmentsRequest;
struct OffsetDeleteRequest;
struct DescribeClusterRequest;
struct DescribeProducersRequest;
struct ListConfigResourcesRequest;
struct DescribeTopicPartitionsRequest;
struct AddPartitionsToTxnRequest;
struct AddOffsetsToTxnRequest;
struct EndTxnRequest;
struct WriteTxnMarkersRequest;
struct TxnOffsetCommitRequest;
struct DescribeTransactionsRequest;
struct ListTransactionsRequest;
struct UpdateFeaturesRequest;
struct DescribeClientQuotasRequest;
struct AlterClientQuotasRequest;
struct SaslHandshakeRequest;
struct SaslAuthenticateRequest;
struct DescribeAclsRequest;
struct CreateAclsRequest;
struct DeleteAclsRequest;
struct DescribeQuorumRequest;
struct GetTelemetrySubscriptionsRequest;
struct PushTelemetryRequest;
struct ShareGroupHeartbeatRequest;
struct ShareGroupDescribeRequest;
struct ShareFetchRequest;
struct ShareAcknowledgeRequest;
struct DescribeShareGroupOffsetsRequest;
struct AlterShareGroupOffsetsRequest;
struct DeleteShareGroupOffsetsRequest;
struct DescribeUserScramCredentialsRequest;
struct AlterUserScramCredentialsRequest;
}  // namespace wire

inline constexpr int16_t kApiVersionsKey = 18;
inline constexpr int16_t kSaslHandshakeKey = 17;
inline constexpr int16_t kSaslAuthenticateKey = 36;

void handleProduce(const CallRef& call, wire::ProduceRequest&& request);
void handleFetch(const CallRef& call, wire::FetchRequest&& request);
void handleListOffsets(const CallRef& call, wire::ListOffsetsRequest&& request);
void handleMetadata(const CallRef& call, wire::MetadataRequest&& request);
void handleOffsetCommit(const CallRef& call, wire::OffsetCommitRequest&& request);
void handleOffsetFetch(const CallRef& call, wire::OffsetFetchRequest&& request);
void handleFindCoordinator(const CallRef& call, wire::FindCoordinatorRequest&& request);
void handleJoinGroup(const CallRef& call, wire::JoinGroupRequest&& request);
void handleHeartbeat(const CallRef& call, wire::HeartbeatRequest&& request);
void handleLeaveGroup(const CallRef& call, wire::LeaveGroupRequest&& request);
void handleSyncGroup(const CallRef& call, wire::SyncGroupRequest&& request);
void handleDescribeGroups(const CallRef& call, wire::DescribeGroupsRequest&& request);
void handleListGroups(const CallRef& call, wire::ListGroupsRequest&& request);
void handleApiVersions(const CallRef& call, wire::ApiVersionsRequest&& request);
void handleCreateTopics(const CallRef& call, wire::CreateTopicsRequest&& request);
void handleDeleteTopics(const CallRef& call, wire::DeleteTopicsRequest&& request);
void handleInitProducerId(const CallRef& call, wire::InitProducerIdRequest&& request);
void handleDeleteGroups(const CallRef& call, wire::DeleteGroupsRequest&& request);
void handleDeleteRecords(const CallRef& call, wire::DeleteRecordsRequest&& request);
void handleOffsetForLeaderEpoch(const CallRef& call, wire::OffsetForLeaderEpochRequest&& request);
void handleDescribeConfigs(const CallRef& call, wire::DescribeConfigsRequest&& request);
void handleAlterConfigs(const CallRef& call, wire::AlterConfigsRequest&& request);
void handleDescribeLogDirs(const CallRef& call, wire::DescribeLogDirsRequest&& request);
void handleCreatePartitions(const CallRef& call, wire::CreatePartitionsRequest&& request);
void handleElectLeaders(const CallRef& call, wire::ElectLeadersRequest&& request);
void handleIncrementalAlterConfigs(const CallRef& call,
                                   wire::IncrementalAlterConfigsRequest&& request);
void handleAlterPartitionReassignments(const CallRef& call,
                                       wire::AlterPartitionReassignmentsRequest&& request);
void handleListPartitionReassignments(const CallRef& call,
                                      wire::ListPartitionReassignmentsRequest&& request);
void handleOffsetDelete(const CallRef& call, wire::OffsetDeleteRequest&& request);
void handleDescribeCluster(const CallRef& call, wire::DescribeClusterRequest&& request);
void handleDescribeProducers(const CallRef& call, wire::DescribeProducersRequest&& request);
void handleListConfigResources(const CallRef& call, wire::ListConfigResourcesRequest&& request);
void handleDescribeTopicPartitions(const CallRef& call,
                                   wire::DescribeTopicPartitionsRequest&& request);
void handleAddPartitionsToTxn(const CallRef& call, wire::AddPartitionsToTxnRequest&& request);
void handleAddOffsetsToTxn(const CallRef& call, wire::AddOffsetsToTxnRequest&& request);
void handleEndTxn(const CallRef& call, wire::EndTxnRequest&& request);
void handleWriteTxnMarkers(const CallRef& call, wire::WriteTxnMarkersRequest&& request);
void handleTxnOffsetCommit(const CallRef& call, wire::TxnOffsetCommitRequest&& request);
void handleDescribeTransactions(const CallRef& call, wire::DescribeTransactionsRequest&& request);
void handleListTransactions(const CallRef& call, wire::ListTransactionsRequest&& request);
void handleDescribeClientQuotas(const CallRef& call, wire::DescribeClientQuotasRequest&& request);
void handleAlterClientQuotas(const CallRef& call, wire::AlterClientQuotasRequest&& request);
void handleDescribeQuorum(const CallRef& call, wire::DescribeQuorumRequest&& request);
void handleGetTelemetrySubscriptions(const CallRef& call,
                                     wire::GetTelemetrySubscriptionsRequest&& request);
void handlePushTelemetry(const CallRef& call, wire::PushTelemetryRequest&& request);
void handleUpdateFeatures(const CallRef& call, wire::UpdateFeaturesRequest&& request);
void handleConsumerGroupHeartbeat(const CallRef& call,
                                  wire::ConsumerGroupHeartbeatRequest&& request);
void handleConsumerGroupDescribe(const CallRef& call, wire::ConsumerGroupDescribeRequest&& request);
void handleShareGroupHeartbeat(const CallRef& call, wire::ShareGroupHeartbeatRequest&& request);
void handleShareGroupDescribe(const CallRef& call, wire::ShareGroupDescribeRequest&& request);
void handleShareFetch(const CallRef& call, wire::ShareFetchRequest&& request);
void handleShareAcknowledge(const CallRef& call, wire::ShareAcknowledgeRequest&& request);
void handleDescribeShareGroupOffsets(const CallRef& call,
                                     wire::DescribeShareGroupOffsetsRequest&& request);
void handleAlterShareGroupOffsets(const CallRef& call,
                                  wire::AlterShareGroupOffsetsRequest&& request);
void handleDeleteShareGroupOffsets(const CallRef& call,
                                   wire::DeleteShareGroupOffsetsRequest&& request);
void handleSaslHandshake(const CallRef& call, wire::SaslHandshakeRequest&& request);
void handleSaslAuthenticate(const CallRef& call, wire::SaslAuthenticateRequest&& request);
void handleDescribeAcls(const CallRef& call, wire::DescribeAclsRequest&& request);
void handleCreateAcls(const CallRef& call, wire::CreateAclsRequest&& request);
void handleDeleteAcls(const CallRef& call, wire::DeleteAclsRequest&& request);
void handleDescribeUserScramCredentials(const CallRef& call,
                                        wire::DescribeUserScramCredentialsRequest&& request);
void handleAlterUserScramCredentials(const CallRef& call,
                                     wire::AlterUserScramCredentialsRequest&& request);

/// Answers an ApiVersions request of a version that we don't have: error 35 in a version 0 body.
void answerUnsupportedApiVersions(const CallRef& call);

}  // namespace polylog::kafka
