// DescribeAcls, CreateAcls and DeleteAcls: the access rules that Kafka has words for.
#include "codecs/kafka/acl.h"

#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "codecs/kafka/wire/create_acls.h"
#include "codecs/kafka/wire/delete_acls.h"
#include "codecs/kafka/wire/describe_acls.h"

namespace polylog::kafka {
namespace {

constexpr const char* kNoRules = "No Authorizer is configured on the broker";
constexpr const char* kBadFilter = "The filter has a value that is not known";

template <class Filter>
AclFilter filterOf(const Filter& from) {
  return {from.resourceType, from.resourceName, from.patternType,   from.principal,
          from.host,         from.operation,    from.permissionType};
}

int16_t codeOf(const Error& error) {
  return code(error, Area::kCluster);
}

/// Rules that Kafka has words for, as it has them.
std::vector<std::pair<AccessRule, Acl>> visible(std::vector<AccessRule> rules) {
  std::vector<std::pair<AccessRule, Acl>> out;
  for (AccessRule& rule : rules) {
    if (auto acl = aclOf(rule)) out.emplace_back(std::move(rule), std::move(*acl));
  }
  return out;
}

}  // namespace

void handleDescribeAcls(const CallRef& call, wire::DescribeAclsRequest&& request) {
  wire::DescribeAclsResponse response;
  auto refuse = [&](int16_t errorCode, BytesView text) {
    response.errorCode = errorCode;
    response.errorMessage = text;
    call->answer(response);
  };
  AccessControl* access = call->options().access;
  if (access == nullptr) return refuse(code(Code::kSecurityDisabled), kNoRules);
  const AclFilter filter = filterOf(request);
  if (!sound(filter)) return refuse(code(Code::kInvalidRequest), kBadFilter);
  auto rules = access->rules(call->principal());
  if (!rules) return refuse(codeOf(rules.error()), rules.error().text);
  const auto all = visible(std::move(*rules));
  using Key = std::tuple<int8_t, int8_t, BytesView>;
  std::map<Key, std::vector<const Acl*>> byResource;
  for (const auto& [rule, acl] : all) {
    if (!matches(filter, acl)) continue;
    byResource[{acl.resourceType, acl.patternType, acl.resourceName}].push_back(&acl);
  }
  for (const auto& [key, acls] : byResource) {
    auto& resource = response.resources.emplace_back();
    std::tie(resource.resourceType, resource.patternType, resource.resourceName) = key;
    for (const Acl* acl : acls) {
      auto& out = resource.acls.emplace_back();
      out.principal = acl->principal;
      out.host = acl->host;
      out.operation = acl->operation;
      out.permissionType = acl->permissionType;
    }
  }
  call->answer(response);
}

void handleCreateAcls(const CallRef& call, wire::CreateAclsRequest&& request) {
  struct Creation {
    CallRef call;
    std::vector<Result<>> results;
    std::vector<size_t> asked;  ///< where in `results` each rule's belongs
    void answer() {
      wire::CreateAclsResponse response;
      response.results.resize(results.size());
      for (size_t i = 0; i < results.size(); ++i) {
        if (results[i]) continue;
        response.results[i].errorCode = codeOf(results[i].error());
        response.results[i].errorMessage = results[i].error().text;
      }
      call->answer(response);
    }
  };
  auto creation = std::make_shared<Creation>();
  creation->call = call;
  creation->results.resize(request.creations.size());
  AccessControl* access = call->options().access;
  if (access == nullptr) {
    wire::CreateAclsResponse response;
    response.results.resize(request.creations.size());
    for (auto& result : response.results) {
      result.errorCode = code(Code::kSecurityDisabled);
      result.errorMessage = kNoRules;
    }
    return call->answer(response);
  }
  std::vector<AccessRule> rules;
  for (size_t i = 0; i < request.creations.size(); ++i) {
    const auto& from = request.creations[i];
    auto rule =
        ruleOf({from.resourceType, owned(from.resourceName), from.patternType,
                owned(from.principal), owned(from.host), from.operation, from.permissionType});
    if (!rule) {
      creation->results[i] = std::unexpected(rule.error());
      continue;
    }
    rules.push_back(std::move(*rule));
    creation->asked.push_back(i);
  }
  access->addRules(call->principal(), std::move(rules),
                   [creation](const Result<std::vector<Result<>>>& results) {
                     for (size_t i = 0; i < creation->asked.size(); ++i) {
                       creation->results[creation->asked[i]] =
                           results ? (*results)[i] : Result<>(std::unexpected(results.error()));
                     }
                     creation->answer();
                   });
}

void handleDeleteAcls(const CallRef& call, wire::DeleteAclsRequest&& request) {
  struct Deletion {
    CallRef call;
    std::vector<std::vector<Acl>> found;
    std::vector<Error> errors;  ///< of each filter; empty text = none
    std::vector<int16_t> codes;
  };
  auto deletion = std::make_shared<Deletion>();
  deletion->call = call;
  deletion->found.resize(request.filters.size());
  deletion->codes.resize(request.filters.size());
  deletion->errors.resize(request.filters.size());
  auto answer = [deletion](const Result<>& result) {
    wire::DeleteAclsResponse response;
    for (size_t i = 0; i < deletion->found.size(); ++i) {
      auto& out = response.filterResults.emplace_back();
      out.errorCode = result ? deletion->codes[i] : codeOf(result.error());
      if (out.errorCode != 0) {
        out.errorMessage = result ? deletion->errors[i].text : result.error().text;
        continue;
      }
      for (const Acl& acl : deletion->found[i]) {
        auto& match = out.matchingAcls.emplace_back();
        match.resourceType = acl.resourceType;
        match.resourceName = acl.resourceName;
        match.patternType = acl.patternType;
        match.principal = acl.principal;
        match.host = acl.host;
        match.operation = acl.operation;
        match.permissionType = acl.permissionType;
      }
    }
    deletion->call->answer(response);
  };
  AccessControl* access = call->options().access;
  if (access == nullptr) {
    deletion->codes.assign(deletion->codes.size(), code(Code::kSecurityDisabled));
    for (Error& error : deletion->errors) error.text = kNoRules;
    return answer({});
  }
  auto rules = access->rules(call->principal());
  if (!rules) return answer(std::unexpected(rules.error()));
  const auto all = visible(std::move(*rules));
  std::vector<AccessRule> gone;
  for (size_t i = 0; i < request.filters.size(); ++i) {
    const AclFilter filter = filterOf(request.filters[i]);
    if (!sound(filter)) {
      deletion->codes[i] = code(Code::kInvalidRequest);
      deletion->errors[i].text = kBadFilter;
      continue;
    }
    for (const auto& [rule, acl] : all) {
      if (!matches(filter, acl)) continue;
      deletion->found[i].push_back(acl);
      gone.push_back(rule);
    }
  }
  access->removeRules(call->principal(), std::move(gone), answer);
}

}  // namespace polylog::kafka
