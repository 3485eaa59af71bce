// `polylog topic-default ...`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "server/admin_client.h"
#include "server/client_common.h"

namespace polylog::server {
namespace {

/// What the broker's number goes by in the query, beside the keys.
constexpr const char* kBroker = "broker";

struct Arguments {
  std::string broker;
  std::vector<std::string> settings;

  std::string path() const {
    std::string path = "/api/topic_defaults";
    if (!broker.empty()) extendQuery(path, kBroker, broker);
    return path;
  }
};
using ArgumentsRef = std::shared_ptr<Arguments>;

CLI::App* addVerb(CLI::App* defaults, const CommonRef& common, const char* verb, const char* help,
                  const ArgumentsRef& arguments) {
  CLI::App* command = defaults->add_subcommand(verb, help);
  addCommon(command, common, false);
  command->add_option("--broker", arguments->broker,
                      "Of the broker with this number, which counts before what all brokers have "
                      "(of all brokers)");
  return command;
}

Result<> takeKey(const std::string& key, std::set<std::string>& keys) {
  if (key == kBroker) {
    return fail(ErrorKind::kInvalid, "`broker` is no key: --broker says which broker is meant");
  }
  if (keys.insert(key).second) return {};
  return fail(ErrorKind::kInvalid, fmt::format("`{}` is named twice", key));
}

void runSet(const CommonRef& common, const Arguments& arguments) {
  std::string path = arguments.path();
  std::set<std::string> keys;
  for (const std::string& setting : arguments.settings) {
    const size_t equals = setting.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return common->report(
          {ErrorKind::kInvalid, fmt::format("{}: write it as KEY=VALUE", setting)});
    }
    const std::string key = setting.substr(0, equals);
    if (auto taken = takeKey(key, keys); !taken) return common->report(taken.error());
    extendQuery(path, encoded(key), setting.substr(equals + 1));
  }
  change(common, "POST", path);
}

}  // namespace

void addTopicDefaultVerbs(CLI::App& app, const CommonRef& common) {
  CLI::App* defaults = app.add_subcommand(
      "topic-default",
      "What topics have that set nothing themselves (those of MQTT and AMQP clients follow the "
      "configuration file alone)");
  defaults->require_subcommand(1);
  CLI::App* list = defaults->add_subcommand(
      "list", "Each key, the value in force, and who has set it: broker, cluster, configuration");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/topic_defaults", "topic_defaults",
         {"key", "value", "source", "broker", "cluster"});
  });
  auto arguments = std::make_shared<Arguments>();
  CLI::App* set = addVerb(defaults, common, "set",
                          "Set keys while the broker runs; topics follow at once", arguments);
  set->add_option("KEY=VALUE", arguments->settings, "log.retention.ms=86400000 and the like")
      ->required();
  set->callback([=] { runSet(common, *arguments); });
  CLI::App* remove = addVerb(defaults, common, "delete", "Take keys back that were set", arguments);
  remove->add_option("KEY", arguments->settings, "As `polylog topic-default list` names them")
      ->required();
  remove->callback([=] {
    std::string path = arguments->path();
    std::set<std::string> keys;
    for (const std::string& key : arguments->settings) {
      if (auto taken = takeKey(key, keys); !taken) return common->report(taken.error());
      extendQuery(path, encoded(key), "");
    }
    change(common, "DELETE", path);
  });
}

}  // namespace polylog::server
