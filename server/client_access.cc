// `polylog user ...` and `polylog acl ...`. Passwords come from a file, the terminal or a pipe,
// never from the command line, which others can see.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <optional>

#include "core/base/clock.h"
#include "core/password/password_hash.h"
#include "server/access_words.h"
#include "server/admin_client.h"
#include "server/client_common.h"
#include "server/json.h"

namespace polylog::server {
namespace {

/// The terminal shows nothing of what is typed while this lives.
class Unseen {
 public:
  Unseen() : active_(tcgetattr(STDIN_FILENO, &before_) == 0) {
    if (!active_) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  ~Unseen() {
    if (!active_) return;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
    std::fputc('\n', stderr);
  }
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;

 private:
  termios before_{};
  bool active_;
};

std::optional<std::string> firstLine(std::istream& in) {
  std::string line;
  if (!std::getline(in, line) || line.empty()) return std::nullopt;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

std::optional<std::string> typed(const char* prompt) {
  Unseen unseen;  // first: it throws away what has been typed before
  std::fputs(prompt, stderr);
  return firstLine(std::cin);
}

Result<std::string> readPassword(const std::string& file) {
  std::optional<std::string> line;
  if (!file.empty()) {
    std::ifstream in(file);
    if (!in) return fail(ErrorKind::kIo, "can't read " + file + ": " + std::strerror(errno));
    line = firstLine(in);
  } else if (isatty(STDIN_FILENO) != 0) {
    line = typed("Password: ");
    if (line && typed("Password, again: ") != line) {
      return fail(ErrorKind::kInvalid, "the two passwords differ; nothing was changed");
    }
  } else {
    line = firstLine(std::cin);
  }
  if (line) return *line;
  return fail(ErrorKind::kInvalid,
              file.empty() ? "no password given: type it, pipe it in or use --password-file"
                           : "no password in " + file);
}

void addPasswordVerb(CLI::App* user, const CommonRef& common, const char* verb, const char* help,
                     const char* suffix) {
  auto file = std::make_shared<std::string>();
  CLI::App* command = user->add_subcommand(verb, help);
  addCommon(command, common, false);
  command->add_option("NAME", common->name, "The user's")->required();
  command->add_option("--password-file", *file, "Its first line is the password (asked for)");
  command->callback([=] {
    auto password = readPassword(*file);
    if (!password) return common->report(password.error());
    Json body;
    body.object([&] { body.field("password", *password); });
    change(common, "POST", "/api/users/" + encoded(common->name) + suffix, body.text());
  });
}

void deleteUser(const Common& common, bool rules) {
  auto answer =
      AdminClient(common.url)
          .request("DELETE", "/api/users/" + encoded(common.name) + (rules ? "?rules=1" : ""));
  if (!answer) return common.report(answer.error());
  auto document = parseAnswer(common, *answer);
  if (!document) return common.report(document.error());
  const JsonValue* count = document->find("rules");
  const int64_t named = count == nullptr ? 0 : count->number().value_or(0);
  if (named == 0) return;
  if (rules) {
    std::printf("access rules that named it, removed too: %lld\n", static_cast<long long>(named));
  } else {
    std::printf(
        "access rules that name it and stay, for who gets that name next: %lld (--rules removes "
        "them; `polylog acl list`)\n",
        static_cast<long long>(named));
  }
}

void addUser(CLI::App& app, const CommonRef& common) {
  CLI::App* user = app.add_subcommand("user", "Who may log in");
  user->require_subcommand(1);
  addPasswordVerb(user, common, "create", "Create a user; the password is asked for", "");
  addPasswordVerb(user, common, "passwd", "Give a user another password", "/password");
  CLI::App* list = user->add_subcommand("list", "All users");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/users", "users", {"name", "created_ms", "credentials"});
  });
  CLI::App* remove = user->add_subcommand("delete", "Delete a user; its connections are closed");
  addCommon(remove, common, false);
  auto rules = std::make_shared<bool>(false);
  remove->add_option("NAME", common->name, "The user's")->required();
  remove->add_flag("--rules", *rules, "And the access rules that name it");
  remove->callback([=] { deleteUser(*common, *rules); });
}

/// A rule's parts as options; the query that names it.
struct RuleArguments {
  std::string permission;
  std::string user;
  std::string host = "*";
  std::string operation = "all";
  std::string resource = "topic";
  std::string pattern = "literal";
  std::string name;

  std::string query() const {
    std::string out = fmt::format(
        "?permission={}&user={}&host={}&operation={}&resource={}&pattern={}", encoded(permission),
        encoded(user), encoded(host), encoded(operation), encoded(resource), encoded(pattern));
    if (!name.empty()) out += "&name=" + encoded(name);
    return out;
  }
};

void addRuleVerb(CLI::App* acl, const CommonRef& common, const char* verb, const char* help,
                 const char* method) {
  auto arguments = std::make_shared<RuleArguments>();
  CLI::App* command = acl->add_subcommand(verb, help);
  addCommon(command, common, false);
  takesOneOf(command->add_option("PERMISSION", arguments->permission, "allow or deny")->required(),
             {"allow", "deny"});
  command
      ->add_option("USER", arguments->user, "A user, * for everybody, ANONYMOUS for who gives none")
      ->required();
  takesOneOf(
      command
          ->add_option("OPERATION", arguments->operation,
                       fmt::format("What it may do or not: {}", fmt::join(operationNames(), ", ")))
          ->required(),
      operationNames());
  command->add_option("NAME", arguments->name,
                      "Of the topic, group, ...; * = every one; not needed for the cluster");
  takesOneOf(
      command
          ->add_option("--resource", arguments->resource,
                       fmt::format("What the name is of: {}", fmt::join(resourceNames(), ", ")))
          ->capture_default_str(),
      resourceNames());
  takesOneOf(
      command
          ->add_option("--pattern", arguments->pattern,
                       "How the name is meant: literal; prefixed, as the beginning of names; or "
                       "filter, as MQTT's topic filters")
          ->capture_default_str(),
      patternNames());
  command->add_option("--host", arguments->host, "From which IP address; * = any")
      ->capture_default_str();
  command->callback([=] {
    const bool literal = arguments->pattern == "literal" && arguments->resource == "topic";
    if (literal && arguments->name.find_first_of("+#") != std::string::npos) {
      std::fputs(
          "the name is taken as it stands; with --pattern filter, + and # mean what they do in "
          "MQTT\n",
          stderr);
    }
    change(common, method, "/api/acls" + arguments->query());
  });
}

void addAcl(CLI::App& app, const CommonRef& common) {
  CLI::App* acl = app.add_subcommand("acl", "Who may do what");
  acl->require_subcommand(1);
  CLI::App* list = acl->add_subcommand("list", "All rules");
  addCommon(list, common);
  list->callback([=] {
    show(common, "/api/acls", "acls",
         {"permission", "user", "host", "operation", "resource", "pattern", "name"});
  });
  addRuleVerb(acl, common, "create", "Make a rule", "POST");
  addRuleVerb(acl, common, "delete", "Take a rule back", "DELETE");
}

/// `polylog password USER`: asks no broker.
void addPassword(CLI::App& app, const CommonRef& common) {
  auto file = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("password", "Print a line for the broker's auth.password_file");
  command->add_option("USER", common->name)->required();
  command->add_option("--password-file", *file, "Its first line is the password");
  command->callback([=] {
    const std::string& name = common->name;
    if (name.empty() || name.size() > 255 || name.find(':') != std::string::npos || name == "*") {
      return common->report({ErrorKind::kInvalid, "a user's name has 1 to 255 octets and no `:`"});
    }
    auto password = readPassword(*file);
    if (!password) return common->report(password.error());
    const auto hash = password::make(*password, systemRandom());
    std::printf("%s:%s\n", name.c_str(), password::toText(hash).c_str());
  });
}

}  // namespace

void addAccessCommands(CLI::App& app, const CommonRef& common) {
  addPassword(app, common);
  addUser(app, common);
  addAcl(app, common);
}

}  // namespace polylog::server
