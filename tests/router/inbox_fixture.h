// A session whose inbox has limits, and what is published to it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/router/router_fixture.h"

namespace polylog::router {

class InboxFixture : public RouterFixture {
 protected:
  void sleep(const std::string& filter = "t/#", DeliveryGuarantee guarantee = kQos1) {
    TestClient& client = connect("c", 3600);
    subscribe(client, filter, guarantee);
    detach(client);
  }
  void publishEach(int from, int to, DeliveryGuarantee guarantee = kQos1) {
    for (int i = from; i < to; ++i) {
      publishOne("t/x", std::to_string(i), guarantee);
      settle();
    }
  }
  void publishAtOnce(int from, int to, const std::string& topic = "t/x") {
    std::vector<Outgoing> all;
    for (int i = from; i < to; ++i) all.push_back({topic, std::to_string(i), kQos1});
    publish(std::move(all));
    settle();
  }
  /// So many octets, beginning with its number.
  void publishLarge(int from, int to, size_t octets = 1000) {
    for (int i = from; i < to; ++i) {
      std::string text = std::to_string(i) + ".";
      text.resize(octets, 'x');
      publishOne("t/x", text, kQos1);
      settle();
    }
  }
  static std::vector<std::string> numbers(std::vector<std::string> texts) {
    for (std::string& text : texts) text = text.substr(0, text.find('.'));
    return texts;
  }
  std::vector<std::string> back(size_t most = 1000) {
    TestClient& client = connect("c", 3600);
    return numbers(takeTexts(client, most));
  }
  SessionInfo describe() {
    SessionInfo found;
    on(0, [&] {
      router_->listSessions(principal("admin"), [&](std::vector<SessionInfo> all) {
        for (SessionInfo& info : all) {
          if (info.clientId == "c") found = std::move(info);
        }
      });
    });
    settle();
    return found;
  }
};

inline RouterOptions limited(int64_t records, int64_t bytes = 0, bool dropsNew = false) {
  RouterOptions options;
  options.inboxRecords = records;
  options.inboxBytes = bytes;
  options.inboxDropsNew = dropsNew;
  return options;
}

inline RouterOptions aging(int64_t millis) {
  RouterOptions options;
  options.inboxMillis = millis;
  return options;
}

}  // namespace polylog::router
