// GroupCoordinator's groups whose partitions the broker assigns: their heartbeats, what becomes of
// a group when members of the other protocol come or are left, and what is set for single groups.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/log.h"
#include "router/catalogue.h"
#include "router/group_parts.h"

namespace polylog::router {

// ---------------------------------------------------------------- surroundings

void GroupCoordinator::Host::journal(std::vector<storage::StateChange> changes,
                                     std::move_only_function<void(Result<>)> done) {
  for (const auto& change : changes) {
    if (change.table != storage::StateTable::kGroup || !change.value) continue;
    if (auto at = owned_.groups.find(change.key); at != owned_.groups.end()) {
      at->second.journaled = true;
    }
  }
  core_.groups->journalAll(owned_, std::move(changes), std::move(done));
}

uint64_t GroupCoordinator::Host::topicsVersion() const {
  return core_.catalogue->version();
}

TopicRef GroupCoordinator::Host::findTopic(const std::string& name) const {
  return core_.catalogue->find(name);
}

TopicRef GroupCoordinator::Host::findTopic(const TopicId& id) const {
  return core_.catalogue->find(id);
}

std::vector<TopicRef> GroupCoordinator::Host::topicsFor(const PrincipalRef& who) const {
  std::vector<TopicRef> all = core_.catalogue->all();
  std::erase_if(all, [&](const TopicRef& topic) {
    return !core_.authorizer.permits(who, Operation::kDescribe,
                                     {ResourceKind::kTopic, topic->name});
  });
  return all;
}

ConsumerTimeouts GroupCoordinator::Host::timeoutsOf(const std::string& group) const {
  const GroupDefaults& defaults = core_.options.groupDefaults;
  auto at = owned_.configs.find(group);
  GroupConfig own = at == owned_.configs.end() ? GroupConfig{} : at->second;
  return {own.sessionTimeoutMs.value_or(defaults.sessionTimeoutMs),
          own.heartbeatIntervalMs.value_or(defaults.heartbeatIntervalMs)};
}

const ConsumerFormat& GroupCoordinator::Host::format() const {
  return core_.options.consumerFormat;
}

void GroupCoordinator::Host::onlyClassicLeft(const std::string& group) {
  worker_.later([this, group] { core_.groups->downgrade(owned_, group); });
}

// ---------------------------------------------------------------- heartbeats

void GroupCoordinator::consumerHeartbeat(const PrincipalRef& who, ConsumerHeartbeat beat,
                                         Done<Result<ConsumerHeartbeatAnswer>> done) {
  std::string name = beat.group;
  onOwner(name, [this, who, beat = std::move(beat),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    auto group = consumersFor(owned, beat);
    if (!group) return done(std::unexpected(group.error()));
    (*group)->beat(who, std::move(beat), std::move(done));
    forgetIfNew(owned, (*group)->name());
  });
}

/// The group of the heartbeat, made or changed into one whose partitions the broker assigns if need
/// be.
Result<std::shared_ptr<ConsumerGroup>> GroupCoordinator::consumersFor(
    Owned& owned, const ConsumerHeartbeat& beat) {
  Entry* entry = find(owned, beat.group);
  if (entry != nullptr && entry->group->kind() == GroupKind::kConsumer) {
    return std::static_pointer_cast<ConsumerGroup>(entry->group);
  }
  bool share = entry != nullptr && entry->group->kind() == GroupKind::kShare;
  if (beat.epoch != ConsumerHeartbeat::kJoins || share) {
    if (entry == nullptr) return noGroup(beat.group);
    return fail(ErrorKind::kNotFound, "group '" + beat.group + "' is not a consumer group");
  }
  auto fresh = std::make_shared<ConsumerGroup>(owned.host, limits_, beat.group);
  if (Result<> ok = fresh->check(beat); !ok) return std::unexpected(ok.error());
  if (entry == nullptr) {
    auto made = findOrMake(owned, beat.group);
    if (!made) return std::unexpected(made.error());
    entry = *made;
  }
  if (Result<> ok = upgrade(*entry, *fresh); !ok) return std::unexpected(ok.error());
  return std::static_pointer_cast<ConsumerGroup>(entry->group = std::move(fresh));
}

/// As Kafka's group.consumer.migration.policy `bidirectional`: the members of a classic group of
/// consumers stay in it, and go on in their protocol.
Result<> GroupCoordinator::upgrade(Entry& entry, ConsumerGroup& fresh) {
  const std::string& name = entry.group->name();
  auto& classic = static_cast<Group&>(*entry.group);
  std::vector<ClassicMember> members = classic.members();
  if (!members.empty()) {
    if (classic.protocolType() != "consumer") {
      return fail(ErrorKind::kNotFound, "group '" + name + "' is no group of consumers");
    }
    if (members.size() >= limits_.maxMembers) {
      return fail(ErrorKind::kBusy, "group '" + name + "' has as many members as are allowed");
    }
    if (Result<> adopted = fresh.adopt(classic.generation(), members); !adopted) {
      return fail(ErrorKind::kNotFound, adopted.error().text);
    }
    fresh.resume();
    logInfo("group '" + name + "' is a consumer group from now on");
  }
  classic.die({ErrorKind::kRebalanceInProgress, "group '" + name + "' is rebalancing"});
  return {};
}

/// Once the last member of the consumer protocol has gone: the others go on as a classic group.
void GroupCoordinator::downgrade(Owned& owned, const std::string& group) {
  Entry* entry = find(owned, group);
  if (entry == nullptr || entry->group->kind() != GroupKind::kConsumer) return;
  auto old = std::static_pointer_cast<ConsumerGroup>(entry->group);
  if (!old->onlyClassic()) return;
  auto fresh = std::make_shared<Group>(owned.host, limits_, group);
  fresh->adopt(old->epoch(), old->classicMembers());
  std::vector<storage::StateChange> changes;
  changes.push_back({storage::StateTable::kGroup, group, encodeGroup(fresh->snapshot())});
  old->addDeletion(changes);
  owned.host.journal(std::move(changes), [group](const Result<>& result) {
    if (!result) {
      logWarning("group '" + group +
                 "' can't be journaled as a classic one: " + result.error().text);
    }
  });
  old->die(unknownGroup(group));
  entry->group = fresh;
  fresh->resume();
  fresh->rebalance();
  logInfo("group '" + group + "' is a classic group from now on");
}

/// For members of the classic protocol: an empty group is of whichever kind its next member wants.
void GroupCoordinator::makeClassicIfEmpty(Owned& owned, Entry& entry) {
  if (entry.group->kind() != GroupKind::kConsumer || entry.group->hasMembers()) return;
  std::string name = entry.group->name();
  entry.group->die(unknownGroup(name));
  entry.group = std::make_shared<Group>(owned.host, limits_, name);
}

// ---------------------------------------------------------------- configurations

Result<> GroupCoordinator::loadConfigs() {
  Result<> result;
  core_.store.scanState(storage::StateTable::kGroupConfig, "", [&](BytesView key, BytesView value) {
    auto config = decodeGroupConfig(key, value);
    if (!config) {
      result = std::unexpected(config.error());
      return false;
    }
    std::string name(key);
    ownerOf(name).configs[name] = *config;
    return true;
  });
  return result;
}

void GroupCoordinator::config(std::string group, Done<Result<GroupConfig>> done) {
  std::string name = group;
  onOwner(name, [group = std::move(group), done = backHere(std::move(done))](Owned& owned) mutable {
    auto at = owned.configs.find(group);
    done(at == owned.configs.end() ? GroupConfig{} : at->second);
  });
}

void GroupCoordinator::alterConfig(std::string group, Broker::GroupConfigChange change,
                                   Done<Result<>> done) {
  std::string name = group;
  onOwner(name, [this, group = std::move(group), change = std::move(change),
                 done = backHere(std::move(done))](Owned& owned) mutable {
    alterConfigHere(owned, group, std::move(change), std::move(done));
  });
}

/// In force at once, and told as durable when it is; what fails is taken back.
void GroupCoordinator::alterConfigHere(Owned& owned, const std::string& group,
                                       Broker::GroupConfigChange change, Done<Result<>> done) {
  auto at = owned.configs.find(group);
  GroupConfig before = at == owned.configs.end() ? GroupConfig{} : at->second;
  GroupConfig after = before;
  if (Result<> ok = change(after); !ok) return done(std::unexpected(ok.error()));
  if (after == before) return done({});
  if (group.empty() || group.size() > UINT16_MAX) {
    return done(fail(ErrorKind::kInvalid, "a group's name has 1 to 65,535 octets"));
  }
  if (at == owned.configs.end() && owned.configs.size() >= core_.options.maxGroups) {
    return done(fail(ErrorKind::kBusy, "as many groups are configured as are allowed"));
  }
  auto put = [this, &owned, group](const GroupConfig& config) {
    if (config.empty()) {
      owned.configs.erase(group);
    } else {
      owned.configs[group] = config;
    }
    if (auto shares = findShares(owned, group)) (*shares)->lookAgain();
  };
  put(after);
  std::optional<std::string> value;
  if (!after.empty()) value = encodeGroupConfig(after);
  journalAll(owned, {{storage::StateTable::kGroupConfig, group, std::move(value)}},
             [&owned, group, put, before, after, done = std::move(done)](Result<> result) mutable {
               // Unless another change has come since, which will stand or fall by itself.
               auto now = owned.configs.find(group);
               bool mine = (now == owned.configs.end() ? GroupConfig{} : now->second) == after;
               if (!result && mine) put(before);
               done(std::move(result));
             });
}

void GroupCoordinator::configured(Done<std::vector<std::string>> done) {
  struct Gather {
    std::mutex mutex;
    std::vector<std::string> names;
    size_t left = 0;
    Done<std::vector<std::string>> done;
  };
  auto gather = std::make_shared<Gather>();
  gather->left = owned_.size();
  gather->done = backHere(std::move(done));
  for (auto& owned : owned_) {
    owned->worker.post([gather, &configs = owned->configs] {
      std::lock_guard lock(gather->mutex);
      for (const auto& [name, config] : configs) gather->names.push_back(name);
      if (--gather->left > 0) return;
      std::ranges::sort(gather->names);
      gather->done(std::move(gather->names));
    });
  }
}

}  // namespace polylog::router
