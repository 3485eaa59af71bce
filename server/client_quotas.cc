// `polylog quota ...` and `polylog client-metrics ...`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "server/admin_client.h"
#include "server/client_common.h"

namespace polylog::server {
namespace {

std::string optionOf(std::string_view key) {
  std::string name = "--" + std::string(key);
  std::ranges::replace(name, '_', '-');
  return name;
}

/// Options whose values go into a query by the keys given.
class QueryOptions {
 public:
  CLI::Option* add(CLI::App* command, std::string_view key, const std::string& help) {
    auto value = std::make_shared<std::string>();
    return keep({std::string(key), command->add_option(optionOf(key), *value, help), value});
  }
  /// A flag that stands for an empty value.
  CLI::Option* addFlag(CLI::App* command, const std::string& name, std::string_view key,
                       const std::string& help) {
    return keep({std::string(key), command->add_flag(name, help), std::make_shared<std::string>()});
  }
  void appendTo(std::string& path) const {
    for (const One& one : options_) {
      if (one.option->count() > 0) extendQuery(path, one.key, *one.value);
    }
  }

 private:
  struct One {
    std::string key;
    CLI::Option* option;
    std::shared_ptr<std::string> value;
  };
  CLI::Option* keep(One one) {
    options_.push_back(std::move(one));
    return options_.back().option;
  }

  std::vector<One> options_;
};

/// Whom a quota is for.
std::shared_ptr<QueryOptions> addEntity(CLI::App* command) {
  auto options = std::make_shared<QueryOptions>();
  auto add = [&](std::string_view key, const char* one, const std::string& others) {
    CLI::Option* named = options->add(command, key, std::string("Of ") + one);
    options
        ->addFlag(command, "--default-" + optionOf(key).substr(2), key,
                  fmt::format("Of {} that have none of their own", others))
        ->excludes(named);
  };
  add("user", "a user", "users");
  add("client_id", "a client id", "client ids");
  add("ip", "an address that connects", "addresses");
  return options;
}

struct QuotaOption {
  const char* key;
  const char* help;
};
constexpr QuotaOption kQuotas[] = {
    {"producer_byte_rate", "Octets a second, as sent"},
    {"consumer_byte_rate", "Octets a second, of records fetched"},
    {"request_percentage", "Of a thread's time, in percent"},
    {"controller_mutation_rate", "Partitions made or deleted, a second"},
    {"connection_creation_rate", "Connections a second, of an address"}};

void addQuota(CLI::App& app, const CommonRef& common) {
  CLI::App* verbs = app.add_subcommand("quota", "How much Kafka's clients may ask of the broker");
  verbs->require_subcommand(1);
  CLI::App* list = verbs->add_subcommand("list", "All quotas, and whom they are for");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/quotas", "quotas",
         {"of", "producer_byte_rate", "consumer_byte_rate", "request_percentage",
          "controller_mutation_rate", "connection_creation_rate"});
  });
  CLI::App* set = verbs->add_subcommand("set", "Set quotas of a user, a client id or an address");
  addCommon(set, common, false);
  auto whose = addEntity(set);
  auto values = std::make_shared<QueryOptions>();
  for (const QuotaOption& quota : kQuotas) values->add(set, quota.key, quota.help);
  set->callback([=] {
    std::string path = "/api/quotas";
    whose->appendTo(path);
    values->appendTo(path);
    change(common, "POST", path);
  });
  CLI::App* remove =
      verbs->add_subcommand("delete", "Remove the quotas named of one, or all it has");
  addCommon(remove, common, false);
  auto of = addEntity(remove);
  auto names = std::make_shared<QueryOptions>();
  for (const QuotaOption& quota : kQuotas) {
    names->addFlag(remove, optionOf(quota.key), quota.key, "This one");
  }
  remove->callback([=] {
    std::string path = "/api/quotas";
    of->appendTo(path);
    names->appendTo(path);
    change(common, "DELETE", path);
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
  set->add_option("NAME", common->name, "The subscription's, of your choice")->required();
  values->add(set, "metrics", "What their names begin with, separated by commas; * = all");
  values->add(set, "interval_ms", "Milliseconds between two pushes: 100 to 3600000 (300000)");
  values->add(set, "match",
              "Which clients, all by default: client_id=EXPRESSION, with commas between; also of "
              "client_instance_id, client_software_name, client_software_version, "
              "client_source_address, client_source_port");
  set->callback([=] {
    std::string path = "/api/client_metrics/" + encoded(common->name);
    values->appendTo(path);
    change(common, "POST", path);
  });
  CLI::App* remove = metrics->add_subcommand("delete", "Take a subscription back");
  addCommon(remove, common, false);
  remove->add_option("NAME", common->name, "The subscription's")->required();
  remove->callback(
      [=] { change(common, "DELETE", "/api/client_metrics/" + encoded(common->name)); });
}

}  // namespace

void addQuotaVerbs(CLI::App& app, const CommonRef& common) {
  addQuota(app, common);
  addClientMetrics(app, common);
}

}  // namespace polylog::server
