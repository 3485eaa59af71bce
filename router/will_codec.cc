#include "router/will_codec.h"

#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 3;
constexpr uint8_t kWithoutPublishDelay = 1;
constexpr uint8_t kWithoutPublishTime = 2;
constexpr uint8_t kRetain = 1;
constexpr uint8_t kEphemeral = 2;
constexpr unsigned kOwnShift = 2;  // OwnVerdict
constexpr unsigned kOwnMask = 3;

void putOptional(ByteWriter& out, const std::optional<std::string>& text) {
  out.u8(text ? 1 : 0);
  if (text) putText(out, *text);
}

std::optional<std::string> getOptional(ByteReader& in) {
  if (in.u8() == 0) return std::nullopt;
  return getText(in);
}

}  // namespace

std::string encodeWill(const Will& will, OwnVerdict own) {
  ByteWriter out;
  out.u8(kVersion);
  putText(out, will.topic);
  putOptional(out, will.key);
  putText(out, will.storedTopic);
  putOptional(out, will.storedKey);
  putOptional(out, will.value);
  out.u8(static_cast<uint8_t>(will.guarantee));
  out.u8(static_cast<uint8_t>((will.retain ? kRetain : 0) | (will.ephemeral ? kEphemeral : 0) |
                              static_cast<unsigned>(own) << kOwnShift));
  out.u32(will.delaySeconds);
  out.u32(will.partitionHash);
  out.u8(will.expirySeconds ? 1 : 0);
  out.u32(will.expirySeconds.value_or(0));
  out.varuint(will.headers.size());
  for (const auto& [name, value] : will.headers) {
    putText(out, name);
    putOptional(out, value);
  }
  out.u32(will.publishDelaySeconds);
  out.u64(static_cast<uint64_t>(will.publishAtMs));
  return out.take();
}

Result<Will> decodeWill(BytesView value, OwnVerdict* own) {
  ByteReader in(value);
  const uint8_t version = in.u8();
  if (version < kWithoutPublishDelay || version > kVersion) in.fail();
  Will will;
  will.topic = getText(in);
  will.key = getOptional(in);
  will.storedTopic = getText(in);
  will.storedKey = getOptional(in);
  will.value = getOptional(in);
  will.guarantee = static_cast<DeliveryGuarantee>(in.u8() & 3U);
  uint8_t flags = in.u8();
  will.retain = (flags & kRetain) != 0;
  will.ephemeral = (flags & kEphemeral) != 0;
  if (own != nullptr) *own = static_cast<OwnVerdict>(flags >> kOwnShift & kOwnMask);
  will.delaySeconds = in.u32();
  will.partitionHash = in.u32();
  bool expires = in.u8() != 0;
  uint32_t expiry = in.u32();
  if (expires) will.expirySeconds = expiry;
  size_t headers = in.count(in.varuint32(), 2);
  for (size_t i = 0; i < headers && in.ok(); ++i) {
    std::string name = getText(in);
    will.headers.emplace_back(std::move(name), getOptional(in));
  }
  if (version > kWithoutPublishDelay) will.publishDelaySeconds = in.u32();
  if (version > kWithoutPublishTime) will.publishAtMs = static_cast<int64_t>(in.u64());
  if (!in.complete()) return fail(ErrorKind::kCorrupt, "a will can't be read");
  return will;
}

}  // namespace polylog::router
