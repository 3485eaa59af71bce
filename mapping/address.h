// The canonical address (topic + key) as one text, and the marker for names that a protocol can't
// express (design section 4, "Address" and "Names"). Pure functions, any thread. Which names a
// protocol can express is that protocol's file's business (mqtt.h, kafka.h, amqp.h).
#pragma once

#include <forward_list>
#include <optional>
#include <string>
#include <utility>

#include "core/base/bytes.h"
#include "core/model/record.h"

namespace polylog::mapping {

/// A name that begins with this is the marker and base64url (RFC 4648 section 5, no padding) of the
/// name it stands for.
inline constexpr BytesView kNameMarker = "enc--";

/// Keeps texts that a translation had to make, for as long as the views to them are needed. Costs
/// nothing while empty. Not for sharing between threads.
class TextArena {
 public:
  BytesView keep(std::string text) { return texts_.emplace_front(std::move(text)); }
  void clear() { texts_.clear(); }
  bool empty() const { return texts_.empty(); }

 private:
  std::forward_list<std::string> texts_;  // addresses must not move
};

/// "topic/key" or "topic", divided at the first '/'. Views into `text`; nothing is decoded.
Address splitAddress(BytesView text);
/// The reverse: appends "topic/key", or "topic" for a null key. "sensors/" is an empty key.
void appendAddress(const Address& address, std::string& out);
bool sameAddress(const Address& a, const Address& b);

/// Whether a topic of this name can be at all: no '/' in it, and no '$' before it. The empty name
/// can (MQTT's "/a").
bool canonicalTopicPossible(BytesView topic);

inline bool isMarked(BytesView name) {
  return name.starts_with(kNameMarker);
}
/// Appends the marker and base64url of `name`.
void appendMarked(BytesView name, std::string& out);
/// What a marked name stands for; nothing unless it is exactly what appendMarked() makes.
std::optional<std::string> decodeMarked(BytesView marked);

/// Well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF) without U+0000: what
/// MQTT calls a string. Fast for ASCII.
bool isText(BytesView bytes);
/// The same, but U+0000 is fine.
bool isUtf8(BytesView bytes);

// Names and values of headers: no protocol has a rule by which it could refuse some of them, as
// there is for topic names. So they are marked the sparing way: what is not text, and what would be
// mistaken for something marked. Each pair below is exactly inverse, both ways, for all input.

/// How a null value is written where there is text only.
inline constexpr BytesView kNullText = "enc--!null";

/// `value` as text: itself if it can be, else marked, kept in `arena`.
BytesView textOf(const std::optional<BytesView>& value, TextArena& arena);
std::optional<BytesView> valueOfText(BytesView text, TextArena& arena);

/// The same for what can't be null, to which kNullText is a text like others.
BytesView textOfName(BytesView name, TextArena& arena);
BytesView nameOfText(BytesView text, TextArena& arena);

}  // namespace polylog::mapping
