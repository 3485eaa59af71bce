// The properties of MQTT 5.0 (section 2.2.2): one declarative table that says of each its type, its
// range, the packets it may stand in and whether it may be repeated; reading and writing follow it.
// No state. Values are views into the input.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "core/base/bytes.h"

namespace polylog::mqtt {

enum class PacketType : uint8_t;
enum class ReasonCode : uint8_t;

enum class PropertyId : uint8_t {
  kPayloadFormat = 0x01,
  kMessageExpiry = 0x02,
  kContentType = 0x03,
  kResponseTopic = 0x08,
  kCorrelationData = 0x09,
  kSubscriptionId = 0x0B,
  kSessionExpiry = 0x11,
  kAssignedClientId = 0x12,
  kServerKeepAlive = 0x13,
  kAuthenticationMethod = 0x15,
  kAuthenticationData = 0x16,
  kRequestProblemInfo = 0x17,
  kWillDelay = 0x18,
  kRequestResponseInfo = 0x19,
  kResponseInfo = 0x1A,
  kServerReference = 0x1C,
  kReasonString = 0x1F,
  kReceiveMaximum = 0x21,
  kTopicAliasMaximum = 0x22,
  kTopicAlias = 0x23,
  kMaximumQos = 0x24,
  kRetainAvailable = 0x25,
  kUserProperty = 0x26,
  kMaximumPacketSize = 0x27,
  kWildcardAvailable = 0x28,
  kSubscriptionIdAvailable = 0x29,
  kSharedAvailable = 0x2A,
};

enum class PropertyType : uint8_t { kByte, kTwoBytes, kFourBytes, kVarint, kText, kBinary, kPair };

/// Where properties stand: a packet, by type, or the will inside CONNECT.
enum class PropertyScope : uint8_t { kWill = 0 };
constexpr PropertyScope scopeOf(PacketType type) {
  return static_cast<PropertyScope>(type);
}

struct PropertyDefinition {
  PropertyId id;
  const char* name;
  PropertyType type;
  uint32_t scopes;  ///< bit n = PropertyScope n
  bool repeatable;
  uint32_t least;  ///< numbers: the range outside which they are a protocol error
  uint32_t most;
};

/// The row of an id; null when no such property exists.
const PropertyDefinition* findProperty(uint8_t id);
/// All rows, by id.
std::span<const PropertyDefinition> propertyTable();

struct Property {
  PropertyId id{};
  uint32_t number = 0;  ///< the four kinds of integer
  BytesView text;       ///< text or binary; the name of a pair
  BytesView value;      ///< the value of a pair
};

/// Properties in the order they came; empty costs nothing.
class Properties {
 public:
  bool empty() const { return items_.empty(); }
  const std::vector<Property>& items() const { return items_; }
  bool has(PropertyId id) const { return (present_ >> static_cast<unsigned>(id) & 1U) != 0; }
  /// The first one of that id.
  const Property* find(PropertyId id) const;
  std::optional<uint32_t> number(PropertyId id) const;
  std::optional<BytesView> text(PropertyId id) const;

  void add(PropertyId id, uint32_t number) { append({id, number, {}, {}}); }
  void add(PropertyId id, BytesView text) { append({id, 0, text, {}}); }
  void add(PropertyId id, BytesView name, BytesView value) { append({id, 0, name, value}); }
  void append(const Property& property) {
    present_ |= uint64_t{1} << static_cast<unsigned>(property.id);
    items_.push_back(property);
  }
  void clear() {
    items_.clear();
    present_ = 0;
  }

 private:
  std::vector<Property> items_;
  uint64_t present_ = 0;
};

/// What is wrong with what the peer sent (or with us): ends the connection. The text is a literal.
struct Fault {
  ReasonCode code{};
  const char* what = "";
};

/// Reads a property length and the properties behind it. Nothing = all well.
std::optional<Fault> readProperties(ByteReader& reader, PropertyScope scope, Properties& out);

/// Octets of the properties without the length in front of them.
size_t propertiesSize(const Properties& properties);
void writeProperty(ByteWriter& writer, const Property& property);
/// The length and the properties.
void writeProperties(ByteWriter& writer, const Properties& properties);

/// A Variable Byte Integer (section 1.5.5), one to four octets, in its shortest form only.
/// Fails the reader otherwise.
uint32_t readVarint(ByteReader& reader);
constexpr size_t varintSize(size_t value) {
  return value < 128 ? 1U : value < 16384 ? 2U : value < 2097152 ? 3U : 4U;
}

}  // namespace polylog::mqtt
