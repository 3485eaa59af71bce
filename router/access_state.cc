#include "router/access_state.h"

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

constexpr uint8_t kVersion = 1;

}  // namespace

std::string encodeUser(const UserState& state) {
  ByteWriter out;
  out.u8(kVersion);
  out.i64(state.createdMs);
  out.u8(static_cast<uint8_t>(state.credentials.size()));
  for (const scram::Credential& credential : state.credentials) {
    out.u8(static_cast<uint8_t>(credential.hash));
    out.u32(credential.iterations);
    putText(out, credential.salt);
    putText(out, credential.storedKey);
    putText(out, credential.serverKey);
  }
  return out.take();
}

Result<UserState> decodeUser(BytesView name, BytesView value) {
  ByteReader in(value);
  if (in.u8() != kVersion) in.fail();
  UserState state;
  state.createdMs = in.i64();
  size_t count = in.u8();
  for (size_t i = 0; i < count && in.ok(); ++i) {
    scram::Credential& credential = state.credentials.emplace_back();
    uint8_t hash = in.u8();
    if (hash != 1 && hash != 2) in.fail();
    credential.hash = static_cast<scram::Hash>(hash);
    credential.iterations = in.u32();
    credential.salt = getText(in);
    credential.storedKey = getText(in);
    credential.serverKey = getText(in);
  }
  if (!in.complete()) {
    return fail(ErrorKind::kCorrupt, "state of user '" + std::string(name) + "' can't be read");
  }
  return state;
}

std::string accessRuleKey(const AccessRule& rule) {
  ByteWriter out;
  out.u8(rule.allow ? 1 : 0);
  out.u8(static_cast<uint8_t>(rule.kind));
  out.u8(static_cast<uint8_t>(rule.pattern));
  out.u8(static_cast<uint8_t>(rule.operation));
  putText(out, rule.name);
  putText(out, rule.user);
  putText(out, rule.host);
  return out.take();
}

std::string encodeAccessRule() {
  ByteWriter out;
  out.u8(kVersion);
  return out.take();
}

Result<AccessRule> decodeAccessRule(BytesView key, BytesView value) {
  ByteReader in(key);
  AccessRule rule;
  rule.allow = in.u8() != 0;
  rule.kind = static_cast<ResourceKind>(in.u8());
  rule.pattern = static_cast<PatternKind>(in.u8());
  rule.operation = static_cast<Operation>(in.u8());
  rule.name = getText(in);
  rule.user = getText(in);
  rule.host = getText(in);
  bool known = rule.kind <= ResourceKind::kTransaction && rule.pattern <= PatternKind::kFilter &&
               rule.operation <= Operation::kIdempotentWrite;
  if (!in.complete() || !known || value.size() != 1 || value[0] != static_cast<char>(kVersion)) {
    return fail(ErrorKind::kCorrupt, "state of an access rule can't be read");
  }
  return rule;
}

}  // namespace polylog::router
