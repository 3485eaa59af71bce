// The broker's figures as MQTT clients look for them: `$SYS/broker/...`, with mosquitto's names and
// units. Made and used on one dispatcher's thread, but for its making.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/event/dispatcher.h"
#include "core/model/broker.h"

namespace polylog {
class Metric;
}

namespace polylog::server {

class SysTopics {
 public:
  SysTopics(Broker& broker, Dispatcher& dispatcher, int64_t intervalSeconds);
  ~SysTopics();
  /// On the dispatcher's thread.
  void start();
  void stop();

 private:
  /// A counter whose rate is shown as averages over 1, 5 and 15 minutes.
  struct Load {
    const char* name;
    std::vector<Metric*> counters;
    int64_t before = 0;
    std::array<double, 3> averages{};
  };
  using Values = std::vector<std::pair<std::string, std::string>>;

  void tick();
  void addLoads(Values& values);

  Broker& broker_;
  Dispatcher& dispatcher_;
  const int64_t intervalSeconds_;
  int64_t startedMicros_ = 0;
  int64_t mostConnected_ = 0;
  std::vector<Load> loads_;
  PrincipalRef principal_;
  std::unique_ptr<Timer> timer_;
};

}  // namespace polylog::server
