// A filter over canonical addresses, already parsed: every codec brings its own syntax (MQTT's +
// and
// #, later AMQP's * and #) and mapping/ turns it into this. The levels of an address are its text
// "topic/key" (or "topic" for a null key) divided at '/'.
#pragma once

#include <string>
#include <vector>

namespace polylog {

struct FilterLevel {
  enum class Kind : unsigned char {
    kLiteral,  ///< exactly `text`
    kOne,      ///< any one level
    kRest,     ///< any number of levels, none too: "a/#" matches "a"
  };
  Kind kind = Kind::kLiteral;
  std::string text;
  bool operator==(const FilterLevel&) const = default;
};

/// At least one level. A first level that isn't literal never matches addresses that begin with '$'
/// or '_' (design section 4). In a filter from MQTT only the last level can be kRest.
struct TopicFilter {
  std::vector<FilterLevel> levels;
  bool operator==(const TopicFilter&) const = default;
};

}  // namespace polylog
