// /api/users and /api/acls: who there is, and who may do what.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/json_value.h"
#include "core/model/access.h"
#include "server/access_words.h"
#include "server/api.h"
#include "server/json.h"

namespace polylog::server {
namespace {

void describeUser(Json& json, const UserInfo& user) {
  json.object([&] {
    json.field("name", user.name);
    json.field("created_ms", user.createdMs);
    std::string mechanisms;
    for (const auto& [hash, iterations] : user.credentials) {
      if (!mechanisms.empty()) mechanisms += ", ";
      mechanisms += fmt::format("{} ({})", scram::mechanismName(hash), iterations);
    }
    json.field("credentials", mechanisms);
  });
}

void describeRule(Json& json, const AccessRule& rule) {
  json.object([&] {
    json.field("permission", rule.allow ? "allow" : "deny");
    json.field("user", rule.user);
    json.field("host", rule.host);
    json.field("operation", nameOf(rule.operation));
    json.field("resource", nameOf(rule.kind));
    json.field("pattern", nameOf(rule.pattern));
    json.field("name", rule.name);
  });
}

/// The body's "password".
std::optional<std::string> passwordIn(const std::string& body) {
  auto document = JsonValue::parse(body);
  const JsonValue* password = document ? document->find("password") : nullptr;
  if (password == nullptr || password->text() == nullptr) return std::nullopt;
  return *password->text();
}

Error noSecurity() {
  return {ErrorKind::kUnsupported, "this listener has no users and rules"};
}

}  // namespace

void Api::handleUsers(Call call) {
  if (access_ == nullptr) return call.reply.error(noSecurity());
  const size_t depth = call.path.size();
  if (call.method == "GET" && depth <= 3) return listUsers(std::move(call));
  bool password = depth == 4 && call.path[3] == "password";
  if (call.method == "POST" && (depth == 3 || password)) {
    auto text = passwordIn(call.body);
    if (!text) {
      return call.reply.error({ErrorKind::kInvalid, "give a body {\"password\": \"...\"}"});
    }
    std::string name = call.path[2];
    return access_->setPassword(
        principal_, name, std::move(*text),
        password ? PasswordChange::kExistingUser : PasswordChange::kNewUser,
        acknowledged(std::move(call.reply), password ? 200 : 201, notFound("user", name)));
  }
  if (call.method == "DELETE" && depth == 3) {
    return deleteUser(std::move(call));
  }
  call.reply.error({ErrorKind::kInvalid,
                    "use GET on /api/users, GET, POST or DELETE on /api/users/NAME, POST on "
                    "/api/users/NAME/password"});
}

/// Tells how many rules name the user, and with rules=1 removes them too: once the user is gone, so
/// that none who is there does what a rule had denied.
void Api::deleteUser(Call call) {
  const std::string name = call.path[2];
  auto rules = access_->rules(principal_);
  if (!rules) return call.reply.error(rules.error());
  std::erase_if(*rules, [&](const AccessRule& rule) { return rule.user != name; });
  const auto count = static_cast<int64_t>(rules->size());
  const bool remove = call.query["rules"] == "1" && count > 0;
  auto tell = [count](Reply& reply) {
    Json json;
    json.object([&] { json.field("rules", count); });
    reply.json(200, json.text());
  };
  access_->deleteUser(
      principal_, name,
      [this, name, reply = std::move(call.reply), rules = std::move(*rules), remove,
       tell](Result<> deleted) mutable {
        // Gone before, its rules left behind: those can be removed all the same.
        const bool onlyRules = remove && !deleted && deleted.error().kind == ErrorKind::kNotFound;
        if (!deleted && !onlyRules) {
          return reply.error(deleted.error().kind == ErrorKind::kNotFound ? notFound("user", name)
                                                                          : deleted.error());
        }
        if (!remove) return tell(reply);
        access_->removeRules(principal_, std::move(rules),
                             [reply = std::move(reply), tell](Result<> removed) mutable {
                               if (!removed) return reply.error(removed.error());
                               tell(reply);
                             });
      });
}

void Api::listUsers(Call call) {
  auto users = access_->users(principal_);
  if (!users) return call.reply.error(users.error());
  Json json;
  if (call.path.size() == 3) {
    auto found = std::ranges::find(*users, call.path[2], &UserInfo::name);
    if (found == users->end()) {
      return call.reply.error(notFound("user", call.path[2]));
    }
    describeUser(json, *found);
    return call.reply.json(200, json.text());
  }
  json.object([&] {
    json.name("users");
    json.array([&] {
      for (const UserInfo& user : *users) describeUser(json, user);
    });
  });
  call.reply.json(200, json.text());
}

void Api::handleRules(Call call) {
  if (access_ == nullptr) return call.reply.error(noSecurity());
  if (call.method == "GET") {
    auto rules = access_->rules(principal_);
    if (!rules) return call.reply.error(rules.error());
    Json json;
    json.object([&] {
      json.name("acls");
      json.array([&] {
        for (const AccessRule& rule : *rules) describeRule(json, rule);
      });
    });
    return call.reply.json(200, json.text());
  }
  if (call.method != "POST" && call.method != "DELETE") {
    return call.reply.error({ErrorKind::kInvalid, "use GET, POST or DELETE on /api/acls"});
  }
  auto rule = ruleFromQuery(call.query);
  if (!rule) return call.reply.error(rule.error());
  if (call.method == "POST") {
    return access_->addRules(
        principal_, {std::move(*rule)},
        [reply = std::move(call.reply)](Result<std::vector<Result<>>> results) mutable {
          if (!results) return reply.error(results.error());
          if (!results->front()) return reply.error(results->front().error());
          reply.json(201, "{}");
        });
  }
  auto rules = access_->rules(principal_);
  if (!rules) return call.reply.error(rules.error());
  if (std::ranges::find(*rules, *rule) == rules->end()) {
    return call.reply.error(
        {ErrorKind::kNotFound, "there is no such rule; `polylog acl list` shows those there are"});
  }
  access_->removeRules(principal_, {std::move(*rule)}, acknowledged(std::move(call.reply)));
}

}  // namespace polylog::server
