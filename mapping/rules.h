// The user's routing rules (configuration `rules`): publishes whose address matches a filter are
// stored elsewhere, or not at all. Built once from the configuration, immutable afterwards, then
// pure and for any thread.
//
//     factory/+/temp -> topic temps, key {1}       stored in topic temps, under what + stood for
//     alarms/#       -> topic alarms2              the whole address becomes the key
//     status/#       -> topic status, key none     no key
//     live/#         -> ephemeral                  routed to live subscribers, never stored
//
// A filter is MQTT's. {N} in a key is the text that the Nth wildcard stood for, {0} the whole
// address. The first rule that matches wins. Matching and delivery still use the address as
// published.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/model/record.h"
#include "core/model/topic_filter.h"

namespace polylog::mapping {

/// Where a publish goes.
struct Route {
  BytesView topic;
  std::optional<BytesView> key;
  bool ephemeral = false;
  bool byRule = false;  ///< false: topic and key are the address itself
};

class Rules {
 public:
  Rules() = default;

  /// kInvalid with the rule, what is wrong with it and the remedy.
  static Result<Rules> parse(std::span<const std::string> texts);

  bool empty() const { return rules_.empty(); }
  /// Where rules store what is published to other addresses.
  std::vector<std::string> topics() const;

  /// Where a publish to `address` goes. Views into the address, the rules, or `scratch`
  /// (overwritten); nothing is allocated when no rule matches.
  Route apply(const Address& address, std::string& scratch) const;

  /// The address of a record of another protocol stored under (topic, key): the one that apply()
  /// would send there, where exactly one rule could have and it is one to one; else (topic, key)
  /// itself. Views into the input or `scratch`.
  Address addressOf(BytesView topic, const std::optional<BytesView>& key,
                    std::string& scratch) const;

 private:
  /// A key's template, cut at its placeholders: literal text, or a wildcard's number (0 = all).
  struct Piece {
    std::string text;
    int wildcard = -1;
  };
  struct Rule {
    TopicFilter filter;
    int wildcards = 0;
    bool ephemeral = false;
    std::string topic;
    bool keyed = true;
    std::vector<Piece> key;
    bool oneToOne = false;
  };
  struct Captures;

  static Result<Rule> parseRule(std::string_view text);
  static Result<> parseTarget(std::string_view target, std::string_view text, Rule& rule);
  static Result<std::vector<Piece>> parseKey(std::string_view key, std::string_view text,
                                             int wildcards);
  static bool isOneToOne(const Rule& rule);
  static bool matches(const TopicFilter& filter, const Address& address, Captures& captures);
  static bool fillKey(const Rule& rule, const Address& address, const Captures& captures,
                      std::string& out);
  static bool invert(const Rule& rule, const std::optional<BytesView>& key, std::string& address);

  std::vector<Rule> rules_;
};

}  // namespace polylog::mapping
