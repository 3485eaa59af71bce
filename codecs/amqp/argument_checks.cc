#include "codecs/amqp/argument_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "codecs/amqp/errors.h"
#include "mapping/amqp.h"

namespace polylog::amqp {
namespace {

std::string wrongType(const Value& value) {
  return fmt::format("{{unacceptable_type,{}}}", typeName(value));
}

Wrong anything(const Value&, const Table&) {
  return std::nullopt;
}

Wrong integer(const Value& value, const Table&) {
  if (std::holds_alternative<int64_t>(value.is)) return std::nullopt;
  return fmt::format("\"expected integer, got {}\"", typeName(value));
}

Wrong notNegative(const Value& value, const Table& all) {
  if (auto wrong = integer(value, all)) return wrong;
  const int64_t number = std::get<int64_t>(value.is);
  if (number < 0) return fmt::format("{{value_negative,{}}}", number);
  return std::nullopt;
}

Wrong timeToLive(const Value& value, const Table& all) {
  if (auto wrong = notNegative(value, all)) return wrong;
  const int64_t number = std::get<int64_t>(value.is);
  if (number > mapping::kAmqpMaxExpirationMs) return fmt::format("{{value_too_large,{}}}", number);
  return std::nullopt;
}

Wrong expires(const Value& value, const Table& all) {
  if (value == Value{int64_t{0}}) return "{value_zero,0}";
  return timeToLive(value, all);
}

Wrong maxPriority(const Value& value, const Table& all) {
  if (auto wrong = notNegative(value, all)) return wrong;
  const int64_t number = std::get<int64_t>(value.is);
  if (number > 255) return fmt::format("{{max_value_exceeded,{}}}", number);
  return std::nullopt;
}

Wrong boolean(const Value& value, const Table&) {
  if (std::holds_alternative<bool>(value.is)) return std::nullopt;
  return wrongType(value);
}

Wrong string(const Value& value, const Table&) {
  if (textOf(value) != nullptr) return std::nullopt;
  return wrongType(value);
}

Wrong deadLetterKey(const Value& value, const Table& all) {
  if (textOf(value) == nullptr) return wrongType(value);
  if (find(all, kDeadLetterExchange) == nullptr) return "routing_key_but_no_dlx_defined";
  return std::nullopt;
}

Wrong oneOf(const Value& value, std::span<const char* const> words, std::string otherwise) {
  const std::string* word = textOf(value);
  if (word == nullptr) return wrongType(value);
  if (std::ranges::find(words, *word) != words.end()) return std::nullopt;
  return otherwise;
}

Wrong overflow(const Value& value, const Table&) {
  constexpr const char* kWords[] = {"drop-head", "reject-publish", "reject-publish-dlx"};
  return oneOf(value, kWords, "invalid_overflow");
}

Wrong queueMode(const Value& value, const Table&) {
  constexpr const char* kWords[] = {"default", "lazy"};
  return oneOf(value, kWords, fmt::format("\"unsupported queue mode '{}'\"", printed(value, true)));
}

Wrong queueVersion(const Value& value, const Table& all) {
  if (auto wrong = notNegative(value, all)) return wrong;
  const int64_t number = std::get<int64_t>(value.is);
  if (number == 1 || number == 2) return std::nullopt;
  return fmt::format("\"unsupported queue version '{}'\"", number);
}

Wrong queueType(const Value& value, const Table&) {
  constexpr const char* kWords[] = {"classic", "quorum", "stream"};
  return oneOf(value, kWords, fmt::format("\"unsupported queue type '{}'\"", printed(value, true)));
}

Wrong leaderLocator(const Value& value, const Table&) {
  constexpr const char* kWords[] = {"client-local", "balanced", "random", "least-leaders"};
  return oneOf(value, kWords, "invalid_queue_locator_arg");
}

Wrong clusterSize(const Value& value, const Table& all) {
  if (value == Value{int64_t{0}}) return "{value_zero,0}";
  return notNegative(value, all);
}

Wrong maxAge(const Value& value, const Table&) {
  if (textOf(value) == nullptr) return wrongType(value);
  if (!interval(*textOf(value))) return "invalid_max_age";
  return std::nullopt;
}

// ---- the tables

bool never(const Value&) {
  return false;
}
bool always(const Value&) {
  return true;
}

bool notZero(const Value& value) {
  return value != Value{int64_t{0}};
}
bool isTrue(const Value& value) {
  return value == Value{true};
}
bool notDropHead(const Value& value) {
  return value != Value{std::string("drop-head")};
}

/// In the order in which RabbitMQ compares them. All are listed that any type of queue knows.
constexpr Argument kClassic[] = {
    {"x-expires", expires, always},
    {"x-message-ttl", timeToLive, always},
    {kDeadLetterExchange, string, always},
    {"x-dead-letter-routing-key", deadLetterKey, always},
    {"x-max-length", notNegative, always},
    {kMaxLengthBytes, notNegative, always},
    {"x-max-priority", maxPriority, notZero},
    {"x-overflow", overflow, notDropHead},
    {"x-queue-mode", queueMode, never},        // bodies are on disk anyway
    {"x-queue-version", queueVersion, never},  // how RabbitMQ stores them
    {"x-single-active-consumer", boolean, isTrue},
    {kQueueType, queueType, never},
    {"x-queue-master-locator", anything, never},
};
constexpr Argument kStream[] = {
    {kMaxLengthBytes, notNegative, never},
    {kQueueType, queueType, never},
    {kMaxAge, maxAge, never},
    {"x-stream-max-segment-size-bytes", notNegative, never},  // segments are the journal's
    {"x-initial-cluster-size", clusterSize, never},
    {"x-queue-leader-locator", leaderLocator, never},
};
constexpr BytesView kQuorumOnly[] = {"x-dead-letter-strategy", "x-delivery-limit",
                                     "x-max-in-memory-length", "x-max-in-memory-bytes",
                                     "x-quorum-initial-group-size"};

bool knownTo(std::span<const Argument> list, BytesView name) {
  return std::ranges::find(list, name, &Argument::name) != list.end();
}

}  // namespace

const char* typeName(const Value& value) {
  struct Names {
    const char* operator()(std::monostate) const { return "void"; }
    const char* operator()(bool) const { return "bool"; }
    const char* operator()(int64_t number) const {
      const bool small = number >= INT32_MIN && number <= INT32_MAX;
      return small ? "signedint" : "long";
    }
    const char* operator()(double) const { return "double"; }
    const char* operator()(const std::string&) const { return "longstr"; }
    const char* operator()(const Value::Octets&) const { return "binary"; }
    const char* operator()(const Value::Decimal&) const { return "decimal"; }
    const char* operator()(const Value::Timestamp&) const { return "timestamp"; }
    const char* operator()(const Value::Array&) const { return "array"; }
    const char* operator()(const Table&) const { return "table"; }
  };
  return std::visit(Names{}, value.is);
}

std::string printed(const Value& value, bool plain) {
  if (const auto* string = std::get_if<std::string>(&value.is)) {
    return plain ? *string : erlangBinary(*string);
  }
  if (const auto* flag = std::get_if<bool>(&value.is)) return *flag ? "true" : "false";
  if (const auto* number = std::get_if<int64_t>(&value.is)) return std::to_string(*number);
  if (const auto* number = std::get_if<double>(&value.is)) return fmt::format("{}", *number);
  if (const auto* time = std::get_if<Value::Timestamp>(&value.is)) {
    return std::to_string(time->seconds);
  }
  if (const auto* octets = std::get_if<Value::Octets>(&value.is))
    return erlangBinary(octets->bytes);
  return std::holds_alternative<std::monostate>(value.is) ? "undefined" : "[...]";
}

/// "7D" as milliseconds.
std::optional<int64_t> interval(BytesView text) {
  constexpr int64_t kHour = 3'600'000;
  constexpr std::pair<char, int64_t> kUnits[] = {{'Y', 365 * 24 * kHour}, {'M', 30 * 24 * kHour},
                                                 {'D', 24 * kHour},       {'h', kHour},
                                                 {'m', 60'000},           {'s', 1000}};
  if (text.size() < 2) return std::nullopt;
  const auto* unit = std::ranges::find(kUnits, text.back(), &std::pair<char, int64_t>::first);
  if (unit == std::end(kUnits)) return std::nullopt;
  const int64_t most = std::numeric_limits<int64_t>::max() / 2 / unit->second;
  int64_t number = 0;
  for (char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    number = std::min(number * 10 + (c - '0'), most / 10);
  }
  if (number == 0) return std::nullopt;
  return number * unit->second;
}

std::span<const Argument> argumentsOf(QueueKind kind) {
  if (kind == QueueKind::kStream) return kStream;
  return kClassic;
}

bool foreignTo(QueueKind kind, BytesView name) {
  if (knownTo(argumentsOf(kind), name)) return false;
  return knownTo(kClassic, name) || knownTo(kStream, name) ||
         std::ranges::find(kQuorumOnly, name) != std::end(kQuorumOnly);
}

Wrong wrongQueueType(const Value& value) {
  return queueType(value, {});
}

Wrong wrongInteger(const Value& value) {
  return integer(value, {});
}

Wrong wrongBoolean(const Value& value) {
  return boolean(value, {});
}

}  // namespace polylog::amqp
