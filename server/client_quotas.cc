// `polylog quota ...` and `polylog client-metrics ...`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "codecs/kafka/quota_keys.h"
#include "server/admin_client.h"
#include "server/client_common.h"

namespace polylog::server {
namespace {

std::string optionOf(std::string_view key) {
  std::string name = "--" + std::string(key);
  std::ranges::replace(name, '_', '-');
  return name;
}

void extend(std::string& query, std::string_view key, const std::string& value) {
  query += fmt::format("{}{}={}", query.empty() ? '?' : '&', key, encoded(value));
}

/// Options whose values go into a query by the keys given.
class QueryOptions {
 public:
  void add(CLI::App* command, std::string_view key, const std::string& help) {
    auto value = std::make_shared<std::string>();
    options_.push_back({std::string(key), command->add_option(optionOf(key), *value, help), value});
  }
  /// A flag that stands for an empty value.
  void addDefault(CLI::App* command, std::string_view key, const std::string& help) {
    auto* flag = command->add_flag("--default-" + optionOf(key).substr(2), help);
    options_.push_back({std::string(key), flag, std::make_shared<std::string>()});
  }
  void appendTo(std::string& query) const {
    for (const One& one : options_) {
      if (one.option->count() > 0) extend(query, one.key, *one.value);
    }
  }

 private:
  struct One {
    std::string key;
    CLI::Option* option;
    std::shared_ptr<std::string> value;
  };
  std::vector<One> options_;
};

/// Whom a quota is for.
std::shared_ptr<QueryOptions> addEntity(CLI::App* command) {
  auto options = std::make_shared<QueryOptions>();
  options->add(command, "user", "Of a user");
  options->addDefault(command, "user", "Of users that have none of their own");
  options->add(command, "client_id", "Of a client id");
  options->addDefault(command, "client_id", "Of client ids that have none of their own");
  options->add(command, "ip", "Of an address that connects");
  options->addDefault(command, "ip", "Of addresses that have none of their own");
  return options;
}

void addQuota(CLI::App& app, const CommonRef& common) {
  CLI::App* quota = app.add_subcommand("quota", "How much Kafka's clients may ask of the broker");
  quota->require_subcommand(1);
  CLI::App* list = quota->add_subcommand("list", "All of them");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/quotas", "quotas",
         {"of", "producer_byte_rate", "consumer_byte_rate", "request_percentage",
          "controller_mutation_rate", "connection_creation_rate"});
  });
  CLI::App* set = quota->add_subcommand("set", "Set quotas of a user, a client id or an address");
  addCommon(set, common, false);
  auto whose = addEntity(set);
  auto values = std::make_shared<QueryOptions>();
  values->add(set, "producer_byte_rate", "Octets a second, as sent");
  values->add(set, "consumer_byte_rate", "Octets a second, of records fetched");
  values->add(set, "request_percentage", "Of a thread's time, in percent");
  values->add(set, "controller_mutation_rate", "Partitions made or deleted, a second");
  values->add(set, "connection_creation_rate", "Connections a second, of an address");
  set->callback([=] {
    std::string query;
    whose->appendTo(query);
    values->appendTo(query);
    change(common, "POST", "/api/quotas" + query);
  });
  CLI::App* remove = quota->add_subcommand("delete", "Remove quotas: those named, or all it has");
  addCommon(remove, common, false);
  auto of = addEntity(remove);
  auto names = std::make_shared<std::vector<std::string>>();
  std::vector<std::string> known;
  for (const kafka::QuotaKey& key : kafka::quotaKeys()) known.emplace_back(key.name);
  remove->add_option("QUOTA", *names, "Which, as `quota list` heads them")
      ->check(CLI::IsMember(known));
  remove->callback([=] {
    std::string query;
    of->appendTo(query);
    for (const std::string& name : *names) extend(query, name, "");
    change(common, "DELETE", "/api/quotas" + query);
  });
}

void addClientMetrics(CLI::App& app, const CommonRef& common) {
  CLI::App* metrics =
      app.add_subcommand("client-metrics", "Which of their own metrics Kafka's clients push here");
  metrics->require_subcommand(1);
  CLI::App* list = metrics->add_subcommand("list", "All subscriptions");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/client_metrics", "client_metrics",
         {"name", "interval_ms", "metrics", "match"});
  });
  CLI::App* set = metrics->add_subcommand("set", "Make a subscription, or change it");
  addCommon(set, common, false);
  auto values = std::make_shared<QueryOptions>();
  set->add_option("NAME", common->name)->required();
  values->add(set, "metrics", "What their names begin with, separated by commas; * = all");
  values->add(set, "interval_ms", "How often clients push them: 100 to 3600000");
  values->add(set, "match", "Which clients: client_id=EXPRESSION and the like, by commas");
  set->callback([=] {
    std::string query;
    values->appendTo(query);
    change(common, "POST", "/api/client_metrics/" + encoded(common->name) + query);
  });
  CLI::App* remove = metrics->add_subcommand("delete", "Take a subscription back");
  addCommon(remove, common, false);
  remove->add_option("NAME", common->name)->required();
  remove->callback(
      [=] { change(common, "DELETE", "/api/client_metrics/" + encoded(common->name)); });
}

}  // namespace

void addQuotaVerbs(CLI::App& app, const CommonRef& common) {
  addQuota(app, common);
  addClientMetrics(app, common);
}

}  // namespace polylog::server
