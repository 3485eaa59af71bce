#include "codecs/amqp/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <utility>

#include "codecs/amqp/argument_checks.h"
#include "codecs/amqp/field_table.h"
#include "codecs/amqp/limits.h"
#include "mapping/amqp.h"

namespace polylog::amqp {
namespace {

constexpr int64_t kMaxSegmentBytes = 3'000'000'000;
constexpr BytesView kStreamOffset = "x-stream-offset";
constexpr BytesView kAlternateExchange = "alternate-exchange";

const char* moduleOf(QueueKind kind) {
  return kind == QueueKind::kStream ? "rabbit_stream_queue" : "rabbit_classic_queue";
}

Fault precondition(std::string why) {
  return fault(ReplyCode::kPreconditionFailed, std::move(why));
}

Fault invalid(BytesView name, BytesView queue, const std::string& why) {
  return precondition(fmt::format("invalid arg '{}' for {}: {}", name, queueText(queue), why));
}

Fault foreign(BytesView name, BytesView queue, QueueKind kind) {
  return precondition(fmt::format("invalid arg '{}' for {} of queue type {}", name,
                                  queueText(queue), moduleOf(kind)));
}

Outcome checkListed(const QueueSpec& spec) {
  for (const Argument& argument : argumentsOf(spec.kind)) {
    const Value* value = find(spec.arguments, argument.name);
    if (value == nullptr) continue;
    if (auto wrong = argument.check(*value, spec.arguments)) {
      return invalid(argument.name, spec.name, *wrong);
    }
  }
  for (const auto& [name, value] : spec.arguments) {
    if (foreignTo(spec.kind, name)) return foreign(name, spec.name, spec.kind);
  }
  return {};
}

Outcome checkStreamProperties(const QueueSpec& spec) {
  const char* wrong = nullptr;
  if (!spec.durable) wrong = "non-durable";
  if (spec.exclusive) wrong = "exclusive-owner";
  if (spec.autoDelete) wrong = "auto-delete";
  if (wrong != nullptr) {
    return precondition(fmt::format("invalid property '{}' for {}", wrong, queueText(spec.name)));
  }
  const Value* segment = find(spec.arguments, "x-stream-max-segment-size-bytes");
  if (segment != nullptr && std::get<int64_t>(segment->is) > kMaxSegmentBytes) {
    return precondition("Exceeded max value for x-stream-max-segment-size-bytes");
  }
  return {};
}

void setRetention(QueueSpec& spec) {
  if (const Value* age = find(spec.arguments, kMaxAge)) {
    spec.retentionMs = interval(*textOf(*age)).value_or(-1);
  }
  if (const Value* bytes = find(spec.arguments, kMaxLengthBytes)) {
    spec.retentionBytes = std::get<int64_t>(bytes->is);
  }
}

// ---- equivalence

Fault inequivalent(BytesView name, const std::string& resource, const std::string& received,
                   const std::string& current) {
  return precondition(fmt::format("inequivalent arg '{}' for {}: received {} but current is {}",
                                  name, resource, received, current));
}

std::string typed(const Value* value) {
  if (value == nullptr) return "none";
  return fmt::format("the value '{}' of type '{}'", printed(*value, true), typeName(*value));
}

Outcome sameFlag(const char* name, const std::string& resource, bool current, bool asked) {
  if (current == asked) return {};
  const auto word = [](bool flag) { return flag ? "'true'" : "'false'"; };
  return inequivalent(name, resource, word(asked), word(current));
}

Outcome sameArgument(BytesView name, const std::string& resource, const Value* current,
                     const Value* asked) {
  if (current == nullptr && asked == nullptr) return {};
  if (current != nullptr && asked != nullptr) {
    if (*current == *asked) return {};
    return inequivalent(name, resource, "'" + printed(*asked, true) + "'",
                        "'" + printed(*current, true) + "'");
  }
  const Value* only = current != nullptr ? current : asked;
  if (name == kQueueType && *only == Value{std::string("classic")}) return {};
  return inequivalent(name, resource, typed(asked), typed(current));
}

const char* typeWord(ExchangeType type) {
  switch (type) {
    case ExchangeType::kDirect: return "direct";
    case ExchangeType::kFanout: return "fanout";
    case ExchangeType::kTopic: return "topic";
    case ExchangeType::kHeaders: return "headers";
  }
  return "direct";
}

// ---- consumers

Outcome checkOffset(BytesView queue, const Value& value, int64_t nowMs, StreamStart& start) {
  using Kind = StreamStart::Kind;
  if (const std::string* word = textOf(value)) {
    if (*word == "first") {
      start.kind = Kind::kFirst;
    } else if (*word == "last") {
      start.kind = Kind::kLast;
    } else if (*word == "next") {
      start.kind = Kind::kNext;
    } else if (auto age = interval(*word)) {
      start = {Kind::kTimestamp, std::max<int64_t>(nowMs - *age, 0)};
    } else {
      return invalid(
          kStreamOffset, queue,
          fmt::format("{{invalid_stream_offset_arg,{{longstr,{}}}}}", printed(value, false)));
    }
    return {};
  }
  if (const auto* offset = std::get_if<int64_t>(&value.is)) {
    start = {Kind::kOffset, std::max<int64_t>(*offset, 0)};
    return {};
  }
  if (const auto* time = std::get_if<Value::Timestamp>(&value.is)) {
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max() / 1000;
    start = {Kind::kTimestamp, static_cast<int64_t>(std::min(time->seconds, kMost)) * 1000};
    return {};
  }
  return invalid(kStreamOffset, queue,
                 fmt::format("{{invalid_stream_offset_arg,{{{},{}}}}}", typeName(value),
                             printed(value, false)));
}

}  // namespace

Outcome decodeArguments(BytesView octets, Table& out) {
  if (octets.empty()) return {};
  auto table = decodeTable(octets);
  if (!table) return fault(ReplyCode::kSyntaxError, "malformed arguments: " + table.error().text);
  out = std::move(*table);
  return {};
}

std::expected<int64_t, std::string> parseExpiration(BytesView text) {
  BytesView digits = text;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  const size_t length = std::min(digits.find_first_not_of("0123456789"), digits.size());
  if (length == 0) return std::unexpected("no_integer");
  if (length < digits.size()) {
    return std::unexpected(fmt::format("{{leftover_string,\"{}\"}}", digits.substr(length)));
  }
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size() - 1));
  if (negative && digits != "0") {
    return std::unexpected(fmt::format("{{value_negative,-{}}}", digits));
  }
  int64_t number = 0;
  for (char c : digits) {
    number = number * 10 + (c - '0');
    if (number > mapping::kAmqpMaxExpirationMs) {
      return std::unexpected(fmt::format("{{value_too_large,{}}}", digits));
    }
  }
  return number;
}

bool mayBeServerNamed(const Table& arguments) {
  const Value* type = find(arguments, kQueueType);
  return type == nullptr ||
         (*type != Value{std::string("stream")} && *type != Value{std::string("quorum")});
}

Outcome checkNewQueue(QueueSpec& spec) {
  const Value* exchange = find(spec.arguments, kDeadLetterExchange);
  if (exchange != nullptr && textOf(*exchange) == nullptr) {
    return precondition(fmt::format("invalid type '{}' for arg '{}' in {}", typeName(*exchange),
                                    kDeadLetterExchange, queueText(spec.name)));
  }
  if (const Value* type = find(spec.arguments, kQueueType)) {
    if (auto wrong = wrongQueueType(*type)) return invalid(kQueueType, spec.name, *wrong);
    if (*textOf(*type) == "quorum") {
      return notBuilt(
          fmt::format("arg '{}' with value 'quorum' for {}", kQueueType, queueText(spec.name)));
    }
    if (*textOf(*type) == "stream") spec.kind = QueueKind::kStream;
  }
  if (auto problem = checkListed(spec)) return problem;
  if (spec.kind == QueueKind::kStream) {
    setRetention(spec);
    return checkStreamProperties(spec);
  }
  for (const Argument& argument : argumentsOf(spec.kind)) {
    const Value* value = find(spec.arguments, argument.name);
    if (value != nullptr && argument.missing(*value)) {
      return notBuilt(fmt::format("arg '{}' for {}", argument.name, queueText(spec.name)));
    }
  }
  return {};
}

Outcome checkSameQueue(const QueueInfo& current, const QueueSpec& asked) {
  const std::string resource = queueText(asked.name);
  if (auto problem = sameFlag("durable", resource, current.spec.durable, asked.durable)) {
    return problem;
  }
  if (auto problem = sameFlag("auto_delete", resource, current.spec.autoDelete, asked.autoDelete)) {
    return problem;
  }
  // A topic that no queue.declare made is a stream all the same.
  static const Value kStreamValue{std::string("stream")};
  for (const Argument& argument : argumentsOf(current.spec.kind)) {
    const Value* now = find(current.spec.arguments, argument.name);
    if (argument.name == kQueueType && current.spec.kind == QueueKind::kStream) now = &kStreamValue;
    if (auto problem =
            sameArgument(argument.name, resource, now, find(asked.arguments, argument.name))) {
      return problem;
    }
  }
  return {};
}

std::optional<ExchangeType> exchangeType(BytesView name) {
  for (auto type : {ExchangeType::kDirect, ExchangeType::kFanout, ExchangeType::kTopic,
                    ExchangeType::kHeaders}) {
    if (name == typeWord(type)) return type;
  }
  return std::nullopt;
}

Outcome checkNewExchange(const ExchangeSpec& spec) {
  const Value* alternate = find(spec.arguments, kAlternateExchange);
  if (alternate == nullptr || textOf(*alternate) != nullptr) return {};
  return precondition(fmt::format("invalid type '{}' for arg '{}' in {}", typeName(*alternate),
                                  kAlternateExchange, exchangeText(spec.name)));
}

Outcome checkSameExchange(const ExchangeSpec& current, const ExchangeSpec& asked) {
  const std::string resource = exchangeText(asked.name);
  if (current.type != asked.type) {
    return inequivalent("type", resource, fmt::format("'{}'", typeWord(asked.type)),
                        fmt::format("'{}'", typeWord(current.type)));
  }
  if (auto problem = sameFlag("durable", resource, current.durable, asked.durable)) return problem;
  if (auto problem = sameFlag("auto_delete", resource, current.autoDelete, asked.autoDelete)) {
    return problem;
  }
  if (auto problem = sameFlag("internal", resource, current.internal, asked.internal)) {
    return problem;
  }
  return sameArgument(kAlternateExchange, resource, find(current.arguments, kAlternateExchange),
                      find(asked.arguments, kAlternateExchange));
}

Outcome checkBinding(ExchangeType source, const Table& arguments) {
  if (arguments.size() > kMaxBindingArguments) {
    return precondition(fmt::format("a binding has {} arguments at most", kMaxBindingArguments));
  }
  if (source != ExchangeType::kHeaders) return {};
  const Value* match = find(arguments, "x-match");
  if (match == nullptr) return {};
  if (const std::string* word = textOf(*match)) {
    constexpr const char* kWords[] = {"all", "any", "all-with-x", "any-with-x"};
    if (std::ranges::find(kWords, *word) != std::end(kWords)) return {};
    return precondition(
        fmt::format("Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                    printed(*match, false)));
  }
  return precondition(fmt::format("Invalid x-match field type {} (value {}); expected longstr",
                                  typeName(*match), printed(*match, false)));
}

Outcome checkConsumer(BytesView queue, QueueKind kind, const Table& arguments, int64_t nowMs,
                      StreamStart& start) {
  constexpr BytesView kPriority = "x-priority";
  constexpr BytesView kFailover = "x-cancel-on-ha-failover";
  const bool stream = kind == QueueKind::kStream;
  const Value* priority = find(arguments, kPriority);
  if (!stream) {
    if (priority != nullptr) {
      if (auto wrong = wrongInteger(*priority)) return invalid(kPriority, queue, *wrong);
    }
    if (const Value* failover = find(arguments, kFailover)) {
      if (auto wrong = wrongBoolean(*failover)) return invalid(kFailover, queue, *wrong);
    }
  } else if (const Value* offset = find(arguments, kStreamOffset)) {
    if (auto problem = checkOffset(queue, *offset, nowMs, start)) return problem;
  }
  for (const auto& [name, value] : arguments) {
    const bool wrong = stream ? name == kPriority || name == kFailover : name == kStreamOffset;
    if (wrong) return foreign(name, queue, kind);
  }
  if (priority != nullptr && *priority != Value{int64_t{0}}) {
    return notBuilt(fmt::format("arg '{}' for consumer of {}", kPriority, queueText(queue)));
  }
  return {};
}

}  // namespace polylog::amqp
