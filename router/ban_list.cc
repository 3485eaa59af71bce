#include "router/ban_list.h"

#include <fmt/format.h>

#include <memory>

#include "core/net/address.h"
#include "router/state_codec.h"

namespace polylog::router {
namespace {

using storage::StateChange;
using storage::StateTable;

constexpr uint8_t kVersion = 1;
constexpr size_t kMaxBans = 100'000;
/// So many of them before the broker makes none by itself: what operators ban finds room.
constexpr size_t kMaxAutomaticBans = 90'000;
constexpr size_t kMaxName = 65'535;
constexpr size_t kMaxReason = 1024;

std::string encodeKey(BanKind kind, BytesView what) {
  ByteWriter out;
  out.u8(static_cast<uint8_t>(kind));
  out.bytes(what);
  return out.take();
}

std::string encodeBan(const Ban& ban) {
  ByteWriter out;
  out.u8(kVersion);
  out.i64(ban.createdMs);
  out.i64(ban.untilMs);
  putText(out, ban.reason);
  putText(out, ban.by);
  return out.take();
}

Result<Ban> decodeBan(BytesView key, BytesView value) {
  ByteReader name(key);
  ByteReader in(value);
  Ban ban;
  const uint8_t kind = name.u8();
  ban.kind = static_cast<BanKind>(kind);
  ban.what = std::string(name.rest());
  if (in.u8() != kVersion) in.fail();
  ban.createdMs = in.i64();
  ban.untilMs = in.i64();
  ban.reason = getText(in);
  ban.by = getText(in);
  const bool known = kind <= static_cast<uint8_t>(BanKind::kAddress);
  if (!name.ok() || !known || !in.complete()) {
    return fail(ErrorKind::kCorrupt, "a ban can't be read");
  }
  return ban;
}

std::optional<IpPrefix> addressOf(const std::string& peer) {
  auto parsed = parseHostPort(peer);
  return parsed ? IpPrefix::parse(parsed->host) : std::nullopt;
}

}  // namespace

const char* nameOf(BanKind kind) {
  constexpr const char* kNames[] = {"client_id", "user", "address"};
  return kNames[static_cast<size_t>(kind)];
}

Result<std::string> banName(BanKind kind, const std::string& what) {
  if (kind == BanKind::kAddress) {
    auto prefix = IpPrefix::parse(what);
    if (prefix) return prefix->text();
    return fail(ErrorKind::kInvalid,
                "'" + what +
                    "' is no address: give one, or one with a prefix length and zeros "
                    "behind it (192.0.2.7, 10.0.0.0/8, 2001:db8::/32)");
  }
  if (what.empty() || what.size() > kMaxName) {
    return fail(ErrorKind::kInvalid, fmt::format("give the {} to ban", nameOf(kind)));
  }
  return what;
}

Result<> BanList::load() {
  Result<> result;
  core_.store.scanState(StateTable::kBan, "", [&](BytesView key, BytesView value) {
    auto ban = decodeBan(key, value);
    if (ban) {
      insert(std::move(*ban));
    } else {
      result = std::unexpected(ban.error());
    }
    return result.has_value();
  });
  return result;
}

bool BanList::runs(const Ban& ban) const {
  return ban.untilMs < 0 || core_.clock.wallMillis() < ban.untilMs;
}

void BanList::insert(Ban ban) {
  Key key{ban.kind, ban.what};
  erase(key);
  if (auto prefix = ban.kind == BanKind::kAddress ? IpPrefix::parse(ban.what) : std::nullopt) {
    addresses_[*prefix] = ban.what;
    ++lengths_[prefix->bits];
  }
  bans_[std::move(key)] = std::move(ban);
}

void BanList::erase(const Key& key) {
  if (bans_.erase(key) == 0 || key.first != BanKind::kAddress) return;
  auto prefix = IpPrefix::parse(key.second);
  if (!prefix || addresses_.erase(*prefix) == 0) return;
  if (--lengths_[prefix->bits] == 0) lengths_.erase(prefix->bits);
}

std::optional<Ban> BanList::judge(const Principal& principal) const {
  std::lock_guard hold(lock_);
  if (bans_.empty()) return std::nullopt;
  auto running = [&](BanKind kind, const std::string& what) -> const Ban* {
    auto found = bans_.find(Key{kind, what});
    return found != bans_.end() && runs(found->second) ? &found->second : nullptr;
  };
  const Ban* ban = running(BanKind::kClientId, principal.clientId);
  if (ban == nullptr && !principal.user.empty()) ban = running(BanKind::kUser, principal.user);
  if (ban != nullptr) return *ban;
  if (lengths_.empty()) return std::nullopt;
  auto address = addressOf(principal.peer);
  if (!address) return std::nullopt;  // of a Unix-domain socket
  for (const auto& [bits, count] : lengths_) {
    auto found = addresses_.find(address->shortened(bits));
    if (found == addresses_.end()) continue;
    if ((ban = running(BanKind::kAddress, found->second)) != nullptr) return *ban;
  }
  return std::nullopt;
}

std::vector<Ban> BanList::all() const {
  std::lock_guard hold(lock_);
  std::vector<Ban> out;
  for (const auto& [key, ban] : bans_) {
    if (runs(ban)) out.push_back(ban);
  }
  return out;
}

std::vector<BanList::Key> BanList::runOut() const {
  std::vector<Key> out;
  for (const auto& [key, ban] : bans_) {
    if (!runs(ban)) out.push_back(key);
  }
  return out;
}

void BanList::put(Ban ban, std::function<void(Result<>)> done) {
  auto name = banName(ban.kind, ban.what);
  if (!name) return done(std::unexpected(name.error()));
  ban.what = std::move(*name);
  ban.reason.resize(std::min(ban.reason.size(), kMaxReason));
  std::vector<StateChange> state;
  std::vector<Key> gone;
  bool full = false;
  {
    std::lock_guard hold(lock_);
    // What is on its way may be about one of them.
    if (inFlight_ == 0) gone = runOut();
    const size_t most = ban.by == kFlapping ? kMaxAutomaticBans : kMaxBans;
    full = bans_.size() - gone.size() >= most && !bans_.contains(Key{ban.kind, ban.what});
  }
  if (full) return done(fail(ErrorKind::kBusy, "there are as many bans as there may be"));
  for (const auto& [kind, what] : gone) {
    state.push_back({StateTable::kBan, encodeKey(kind, what), std::nullopt});
  }
  state.push_back({StateTable::kBan, encodeKey(ban.kind, ban.what), encodeBan(ban)});
  append(
      std::move(state),
      [this, gone = std::move(gone), ban = std::move(ban)] {
        std::lock_guard hold(lock_);
        for (const Key& key : gone) {
          auto there = bans_.find(key);
          if (there != bans_.end() && !runs(there->second)) erase(key);
        }
        insert(ban);
      },
      std::move(done));
}

void BanList::remove(BanKind kind, const std::string& what, std::function<void(Result<>)> done) {
  auto name = banName(kind, what);
  if (!name) return done(std::unexpected(name.error()));
  bool there = false;
  {
    std::lock_guard hold(lock_);
    auto at = bans_.find(Key{kind, *name});
    there = at != bans_.end() && runs(at->second);
  }
  if (!there) {
    return done(fail(ErrorKind::kNotFound,
                     fmt::format("no ban of the {} '{}'; `polylog ban list` shows those there are",
                                 nameOf(kind), *name)));
  }
  append(
      {{StateTable::kBan, encodeKey(kind, *name), std::nullopt}},
      [this, key = Key{kind, *name}] {
        std::lock_guard hold(lock_);
        erase(key);
      },
      std::move(done));
}

/// What one worker appends completes in that order.
void BanList::append(std::vector<StateChange> state, std::function<void()> apply,
                     std::function<void(Result<>)> done) {
  storage::AppendRequest request;
  request.state = std::move(state);
  request.durability = storage::Durability::kSynced;
  request.sink = &core_.workers[0]->sink;
  request.done = [this, apply = std::move(apply), done](const Result<storage::Appended>& result) {
    --inFlight_;
    if (!result) {
      ++core_.writeFailures;
      return done(std::unexpected(result.error()));
    }
    apply();
    done({});
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    return done(std::unexpected(appended.error()));
  }
  ++inFlight_;
}

}  // namespace polylog::router
