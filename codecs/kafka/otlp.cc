#include "codecs/kafka/otlp.h"

#include <bit>
#include <charconv>
#include <cstdint>

namespace polylog::kafka {
namespace {

constexpr size_t kMaxAttributes = 16;
constexpr size_t kMaxAttributeValue = 255;

/// A message's fields, one after the other.
class Message {
 public:
  explicit Message(BytesView octets) : rest_(octets) {}

  /// False at the end, and where it goes wrong.
  bool next() {
    if (rest_.empty() || !ok_) return false;
    uint64_t key = varint();
    field_ = key >> 3;
    type_ = key & 7;
    number_ = 0;
    bytes_ = {};
    switch (type_) {
      case 0: number_ = varint(); break;
      case 1: number_ = fixed(8); break;
      case 2: bytes_ = take(varint()); break;
      case 5: number_ = fixed(4); break;
      default: ok_ = false;  // groups are not in use
    }
    if (field_ == 0) ok_ = false;
    return ok_;
  }
  bool ok() const { return ok_; }
  bool is(uint64_t field, uint64_t type) const { return field_ == field && type_ == type; }
  uint64_t number() const { return number_; }
  BytesView bytes() const { return bytes_; }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      auto octet = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= uint64_t{octet & 127U} << shift;
      if (octet < 128) return value;
    }
    ok_ = false;
    return 0;
  }
  uint64_t fixed(size_t size) {
    BytesView octets = take(size);
    uint64_t value = 0;
    for (size_t i = octets.size(); i > 0; --i) {
      value = value << 8 | static_cast<uint8_t>(octets[i - 1]);
    }
    return value;
  }
  BytesView take(uint64_t size) {
    if (size > rest_.size()) {
      ok_ = false;
      return {};
    }
    BytesView taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  BytesView rest_;
  uint64_t field_ = 0, type_ = 0, number_ = 0;
  BytesView bytes_;
  bool ok_ = true;
};

constexpr uint64_t kVarint = 0, kFixed64 = 1, kBytes = 2;

using Attributes = std::vector<std::pair<BytesView, std::string>>;

/// AnyValue: a text, a truth or a number; other kinds are left empty.
bool readAny(BytesView octets, std::string& out) {
  Message any(octets);
  while (any.next()) {
    if (any.is(1, kBytes)) out = any.bytes().substr(0, kMaxAttributeValue);
    if (any.is(2, kVarint)) out = any.number() != 0 ? "true" : "false";
    if (any.is(3, kVarint)) out = std::to_string(static_cast<int64_t>(any.number()));
    if (any.is(4, kFixed64)) out = std::to_string(std::bit_cast<double>(any.number()));
  }
  return any.ok();
}

/// KeyValue
bool readAttribute(BytesView octets, Attributes& out) {
  Message pair(octets);
  BytesView key;
  std::string value;
  bool sound = true;
  while (pair.next()) {
    if (pair.is(1, kBytes)) key = pair.bytes();
    if (pair.is(2, kBytes)) sound = sound && readAny(pair.bytes(), value);
  }
  if (out.size() < kMaxAttributes && !key.empty()) out.emplace_back(key, std::move(value));
  return sound && pair.ok();
}

class Reader {
 public:
  explicit Reader(size_t most) : most_(most) {}

  /// MetricsData
  bool read(BytesView octets) {
    return each(octets, 1, [this](BytesView one) { return resourceMetrics(one); });
  }
  std::vector<MetricPoint> points;

 private:
  /// What is behind the last point, or metric, that is looked at isn't.
  bool full() const { return points_ >= most_ || metrics_ >= most_ || holders_ > 2 * most_; }

  template <class Visit>
  bool each(BytesView octets, uint64_t field, Visit visit) {
    Message message(octets);
    while (!full() && message.next()) {
      if (message.is(field, kBytes) && !visit(message.bytes())) return false;
    }
    return message.ok();
  }

  bool resourceMetrics(BytesView octets) {
    ++holders_;
    resource_.clear();
    auto resource = [this](BytesView one) {
      return each(one, 1, [this](BytesView pair) { return readAttribute(pair, resource_); });
    };
    return each(octets, 1, resource) && each(octets, 2, [this](BytesView scope) {
             ++holders_;
             return each(scope, 2, [this](BytesView one) { return metric(one); });
           });
  }

  bool metric(BytesView octets) {
    name_ = {};
    if (!each(octets, 1, [this](BytesView name) {
          name_ = name;
          return true;
        })) {
      return false;
    }
    Message message(octets);
    bool sound = true;
    while (sound && !full() && message.next()) {
      if (message.is(5, kBytes)) sound = data(message.bytes(), false);
      if (message.is(7, kBytes)) sound = data(message.bytes(), true);
    }
    ++metrics_;
    return sound && message.ok();
  }

  /// Gauge or Sum
  bool data(BytesView octets, bool sum) {
    constexpr uint64_t kDelta = 1;
    bool delta = false;
    Message temporality(octets);
    while (temporality.next()) {
      if (sum && temporality.is(2, kVarint)) delta = temporality.number() == kDelta;
    }
    return temporality.ok() &&
           each(octets, 1, [this, delta](BytesView one) { return point(one, delta); });
  }

  /// NumberDataPoint
  bool point(BytesView octets, bool delta) {
    constexpr uint64_t kNoRecordedValue = 1;
    ++points_;
    MetricPoint made{name_, {}, 0, delta};
    bool told = false;
    Message message(octets);
    while (message.next()) {
      if (message.is(4, kFixed64)) {
        made.value = std::bit_cast<double>(message.number());
        told = true;
      }
      if (message.is(6, kFixed64)) {
        made.value = static_cast<double>(static_cast<int64_t>(message.number()));
        told = true;
      }
      if (message.is(8, kVarint) && (message.number() & kNoRecordedValue) != 0) return true;
    }
    if (!message.ok()) return false;
    if (!told || name_.empty()) return true;
    made.attributes = resource_;
    Message again(octets);
    while (again.next()) {
      if (again.is(7, kBytes) && !readAttribute(again.bytes(), made.attributes)) return false;
    }
    points.push_back(std::move(made));
    return true;
  }

  size_t most_;
  size_t points_ = 0;  ///< kept or not
  size_t metrics_ = 0;
  size_t holders_ = 0;  ///< of metrics: resources and scopes
  Attributes resource_;
  BytesView name_;
};

}  // namespace

Result<std::vector<MetricPoint>> readMetrics(BytesView octets, size_t most) {
  Reader reader(most);
  if (reader.read(octets)) return std::move(reader.points);
  return fail(ErrorKind::kCorrupt, "these are no metrics of OpenTelemetry's");
}

}  // namespace polylog::kafka
