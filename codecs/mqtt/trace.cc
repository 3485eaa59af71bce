#include "codecs/mqtt/trace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "core/net/address.h"
#include "mapping/mqtt.h"

namespace polylog::mqtt {
namespace {

using Kind = TraceSpec::Kind;

constexpr size_t kShownPayload = 256;
constexpr size_t kShownText = 512;

/// Octets as text on one line.
std::string shown(BytesView text, size_t most = kShownText) {
  std::string out;
  for (char c : text.substr(0, most)) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet >= 0x20 && octet != 0x7F && octet != '\\') {
      out.push_back(c);
    } else {
      out += fmt::format("\\x{:02x}", octet);
    }
  }
  if (text.size() > most) out += "...";
  return out;
}

std::string nameOf(PacketType type) {
  switch (type) {
    case PacketType::kPuback: return "PUBACK";
    case PacketType::kPubrec: return "PUBREC";
    case PacketType::kPubrel: return "PUBREL";
    case PacketType::kPubcomp: return "PUBCOMP";
    case PacketType::kSuback: return "SUBACK";
    case PacketType::kUnsuback: return "UNSUBACK";
    case PacketType::kPingreq: return "PINGREQ";
    case PacketType::kPingresp: return "PINGRESP";
    default: return fmt::format("packet {}", static_cast<int>(type));
  }
}

std::string codes(const std::vector<ReasonCode>& all) {
  std::string out;
  for (ReasonCode code : all) out += fmt::format(" 0x{:02X}", static_cast<unsigned>(code));
  return out;
}

struct Describer {
  bool payload;

  std::string operator()(const PublishPacket& p) const {
    std::string out = fmt::format("PUBLISH {} qos={}{}{}", shown(p.topic), p.qos,
                                  p.retain ? " retain" : "", p.dup ? " dup" : "");
    if (p.qos > 0) out += fmt::format(" id={}", p.packetId);
    if (auto alias = p.properties.number(PropertyId::kTopicAlias)) {
      out += fmt::format(" alias={}", *alias);
    }
    out += fmt::format(" {} octets", p.payload.size());
    if (payload) out += ": " + shown(p.payload, kShownPayload);
    return out;
  }
  std::string operator()(const AckPacket& p) const {
    return fmt::format("{} id={} 0x{:02X}", nameOf(p.type), p.packetId,
                       static_cast<unsigned>(p.code));
  }
  std::string operator()(const PingPacket& p) const { return nameOf(p.type); }
  std::string operator()(const ConnectPacket& p) const {
    std::string out = fmt::format("CONNECT level={} {}keep-alive={}", p.level,
                                  p.cleanStart ? "clean " : "", p.keepAliveSeconds);
    if (auto expiry = p.properties.number(PropertyId::kSessionExpiry)) {
      out += fmt::format(" expiry={}", *expiry);
    }
    if (p.will) {
      out += fmt::format(" will={} qos={} {} octets", shown(p.will->topic), p.will->qos,
                         p.will->payload.size());
    }
    return out;
  }
  std::string operator()(const ConnackPacket& p) const {
    return fmt::format("CONNACK 0x{:02X}{}", p.code, p.sessionPresent ? " session present" : "");
  }
  std::string operator()(const SubscribePacket& p) const {
    std::string out = fmt::format("SUBSCRIBE id={}", p.packetId);
    for (const SubscribeEntry& entry : p.entries) {
      out += fmt::format(" {} qos={}{}{} rh={}", shown(entry.filter), entry.qos,
                         entry.noLocal ? " nl" : "", entry.retainAsPublished ? " rap" : "",
                         entry.retainHandling);
    }
    return out;
  }
  std::string operator()(const UnsubscribePacket& p) const {
    std::string out = fmt::format("UNSUBSCRIBE id={}", p.packetId);
    for (BytesView filter : p.filters) out += " " + shown(filter);
    return out;
  }
  std::string operator()(const SubackPacket& p) const {
    return fmt::format("{} id={}{}", nameOf(p.type), p.packetId, codes(p.codes));
  }
  std::string operator()(const DisconnectPacket& p) const {
    return fmt::format("DISCONNECT 0x{:02X}", static_cast<unsigned>(p.code));
  }
  std::string operator()(const AuthPacket& p) const {
    return fmt::format("AUTH 0x{:02X}", static_cast<unsigned>(p.code));
  }
};

bool matches(const TopicFilter& filter, BytesView name) {
  for (const FilterLevel& level : filter.levels) {
    if (level.kind == FilterLevel::Kind::kRest) return true;
    if (name.data() == nullptr) return false;
    const size_t slash = name.find('/');
    if (level.kind == FilterLevel::Kind::kLiteral && name.substr(0, slash) != level.text) {
      return false;
    }
    name = slash == BytesView::npos ? BytesView() : name.substr(slash + 1);
  }
  return name.data() == nullptr;
}

bool validName(const std::string& name) {
  auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, fits);
}

std::string timeText(int64_t ms) {
  const auto seconds = static_cast<time_t>(ms / 1000);
  tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     ms % 1000);
}

}  // namespace

std::string describe(const Packet& packet, bool payload) {
  return std::visit(Describer{payload}, packet);
}

struct Tracer::Trace {
  TraceInfo info;
  TopicFilter filter;  ///< of a topic's
  IpPrefix address;    ///< of an address's
  int descriptor = -1;
};

Tracer::Tracer(std::string directory, Clock& clock)
    : directory_(std::move(directory)), clock_(clock) {}

Tracer::~Tracer() {
  for (const auto& trace : traces_) end(*trace);
}

Result<> Tracer::start(TraceSpec spec) {
  if (!validName(spec.name)) {
    return fail(ErrorKind::kInvalid, "a trace's name is 1 to 64 letters, digits, '-' and '_'");
  }
  if (spec.seconds < 1 || spec.seconds > kMostSeconds || spec.maxBytes < 1024 ||
      spec.maxBytes > kMostBytes) {
    return fail(ErrorKind::kInvalid, fmt::format("a trace lasts 1 to {} seconds, and its file has "
                                                 "1024 to {} octets",
                                                 kMostSeconds, kMostBytes));
  }
  auto trace = std::make_unique<Trace>();
  if (spec.kind == Kind::kTopic) {
    auto filter = mapping::parseMqttFilter(spec.what);
    if (!filter) return std::unexpected(filter.error());
    trace->filter = std::move(*filter);
  } else if (spec.kind == Kind::kAddress) {
    auto address = IpPrefix::parse(spec.what);
    if (!address) {
      return fail(ErrorKind::kInvalid,
                  "'" + spec.what + "' is no address, 192.0.2.7 or 10.0.0.0/8");
    }
    trace->address = *address;
  } else if (spec.what.empty()) {
    return fail(ErrorKind::kInvalid, "give whom to trace");
  }
  std::lock_guard hold(lock_);
  auto same = [&](const auto& each) { return each->info.spec.name == spec.name; };
  auto there = std::ranges::find_if(traces_, same);
  if (there != traces_.end() && (*there)->info.running) {
    return fail(ErrorKind::kAlreadyExists, "a trace '" + spec.name + "' runs");
  }
  auto ended = std::ranges::find_if(traces_, [](const auto& t) { return !t->info.running; });
  if (there == traces_.end() && traces_.size() >= kMostTraces && ended == traces_.end()) {
    return fail(ErrorKind::kBusy, "too many traces run");
  }
  trace->info.file = directory_ + "/" + spec.name + ".trace";
  if (mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail(ErrorKind::kIo, "can't make " + directory_ + ": " + std::strerror(errno));
  }
  // Nothing that is there is written to, whoever put it there.
  trace->descriptor =
      open(trace->info.file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (trace->descriptor < 0) {
    const bool taken = errno == EEXIST;
    return fail(taken ? ErrorKind::kAlreadyExists : ErrorKind::kIo,
                "can't make " + trace->info.file + ": " + std::strerror(errno) +
                    (taken ? "; remove it, or give another name" : ""));
  }
  // The last one of that name makes room, or else one that has ended.
  if (there != traces_.end()) {
    traces_.erase(there);
  } else if (traces_.size() >= kMostTraces) {
    traces_.erase(ended);
  }
  trace->info.untilMs = clock_.wallMillis() + spec.seconds * 1000;
  trace->info.spec = std::move(spec);
  trace->info.running = true;
  ++running_;
  traces_.push_back(std::move(trace));
  return {};
}

Result<> Tracer::stop(const std::string& name) {
  std::lock_guard hold(lock_);
  for (const auto& trace : traces_) {
    if (trace->info.spec.name != name || !trace->info.running) continue;
    end(*trace);
    return {};
  }
  return fail(ErrorKind::kNotFound,
              "no trace '" + name + "' runs; `polylog trace list` shows them");
}

std::vector<TraceInfo> Tracer::all() {
  std::lock_guard hold(lock_);
  std::vector<TraceInfo> out;
  for (const auto& trace : traces_) {
    if (trace->info.running && clock_.wallMillis() >= trace->info.untilMs) end(*trace);
    out.push_back(trace->info);
  }
  return out;
}

void Tracer::end(Trace& trace) {
  if (!trace.info.running) return;
  trace.info.running = false;
  --running_;
  close(trace.descriptor);
}

bool Tracer::concerns(const Trace& trace, const Principal& who, const Packet& packet) const {
  switch (trace.info.spec.kind) {
    case Kind::kClientId: return who.clientId == trace.info.spec.what;
    case Kind::kUser: return who.user == trace.info.spec.what;
    case Kind::kAddress: {
      auto peer = parseHostPort(who.peer);
      auto address = peer ? IpPrefix::parse(peer->host) : std::nullopt;
      return address && address->shortened(trace.address.bits) == trace.address;
    }
    case Kind::kTopic: break;
  }
  const auto* publish = std::get_if<PublishPacket>(&packet);
  return publish != nullptr && matches(trace.filter, publish->topic);
}

void Tracer::packet(const Principal& who, bool inward, const Packet& packet) {
  std::lock_guard hold(lock_);
  const int64_t now = clock_.wallMillis();
  for (const auto& trace : traces_) {
    if (!trace->info.running) continue;
    if (now >= trace->info.untilMs) {
      end(*trace);
      continue;
    }
    if (!concerns(*trace, who, packet)) continue;
    write(*trace, fmt::format("{} {} {} {} {}\n", timeText(now), who.peer, shown(who.clientId),
                              inward ? "->" : "<-", describe(packet, trace->info.spec.payload)));
  }
}

void Tracer::write(Trace& trace, const std::string& line) {
  const bool fits =
      trace.info.bytes + static_cast<int64_t>(line.size()) <= trace.info.spec.maxBytes;
  if (!fits || ::write(trace.descriptor, line.data(), line.size()) < 0) return end(trace);
  trace.info.bytes += static_cast<int64_t>(line.size());
}

}  // namespace polylog::mqtt
