// ApiVersions: which versions of which APIs are served.
#include "codecs/kafka/wire/api_versions.h"

#include "codecs/kafka/api.h"
#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {

void handleApiVersions(const CallRef& call, wire::ApiVersionsRequest&&) {
  wire::ApiVersionsResponse response;
  for (const Api& api : apis())
    response.apiKeys.push_back({api.key, api.minVersion, api.maxVersion});
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
