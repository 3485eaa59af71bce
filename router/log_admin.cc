// LogAccess's side for administrators: deleting records, and who produces.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "router/log_access.h"

namespace polylog::router {

void LogAccess::deleteRecords(const std::string& topic, int32_t partition,
                              std::optional<Offset> before, Done<Result<Offset>> done) {
  Worker& worker = core_.here();
  auto shared = std::make_shared<Done<Result<Offset>>>(std::move(done));
  auto answer = [&worker, shared](Result<Offset> result) {
    worker.later([shared, result = std::move(result)]() mutable { (*shared)(std::move(result)); });
  };
  auto id = partitionOf(topic, partition);
  if (!id) return answer(std::unexpected(id.error()));
  auto ends = core_.store.ends(*id);
  if (!ends) return answer(std::unexpected(ends.error()));
  Offset offset = before.value_or(ends->highWatermark);
  if (offset < Offset(0) || offset > ends->highWatermark) {
    return answer(fail(ErrorKind::kOutOfRange,
                       fmt::format("partition {} of topic '{}' ends at {}: nothing before {} can "
                                   "be deleted",
                                   partition, topic, ends->highWatermark.value(), offset.value())));
  }
  if (offset <= ends->logStart) return answer(ends->logStart);
  storage::AppendRequest request;
  request.state.push_back(storage::logStartMoved(*id, offset));
  request.durability = storage::Durability::kSynced;
  request.sink = &worker.sink;
  request.done = [this, shared, offset, id = *id](const Result<storage::Appended>& result) {
    if (!result) {
      ++core_.writeFailures;
      return (*shared)(std::unexpected(result.error()));
    }
    // Retention may have gone further meanwhile.
    auto now = core_.store.ends(id);
    (*shared)(now ? std::max(offset, now->logStart) : offset);
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    answer(std::unexpected(appended.error()));
  }
}

Result<std::vector<ActiveProducer>> LogAccess::activeProducers(const std::string& topic,
                                                               int32_t partition) {
  auto id = partitionOf(topic, partition);
  if (!id) return std::unexpected(id.error());
  auto known = core_.store.producers(*id);
  if (!known) return std::unexpected(known.error());
  std::vector<ActiveProducer> active;
  active.reserve(known->size());
  for (const storage::ProducerInfo& producer : *known) {
    active.push_back({{producer.id.value(), producer.epoch},
                      producer.lastSequence,
                      producer.lastMs,
                      producer.transactionStart});
  }
  return active;
}

}  // namespace polylog::router
