#include "server/access_words.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <utility>

namespace polylog::server {
namespace {

constexpr std::pair<Operation, const char*> kOperations[] = {
    {Operation::kAll, "all"},
    {Operation::kRead, "read"},
    {Operation::kWrite, "write"},
    {Operation::kCreate, "create"},
    {Operation::kDelete, "delete"},
    {Operation::kAlter, "alter"},
    {Operation::kDescribe, "describe"},
    {Operation::kDescribeConfigs, "describe-configs"},
    {Operation::kAlterConfigs, "alter-configs"},
    {Operation::kClusterAction, "cluster-action"},
    {Operation::kIdempotentWrite, "idempotent-write"}};
constexpr std::pair<ResourceKind, const char*> kKinds[] = {
    {ResourceKind::kTopic, "topic"},
    {ResourceKind::kGroup, "group"},
    {ResourceKind::kCluster, "cluster"},
    {ResourceKind::kQueue, "queue"},
    {ResourceKind::kExchange, "exchange"},
    {ResourceKind::kSession, "session"},
    {ResourceKind::kTransaction, "transactional-id"}};
constexpr std::pair<PatternKind, const char*> kPatterns[] = {{PatternKind::kLiteral, "literal"},
                                                             {PatternKind::kPrefixed, "prefixed"},
                                                             {PatternKind::kFilter, "filter"}};

template <class T, size_t N>
const char* wordOf(const std::pair<T, const char*> (&table)[N], T value) {
  for (const auto& [each, word] : table) {
    if (each == value) return word;
  }
  return "?";
}

template <class T, size_t N>
std::vector<std::string> words(const std::pair<T, const char*> (&table)[N]) {
  std::vector<std::string> out;
  for (const auto& [each, word] : table) out.emplace_back(word);
  return out;
}

template <class T, size_t N>
Result<T> valueOf(const std::pair<T, const char*> (&table)[N], const char* what,
                  const std::string& text) {
  for (const auto& [each, word] : table) {
    if (text == word) return each;
  }
  return fail(ErrorKind::kInvalid,
              fmt::format("{} `{}`: use one of {}", what, text, fmt::join(words(table), ", ")));
}

}  // namespace

const char* nameOf(Operation operation) {
  return wordOf(kOperations, operation);
}
const char* nameOf(ResourceKind kind) {
  return wordOf(kKinds, kind);
}
const char* nameOf(PatternKind pattern) {
  return wordOf(kPatterns, pattern);
}

std::vector<std::string> operationNames() {
  return words(kOperations);
}
std::vector<std::string> resourceNames() {
  return words(kKinds);
}
std::vector<std::string> patternNames() {
  return words(kPatterns);
}

Result<AccessRule> ruleFromQuery(const std::map<std::string, std::string>& query) {
  auto get = [&](const char* key, const char* otherwise) {
    auto found = query.find(key);
    return found == query.end() ? std::string(otherwise) : found->second;
  };
  for (const auto& [key, value] : query) {
    bool known = key == "permission" || key == "user" || key == "host" || key == "operation" ||
                 key == "resource" || key == "pattern" || key == "name";
    if (!known) return fail(ErrorKind::kInvalid, "a rule has no " + key);
  }
  AccessRule rule;
  const std::string permission = get("permission", "");
  if (permission != "allow" && permission != "deny") {
    return fail(ErrorKind::kInvalid, "permission is allow or deny");
  }
  rule.allow = permission == "allow";
  rule.user = get("user", "");
  rule.host = get("host", "*");
  auto operation = valueOf(kOperations, "operation", get("operation", "all"));
  if (!operation) return std::unexpected(operation.error());
  auto kind = valueOf(kKinds, "resource", get("resource", "topic"));
  if (!kind) return std::unexpected(kind.error());
  auto pattern = valueOf(kPatterns, "pattern", get("pattern", "literal"));
  if (!pattern) return std::unexpected(pattern.error());
  rule.operation = *operation;
  rule.kind = *kind;
  rule.pattern = *pattern;
  rule.name = get("name", rule.kind == ResourceKind::kCluster ? kClusterName : "");
  if (rule.user.empty()) return fail(ErrorKind::kInvalid, "user is missing: a name, or *");
  if (rule.name.empty()) {
    return fail(ErrorKind::kInvalid,
                fmt::format("name is missing: the {}'s, or * for every one", nameOf(rule.kind)));
  }
  return rule;
}

}  // namespace polylog::server
