// /api/queues and /api/exchanges.
#include <fmt/format.h>

#include <algorithm>

#include "server/api.h"
#include "server/json.h"

namespace polylog::server {
namespace {

struct TypeName {
  ExchangeType type;
  const char* name;
};
constexpr TypeName kTypes[] = {{ExchangeType::kDirect, "direct"},
                               {ExchangeType::kFanout, "fanout"},
                               {ExchangeType::kTopic, "topic"},
                               {ExchangeType::kHeaders, "headers"}};

const char* nameOf(ExchangeType type) {
  for (const TypeName& known : kTypes) {
    if (known.type == type) return known.name;
  }
  return "?";
}

const char* nameOf(QueueKind kind) {
  return kind == QueueKind::kStream ? "stream" : "classic";
}

void describeQueue(Json& json, const QueueInfo& queue, const std::vector<BindingSpec>* bindings) {
  json.object([&] {
    json.field("name", queue.spec.name);
    json.field("type", nameOf(queue.spec.kind));
    json.field("durable", queue.spec.durable);
    json.field("exclusive", queue.spec.exclusive);
    json.field("auto_delete", queue.spec.autoDelete);
    json.field("ready", queue.ready);
    json.field("unacknowledged", queue.unacknowledged);
    json.field("consumers", queue.consumers);
    if (bindings == nullptr) return;
    json.name("bindings");
    json.array([&] {
      for (const BindingSpec& binding : *bindings) {
        if (binding.toExchange || binding.destination != queue.spec.name) continue;
        json.object([&] {
          json.field("source", binding.source);
          json.field("routing_key", binding.routingKey);
        });
      }
    });
  });
}

void describeExchange(Json& json, const ExchangeSpec& exchange,
                      const std::vector<BindingSpec>* bindings) {
  json.object([&] {
    json.field("name", exchange.name);
    json.field("type", nameOf(exchange.type));
    json.field("durable", exchange.durable);
    json.field("auto_delete", exchange.autoDelete);
    json.field("internal", exchange.internal);
    if (bindings == nullptr) return;
    json.name("bindings");
    json.array([&] {
      for (const BindingSpec& binding : *bindings) {
        if (binding.source != exchange.name) continue;
        json.object([&] {
          json.field("destination", binding.destination);
          json.field("kind", binding.toExchange ? "exchange" : "queue");
          json.field("routing_key", binding.routingKey);
        });
      }
    });
  });
}

template <class T, class Describe>
std::string listOf(const char* name, const std::vector<T>& items, Describe&& describe) {
  Json json;
  json.object([&] {
    json.name(name);
    json.array([&] {
      for (const T& item : items) describe(json, item, nullptr);
    });
  });
  return json.text();
}

/// Names of the client's own making: RabbitMQ keeps `amq.` to itself.
Result<> checkName(const std::string& name) {
  if (!name.empty() && name.size() <= 255 && !name.starts_with("amq.")) return {};
  return fail(ErrorKind::kInvalid,
              fmt::format("`{}` can't be made: choose a name of 1 to 255 octets that doesn't begin "
                          "with `amq.`",
                          name));
}

std::string parameter(const Call& call, const char* key, const char* otherwise) {
  auto found = call.query.find(key);
  return found == call.query.end() ? otherwise : found->second;
}

}  // namespace

QueueClient& Api::queues() {
  if (!queues_) queues_ = broker_.openQueueClient(principal_);
  return *queues_;
}

void Api::handleQueues(Call call) {
  if (call.path.size() == 2 && call.method == "GET") {
    return call.reply.json(200, listOf("queues", queues().queues(), describeQueue));
  }
  if (call.path.size() != 3) {
    return call.reply.error({ErrorKind::kInvalid, "queues are made at /api/queues/NAME"});
  }
  std::string name = call.path[2];
  if (call.method == "POST") return createQueue(std::move(call));
  if (call.method == "DELETE") {
    return queues().deleteQueue(name, false, false,
                                acknowledged(std::move(call.reply), 200, notFound("queue", name)));
  }
  auto queue = queues().findQueue(name);
  if (!queue) return call.reply.error(notFound("queue", name));
  Json json;
  std::vector<BindingSpec> bindings = queues().bindings();
  describeQueue(json, *queue, &bindings);
  call.reply.json(200, json.text());
}

void Api::createQueue(Call call) {
  QueueSpec spec;
  spec.name = call.path[2];
  spec.durable = true;
  std::string type = parameter(call, "type", "classic");
  if (auto ok = checkName(spec.name); !ok) return call.reply.error(ok.error());
  if (type != "classic" && type != "stream") {
    return call.reply.error({ErrorKind::kInvalid, "a queue's type is classic or stream"});
  }
  if (type == "stream") {
    if (auto ok = checkTopicName(spec.name); !ok) return call.reply.error(ok.error());
    spec.kind = QueueKind::kStream;
  }
  std::string name = spec.name;
  queues().declareQueue(
      std::move(spec), [reply = std::move(call.reply), name](Result<QueueDeclared> made) mutable {
        if (!made) return reply.error(made.error());
        if (!made->created) {
          return reply.error(
              {ErrorKind::kAlreadyExists, fmt::format("there is a queue `{}` already", name)});
        }
        reply.json(201, "{}");
      });
}

void Api::handleExchanges(Call call) {
  if (call.path.size() == 2 && call.method == "GET") {
    return call.reply.json(200, listOf("exchanges", queues().exchanges(), describeExchange));
  }
  if (call.path.size() != 3) {
    return call.reply.error({ErrorKind::kInvalid, "exchanges are made at /api/exchanges/NAME"});
  }
  std::string name = call.path[2];
  if (call.method == "POST") return createExchange(std::move(call));
  auto exchange = queues().findExchange(name);
  if (!exchange) return call.reply.error(notFound("exchange", name));
  if (call.method == "DELETE") {
    if (auto ok = checkName(name); !ok) {
      return call.reply.error({ErrorKind::kInvalid, "the predeclared exchanges stay"});
    }
    return queues().deleteExchange(name, false, acknowledged(std::move(call.reply)));
  }
  Json json;
  std::vector<BindingSpec> bindings = queues().bindings();
  describeExchange(json, *exchange, &bindings);
  call.reply.json(200, json.text());
}

void Api::createExchange(Call call) {
  ExchangeSpec spec;
  spec.name = call.path[2];
  spec.durable = true;
  if (auto ok = checkName(spec.name); !ok) return call.reply.error(ok.error());
  std::string type = parameter(call, "type", "direct");
  auto known =
      std::ranges::find(kTypes, type, [](const TypeName& one) { return std::string(one.name); });
  if (known == std::end(kTypes)) {
    return call.reply.error(
        {ErrorKind::kInvalid, "an exchange's type is direct, fanout, topic or headers"});
  }
  spec.type = known->type;
  if (queues().findExchange(spec.name)) {
    return call.reply.error(
        {ErrorKind::kAlreadyExists, fmt::format("there is an exchange `{}` already", spec.name)});
  }
  queues().declareExchange(std::move(spec), acknowledged(std::move(call.reply), 201));
}

}  // namespace polylog::server
