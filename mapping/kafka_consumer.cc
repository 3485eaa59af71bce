#include "mapping/kafka_consumer.h"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"
#include "mapping/kafka.h"

namespace polylog::mapping {
namespace {

constexpr int16_t kLastVersion = 3;
/// RE2 keeps to this however a pattern is written.
constexpr int64_t kPatternMemory = 1 << 20;

std::unexpected<Error> invalid(const char* what) {
  return fail(ErrorKind::kInvalid, std::string("a consumer's ") + what + " can't be read");
}

BytesView text(ByteReader& in) {
  int16_t size = in.i16();
  if (size < 0) in.fail();
  return in.bytes(static_cast<size_t>(std::max<int16_t>(size, 0)));
}

void skipNullable(ByteReader& in) {
  int32_t size = in.i32();
  if (size > 0) in.skip(static_cast<size_t>(size));
}

size_t arraySize(ByteReader& in, size_t smallest) {
  int32_t count = in.i32();
  return count > 0 ? in.count(static_cast<uint64_t>(count), smallest) : 0;
}

bool canonical(BytesView name, std::string& out) {
  std::string scratch;
  Result<BytesView> found = topicFromKafka(name, scratch);
  if (found) out = *found;
  return found.has_value();
}

ConsumerFormat::Partitions partitions(ByteReader& in) {
  ConsumerFormat::Partitions all;
  size_t topics = arraySize(in, 6);
  for (size_t i = 0; i < topics && in.ok(); ++i) {
    BytesView name = text(in);
    std::vector<int32_t> numbers(arraySize(in, 4));
    for (int32_t& number : numbers) number = in.i32();
    std::string topic;
    if (canonical(name, topic)) all.emplace_back(std::move(topic), std::move(numbers));
  }
  return all;
}

/// RE2 with its limits.
class Expression {
 public:
  explicit Expression(const std::string& pattern) : expression_(pattern, options()) {}

  Result<> check() const {
    if (expression_.ok()) return {};
    return fail(ErrorKind::kInvalidPattern, "the regular expression '" + expression_.pattern() +
                                                "' can't be: " + expression_.error());
  }
  bool matches(BytesView name) const {
    return RE2::FullMatch(re2::StringPiece(name.data(), name.size()), expression_);
  }

 private:
  static RE2::Options options() {
    RE2::Options made;
    made.set_log_errors(false);
    made.set_max_mem(kPatternMemory);
    return made;
  }
  RE2 expression_;
};

class OverTopics final : public TopicPattern {
 public:
  explicit OverTopics(const std::string& pattern) : expression_(pattern) {}
  Result<> check() const { return expression_.check(); }
  bool matches(const std::string& topic) const override {
    std::string name;
    return appendKafkaTopic(topic, name) && expression_.matches(name);
  }

 private:
  Expression expression_;
};

class OverNames final : public NamePattern {
 public:
  explicit OverNames(const std::string& pattern) : expression_(pattern) {}
  Result<> check() const { return expression_.check(); }
  bool matches(BytesView name) const override { return expression_.matches(name); }

 private:
  Expression expression_;
};

template <class Made>
Result<std::shared_ptr<const Made>> compile(const std::string& pattern) {
  if (pattern.size() > kMaxTopicPattern) {
    return fail(ErrorKind::kInvalidPattern, "a regular expression may have 4,096 octets");
  }
  auto made = std::make_shared<const Made>(pattern);
  if (Result<> ok = made->check(); !ok) return std::unexpected(ok.error());
  return made;
}

}  // namespace

Result<ConsumerFormat::Subscription> parseConsumerSubscription(BytesView metadata) {
  ByteReader in(metadata);
  ConsumerFormat::Subscription subscription;
  subscription.version = in.i16();
  if (subscription.version < 0) in.fail();
  size_t topics = arraySize(in, 2);
  for (size_t i = 0; i < topics && in.ok(); ++i) {
    std::string topic;
    if (canonical(text(in), topic)) subscription.topics.push_back(std::move(topic));
  }
  skipNullable(in);
  if (subscription.version >= 1 && in.remaining() > 0) subscription.owned = partitions(in);
  if (subscription.version >= 2 && in.remaining() > 0) in.i32();  // the generation that it is of
  if (subscription.version >= 3 && in.remaining() > 0) {
    int16_t size = in.i16();
    if (size >= 0) subscription.rackId = in.bytes(static_cast<size_t>(size));
  }
  if (!in.ok()) return invalid("subscription");
  return subscription;
}

Result<ConsumerFormat::Partitions> parseConsumerAssignment(BytesView assignment) {
  ByteReader in(assignment);
  if (in.i16() < 0) in.fail();
  ConsumerFormat::Partitions all = partitions(in);
  if (!in.ok()) return invalid("assignment");
  return all;
}

std::string writeConsumerAssignment(const ConsumerFormat::Partitions& assignment, int16_t version) {
  ByteWriter out;
  out.i16(std::min(version, kLastVersion));
  std::vector<std::pair<std::string, const std::vector<int32_t>*>> seen;
  for (const auto& [topic, numbers] : assignment) {
    std::string name;
    if (appendKafkaTopic(topic, name)) seen.emplace_back(std::move(name), &numbers);
  }
  out.i32(static_cast<int32_t>(seen.size()));
  for (const auto& [name, numbers] : seen) {
    out.bytes16(name);
    out.i32(static_cast<int32_t>(numbers->size()));
    for (int32_t number : *numbers) out.i32(number);
  }
  out.i32(-1);  // no user data
  return out.take();
}

Result<std::shared_ptr<const TopicPattern>> compileTopicPattern(const std::string& pattern) {
  return compile<OverTopics>(pattern);
}

Result<std::shared_ptr<const NamePattern>> compileNamePattern(const std::string& pattern) {
  return compile<OverNames>(pattern);
}

ConsumerFormat consumerFormat() {
  return {parseConsumerSubscription, parseConsumerAssignment, writeConsumerAssignment,
          compileTopicPattern};
}

}  // namespace polylog::mapping
