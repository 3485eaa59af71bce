// One key of the configuration's table (config.cc): what it takes, how it is shown, how it is set;
// and the makers of the usual kinds. For config.cc alone. Pure.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/units.h"
#include "server/config.h"

namespace polylog::server {

using Values = std::vector<std::string>;

/// One key: what it takes, how it is shown, how it is set. `assign` gets the values as text (one,
/// or any number for a list) and answers with what is wrong about them.
struct Key {
  const char* name;
  std::string values;
  std::string defaultValue;
  const char* help;
  bool list = false;
  std::function<std::optional<std::string>(const Values&, Config&)> assign;
};

inline constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

inline Key number(const char* name, int64_t Config::*field, int64_t least, int64_t most,
                  const char* help) {
  std::string range = most == kMaxInt64
                          ? fmt::format("whole number{}, at least {}", unitOf(name), least)
                          : fmt::format("whole number{}, {} to {}", unitOf(name), least, most);
  return {name,
          range,
          fmt::to_string(Config().*field),
          help,
          false,
          [=](const Values& values, Config& config) -> std::optional<std::string> {
            const std::string& text = values[0];
            int64_t value = 0;
            auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
            if (error != std::errc() || end != text.data() + text.size() || value < least ||
                value > most) {
              return "give a " + range;
            }
            config.*field = value;
            return std::nullopt;
          }};
}

/// A number within a part of Config.
template <class Part>
Key number(const char* name, Part Config::*part, int64_t Part::*field, int64_t least, int64_t most,
           const char* help) {
  const Config standards;
  Key key = number(name, &Config::workers, least, most, help);
  key.defaultValue = fmt::to_string((standards.*part).*field);
  key.assign = [part, field, assign = std::move(key.assign)](const Values& values, Config& config) {
    Config scratch;
    auto wrong = assign(values, scratch);
    if (!wrong) (config.*part).*field = scratch.workers;
    return wrong;
  };
  return key;
}

inline Key flag(const char* name, bool Config::*field, const char* help) {
  return {name,
          "true or false",
          Config().*field ? "true" : "false",
          help,
          false,
          [=](const Values& values, Config& config) -> std::optional<std::string> {
            if (values[0] != "true" && values[0] != "false") return "give true or false";
            config.*field = values[0] == "true";
            return std::nullopt;
          }};
}

/// A field of a part of Config, as choice(), anyText() and texts() take it.
template <class Part, class T>
auto within(Part Config::*part, T Part::*field) {
  return [part, field](Config& config) -> T& { return (config.*part).*field; };
}

/// `field`: a member of Config, or what within() gives.
template <class T, class Field>
Key choice(const char* name, Field field, std::vector<std::pair<std::string, T>> choices,
           const char* help) {
  Config standards;
  std::string names;
  std::string standard;
  for (const auto& [text, value] : choices) {
    names += (names.empty() ? "" : ", ") + text;
    if (std::invoke(field, standards) == value) standard = text;
  }
  return {name,
          "one of " + names,
          standard,
          help,
          false,
          [=](const Values& values, Config& config) -> std::optional<std::string> {
            for (const auto& [text, value] : choices) {
              if (values[0] == text) {
                std::invoke(field, config) = value;
                return std::nullopt;
              }
            }
            return "give one of " + names;
          }};
}

/// A key with one text as value, any but the empty one.
template <class Field>
Key anyText(const char* name, const char* values, Field field, const char* help) {
  Config standards;
  const std::string& standard = std::invoke(field, standards);
  return {name,
          values,
          standard.empty() ? "none" : standard,
          help,
          false,
          [=](const Values& given, Config& config) -> std::optional<std::string> {
            if (given[0].empty()) return "give a value, or leave the key out";
            std::invoke(field, config) = given[0];
            return std::nullopt;
          }};
}

/// A key with a list of texts, each of which `takes` accepts.
template <class Field>
Key texts(const char* name, const char* values, Field field,
          std::function<bool(const std::string&)> takes, const char* remedy, const char* help) {
  Config standards;
  const Values& standard = std::invoke(field, standards);
  return {name,
          values,
          standard.empty() ? "none" : fmt::format("{}", fmt::join(standard, ", ")),
          help,
          true,
          [=](const Values& given, Config& config) -> std::optional<std::string> {
            if (given.empty() || !std::ranges::all_of(given, takes)) return remedy;
            std::invoke(field, config) = given;
            return std::nullopt;
          }};
}

}  // namespace polylog::server
