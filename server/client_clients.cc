// `polylog client ...`, `polylog ban ...` and `polylog trace ...`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "server/admin_client.h"
#include "server/client_common.h"

namespace polylog::server {
namespace {

const std::vector<std::string> kKinds = {"client_id", "user", "address"};

struct PageArguments {
  int64_t after = 0;
  int64_t limit = 100;
  std::string clientId;
  std::string user;
};

void addClient(CLI::App& app, const CommonRef& common) {
  CLI::App* client = app.add_subcommand("client", "Who is connected, over every protocol");
  client->require_subcommand(1);
  auto page = std::make_shared<PageArguments>();
  CLI::App* list =
      client->add_subcommand("list", "A page of them; `next` is where the next begins");
  addCommon(list, common);
  addNumber(list, "--after", page->after, 0, kAnyNumber, "Connections behind this id");
  addNumber(list, "--limit", page->limit, 1, 1000, "So many at most (100)");
  list->add_option("--client-id", page->clientId, "Only of this client id");
  list->add_option("--user", page->user, "Only of this user");
  list->callback([=] {
    std::string path = fmt::format("/api/clients?after={}&limit={}", page->after, page->limit);
    if (!page->clientId.empty()) path += "&client_id=" + encoded(page->clientId);
    if (!page->user.empty()) path += "&user=" + encoded(page->user);
    show(common, path, "clients",
         {"id", "protocol", "version", "client_id", "user", "peer", "connected_ms", "waiting",
          "waiting_bytes", "in_flight", "dropped"});
  });
  CLI::App* slow =
      client->add_subcommand("slow", "Subscribers that let messages wait, the worst first");
  addCommon(slow, common);
  slow->callback([=] {
    show(common, "/api/slow_subscribers", "slow_subscribers", {"client_id", "waited_ms", "at_ms"});
  });
  CLI::App* kick = client->add_subcommand("kick", "End a client's connections; it may come back");
  addCommon(kick, common, false);
  kick->add_option("CLIENT_ID", common->name, "As `polylog client list` shows it")->required();
  kick->callback([=] { change(common, "DELETE", "/api/clients/" + encoded(common->name)); });
}

constexpr int64_t kMostBanSeconds = 100LL * 366 * 86'400;  // as the broker takes

struct BanArguments {
  std::string kind;
  std::string what;
  int64_t seconds = 0;
  std::string reason;

  std::string query() const {
    return fmt::format("/api/bans?kind={}&what={}", encoded(kind), encoded(what));
  }
};

CLI::App* addBanVerb(CLI::App* ban, const CommonRef& common, const char* verb, const char* help,
                     const std::shared_ptr<BanArguments>& arguments) {
  CLI::App* command = ban->add_subcommand(verb, help);
  addCommon(command, common, false);
  auto* kind = command->add_option("KIND", arguments->kind, "client_id, user or address");
  takesOneOf(kind->required(), kKinds);
  command->add_option("WHAT", arguments->what, "A client id, a user, 192.0.2.7 or 10.0.0.0/8")
      ->required();
  return command;
}

void addBan(CLI::App& app, const CommonRef& common) {
  CLI::App* ban = app.add_subcommand("ban", "Who is kept out, over every protocol");
  ban->require_subcommand(1);
  CLI::App* list = ban->add_subcommand("list", "Those in force");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/bans", "bans", {"kind", "what", "created_ms", "until_ms", "reason", "by"});
  });
  auto arguments = std::make_shared<BanArguments>();
  CLI::App* add =
      addBanVerb(ban, common, "add", "Keep somebody out, and cut off who is there", arguments);
  addNumber(add, "--seconds", arguments->seconds, 0, kMostBanSeconds,
            "How many seconds it lasts; 0 = for good (for good)");
  add->add_option("--reason", arguments->reason, "Why, for who looks at the list");
  add->callback([=] {
    change(common, "POST",
           arguments->query() + fmt::format("&seconds={}&reason={}", arguments->seconds,
                                            encoded(arguments->reason)));
  });
  CLI::App* remove = addBanVerb(ban, common, "remove", "Let somebody in again", arguments);
  remove->callback([=] { change(common, "DELETE", arguments->query()); });
}

struct TraceArguments {
  std::string kind;
  std::string what;
  int64_t seconds = 600;
  int64_t maxBytes = 10 << 20;
  bool payload = false;
};

void addTrace(CLI::App& app, const CommonRef& common) {
  CLI::App* trace = app.add_subcommand("trace", "Write down what MQTT clients and broker say");
  trace->require_subcommand(1);
  CLI::App* list = trace->add_subcommand("list", "Those that run, and those that have ended");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/traces", "traces",
         {"name", "kind", "what", "running", "until_ms", "bytes", "file"});
  });
  auto arguments = std::make_shared<TraceArguments>();
  CLI::App* start = trace->add_subcommand("start", "Begin one, in a file beside the broker's data");
  addCommon(start, common, false);
  start->add_option("NAME", common->name, "Of the trace and its file")->required();
  auto* kind = start->add_option("KIND", arguments->kind, "client_id, user, address or topic");
  takesOneOf(kind->required(), {"client_id", "user", "address", "topic"});
  start->add_option("WHAT", arguments->what, "A client id, user, address or topic filter")
      ->required();
  addNumber(start, "--seconds", arguments->seconds, 1, 86'400, "It ends after so many seconds")
      ->capture_default_str();
  addNumber(start, "--max-bytes", arguments->maxBytes, 1024, 1 << 30,
            "Or when its file has so many octets")
      ->capture_default_str();
  start->add_flag("--payload", arguments->payload, "With the beginnings of payloads");
  start->callback([=] {
    change(common, "POST",
           fmt::format("/api/traces/{}?kind={}&what={}&seconds={}&max_bytes={}&payload={}",
                       encoded(common->name), encoded(arguments->kind), encoded(arguments->what),
                       arguments->seconds, arguments->maxBytes, arguments->payload ? 1 : 0));
  });
  CLI::App* stop = trace->add_subcommand("stop", "End one; its file stays");
  addCommon(stop, common, false);
  stop->add_option("NAME", common->name, "As `polylog trace list` shows it")->required();
  stop->callback([=] { change(common, "DELETE", "/api/traces/" + encoded(common->name)); });
}

}  // namespace

void addClientVerbs(CLI::App& app, const CommonRef& common) {
  addClient(app, common);
  addBan(app, common);
  addTrace(app, common);
}

}  // namespace polylog::server
