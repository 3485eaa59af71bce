#include "router/access_store.h"

#include <algorithm>
#include <utility>

#include "router/access_rules.h"
#include "router/login_service.h"
#include "router/share_table.h"

namespace polylog::router {
namespace {

using storage::StateTable;

constexpr size_t kMaxName = 255;
constexpr size_t kMaxRuleName = 4096;
constexpr size_t kMaxPassword = 1024;

bool isPrintable(BytesView text) {
  return std::ranges::all_of(text, [](char c) {
    auto octet = static_cast<unsigned char>(c);
    return octet >= 0x20 && octet != 0x7f;
  });
}

}  // namespace

Result<> checkUserName(BytesView name) {
  if (name.empty() || name.size() > kMaxName || !isPrintable(name)) {
    return fail(ErrorKind::kInvalid, "a user's name has 1 to 255 octets and no control characters");
  }
  if (name == "*" || name == kAnonymousUser) {
    return fail(ErrorKind::kInvalid,
                "no user can be called '" + std::string(name) + "': rules mean others by it");
  }
  return {};
}

Result<> checkRule(const AccessRule& rule) {
  if (rule.user.empty() || rule.user.size() > kMaxName) {
    return fail(ErrorKind::kInvalid, "a rule is about a user, or * for everybody");
  }
  if (rule.host.empty() || rule.host.size() > kMaxName) {
    return fail(ErrorKind::kInvalid, "a rule's host is an IP address, or * for any");
  }
  if (rule.name.size() > kMaxRuleName) return fail(ErrorKind::kInvalid, "the name is too long");
  bool filter = rule.pattern == PatternKind::kFilter;
  if (filter && (rule.kind != ResourceKind::kTopic || rule.name.empty())) {
    return fail(ErrorKind::kInvalid, "filters are about topics, and not empty");
  }
  if (rule.kind == ResourceKind::kCluster && rule.name != kClusterName && rule.name != "*") {
    return fail(ErrorKind::kInvalid, "the cluster's name is kafka-cluster, which may be left out");
  }
  if (!filter) return {};
  const TopicFilter parsed = parseRuleFilter(rule.name);
  for (const FilterLevel& level : parsed.levels) {
    bool last = &level == &parsed.levels.back();
    bool wild = level.text.find_first_of("+#") != std::string::npos;
    if (wild || (level.kind == FilterLevel::Kind::kRest && !last)) {
      return fail(ErrorKind::kInvalid, "in a filter + stands alone in its level, # at the end");
    }
  }
  return {};
}

Result<> AccessStore::load() {
  std::optional<Error> error;
  core_.store.scanState(StateTable::kUser, {}, [&](BytesView key, BytesView value) {
    auto state = decodeUser(key, value);
    if (!state) {
      error = state.error();
      return false;
    }
    users_.emplace(std::string(key), std::make_shared<const User>(std::move(*state)));
    return true;
  });
  if (error) return std::unexpected(*error);
  core_.store.scanState(StateTable::kAccessRule, {}, [&](BytesView key, BytesView value) {
    auto rule = decodeAccessRule(key, value);
    if (!rule) {
      error = rule.error();
      return false;
    }
    rules_.push_back(std::move(*rule));
    return true;
  });
  // Rather no start than one without a rule that denies.
  if (error) return std::unexpected(*error);
  refreshRules();
  return {};
}

UserRef AccessStore::user(const std::string& name) const {
  std::lock_guard hold(lock_);
  auto found = users_.find(name);
  return found == users_.end() ? nullptr : found->second;
}

bool AccessStore::anyUsers() const {
  std::lock_guard hold(lock_);
  return !users_.empty();
}

void AccessStore::refreshRules() {
  std::shared_ptr<const RuleSet> set;
  {
    std::lock_guard hold(lock_);
    RuleSet::Settings settings;
    settings.denyByDefault = core_.options.access.denyByDefault;
    settings.superusers = core_.options.access.superusers;
    settings.anyUsers = !users_.empty();
    set = std::make_shared<const RuleSet>(rules_, std::move(settings));
  }
  core_.authorizer.use(std::move(set));
  if (core_.shares) core_.shares->reconsider();
}

/// What is durable is in force when its rules are.
void AccessStore::enqueue(std::function<Result<Prepared>()> prepare, Done<Result<>> done) {
  auto whole = [this, prepare = std::move(prepare)]() -> Result<ChangeQueue::Prepared> {
    Result<Prepared> prepared = prepare();
    if (!prepared) return std::unexpected(prepared.error());
    return ChangeQueue::Prepared{std::move(prepared->state),
                                 [this, apply = std::move(prepared->apply)](Task inForce) {
                                   apply();
                                   refreshRules();
                                   inForce();
                                 }};
  };
  changes_.add(std::move(whole), std::move(done));
}

template <class T>
void AccessStore::refuse(Done<Result<T>> done, Error error) {
  core_.here().later([done = std::move(done), error = std::move(error)]() mutable {
    done(std::unexpected(std::move(error)));
  });
}

// ---------------------------------------------------------------- users

Result<> AccessStore::mayAlter(const PrincipalRef& principal) const {
  const Resource cluster{ResourceKind::kCluster, kClusterName};
  if (core_.authorizer.permits(principal, Operation::kAlter, cluster)) return {};
  return std::unexpected(notPermitted(cluster));
}

Result<std::vector<UserInfo>> AccessStore::users(const PrincipalRef& principal) {
  const Resource cluster{ResourceKind::kCluster, kClusterName};
  if (!core_.authorizer.permits(principal, Operation::kDescribe, cluster)) {
    return std::unexpected(notPermitted(cluster));
  }
  std::vector<UserInfo> all;
  {
    std::lock_guard hold(lock_);
    for (const auto& [name, user] : users_) {
      UserInfo& info = all.emplace_back();
      info.name = name;
      info.createdMs = user->state.createdMs;
      for (const scram::Credential& credential : user->state.credentials) {
        info.credentials.emplace_back(credential.hash, credential.iterations);
      }
    }
  }
  std::ranges::sort(all, {}, &UserInfo::name);
  return all;
}

Result<AccessStore::Prepared> AccessStore::putUser(const std::string& name, UserState state,
                                                   bool isNew) {
  if (isNew) {
    std::lock_guard hold(lock_);
    if (users_.size() >= core_.options.access.maxUsers) {
      return fail(ErrorKind::kBusy, "there are as many users as there may be");
    }
  }
  Prepared out;
  out.state.push_back({StateTable::kUser, name, encodeUser(state)});
  out.apply = [this, name, user = std::make_shared<const User>(std::move(state))] {
    std::lock_guard hold(lock_);
    users_[name] = user;
  };
  return out;
}

void AccessStore::setPassword(const PrincipalRef& principal, std::string user, std::string password,
                              PasswordChange how, Done<Result<>> done) {
  if (auto ok = mayAlter(principal); !ok) return refuse(std::move(done), ok.error());
  if (auto ok = checkUserName(user); !ok) return refuse(std::move(done), ok.error());
  if (password.empty() || password.size() > kMaxPassword) {
    return refuse(std::move(done), {ErrorKind::kInvalid, "a password has 1 to 1024 octets"});
  }
  core_.logins->derive(
      std::move(password), [this, user = std::move(user), how, done = std::move(done)](
                               Result<std::vector<scram::Credential>> derived) mutable {
        if (!derived) return done(std::unexpected(derived.error()));
        auto prepare = [this, user, how, derived = std::move(*derived)]() -> Result<Prepared> {
          UserRef there = this->user(user);
          if (how == PasswordChange::kNewUser && there) {
            return fail(ErrorKind::kAlreadyExists, "there is a user '" + user + "' already");
          }
          if (how == PasswordChange::kExistingUser && !there) {
            return fail(ErrorKind::kNotFound, "there is no user '" + user + "'");
          }
          UserState state;
          state.createdMs = there ? there->state.createdMs : core_.clock.wallMillis();
          state.credentials = derived;
          return putUser(user, std::move(state), !there);
        };
        enqueue(std::move(prepare), std::move(done));
      });
}

void AccessStore::deleteUser(const PrincipalRef& principal, std::string user, Done<Result<>> done) {
  if (auto ok = mayAlter(principal); !ok) return refuse(std::move(done), ok.error());
  auto prepare = [this, user]() -> Result<Prepared> {
    if (!this->user(user)) return fail(ErrorKind::kNotFound, "there is no user '" + user + "'");
    Prepared out;
    out.state.push_back({StateTable::kUser, user, std::nullopt});
    out.apply = [this, user] {
      {
        std::lock_guard hold(lock_);
        users_.erase(user);
      }
      core_.logins->revoke(user);
    };
    return out;
  };
  enqueue(std::move(prepare), std::move(done));
}

void AccessStore::alterCredentials(const PrincipalRef& principal,
                                   std::vector<CredentialChange> changes,
                                   Done<Result<std::vector<Result<>>>> done) {
  if (auto ok = mayAlter(principal); !ok) return refuse(std::move(done), ok.error());
  auto results = std::make_shared<std::vector<Result<>>>(changes.size());
  auto prepare = [this, results, changes = std::move(changes)]() -> Result<Prepared> {
    std::unordered_map<std::string, UserState> after;
    for (size_t i = 0; i < changes.size(); ++i) {
      const CredentialChange& change = changes[i];
      Result<>& result = (*results)[i];
      if (result = checkUserName(change.user); !result) continue;
      auto [at, fresh] = after.try_emplace(change.user);
      UserState& state = at->second;
      if (fresh) {
        UserRef there = user(change.user);
        if (there) state = there->state;
        if (!there) state.createdMs = core_.clock.wallMillis();
      }
      size_t gone = std::erase_if(
          state.credentials, [&](const scram::Credential& c) { return c.hash == change.hash; });
      if (change.put) state.credentials.push_back(*change.put);
      if (!change.put && gone == 0) {
        result = fail(ErrorKind::kNotFound, "there is no such credential of '" + change.user + "'");
      }
    }
    Prepared out;
    std::vector<std::function<void()>> applies;
    for (auto& [name, state] : after) {
      UserRef there = user(name);
      if ((there ? there->state.credentials : std::vector<scram::Credential>{}) ==
          state.credentials) {
        continue;
      }
      if (state.credentials.empty()) {
        out.state.push_back({StateTable::kUser, name, std::nullopt});
        applies.emplace_back([this, user = name] {
          {
            std::lock_guard hold(lock_);
            users_.erase(user);
          }
          core_.logins->revoke(user);
        });
        continue;
      }
      auto one = putUser(name, std::move(state), !there);
      if (!one) return std::unexpected(one.error());
      out.state.push_back(std::move(one->state.front()));
      applies.push_back(std::move(one->apply));
    }
    out.apply = [applies = std::move(applies)] {
      for (const auto& apply : applies) apply();
    };
    return out;
  };
  enqueue(std::move(prepare), [results, done = std::move(done)](Result<> result) mutable {
    if (!result) return done(std::unexpected(result.error()));
    done(std::move(*results));
  });
}

// ---------------------------------------------------------------- rules

Result<std::vector<AccessRule>> AccessStore::rules(const PrincipalRef& principal) {
  const Resource cluster{ResourceKind::kCluster, kClusterName};
  if (!core_.authorizer.permits(principal, Operation::kDescribe, cluster)) {
    return std::unexpected(notPermitted(cluster));
  }
  std::lock_guard hold(lock_);
  return rules_;
}

void AccessStore::addRules(const PrincipalRef& principal, std::vector<AccessRule> rules,
                           Done<Result<std::vector<Result<>>>> done) {
  if (auto ok = mayAlter(principal); !ok) return refuse(std::move(done), ok.error());
  auto results = std::make_shared<std::vector<Result<>>>(rules.size());
  auto prepare = [this, results, rules = std::move(rules)]() -> Result<Prepared> {
    Prepared out;
    std::vector<AccessRule> fresh;
    std::lock_guard hold(lock_);
    for (size_t i = 0; i < rules.size(); ++i) {
      const AccessRule& rule = rules[i];
      if ((*results)[i] = checkRule(rule); !(*results)[i]) continue;
      if (std::ranges::find(rules_, rule) != rules_.end() ||
          std::ranges::find(fresh, rule) != fresh.end()) {
        continue;
      }
      if (rules_.size() + fresh.size() >= core_.options.access.maxRules) {
        (*results)[i] = fail(ErrorKind::kBusy, "there are as many rules as there may be");
        continue;
      }
      out.state.push_back({StateTable::kAccessRule, accessRuleKey(rule), encodeAccessRule()});
      fresh.push_back(rule);
    }
    out.apply = [this, fresh = std::move(fresh)] {
      std::lock_guard held(lock_);
      rules_.insert(rules_.end(), fresh.begin(), fresh.end());
    };
    return out;
  };
  enqueue(std::move(prepare), [results, done = std::move(done)](Result<> result) mutable {
    if (!result) return done(std::unexpected(result.error()));
    done(std::move(*results));
  });
}

void AccessStore::removeRules(const PrincipalRef& principal, std::vector<AccessRule> rules,
                              Done<Result<>> done) {
  if (auto ok = mayAlter(principal); !ok) return refuse(std::move(done), ok.error());
  auto prepare = [this, rules = std::move(rules)]() -> Result<Prepared> {
    Prepared out;
    std::vector<AccessRule> gone;
    std::lock_guard hold(lock_);
    for (const AccessRule& rule : rules) {
      if (std::ranges::find(rules_, rule) == rules_.end()) continue;
      out.state.push_back({StateTable::kAccessRule, accessRuleKey(rule), std::nullopt});
      gone.push_back(rule);
    }
    out.apply = [this, gone = std::move(gone)] {
      std::lock_guard held(lock_);
      std::erase_if(rules_, [&](const AccessRule& rule) {
        return std::ranges::find(gone, rule) != gone.end();
      });
    };
    return out;
  };
  enqueue(std::move(prepare), std::move(done));
}

}  // namespace polylog::router
