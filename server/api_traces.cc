// /api/traces: what MQTT clients and the broker say to each other, into files.
#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "codecs/mqtt/trace.h"
#include "server/api.h"
#include "server/json.h"

namespace polylog::server {
namespace {

constexpr std::array<std::string_view, 4> kKinds = {"client_id", "user", "address", "topic"};

std::string get(const Call& call, const char* key) {
  auto found = call.query.find(key);
  return found == call.query.end() ? std::string() : found->second;
}

/// False if it is there and no whole number.
bool takeNumber(const Call& call, const char* key, int64_t& value) {
  const std::string text = get(call, key);
  if (text.empty()) return true;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

void describe(Json& json, const mqtt::TraceInfo& trace) {
  json.object([&] {
    json.field("name", trace.spec.name);
    json.field("kind", kKinds[static_cast<size_t>(trace.spec.kind)]);
    json.field("what", trace.spec.what);
    json.field("payload", trace.spec.payload);
    json.field("running", trace.running);
    json.field("until_ms", trace.untilMs);
    json.field("max_bytes", trace.spec.maxBytes);
    json.field("bytes", trace.bytes);
    json.field("file", trace.file);
  });
}

}  // namespace

void Api::handleTraces(Call call) {
  if (tracer_ == nullptr) {
    return call.reply.error({ErrorKind::kUnsupported, "this listener has no traces"});
  }
  const bool one = call.path.size() == 3;
  if (call.method == "GET" && !one) {
    Json json;
    json.object([&] {
      json.name("traces");
      json.array([&] {
        for (const mqtt::TraceInfo& trace : tracer_->all()) describe(json, trace);
      });
    });
    return call.reply.json(200, json.text());
  }
  Result<> done;
  if (one && call.method == "DELETE") {
    done = tracer_->stop(call.path[2]);
  } else {
    mqtt::TraceSpec spec;
    const auto* kind = std::ranges::find(kKinds, get(call, "kind"));
    if (!one || call.method != "POST" || kind == kKinds.end() ||
        !takeNumber(call, "seconds", spec.seconds) ||
        !takeNumber(call, "max_bytes", spec.maxBytes)) {
      return call.reply.error({ErrorKind::kInvalid,
                               "use GET on /api/traces, DELETE on /api/traces/NAME, or POST there "
                               "with kind=client_id, user, address or topic, what=WHOM, seconds=, "
                               "max_bytes=, payload=1"});
    }
    spec.name = call.path[2];
    spec.kind = static_cast<mqtt::TraceSpec::Kind>(kind - kKinds.begin());
    spec.what = get(call, "what");
    spec.payload = get(call, "payload") == "1";
    done = tracer_->start(std::move(spec));
  }
  if (!done) return call.reply.error(done.error());
  call.reply.json(call.method == "POST" ? 201 : 200, "{}");
}

}  // namespace polylog::server
