#include "router/share_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "router/queue.h"
#include "router/queue_registry.h"
#include "router/session.h"

namespace polylog::router {
namespace {

/// Where its queue keeps the position from which on records are the share's business.
constexpr const char* kSince = "since";
/// Ends a share's name in that of its queue. What follows makes it another one than an earlier
/// queue's of the same share, which may not be gone yet.
constexpr char kNameEnd = '\0';

Position sinceOf(const QueueSpec& spec) {
  for (const auto& [name, value] : spec.arguments) {
    const auto* number = std::get_if<int64_t>(&value.is);
    if (name == kSince && number != nullptr) return Position(static_cast<uint64_t>(*number));
  }
  return Position(0);
}

}  // namespace

ShareMembership::~ShareMembership() {
  table_.leave(*this);
}

void ShareMembership::sleepAs(PrincipalRef sleeper) {
  std::lock_guard lock(table_.mutex_);
  sleeper_.swap(sleeper);
}

ShareTable::~ShareTable() = default;

void ShareTable::load() {
  for (const auto& queue : core_.queues->all()) {
    const QueueSpec& spec = queue->spec();
    if (spec.kind != QueueKind::kShared) continue;
    Share& share = shares_[spec.name.substr(0, spec.name.find(kNameEnd))];
    // Of two the older one was on its way out: prune() sees to it.
    if (share.end.queue && share.end.queue->partition() > queue->partition()) continue;
    share.end.queue = queue;
    share.end.since = sinceOf(spec);
  }
}

void ShareTable::prune() {
  std::lock_guard lock(mutex_);
  std::erase_if(shares_, [](const auto& entry) { return entry.second.members.empty(); });
  for (const auto& queue : core_.queues->all()) {
    const QueueSpec& spec = queue->spec();
    if (spec.kind != QueueKind::kShared) continue;
    auto at = shares_.find(BytesView(spec.name).substr(0, spec.name.find(kNameEnd)));
    if (at == shares_.end() || at->second.end.queue != queue) core_.queues->removeQuietly(queue);
  }
}

Result<std::unique_ptr<ShareMembership>> ShareTable::join(Worker& worker, const Session& session,
                                                          const Subscription& subscription) {
  const std::string& name = subscription.text;
  std::lock_guard lock(mutex_);
  Share& share = shares_[name];
  // One whose declaration failed is out of the registry.
  bool lost = share.end.queue && core_.queues->find(share.end.queue->spec().name) == nullptr;
  if (lost) unbind(share);
  if (!share.end.queue) {
    if (Result<> made = make(worker, name, share); !made) {
      if (share.members.empty()) shares_.erase(name);
      return std::unexpected(made.error());
    }
  }
  if (share.place == nullptr) bind(share, subscription.filter);
  auto member =
      std::make_unique<ShareMembership>(*this, name, share.end.queue, session, session.sleeper());
  share.members.insert(member.get());
  return member;
}

Result<> ShareTable::make(Worker& worker, const std::string& name, Share& share) {
  if (Dispatcher::current() == nullptr) {
    return fail(ErrorKind::kBusy, "the queue of '" + name + "' can't be made before the start");
  }
  share.end.since = core_.store.durableEnd();
  QueueSpec spec;
  spec.name = name + kNameEnd + fmt::format("{:016x}", core_.random.next());
  spec.kind = QueueKind::kShared;
  spec.durable = true;
  spec.arguments.emplace_back(kSince, Value(static_cast<int64_t>(share.end.since.value())));
  std::string queue = spec.name;
  core_.queues->declare(worker, 0, std::move(spec), [](const auto&) {});
  share.end.queue = core_.queues->find(queue);
  if (share.end.queue) return {};
  return fail(ErrorKind::kBusy, "the queue of '" + name + "' can't be made");
}

void ShareTable::bind(Share& share, const TopicFilter& filter) {
  TrieEntry entry;
  entry.since = share.end.since;
  entry.binding = &share.end;
  share.place = core_.trie->add(filter, entry);
}

void ShareTable::unbind(Share& share) {
  if (share.place != nullptr) core_.trie->remove(share.place);
  share.place = nullptr;
  share.end.queue = nullptr;
}

void ShareTable::leave(const ShareMembership& member) {
  std::lock_guard lock(mutex_);
  auto at = shares_.find(member.name_);
  if (at == shares_.end()) return;
  Share& share = at->second;
  share.members.erase(&member);
  // At the end of the router nothing is left, but kept.
  if (core_.stopping.load()) return;
  std::shared_ptr<Queue> queue = share.end.queue;
  if (!share.members.empty()) {
    // What was kept for this one alone isn't any more.
    if (queue) queue->reconsider();
    return;
  }
  unbind(share);
  shares_.erase(at);
  if (queue) core_.queues->removeQuietly(std::move(queue));
}

std::vector<PrincipalRef> ShareTable::lasting(const Queue& queue) const {
  std::vector<PrincipalRef> all;
  const BytesView name = BytesView(queue.spec().name).substr(0, queue.spec().name.find(kNameEnd));
  std::lock_guard lock(mutex_);
  auto at = shares_.find(name);
  if (at == shares_.end()) return all;
  for (const ShareMembership* member : at->second.members) {
    if (member->sleeper_ != nullptr) all.push_back(member->sleeper_);
  }
  return all;
}

void ShareTable::reconsider() {
  std::lock_guard lock(mutex_);
  for (const auto& [name, share] : shares_) {
    if (share.end.queue) share.end.queue->reconsider();
  }
}

std::vector<SharedGroupInfo> ShareTable::list() const {
  std::vector<SharedGroupInfo> all;
  std::lock_guard lock(mutex_);
  all.reserve(shares_.size());
  for (const auto& [name, share] : shares_) {
    SharedGroupInfo& info = all.emplace_back();
    info.name = name;
    if (share.end.queue) {
      QueueInfo queue = share.end.queue->info();
      info.lag = queue.ready + queue.unacknowledged;
      info.inFlight = queue.unacknowledged;
    }
    for (const ShareMembership* member : share.members) {
      const Session& session = member->session_;
      info.members.push_back({session.clientId(), session.connected()});
    }
    std::ranges::sort(info.members, {}, &SharedGroupInfo::Member::clientId);
    auto twice = std::ranges::unique(info.members, {}, &SharedGroupInfo::Member::clientId);
    info.members.erase(twice.begin(), twice.end());
  }
  return all;
}

}  // namespace polylog::router
