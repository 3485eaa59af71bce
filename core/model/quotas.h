// How much clients may ask of the broker: quotas for a user, a client id, both together, or whoever
// has none of their own, and for addresses that connect. The model is that of Apache Kafka's client
// quotas (KIP-546, 599, 612). The router implements QuotaControl; who measures and slows clients
// down is their protocol's session.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/done.h"
#include "core/base/error.h"
#include "core/model/principal.h"

namespace polylog {

/// The octets are on disk: never renumber.
enum class QuotaKind : uint8_t {
  kProduce = 0,     ///< octets a second
  kFetch = 1,       ///< octets a second
  kRequest = 2,     ///< of a thread's time, in percent
  kMutation = 3,    ///< partitions made or deleted, a second
  kConnection = 4,  ///< an address's connections, a second
};

/// Whom a quota is for. A part that is there and empty: everybody who has none of their own.
struct QuotaEntity {
  std::optional<std::string> user;
  std::optional<std::string> clientId;
  std::optional<std::string> ip = std::nullopt;  ///< of kConnection, with no other part
  auto operator<=>(const QuotaEntity&) const = default;
};

struct QuotaChange {
  QuotaEntity entity;
  QuotaKind kind = QuotaKind::kProduce;
  std::optional<double> value;  ///< nothing: it goes
};

/// Immutable.
class QuotaSet {
 public:
  using Values = std::map<QuotaKind, double>;

  struct Match {
    double limit = 0;
    /// Who shares the limit: the parts that the quota tells clients apart by.
    QuotaEntity shared;
  };

  bool empty() const { return quotas.empty(); }
  /// The quota that counts for a client: the most specific one, a user's before a client id's.
  std::optional<Match> find(QuotaKind kind, const std::string& user,
                            const std::string& clientId) const;
  /// How fast an address may connect.
  std::optional<Match> findAddress(const std::string& ip) const;

  std::map<QuotaEntity, Values> quotas;
};

/// Each by itself: kInvalid unless it is of an entity and a value that there may be.
Result<> checkQuotas(const std::vector<QuotaChange>& changes);

/// Every call but current() on a worker; `done` later, on that worker, once the change is durable
/// and in force. The rights are those to see and to alter the cluster's configuration
/// (kUnauthorized).
class QuotaControl {
 public:
  virtual ~QuotaControl() = default;
  virtual Result<std::shared_ptr<const QuotaSet>> quotas(const PrincipalRef& principal) = 0;
  /// Whether the principal may alter them.
  virtual Result<> mayAlter(const PrincipalRef& principal) const = 0;
  /// All or none. kInvalid, kBusy (too many).
  virtual void alterQuotas(const PrincipalRef& principal, std::vector<QuotaChange> changes,
                           Done<Result<>> done) = 0;
  /// What is in force, for measuring by. Never null; any thread.
  virtual std::shared_ptr<const QuotaSet> current() const = 0;
};

}  // namespace polylog
