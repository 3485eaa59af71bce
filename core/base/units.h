// What a configuration key's number counts, by how the key is named: for errors, which are read by
// whoever has just written `7d` or `1GiB`. Pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace polylog {

/// " of milliseconds" after "a whole number"; empty where the name doesn't tell.
inline std::string_view unitOf(std::string_view key) {
  constexpr std::pair<std::string_view, std::string_view> kUnits[] = {
      {"_ms", " of milliseconds"}, {".ms", " of milliseconds"},
      {"_s", " of seconds"},       {"_seconds", " of seconds"},
      {"keep_alive", " of seconds"},
      {"_minutes", " of minutes"}, {".minutes", " of minutes"},
      {"bytes", " of octets"},     {"byte_rate", " of octets a second"},
  };
  for (const auto& [ending, unit] : kUnits) {
    if (key.ends_with(ending)) return unit;
  }
  return {};
}

/// "a whole number of seconds": what `key` takes.
inline std::string wholeNumberFor(std::string_view key) {
  return "a whole number" + std::string(unitOf(key));
}

}  // namespace polylog
