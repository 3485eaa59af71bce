// The `polylog` command: `serve` and `check-config` here, the verbs that talk to a running broker
// in client_commands.cc, those that look into files in journal_commands.cc.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>

#include "server/client_commands.h"
#include "server/config.h"
#include "server/journal_commands.h"
#include "server/listener_config.h"
#include "server/serve.h"

namespace {

using namespace polylog;

int report(const std::vector<Error>& errors) {
  for (const Error& error : errors) std::fprintf(stderr, "polylog: %s\n", error.text.c_str());
  return errors.empty() ? 0 : 1;
}

struct ServeArguments {
  std::string file;
  std::string data;
  std::vector<std::string> listeners;
  std::vector<std::string> settings;
};

int runServe(const ServeArguments& arguments) {
  server::Config config;
  std::vector<Error> errors;
  if (!arguments.file.empty()) errors = server::loadConfigFile(arguments.file, config);
  for (const std::string& setting : arguments.settings) {
    if (auto applied = server::applySetting(setting, config); !applied)
      errors.push_back(applied.error());
  }
  if (!arguments.data.empty()) config.dataDirectory = arguments.data;
  if (!arguments.listeners.empty()) config.listeners.clear();
  for (const std::string& text : arguments.listeners) {
    auto listener = server::parseListener(text);
    if (listener) {
      config.listeners.push_back(std::move(*listener));
    } else {
      errors.push_back({listener.error().kind, "--listen: " + listener.error().text});
    }
  }
  if (errors.empty()) errors = server::checkConfig(config);
  if (!errors.empty()) return report(errors);
  return server::serve(config);
}

int runCheck(const std::string& file) {
  server::Config config;
  std::vector<Error> errors = server::loadConfigFile(file, config);
  const size_t unread = errors.size();
  for (Error& error : server::checkConfig(config)) {
    // What couldn't be read is missing, too: once is enough.
    const std::string key = error.text.substr(0, error.text.find('`', 1));
    const bool told =
        std::any_of(errors.begin(), errors.begin() + static_cast<ptrdiff_t>(unread),
                    [&](const Error& one) { return key.size() > 1 && one.text.contains(key); });
    if (!told) errors.push_back({error.kind, fmt::format("{}: {}", file, error.text)});
  }
  if (errors.empty()) std::printf("%s: ok\n", file.c_str());
  return report(errors);
}

/// What is wrong with the verbs at the beginning of `words`, and what could stand there; nothing if
/// they are right. CLI11 says no more than that a subcommand is required.
std::string mistakeInVerbs(const CLI::App& app, std::span<char*> words) {
  const CLI::App* at = &app;
  std::string path = app.get_name();
  for (size_t i = 0;; ++i) {
    const auto verbs = at->get_subcommands([](const CLI::App*) { return true; });
    if (verbs.empty() || (i < words.size() && words[i][0] == '-')) return {};
    auto named = std::ranges::find_if(verbs, [&](const CLI::App* verb) {
      return i < words.size() && verb->check_name(words[i]);
    });
    if (named == verbs.end()) {
      std::string all;
      for (const CLI::App* verb : verbs) all += (all.empty() ? "" : ", ") + verb->get_name();
      return i < words.size()
                 ? fmt::format("there is no `{} {}`; there are: {}", path, words[i], all)
                 : fmt::format("`{}` wants one of these after it: {}", path, all);
    }
    at = *named;
    path += " " + at->get_name();
  }
}

/// What CLI11 says of the words behind the verbs, and where they are told.
std::string mistakeInWords(const CLI::App* app, const CLI::Error& error) {
  std::string path = app->get_name();
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    path += " " + app->get_name();
  }
  return fmt::format("polylog: {}; `{} --help` shows what it takes\n", error.what(), path);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Polylog: MQTT, Kafka and AMQP over one log.", "polylog");
  app.set_version_flag("--version", std::string("polylog ") + server::kVersion);
  app.require_subcommand(1);
  app.failure_message(mistakeInWords);
  int status = 0;

  ServeArguments arguments;
  CLI::App* serve = app.add_subcommand("serve", "Run the broker in the foreground");
  serve->add_option("--config", arguments.file, "Configuration file (YAML)");
  serve->add_option("--data", arguments.data, "Data directory (configuration key data.dir)");
  serve->add_option(
      "--listen", arguments.listeners,
      "PROTOCOL=HOST:PORT, or with keys of its own \"PROTOCOL=HOST:PORT KEY=VALUE ...\", "
      "any number of times; only these listeners open");
  serve->add_option("--set", arguments.settings, "KEY=VALUE, any number of times; over the file");
  serve->callback([&] { status = runServe(arguments); });

  std::string file;
  CLI::App* check = app.add_subcommand("check-config", "Check a configuration file");
  check->add_option("FILE", file, "Configuration file (YAML)")->required();
  check->callback([&] { status = runCheck(file); });

  server::addClientCommands(app, status);
  server::addJournalCommands(app, status);

  const std::span<char*> words(argv + 1, argc > 0 ? static_cast<size_t>(argc) - 1 : 0);
  // The journal's verbs answer 1 for damage that they found.
  const bool journal = !words.empty() && std::string_view(words[0]) == "journal";
  const int mistaken = journal ? server::kJournalUnreadable : 1;
  if (std::string mistake = mistakeInVerbs(app, words); !mistake.empty()) {
    std::fprintf(stderr, "polylog: %s\n", mistake.c_str());
    return mistaken;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : mistaken;
  }
  return status;
}
