#include "codecs/amqp/publishing.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "codecs/amqp/arguments.h"
#include "codecs/amqp/channel.h"
#include "codecs/amqp/field_table.h"
#include "codecs/amqp/outgoing.h"
#include "core/base/metrics.h"
#include "mapping/partition.h"

namespace polylog::amqp {
namespace {

Metric& refused() {
  static Metric& metric =
      counter("polylog_publish_refused_total", "Publishes that were refused, told or not.",
              R"(protocol="amqp")");
  return metric;
}

/// What a record costs while it waits, beside its octets.
constexpr size_t kRecordOverhead = 64;

/// What a connection keeps from one round to the next.
constexpr size_t kKeptRecords = 128;
constexpr size_t kKeptTexts = 4;
constexpr size_t kKeptHeaders = 16;
constexpr size_t kKeptOctets = 16 * 1024;

/// The last second of the year 9999: later timestamps are milliseconds by mistake.
constexpr uint64_t kLastSecond = 253'402'300'799;

constexpr uint8_t kTransient = 1;
constexpr uint8_t kPersistent = 2;

/// A publish's header table, and whether an exchange has routed by it.
class Headers final : public RoutingHeaders {
 public:
  explicit Headers(const Table& decoded) : table_(decoded) {}
  const Table& table() const override {
    asked_ = true;
    return table_;
  }
  bool asked() const { return asked_; }

 private:
  const Table& table_;
  mutable bool asked_ = false;
};

mapping::AmqpProperties mapped(const BasicProperties& from, Table headers,
                               std::optional<int64_t> expirationMs) {
  mapping::AmqpProperties out;
  out.contentType = from.contentType;
  out.contentEncoding = from.contentEncoding;
  out.correlationId = from.correlationId;
  out.replyTo = from.replyTo;
  out.messageId = from.messageId;
  out.type = from.type;
  out.userId = from.userId;
  out.appId = from.appId;
  out.deliveryMode = from.deliveryMode;
  out.priority = from.priority;
  out.expirationMs = expirationMs;
  out.headers = std::move(headers);
  return out;
}

}  // namespace

void Publishing::beginRound(const SharedBytes& input) {
  input_ = input;
  forgetRoute();
}

Outcome Publishing::publish(const std::shared_ptr<Channel>& channel, const Content& content,
                            std::string& keptBody) {
  auto parsed = parse(content);
  if (!parsed) return std::move(parsed.error());
  // RabbitMQ adds their routing keys; passing them over would lose messages in silence.
  if (find(parsed->headers, "CC") != nullptr || find(parsed->headers, "BCC") != nullptr) {
    return notBuilt("the headers CC and BCC are not supported");
  }
  if (auto problem = findRoute(content, parsed->headers)) return problem;
  if (auto problem = check(*parsed)) return problem;

  Publish& out = next();
  const BytesView routingKey =
      content.namesKept ? arena_.keep(std::string(content.routingKey)) : content.routingKey;
  if (auto problem = address(content.exchange, routingKey, out)) {
    --used_;
    return problem;
  }
  SharedBytes body(input_.owner(), content.body);
  if (content.bodyKept) {
    body = SharedBytes::own(std::exchange(keptBody, {}));
    bodies_.push_back(body);
  }
  out.route = route_;
  out.admitted = true;  // Session takes no content while the disk is full
  out.record.value = body.view();
  out.record.guarantee = DeliveryGuarantee::kAtLeastOnce;
  addHeaders(content, *parsed, out);
  setExpected(channel, content, body);
  gatheredBytes_ += kRecordOverhead + body.size() + originalAt_.back().size;
  if (used_ >= kMaxBatchRecords || gatheredBytes_ >= kMaxBatchBytes) flush();
  return {};
}

std::expected<Publishing::Parsed, Fault> Publishing::parse(const Content& content) const {
  Parsed out;
  auto properties = decodeProperties(content.properties);
  if (!properties) {
    return std::unexpected(fault(ReplyCode::kSyntaxError, "malformed content properties"));
  }
  out.properties = *properties;
  if (out.properties.headers) {
    auto headers = decodeTable(*out.properties.headers);
    if (!headers) {
      return std::unexpected(fault(ReplyCode::kSyntaxError, "malformed header table"));
    }
    out.headers = std::move(*headers);
  }
  return out;
}

/// What RabbitMQ checks once the exchange is found.
Outcome Publishing::check(Parsed& parsed) const {
  const BasicProperties& properties = parsed.properties;
  if (properties.replyTo == kReplyToQueue) {
    return fault(ReplyCode::kPreconditionFailed, "fast reply consumer does not exist");
  }
  if (properties.userId && *properties.userId != link_.loginName) {
    return fault(ReplyCode::kPreconditionFailed,
                 fmt::format("user_id property set to '{}' but authenticated user was '{}'",
                             *properties.userId, link_.loginName));
  }
  if (properties.expiration) {
    const auto expiration = parseExpiration(*properties.expiration);
    if (!expiration) {
      return fault(
          ReplyCode::kPreconditionFailed,
          fmt::format("invalid expiration '{}': {}", *properties.expiration, expiration.error()));
    }
    parsed.expirationMs = *expiration;
  }
  const uint8_t mode = properties.deliveryMode.value_or(kTransient);
  if (mode == kTransient || mode == kPersistent) return {};
  return fault(ReplyCode::kPreconditionFailed,
               fmt::format("invalid message: {{delivery_mode_unknown,{}}}", mode));
}

Outcome Publishing::findRoute(const Content& content, const Table& headers) {
  if (route_ && routeIsForAll_ && routeExchange_ == content.exchange &&
      routeKey_ == content.routingKey) {
    return {};
  }
  route_.reset();
  routeExchange_ = content.exchange;
  routeKey_ = content.routingKey;
  Headers routing(headers);
  auto found = link_.client->route(routeExchange_, routeKey_, &routing);
  if (!found) {
    const auto exchange = link_.client->findExchange(routeExchange_);
    if (exchange && exchange->internal) {
      return fault(ReplyCode::kAccessRefused,
                   "cannot publish to internal " + exchangeText(content.exchange));
    }
    return faultOf(found.error(), exchangeText(content.exchange), link_.principal->user);
  }
  route_ = std::move(*found);
  routeIsForAll_ = !routing.asked();
  return {};
}

Outcome Publishing::address(BytesView exchange, BytesView routingKey, Publish& out) {
  if (route_->reachesAmqTopic()) {
    auto address = mapping::addressFromRoutingKey(routingKey, scratch());
    if (!address) return fault(ReplyCode::kPreconditionFailed, address.error().text);
    out.address = *address;
    out.topic = address->topic;
    out.record.key = address->key;
    if (!link_.options->rules.empty()) {
      const mapping::Route rule = link_.options->rules.apply(*address, scratch());
      out.topic = rule.topic;
      out.record.key = rule.key;
      out.ephemeral = rule.ephemeral;
    }
  } else if (route_->reachesTopics() && !exchange.empty() && !routingKey.empty()) {
    std::string text;
    if (auto address = mapping::addressFromRoutingKey(routingKey, scratch())) {
      mapping::appendAddress(*address, text);
    } else {
      text = routingKey;
    }
    out.streamKey = arena_.keep(std::move(text));
  }
  const auto& key = out.streamKey ? out.streamKey : out.record.key;
  out.partitionHash = key ? mapping::partitionHash(key, {}) : link_.publisherHash;
  return {};
}

/// What was sent, for AMQP consumers; what other protocols can see of it, if they may; otherwise
/// only what the broker itself looks at.
void Publishing::addHeaders(const Content& content, Parsed& parsed, Publish& out) {
  const size_t from = originals_.size();
  mapping::appendAmqpOriginal(content.exchange, content.routingKey, content.properties, originals_);
  originalAt_.push_back({from, originals_.size() - from});
  out.record.headers.push_back({mapping::kAmqpOriginal, std::nullopt});

  BasicProperties& properties = parsed.properties;
  const std::optional<int64_t> expirationMs = parsed.expirationMs;
  if (!route_->reachesTopics()) {
    if (!expirationMs) return;
    out.record.headers.push_back(
        {mapping::kExpiry, arena_.keep(std::to_string(link_.wallMillis() + *expirationMs))});
    return;
  }
  if (properties.timestamp && *properties.timestamp <= kLastSecond) {
    out.record.timestampMs = static_cast<int64_t>(*properties.timestamp) * 1000;
  }
  if (content.propertiesKept) {
    // The views are into octets that the next publish overwrites.
    auto again = decodeProperties(arena_.keep(std::string(content.properties)));
    if (again) properties = *again;
  }
  mapped_.push_back(mapped(properties, std::move(parsed.headers), expirationMs));
  mapping::headersFromAmqp(mapped_.back(), link_.wallMillis(), out.record.headers, arena_);
}

/// Notes what the publisher wants to hear of the publish, if anything.
void Publishing::setExpected(const std::shared_ptr<Channel>& channel, const Content& content,
                             const SharedBytes& body) {
  const uint64_t confirm = channel->nextConfirm();
  if (confirm == 0 && !content.mandatory) return;
  Entry& entry = entries_.emplace_back();
  entry.channel = channel;
  entry.confirm = confirm;
  entry.index = used_ - 1;
  if (!content.mandatory) return;
  entry.returnable = std::make_unique<Returnable>(
      Returnable{std::string(content.exchange), std::string(content.routingKey),
                 std::string(content.properties), body});
}

Publish& Publishing::next() {
  if (used_ == gathered_.size()) gathered_.emplace_back();
  Publish& out = gathered_[used_++];
  std::vector<Header> headers = std::move(out.record.headers);
  headers.clear();
  out = Publish();
  out.record.headers = std::move(headers);
  return out;
}

std::string& Publishing::scratch() {
  // One that the mapping leaves empty can be offered again.
  while (scratchUsed_ < scratch_.size() && !scratch_[scratchUsed_].empty()) ++scratchUsed_;
  if (scratchUsed_ == scratch_.size()) scratch_.emplace_back();
  return scratch_[scratchUsed_];
}

void Publishing::flush() {
  if (used_ == 0) return;
  if (!link_.open()) return reset();
  for (size_t i = 0; i < used_; ++i) {
    const OriginalAt& at = originalAt_[i];
    gathered_[i].record.headers.front().value = BytesView(originals_).substr(at.from, at.size);
  }
  auto batch = std::make_shared<Batch>();
  batch->entries.swap(entries_);
  batch->records = used_;
  batch->bytes = gatheredBytes_;
  waitingRecords_ += batch->records;
  waitingBytes_ += batch->bytes;
  waiting_.push_back(batch);
  // Asked even if no publisher wants to know: what may wait is limited, and what looks into a queue
  // has to find what was published before.
  auto done = [this, guard = link_.guard(), batch](std::vector<PublishResult> results) {
    if (!guard.expired()) complete(*batch, std::move(results));
  };
  link_.broker.publish(link_.principal, nullptr, std::span(gathered_.data(), used_),
                       std::move(done));
  reset();
}

void Publishing::reset() {
  for (size_t i = 0; i < used_; ++i) {
    gathered_[i].route.reset();
    std::vector<Header>& headers = gathered_[i].record.headers;
    if (headers.capacity() > kKeptHeaders) headers = {};
  }
  used_ = 0;
  // A burst's memory is not kept: most connections are idle most of the time.
  if (gathered_.size() > kKeptRecords) gathered_ = {};
  originalAt_.clear();
  if (originals_.capacity() > kKeptOctets) originals_ = {};
  originals_.clear();
  entries_.clear();
  gatheredBytes_ = 0;
  mapped_.clear();
  arena_.clear();
  bodies_.clear();
  if (scratch_.size() > kKeptTexts) scratch_.clear();
  for (std::string& text : scratch_) text.clear();
  scratchUsed_ = 0;
}

void Publishing::complete(Batch& batch, std::vector<PublishResult> results) {
  batch.results = std::move(results);
  batch.done = true;
  answerFinished();
  link_.flush();
  link_.progressed();
}

/// Answers in the order of the publishes, however the broker's answers arrive.
void Publishing::answerFinished() {
  while (!waiting_.empty() && waiting_.front()->done) {
    const std::shared_ptr<Batch> batch = std::move(waiting_.front());
    waiting_.pop_front();
    waitingRecords_ -= batch->records;
    waitingBytes_ -= batch->bytes;
    // A broker that gives fewer results than records has promised nothing for the rest.
    static const PublishResult kMissing{Error{ErrorKind::kInternal, "no result"}, false};
    for (const PublishResult& result : batch->results) {
      if (result.error) refused().add();
    }
    for (const Entry& entry : batch->entries) {
      if (!link_.open()) return;
      answer(entry, entry.index < batch->results.size() ? batch->results[entry.index] : kMissing);
    }
    for (const Entry& entry : batch->entries) entry.channel->sendConfirms();
  }
}

void Publishing::answer(const Entry& entry, const PublishResult& result) {
  Channel& channel = *entry.channel;
  if (!channel.open()) return;
  if (result.error) {
    if (result.error->kind == ErrorKind::kUnauthorized) {
      channel.fail(Fault{ReplyCode::kAccessRefused, result.error->text, BasicPublish::kClassId,
                         BasicPublish::kMethodId});
    } else if (entry.confirm != 0) {
      channel.confirmed(entry.confirm, false);
    }
    return;
  }
  if (entry.returnable && !result.matched) giveBack(entry);
  if (entry.confirm != 0) channel.confirmed(entry.confirm, true);
}

/// basic.return, before the publish is confirmed.
void Publishing::giveBack(const Entry& entry) {
  const Returnable& content = *entry.returnable;
  BasicReturn method;
  method.replyCode = static_cast<uint16_t>(ReplyCode::kNoRoute);
  method.replyText = replyName(ReplyCode::kNoRoute);
  method.exchange = content.exchange;
  method.routingKey = content.routingKey;
  const uint16_t number = entry.channel->number();
  link_.encodeMethod(number, method);
  sendContent(link_, number, content.properties, content.body);
  link_.countAnswer(content.properties.size() + content.body.size());
}

}  // namespace polylog::amqp
