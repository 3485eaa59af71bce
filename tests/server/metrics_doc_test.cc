// Holds docs/metrics.md against the sources: every metric that is named there exists, every metric
// of the sources is named there.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "tests/support/source_tree.h"

namespace polylog::server {
namespace {

const std::filesystem::path kRoot =
    polylog::testing::sourceTree();

std::string contentOf(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::set<std::string> matches(const std::string& text, const char* pattern) {
  std::set<std::string> found;
  std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) {
    found.insert((*it)[1]);
  }
  return found;
}

TEST(MetricsDocTest, thePageListsExactlyWhatTheSourcesHave) {
  std::set<std::string> built;
  for (const char* folder : {"core", "mapping", "codecs", "router", "storage", "server"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kRoot / folder)) {
      if (entry.path().extension() != ".cc" && entry.path().extension() != ".h") continue;
      built.merge(matches(contentOf(entry.path()), R"re("(polylog_[a-z_]+)[{"])re"));
    }
  }
  std::set<std::string> documented =
      matches(contentOf(kRoot / "docs/metrics.md"), R"re(\n\| `(polylog_[a-z_]+)` \|)re");
  EXPECT_GT(documented.size(), 20U);
  for (const std::string& name : built) {
    EXPECT_TRUE(documented.contains(name)) << name << " is not in docs/metrics.md";
  }
  for (const std::string& name : documented) {
    EXPECT_TRUE(built.contains(name)) << name << " is in docs/metrics.md and in no source";
  }
}

}  // namespace
}  // namespace polylog::server
