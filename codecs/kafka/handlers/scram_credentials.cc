// DescribeUserScramCredentials and AlterUserScramCredentials: the one user store, as Kafka's tools
// see it. A user whose last credential is deleted is no user any more.
#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/wire/alter_user_scram_credentials.h"
#include "codecs/kafka/wire/describe_user_scram_credentials.h"

namespace polylog::kafka {
namespace {

constexpr const char* kNoUsers = "The broker keeps no users";
constexpr size_t kMaxSalt = 1024;

std::optional<scram::Hash> hashOf(int8_t mechanism) {
  if (mechanism != 1 && mechanism != 2) return std::nullopt;
  return static_cast<scram::Hash>(mechanism);
}

/// What one user's alterations come to: Kafka takes one of each mechanism a request.
struct Alteration {
  CallRef call;
  std::map<std::string, std::pair<int16_t, std::string>> byUser;
  std::vector<CredentialChange> changes;

  void fail(const std::string& user, Code errorCode, std::string text) {
    byUser[user] = {code(errorCode), std::move(text)};
  }
  void answer() {
    wire::AlterUserScramCredentialsResponse response;
    for (const auto& [user, outcome] : byUser) {
      auto& result = response.results.emplace_back();
      result.user = user;
      result.errorCode = outcome.first;
      if (outcome.first != 0) result.errorMessage = outcome.second;
    }
    call->answer(response);
  }
};

template <class Upsertion>
std::optional<std::string> unacceptable(const Upsertion& from, scram::Hash hash) {
  if (from.iterations < static_cast<int32_t>(scram::kMinIterations)) return "Too few iterations";
  if (from.iterations > static_cast<int32_t>(scram::kMaxIterations)) return "Too many iterations";
  if (from.salt.empty() || from.salt.size() > kMaxSalt) return "The salt has 1 to 1024 octets";
  if (from.saltedPassword.size() != scram::sizeOf(hash)) {
    return "The salted password is not of the mechanism's size";
  }
  return std::nullopt;
}

void gather(const wire::AlterUserScramCredentialsRequest& request, Alteration& out) {
  std::set<std::pair<std::string, int8_t>> seen;
  auto begin = [&](BytesView name, int8_t mechanism) -> std::optional<scram::Hash> {
    std::string user = owned(name);
    out.byUser.try_emplace(user);
    auto hash = hashOf(mechanism);
    if (!hash) {
      out.fail(user, Code::kUnsupportedSaslMechanism, "Unknown SCRAM mechanism");
    } else if (!seen.emplace(user, mechanism).second) {
      out.fail(user, Code::kDuplicateResource, "A user credential cannot be altered twice");
    }
    return hash;
  };
  for (const auto& from : request.deletions) {
    if (auto hash = begin(from.name, from.mechanism)) {
      out.changes.push_back({owned(from.name), *hash, std::nullopt});
    }
  }
  for (const auto& from : request.upsertions) {
    auto hash = begin(from.name, from.mechanism);
    if (!hash) continue;
    if (auto why = unacceptable(from, *hash)) {
      out.fail(owned(from.name), Code::kUnacceptableCredential, *why);
      continue;
    }
    out.changes.push_back({owned(from.name), *hash,
                           scram::credentialOf(*hash, from.saltedPassword, owned(from.salt),
                                               static_cast<uint32_t>(from.iterations))});
  }
  std::erase_if(out.changes,
                [&](const CredentialChange& c) { return out.byUser[c.user].first != 0; });
}

}  // namespace

void handleAlterUserScramCredentials(const CallRef& call,
                                     wire::AlterUserScramCredentialsRequest&& request) {
  auto alteration = std::make_shared<Alteration>();
  alteration->call = call;
  gather(request, *alteration);
  AccessControl* access = call->options().access;
  if (access == nullptr) {
    for (auto& [user, outcome] : alteration->byUser) {
      outcome = {code(Code::kSecurityDisabled), kNoUsers};
    }
    return alteration->answer();
  }
  std::vector<CredentialChange> changes = alteration->changes;
  access->alterCredentials(
      call->principal(), std::move(changes),
      [alteration](const Result<std::vector<Result<>>>& results) {
        for (size_t i = 0; i < alteration->changes.size(); ++i) {
          const std::string& user = alteration->changes[i].user;
          const Result<> result =
              results ? (*results)[i] : Result<>(std::unexpected(results.error()));
          if (result) continue;
          bool missing = result.error().kind == ErrorKind::kNotFound;
          alteration->byUser[user] = {
              missing ? code(Code::kResourceNotFound) : code(result.error(), Area::kCluster),
              result.error().text};
        }
        if (!results) {
          for (auto& [user, outcome] : alteration->byUser) {
            outcome = {code(results.error(), Area::kCluster), results.error().text};
          }
        }
        alteration->answer();
      });
}

void handleDescribeUserScramCredentials(const CallRef& call,
                                        wire::DescribeUserScramCredentialsRequest&& request) {
  wire::DescribeUserScramCredentialsResponse response;
  AccessControl* access = call->options().access;
  if (access == nullptr) {
    response.errorCode = code(Code::kSecurityDisabled);
    response.errorMessage = kNoUsers;
    return call->answer(response);
  }
  auto users = access->users(call->principal());
  if (!users) {
    response.errorCode = code(users.error(), Area::kCluster);
    response.errorMessage = users.error().text;
    return call->answer(response);
  }
  auto describe = [&](const UserInfo& user) {
    auto& result = response.results.emplace_back();
    result.user = user.name;
    for (const auto& [hash, iterations] : user.credentials) {
      result.credentialInfos.push_back(
          {static_cast<int8_t>(hash), static_cast<int32_t>(iterations)});
    }
  };
  if (!request.users || request.users->empty()) {
    for (const UserInfo& user : *users) describe(user);
    return call->answer(response);
  }
  std::map<BytesView, int> asked;
  for (const auto& user : *request.users) ++asked[user.name];
  for (const auto& [name, times] : asked) {
    auto found = std::ranges::find(*users, name, &UserInfo::name);
    if (times == 1 && found != users->end()) {
      describe(*found);
      continue;
    }
    auto& result = response.results.emplace_back();
    result.user = name;
    result.errorCode = code(times > 1 ? Code::kDuplicateResource : Code::kResourceNotFound);
    result.errorMessage = times > 1 ? "Cannot describe SCRAM credentials for the same user twice"
                                    : "Attempt to describe a user credential that does not exist";
  }
  call->answer(response);
}

}  // namespace polylog::kafka
