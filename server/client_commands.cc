#include "server/client_commands.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>

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
  // Of a group: who is in it, and has which partitions.
  const Columns members = {"member_id", "client_id", "client_host", "assigned"};
  for (const char* part : {"config", "members", array}) {
    const JsonValue* member = document->find(part);
    if (member == nullptr) continue;
    if (member->object() != nullptr) printFields(*member->object());
    if (member->array() == nullptr) continue;
    printTable(*member->array(), part == array ? columns : members);
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
  uint64_t limit = 0;  ///< 0 = all

  std::string query() const {
    std::string out;
    if (!after.empty()) out += "?after=" + encoded(after);
    if (limit > 0) out += fmt::format("{}limit={}", out.empty() ? "?" : "&", limit);
    return out;
  }
};

/// NOUN list|describe|delete. Returns the noun's command for more verbs. `pages`: its list takes
/// --after and --limit.
CLI::App* addNoun(CLI::App& app, const CommonRef& common, const char* noun,
                  const Columns& listColumns, const char* array, const Columns& columns,
                  bool pages = false) {
  CLI::App* command =
      app.add_subcommand(noun, fmt::format("What there is of {}s, and changes to it", noun));
  command->require_subcommand(1);
  std::string base = fmt::format("/api/{}s", noun);
  CLI::App* list = command->add_subcommand("list", "All of them");
  addCommon(list, common);
  auto page = std::make_shared<Page>();
  if (pages) {
    list->add_option("--after", page->after, "Those behind this one (`next` of the page before)");
    list->add_option("--limit", page->limit, "So many at most; none = all")
        ->check(CLI::Range(1, 1'000'000));
  }
  list->callback([=] { show(common, base + page->query(), base.c_str() + 5, listColumns); });
  CLI::App* describe =
      command->add_subcommand("describe", "One of them, with all there is to tell");
  addCommon(describe, common);
  describe->add_option("NAME", common->name)->required();
  describe->callback([=] { show(common, base + "/" + encoded(common->name), array, columns); });
  CLI::App* remove = command->add_subcommand("delete", "Delete one of them");
  addCommon(remove, common, false);
  remove->add_option("NAME", common->name)->required();
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
  CLI::App* create = topic->add_subcommand("create", "Create a topic");
  addCommon(create, common, false);
  create->add_option("NAME", common->name)->required();
  auto* partitions =
      create->add_option("--partitions", arguments->partitions, "Number of partitions");
  auto* millis = create->add_option("--retention-ms", arguments->millis, "-1 = without limit");
  auto* bytes = create->add_option("--retention-bytes", arguments->bytes, "-1 = without limit");
  auto* policy =
      create->add_option("--cleanup-policy", arguments->policy, "What becomes of old records")
          ->check(CLI::IsMember({"delete", "compact", "compact,delete"}));
  create->callback([=] {
    std::string query;
    auto add = [&](CLI::Option* option, const char* key, int64_t value) {
      if (option->count() > 0)
        query += fmt::format("{}{}={}", query.empty() ? "?" : "&", key, value);
    };
    add(partitions, "partitions", arguments->partitions);
    add(millis, "retention_ms", arguments->millis);
    add(bytes, "retention_bytes", arguments->bytes);
    if (policy->count() > 0) {
      query += fmt::format("{}cleanup_policy={}", query.empty() ? "?" : "&", arguments->policy);
    }
    change(common, "POST", "/api/topics/" + encoded(common->name) + query);
  });
}

/// `create NAME --type TYPE` of a queue or an exchange.
void addTypedCreate(CLI::App* command, const CommonRef& common, const char* noun,
                    const std::vector<std::string>& types) {
  auto type = std::make_shared<std::string>(types.front());
  CLI::App* create = command->add_subcommand("create", fmt::format("Create a durable {}", noun));
  addCommon(create, common, false);
  create->add_option("NAME", common->name)->required();
  create->add_option("--type", *type, fmt::format("{}", fmt::join(types, ", ")))
      ->capture_default_str()
      ->check(CLI::IsMember(types));
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
  CLI::App* topic =
      addNoun(app, common, "topic", {"name", "partitions", "records", "bytes", "origin"},
              "partitions", {"partition", "log_start", "high_watermark", "records", "bytes"});
  addTopicCreate(topic, common);
  addNoun(app, common, "group", {"group", "state", "protocol_type", "members", "lag"}, "offsets",
          {"topic", "partition", "offset", "lag"});
  addNoun(app, common, "session",
          {"client_id", "user", "connected", "peer", "expiry_seconds", "waiting", "waiting_bytes",
           "dropped"},
          "subscriptions", {"filter", "qos"}, true);
  CLI::App* queue = addNoun(app, common, "queue",
                            {"name", "type", "durable", "ready", "unacknowledged", "consumers"},
                            "bindings", {"source", "routing_key"});
  addTypedCreate(queue, common, "queue", {"classic", "stream"});
  CLI::App* exchange =
      addNoun(app, common, "exchange", {"name", "type", "durable", "auto_delete", "internal"},
              "bindings", {"destination", "kind", "routing_key"});
  addTypedCreate(exchange, common, "exchange", {"direct", "fanout", "topic", "headers"});
  addAccessCommands(app, common);
  addClientVerbs(app, common);
  addBridgeVerbs(app, common);
  addQuotaVerbs(app, common);
  addRecordCommands(app, common);
}

}  // namespace polylog::server
