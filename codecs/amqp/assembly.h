// The publish that is coming in on one channel: method, content header, body frames (AMQP 0-9-1,
// 4.2.6). A content that comes in one piece is handed on as views into the input; of one that comes
// in several rounds what is there is kept. Memory follows the octets that came, never a size that
// was claimed. On the connection's thread; owned by Channel.
#pragma once

#include <cstdint>
#include <string>

#include "codecs/amqp/errors.h"
#include "codecs/amqp/frame.h"
#include "codecs/amqp/link.h"

namespace polylog::amqp {

/// A whole publish. The views point into the input, or, if kept, into the assembly, whose next
/// begin() ends them.
struct Content {
  BytesView exchange;
  BytesView routingKey;
  BytesView properties;
  BytesView body;
  bool mandatory = false;
  bool namesKept = false;       ///< exchange and routing key came in an earlier round
  bool propertiesKept = false;  ///< so did the properties
  bool bodyKept = false;        ///< the body came in several frames
};

class Assembly {
 public:
  explicit Assembly(Link& link) : link_(link) {}
  bool idle() const { return state_ == State::kIdle; }
  void begin(const BasicPublish& method);
  /// A header or body frame; a method frame while not idle is at fault too.
  Outcome add(const Frame& frame);
  /// The content is whole: take() it.
  bool complete() const { return state_ == State::kWhole; }
  Content take();
  /// The body of a content with `bodyKept`, to be moved from.
  std::string& keptBody() { return body_; }

  /// The round ends, the input goes: keeps what is there.
  void keep();
  /// Forgets it. Before the connection ends.
  void abandon();

 private:
  enum class State : uint8_t { kIdle, kHeader, kBody, kWhole };

  Outcome header(BytesView payload);
  Outcome body(BytesView payload);
  Outcome account(size_t octets);

  Link& link_;
  State state_ = State::kIdle;
  Content content_;
  uint64_t missing_ = 0;  ///< of the body
  size_t accounted_ = 0;  ///< in Link::unfinishedBytes
  std::string exchange_;
  std::string routingKey_;
  std::string properties_;
  std::string body_;
};

}  // namespace polylog::amqp
