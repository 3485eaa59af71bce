// `polylog bridge ...`.
#include <CLI/CLI.hpp>

#include "server/client_common.h"

namespace polylog::server {

void addBridgeVerbs(CLI::App& app, const CommonRef& common) {
  CLI::App* bridge = app.add_subcommand("bridge", "Bridges to other brokers");
  bridge->require_subcommand(1);
  CLI::App* list = bridge->add_subcommand("list", "All of them, and how each stands");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/bridges", "bridges",
         {"name", "state", "address", "waiting", "in_flight", "dropped", "sent", "received",
          "denied", "refused", "last_error_ms", "last_error"});
  });
}

}  // namespace polylog::server
