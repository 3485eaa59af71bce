#include "codecs/mqtt/bridge_options.h"

#include <fmt/format.h>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"

namespace polylog::mqtt {
namespace {

constexpr uint8_t kFormat = 2;

}  // namespace

std::string BridgeOptions::sessionId() const {
  return std::string(kBridgeSessions) + name;
}

std::string BridgeRecord::encode() const {
  ByteWriter out;
  out.u8(kFormat);
  out.u8(static_cast<uint8_t>((cleaned ? 1U : 0U) | (afresh ? 2U : 0U) | (forgetting ? 4U : 0U) |
                              (connecting ? 8U : 0U)));
  out.varuint(life);
  out.bytes32(clientId);
  out.varuint(localFilters.size());
  for (const std::string& filter : localFilters) out.bytes32(filter);
  out.varuint(remoteFilters.size());
  for (const auto& [filter, qos] : remoteFilters) {
    out.u8(qos);
    out.bytes32(filter);
  }
  return out.take();
}

Result<BridgeRecord> BridgeRecord::decode(BytesView octets) {
  ByteReader in(octets);
  BridgeRecord record;
  if (in.u8() != kFormat) in.fail();
  const uint8_t flags = in.u8();
  record.cleaned = (flags & 1U) != 0;
  record.afresh = (flags & 2U) != 0;
  record.forgetting = (flags & 4U) != 0;
  record.connecting = (flags & 8U) != 0;
  record.life = in.varuint();
  record.clientId = std::string(in.bytes32());
  for (size_t left = in.count(in.varuint(), 4); left > 0; --left) {
    record.localFilters.emplace_back(in.bytes32());
  }
  for (size_t left = in.count(in.varuint(), 5); left > 0; --left) {
    const uint8_t qos = in.u8();
    record.remoteFilters.emplace_back(std::string(in.bytes32()), qos);
  }
  if (in.complete()) return record;
  return fail(ErrorKind::kCorrupt, "state of a bridge can't be read");
}

Result<> BridgeMemory::load() {
  auto stored = store.find(name);
  if (!stored) return {};
  auto decoded = BridgeRecord::decode(*stored);
  if (!decoded) return std::unexpected(decoded.error());
  record = *std::move(decoded);
  unsure = record.connecting;
  return {};
}

void BridgeMemory::keep(BridgeRecord next, Done<Result<>> done) {
  std::string octets = next.encode();
  store.store(name, std::move(octets),
              [this, next = std::move(next), done = std::move(done)](Result<> result) mutable {
                if (result) record = std::move(next);
                done(std::move(result));
              });
}

}  // namespace polylog::mqtt
