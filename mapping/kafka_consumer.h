// What Kafka's consumers write inside of the group protocols: subscriptions and assignments of the
// classic protocol (ConsumerProtocolSubscription and ConsumerProtocolAssignment, versions 0 to 3),
// with topics by their canonical names, and regular expressions over topics. Pure functions, any
// thread.
#pragma once

#include "core/model/consumer_group.h"

namespace polylog::mapping {

/// The longest regular expression that is taken.
inline constexpr size_t kMaxTopicPattern = 4096;

/// kInvalid where the octets aren't one. Names that no topic can have are left out; later versions
/// are read as far as they are known.
Result<ConsumerFormat::Subscription> parseConsumerSubscription(BytesView metadata);
Result<ConsumerFormat::Partitions> parseConsumerAssignment(BytesView assignment);
/// Without topics that Kafka doesn't see.
std::string writeConsumerAssignment(const ConsumerFormat::Partitions& assignment, int16_t version);

/// A regular expression in RE2's syntax, as Kafka's brokers take them (KIP-848): it has to match
/// the whole of the name by which Kafka sees a topic. kInvalidPattern.
Result<std::shared_ptr<const TopicPattern>> compileTopicPattern(const std::string& pattern);

/// The same for names that are no topics': a transactional id, what a client calls itself.
class NamePattern {
 public:
  virtual ~NamePattern() = default;
  /// The whole of it.
  virtual bool matches(BytesView name) const = 0;
};
/// kInvalidPattern, also for one that is too long.
Result<std::shared_ptr<const NamePattern>> compileNamePattern(const std::string& pattern);

ConsumerFormat consumerFormat();

}  // namespace polylog::mapping
