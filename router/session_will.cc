// Session's will. Of a session that outlives its connection it is journaled, in the entry that the
// client's CONNACK waits for, until the entry that publishes it or takes it back: a crash of the
// broker loses connections, and their wills are published after it, when they fall due.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "router/publisher.h"
#include "router/session.h"
#include "router/shared_lane.h"
#include "router/will_codec.h"

namespace polylog::router {
namespace {

constexpr int64_t kMicros = 1'000'000;
/// Canonical name of the property "expiry" (docs/mapping.md).
constexpr BytesView kExpiryHeader = "expiry";

std::optional<BytesView> viewOf(const std::optional<std::string>& text) {
  return text ? std::optional<BytesView>(*text) : std::nullopt;
}

}  // namespace

void Session::adoptWill(std::optional<Will> will, const PrincipalRef& by) {
  if (!will && !aside_->will) return;
  Aside& aside = aside_.write();
  aside.will = will ? std::make_unique<Will>(std::move(*will)) : nullptr;
  aside.willBy = aside.will ? by : nullptr;
}

void Session::setWill(std::optional<Will> will) {
  if (!will && !aside_->will) return;
  storage::AppendRequest request;
  if (persistent()) journalWill(will, live_->principal, request);
  adoptWill(std::move(will), live_->principal);
  // Nobody waits for it, but the less time passes the better.
  request.durability = storage::Durability::kSynced;
  if (!request.state.empty()) (void)core_.store.append(std::move(request));
}

void Session::journalWill(const std::optional<Will>& will, const PrincipalRef& by,
                          storage::AppendRequest& request) {
  if (!will && !aside_->willJournaled) return;
  aside_.write().willJournaled = will.has_value();
  std::optional<std::string> value;
  if (will) {
    const Resource named{ResourceKind::kTopic, will->topic,
                         Address{will->topic, viewOf(will->key)}};
    value = encodeWill(*will, core_.authorizer.ownVerdict(by, Operation::kWrite, named));
  }
  request.state.push_back(
      {storage::StateTable::kWill, inboxKey(inbox_->partition()), std::move(value)});
}

void Session::restoreWill(Will will, OwnVerdict own) {
  Aside& aside = aside_.write();
  aside.willBy = nameOnly(rightsRemembered(own));
  aside.willAt = disconnectedAt_ + int64_t{will.delaySeconds} * kMicros;
  aside.will = std::make_unique<Will>(std::move(will));
  aside.willJournaled = true;
  scheduleDeadline();
}

/// A crash between the two logins' words would have the will go by the earlier one.
void Session::loginRenewed(std::move_only_function<void(Result<>)> done) {
  if (aside_->shared) aside_->shared->reconsider();
  auto shared = std::make_shared<std::move_only_function<void(Result<>)>>(std::move(done));
  auto later = [this, shared](Result<> result) {
    home().later([shared, result] { (*shared)(result); });
  };
  if (!persistent() || !aside_->will) return later({});
  storage::AppendRequest request;
  journalWill(*aside_->will, aside_->willBy, request);
  request.durability = storage::Durability::kSynced;
  request.sink = &home().sink;
  request.done = [&core = core_, shared](const Result<storage::Appended>& result) {
    if (result) return (*shared)({});
    ++core.writeFailures;
    (*shared)(std::unexpected(result.error()));
  };
  if (auto appended = core_.store.append(std::move(request)); !appended) {
    later(std::unexpected(appended.error()));
  }
}

PrincipalRef Session::sleeper() const {
  if (!persistent()) return nullptr;
  return nameOnly(live_ ? live_->principal->rights : nullptr);
}

PrincipalRef Session::nameOnly(LoginRightsRef rights) const {
  auto made = std::make_shared<Principal>();
  made->user = user_;
  made->clientId = clientId_;
  made->protocol = Protocol::kMqtt;
  made->rights = std::move(rights);
  return made;
}

void Session::publishWill() {
  if (!aside_->will) return;
  Aside& aside = aside_.write();
  aside.willAt = -1;
  Will will = std::move(*std::exchange(aside.will, nullptr));
  PrincipalRef principal = std::exchange(aside.willBy, nullptr);
  std::string expiry;
  const int64_t now = core_.clock.wallMillis();
  int64_t publishAt = will.publishAtMs;
  if (will.publishDelaySeconds > 0) publishAt = now + int64_t{will.publishDelaySeconds} * 1000;
  if (publishAt <= now) publishAt = 0;
  Publish publish;
  Record& record = publish.record;
  record.key = viewOf(will.key);
  record.value = viewOf(will.value);
  for (const auto& [name, value] : will.headers) record.headers.push_back({name, viewOf(value)});
  if (will.expirySeconds) {
    expiry = std::to_string(std::max(now, publishAt) + int64_t{*will.expirySeconds} * 1000);
    record.headers.push_back({kExpiryHeader, BytesView(expiry)});
  }
  record.guarantee = will.guarantee;
  record.retain = will.retain;
  publish.address = {will.topic, record.key};
  publish.topic = will.topic;
  if (!will.storedTopic.empty()) {
    publish.topic = will.storedTopic;
    record.key = viewOf(will.storedKey);
  }
  publish.ephemeral = will.ephemeral;
  publish.partitionHash = will.partitionHash;
  publish.publishAtMs = publishAt;
  storage::AppendRequest with;  // of which the state counts
  if (persistent()) journalWill(std::nullopt, nullptr, with);
  core_.publisher->publish(principal, nullptr, {&publish, 1}, nullptr, std::move(with.state));
}

void Session::connectionReplaced(bool resumes) {
  if (!resumes || !aside_->will || aside_->will->delaySeconds == 0) return publishWill();
  aside_.write().will = nullptr;
  aside_.write().willBy = nullptr;
  aside_.write().willAt = -1;
}

}  // namespace polylog::router
