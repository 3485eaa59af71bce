// Traces: what some clients and the broker say to each other, written to files for a person to
// read. A trace is about one client id, user, address or topic filter, and ends by itself: after a
// time, or when its file has reached its size. They don't outlive the process.
//
// Tracer on any thread; while there is no trace, asking costs an atomic load. Lines are written
// where they come about, under a lock: a trace is for few clients and for a while.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "codecs/mqtt/packet.h"
#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/model/principal.h"
#include "core/net/ip_prefix.h"

namespace polylog::mqtt {

struct TraceSpec {
  enum class Kind : uint8_t { kClientId, kUser, kAddress, kTopic };
  std::string name;  ///< and its file's: letters, digits, '-' and '_', 64 at most
  Kind kind = Kind::kClientId;
  std::string what;
  int64_t seconds = 600;
  int64_t maxBytes = 10 << 20;
  bool payload = false;  ///< the beginnings of payloads, too
};

struct TraceInfo {
  TraceSpec spec;
  std::string file;
  int64_t untilMs = 0;
  int64_t bytes = 0;
  bool running = false;
};

class Tracer {
 public:
  static constexpr size_t kMostTraces = 30;
  static constexpr int64_t kMostSeconds = 86'400;
  static constexpr int64_t kMostBytes = int64_t{1} << 30;

  /// Files are made in `directory`, which is made with the first.
  Tracer(std::string directory, Clock& clock);
  ~Tracer();
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  /// kInvalid, kAlreadyExists (one of that name runs, or its file is there), kBusy (too many), kIo.
  Result<> start(TraceSpec spec);
  /// Its file stays. kNotFound.
  Result<> stop(const std::string& name);
  /// Those that run, and those that have ended since the start.
  std::vector<TraceInfo> all();

  bool any() const { return running_.load(std::memory_order_relaxed) > 0; }
  /// A packet from (`inward`) or to the client. Only if any().
  void packet(const Principal& who, bool inward, const Packet& packet);

 private:
  struct Trace;
  bool concerns(const Trace& trace, const Principal& who, const Packet& packet) const;
  void write(Trace& trace, const std::string& line);
  void end(Trace& trace);

  const std::string directory_;
  Clock& clock_;
  std::atomic<int> running_{0};
  std::mutex lock_;
  std::vector<std::unique_ptr<Trace>> traces_;
};

/// A packet as people read it, on one line: "PUBLISH t/x qos=1 id=5 12 octets". Passwords never.
std::string describe(const Packet& packet, bool payload);

}  // namespace polylog::mqtt
