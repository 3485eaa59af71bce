// Contents on their way out: what a record looks like to an AMQP client, and the header and body
// frames that carry it. On the connection's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "codecs/amqp/link.h"
#include "core/model/delivery.h"
#include "mapping/amqp.h"

namespace polylog::amqp {

/// Why a record can't be delivered.
enum class Undeliverable : uint8_t { kExpired, kUnnameable, kTooLarge };

/// A record as an AMQP client sees it. Reused from record to record; the views are good until the
/// next describe() and while the record lives.
class Outgoing {
 public:
  /// Sets the members below. `streamOffset`: of a stream's delivery, told in its headers.
  /// kTooLarge: what another protocol's headers became doesn't fit a frame (an AMQP publisher's go
  /// out however long, as they can't be divided).
  std::optional<Undeliverable> describe(const RoutedRecord& record, int64_t nowMs,
                                        std::optional<int64_t> streamOffset, size_t frameMax);

  /// Lets go of the record, and of more memory than most records take.
  void release();

  BytesView exchange;
  BytesView routingKey;
  BytesView properties;  ///< flags and list
  SharedBytes body;

 private:
  bool useOriginal(const RoutedRecord& record, std::optional<int64_t> streamOffset, size_t largest);
  void useHeaders(std::optional<int64_t> streamOffset);

  std::string routingKey_;
  ByteWriter properties_;
  ByteWriter table_;
  mapping::AmqpProperties mapped_;
  mapping::TextArena arena_;
};

/// The header frame and as many body frames as it takes; pieces that are worth it by reference.
void sendContent(Link& link, uint16_t channel, BytesView properties, const SharedBytes& body);

}  // namespace polylog::amqp
