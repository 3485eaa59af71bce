// The management API of the admin listener: /api/topics, /api/groups, /api/sessions,
// /api/queues, /api/exchanges, /api/users, /api/acls, /api/clients, /api/bans, /api/traces,
// /api/bridges, /api/quotas, /api/client_metrics, /api/topic_defaults, and records by HTTP for the
// `produce` and `consume` verbs. Each handler turns a Call into Broker calls and the Broker's
// answers into JSON. A worker's thread only.
#pragma once

#include <cstddef>
#include <memory>
#include <set>
#include <string>

#include "core/model/broker.h"
#include "server/http.h"

namespace polylog {
class AccessControl;
class ClientMetricsControl;
class Clients;
class DynamicDefaults;
class QuotaControl;
namespace mqtt {
class Tracer;
}
class Dispatcher;
}  // namespace polylog

namespace polylog::server {

/// kInvalid, with the remedy, for names that no topic can have.
Result<> checkTopicName(const std::string& name);
/// kNotFound: `what` is the noun of the verb that lists those there are.
Error notFound(const char* what, const std::string& name);

struct AdminSecurity;
class Bridges;
struct Reading;

class Api {
 public:
  /// Of what `security` has not, nothing can be seen.
  Api(Broker& broker, const AdminSecurity& security, Dispatcher& dispatcher);
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  /// Answers, now or later.
  void handle(Call call);
  /// Answers with all metrics in Prometheus's text format.
  void metrics(Reply reply);
  /// Lets all go that waits for records, unanswered. On the worker, before the listener is gone.
  void stop() {
    waiting_.clear();
    queues_ = nullptr;
  }
  /// The largest body taken: the largest record in base64, and room for its headers.
  size_t maxBody() const;

 private:
  void handleGroups(Call call);
  void listGroups(Call call);
  void handleSessions(Call call);
  void listSessions(Call call);
  void describeGroup(Call call);
  // api_topics.cc
  void handleTopics(Call call);
  void handleTopic(Call call);
  void createTopic(Call call);
  void describeTopic(Call call);
  // api_topic_defaults.cc
  void handleTopicDefaults(Call call);
  void alterTopicDefaults(Call call);
  // api_records.cc
  void produce(Call call);
  void consume(Call call);
  void finish(const std::weak_ptr<Reading>& waiting);
  // api_queues.cc
  QueueClient& queues();
  void handleQueues(Call call);
  void createQueue(Call call);
  void handleExchanges(Call call);
  void createExchange(Call call);

  // api_access.cc
  void handleUsers(Call call);
  void listUsers(Call call);
  void deleteUser(Call call);
  void handleRules(Call call);

  // api_clients.cc
  void handleClients(Call call);
  void listClients(Call call);
  void listSlow(Call call);
  void handleBans(Call call);
  // api_bridges.cc
  void handleBridges(Call call);
  // api_traces.cc
  void handleTraces(Call call);
  // api_quotas.cc
  void handleQuotas(Call call);
  void handleClientMetrics(Call call);

  Broker& broker_;
  AccessControl* access_;
  Clients* clients_;
  mqtt::Tracer* tracer_;
  const Bridges* bridges_;
  QuotaControl* quotas_;
  ClientMetricsControl* clientMetrics_;
  DynamicDefaults* topicDefaults_;
  Dispatcher& dispatcher_;
  PrincipalRef principal_;
  std::unique_ptr<QueueClient> queues_;
  std::set<std::shared_ptr<Reading>> waiting_;
};

}  // namespace polylog::server
