// Who may do what: users with their credentials, and rules over canonical names, the same for every
// protocol. The model is that of Apache Kafka's ACLs, with filters over whole addresses beside it.
// The router implements AccessControl; docs/security.md tells people about it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/base/scram.h"
#include "core/model/principal.h"
#include "core/model/record.h"

namespace polylog {

/// The octets are on disk: never renumber.
enum class Operation : uint8_t {
  kRead = 0,   ///< fetch, subscribe, consume, look at
  kWrite = 1,  ///< publish, produce
  kCreate = 2,
  kDelete = 3,    ///< a topic's records too
  kAlter = 4,     ///< a topic's number of partitions; of the cluster: users and rules
  kDescribe = 5,  ///< list, see
  kJoin = 6,      ///< take part in a group, commit its offsets. Rules say kRead for it
  kAll = 7,       ///< rules only
  kDescribeConfigs = 8,
  kAlterConfigs = 9,
  kClusterAction = 10,
  kIdempotentWrite = 11,
};

/// The octets are on disk: never renumber.
enum class ResourceKind : uint8_t {
  kTopic = 0,
  kGroup = 1,
  kSession = 2,
  kCluster = 3,
  kQueue = 4,
  kExchange = 5,
  kTransaction = 6,  ///< a transactional id
};

/// How a rule names what it is about. The octets are on disk: never renumber.
enum class PatternKind : uint8_t {
  kLiteral = 0,   ///< that name; "*" is every name
  kPrefixed = 1,  ///< names that begin with it
  /// Topics only: addresses (topic, or topic/key) that the filter matches, in MQTT's syntax. A
  /// level may hold %c (the client id) and %u (the user).
  kFilter = 2,
};

/// The one cluster's name.
inline constexpr const char* kClusterName = "kafka-cluster";
/// The name that rules know clients by who didn't log in.
inline constexpr const char* kAnonymousUser = "ANONYMOUS";

struct AccessRule {
  bool allow = true;
  std::string user;        ///< "*" = everybody
  std::string host = "*";  ///< the peer's IP address
  ResourceKind kind = ResourceKind::kTopic;
  PatternKind pattern = PatternKind::kLiteral;
  std::string name;
  Operation operation = Operation::kAll;
  bool operator==(const AccessRule&) const = default;
};

struct UserInfo {
  std::string name;
  int64_t createdMs = 0;
  std::vector<std::pair<scram::Hash, uint32_t>> credentials;  ///< with their iterations
};

/// Kafka's AlterUserScramCredentials: one user's credential of one mechanism.
struct CredentialChange {
  std::string user;
  scram::Hash hash = scram::Hash::kSha256;
  std::optional<scram::Credential> put;  ///< nothing: it goes
};

enum class PasswordChange : uint8_t { kNewUser, kExistingUser };

/// Every call on a worker; `done` as of Broker: later, on that worker, once the change is durable
/// and in force. All but permits() need rights on the cluster (kDescribe to see, kAlter to change;
/// kUnauthorized).
class AccessControl {
 public:
  virtual ~AccessControl() = default;

  /// Once there are some, nobody administers the broker without being one.
  virtual bool anyUsers() const = 0;
  virtual Result<std::vector<UserInfo>> users(const PrincipalRef& principal) = 0;
  /// Derives credentials of both mechanisms. kAlreadyExists, kNotFound, kInvalid, kBusy.
  virtual void setPassword(const PrincipalRef& principal, std::string user, std::string password,
                           PasswordChange how, Done<Result<>> done) = 0;
  /// One result a change, all that succeed in one entry. kNotFound, kInvalid.
  virtual void alterCredentials(const PrincipalRef& principal,
                                std::vector<CredentialChange> changes,
                                Done<Result<std::vector<Result<>>>> done) = 0;
  /// Its connections are closed. kNotFound.
  virtual void deleteUser(const PrincipalRef& principal, std::string user, Done<Result<>> done) = 0;

  virtual Result<std::vector<AccessRule>> rules(const PrincipalRef& principal) = 0;
  /// One result a rule; one that is there already succeeds. kInvalid, kBusy (too many).
  virtual void addRules(const PrincipalRef& principal, std::vector<AccessRule> rules,
                        Done<Result<std::vector<Result<>>>> done) = 0;
  /// Exactly these; those that are not there are passed over.
  virtual void removeRules(const PrincipalRef& principal, std::vector<AccessRule> rules,
                           Done<Result<>> done) = 0;

  /// Whether the principal may; `name` is canonical.
  virtual bool permits(const PrincipalRef& principal, Operation operation, ResourceKind kind,
                       BytesView name) const = 0;
};

}  // namespace polylog
