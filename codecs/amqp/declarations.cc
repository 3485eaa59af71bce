// Channel's handlers of the classes exchange and queue. What is checked, in which order and with
// which words is RabbitMQ 3.10's.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "codecs/amqp/arguments.h"
#include "codecs/amqp/channel.h"

namespace polylog::amqp {
namespace {

constexpr BytesView kReserved = "amq.";

/// RabbitMQ drops line ends from the names in these methods.
std::string stripped(BytesView name) {
  std::string out(name);
  std::erase_if(out, [](char c) { return c == '\r' || c == '\n'; });
  return out;
}

Fault defaultExchange() {
  return fault(ReplyCode::kAccessRefused, "operation not permitted on the default exchange");
}

uint32_t count(int64_t number) {
  return static_cast<uint32_t>(std::clamp<int64_t>(number, 0, UINT32_MAX));
}

std::string destinationText(const BindingSpec& binding) {
  return binding.toExchange ? exchangeText(binding.destination) : queueText(binding.destination);
}

/// A binding as a method names it. Arguments are compared in the order of their names.
template <class M>
Outcome bindingOf(const M& method, BindingSpec& out) {
  out.routingKey = std::string(method.routingKey);
  if (auto problem = decodeArguments(method.arguments, out.arguments)) return problem;
  std::ranges::sort(out.arguments, {}, &Table::value_type::first);
  if constexpr (requires { method.source; }) {
    out.source = stripped(method.source);
    out.toExchange = true;
    out.destination = stripped(method.destination);
    if (out.destination.empty()) return defaultExchange();
  } else {
    out.source = stripped(method.exchange);
  }
  if (out.source.empty()) return defaultExchange();
  return {};
}

}  // namespace

// ---- exchange.*

Outcome Channel::on(const ExchangeDeclare& method) {
  settle();
  ExchangeSpec spec;
  spec.name = stripped(method.exchange);
  if (method.passive) {
    if (spec.name.empty()) return defaultExchange();
    if (!link_.client->findExchange(spec.name)) return notFound(exchangeText(spec.name));
    if (!method.noWait) answer(ExchangeDeclareOk{});
    return {};
  }
  const auto type = exchangeType(method.type);
  if (!type) {
    const char* what = method.type.empty() ? "invalid" : "unknown";
    return fault(ReplyCode::kCommandInvalid,
                 fmt::format("{} exchange type '{}'", what, method.type));
  }
  if (spec.name.empty()) return defaultExchange();
  if (auto problem = decodeArguments(method.arguments, spec.arguments)) return problem;
  spec.type = *type;
  spec.durable = method.durable;
  spec.autoDelete = method.autoDelete;
  spec.internal = method.internal;
  if (const auto current = link_.client->findExchange(spec.name)) {
    if (auto problem = checkSameExchange(*current, spec)) return problem;
    // A durable one is declared all the same: it may not be in the journal yet.
    if (!spec.durable || spec.name.starts_with(kReserved)) {
      if (!method.noWait) answer(ExchangeDeclareOk{});
      return {};
    }
  } else if (spec.name.starts_with(kReserved)) {
    return reservedPrefix("exchange", spec.name);
  }
  if (auto problem = checkNewExchange(spec)) return problem;
  link_.client->declareExchange(
      spec, await<Result<ExchangeSpec>>(
                method, [this, spec, noWait = method.noWait](Result<ExchangeSpec> made) -> Outcome {
                  if (!made) {
                    return faultOf(made.error(), exchangeText(spec.name), link_.principal->user);
                  }
                  if (auto problem = checkSameExchange(*made, spec)) return problem;
                  if (!noWait) answer(ExchangeDeclareOk{});
                  return {};
                }));
  return {};
}

Outcome Channel::on(const ExchangeDelete& method) {
  settle();
  const std::string name = stripped(method.exchange);
  if (name.empty()) return defaultExchange();
  if (name.starts_with(kReserved)) {
    return fault(ReplyCode::kAccessRefused,
                 fmt::format("deletion of system {} not allowed", exchangeText(name)));
  }
  link_.client->deleteExchange(
      name, method.ifUnused,
      await<Result<>>(method, [this, name, noWait = method.noWait](Result<> gone) -> Outcome {
        if (!gone && gone.error().kind != ErrorKind::kNotFound) {
          return faultOf(gone.error(), exchangeText(name), link_.principal->user);
        }
        if (!noWait) answer(ExchangeDeleteOk{});
        return {};
      }));
  return {};
}

// ---- bindings

Outcome Channel::on(const ExchangeBind& method) {
  settle();
  BindingSpec binding;
  if (auto problem = bindingOf(method, binding)) return problem;
  return bind<ExchangeBindOk>(method, std::move(binding), method.noWait);
}

Outcome Channel::on(const ExchangeUnbind& method) {
  settle();
  BindingSpec binding;
  if (auto problem = bindingOf(method, binding)) return problem;
  return unbind<ExchangeUnbindOk>(method, std::move(binding), method.noWait);
}

Outcome Channel::on(const QueueBind& method) {
  settle();
  BindingSpec binding;
  std::string queue;
  if (!expand(method.queue, queue)) return noLastQueue();
  if (auto problem = bindingOf(method, binding)) return problem;
  if (method.queue.empty() && method.routingKey.empty()) binding.routingKey = queue;
  binding.destination = stripped(queue);
  return bind<QueueBindOk>(method, std::move(binding), method.noWait);
}

Outcome Channel::on(const QueueUnbind& method) {
  settle();
  BindingSpec binding;
  std::string queue;
  if (!expand(method.queue, queue)) return noLastQueue();
  if (auto problem = bindingOf(method, binding)) return problem;
  if (method.queue.empty() && method.routingKey.empty()) binding.routingKey = queue;
  binding.destination = stripped(queue);
  return unbind<QueueUnbindOk>(method, std::move(binding), false);
}

/// Both ends there, the source first, and the destination ours to bind.
Outcome Channel::checkEnds(const BindingSpec& binding) const {
  const auto source = link_.client->findExchange(binding.source);
  if (!source) return notFound(exchangeText(binding.source));
  if (binding.toExchange) {
    if (!link_.client->findExchange(binding.destination)) {
      return notFound(exchangeText(binding.destination));
    }
    return checkBinding(source->type, binding.arguments);
  }
  const auto queue = link_.client->findQueue(binding.destination);
  if (!queue) return notFound(queueText(binding.destination));
  if (auto problem = checkBinding(source->type, binding.arguments)) return problem;
  if (queue->exclusiveToOther) return locked(binding.destination);
  return {};
}

template <class Ok, class M>
Outcome Channel::bind(const M& method, BindingSpec binding, bool noWait) {
  if (auto problem = checkEnds(binding)) return problem;
  link_.client->bind(
      binding, await<Result<>>(method, [this, binding, noWait](Result<> bound) -> Outcome {
        if (!bound) {
          // One of them went meanwhile.
          if (auto problem = checkEnds(binding)) return problem;
          if (bound.error().kind == ErrorKind::kLocked) return locked(binding.destination);
          return faultOf(bound.error(), destinationText(binding), link_.principal->user);
        }
        if (!noWait) answer(Ok{});
        return {};
      }));
  return {};
}

/// What isn't there can't be unbound, and that is fine.
template <class Ok, class M>
Outcome Channel::unbind(const M& method, BindingSpec binding, bool noWait) {
  link_.client->unbind(
      binding, await<Result<>>(method, [this, binding, noWait](Result<> gone) -> Outcome {
        if (!gone && gone.error().kind != ErrorKind::kNotFound) {
          if (gone.error().kind == ErrorKind::kLocked) return locked(binding.destination);
          return faultOf(gone.error(), destinationText(binding), link_.principal->user);
        }
        if (!noWait) answer(Ok{});
        return {};
      }));
  return {};
}

// ---- queue.*

Outcome Channel::on(const QueueDeclare& method) {
  settle();
  QueueSpec spec;
  spec.name = stripped(method.queue);
  if (spec.name.starts_with(kReplyToQueue)) return notFound(queueText(spec.name));
  if (method.passive) {
    QueueInfo info;
    if (auto problem = findQueue(spec.name, info)) return problem;
    return queueDeclared(info, method.noWait);
  }
  if (auto problem = decodeArguments(method.arguments, spec.arguments)) return problem;
  if (spec.name.empty()) {
    if (!mayBeServerNamed(spec.arguments)) {
      return fault(ReplyCode::kPreconditionFailed,
                   "Cannot declare a server-named queue for type rabbit_stream_queue");
    }
    spec.name = madeUpName("amq.gen-");
  } else if (spec.name.starts_with(kReserved)) {
    return reservedPrefix("queue", spec.name);
  }
  spec.durable = method.durable && !method.exclusive;
  spec.exclusive = method.exclusive;
  spec.autoDelete = method.autoDelete;
  const auto current = link_.client->findQueue(spec.name);
  // A durable one is declared all the same: it may not be in the journal yet.
  if (current && !(current->spec.durable && spec.durable)) {
    return sameQueue(*current, spec, method.noWait);
  }
  if (current) {
    if (auto problem = checkSameQueue(*current, spec)) return problem;
  }
  return createQueue(method, std::move(spec));
}

/// There is one of that name: it has to be the same.
Outcome Channel::sameQueue(const QueueInfo& current, const QueueSpec& asked, bool noWait) {
  if (current.exclusiveToOther || current.spec.exclusive != asked.exclusive) {
    return locked(asked.name);
  }
  if (auto problem = checkSameQueue(current, asked)) return problem;
  return queueDeclared(current, noWait);
}

Outcome Channel::createQueue(const QueueDeclare& method, QueueSpec spec) {
  QueueSpec asked = spec;
  asked.durable = method.durable;  // what is exclusive is never durable, and told apart first
  if (auto problem = checkNewQueue(asked)) return problem;
  spec.kind = asked.kind;
  spec.retentionMs = asked.retentionMs;
  spec.retentionBytes = asked.retentionBytes;
  link_.client->declareQueue(
      spec,
      await<Result<QueueDeclared>>(
          method, [this, spec, noWait = method.noWait](Result<QueueDeclared> made) -> Outcome {
            if (!made) {
              if (made.error().kind == ErrorKind::kLocked) return locked(spec.name);
              return faultOf(made.error(), queueText(spec.name), link_.principal->user);
            }
            if (!made->created) return sameQueue(made->info, spec, noWait);
            return queueDeclared(made->info, noWait);
          }));
  return {};
}

Outcome Channel::queueDeclared(const QueueInfo& info, bool noWait) {
  lastQueue_ = info.spec.name;
  if (noWait) return {};
  QueueDeclareOk ok;
  ok.queue = info.spec.name;
  ok.messageCount = count(info.ready);
  ok.consumerCount = count(info.consumers);
  answer(ok);
  return {};
}

Outcome Channel::on(const QueuePurge& method) {
  settle();
  std::string name;
  if (!expand(method.queue, name)) return noLastQueue();
  QueueInfo info;
  if (auto problem = findQueue(name, info)) return problem;
  if (info.spec.kind == QueueKind::kStream) {
    return notBuilt("queue.purge not supported by stream queues " + queueText(name));
  }
  link_.client->purgeQueue(
      name, await<Result<int64_t>>(
                method, [this, name, noWait = method.noWait](Result<int64_t> purged) -> Outcome {
                  if (!purged) {
                    if (purged.error().kind == ErrorKind::kLocked) return locked(name);
                    return faultOf(purged.error(), queueText(name), link_.principal->user);
                  }
                  if (noWait) return {};
                  QueuePurgeOk ok;
                  ok.messageCount = count(*purged);
                  answer(ok);
                  return {};
                }));
  return {};
}

Outcome Channel::on(const QueueDelete& method) {
  settle();
  std::string name;
  if (!expand(method.queue, name)) return noLastQueue();
  name = stripped(name);
  const auto info = link_.client->findQueue(name);
  if (info && info->exclusiveToOther) return locked(name);
  // RabbitMQ deletes a stream whatever the conditions.
  const bool stream = info && info->spec.kind == QueueKind::kStream;
  link_.client->deleteQueue(
      name, method.ifUnused && !stream, method.ifEmpty && !stream,
      await<Result<int64_t>>(
          method, [this, name, stream, noWait = method.noWait](Result<int64_t> gone) -> Outcome {
            if (!gone && gone.error().kind != ErrorKind::kNotFound) {
              if (gone.error().kind == ErrorKind::kLocked) return locked(name);
              return faultOf(gone.error(), queueText(name), link_.principal->user);
            }
            if (noWait) return {};
            QueueDeleteOk ok;
            ok.messageCount = gone && !stream ? count(*gone) : 0;
            answer(ok);
            return {};
          }));
  return {};
}

}  // namespace polylog::amqp
