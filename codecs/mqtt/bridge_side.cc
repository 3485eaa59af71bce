#include "codecs/mqtt/bridge_side.h"

#include <fmt/format.h>

#include "core/base/log.h"

namespace polylog::mqtt {
namespace {

constexpr const char* kDropped = "polylog_bridge_dropped_total";
constexpr const char* kDroppedHelp = "Messages that a bridge didn't carry, by reason";

std::string labels(const std::string& bridge) {
  return fmt::format("bridge=\"{}\"", bridge);
}
Metric& dropped(const std::string& bridge, const char* reason) {
  return counter(kDropped, kDroppedHelp, fmt::format("{},reason=\"{}\"", labels(bridge), reason));
}

}  // namespace

BridgeCounters::BridgeCounters(const std::string& bridge)
    : sent(counter("polylog_bridge_sent_total", "Messages that a bridge sent to its remote broker",
                   labels(bridge))),
      received(counter("polylog_bridge_received_total",
                       "Messages that a bridge received from its remote broker", labels(bridge))),
      droppedLoop(dropped(bridge, "loop")),
      droppedName(dropped(bridge, "name")),
      refusedThere(dropped(bridge, "refused_there")),
      refusedHere(dropped(bridge, "refused_here")),
      denied(dropped(bridge, "denied")) {}

bool BridgeSide::outward(std::string& topic, const Record& record) const {
  size_t marks = 0;
  bool ours = false;
  for (const Header& header : record.headers) {
    if (header.name != kBridgeMark) continue;
    ++marks;
    ours = ours || header.value == BytesView(brokerId_) || header.value == BytesView(takenMark_);
  }
  if (!brokerId_.empty() && (ours || marks >= kMaxBridgeMarks)) {
    counters_.droppedLoop.add();
    return false;
  }
  std::string name;
  if (!topics_.outward(topic, name)) {
    counters_.droppedName.add();
    return false;
  }
  topic = std::move(name);
  return true;
}

bool BridgeSide::inward(BytesView& topic, const Properties& properties, std::string& name) const {
  counters_.received.add();
  size_t marks = 0;
  bool ours = false;
  for (const Property& property : properties.items()) {
    if (property.id != PropertyId::kUserProperty || property.text != kBridgeMark) continue;
    ++marks;
    ours = ours || property.value == brokerId_ || property.value.starts_with(takenHere_);
  }
  if (!brokerId_.empty() && (ours || marks >= kMaxBridgeMarks)) {
    counters_.droppedLoop.add();
    return false;
  }
  if (!topics_.inward(topic, name)) {
    counters_.droppedName.add();
    return false;
  }
  topic = name;
  return true;
}

void BridgeSide::mark(Properties& properties) const {
  if (!brokerId_.empty()) properties.add(PropertyId::kUserProperty, kBridgeMark, brokerId_);
}

void BridgeSide::mark(std::vector<Header>& headers) const {
  if (!takenMark_.empty()) headers.push_back({kBridgeMark, BytesView(takenMark_)});
}

bool BridgeSide::refusedForNow(ReasonCode code, int64_t id) {
  // Its disk is full, or it doesn't say what is wrong.
  const bool forNow = code == ReasonCode::kQuotaExceeded || code == ReasonCode::kUnspecifiedError;
  if (forNow) {
    if (refusals_.id != id) refusals_ = {id, 0};
    if (++refusals_.times < kMaxRefusals) return true;
    logWarning(fmt::format(
        "bridge '{}': the remote broker has refused a message {} times (0x{:02X}): it is dropped; "
        "see the remote broker's log for what it can't take",
        bridge_, refusals_.times, static_cast<unsigned>(code)));
    refusals_ = {};
  }
  progressed = true;
  if (isError(code)) counters_.refusedThere.add();
  return false;
}

}  // namespace polylog::mqtt
