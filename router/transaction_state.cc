#include "router/transaction_state.h"

#include <algorithm>

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kSmallestOffset = 16 + 1 + 4 + 8 + 4 + 8 + 1;

void putIdentity(ByteWriter& out, const ProducerIdentity& identity) {
  out.i64(identity.id);
  out.i16(identity.epoch);
}
ProducerIdentity getIdentity(ByteReader& in) {
  ProducerIdentity identity;
  identity.id = in.i64();
  identity.epoch = in.i16();
  return identity;
}

void putOffset(ByteWriter& out, const PendingOffset& pending) {
  putText(out, pending.topic);
  out.bytes({reinterpret_cast<const char*>(pending.topicId.data()), pending.topicId.size()});
  out.i32(pending.partition);
  out.i64(pending.offset.offset);
  out.i32(pending.offset.leaderEpoch);
  out.i64(pending.offset.committedMs);
  putText(out, pending.offset.metadata);
}
PendingOffset getOffset(ByteReader& in) {
  PendingOffset pending;
  pending.topic = getText(in);
  BytesView id = in.bytes(pending.topicId.size());
  std::copy(id.begin(), id.end(), pending.topicId.begin());
  pending.partition = in.i32();
  pending.offset.offset = in.i64();
  pending.offset.leaderEpoch = in.i32();
  pending.offset.committedMs = in.i64();
  pending.offset.metadata = getText(in);
  return pending;
}

}  // namespace

std::string encodeTransaction(const TransactionState& state) {
  ByteWriter out;
  out.u8(kVersion);
  putIdentity(out, state.producer);
  putIdentity(out, state.previous);
  out.i32(state.timeoutMs);
  out.u8(static_cast<uint8_t>(state.status));
  out.i64(state.changedMs);
  out.i64(state.startedMs);
  out.varuint(state.partitions.size());
  for (PartitionId partition : state.partitions) out.varuint(partition.value());
  out.varuint(state.groups.size());
  for (const PendingOffsets& group : state.groups) {
    putText(out, group.group);
    out.varuint(group.offsets.size());
    for (const PendingOffset& offset : group.offsets) putOffset(out, offset);
  }
  return out.take();
}

Result<TransactionState> decodeTransaction(BytesView id, BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  TransactionState state;
  state.producer = getIdentity(in);
  state.previous = getIdentity(in);
  state.timeoutMs = in.i32();
  uint8_t status = in.u8();
  if (status > static_cast<uint8_t>(TransactionStatus::kAborted)) in.fail();
  state.status = static_cast<TransactionStatus>(status);
  state.changedMs = in.i64();
  state.startedMs = in.i64();
  size_t partitions = in.count(in.varuint(), 1);
  for (size_t i = 0; i < partitions; ++i) state.partitions.emplace_back(in.varuint());
  size_t groups = in.count(in.varuint(), 2);
  for (size_t i = 0; i < groups && in.ok(); ++i) {
    PendingOffsets& group = state.groups.emplace_back();
    group.group = getText(in);
    size_t offsets = in.count(in.varuint(), kSmallestOffset);
    for (size_t j = 0; j < offsets && in.ok(); ++j) group.offsets.push_back(getOffset(in));
  }
  if (in.complete()) return state;
  return fail(ErrorKind::kCorrupt, "state of transaction '" + std::string(id) + "' can't be read");
}

}  // namespace polylog::router
