#include "server/client_commands.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <utility>

#include "core/base/units.h"
#include "server/admin_client.h"
#include "server/client_common.h"

namespace polylog::server {
namespace {

constexpr std::string_view kUnit = "_ms";

/// Whether a member is a point in time, in milliseconds since 1970.
bool isTime(std::string_view name) {
  constexpr std::string_view kTimes[] = {"at_ms", "connected_ms", "created_ms", "until_ms",
                                         "last_error_ms"};
  return std::ranges::find(kTimes, name) != std::end(kTimes);
}

/// A table of the members `columns` of the objects in `rows`.
void printTable(const JsonValue::Array& rows, const std::vector<const char*>& columns) {
  auto at = [](const JsonValue& row, const char* column) {
    const JsonValue* value = row.find(column);
    return value == nullptr ? std::string("-") : cell(column, *value);
  };
  std::vector<size_t> widths;
  for (const char* column : columns) {
    size_t width = heading(column).size();
    for (const JsonValue& row : rows) width = std::max(width, at(row, column).size());
    widths.push_back(width);
  }
  auto line = [&](auto&& text) {
    std::string out;
    for (size_t i = 0; i < columns.size(); ++i) {
      out += fmt::format("{:<{}}  ", text(columns[i]), widths[i]);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    std::puts(out.c_str());
  };
  line([](const char* column) { return heading(column); });
  for (const JsonValue& row : rows) {
    line([&](const char* column) { return at(row, column); });
  }
}

/// The scalar members of `object`, one a line.
void printFields(const JsonValue::Object& object) {
  for (const auto& [name, value] : object) {
    if (value.object() != nullptr || value.array() != nullptr) continue;
    std::printf("%s: %s\n", heading(name).c_str(), cell(name, value).c_str());
  }
}

}  // namespace

void show(const CommonRef& common, const std::string& path, const char* array,
          const Columns& columns) {
  auto answer = AdminClient(common->url).request("GET", path);
  if (!answer) return common->report(answer.error());
  if (common->json) return void(std::puts(answer->c_str()));
  auto document = parseAnswer(*common, *answer);
  if (!document) return common->report(document.error());
  printFields(*document->object());
  const std::pair<const char*, Columns> parts[] = {
      {"config", {}},
      {"settings", {"key", "value", "source"}},
      {"members", {"member_id", "client_id", "client_host", "assigned"}},
      {array, columns}};
  bool tables = false;
  for (const auto& [name, heads] : parts) {
    const JsonValue* part = document->find(name);
    if (part == nullptr) continue;
    if (part->object() != nullptr) printFields(*part->object());
    if (part->array() == nullptr || (part->array()->empty() && name != array)) continue;
    if (std::exchange(tables, true)) std::puts("");
    printTable(*part->array(), heads);
  }
}

void change(const CommonRef& common, const char* method, const std::string& path,
            const std::string& body) {
  auto answer = AdminClient(common->url).request(method, path, body);
  if (!answer) common->report(answer.error());
}

namespace {

struct Page {
  std::string after;
  int64_t limit = 0;  ///< 0 = all

  std::string query() const {
    std::string out;
    if (!after.empty()) extendQuery(out, "after", after);
    if (limit > 0) extendQuery(out, "limit", fmt::to_string(limit));
    return out;
  }
};

/// What people ask for by name.
struct Noun {
  const char* name;
  const char* help;
  const char* nameHelp;
  const char* deleteHelp;
  Columns listColumns;
  const char* array;  ///< of the one described, printed as a table
  Columns columns;
  bool pages = false;  ///< its list takes --after and --limit
};

void addList(CLI::App* command, const CommonRef& common, const Noun& noun,
             const std::string& base) {
  CLI::App* list = command->add_subcommand("list", fmt::format("All {}s", noun.name));
  addCommon(list, common);
  auto page = std::make_shared<Page>();
  if (noun.pages) {
    list->add_option("--after", page->after, "Those behind this one (`next` of the page before)");
    addNumber(list, "--limit", page->limit, 1, 1'000'000, "So many at most (all)");
  }
  list->callback([=, columns = noun.listColumns] {
    show(common, base + page->query(), base.c_str() + 5, columns);
  });
}

/// NOUN list|describe|delete. Returns the noun's command for more verbs.
CLI::App* addNoun(CLI::App& app, const CommonRef& common, const Noun& noun) {
  CLI::App* command = app.add_subcommand(noun.name, noun.help);
  command->require_subcommand(1);
  std::string base = fmt::format("/api/{}s", noun.name);
  addList(command, common, noun, base);
  CLI::App* describe =
      command->add_subcommand("describe", fmt::format("All there is to tell of a {}", noun.name));
  addCommon(describe, common);
  describe->add_option("NAME", common->name, noun.nameHelp)->required();
  describe->callback([=, array = noun.array, columns = noun.columns] {
    show(common, base + "/" + encoded(common->name), array, columns);
  });
  CLI::App* remove = command->add_subcommand("delete", noun.deleteHelp);
  addCommon(remove, common, false);
  remove->add_option("NAME", common->name, noun.nameHelp)->required();
  remove->callback([=] { change(common, "DELETE", base + "/" + encoded(common->name)); });
  return command;
}

void addTopicCreate(CLI::App* topic, const CommonRef& common) {
  struct Arguments {
    int64_t partitions = 0;
    int64_t millis = 0;
    int64_t bytes = 0;
    std::string policy;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* create =
      topic->add_subcommand("create", "Create a topic; what isn't given follows the defaults");
  addCommon(create, common, false);
  create->add_option("NAME", common->name, "Without `/`, and not beginning with `$`")->required();
  auto* partitions =
      addNumber(create, "--partitions", arguments->partitions, 1, 10'000, "Number of partitions");
  auto* millis = addNumber(create, "--retention-ms", arguments->millis, -1, kAnyNumber,
                           "Milliseconds for which records are kept; -1 = without limit");
  auto* bytes = addNumber(create, "--retention-bytes", arguments->bytes, -1, kAnyNumber,
                          "Octets that a partition keeps; -1 = without limit");
  auto* policy = create->add_option(
      "--cleanup-policy", arguments->policy,
      "What becomes of old records: delete, compact (the last of each key stays), or "
      "compact,delete");
  takesOneOf(policy, {"delete", "compact", "compact,delete"});
  create->callback([=] {
    std::string path = "/api/topics/" + encoded(common->name);
    auto add = [&](CLI::Option* option, const char* key, int64_t value) {
      if (option->count() > 0) extendQuery(path, key, fmt::to_string(value));
    };
    add(partitions, "partitions", arguments->partitions);
    add(millis, "retention_ms", arguments->millis);
    add(bytes, "retention_bytes", arguments->bytes);
    if (policy->count() > 0) extendQuery(path, "cleanup_policy", arguments->policy);
    change(common, "POST", path);
  });
}

/// `create NAME --type TYPE` of a queue or an exchange.
void addTypedCreate(CLI::App* command, const CommonRef& common, const char* noun,
                    const std::vector<std::string>& types) {
  auto type = std::make_shared<std::string>(types.front());
  CLI::App* create = command->add_subcommand("create", fmt::format("Create a durable {}", noun));
  addCommon(create, common, false);
  create->add_option("NAME", common->name, "Not beginning with `amq.`")->required();
  auto* option = create->add_option("--type", *type, fmt::format("{}", fmt::join(types, ", ")));
  option->capture_default_str();
  takesOneOf(option, types);
  std::string base = fmt::format("/api/{}s/", noun);
  create->callback(
      [=] { change(common, "POST", base + encoded(common->name) + "?type=" + encoded(*type)); });
}

}  // namespace

void Common::report(const Error& error) const {
  std::fprintf(stderr, "polylog: %s\n", error.text.c_str());
  *status = 1;
}

void addCommon(CLI::App* command, const CommonRef& common, bool json) {
  command->add_option("--admin", common->url, "The broker's admin listener")->capture_default_str();
  if (json) command->add_flag("--json", common->json, "Print JSON instead");
}

CLI::Option* addNumber(CLI::App* command, const std::string& name, int64_t& value, int64_t least,
                       int64_t most, const std::string& help) {
  std::string key = name;
  std::ranges::replace(key, '-', '_');
  auto wrong = [=](const std::string& text) -> std::string {
    int64_t number = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    if (whole && number >= least && number <= most) return {};
    return fmt::format("`{}`: give {}, {} {}", text, wholeNumberFor(key), least,
                       most == kAnyNumber ? "or more" : fmt::format("to {}", most));
  };
  return command->add_option(name, value, help)->check(wrong, "");
}

void takesOneOf(CLI::Option* option, std::vector<std::string> words) {
  option->check(
      [words = std::move(words)](const std::string& text) -> std::string {
        if (std::ranges::find(words, text) != words.end()) return {};
        return fmt::format("`{}`: use one of {}", text, fmt::join(words, " | "));
      },
      "");
}

void extendQuery(std::string& path, std::string_view key, std::string_view value) {
  path += fmt::format("{}{}={}", path.contains('?') ? '&' : '?', key, encoded(value));
}

Result<JsonValue> parseAnswer(const Common& common, const std::string& answer) {
  auto document = JsonValue::parse(answer);
  if (!document || document->object() == nullptr) {
    return fail(
        ErrorKind::kInvalid,
        common.url + " doesn't answer like a Polylog broker; is --admin its admin listener?");
  }
  return *std::move(document);
}

std::string cell(const JsonValue& value) {
  if (value.text() != nullptr) return *value.text();
  if (auto number = value.number()) return fmt::to_string(*number);
  if (auto real = value.real()) return fmt::to_string(*real);
  if (auto flag = value.flag()) return *flag ? "yes" : "no";
  std::vector<std::string> parts;
  if (value.array() != nullptr) {
    for (const JsonValue& each : *value.array()) parts.push_back(cell(each));
    return fmt::format("{}", fmt::join(parts, " "));
  }
  if (value.object() != nullptr) {
    for (const auto& [name, each] : *value.object()) parts.push_back(cell(each));
  }
  return fmt::format("{}", fmt::join(parts, "-"));
}

std::string cell(std::string_view name, const JsonValue& value) {
  constexpr int64_t kSessionNeverExpires = 0xFFFFFFFF;
  const auto number = value.number();
  if (!number) return cell(value);
  if (name == "expiry_seconds" && *number == kSessionNeverExpires) return "never";
  if (!isTime(name)) return cell(value);
  if (*number < 0) return "never";
  if (*number == 0 && name == "last_error_ms") return "-";
  const std::time_t seconds = static_cast<std::time_t>(*number / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     *number % 1000);
}

std::string heading(std::string_view name) {
  if (name == "last_error_ms") return "error_at";  // beside the error itself
  if (isTime(name)) name.remove_suffix(kUnit.size());
  return std::string(name);
}

void addClientCommands(CLI::App& app, int& status) {
  auto common = std::make_shared<Common>();
  common->status = &status;
  CLI::App* topic = addNoun(app, common,
                            {"topic",
                             "Topics, whichever protocol made them",
                             "The topic's name",
                             "Delete a topic with all its records",
                             {"name", "partitions", "records", "bytes", "origin"},
                             "partitions",
                             {"partition", "log_start", "high_watermark", "records", "bytes"}});
  addTopicCreate(topic, common);
  addTopicDefaultVerbs(app, common);
  addNoun(app, common,
          {"group",
           "Kafka's consumer groups, share groups and MQTT's shared subscriptions",
           "The group's id; of a shared subscription $share/GROUP/FILTER",
           "Delete a group that has no members, with its offsets",
           {"group", "state", "protocol_type", "members", "lag"},
           "offsets",
           {"topic", "partition", "offset", "lag"}});
  addNoun(app, common,
          {"session",
           "MQTT sessions, connected or not",
           "The session's client id",
           "Disconnect a session's client, and forget its subscriptions and what waits for it",
           {"client_id", "user", "connected", "peer", "expiry_seconds", "waiting", "waiting_bytes",
            "dropped"},
           "subscriptions",
           {"filter", "qos"},
           true});
  CLI::App* queue = addNoun(app, common,
                            {"queue",
                             "AMQP queues",
                             "The queue's name",
                             "Delete a queue with all that waits in it",
                             {"name", "type", "durable", "ready", "unacknowledged", "consumers"},
                             "bindings",
                             {"source", "routing_key"}});
  addTypedCreate(queue, common, "queue", {"classic", "stream"});
  CLI::App* exchange = addNoun(app, common,
                               {"exchange",
                                "AMQP exchanges",
                                "The exchange's name",
                                "Delete an exchange",
                                {"name", "type", "durable", "auto_delete", "internal"},
                                "bindings",
                                {"destination", "kind", "routing_key"}});
  addTypedCreate(exchange, common, "exchange", {"direct", "fanout", "topic", "headers"});
  addAccessCommands(app, common);
  addClientVerbs(app, common);
  addBridgeVerbs(app, common);
  addQuotaVerbs(app, common);
  addRecordCommands(app, common);
}

}  // namespace polylog::server
