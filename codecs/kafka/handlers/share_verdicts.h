// What ShareFetch and ShareAcknowledge share: who asks, and what a request says of records that its
// member has got.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/share_sessions.h"
#include "core/model/share_group.h"

namespace polylog::kafka {

/// Kafka's ids of share groups' members are UUIDs.
inline constexpr size_t kMaxShareMemberId = 36;

/// Whose request it is; nothing if it doesn't say so rightly.
inline std::optional<ShareMember> shareMember(const std::optional<BytesView>& group,
                                              const std::optional<BytesView>& member) {
  if (!group || group->empty() || !member || member->empty() ||
      member->size() > kMaxShareMemberId) {
    return std::nullopt;
  }
  return ShareMember{owned(*group), owned(*member)};
}

/// What is said of one partition's records, and what came of it.
struct ShareSaid {
  SharePlace place;
  int16_t errorCode = 0;
  std::string text;
};

/// Checks the acknowledgements of a request; sound ones are added to `settlements`, in the order of
/// those in the result that have no error.
template <class Topics>
std::vector<ShareSaid> readVerdicts(const Topics& topics, bool renews,
                                    std::vector<ShareSettlement>& settlements);

/// Puts what came of the settlements to those that had no error.
void putResults(const Call& call, const ShareSettled& settled, std::vector<ShareSaid>& said);

inline ShareSessions::Owner sessionOwner(const Call& call) {
  return {call.connection(), call.principal()->user};
}

/// An error about a partition of a share group.
int16_t sharePartitionCode(const Call& call, const SharePlace& place, const Error& error);

/// Why a batch of acknowledgements can't be; empty = it can. Batches are ascending and apart:
/// `next` is where one may begin.
std::string verdictsFault(int64_t first, int64_t last, const std::vector<int8_t>& types,
                          bool renews, int64_t& next);

template <class Topics>
std::vector<ShareSaid> readVerdicts(const Topics& topics, bool renews,
                                    std::vector<ShareSettlement>& settlements) {
  std::vector<ShareSaid> all;
  for (const auto& topic : topics) {
    for (const auto& partition : topic.partitions) {
      if (partition.acknowledgementBatches.empty()) continue;
      ShareSaid& said = all.emplace_back();
      said.place = {topic.topicId, partition.index};
      ShareSettlement settlement{said.place, {}};
      int64_t next = 0;
      for (const auto& batch : partition.acknowledgementBatches) {
        const auto& types = batch.acknowledgeTypes;
        said.text = verdictsFault(batch.firstOffset, batch.lastOffset, types, renews, next);
        if (!said.text.empty()) break;
        ShareVerdicts& verdicts = settlement.batches.emplace_back();
        verdicts.first = batch.firstOffset;
        verdicts.last = batch.lastOffset;
        for (int8_t type : types) verdicts.verdicts.push_back(static_cast<ShareVerdict>(type));
      }
      if (said.text.empty()) {
        settlements.push_back(std::move(settlement));
      } else {
        said.errorCode = code(Code::kInvalidRequest);
      }
    }
  }
  return all;
}

/// The places that a request names.
template <class Topics>
std::vector<SharePlace> placesOf(const Topics& topics) {
  std::vector<SharePlace> places;
  for (const auto& topic : topics) {
    for (const auto& partition : topic.partitions) {
      if constexpr (requires { partition.index; }) {
        places.push_back({topic.topicId, partition.index});
      } else {
        places.push_back({topic.topicId, partition});
      }
    }
  }
  return places;
}

}  // namespace polylog::kafka
