// ApiVersions: which versions of which APIs are served.
#include "codecs/kafka/wire/api_versions.h"

#include "codecs/kafka/api.h"
#include "codecs/kafka/errors.h"
#include "codecs/kafka/features.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

/// Before version 4 clients can't read a feature that begins with 0 (KAFKA-17011).
constexpr int16_t kFirstWithFeaturesFromZero = 4;
constexpr int16_t kFirstWithFeatures = 3;

void addFeatures(wire::ApiVersionsResponse& response, int16_t version) {
  if (version < kFirstWithFeatures) return;
  for (const Feature& feature : kFeatures) {
    if (feature.min > 0 || version >= kFirstWithFeaturesFromZero) {
      response.supportedFeatures.push_back({feature.name, feature.min, feature.max});
    }
    if (feature.level > 0) {
      response.finalizedFeatures.push_back({feature.name, feature.level, feature.level});
    }
  }
  response.finalizedFeaturesEpoch = 0;
}

}  // namespace

void handleApiVersions(const CallRef& call, wire::ApiVersionsRequest&& request) {
  wire::ApiVersionsResponse response;
  call->softwareIs(request.clientSoftwareName, request.clientSoftwareVersion);
  for (const Api& api : apis())
    response.apiKeys.push_back({api.key, api.minVersion, api.maxVersion});
  addFeatures(response, call->version());
  call->answer(response);
}

void answerUnsupportedApiVersions(const CallRef& call) {
  wire::ApiVersionsResponse response;
  response.errorCode = code(Code::kUnsupportedVersion);
  // Only this API's own range: all that a client needs in order to ask again (KIP-511).
  response.apiKeys.push_back({call->api().key, call->api().minVersion, call->api().maxVersion});
  wire::Encoder out = call->begin();
  response.encode(out, 0);
  call->finish(std::move(out));
}

}  // namespace polylog::kafka
