#include "server/journal_commands.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "router/state_codec.h"
#include "server/json.h"
#include "storage/journal_reader.h"

namespace polylog::server {
namespace {

using storage::FaultKind;
using storage::JournalFault;
using storage::JournalReport;
using storage::SegmentSummary;

/// A broker that begins a segment, or makes a footer, is done with it after so long.
constexpr auto kSecondLook = std::chrono::milliseconds(200);
/// Ranges of offsets that a line of text names; --json names all.
constexpr size_t kMostNamed = 8;

struct Arguments {
  std::string directory;
  bool json = false;
  bool partitions = false;
  int* status = nullptr;
};
using ArgumentsRef = std::shared_ptr<Arguments>;

Result<JournalReport> readFrom(const std::string& path, bool verify) {
  std::error_code error;
  // Opening makes what isn't there.
  if (!std::filesystem::is_directory(path, error)) {
    return fail(ErrorKind::kNotFound, path + " is no directory");
  }
  auto directory = storage::openDirectory(path);
  if (!directory) return std::unexpected(directory.error());
  auto journal = storage::findJournal(*directory);
  if (!journal) return std::unexpected(journal.error());
  storage::JournalReadOptions options;
  options.verify = verify;
  options.liveness = !verify;
  options.state = {storage::StateTable::kTopic, storage::StateTable::kQueue,
                   storage::StateTable::kSession};
  options.pause = [] { std::this_thread::sleep_for(kSecondLook); };
  return storage::readJournal(**journal, options);
}

const char* statusOf(const storage::SegmentInfo& info) {
  if (info.rewritten) return "rewritten";
  switch (info.status) {
    case storage::SegmentStatus::kActive: return "active";
    case storage::SegmentStatus::kClosed: return "closed";
    default: return "sealed";
  }
}

using Names = std::map<PartitionId, std::string>;

/// Whose partitions they are, as far as the journal still has it.
Names namesIn(const JournalReport& report) {
  Names names;
  for (const auto& [key, value] : report.state) {
    const auto& [table, name] = key;
    if (table == storage::StateTable::kTopic) {
      auto topic = router::decodeTopic(name, value);
      for (size_t i = 0; topic && i < topic->partitions.size(); ++i) {
        names[topic->partitions[i]] = fmt::format("topic {}, {}", name, i);
      }
    } else if (table == storage::StateTable::kQueue) {
      auto queue = router::decodeQueue(name, value);
      if (queue) names[queue->partition] = "queue " + name;
    } else if (auto session = router::decodeSession(name, value)) {
      names[session->inbox] = "session " + name;
    }
  }
  return names;
}

/// For a line of text: nothing that moves a terminal's cursor.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '?';
  }
  return text;
}

int64_t number(uint64_t value) {
  return static_cast<int64_t>(value);
}

/// Of a segment, or of all.
struct Counts {
  uint64_t octets = 0;
  storage::SegmentTotals totals;
  uint64_t partitions = 0;
};

Counts countsOf(const SegmentSummary& segment) {
  return {segment.fileBytes, segment.totals, segment.partitions};
}

Counts sum(const JournalReport& report) {
  Counts all;
  for (const SegmentSummary& segment : report.segments) {
    all.octets += segment.fileBytes;
    all.totals.entries += segment.totals.entries;
    all.totals.batches += segment.totals.batches;
    all.totals.batchBytes += segment.totals.batchBytes;
    all.totals.records += segment.totals.records;
    all.totals.links += segment.totals.links;
    all.totals.offsets += segment.totals.offsets;
    all.totals.stateChanges += segment.totals.stateChanges;
  }
  for (const auto& [id, partition] : report.partitions) all.partitions += partition.segments != 0;
  return all;
}

const char* adviceFor(const JournalReport& report) {
  bool records = false;
  for (const JournalFault& fault : report.faults) {
    if (fault.kind == FaultKind::kManifest) {
      return "The broker won't start like this: restore the data directory from a backup.";
    }
    records |= fault.kind == FaultKind::kRecords;
  }
  if (records) {
    return "Check the disk, then restore a backup, or go on: the broker keeps the rest, and "
           "reading "
           "what is lost fails.";
  }
  if (!report.faults.empty()) {
    return "Check the disk. No record is lost: the broker does without what is damaged here.";
  }
  return "Nothing is to be done.";
}

// ---------------------------------------------------------------- JSON

void putCounts(Json& json, const Counts& counts) {
  json.field("octets", number(counts.octets));
  json.field("entries", number(counts.totals.entries));
  json.field("batches", number(counts.totals.batches));
  json.field("batch_octets", number(counts.totals.batchBytes));
  json.field("records", number(counts.totals.records));
  json.field("links", number(counts.totals.links));
  json.field("offsets", number(counts.totals.offsets));
  json.field("partitions", number(counts.partitions));
  json.field("state_changes", number(counts.totals.stateChanges));
}

void putTornTail(Json& json, const JournalReport& report) {
  for (const SegmentSummary& segment : report.segments) {
    if (segment.tornBytes == 0) continue;
    json.name("torn_tail");
    json.object([&] {
      json.field("file", segment.info.file);
      json.field("octet", number(segment.info.place(segment.end)));
      json.field("octets", number(segment.tornBytes));
    });
  }
}

void putPartition(Json& json, PartitionId id, const Names& names) {
  json.field("partition", number(id.value()));
  auto name = names.find(id);
  if (name != names.end()) json.octets("of", name->second);
}

void putPartitions(Json& json, const JournalReport& report) {
  Names names = namesIn(report);
  json.name("partitions");
  json.array([&] {
    for (const auto& entry : report.partitions) {
      json.object([&] {
        const auto& [id, partition] = entry;
        putPartition(json, id, names);
        json.field("first", partition.first.value());
        json.field("end", partition.end.value());
        json.field("offsets", number(partition.offsets));
        json.field("octets", number(partition.bytes));
        json.field("segments", number(partition.segments));
        if (partition.logStart) json.field("log_start", partition.logStart->value());
        json.field("deleted", partition.deleted);
      });
    }
  });
}

std::string inspectJson(const JournalReport& report, bool partitions) {
  Json json;
  json.object([&] {
    json.name("segments");
    json.array([&] {
      for (const SegmentSummary& segment : report.segments) {
        json.object([&] {
          json.field("id", number(segment.info.id));
          json.field("file", segment.info.file);
          json.field("status", statusOf(segment.info));
          json.field("created_ms", segment.info.createdMs);
          json.field("base", number(segment.info.base.value()));
          json.field("end", number(segment.end.value()));
          putCounts(json, countsOf(segment));
          if (segment.aliveBytes) json.field("alive_octets_at_most", number(*segment.aliveBytes));
        });
      }
    });
    json.name("total");
    json.object([&] {
      json.field("segments", number(report.segments.size()));
      putCounts(json, sum(report));
    });
    putTornTail(json, report);
    json.field("faults", number(report.faults.size()));
    if (partitions) putPartitions(json, report);
  });
  return json.text();
}

std::string verifyJson(const JournalReport& report) {
  Names names = namesIn(report);
  Json json;
  json.object([&] {
    json.field("sound", report.faults.empty());
    json.name("checked");
    json.object([&] {
      json.field("segments", number(report.segments.size()));
      putCounts(json, sum(report));
    });
    putTornTail(json, report);
    json.name("damage");
    json.array([&] {
      for (const JournalFault& fault : report.faults) {
        json.object([&] {
          json.field("file", fault.file);
          json.field("octet", number(fault.at));
          json.field("octets", number(fault.length));
          json.field("what", fault.text);
          json.field("records_lost", fault.kind == FaultKind::kRecords);
          json.name("lost");
          json.array([&] {
            for (const storage::OffsetsLost& lost : fault.lost) {
              json.object([&] {
                putPartition(json, lost.partition, names);
                json.field("first", lost.first.value());
                json.field("end", lost.end.value());
              });
            }
          });
        });
      }
    });
    json.field("advice", adviceFor(report));
  });
  return json.text();
}

// ---------------------------------------------------------------- text

void printLine(const std::vector<std::string>& cells) {
  static constexpr int kWidths[] = {-4, -10, 12, 12, 12, 9, 9, 10, 7, 10, 10, 13, 6};
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    line += kWidths[i] < 0 ? fmt::format("{:<{}} ", cells[i], -kWidths[i])
                           : fmt::format("{:>{}} ", cells[i], kWidths[i]);
  }
  std::puts(line.c_str());
}

void addCounts(std::vector<std::string>& cells, const Counts& counts) {
  const storage::SegmentTotals& totals = counts.totals;
  for (uint64_t value : {counts.octets, totals.entries, totals.batches, totals.records,
                         totals.links, totals.offsets, counts.partitions, totals.stateChanges}) {
    cells.push_back(fmt::to_string(value));
  }
}

void printTornTail(const JournalReport& report) {
  for (const SegmentSummary& segment : report.segments) {
    if (segment.tornBytes == 0) continue;
    fmt::print(
        "The last write isn't whole: {} octets from octet {} of {} on. A running broker is "
        "still writing them; else its next start cuts them off.\n",
        segment.tornBytes, segment.info.place(segment.end), segment.info.file);
  }
}

/// A share of its batches' octets: what may be alive.
std::string aliveOf(const SegmentSummary& segment) {
  if (!segment.aliveBytes) return "-";
  uint64_t all = std::max<uint64_t>(segment.totals.batchBytes, 1);
  return fmt::format("{}%", (std::min(*segment.aliveBytes, all) * 100 + all - 1) / all);
}

void printInspection(const JournalReport& report, bool partitions) {
  printLine({"id", "status", "base", "end", "octets", "entries", "batches", "records", "links",
             "offsets", "partitions", "state changes", "alive"});
  for (const SegmentSummary& segment : report.segments) {
    std::vector<std::string> cells{fmt::to_string(segment.info.id), statusOf(segment.info),
                                   fmt::to_string(segment.info.base.value()),
                                   fmt::to_string(segment.end.value())};
    addCounts(cells, countsOf(segment));
    cells.push_back(aliveOf(segment) + "  " + segment.info.file);
    printLine(cells);
  }
  std::vector<std::string> total{"all", "", "", ""};
  addCounts(total, sum(report));
  printLine(total);
  if (partitions) {
    Names names = namesIn(report);
    fmt::print("\n{:>20} {:>12} {:>12} {:>12} {:>14} {:>8} {:>12}  of\n", "partition", "first",
               "end", "offsets", "octets", "segments", "log start");
    for (const auto& [id, partition] : report.partitions) {
      std::string start = partition.deleted    ? "deleted"
                          : partition.logStart ? fmt::to_string(partition.logStart->value())
                                               : "-";
      auto name = names.find(id);
      fmt::print("{:>20} {:>12} {:>12} {:>12} {:>14} {:>8} {:>12}  {}\n", id.value(),
                 partition.first.value(), partition.end.value(), partition.offsets, partition.bytes,
                 partition.segments, start, name == names.end() ? "-" : printable(name->second));
    }
  }
  printTornTail(report);
  if (!report.faults.empty()) {
    std::puts("There is damage, which isn't counted here: see `polylog journal verify`.");
  }
}

void printFault(const JournalFault& fault, const Names& names) {
  std::string where = fault.file;
  if (fault.at != 0 || fault.length != 0) where += fmt::format(": octet {}", fault.at);
  if (fault.length != 0) where += fmt::format(" to {}", fault.at + fault.length);
  fmt::print("{}: {}\n", where, fault.text);
  size_t named = 0;
  for (const storage::OffsetsLost& lost : fault.lost) {
    if (++named > kMostNamed) {
      fmt::print("    and {} more ranges: --json names them\n", fault.lost.size() - kMostNamed);
      break;
    }
    auto name = names.find(lost.partition);
    fmt::print("    lost: partition {}{}, offsets {} to {}\n", lost.partition.value(),
               name == names.end() ? "" : " (" + printable(name->second) + ")", lost.first.value(),
               lost.end.value() - 1);
  }
}

void printVerdict(const JournalReport& report) {
  Names names = namesIn(report);
  for (const JournalFault& fault : report.faults) printFault(fault, names);
  printTornTail(report);
  Counts all = sum(report);
  fmt::print(
      "{}: {} segments, {} octets, {} entries, {} batches were checked. {}\n",
      report.faults.empty() ? "sound" : fmt::format("damaged in {} places", report.faults.size()),
      report.segments.size(), all.octets, all.totals.entries, all.totals.batches,
      adviceFor(report));
}

// ---------------------------------------------------------------- commands

void run(const Arguments& arguments, bool verify) {
  auto report = readFrom(arguments.directory, verify);
  if (!report) {
    std::fprintf(stderr, "polylog: %s\n", report.error().text.c_str());
    *arguments.status = kJournalUnreadable;
    return;
  }
  bool lost = !report->faults.empty() && report->faults[0].kind == FaultKind::kManifest;
  if (lost && !verify) {
    std::fprintf(stderr, "polylog: %s\n", report->faults[0].text.c_str());
    *arguments.status = kJournalUnreadable;
    return;
  }
  if (verify) {
    *arguments.status = report->faults.empty() ? 0 : 1;
    if (!arguments.json) return printVerdict(*report);
    std::puts(verifyJson(*report).c_str());
    return;
  }
  if (!arguments.json) return printInspection(*report, arguments.partitions);
  std::puts(inspectJson(*report, arguments.partitions).c_str());
}

}  // namespace

void addJournalCommands(CLI::App& app, int& status) {
  auto arguments = std::make_shared<Arguments>();
  arguments->status = &status;
  CLI::App* journal =
      app.add_subcommand("journal", "Look into a journal's files; a broker may be using them");
  journal->require_subcommand(1);
  auto add = [&](const char* name, const char* what, bool verify) {
    CLI::App* command = journal->add_subcommand(name, what);
    command->add_option("DIR", arguments->directory, "The data directory")->required();
    command->add_flag("--json", arguments->json, "Print JSON instead");
    command->callback([arguments, verify] { run(*arguments, verify); });
    return command;
  };
  add("inspect", "What is in each segment", false)
      ->add_flag("--partitions", arguments->partitions, "And in each partition");
  add("verify", "Check everything; status 1 when there is damage", true);
}

}  // namespace polylog::server
