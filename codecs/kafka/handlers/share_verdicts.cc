#include "codecs/kafka/handlers/share_verdicts.h"

#include <algorithm>

namespace polylog::kafka {

std::string verdictsFault(int64_t first, int64_t last, const std::vector<int8_t>& types,
                          bool renews, int64_t& next) {
  if (first > last || first < next || last == INT64_MAX) {
    return "Acknowledgement batches have to be in order and apart.";
  }
  next = last + 1;
  if (types.empty()) return "A batch of acknowledgements has one type at least.";
  if (types.size() > 1 && static_cast<int64_t>(types.size()) != next - first) {
    return "A batch of acknowledgements has one type, or one for each offset.";
  }
  auto most = static_cast<int8_t>(renews ? ShareVerdict::kRenew : ShareVerdict::kReject);
  bool known = std::ranges::all_of(types, [&](int8_t type) { return type >= 0 && type <= most; });
  return known ? "" : "There is no such type of acknowledgement here.";
}

int16_t sharePartitionCode(const Call& call, const SharePlace& place, const Error& error) {
  if (error.kind == ErrorKind::kLocked) return code(Code::kInvalidRecordState);
  if (error.kind == ErrorKind::kNotFound) {
    bool known = call.broker().findTopic(call.principal(), place.topic) != nullptr;
    return code(known ? Code::kUnknownTopicOrPartition : Code::kUnknownTopicId);
  }
  return code(error, Area::kTopic);
}

void putResults(const Call& call, const ShareSettled& settled, std::vector<ShareSaid>& said) {
  size_t next = 0;
  for (ShareSaid& one : said) {
    if (one.errorCode != 0) continue;
    const Result<>& result = settled.results.at(next++);
    if (result) continue;
    one.errorCode = sharePartitionCode(call, one.place, result.error());
    one.text = result.error().text;
  }
}

}  // namespace polylog::kafka
