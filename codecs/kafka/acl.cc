#include "codecs/kafka/acl.h"

#include <utility>

#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

constexpr int8_t kAny = 1;
constexpr int8_t kMatch = 2, kLiteral = 3, kPrefixed = 4;
constexpr int8_t kDeny = 2, kAllow = 3;
constexpr BytesView kUser = "User:";

constexpr std::pair<ResourceKind, int8_t> kKinds[] = {{ResourceKind::kTopic, 2},
                                                      {ResourceKind::kGroup, 3},
                                                      {ResourceKind::kCluster, 4},
                                                      {ResourceKind::kTransaction, 5}};
constexpr std::pair<Operation, int8_t> kOperations[] = {{Operation::kAll, 2},
                                                        {Operation::kRead, 3},
                                                        {Operation::kWrite, 4},
                                                        {Operation::kCreate, 5},
                                                        {Operation::kDelete, 6},
                                                        {Operation::kAlter, 7},
                                                        {Operation::kDescribe, 8},
                                                        {Operation::kClusterAction, 9},
                                                        {Operation::kDescribeConfigs, 10},
                                                        {Operation::kAlterConfigs, 11},
                                                        {Operation::kIdempotentWrite, 12}};
constexpr int8_t kLastResource = 7, kLastOperation = 15;

template <class Table, class Value>
auto right(const Table& table, Value left) -> std::optional<int8_t> {
  for (const auto& [a, b] : table) {
    if (a == left) return b;
  }
  return std::nullopt;
}

template <class T, size_t N>
std::optional<T> left(const std::pair<T, int8_t> (&table)[N], int8_t wanted) {
  for (const auto& [a, b] : table) {
    if (b == wanted) return a;
  }
  return std::nullopt;
}

}  // namespace

Result<AccessRule> ruleOf(const Acl& acl) {
  AccessRule rule;
  auto kind = left(kKinds, acl.resourceType);
  if (!kind) return fail(ErrorKind::kInvalid, "there are no rules about resources of this type");
  auto operation = left(kOperations, acl.operation);
  if (!operation) return fail(ErrorKind::kInvalid, "there are no rules about this operation");
  if (acl.patternType != kLiteral && acl.patternType != kPrefixed) {
    return fail(ErrorKind::kInvalid, "a rule's pattern is literal or prefixed");
  }
  if (acl.permissionType != kAllow && acl.permissionType != kDeny) {
    return fail(ErrorKind::kInvalid, "a rule allows or denies");
  }
  if (!acl.principal.starts_with(kUser) || acl.principal.size() == kUser.size()) {
    return fail(ErrorKind::kInvalid, "a principal is written User:NAME");
  }
  if (acl.host.empty() || acl.resourceName.empty()) {
    return fail(ErrorKind::kInvalid, "neither host nor resource may be empty");
  }
  rule.allow = acl.permissionType == kAllow;
  rule.user = acl.principal.substr(kUser.size());
  rule.host = acl.host;
  rule.kind = *kind;
  rule.pattern = acl.patternType == kPrefixed ? PatternKind::kPrefixed : PatternKind::kLiteral;
  rule.operation = *operation;
  rule.name = acl.resourceName;
  if (rule.kind == ResourceKind::kTopic && rule.pattern == PatternKind::kLiteral) {
    std::string scratch;
    if (auto canonical = mapping::topicFromKafka(acl.resourceName, scratch)) rule.name = *canonical;
  }
  return rule;
}

std::optional<Acl> aclOf(const AccessRule& rule) {
  auto type = right(kKinds, rule.kind);
  auto operation = right(kOperations, rule.operation);
  if (!type || !operation || rule.pattern == PatternKind::kFilter) return std::nullopt;
  Acl acl;
  acl.resourceType = *type;
  acl.resourceName = rule.name;
  bool literal = rule.pattern == PatternKind::kLiteral;
  if (rule.kind == ResourceKind::kTopic && literal && rule.name != "*") {
    acl.resourceName.clear();
    if (!mapping::appendKafkaTopic(rule.name, acl.resourceName)) return std::nullopt;
  }
  acl.patternType = literal ? kLiteral : kPrefixed;
  acl.principal = std::string(kUser) + rule.user;
  acl.host = rule.host;
  acl.operation = *operation;
  acl.permissionType = rule.allow ? kAllow : kDeny;
  return acl;
}

std::span<const Operation> operationsOf(ResourceKind kind) {
  using enum Operation;
  static constexpr Operation kOfTopics[] = {kRead,  kWrite,    kCreate,          kDelete,
                                            kAlter, kDescribe, kDescribeConfigs, kAlterConfigs};
  static constexpr Operation kOfGroups[] = {kRead, kDelete, kDescribe, kDescribeConfigs,
                                            kAlterConfigs};
  static constexpr Operation kOfTheCluster[] = {kCreate,         kAlter,           kDescribe,
                                                kClusterAction,  kDescribeConfigs, kAlterConfigs,
                                                kIdempotentWrite};
  switch (kind) {
    case ResourceKind::kTopic: return kOfTopics;
    case ResourceKind::kGroup: return kOfGroups;
    case ResourceKind::kCluster: return kOfTheCluster;
    default: return {};
  }
}

int8_t aclOperation(Operation operation) {
  return right(kOperations, operation).value_or(0);
}

bool sound(const AclFilter& filter) {
  return filter.resourceType >= kAny && filter.resourceType <= kLastResource &&
         filter.patternType >= kAny && filter.patternType <= kPrefixed &&
         filter.operation >= kAny && filter.operation <= kLastOperation &&
         filter.permissionType >= kAny && filter.permissionType <= kAllow;
}

bool matches(const AclFilter& filter, const Acl& acl) {
  auto is = [](int8_t wanted, int8_t there) { return wanted == kAny || wanted == there; };
  if (!is(filter.resourceType, acl.resourceType) || !is(filter.operation, acl.operation) ||
      !is(filter.permissionType, acl.permissionType)) {
    return false;
  }
  if (filter.principal && *filter.principal != acl.principal) return false;
  if (filter.host && *filter.host != acl.host) return false;
  if (filter.patternType == kLiteral || filter.patternType == kPrefixed) {
    if (filter.patternType != acl.patternType) return false;
  }
  if (!filter.resourceName) return true;
  if (filter.patternType != kMatch) return *filter.resourceName == acl.resourceName;
  // Whatever would be about a resource of that name.
  if (acl.patternType == kPrefixed) return filter.resourceName->starts_with(acl.resourceName);
  return *filter.resourceName == acl.resourceName || acl.resourceName == "*";
}

}  // namespace polylog::kafka
