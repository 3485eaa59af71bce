// `polylog produce` and `polylog consume`: records by the admin API, for a look and a try. Programs
// use their protocol's client.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "server/admin_client.h"
#include "server/client_common.h"
#include "server/json.h"

namespace polylog::server {
namespace {

constexpr size_t kMaxBatchRecords = 500;
constexpr size_t kMaxBatchBytes = 512 * 1024;
constexpr int64_t kConsumeAtOnce = 1000;

// ---- produce

struct ProduceArguments {
  std::string key;
  std::string separator;
  std::string file;
  std::vector<std::string> headers;
};

void writeRecord(Json& json, const std::optional<std::string>& key, BytesView value,
                 const std::vector<std::string>& headers) {
  json.object([&] {
    json.octets("key", key ? std::optional<BytesView>(*key) : std::nullopt);
    json.octets("value", value);
    json.name("headers");
    json.array([&] {
      for (const std::string& header : headers) {
        size_t equals = header.find('=');
        json.object([&] {
          json.octets("name", BytesView(header).substr(0, equals));
          json.octets("value", BytesView(header).substr(equals + 1));
        });
      }
    });
  });
}

/// Lines of standard input, and whether another is there already.
class LineReader {
 public:
  /// Nothing at the end. A last line without its end is a line.
  std::optional<std::string> next() {
    size_t end = 0;
    while ((end = text_.find('\n', at_)) == std::string::npos) {
      if (!fill()) {
        if (at_ == text_.size()) return std::nullopt;
        end = text_.size();
        text_ += '\n';
        break;
      }
    }
    std::string line = text_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

  bool waiting() const {
    if (text_.find('\n', at_) != std::string::npos) return true;
    pollfd input{STDIN_FILENO, POLLIN, 0};
    return !ended_ && poll(&input, 1, 0) > 0;
  }

 private:
  bool fill() {
    if (ended_) return false;
    text_.erase(0, at_);
    at_ = 0;
    char block[65536];
    ssize_t got = 0;
    do {
      got = read(STDIN_FILENO, block, sizeof block);
    } while (got < 0 && errno == EINTR);
    ended_ = got <= 0;
    if (!ended_) text_.append(block, static_cast<size_t>(got));
    return !ended_;
  }

  std::string text_;
  size_t at_ = 0;
  bool ended_ = false;
};

/// Gathers records while more are waiting, so that a file goes in few requests and a typed line at
/// once.
class Producer {
 public:
  Producer(const Common& common, const ProduceArguments& arguments)
      : common_(common),
        arguments_(arguments),
        client_(common.url),
        path_("/api/topics/" + encoded(common.name) + "/records") {}

  void add(std::optional<std::string> key, std::string value) {
    bytes_ += value.size() + (key ? key->size() : 0);
    records_.emplace_back(std::move(key), std::move(value));
  }
  bool full() const { return records_.size() >= kMaxBatchRecords || bytes_ >= kMaxBatchBytes; }

  bool send() {
    if (records_.empty()) return true;
    Json json;
    json.object([&] {
      json.name("records");
      json.array([&] {
        for (const auto& [key, value] : records_) {
          writeRecord(json, key, value, arguments_.headers);
        }
      });
    });
    records_.clear();
    bytes_ = 0;
    auto answer = client_.request("POST", path_, json.text());
    if (!answer) common_.report(answer.error());
    return answer.has_value();
  }

 private:
  const Common& common_;
  const ProduceArguments& arguments_;
  AdminClient client_;
  std::string path_;
  std::vector<std::pair<std::optional<std::string>, std::string>> records_;
  size_t bytes_ = 0;
};

void runProduce(const Common& common, const ProduceArguments& arguments, bool keyed) {
  for (const std::string& header : arguments.headers) {
    if (header.find('=') != std::string::npos) continue;
    return common.report(
        {ErrorKind::kInvalid, fmt::format("--header {}: write it as --header NAME=VALUE", header)});
  }
  Producer producer(common, arguments);
  std::optional<std::string> key = keyed ? std::optional(arguments.key) : std::nullopt;
  if (!arguments.file.empty()) {
    std::ifstream file(arguments.file, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(file), {}};
    if (!file.is_open() || file.bad()) {
      return common.report({ErrorKind::kNotFound, fmt::format("can't read {}: {}", arguments.file,
                                                              std::strerror(errno))});
    }
    producer.add(key, std::move(content));
    producer.send();
    return;
  }
  LineReader lines;
  while (auto line = lines.next()) {
    size_t at = arguments.separator.empty() ? std::string::npos : line->find(arguments.separator);
    if (at == std::string::npos) {
      producer.add(key, std::move(*line));
    } else {
      producer.add(line->substr(0, at), line->substr(at + arguments.separator.size()));
    }
    if ((producer.full() || !lines.waiting()) && !producer.send()) return;
  }
  producer.send();
}

void addProduce(CLI::App& app, const CommonRef& common) {
  auto arguments = std::make_shared<ProduceArguments>();
  CLI::App* command =
      app.add_subcommand("produce", "Publish each line of standard input as a record");
  addCommon(command, common, false);
  command->add_option("TOPIC", common->name, "The topic's name")->required();
  auto* key = command->add_option("--key", arguments->key, "Key of every record (none)");
  command->add_option("--key-separator", arguments->separator,
                      "What stands between a line's key and its value");
  command->add_option("--header", arguments->headers, "NAME=VALUE, any number of times")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--file", arguments->file, "Publish this file as one record instead");
  command->callback([=] { runProduce(*common, *arguments, key->count() > 0); });
}

// ---- consume

struct ConsumeArguments {
  bool fromBeginning = false;
  bool follow = false;
  int64_t partition = -1;
  int64_t offset = -1;
  int64_t count = -1;
  std::string format;
};

/// A record as it came, its octets decoded.
struct ShownRecord {
  int64_t partition = 0;
  int64_t offset = 0;
  int64_t timestamp = 0;
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
};

std::optional<std::string> octetsOf(const JsonValue& object, const char* name) {
  const JsonValue* coded = object.find(std::string(name) + "_base64");
  if (coded != nullptr && coded->text() != nullptr) return fromBase64(*coded->text());
  const JsonValue* plain = object.find(name);
  if (plain == nullptr || plain->text() == nullptr) return std::nullopt;
  return *plain->text();
}

int64_t numberOf(const JsonValue& object, const char* name) {
  const JsonValue* member = object.find(name);
  return member == nullptr ? -1 : member->number().value_or(-1);
}

const JsonValue::Array* arrayOf(const JsonValue& object, const char* name) {
  const JsonValue* member = object.find(name);
  return member == nullptr ? nullptr : member->array();
}

ShownRecord recordOf(const JsonValue& object, int64_t partition) {
  ShownRecord record;
  record.partition = partition;
  record.offset = numberOf(object, "offset");
  record.timestamp = numberOf(object, "timestamp");
  record.key = octetsOf(object, "key");
  record.value = octetsOf(object, "value");
  const JsonValue::Array* headers = arrayOf(object, "headers");
  if (headers == nullptr) return record;
  for (const JsonValue& header : *headers) {
    record.headers.emplace_back(octetsOf(header, "name").value_or(""), octetsOf(header, "value"));
  }
  return record;
}

std::string asJson(const ShownRecord& record) {
  Json json;
  json.object([&] {
    json.field("partition", record.partition);
    json.field("offset", record.offset);
    json.field("timestamp", record.timestamp);
    json.octets("key", record.key ? std::optional<BytesView>(*record.key) : std::nullopt);
    json.octets("value", record.value ? std::optional<BytesView>(*record.value) : std::nullopt);
    json.name("headers");
    json.array([&] {
      for (const auto& [name, value] : record.headers) {
        json.object([&] {
          json.octets("name", name);
          json.octets("value", value ? std::optional<BytesView>(*value) : std::nullopt);
        });
      }
    });
  });
  return json.text() + "\n";
}

std::string headersText(const ShownRecord& record) {
  std::string out;
  for (const auto& [name, value] : record.headers) {
    out += fmt::format("{}{}={}", out.empty() ? "" : ",", name, value.value_or(""));
  }
  return out;
}

constexpr const char* kFormatHelp =
    "How a record is printed: %k key, %v value, %h headers, %t topic, %p partition, %o offset, "
    "%T timestamp, %% percent, \\n newline, \\t tab";

/// `format` with what it stands for put in; kInvalid when it holds something else.
Result<std::string> formatted(const std::string& format, const std::string& topic,
                              const ShownRecord& record) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    char c = format[i];
    char next = i + 1 < format.size() ? format[i + 1] : '\0';
    if (c != '%' && c != '\\') {
      out += c;
      continue;
    }
    ++i;
    if (c == '\\') {
      if (next != 'n' && next != 't' && next != '\\') {
        return fail(ErrorKind::kInvalid,
                    fmt::format("--format {}: no such escape; {}", format, kFormatHelp));
      }
      out += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
      continue;
    }
    switch (next) {
      case 'k': out += record.key.value_or(""); break;
      case 'v': out += record.value.value_or(""); break;
      case 'h': out += headersText(record); break;
      case 't': out += topic; break;
      case 'p': out += fmt::to_string(record.partition); break;
      case 'o': out += fmt::to_string(record.offset); break;
      case 'T': out += fmt::to_string(record.timestamp); break;
      case '%': out += '%'; break;
      default:
        return fail(ErrorKind::kInvalid,
                    fmt::format("--format {}: no such field; {}", format, kFormatHelp));
    }
  }
  return out;
}

class Consumer {
 public:
  Consumer(const Common& common, const ConsumeArguments& arguments)
      : common_(common), arguments_(arguments), client_(common.url), left_(arguments.count) {}

  Result<> run() {
    if (auto checked = text(ShownRecord{}); !checked) return std::unexpected(checked.error());
    if (auto found = findPartitions(); !found) return found;
    bool follow = arguments_.follow || (!arguments_.fromBeginning && arguments_.offset < 0);
    // A round over all partitions doesn't wait; only when it found nothing does the next partition,
    // in turn, and not for long if there are others.
    int64_t patience = cursors_.size() == 1 ? 30'000 : 100;
    for (size_t turn = 0; true; ++turn) {
      bool done = true;
      bool some = false;
      for (Cursor& cursor : cursors_) {
        if (left_ == 0) return {};
        std::string before = cursor.offset;
        if (auto read = readSome(cursor, 0); !read) return read;
        done = done && cursor.atEnd;
        some = some || cursor.offset != before;
      }
      if (left_ == 0 || (done && !follow)) return {};
      if (some) continue;
      if (auto read = readSome(cursors_[turn % cursors_.size()], patience); !read) return read;
    }
  }

 private:
  struct Cursor {
    int64_t partition = 0;
    std::string offset;
    bool atEnd = false;
  };

  Result<> findPartitions() {
    auto answer = client_.request("GET", "/api/topics/" + encoded(common_.name));
    if (!answer) return std::unexpected(answer.error());
    auto document = parseAnswer(common_, *answer);
    if (!document) return std::unexpected(document.error());
    if (const JsonValue::Array* partitions = arrayOf(*document, "partitions")) {
      for (const JsonValue& partition : *partitions) {
        int64_t number = numberOf(partition, "partition");
        if (number < 0 || (arguments_.partition >= 0 && arguments_.partition != number)) continue;
        // The ends of now: what comes while others are read isn't to be missed.
        const char* end = arguments_.fromBeginning ? "log_start" : "high_watermark";
        int64_t start = arguments_.offset >= 0 ? arguments_.offset : numberOf(partition, end);
        cursors_.push_back({number, fmt::to_string(start)});
      }
    }
    if (!cursors_.empty()) return {};
    return fail(
        ErrorKind::kNotFound,
        fmt::format("topic `{}` has no partition {}; `polylog topic describe {}` lists them",
                    common_.name, arguments_.partition, common_.name));
  }

  Result<std::string> text(const ShownRecord& record) const {
    if (common_.json) return asJson(record);
    if (!arguments_.format.empty()) return formatted(arguments_.format, common_.name, record);
    return fmt::format("{}{}{}\n", record.key.value_or(""), record.key ? " " : "",
                       record.value.value_or(""));
  }

  /// Prints a partition's next records and moves its cursor on.
  Result<> readSome(Cursor& cursor, int64_t waitMillis) {
    int64_t max = left_ < 0 ? kConsumeAtOnce : std::min(left_, kConsumeAtOnce);
    auto answer = client_.request(
        "GET",
        fmt::format("/api/topics/{}/records?partition={}&offset={}&max={}&wait_ms={}",
                    encoded(common_.name), cursor.partition, cursor.offset, max, waitMillis));
    if (!answer) {
      return fail(answer.error().kind,
                  fmt::format("partition {}: {}", cursor.partition, answer.error().text));
    }
    auto document = parseAnswer(common_, *answer);
    if (!document) return std::unexpected(document.error());
    const JsonValue::Array* records = arrayOf(*document, "records");
    if (records == nullptr) {
      return fail(ErrorKind::kInvalid, common_.url + " doesn't answer like a Polylog broker");
    }
    for (const JsonValue& each : *records) {
      auto shown = text(recordOf(each, cursor.partition));
      if (!shown) return std::unexpected(shown.error());
      if (std::fwrite(shown->data(), 1, shown->size(), stdout) != shown->size()) {
        return fail(ErrorKind::kIo, "standard output is closed");
      }
      if (left_ > 0) --left_;
    }
    std::fflush(stdout);
    cursor.offset = fmt::to_string(numberOf(*document, "next"));
    cursor.atEnd = numberOf(*document, "next") >= numberOf(*document, "high_watermark");
    return {};
  }

  const Common& common_;
  const ConsumeArguments& arguments_;
  AdminClient client_;
  std::vector<Cursor> cursors_;
  int64_t left_;
};

void addConsume(CLI::App& app, const CommonRef& common) {
  auto arguments = std::make_shared<ConsumeArguments>();
  CLI::App* command =
      app.add_subcommand("consume", "Print a topic's records: those to come, or from a start");
  addCommon(command, common);
  command->add_option("TOPIC", common->name, "The topic's name")->required();
  CLI::Option* beginning = command->add_flag("--from-beginning", arguments->fromBeginning,
                                             "Start at the oldest record and end at the newest");
  addNumber(command, "--offset", arguments->offset, 0, kAnyNumber,
            "Start there and end at the newest")
      ->excludes(beginning);
  addNumber(command, "--partition", arguments->partition, 0, INT32_MAX,
            "Only this one (all of them)");
  addNumber(command, "--count", arguments->count, 1, kAnyNumber, "End after so many records");
  command->add_flag("--follow", arguments->follow, "Wait for more at the end");
  command->add_option("--format", arguments->format, kFormatHelp);
  command->callback([=] {
    if (auto done = Consumer(*common, *arguments).run(); !done) common->report(done.error());
  });
}

}  // namespace

void addRecordCommands(CLI::App& app, const CommonRef& common) {
  addProduce(app, common);
  addConsume(app, common);
}

}  // namespace polylog::server
