#include "codecs/mqtt/properties.h"

#include <array>

#include "codecs/mqtt/limits.h"
#include "codecs/mqtt/packet.h"
#include "mapping/address.h"

namespace polylog::mqtt {
namespace {

template <class... Types>
constexpr uint32_t in(Types... types) {
  return ((uint32_t{1} << static_cast<unsigned>(types)) | ...);
}

constexpr uint32_t kAny = 0xFFFFFFFF;

using P = PropertyId;
using T = PropertyType;
using K = PacketType;
constexpr auto kWill = PropertyScope::kWill;

// Section 2.2.2.2, table 2-4.
constexpr PropertyDefinition kTable[] = {
    {P::kPayloadFormat, "Payload Format Indicator", T::kByte, in(K::kPublish, kWill), false, 0, 1},
    {P::kMessageExpiry, "Message Expiry Interval", T::kFourBytes, in(K::kPublish, kWill), false, 0,
     kAny},
    {P::kContentType, "Content Type", T::kText, in(K::kPublish, kWill), false, 0, 0},
    {P::kResponseTopic, "Response Topic", T::kText, in(K::kPublish, kWill), false, 0, 0},
    {P::kCorrelationData, "Correlation Data", T::kBinary, in(K::kPublish, kWill), false, 0, 0},
    {P::kSubscriptionId, "Subscription Identifier", T::kVarint, in(K::kPublish, K::kSubscribe),
     true, 1, kMaxRemainingLength},
    {P::kSessionExpiry, "Session Expiry Interval", T::kFourBytes,
     in(K::kConnect, K::kConnack, K::kDisconnect), false, 0, kAny},
    {P::kAssignedClientId, "Assigned Client Identifier", T::kText, in(K::kConnack), false, 0, 0},
    {P::kServerKeepAlive, "Server Keep Alive", T::kTwoBytes, in(K::kConnack), false, 0, kAny},
    {P::kAuthenticationMethod, "Authentication Method", T::kText,
     in(K::kConnect, K::kConnack, K::kAuth), false, 0, 0},
    {P::kAuthenticationData, "Authentication Data", T::kBinary,
     in(K::kConnect, K::kConnack, K::kAuth), false, 0, 0},
    {P::kRequestProblemInfo, "Request Problem Information", T::kByte, in(K::kConnect), false, 0, 1},
    {P::kWillDelay, "Will Delay Interval", T::kFourBytes, in(kWill), false, 0, kAny},
    {P::kRequestResponseInfo, "Request Response Information", T::kByte, in(K::kConnect), false, 0,
     1},
    {P::kResponseInfo, "Response Information", T::kText, in(K::kConnack), false, 0, 0},
    {P::kServerReference, "Server Reference", T::kText, in(K::kConnack, K::kDisconnect), false, 0,
     0},
    {P::kReasonString, "Reason String", T::kText,
     in(K::kConnack, K::kPuback, K::kPubrec, K::kPubrel, K::kPubcomp, K::kSuback, K::kUnsuback,
        K::kDisconnect, K::kAuth),
     false, 0, 0},
    {P::kReceiveMaximum, "Receive Maximum", T::kTwoBytes, in(K::kConnect, K::kConnack), false, 1,
     kAny},
    {P::kTopicAliasMaximum, "Topic Alias Maximum", T::kTwoBytes, in(K::kConnect, K::kConnack),
     false, 0, kAny},
    // Zero is told apart by the session: it has a reason code of its own.
    {P::kTopicAlias, "Topic Alias", T::kTwoBytes, in(K::kPublish), false, 0, kAny},
    {P::kMaximumQos, "Maximum QoS", T::kByte, in(K::kConnack), false, 0, 1},
    {P::kRetainAvailable, "Retain Available", T::kByte, in(K::kConnack), false, 0, 1},
    {P::kUserProperty, "User Property", T::kPair,
     in(K::kConnect, K::kConnack, K::kPublish, kWill, K::kPuback, K::kPubrec, K::kPubrel,
        K::kPubcomp, K::kSubscribe, K::kSuback, K::kUnsubscribe, K::kUnsuback, K::kDisconnect,
        K::kAuth),
     true, 0, 0},
    {P::kMaximumPacketSize, "Maximum Packet Size", T::kFourBytes, in(K::kConnect, K::kConnack),
     false, 1, kAny},
    {P::kWildcardAvailable, "Wildcard Subscription Available", T::kByte, in(K::kConnack), false, 0,
     1},
    {P::kSubscriptionIdAvailable, "Subscription Identifier Available", T::kByte, in(K::kConnack),
     false, 0, 1},
    {P::kSharedAvailable, "Shared Subscription Available", T::kByte, in(K::kConnack), false, 0, 1},
};

constexpr size_t kIdEnd = 0x2B;

constexpr std::array<const PropertyDefinition*, kIdEnd> makeIndex() {
  std::array<const PropertyDefinition*, kIdEnd> index{};
  for (const PropertyDefinition& row : kTable) index[static_cast<size_t>(row.id)] = &row;
  return index;
}
constexpr std::array<const PropertyDefinition*, kIdEnd> kIndex = makeIndex();

Fault malformed(const char* what) {
  return {ReasonCode::kMalformedPacket, what};
}
Fault protocolError(const char* what) {
  return {ReasonCode::kProtocolError, what};
}

/// Nothing = read (or the reader has failed, which the caller sees at the end).
std::optional<Fault> readValue(ByteReader& reader, const PropertyDefinition& row, Property& out) {
  switch (row.type) {
    case T::kByte: out.number = reader.u8(); break;
    case T::kTwoBytes: out.number = reader.u16(); break;
    case T::kFourBytes: out.number = reader.u32(); break;
    case T::kVarint: out.number = readVarint(reader); break;
    case T::kBinary: out.text = reader.bytes16(); return std::nullopt;
    case T::kText:
      out.text = reader.bytes16();
      if (!mapping::isText(out.text)) return malformed("property text is not UTF-8");
      return std::nullopt;
    case T::kPair:
      out.text = reader.bytes16();
      out.value = reader.bytes16();
      if (!mapping::isText(out.text) || !mapping::isText(out.value))
        return malformed("user property is not UTF-8");
      return std::nullopt;
  }
  if (!reader.ok()) return std::nullopt;
  if (out.number < row.least || out.number > row.most) {
    return protocolError("property value out of its range");
  }
  return std::nullopt;
}

}  // namespace

const PropertyDefinition* findProperty(uint8_t id) {
  return id < kIdEnd ? kIndex[id] : nullptr;
}

std::span<const PropertyDefinition> propertyTable() {
  return kTable;
}

const Property* Properties::find(PropertyId id) const {
  if (!has(id)) return nullptr;
  for (const Property& item : items_) {
    if (item.id == id) return &item;
  }
  return nullptr;
}

std::optional<uint32_t> Properties::number(PropertyId id) const {
  const Property* found = find(id);
  return found != nullptr ? std::optional(found->number) : std::nullopt;
}

std::optional<BytesView> Properties::text(PropertyId id) const {
  const Property* found = find(id);
  return found != nullptr ? std::optional(found->text) : std::nullopt;
}

uint32_t readVarint(ByteReader& reader) {
  uint32_t value = 0;
  for (unsigned shift = 0; shift < 28; shift += 7) {
    const uint8_t octet = reader.u8();
    value |= static_cast<uint32_t>(octet & 0x7FU) << shift;
    if ((octet & 0x80U) == 0) {
      if (octet == 0 && shift > 0) break;  // longer than it need be
      return value;
    }
  }
  reader.fail();
  return 0;
}

std::optional<Fault> readProperties(ByteReader& reader, PropertyScope scope, Properties& out) {
  const uint32_t length = readVarint(reader);
  if (!reader.ok() || length > reader.remaining()) return malformed("property length");
  ByteReader inner(reader.bytes(length));
  size_t pairs = 0;
  while (inner.remaining() > 0) {
    // Identifiers are Variable Byte Integers on paper; all that exist fit one octet.
    const uint8_t id = inner.u8();
    const PropertyDefinition* row = findProperty(id);
    if (row == nullptr) return malformed("unknown property");
    if ((row->scopes >> static_cast<unsigned>(scope) & 1U) == 0) {
      return malformed("property not allowed in this packet");
    }
    if (!row->repeatable && out.has(row->id)) return protocolError("property given twice");
    if (row->type == T::kPair && ++pairs > kMaxUserProperties) {
      return Fault{ReasonCode::kQuotaExceeded, "too many user properties"};
    }
    Property property;
    property.id = row->id;
    if (auto error = readValue(inner, *row, property)) return error;
    if (!inner.ok()) return malformed("property cut short");
    out.append(property);
  }
  return std::nullopt;
}

size_t propertiesSize(const Properties& properties) {
  size_t size = 0;
  for (const Property& item : properties.items()) {
    const PropertyDefinition* row = findProperty(static_cast<uint8_t>(item.id));
    size += 1;
    switch (row->type) {
      case T::kByte: size += 1; break;
      case T::kTwoBytes: size += 2; break;
      case T::kFourBytes: size += 4; break;
      case T::kVarint: size += varintSize(item.number); break;
      case T::kText:
      case T::kBinary: size += 2 + item.text.size(); break;
      case T::kPair: size += 4 + item.text.size() + item.value.size(); break;
    }
  }
  return size;
}

void writeProperty(ByteWriter& writer, const Property& item) {
  writer.u8(static_cast<uint8_t>(item.id));
  switch (findProperty(static_cast<uint8_t>(item.id))->type) {
    case T::kByte: writer.u8(static_cast<uint8_t>(item.number)); break;
    case T::kTwoBytes: writer.u16(static_cast<uint16_t>(item.number)); break;
    case T::kFourBytes: writer.u32(item.number); break;
    case T::kVarint: writer.varuint(item.number); break;
    case T::kText:
    case T::kBinary: writer.bytes16(item.text); break;
    case T::kPair:
      writer.bytes16(item.text);
      writer.bytes16(item.value);
      break;
  }
}

void writeProperties(ByteWriter& writer, const Properties& properties) {
  writer.varuint(propertiesSize(properties));
  for (const Property& item : properties.items()) writeProperty(writer, item);
}

}  // namespace polylog::mqtt
