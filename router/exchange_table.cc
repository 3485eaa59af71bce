#include "router/exchange_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/exchange_parts.h"
#include "router/headers_match.h"
#include "router/queue.h"
#include "router/queue_registry.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr size_t kMostRoutes = 8192;
constexpr size_t kLongestRoute = 1024;

struct Predeclared {
  const char* name;
  ExchangeType type;
};
constexpr Predeclared kPredeclared[] = {
    {"", ExchangeType::kDirect},
    {"amq.direct", ExchangeType::kDirect},
    {"amq.fanout", ExchangeType::kFanout},
    {"amq.topic", ExchangeType::kTopic},
    {"amq.headers", ExchangeType::kHeaders},
    {"amq.match", ExchangeType::kHeaders},
};

bool holds(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

}  // namespace

void wordsOf(BytesView routingKey, std::vector<BytesView>& out) {
  if (routingKey.empty()) return;  // no words at all
  size_t from = 0;
  for (size_t at = routingKey.find('.'); at != BytesView::npos; at = routingKey.find('.', from)) {
    out.push_back(routingKey.substr(from, at - from));
    from = at + 1;
  }
  out.push_back(routingKey.substr(from));
}

ExchangeTable::ExchangeTable(Core& core) : core_(core), perWorker_(core.workers.size()) {
  for (const Predeclared& one : kPredeclared) {
    auto exchange = std::make_unique<Exchange>();
    exchange->spec.name = one.name;
    exchange->spec.type = one.type;
    exchange->spec.durable = true;
    if (one.type == ExchangeType::kTopic) exchange->patterns = std::make_unique<SubscriptionTrie>();
    exchanges_.emplace(one.name, std::move(exchange));
  }
}

ExchangeTable::~ExchangeTable() {
  std::unique_lock lock(mutex_);
  std::vector<storage::StateChange> ignored;
  std::vector<std::string> idle;
  while (!bindings_.empty()) detach(std::string(bindings_.begin()->first), ignored, idle);
}

// ---------------------------------------------------------------- from disk

Result<> ExchangeTable::load() {
  Result<> result;
  core_.store.scanState(storage::StateTable::kExchange, "", [&](BytesView name, BytesView value) {
    auto spec = decodeExchange(name, value);
    if (!spec) {
      result = std::unexpected(spec.error());
      return false;
    }
    auto exchange = std::make_unique<Exchange>();
    if (spec->type == ExchangeType::kTopic) {
      exchange->patterns = std::make_unique<SubscriptionTrie>();
    }
    exchange->number = nextNumber_++;
    exchange->standing = 1;
    exchange->kept = true;
    exchange->spec = std::move(*spec);
    exchanges_.emplace(exchange->spec.name, std::move(exchange));
    return true;
  });
  if (!result) return result;
  std::vector<storage::StateChange> dangling;
  core_.store.scanState(storage::StateTable::kBinding, "", [&](BytesView key, BytesView value) {
    auto stored = decodeBinding(key, value);
    if (!stored) {
      result = std::unexpected(stored.error());
      return false;
    }
    auto binding = resolve(std::move(stored->spec));
    if (!binding) {
      // Its queue or exchange did not outlive the restart.
      dangling.push_back({storage::StateTable::kBinding, std::string(key), std::nullopt});
      return true;
    }
    (*binding)->since = stored->since;
    (*binding)->standing = 1;
    if (auto inserted = insert(std::move(*binding)); !inserted) result = inserted;
    return result.has_value();
  });
  if (result && !dangling.empty()) {
    storage::AppendRequest request;
    request.state = std::move(dangling);
    request.durability = storage::Durability::kUnwaited;
    if (auto done = core_.store.append(std::move(request)); !done) {
      return std::unexpected(done.error());
    }
  }
  return result;
}

// ---------------------------------------------------------------- looking

ExchangeTable::Exchange* ExchangeTable::findLocked(BytesView name) const {
  auto at = exchanges_.find(name);
  return at == exchanges_.end() ? nullptr : at->second.get();
}

std::optional<ExchangeSpec> ExchangeTable::find(BytesView name) const {
  std::shared_lock lock(mutex_);
  const Exchange* exchange = findLocked(name);
  if (exchange == nullptr) return std::nullopt;
  return exchange->spec;
}

std::vector<ExchangeSpec> ExchangeTable::exchanges() const {
  std::shared_lock lock(mutex_);
  std::vector<ExchangeSpec> all;
  for (const auto& [name, exchange] : exchanges_) all.push_back(exchange->spec);
  return all;
}

std::vector<BindingSpec> ExchangeTable::bindings() const {
  std::shared_lock lock(mutex_);
  std::vector<BindingSpec> all;
  for (const auto& [key, binding] : bindings_) all.push_back(binding->spec);
  return all;
}

Result<RouteImplRef> ExchangeTable::route(Worker& worker, const std::string& exchange,
                                          const std::string& routingKey,
                                          const RoutingHeaders* headers) {
  if (exchange.empty()) {
    auto out = std::make_shared<RouteImpl>();
    out->routingKey = routingKey;
    defaultExchange(routingKey, *out);
    return out;
  }
  PerWorker& mine = perWorker_[worker.index];
  uint64_t generation = generation_.load(std::memory_order_acquire);
  if (mine.generation != generation || mine.known.size() >= kMostRoutes) {
    mine.known.clear();
    mine.generation = generation;
  }
  mine.text.assign(exchange).append(1, '\0').append(routingKey);
  if (auto at = mine.known.find(BytesView(mine.text)); at != mine.known.end()) return at->second;
  auto out = std::make_shared<RouteImpl>();
  out->exchange = exchange;
  out->routingKey = routingKey;
  {
    std::shared_lock lock(mutex_);
    const Exchange* found = findLocked(exchange);
    if (found == nullptr) return fail(ErrorKind::kNotFound, "no exchange '" + exchange + "'");
    if (found->spec.internal) {
      return fail(ErrorKind::kUnauthorized, "exchange '" + exchange + "' is internal");
    }
    Search search{*out, headers, {}, {}, {}, {}};
    this->search(*found, routingKey, search);
  }
  if (!out->headers && mine.text.size() <= kLongestRoute) mine.known.emplace(mine.text, out);
  return out;
}

RouteImplRef ExchangeTable::routeAgain(const RouteImpl& old) const {
  struct Kept final : RoutingHeaders {
    explicit Kept(const Table& kept) : table_(kept) {}
    const Table& table() const override { return table_; }
    const Table& table_;
  };
  auto out = std::make_shared<RouteImpl>();
  out->exchange = old.exchange;
  out->routingKey = old.routingKey;
  if (old.exchange.empty()) {
    defaultExchange(old.routingKey, *out);
    return out;
  }
  std::optional<Kept> headers;
  if (old.headers) headers.emplace(*old.headers);
  std::shared_lock lock(mutex_);
  const Exchange* found = findLocked(old.exchange);
  if (found == nullptr) return out;
  Search search{*out, headers ? &*headers : nullptr, {}, {}, {}, {}};
  this->search(*found, old.routingKey, search);
  return out;
}

void ExchangeTable::collect(const std::string& exchange, const Address& address,
                            RouteImpl& out) const {
  std::string routingKey;
  if (!core_.options.routingKeyOf || !core_.options.routingKeyOf(address, routingKey)) return;
  std::shared_lock lock(mutex_);
  const Exchange* found = findLocked(exchange);
  if (found == nullptr) return;
  Search search{out, nullptr, {findLocked(kTopicsExchange)}, {}, {}, {}};
  this->search(*found, routingKey, search);
}

void ExchangeTable::defaultExchange(BytesView routingKey, RouteImpl& out) const {
  if (auto queue = core_.queues->find(routingKey)) {
    out.queues.push_back(std::move(queue));
  } else if (TopicRef topic = routingKey.empty() ? nullptr : core_.catalogue->find(routingKey)) {
    out.streams.push_back(topic->name);
  }
}

/// From exchange to exchange, each once; not recursive, since a client makes chains as long as it
/// likes.
void ExchangeTable::search(const Exchange& first, BytesView routingKey, Search& search) const {
  search.ahead.push_back(&first);
  while (!search.ahead.empty()) {
    const Exchange* next = search.ahead.back();
    search.ahead.pop_back();
    if (search.seen.insert(next).second) visit(*next, routingKey, search);
  }
}

void ExchangeTable::visit(const Exchange& exchange, BytesView routingKey, Search& search) const {
  if (exchange.spec.name == kTopicsExchange) {
    // What is bound to it is found by the record's address, with the subscriptions.
    search.out.amqTopic = true;
    return;
  }
  bool matched = false;
  auto take = [&](const BindingEnd& end) {
    matched = true;
    follow(end, search);
  };
  switch (exchange.spec.type) {
    case ExchangeType::kFanout:
      for (const Binding* binding : exchange.all) take(*binding);
      break;
    case ExchangeType::kDirect:
      if (exchange.spec.name.empty()) {
        defaultExchange(routingKey, search.out);
      } else if (auto at = exchange.byKey.find(routingKey); at != exchange.byKey.end()) {
        for (const Binding* binding : at->second) take(*binding);
      }
      break;
    case ExchangeType::kHeaders: {
      const Table* table = search.headers ? &search.headers->table() : nullptr;
      if (!search.byName) search.byName.emplace(table);
      if (!search.out.headers) search.out.headers = table ? *table : Table();
      for (const Binding* binding : exchange.all) {
        if (headersMatch(binding->spec.arguments, *search.byName)) take(*binding);
      }
      break;
    }
    case ExchangeType::kTopic: {
      std::vector<BytesView> words;
      wordsOf(routingKey, words);
      exchange.patterns->matchLevels(words, false,
                                     [&](const TrieEntry& entry) { take(*entry.binding); });
      break;
    }
  }
  if (matched) return;
  // Only what none of its own bindings matches; where those lead in the end is no matter.
  const Value* alternate = polylog::find(exchange.spec.arguments, "alternate-exchange");
  const auto* name = alternate ? std::get_if<std::string>(&alternate->is) : nullptr;
  if (name == nullptr || name->empty()) return;
  if (const Exchange* other = findLocked(*name)) search.ahead.push_back(other);
}

void ExchangeTable::follow(const BindingEnd& end, Search& search) const {
  RouteImpl& out = search.out;
  if (end.queue) {
    if (search.queues.insert(end.queue.get()).second) out.queues.push_back(end.queue);
  } else if (!end.stream.empty()) {
    if (!holds(out.streams, end.stream)) out.streams.push_back(end.stream);
  } else if (const Exchange* next = findLocked(end.exchange)) {
    search.ahead.push_back(next);
  }
}

}  // namespace polylog::router
