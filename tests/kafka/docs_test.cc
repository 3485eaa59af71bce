// docs/kafka.md's tables are made from the lists in the code: POLYLOG_UPDATE_DOCS=1 writes them
// anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <tuple>

#include "codecs/kafka/api.h"
#include "codecs/kafka/topic_config_keys.h"
#include "codecs/kafka/wire/all.h"
#include "tests/support/source_tree.h"

namespace polylog::kafka {
namespace {

std::string apiTable() {
  std::string table = "| key | API | versions | |\n|---|---|---|---|\n";
  for (const Api& api : apis()) {
    std::string versions = std::to_string(api.minVersion);
    if (api.maxVersion != api.minVersion) versions += "-" + std::to_string(api.maxVersion);
    table += "| " + std::to_string(api.key) + " | " + api.name + " | " + versions + " | " +
             api.note + " |\n";
  }
  return table;
}

std::string configTable() {
  std::string table = "| key | default | the broker's key | |\n|---|---|---|---|\n";
  for (const ConfigKey& key : topicConfigKeys()) {
    auto code = [](BytesView text) {
      return text.empty() ? std::string() : "`" + std::string(text) + "`";
    };
    table += "| " + code(key.name) + " | " + code(key.fallback) + " | " + code(key.brokerName) +
             " | " + std::string(key.documentation) + " |\n";
  }
  return table;
}

/// Compares what is between the marks, or writes it.
void hold(const std::string& what, const std::string& expected) {
  std::filesystem::path page = polylog::testing::sourceTree() / "docs/kafka.md";
  std::stringstream read;
  read << std::ifstream(page).rdbuf();
  std::string text = read.str();
  std::string begins = "<!-- " + what + " begin -->\n";
  size_t from = text.find(begins);
  size_t to = text.find("<!-- " + what + " end -->");
  ASSERT_NE(from, std::string::npos) << page << " has lost its marks";
  ASSERT_NE(to, std::string::npos) << page << " has lost its marks";
  from += begins.size();
  if (std::getenv("POLYLOG_UPDATE_DOCS") != nullptr) {
    std::ofstream(page) << text.replace(from, to - from, expected);
    GTEST_SKIP() << "written anew";
  }
  EXPECT_EQ(text.substr(from, to - from), expected);
}

TEST(KafkaPage, NamesEveryApiThatIsServed) {
  hold("apis", apiTable());
}
TEST(KafkaPage, NamesEveryTopicConfiguration) {
  hold("configs", configTable());
}

template <class... Requests>
size_t defined(std::tuple<Requests...>*) {
  return sizeof...(Requests);
}

// Pitfall: a client picks the highest common version, so one that is advertised has to be served
// whole. wire_test.cc takes every version of every message there and back; here it is held that
// those are the ones that are advertised.
TEST(KafkaPage, AClientPicksTheHighestCommonVersion) {
  EXPECT_EQ(apis().size(), defined(static_cast<wire::AllRequests*>(nullptr)));
}

}  // namespace
}  // namespace polylog::kafka
