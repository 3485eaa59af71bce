// FindCoordinator: this broker, for every group and every transaction.
#include "codecs/kafka/wire/find_coordinator.h"

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int8_t kGroup = 0;
constexpr int8_t kTransaction = 1;
constexpr int16_t kFirstWithManyKeys = 4;

struct Finding {
  int16_t errorCode = 0;
  std::optional<BytesView> text;
};

Finding find(int8_t keyType) {
  if (keyType == kGroup || keyType == kTransaction) return {};
  return {code(Code::kInvalidRequest), "unknown coordinator key type"};
}

}  // namespace

void handleFindCoordinator(const CallRef& call, wire::FindCoordinatorRequest&& request) {
  Finding found = find(request.keyType);
  HostPort told = call->advertised();
  int32_t node = call->options().nodeId;
  wire::FindCoordinatorResponse response;
  if (call->version() >= kFirstWithManyKeys) {
    for (BytesView key : request.keys) {
      auto& out = response.coordinators.emplace_back();
      out.key = key;
      out.errorCode = found.errorCode;
      out.errorMessage = found.text;
      out.nodeId = found.errorCode == 0 ? node : -1;
      out.port = found.errorCode == 0 ? int32_t{told.port} : -1;
      if (found.errorCode == 0) out.host = told.host;
    }
  } else {
    response.errorCode = found.errorCode;
    response.errorMessage = found.text;
    response.nodeId = found.errorCode == 0 ? node : -1;
    response.port = found.errorCode == 0 ? int32_t{told.port} : -1;
    if (found.errorCode == 0) response.host = told.host;
  }
  call->answer(response);
}

}  // namespace polylog::kafka
