// Reads the tables of docs/mapping.md, for tests that hold them against the code.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "tests/support/source_tree.h"

namespace polylog::mapping {

using Row = std::vector<std::string>;

inline std::string trimmed(BytesView text) {
  size_t from = text.find_first_not_of(' ');
  if (from == BytesView::npos) return {};
  return std::string(text.substr(from, text.find_last_not_of(' ') - from + 1));
}

inline Row cells(BytesView line) {
  Row out;
  line.remove_prefix(1);
  for (size_t bar = line.find('|'); bar != BytesView::npos; bar = line.find('|')) {
    out.push_back(trimmed(line.substr(0, bar)));
    line.remove_prefix(bar + 1);
  }
  return out;
}

inline std::vector<std::string> docLines() {
  auto root = polylog::testing::sourceTree();
  std::ifstream file(root / "docs" / "mapping.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  EXPECT_FALSE(lines.empty()) << "docs/mapping.md not found below " << root;
  return lines;
}

/// The rows of the table whose heading row begins with these cells.
inline std::vector<Row> docTable(const Row& heading) {
  std::vector<std::string> lines = docLines();
  std::vector<Row> rows;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!lines[i].starts_with('|') || cells(lines[i]) != heading) continue;
    for (i += 2; i < lines.size() && lines[i].starts_with('|'); ++i)
      rows.push_back(cells(lines[i]));
    return rows;
  }
  ADD_FAILURE() << "docs/mapping.md has no table headed '" << heading.front() << "'";
  return rows;
}

inline std::string lineOf(const Row& row) {
  std::string out = "|";
  for (const std::string& cell : row) out += " " + cell + " |";
  return out;
}

inline void expectTable(const Row& heading, const std::vector<Row>& code) {
  std::vector<Row> doc = docTable(heading);
  for (size_t i = 0; i < std::max(doc.size(), code.size()); ++i) {
    EXPECT_EQ(i < doc.size() ? lineOf(doc[i]) : "(no row)",
              i < code.size() ? lineOf(code[i]) : "(no row)")
        << "docs/mapping.md on the left, the code on the right";
  }
}

inline std::string code(BytesView text) {
  return "`" + std::string(text) + "`";
}

}  // namespace polylog::mapping
