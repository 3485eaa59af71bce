// Records by HTTP: POST publishes one, GET reads a partition, waiting if asked to.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/json_value.h"
#include "core/base/log.h"
#include "core/event/dispatcher.h"
#include "core/model/record_batch.h"
#include "mapping/address.h"
#include "mapping/partition.h"
#include "mapping/properties.h"
#include "server/api.h"
#include "server/json.h"

namespace polylog::server {

/// A GET that reads, and waits once when there is nothing yet.
struct Reading {
  Reading(Broker& to, PrincipalRef by, Reply due)
      : broker(to), principal(std::move(by)), reply(std::move(due)) {}

  Broker& broker;
  PrincipalRef principal;
  Reply reply;
  std::string topic;
  int32_t partition = 0;
  Offset from;
  int64_t max = 100;
  std::unique_ptr<WaitHandle> wait;
  std::unique_ptr<Timer> timer;
};

namespace {

constexpr size_t kFetchBytes = 1 << 20;
constexpr size_t kMaxDecoded = 64U << 20;
constexpr int64_t kMaxWaitMillis = 30'000;

/// A member NAME (text) or NAME_base64 (octets) of a JSON object. Null and absent are nullopt.
Result<std::optional<std::string>> octets(const JsonValue& object, const std::string& name) {
  const JsonValue* text = object.find(name);
  if (text != nullptr && !text->isNull()) {
    if (text->text() != nullptr) return *text->text();
    return fail(ErrorKind::kInvalid, fmt::format("`{}` must be text or null", name));
  }
  const JsonValue* coded = object.find(name + "_base64");
  if (coded == nullptr || coded->isNull()) return std::nullopt;
  auto plain = coded->text() != nullptr ? fromBase64(*coded->text()) : std::nullopt;
  if (!plain) return fail(ErrorKind::kInvalid, fmt::format("`{}_base64` must be base64", name));
  return plain;
}

/// A record as posted, owning its texts.
struct PostedRecord {
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
};

/// MQTT's subscribers may cut the connection over a payload that isn't what is said of it.
bool formatHolds(const PostedRecord& record) {
  return std::ranges::none_of(record.headers, [&](const auto& header) {
    return header.first == mapping::kPayloadFormat &&
           header.second == mapping::kPayloadFormatText && record.value &&
           !mapping::isUtf8(*record.value);
  });
}

Result<PostedRecord> parseRecord(const JsonValue& object) {
  if (object.object() == nullptr) {
    return fail(ErrorKind::kInvalid,
                "a record is a JSON object with key, value and headers (or key_base64, ...)");
  }
  PostedRecord record;
  auto key = octets(object, "key");
  auto value = octets(object, "value");
  if (!key) return std::unexpected(key.error());
  if (!value) return std::unexpected(value.error());
  record.key = std::move(*key);
  record.value = std::move(*value);
  const JsonValue* headers = object.find("headers");
  if (headers == nullptr) return record;
  if (headers->array() == nullptr) return fail(ErrorKind::kInvalid, "`headers` must be an array");
  for (const JsonValue& header : *headers->array()) {
    auto name = octets(header, "name");
    if (!name) return std::unexpected(name.error());
    if (!*name) {
      return fail(ErrorKind::kInvalid, "a header must be an object with name and value");
    }
    auto content = octets(header, "value");
    if (!content) return std::unexpected(content.error());
    record.headers.emplace_back(std::move(**name), std::move(*content));
  }
  if (!formatHolds(record)) {
    return fail(
        ErrorKind::kInvalid,
        "the header `payload-format` says utf-8 and the value isn't: say bytes, or leave it "
        "out");
  }
  return record;
}

/// One record, or {"records": [...]}.
Result<std::vector<PostedRecord>> parseRecords(const std::string& body) {
  auto document = JsonValue::parse(body);
  if (!document || document->object() == nullptr) {
    return fail(ErrorKind::kInvalid,
                "the body must be JSON: a record, or {\"records\": [...]} (docs/operations.md)");
  }
  std::vector<PostedRecord> records;
  const JsonValue* list = document->find("records");
  if (list == nullptr) {
    auto one = parseRecord(*document);
    if (!one) return std::unexpected(one.error());
    records.push_back(std::move(*one));
    return records;
  }
  if (list->array() == nullptr) return fail(ErrorKind::kInvalid, "`records` must be an array");
  for (const JsonValue& each : *list->array()) {
    auto one = parseRecord(each);
    if (!one) return std::unexpected(one.error());
    records.push_back(std::move(*one));
  }
  return records;
}

/// Views into `posted`, which must outlive it.
Publish publishOf(const std::string& topic, const PostedRecord& posted) {
  Publish publish;
  std::optional<BytesView> key;
  if (posted.key) key = *posted.key;
  publish.topic = topic;
  publish.address = {topic, key};
  publish.record.key = key;
  if (posted.value) publish.record.value = *posted.value;
  for (const auto& [name, value] : posted.headers) {
    publish.record.headers.push_back(
        {name, value ? std::optional<BytesView>(*value) : std::nullopt});
  }
  publish.record.guarantee = DeliveryGuarantee::kAtLeastOnce;
  publish.partitionHash = mapping::partitionHash(key, "admin");
  return publish;
}

std::optional<int64_t> number(const Call& call, const char* key, int64_t otherwise) {
  auto found = call.query.find(key);
  if (found == call.query.end()) return otherwise;
  const std::string& text = found->second;
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void writeRecord(Json& json, int64_t offset, const Record& record) {
  json.object([&] {
    json.field("offset", offset);
    json.field("timestamp", record.timestampMs);
    json.octets("key", record.key);
    json.octets("value", record.value);
    json.name("headers");
    json.array([&] {
      for (const Header& header : record.headers) {
        json.object([&] {
          json.octets("name", header.name);
          json.octets("value", header.value);
        });
      }
    });
  });
}

/// Writes the batch's records from `from` on, `left` at most; returns the offset after the last.
int64_t writeBatch(Json& json, const FetchedBatch& fetched, int64_t from, int64_t& left) {
  int64_t end = fetched.baseOffset.value() + fetched.count;
  auto decoded = decodeRecordBatch(fetched.batch, kMaxDecoded);
  if (!decoded) {
    logWarning(fmt::format("the batch at offset {} can't be shown over HTTP: {}",
                           fetched.baseOffset.value(), decoded.error().text));
    return end;
  }
  for (size_t i = 0; i < decoded->records.size(); ++i) {
    int64_t index = decoded->offsetDeltas[i] - static_cast<int64_t>(fetched.firstRecord);
    int64_t offset = fetched.baseOffset.value() + index;
    if (index < 0 || index >= static_cast<int64_t>(fetched.count) || offset < from) continue;
    if (left == 0) return offset;
    --left;
    writeRecord(json, offset, decoded->records[i]);
  }
  return end;
}

bool hidden(const FetchedBatch& batch, const Fetched& fetched) {
  auto header = parseRecordBatchHeader(batch.batch.view());
  return header && hiddenFromCommitted(*header, batch.baseOffset, fetched.aborted);
}

/// Answers with what is there; false if that is nothing and `evenIfEmpty` isn't set.
bool answer(Reading& reading, bool evenIfEmpty) {
  auto fetched = reading.broker.fetch(reading.principal, reading.topic, reading.partition,
                                      reading.from, kFetchBytes);
  if (!fetched) {
    reading.reply.error(fetched.error());
    return true;
  }
  // Only what is committed is shown, and nothing that may still be.
  std::erase_if(fetched->batches,
                [&](const FetchedBatch& batch) { return batch.baseOffset >= fetched->lastStable; });
  if (fetched->batches.empty() && !evenIfEmpty) return false;
  Json json;
  int64_t left = reading.max;
  int64_t next = reading.from.value();
  json.object([&] {
    json.name("records");
    json.array([&] {
      for (const FetchedBatch& batch : fetched->batches) {
        if (left == 0) break;
        next = hidden(batch, *fetched) ? batch.baseOffset.value() + batch.count
                                       : writeBatch(json, batch, reading.from.value(), left);
      }
    });
    json.field("next", next);
    json.field("high_watermark", fetched->highWatermark.value());
  });
  reading.reply.json(200, json.text());
  return true;
}

}  // namespace

void Api::produce(Call call) {
  const std::string& topic = call.path[2];
  if (auto checked = checkTopicName(topic); !checked) return call.reply.error(checked.error());
  auto posted = parseRecords(call.body);
  if (!posted) return call.reply.error(posted.error());
  std::vector<Publish> publishes;
  for (const PostedRecord& record : *posted) publishes.push_back(publishOf(topic, record));
  auto done = [reply = std::move(call.reply)](std::vector<PublishResult> results) mutable {
    int64_t stored = 0;
    for (const PublishResult& result : results) {
      // All of one request go in one entry; a record that was refused for itself is told of here.
      if (result.error) return reply.error(*result.error);
      ++stored;
    }
    Json json;
    json.object([&] { json.field("published", stored); });
    reply.json(200, json.text());
  };
  if (publishes.empty()) return done({});
  broker_.publish(principal_, nullptr, publishes, std::move(done));
}

void Api::consume(Call call) {
  auto partition = number(call, "partition", 0);
  auto max = number(call, "max", 100);
  auto wait = number(call, "wait_ms", 0);
  std::string start = call.query.contains("offset") ? call.query["offset"] : "earliest";
  auto offset = start == "earliest" || start == "latest" ? 0 : number(call, "offset", 0);
  if (!partition || *partition < 0 || *partition > INT32_MAX || !max || *max < 1 || *max > 10'000 ||
      !wait || *wait < 0 || !offset || *offset < 0) {
    return call.reply.error(
        {ErrorKind::kInvalid,
         "partition, max (1 to 10000), wait_ms and offset (or earliest, latest) "
         "are whole numbers"});
  }
  auto bounds = broker_.bounds(principal_, call.path[2], static_cast<int32_t>(*partition));
  if (!bounds) return call.reply.error(bounds.error());
  auto reading = std::make_shared<Reading>(broker_, principal_, std::move(call.reply));
  reading->topic = call.path[2];
  reading->partition = static_cast<int32_t>(*partition);
  reading->max = *max;
  reading->from = start == "earliest" ? bounds->logStart
                  : start == "latest" ? bounds->lastStable
                                      : Offset(*offset);
  if (answer(*reading, *wait == 0)) return;

  std::weak_ptr<Reading> weak = reading;
  Broker::FetchPoint point{reading->topic, reading->partition, reading->from, true};
  reading->timer = dispatcher_.makeTimer([this, weak] { finish(weak); });
  reading->timer->start(std::min(*wait, kMaxWaitMillis) * 1000);
  reading->wait =
      broker_.awaitRecords(principal_, std::span(&point, 1), [this, weak] { finish(weak); });
  waiting_.insert(std::move(reading));
}

void Api::finish(const std::weak_ptr<Reading>& waiting) {
  auto reading = waiting.lock();
  if (!reading || waiting_.erase(reading) == 0) return;
  answer(*reading, true);
  // This runs inside the timer's or the wait's own callback: let both go after it.
  dispatcher_.defer([reading = std::move(reading)] {});
}

}  // namespace polylog::server
