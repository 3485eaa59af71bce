// The user's topic rewrites (configuration `mqtt.rewrite`): names that MQTT clients publish or
// subscribe to become others before anything else is done with them, authorization included. Built
// once from the configuration, immutable afterwards, then pure and for any thread.
//
//     all x/# ^x/y/(.+)$ -> z/$1             names that the filter and the expression match
//     publish +/data -> devices/%c/$1        without an expression $N is what the Nth wildcard stood
//                                            for
//     subscribe mine/# -> users/%u/$1        %c is the client identifier, %u the user's name
//
// Expressions are RE2's, which take time linear in the name's length. The first rule that matches
// wins. A rewritten name isn't rewritten again.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/error.h"
#include "core/model/topic_filter.h"

namespace re2 {
class RE2;
}

namespace polylog::mapping {

/// `text` with %c and %u replaced.
std::string filledIn(BytesView text, BytesView clientId, BytesView user);

class TopicRewrites {
 public:
  enum class Action : uint8_t { kPublish, kSubscribe };
  struct Client {
    BytesView clientId;
    BytesView user;
  };

  /// kInvalid with the rule, what is wrong with it and the remedy.
  static Result<TopicRewrites> parse(std::span<const std::string> texts);

  bool empty() const { return rules_.empty(); }
  /// What `name` becomes: a topic name, or a filter without what stands before it
  /// (mqttSubscriptionPrefix()). Nothing where no rule matches.
  std::optional<std::string> apply(Action action, BytesView name, const Client& client) const;

 private:
  /// A destination cut at its placeholders: literal text, and what follows it.
  struct Piece {
    enum class Kind : uint8_t { kNothing, kCapture, kClientId, kUser };
    std::string text;
    Kind kind = Kind::kNothing;
    size_t capture = 0;
  };
  struct Rule {
    bool publish = false;
    bool subscribe = false;
    TopicFilter filter;
    std::shared_ptr<const re2::RE2> expression;  ///< null: the filter alone
    std::vector<Piece> destination;
  };

  static Result<Rule> parseRule(BytesView text);
  static Result<std::vector<Piece>> parseDestination(BytesView text, BytesView rule,
                                                     size_t captures);

  std::vector<Rule> rules_;
};

}  // namespace polylog::mapping
