// What the verbs that talk to a running broker share: where it is, how to print. Main thread only.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/json_value.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace polylog::server {

struct Common {
  std::string url = "http://127.0.0.1:15672";
  bool json = false;
  std::string name;
  int* status = nullptr;

  /// Prints the reason and makes the process's exit status 1.
  void report(const Error& error) const;
};
/// Lives as long as the callbacks that hold it.
using CommonRef = std::shared_ptr<Common>;

/// --admin, and --json if `json`.
void addCommon(CLI::App* command, const CommonRef& common, bool json = true);

/// An option that takes a whole number. One that is none is told in the unit that the option's name
/// says (core/base/units.h).
CLI::Option* addNumber(CLI::App* command, const std::string& name, int64_t& value, int64_t least,
                       int64_t most, const std::string& help);
inline constexpr int64_t kAnyNumber = std::numeric_limits<int64_t>::max();

/// An option that takes one of some words, which `help` need not name.
void takesOneOf(CLI::Option* option, std::vector<std::string> words);

/// Adds a pair to the query at the end of `path`.
void extendQuery(std::string& path, std::string_view key, std::string_view value);

/// The broker's answer as a JSON object; kInvalid, naming the URL, when it is anything else.
Result<JsonValue> parseAnswer(const Common& common, const std::string& answer);

/// A JSON value as people read it in a table.
std::string cell(const JsonValue& value);
/// The same of a member of that name: times as ISO 8601 in UTC, `never` and the like in words.
std::string cell(std::string_view name, const JsonValue& value);
/// The name as it heads a column: that of a time without its unit.
std::string heading(std::string_view name);

using Columns = std::vector<const char*>;
/// GETs `path` and prints it: its fields, then the named array as a table, and what a topic has of
/// settings and a group of members.
void show(const CommonRef& common, const std::string& path, const char* array,
          const Columns& columns);
/// A request whose answer says nothing.
void change(const CommonRef& common, const char* method, const std::string& path,
            const std::string& body = {});

/// `user ...` and `acl ...`.
void addAccessCommands(CLI::App& app, const CommonRef& common);
/// `client ...`, `ban ...` and `trace ...`.
void addClientVerbs(CLI::App& app, const CommonRef& common);
/// `bridge ...`.
void addBridgeVerbs(CLI::App& app, const CommonRef& common);
/// `topic-default ...`.
void addTopicDefaultVerbs(CLI::App& app, const CommonRef& common);
/// `quota ...` and `client-metrics ...`.
void addQuotaVerbs(CLI::App& app, const CommonRef& common);
/// `produce TOPIC` and `consume TOPIC`.
void addRecordCommands(CLI::App& app, const CommonRef& common);

}  // namespace polylog::server
