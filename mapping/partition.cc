#include "mapping/partition.h"

namespace polylog::mapping {

int32_t murmur2(BytesView bytes) {
  constexpr uint32_t kSeed = 0x9747B28C;
  constexpr uint32_t kFactor = 0x5BD1E995;
  auto octet = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])); };

  auto hash = kSeed ^ static_cast<uint32_t>(bytes.size());
  size_t words = bytes.size() / 4;
  for (size_t w = 0; w < words; ++w) {
    size_t i = w * 4;
    uint32_t k = octet(i) | octet(i + 1) << 8 | octet(i + 2) << 16 | octet(i + 3) << 24;
    k *= kFactor;
    k ^= k >> 24;
    k *= kFactor;
    hash *= kFactor;
    hash ^= k;
  }
  size_t tail = words * 4;
  size_t left = bytes.size() - tail;
  if (left >= 3) hash ^= octet(tail + 2) << 16;
  if (left >= 2) hash ^= octet(tail + 1) << 8;
  if (left >= 1) {
    hash ^= octet(tail);
    hash *= kFactor;
  }
  hash ^= hash >> 13;
  hash *= kFactor;
  hash ^= hash >> 15;
  return static_cast<int32_t>(hash);
}

uint32_t partitionHash(const std::optional<BytesView>& key, BytesView publisherIdentity) {
  return static_cast<uint32_t>(murmur2(key ? *key : publisherIdentity)) & 0x7FFFFFFFU;
}

}  // namespace polylog::mapping
