// UpdateFeatures: the levels of features are what this version of the broker has.
#include "codecs/kafka/wire/update_features.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codecs/kafka/features.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

constexpr int16_t kFirstWithoutResults = 2;

struct Verdict {
  Code error = Code::kNone;
  std::string text;
};

Verdict judge(const wire::UpdateFeaturesRequest::Update& update) {
  const auto* found = std::ranges::find(kFeatures, update.feature, &Feature::name);
  std::string name(update.feature);
  if (found == kFeatures.end()) {
    return {Code::kInvalidUpdateVersion, "the broker doesn't know the feature " + name};
  }
  if (update.maxVersionLevel == found->level) return {};
  if (update.maxVersionLevel < found->min || update.maxVersionLevel > found->max) {
    return {Code::kInvalidUpdateVersion, name + " has the levels " + std::to_string(found->min) +
                                             " to " + std::to_string(found->max)};
  }
  return {Code::kFeatureUpdateFailed,
          name + " stays at level " + std::to_string(found->level) + ": levels can't be changed"};
}

/// As who may alter the cluster.
bool mayAlter(const Call& call) {
  AccessControl* access = call.options().access;
  return access == nullptr ||
         access->permits(call.principal(), Operation::kAlter, ResourceKind::kCluster, kClusterName);
}

}  // namespace

void handleUpdateFeatures(const CallRef& call, wire::UpdateFeaturesRequest&& request) {
  wire::UpdateFeaturesResponse response;
  mapping::TextArena texts;
  if (!mayAlter(*call)) {
    response.errorCode = code(Code::kClusterAuthorizationFailed);
    return call->answer(response);
  }
  for (const auto& update : request.updates) {
    Verdict verdict = judge(update);
    if (call->version() < kFirstWithoutResults) {
      auto& result = response.results.emplace_back();
      result.feature = update.feature;
      result.errorCode = code(verdict.error);
      if (verdict.error != Code::kNone) result.errorMessage = texts.keep(std::move(verdict.text));
    } else if (verdict.error != Code::kNone) {
      // All of them or none.
      response.errorCode = code(verdict.error);
      response.errorMessage = texts.keep(std::move(verdict.text));
      break;
    }
  }
  call->answer(response);
}

}  // namespace polylog::kafka
