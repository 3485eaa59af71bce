// GetTelemetrySubscriptions and PushTelemetry (KIP-714): clients ask which of their metrics are
// wanted, and push them.
#include <array>
#include <utility>

#include "codecs/kafka/client_telemetry.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/limits.h"
#include "codecs/kafka/wire/get_telemetry_subscriptions.h"
#include "codecs/kafka/wire/push_telemetry.h"

namespace polylog::kafka {
namespace {

/// In the order in which Kafka likes them: zstd, lz4, gzip, snappy.
constexpr std::array<int8_t, 4> kCompressions = {4, 3, 1, 2};

ClientFacts factsOf(const Call& call) {
  ClientFacts facts;
  const Principal& who = *call.principal();
  facts.clientId = who.clientId;
  facts.softwareName = call.software().first;
  facts.softwareVersion = call.software().second;
  facts.connection = call.connection();
  facts.address = clientHost(who.peer).substr(1);
  if (size_t colon = who.peer.rfind(':'); colon != std::string::npos) {
    facts.port = who.peer.substr(colon + 1);
  }
  return facts;
}

}  // namespace

void handleGetTelemetrySubscriptions(const CallRef& call,
                                     wire::GetTelemetrySubscriptionsRequest&& request) {
  wire::GetTelemetrySubscriptionsResponse response;
  const auto& telemetry = call->options().telemetry;
  if (telemetry == nullptr) {
    response.errorCode = code(Code::kInvalidRequest);
    return call->answer(response);
  }
  ClientTelemetry::Asked asked = telemetry->ask(request.clientInstanceId, factsOf(*call));
  response.errorCode = code(asked.error);
  if (asked.error == Code::kNone) {
    response.clientInstanceId = asked.id;
    response.subscriptionId = asked.subscriptionId;
    response.acceptedCompressionTypes.assign(kCompressions.begin(), kCompressions.end());
    response.pushIntervalMs = asked.intervalMs;
    response.telemetryMaxBytes = static_cast<int32_t>(kMaxTelemetryBytes);
    response.deltaTemporality = true;
    response.requestedMetrics.assign(asked.metrics.begin(), asked.metrics.end());
  }
  call->answer(response);
}

void handlePushTelemetry(const CallRef& call, wire::PushTelemetryRequest&& request) {
  wire::PushTelemetryResponse response;
  const auto& telemetry = call->options().telemetry;
  if (telemetry == nullptr) {
    response.errorCode = code(Code::kInvalidRequest);
  } else {
    response.errorCode =
        code(telemetry->push({request.clientInstanceId, request.subscriptionId, request.terminating,
                              request.compressionType, request.metrics},
                             factsOf(*call)));
  }
  call->answer(response);
}

}  // namespace polylog::kafka
