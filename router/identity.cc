#include "router/identity.h"

#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::StateTable;

constexpr const char* kClusterId = "cluster_id";
constexpr const char* kLeaderEpoch = "leader_epoch";

/// 16 random octets as base64url without padding: 22 characters, as Kafka's cluster ids.
std::string makeClusterId(Random& random) {
  constexpr BytesView kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string id;
  uint64_t bits = 0;
  for (int i = 0; i < 22; ++i) {
    if (i % 10 == 0) bits = random.next();
    // The last character of 128 bits stands for two of them.
    size_t index = i == 21 ? (bits & 3U) << 4 : bits & 63U;
    id.push_back(kAlphabet[index]);
    bits >>= 6;
  }
  return id;
}

}  // namespace

Result<> Identity::load(const Core& core, std::vector<storage::StateChange>& state) {
  if (auto id = core.store.getState(StateTable::kMeta, kClusterId)) {
    clusterId = *id;
  } else {
    clusterId = makeClusterId(core.random);
    state.push_back({StateTable::kMeta, kClusterId, clusterId});
  }
  int32_t epoch = 0;
  if (auto value = core.store.getState(StateTable::kMeta, kLeaderEpoch)) {
    auto number = decodeNumber(*value, kLeaderEpoch);
    if (!number) return std::unexpected(number.error());
    epoch = static_cast<int32_t>(*number) + 1;
  }
  leaderEpoch = LeaderEpoch(epoch);
  state.push_back({StateTable::kMeta, kLeaderEpoch, encodeNumber(static_cast<uint64_t>(epoch))});
  return {};
}

}  // namespace polylog::router
