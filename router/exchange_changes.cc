// Declaring, binding and deleting, each journaled under the table's lock.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <utility>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/exchange_parts.h"
#include "router/queue.h"
#include "router/queue_registry.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

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

}  // namespace

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
  // Also one that is there already, if it may not be durable yet.
  if (found.durable && !predeclared && !there->kept) {
    state.push_back({storage::StateTable::kExchange, found.name, encodeExchange(found)});
  }
  append(worker, std::move(state),
         [this, &worker, number = there->number, found,
          done = std::move(done)](Result<> result) mutable {
           if (result) {
             declared(found.name, number);
             return done(std::move(found));
           }
           declareFailed(worker, found.name, number);
           done(std::unexpected(result.error()));
         });
}

void ExchangeTable::declared(const std::string& name, uint32_t number) {
  std::unique_lock lock(mutex_);
  Exchange* exchange = findLocked(name);
  if (exchange != nullptr && exchange->number == number) exchange->kept = true;
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
  if (binding->trie != nullptr) binding->trie->remove(binding->place);
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
