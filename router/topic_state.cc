// Of state_codec.h: topics, and the layers of their defaults.
#include <algorithm>

#include "core/model/flush_keys.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 1;
/// In place of a topic's compression.
constexpr uint8_t kAsTheyCame = 255;

std::unexpected<Error> unreadable(const char* what, BytesView key) {
  return fail(ErrorKind::kCorrupt,
              std::string("state of ") + what + " '" + std::string(key) + "' can't be read");
}

// A topic's partitions stand between the two halves of its configuration.

void putFirstHalf(ByteWriter& out, const TopicConfig& config) {
  out.i64(config.retentionMs);
  out.i64(config.retentionBytes);
  out.u8(static_cast<uint8_t>(config.flush));
  out.u8(config.logAppendTime ? 1 : 0);
  out.i32(config.maxBatchBytes);
  out.varuint(config.overrides.size());
  for (const auto& [key, text] : config.overrides) {
    putText(out, key);
    putText(out, text);
  }
}

void getFirstHalf(ByteReader& in, TopicConfig& config) {
  config.retentionMs = in.i64();
  config.retentionBytes = in.i64();
  config.flush = static_cast<FlushPolicy>(in.u8());
  config.logAppendTime = in.u8() != 0;
  config.maxBatchBytes = in.i32();
  size_t overrides = in.count(in.varuint32(), 2);
  for (size_t i = 0; i < overrides; ++i) {
    std::string key = getText(in);
    config.overrides[std::move(key)] = getText(in);
  }
}

void putSecondHalf(ByteWriter& out, const TopicConfig& config) {
  const CleanupPolicy& cleanup = config.cleanup;
  out.u8(static_cast<uint8_t>((cleanup.deletes ? 1 : 0) | (cleanup.compacts ? 2 : 0)));
  out.i64(cleanup.minCompactionLagMs);
  out.i64(cleanup.maxCompactionLagMs);
  out.i64(cleanup.deleteRetentionMs);
  out.i32(cleanup.minDirtyPercent);
  out.u8(config.compression ? static_cast<uint8_t>(*config.compression) : kAsTheyCame);
  out.u16(config.own.bits());
}

/// False: it makes no sense.
bool getSecondHalf(ByteReader& in, TopicConfig& config, bool& unmarked) {
  CleanupPolicy& cleanup = config.cleanup;
  uint8_t policy = in.u8();
  cleanup.deletes = (policy & 1) != 0;
  cleanup.compacts = (policy & 2) != 0;
  cleanup.minCompactionLagMs = in.i64();
  cleanup.maxCompactionLagMs = in.i64();
  cleanup.deleteRetentionMs = in.i64();
  cleanup.minDirtyPercent = in.i32();
  // Topics written before there was a choice end here, and those written before it was kept what
  // had been set behind that.
  uint8_t compression = in.remaining() > 0 ? in.u8() : kAsTheyCame;
  if (compression <= static_cast<uint8_t>(Compression::kZstd)) {
    config.compression = static_cast<Compression>(compression);
  } else if (compression != kAsTheyCame) {
    return false;
  }
  unmarked = in.remaining() == 0;
  if (!unmarked) config.own = TopicFields(in.u16());
  return in.complete();
}

/// What a topic that was written without marks keeps as text, and the field that is about.
constexpr std::pair<const char*, TopicField> kKeptTexts[] = {
    {"cleanup.policy", TopicField::kCleanup},
    {"compression.type", TopicField::kCompression},
    {"delete.retention.ms", TopicField::kDeleteRetention},
    {"max.compaction.lag.ms", TopicField::kMaxCompactionLag},
    {"max.message.bytes", TopicField::kMaxBatchBytes},
    {"message.timestamp.type", TopicField::kLogAppendTime},
    {"min.cleanable.dirty.ratio", TopicField::kMinDirty},
    {"min.compaction.lag.ms", TopicField::kMinCompactionLag},
    {"retention.bytes", TopicField::kRetentionBytes},
    {"retention.ms", TopicField::kRetentionMs},
    {"x-max-age", TopicField::kRetentionMs},
    {"x-max-length-bytes", TopicField::kRetentionBytes},
};

/// What was set for a topic that was written without marks, by what it keeps of it as text.
void markKept(TopicConfig& config) {
  for (const auto& [key, field] : kKeptTexts) {
    if (config.overrides.contains(key)) config.own.add(field);
  }
  for (BytesView key : {kFlushMessages, kFlushMs}) {
    auto kept = config.overrides.find(std::string(key));
    if (kept == config.overrides.end() || !asksForSync(key, kept->second)) continue;
    config.flush = FlushPolicy::kSafe;
    config.own.add(TopicField::kFlush);
  }
}

}  // namespace

std::string encodeTopic(const Topic& topic) {
  ByteWriter out;
  out.u8(kVersion);
  out.bytes({reinterpret_cast<const char*>(topic.id.data()), topic.id.size()});
  out.u8(static_cast<uint8_t>(topic.origin));
  out.i64(topic.createdMs);
  putFirstHalf(out, topic.config);
  out.varuint(topic.partitions.size());
  for (PartitionId partition : topic.partitions) out.u64(partition.value());
  putSecondHalf(out, topic.config);
  return out.take();
}

Result<Topic> decodeTopic(BytesView name, BytesView value, bool* unmarked) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  Topic topic;
  topic.name = name;
  BytesView id = in.bytes(topic.id.size());
  std::copy(id.begin(), id.end(), topic.id.begin());
  topic.origin = static_cast<Protocol>(in.u8());
  topic.createdMs = in.i64();
  getFirstHalf(in, topic.config);
  size_t partitions = in.count(in.varuint32(), 8);
  for (size_t i = 0; i < partitions; ++i) topic.partitions.emplace_back(in.u64());
  bool old = false;
  if (!getSecondHalf(in, topic.config, old) || topic.partitions.empty() ||
      topic.origin > Protocol::kRocketMq) {
    return unreadable("topic", name);
  }
  if (old) markKept(topic.config);
  if (unmarked != nullptr) *unmarked = old;
  return topic;
}

std::string encodeTopicDefaults(const TopicConfig& layer) {
  ByteWriter out;
  out.u8(kVersion);
  putFirstHalf(out, layer);
  putSecondHalf(out, layer);
  return out.take();
}

Result<TopicConfig> decodeTopicDefaults(BytesView key, BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  TopicConfig layer;
  getFirstHalf(in, layer);
  bool unmarked = false;
  if (!getSecondHalf(in, layer, unmarked) || unmarked) return unreadable("topics' defaults", key);
  return layer;
}

}  // namespace polylog::router
