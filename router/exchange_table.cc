#include "router/exchange_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "core/base/log.h"
#include "router/catalogue.h"
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

void wordsOf(BytesView routingKey, std::vector<BytesView>& out) {
  if (routingKey.empty()) return;  // no words at all
  size_t from = 0;
  for (size_t at = routingKey.find('.'); at != BytesView::npos; at = routingKey.find('.', from)) {
    out.push_back(routingKey.substr(from, at - from));
    from = at + 1;
  }
  out.push_back(routingKey.substr(from));
}

TopicFilter patternOf(BytesView bindingKey) {
  std::vector<BytesView> words;
  wordsOf(bindingKey, words);
  TopicFilter filter;
  for (BytesView word : words) {
    FilterLevel& level = filter.levels.emplace_back();
    if (word == "*") {
      level.kind = FilterLevel::Kind::kOne;
    } else if (word == "#") {
      level.kind = FilterLevel::Kind::kRest;
    } else {
      level.text = std::string(word);
    }
  }
  return filter;
}

std::string destinationName(bool exchange, BytesView name) {
  return (exchange ? "x" : "q") + std::string(name);
}

/// Numbers are compared as numbers, whatever they are on the wire; so RabbitMQ does.
std::optional<double> numberOf(const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value.is)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&value.is)) return *real;
  if (const auto* time = std::get_if<Value::Timestamp>(&value.is)) {
    return static_cast<double>(time->seconds);
  }
  return std::nullopt;
}

std::optional<BytesView> bytesOf(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value.is)) return *text;
  if (const auto* octets = std::get_if<Value::Octets>(&value.is)) return octets->bytes;
  return std::nullopt;
}

bool sameValue(const Value& a, const Value& b) {
  if (a == b) return true;
  // Text and octets are told apart on the wire, not here.
  if (auto text = bytesOf(a)) return text == bytesOf(b);
  std::optional<double> number = numberOf(a);
  return number && a.is.index() != b.is.index() && number == numberOf(b);
}

bool holds(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

}  // namespace

struct ExchangeTable::Binding : BindingEnd {
  BindingSpec spec;
  std::string key;
  uint32_t number = 0;
  bool durable = false;
  TopicId streamId{};  ///< of the topic that it leads to
  /// Appends of it that did not fail: one that does takes nothing away from another.
  int64_t standing = 0;
  SubscriptionTrie* trie = nullptr;  ///< that it hangs in, if any
  SubscriptionTrie::Place place = nullptr;
};

struct ExchangeTable::Exchange {
  ExchangeSpec spec;
  uint32_t number = 0;
  int64_t standing = 0;  ///< as a binding's
  std::vector<Binding*> all;
  std::unordered_map<std::string, std::vector<Binding*>, TextHash, std::equal_to<>>
      byKey;                                   ///< direct
  std::unique_ptr<SubscriptionTrie> patterns;  ///< topic, but for amq.topic
};

/// One walk from exchange to exchange.
struct ExchangeTable::Search {
  RouteImpl& out;
  const RoutingHeaders* headers;
  std::unordered_set<const Exchange*> seen;
  std::unordered_set<const Queue*> queues;  ///< those in `out`
  std::vector<const Exchange*> ahead;
};

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
    Search search{*out, headers, {}, {}, {}};
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
  Search search{*out, headers ? &*headers : nullptr, {}, {}, {}};
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
  Search search{out, nullptr, {findLocked(kTopicsExchange)}, {}, {}};
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
      if (!search.out.headers) search.out.headers = table ? *table : Table();
      for (const Binding* binding : exchange.all) {
        if (headersMatch(binding->spec.arguments, table)) take(*binding);
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

bool headersMatch(const Table& arguments, const Table* headers) {
  bool any = false;
  bool withX = false;
  if (const Value* mode = polylog::find(arguments, kMatchArgument)) {
    if (const auto* text = std::get_if<std::string>(&mode->is)) {
      any = text->starts_with("any");
      withX = text->ends_with("-with-x");
    }
  }
  for (const auto& [name, wanted] : arguments) {
    if (name == kMatchArgument || (!withX && name.starts_with("x-"))) continue;
    const Value* there = headers ? polylog::find(*headers, name) : nullptr;
    // A binding's value of nothing asks only that the header be there.
    bool matches = there != nullptr &&
                   (std::holds_alternative<std::monostate>(wanted.is) || sameValue(*there, wanted));
    if (matches && any) return true;
    if (!matches && !any) return false;
  }
  return !any;
}

// ---------------------------------------------------------------- changing

void ExchangeTable::changed() {
  generation_.fetch_add(1, std::memory_order_release);
  if (topicsToExchanges_ > 0) core_.trie->touch();
}

void ExchangeTable::append(Worker& worker, std::vector<storage::StateChange> state,
                           Done<Result<>> done) {
  auto told = std::make_shared<Done<Result<>>>(std::move(done));
  if (state.empty()) return worker.later([told] { (*told)({}); });
  storage::AppendRequest request;
  request.state = std::move(state);
  request.sink = &worker.sink;
  request.done = [this, told](const Result<storage::Appended>& result) {
    if (result) return (*told)({});
    ++core_.writeFailures;
    (*told)(std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    worker.later([told, error = appended.error()] { (*told)(std::unexpected(error)); });
  }
}

void ExchangeTable::appendDeletion(Worker& worker, std::vector<storage::StateChange> state,
                                   Done<Result<>> done) {
  auto kept = state;
  append(worker, std::move(state),
         [this, &worker, kept = std::move(kept), done = std::move(done)](Result<> result) mutable {
           if (!result) core_.appendEventually(worker, std::move(kept), whatIsDue());
           done(std::move(result));
         });
}

WhatIsDue ExchangeTable::whatIsDue() {
  return [this](std::vector<storage::StateChange>& changes, const std::function<void()>& append) {
    std::unique_lock lock(mutex_);
    std::erase_if(changes, [this](const storage::StateChange& change) {
      if (change.table == storage::StateTable::kExchange) {
        const Exchange* there = findLocked(change.key);
        return there != nullptr && there->spec.durable;
      }
      if (change.table != storage::StateTable::kBinding) return false;
      auto there = bindings_.find(change.key);
      return there != bindings_.end() && there->second->durable;
    });
    append();
  };
}

void ExchangeTable::declare(Worker& worker, ExchangeSpec spec, Done<Result<ExchangeSpec>> done) {
  std::unique_lock lock(mutex_);
  Exchange* there = findLocked(spec.name);
  if (there == nullptr) {
    if (exchanges_.size() >= core_.options.maxExchanges) {
      return worker.later([done = std::move(done)]() mutable {
        done(fail(ErrorKind::kBusy, "there are as many exchanges as are allowed"));
      });
    }
    auto exchange = std::make_unique<Exchange>();
    exchange->spec = spec;
    exchange->number = nextNumber_++;
    if (spec.type == ExchangeType::kTopic) {
      exchange->patterns = std::make_unique<SubscriptionTrie>();
    }
    there = exchange.get();
    exchanges_.emplace(spec.name, std::move(exchange));
    changed();
  }
  ++there->standing;
  ExchangeSpec found = there->spec;
  bool predeclared = found.name.empty() || found.name.starts_with("amq.");
  std::vector<storage::StateChange> state;
  // Also one that is there already: it may not be durable yet.
  if (found.durable && !predeclared) {
    state.push_back({storage::StateTable::kExchange, found.name, encodeExchange(found)});
  }
  append(worker, std::move(state),
         [this, &worker, number = there->number, found,
          done = std::move(done)](Result<> result) mutable {
           if (result) return done(std::move(found));
           declareFailed(worker, found.name, number);
           done(std::unexpected(result.error()));
         });
}

void ExchangeTable::declareFailed(Worker& worker, const std::string& name, uint32_t number) {
  std::vector<storage::StateChange> state;
  {
    std::unique_lock lock(mutex_);
    Exchange* exchange = findLocked(name);
    if (exchange == nullptr || exchange->number != number || --exchange->standing > 0) return;
    eraseExchanges({name}, state);
  }
  core_.appendEventually(worker, std::move(state), whatIsDue());
}

void ExchangeTable::remove(Worker& worker, const std::string& name, bool ifUnused,
                           Done<Result<>> done) {
  std::unique_lock lock(mutex_);
  auto refuse = [&](ErrorKind kind, std::string text) {
    worker.later([done = std::move(done), error = Error{kind, std::move(text)}]() mutable {
      done(std::unexpected(std::move(error)));
    });
  };
  const Exchange* exchange = findLocked(name);
  if (exchange == nullptr) return refuse(ErrorKind::kNotFound, "no exchange '" + name + "'");
  if (ifUnused && !exchange->all.empty()) {
    return refuse(ErrorKind::kInUse, "exchange '" + name + "' is in use");
  }
  std::vector<storage::StateChange> state;
  eraseExchanges({name}, state);
  appendDeletion(worker, std::move(state), std::move(done));
}

Result<std::unique_ptr<ExchangeTable::Binding>> ExchangeTable::resolve(BindingSpec spec) const {
  if (spec.source.empty() || (spec.toExchange && spec.destination.empty())) {
    return fail(ErrorKind::kInvalid, "nothing is bound to or from the default exchange");
  }
  auto binding = std::make_unique<Binding>();
  const Exchange* source = findLocked(spec.source);
  if (source == nullptr) return fail(ErrorKind::kNotFound, "no exchange '" + spec.source + "'");
  bool durable = source->spec.durable;
  if (spec.toExchange) {
    const Exchange* destination = findLocked(spec.destination);
    if (destination == nullptr) {
      return fail(ErrorKind::kNotFound, "no exchange '" + spec.destination + "'");
    }
    durable = durable && destination->spec.durable;
    binding->exchange = spec.destination;
  } else if (auto queue = core_.queues->find(spec.destination)) {
    durable = durable && queue->spec().durable && !queue->spec().exclusive;
    binding->queue = std::move(queue);
  } else if (TopicRef topic = core_.catalogue->find(spec.destination)) {
    binding->stream = topic->name;
    binding->streamId = topic->id;
  } else {
    return fail(ErrorKind::kNotFound, "no queue '" + spec.destination + "'");
  }
  // In whatever order its arguments come, it is the same binding.
  std::multimap<std::string, Value> sorted(std::make_move_iterator(spec.arguments.begin()),
                                           std::make_move_iterator(spec.arguments.end()));
  spec.arguments.assign(std::make_move_iterator(sorted.begin()),
                        std::make_move_iterator(sorted.end()));
  binding->durable = durable;
  binding->key = bindingKey(spec);
  binding->spec = std::move(spec);
  return binding;
}

Result<> ExchangeTable::insert(std::unique_ptr<Binding> binding) {
  Exchange& source = *findLocked(binding->spec.source);
  Binding* added = binding.get();
  added->number = nextNumber_++;
  if (source.spec.name == kTopicsExchange) {
    // Binding to the exchange from which all other protocols' publishes come.
    if (!core_.options.filterOf) return fail(ErrorKind::kUnsupported, "no binding to amq.topic");
    auto filter = core_.options.filterOf(added->spec.routingKey);
    if (!filter) return std::unexpected(filter.error());
    TrieEntry entry;
    entry.binding = added;
    entry.number = added->number;
    entry.since = added->since;
    added->trie = core_.trie.get();
    added->place = core_.trie->add(*filter, entry);
    if (added->spec.toExchange) ++topicsToExchanges_;
  } else if (source.spec.type == ExchangeType::kTopic) {
    TrieEntry entry;
    entry.binding = added;
    entry.number = added->number;
    added->trie = source.patterns.get();
    added->place = source.patterns->add(patternOf(added->spec.routingKey), entry);
  } else if (source.spec.type == ExchangeType::kDirect) {
    source.byKey[added->spec.routingKey].push_back(added);
  }
  source.all.push_back(added);
  byDestination_.emplace(destinationName(added->spec.toExchange, added->spec.destination), added);
  bindings_.emplace(added->key, std::move(binding));
  return {};
}

void ExchangeTable::bind(Worker& worker, BindingSpec spec, Done<Result<>> done) {
  std::unique_lock lock(mutex_);
  auto refuse = [&](Error error) {
    worker.later([done = std::move(done), error = std::move(error)]() mutable {
      done(std::unexpected(std::move(error)));
    });
  };
  auto resolved = resolve(std::move(spec));
  if (!resolved) return refuse(resolved.error());
  std::string key = (*resolved)->key;
  std::vector<storage::StateChange> state;
  auto at = bindings_.find(key);
  Binding* binding = at == bindings_.end() ? nullptr : at->second.get();
  if (binding != nullptr &&
      (binding->queue != (*resolved)->queue || binding->stream != (*resolved)->stream)) {
    // A queue took the name of a stream, or the other way round.
    std::vector<std::string> idle;
    detach(key, state, idle);
    binding = nullptr;
  }
  if (binding == nullptr) {
    if (bindings_.size() >= core_.options.maxBindings) {
      return refuse({ErrorKind::kBusy, "there are as many bindings as are allowed"});
    }
    binding = resolved->get();
    binding->since = core_.store.durableEnd();
    if (auto inserted = insert(std::move(*resolved)); !inserted) return refuse(inserted.error());
    changed();
  } else {
    binding->streamId = (*resolved)->streamId;
  }
  ++binding->standing;
  if (binding->durable) {
    // Also one that is there already: it may not be durable yet.
    state.push_back(
        {storage::StateTable::kBinding, key, encodeBinding({binding->spec, binding->since})});
  }
  append(worker, std::move(state),
         [this, &worker, key, number = binding->number,
          done = std::move(done)](Result<> result) mutable {
           if (!result) bindFailed(worker, key, number);
           done(std::move(result));
         });
}

/// As if it had not been asked for: its exchange stays, even one that goes with its last binding.
void ExchangeTable::bindFailed(Worker& worker, const std::string& key, uint32_t number) {
  std::vector<storage::StateChange> state;
  {
    std::unique_lock lock(mutex_);
    auto at = bindings_.find(key);
    if (at == bindings_.end() || at->second->number != number || --at->second->standing > 0) return;
    std::vector<std::string> idle;
    detach(key, state, idle);
    changed();
  }
  core_.appendEventually(worker, std::move(state), whatIsDue());
}

void ExchangeTable::unbind(Worker& worker, BindingSpec spec, Done<Result<>> done) {
  std::unique_lock lock(mutex_);
  auto resolved = resolve(spec);
  if (!resolved) {
    return worker.later([done = std::move(done), error = resolved.error()]() mutable {
      done(std::unexpected(std::move(error)));
    });
  }
  std::vector<storage::StateChange> state;
  if (bindings_.contains((*resolved)->key)) {
    std::vector<std::string> idle;
    detach((*resolved)->key, state, idle);
    eraseExchanges(std::move(idle), state);
  }
  appendDeletion(worker, std::move(state), std::move(done));
}

void ExchangeTable::dropQueue(const Queue& queue, std::vector<storage::StateChange>& state) {
  dropIf(
      queue.spec().name, [&](const Binding& binding) { return binding.queue.get() == &queue; },
      state);
}

void ExchangeTable::dropStream(const Topic& topic, std::vector<storage::StateChange>& state) {
  dropIf(
      topic.name,
      [&](const Binding& binding) {
        return !binding.stream.empty() && binding.streamId == topic.id;
      },
      state);
}

void ExchangeTable::dropIf(const std::string& destination,
                           const std::function<bool(const Binding&)>& which,
                           std::vector<storage::StateChange>& state) {
  std::unique_lock lock(mutex_);
  std::vector<std::string> keys;
  auto [from, to] = byDestination_.equal_range(destinationName(false, destination));
  for (auto at = from; at != to; ++at) {
    if (which(*at->second)) keys.push_back(at->second->key);
  }
  if (keys.empty()) return;
  std::vector<std::string> idle;
  for (const std::string& key : keys) detach(key, state, idle);
  eraseExchanges(std::move(idle), state);
}

void ExchangeTable::detach(const std::string& key, std::vector<storage::StateChange>& state,
                           std::vector<std::string>& idle) {
  auto at = bindings_.find(key);
  if (at == bindings_.end()) return;
  std::unique_ptr<Binding> binding = std::move(at->second);
  bindings_.erase(at);
  if (binding->durable) {
    state.push_back({storage::StateTable::kBinding, binding->key, std::nullopt});
  }
  if (binding->trie != nullptr) binding->trie->remove(binding->place, nullptr, binding->number);
  bool fromTopics = binding->spec.source == kTopicsExchange;
  if (fromTopics && binding->spec.toExchange) --topicsToExchanges_;
  auto [from, to] = byDestination_.equal_range(
      destinationName(binding->spec.toExchange, binding->spec.destination));
  for (auto it = from; it != to; ++it) {
    if (it->second == binding.get()) {
      byDestination_.erase(it);
      break;
    }
  }
  Exchange* source = findLocked(binding->spec.source);
  if (source == nullptr) return;
  std::erase(source->all, binding.get());
  if (source->spec.type == ExchangeType::kDirect) {
    if (auto by = source->byKey.find(binding->spec.routingKey); by != source->byKey.end()) {
      std::erase(by->second, binding.get());
      if (by->second.empty()) source->byKey.erase(by);
    }
  }
  if (source->spec.autoDelete && source->all.empty()) idle.push_back(source->spec.name);
}

/// One after the other, not by recursion: chains of exchanges that go with their last binding may
/// be long.
void ExchangeTable::eraseExchanges(std::vector<std::string> names,
                                   std::vector<storage::StateChange>& state) {
  while (!names.empty()) {
    std::string name = std::move(names.back());
    names.pop_back();
    // Out of the table first: its last binding must not take it out a second time.
    auto node = exchanges_.extract(name);
    if (node.empty()) continue;
    const Exchange& exchange = *node.mapped();
    if (exchange.spec.durable) {
      state.push_back({storage::StateTable::kExchange, name, std::nullopt});
    }
    std::vector<std::string> keys;
    for (const Binding* binding : exchange.all) keys.push_back(binding->key);
    auto [from, to] = byDestination_.equal_range(destinationName(true, name));
    for (auto at = from; at != to; ++at) keys.push_back(at->second->key);
    for (const std::string& key : keys) detach(key, state, names);
  }
  changed();
}

}  // namespace polylog::router
