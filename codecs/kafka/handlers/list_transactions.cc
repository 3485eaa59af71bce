// ListTransactions: transactional ids and their states, filtered.
#include "codecs/kafka/wire/list_transactions.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/handlers/transactions.h"
#include "mapping/kafka_consumer.h"

namespace polylog::kafka {
namespace {

/// Kafka's states; some are never seen here.
constexpr std::array<BytesView, 8> kStates = {
    "Empty",          "Ongoing",       "PrepareCommit",     "PrepareAbort",
    "CompleteCommit", "CompleteAbort", "PrepareEpochFence", "Dead"};

template <class Range, class Value>
bool admits(const Range& filters, const Value& value) {
  return filters.empty() || std::ranges::find(filters, value) != filters.end();
}

}  // namespace

void handleListTransactions(const CallRef& call, wire::ListTransactionsRequest&& request) {
  wire::ListTransactionsResponse response;
  std::shared_ptr<const mapping::NamePattern> pattern;
  if (!request.transactionalIdPattern.value_or(BytesView()).empty()) {
    auto compiled = mapping::compileNamePattern(owned(*request.transactionalIdPattern));
    if (!compiled) {
      response.errorCode = code(compiled.error(), Area::kTransaction);
      return call->answer(response);
    }
    pattern = std::move(*compiled);
  }
  for (BytesView state : request.stateFilters) {
    if (std::ranges::find(kStates, state) == kStates.end()) {
      response.unknownStateFilters.push_back(state);
    }
  }
  const auto all = call->broker().transactions(call->principal());
  for (const TransactionDescription& one : all) {
    BytesView state = stateName(one.status);
    bool longEnough = request.durationFilterMs < 0 || one.runningMs > request.durationFilterMs;
    if (!longEnough || !admits(request.stateFilters, state) ||
        !admits(request.producerIdFilters, one.producer.id) ||
        (pattern != nullptr && !pattern->matches(one.id))) {
      continue;
    }
    response.transactions.push_back({one.id, one.producer.id, state});
  }
  call->answer(response);
}

}  // namespace polylog::kafka
