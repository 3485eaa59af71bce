#include "router/replay_state.h"

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 1;

ByteWriter begun() {
  ByteWriter out;
  out.u8(kVersion);
  return out;
}

ByteReader opened(BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  return in;
}

std::unexpected<Error> unreadable(const char* what) {
  return fail(ErrorKind::kCorrupt, std::string("state of a replay can't be read: its ") + what);
}

}  // namespace

std::string replayKey(const ReplayKey& key) {
  ByteWriter out;
  out.u64(key.inbox.value());
  out.u32(key.number);
  out.u8(static_cast<uint8_t>(key.what));
  if (key.what == ReplayKey::What::kCursor) out.u64(key.partition.value());
  return out.take();
}

Result<ReplayKey> parseReplayKey(BytesView text) {
  ByteReader in(text);
  ReplayKey key;
  key.inbox = PartitionId(in.u64());
  key.number = in.u32();
  uint8_t what = in.u8();
  key.what = static_cast<ReplayKey::What>(what);
  if (key.what == ReplayKey::What::kCursor) key.partition = PartitionId(in.u64());
  if (!in.complete() || what > 2) return unreadable("key");
  return key;
}

std::string encodeReplay(PartitionId inbox, const Subscription& subscription) {
  ByteWriter out = begun();
  out.u8(static_cast<uint8_t>(subscription.replay->kind));
  out.varuint(static_cast<uint64_t>(subscription.replay->value));
  putText(out, subscriptionKey(inbox, subscription.text));
  out.bytes(encodeSubscription({subscription, {}}));
  return out.take();
}

Result<Subscription> decodeReplay(PartitionId inbox, BytesView value) {
  ByteReader in = opened(value);
  ReplayStart start;
  uint8_t kind = in.u8();
  start.kind = static_cast<ReplayStart::Kind>(kind);
  start.value = static_cast<int64_t>(in.varuint(64));
  std::string key = getText(in);
  if (!in.ok() || kind > static_cast<uint8_t>(ReplayStart::Kind::kLast) || start.value < 0 ||
      !key.starts_with(inboxKey(inbox))) {
    return unreadable("subscription");
  }
  auto state = decodeSubscription(key, in.rest());
  if (!state) return std::unexpected(state.error());
  state->subscription.replay = start;
  return std::move(state->subscription);
}

std::string encodeReplayCursor(const ReplayCursor& cursor) {
  ByteWriter out = begun();
  out.u8(static_cast<uint8_t>(cursor.phase));
  out.varuint(static_cast<uint64_t>(cursor.value));
  out.varuint(static_cast<uint64_t>(cursor.end));
  return out.take();
}

Result<ReplayCursor> decodeReplayCursor(BytesView value) {
  ByteReader in = opened(value);
  ReplayCursor cursor;
  uint8_t phase = in.u8();
  cursor.phase = static_cast<ReplayCursor::Phase>(phase);
  cursor.value = static_cast<int64_t>(in.varuint(64));
  cursor.end = static_cast<int64_t>(in.varuint(64));
  if (!in.complete() || phase > 2 || cursor.value < 0 || cursor.end < 0) {
    return unreadable("cursor");
  }
  return cursor;
}

std::string encodeReplayOrigins(const std::vector<ReplayOrigin>& origins) {
  ByteWriter out = begun();
  out.varuint(origins.size());
  ReplayOrigin before;
  for (const ReplayOrigin& origin : origins) {
    // Mostly neighbours.
    out.varint(static_cast<int64_t>(origin.batch.value() - before.batch.value()));
    out.varint(origin.partition);
    out.varint(origin.base - before.base);
    before = origin;
  }
  return out.take();
}

Result<std::vector<ReplayOrigin>> decodeReplayOrigins(BytesView value) {
  ByteReader in = opened(value);
  std::vector<ReplayOrigin> origins(in.count(in.varuint32(), 3));
  ReplayOrigin before;
  for (ReplayOrigin& origin : origins) {
    origin.batch = Position(before.batch.value() + static_cast<uint64_t>(in.varint64()));
    origin.partition = in.varint32();
    origin.base = before.base + in.varint64();
    before = origin;
  }
  if (!in.complete()) return unreadable("origins");
  return origins;
}

}  // namespace polylog::router
