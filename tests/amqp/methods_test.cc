// The generated methods: each goes out and comes back, octets as other implementations write them,
// and what hostile input may not do.
#include "codecs/amqp/methods.h"

#include <gtest/gtest.h>

#include <concepts>
#include <set>
#include <string>
#include <utility>

namespace polylog::amqp {
namespace {

using std::string_literals::operator""s;
using std::string_view_literals::operator""sv;

/// Gives every field a value of its own, or (false, 0, "") the same nothing.
class Filler {
 public:
  explicit Filler(bool nothing) : nothing_(nothing) {}

  void operator()(bool& v) { v = !nothing_ && ++next_ % 2 == 1; }
  template <std::integral T>
  void operator()(T& v) {
    v = nothing_ ? T{0} : static_cast<T>(0x8182838485868788U + ++next_);
  }
  void operator()(BytesView& v) {
    v = nothing_ ? BytesView() : BytesView(kText).substr(0, 1 + ++next_ % 20);
  }

 private:
  static constexpr const char* kText = "0123456789abcdefghijk";
  bool nothing_;
  unsigned next_ = 0;
};

/// Calls visitor(method) for each method, default-constructed.
template <class Visitor, size_t... I>
void forEachOf(Visitor&& visitor, std::index_sequence<I...>) {
  (visitor(std::variant_alternative_t<I, Method>{}), ...);
}
template <class Visitor>
void forEachMethod(Visitor&& visitor) {
  forEachOf(visitor, std::make_index_sequence<std::variant_size_v<Method>>());
}

template <class M>
std::string encoded(const M& method) {
  ByteWriter out;
  encode(method, out);
  return out.take();
}

ErrorKind kindOf(BytesView payload) {
  const auto decoded = decodeMethod(payload);
  return decoded ? ErrorKind::kInternal : decoded.error().kind;
}

/// Decodes `payload` as an M; views are into it.
template <class M>
M decodedAs(BytesView payload) {
  const auto decoded = decodeMethod(payload);
  if (!decoded || !std::holds_alternative<M>(*decoded)) {
    ADD_FAILURE() << "not " << M::kName;
    return {};
  }
  return std::get<M>(*decoded);
}

template <class M>
void expectRoundTrip(const M& method) {
  const std::string wire = encoded(method);
  EXPECT_EQ(decodedAs<M>(wire), method);
  for (size_t cut = 0; cut < wire.size(); ++cut) {
    EXPECT_EQ(kindOf(BytesView(wire).substr(0, cut)), ErrorKind::kInvalid) << "cut at " << cut;
  }
  EXPECT_EQ(kindOf(wire + '\0'), ErrorKind::kInvalid);
}

TEST(Methods, EveryMethodComesBack) {
  forEachMethod([]<class M>(M method) {
    SCOPED_TRACE(M::kName);
    method.visit(Filler(false));
    expectRoundTrip(method);
    method.visit(Filler(true));
    expectRoundTrip(method);
  });
}

TEST(Methods, AreKnownByTheirIds) {
  std::set<std::string> names;
  forEachMethod([&]<class M>(const M& method) {
    const MethodId id{M::kClassId, M::kMethodId};
    EXPECT_EQ(idOf(encoded(method)), id);
    EXPECT_EQ(methodName(id), M::kName);
    EXPECT_EQ(carriesContent(id), M::kCarriesContent) << M::kName;
    names.emplace(M::kName);
  });
  EXPECT_EQ(names.size(), std::variant_size_v<Method>);
  // As many as RabbitMQ 3.10 has: the specification's with its extensions, and the supplement's 6.
  EXPECT_EQ(names.size(), 66U);
}

TEST(Methods, ContentFollowsFour) {
  std::set<std::string> names;
  forEachMethod([&]<class M>(const M&) {
    if (M::kCarriesContent) names.emplace(M::kName);
  });
  EXPECT_EQ(names, (std::set<std::string>{"basic.publish", "basic.return", "basic.deliver",
                                          "basic.get-ok"}));
  EXPECT_FALSE(carriesContent({60, 0}));
}

TEST(Methods, UnknownOnesAreNotFound) {
  EXPECT_EQ(kindOf("\0\x3C\0\x0C"s), ErrorKind::kNotFound);
  EXPECT_EQ(kindOf("\0\x0B\0\x0A and whatever"s), ErrorKind::kNotFound);
  EXPECT_EQ(kindOf("\xFF\xFF\xFF\xFF"), ErrorKind::kNotFound);
  EXPECT_EQ(methodName({60, 12}), "");
  EXPECT_EQ(idOf("\0\x3C\0"s), MethodId{});
  EXPECT_EQ(idOf("\0\x3C\0\x0C"s), (MethodId{60, 12}));
  EXPECT_EQ(decodeMethod("\0\x3C\0\x0C"s).error().text, "no method 60.12");
  EXPECT_EQ(decodeMethod("\0\x3C\0\x0A"s).error().text, "basic.qos: malformed");
}

// The octets below are those that pika 1.2 writes for the same methods.

TEST(Methods, ConnectionStartOkAsPikaWritesIt) {
  const std::string table = "\7productS\0\0\0\1x\14capabilitiesF\0\0\0\15\12basic.nackt\1"s;
  const std::string wire =
      "\0\12\0\13\0\0\0\x2D"s + table + "\5PLAIN\0\0\0\14\0guest\0guest\5en_US"s;
  const auto method = decodedAs<ConnectionStartOk>(wire);
  EXPECT_EQ(method.clientProperties, table);
  EXPECT_EQ(method.mechanism, "PLAIN");
  EXPECT_EQ(method.response, "\0guest\0guest"s);
  EXPECT_EQ(method.locale, "en_US");
  EXPECT_EQ(encoded(method), wire);
}

TEST(Methods, QueueDeclareAsPikaWritesIt) {
  const std::string wire = "\0\x32\0\12\0\0\1q\x1A\0\0\0\x12\14x-max-lengthI\0\0\0\5"s;
  const auto method = decodedAs<QueueDeclare>(wire);
  EXPECT_EQ(method.queue, "q");
  EXPECT_FALSE(method.passive);
  EXPECT_TRUE(method.durable);
  EXPECT_FALSE(method.exclusive);
  EXPECT_TRUE(method.autoDelete);
  EXPECT_TRUE(method.noWait);
  EXPECT_EQ(method.arguments, "\14x-max-lengthI\0\0\0\5"s);
  EXPECT_EQ(encoded(method), wire);
}

TEST(Methods, ExchangeDeclareAsPikaWritesIt) {
  const std::string wire = "\0\x28\0\12\0\0\1x\5topic\11\0\0\0\0"s;
  const auto method = decodedAs<ExchangeDeclare>(wire);
  EXPECT_EQ(method.exchange, "x");
  EXPECT_EQ(method.type, "topic");
  EXPECT_TRUE(method.passive);
  EXPECT_FALSE(method.durable);
  EXPECT_FALSE(method.autoDelete);
  EXPECT_TRUE(method.internal);
  EXPECT_FALSE(method.noWait);
  EXPECT_EQ(encoded(method), wire);
}

TEST(Methods, BasicOnesAsPikaWritesThem) {
  BasicPublish publish;
  publish.exchange = "x";
  publish.routingKey = "k";
  publish.mandatory = true;
  EXPECT_EQ(encoded(publish), "\0\x3C\0\x28\0\0\1x\1k\1"s);

  BasicDeliver deliver;
  deliver.consumerTag = "c";
  deliver.deliveryTag = 258;
  deliver.redelivered = true;
  deliver.exchange = "x";
  deliver.routingKey = "k";
  EXPECT_EQ(encoded(deliver), "\0\x3C\0\x3C\1c\0\0\0\0\0\0\1\2\1\1x\1k"s);

  const std::string nack = "\0\x3C\0\x78\0\0\0\0\0\0\0\1\1"s;
  EXPECT_TRUE(decodedAs<BasicNack>(nack).multiple);
  EXPECT_FALSE(decodedAs<BasicNack>(nack).requeue);
}

TEST(Methods, CloseAndConfirmAsPikaWritesThem) {
  ChannelClose close;
  close.replyCode = static_cast<uint16_t>(ReplyCode::kNotFound);
  close.replyText = "NOT_FOUND";
  close.classId = BasicPublish::kClassId;
  close.methodId = BasicPublish::kMethodId;
  EXPECT_EQ(encoded(close), "\0\x14\0\x28\1\x94\11NOT_FOUND\0\x3C\0\x28"s);
  EXPECT_TRUE(decodedAs<ConfirmSelect>("\0\x55\0\12\1"s).noWait);
}

TEST(Methods, ReservedFieldsAreReadAndDropped) {
  // connection.open with capabilities and insist, as clients of 0-8 fill them.
  const auto open = decodedAs<ConnectionOpen>("\0\12\0\x28\1/\3abc\1"sv);
  EXPECT_EQ(open.virtualHost, "/");
  EXPECT_EQ(encoded(open), "\0\12\0\x28\1/\0\0"s);
  // A ticket that is not zero.
  EXPECT_EQ(decodedAs<BasicGet>("\0\x3C\0\x46\0\1\1q\1"s).queue, "q");
  EXPECT_EQ(encoded(ChannelOpenOk{}), "\0\x14\0\13\0\0\0\0"s);
}

TEST(Methods, BitsThatNobodyNamedAreIgnored) {
  const auto ack = decodedAs<BasicAck>("\0\x3C\0\x50\0\0\0\0\0\0\0\7\xFE"sv);
  EXPECT_FALSE(ack.multiple);
  EXPECT_EQ(ack.deliveryTag, 7U);
}

TEST(Methods, LengthsBeyondTheEndAreMalformed) {
  EXPECT_EQ(kindOf("\0\x32\0\12\0\0\xFFq\0\0\0\0\0"s), ErrorKind::kInvalid);
  EXPECT_EQ(kindOf("\0\x32\0\12\0\0\1q\0\xFF\xFF\xFF\xFF"s), ErrorKind::kInvalid);
  EXPECT_EQ(kindOf("\0\12\0\x15\x80\0\0\0"s), ErrorKind::kInvalid);
}

TEST(Methods, NamesAreUtf8ExceptWhereContentFollows) {
  EXPECT_EQ(decodedAs<BasicCancel>("\0\x3C\0\x1E\2\xC3\xA4\0"s).consumerTag, "\xC3\xA4");
  EXPECT_EQ(kindOf("\0\x3C\0\x1E\1\xC3\0"s), ErrorKind::kInvalid);
  EXPECT_EQ(decodedAs<BasicPublish>("\0\x3C\0\x28\0\0\0\1\xC3\0"s).routingKey, "\xC3");
}

TEST(Methods, ShortStringsAreCutAt255Octets) {
  const std::string longest(255, 'a');
  const std::string longer = longest + "b";
  BasicCancelOk method;
  method.consumerTag = longest;
  EXPECT_EQ(decodedAs<BasicCancelOk>(encoded(method)).consumerTag.size(), 255U);
  method.consumerTag = longer;
  const std::string wire = encoded(method);
  EXPECT_EQ(decodedAs<BasicCancelOk>(wire).consumerTag, longest);
}

TEST(ReplyCodes, AreNamedAndSortedAsRabbitMqDoes) {
  EXPECT_EQ(replyName(ReplyCode::kNotFound), "NOT_FOUND");
  EXPECT_EQ(replyName(ReplyCode::kPreconditionFailed), "PRECONDITION_FAILED");
  EXPECT_EQ(replyName(ReplyCode::kNoRoute), "NO_ROUTE");
  EXPECT_EQ(replyName(ReplyCode::kReplySuccess), "REPLY_SUCCESS");
  EXPECT_EQ(replyName(static_cast<ReplyCode>(999)), "");
  for (const ReplyCode code :
       {ReplyCode::kConnectionForced, ReplyCode::kInvalidPath, ReplyCode::kFrameError,
        ReplyCode::kSyntaxError, ReplyCode::kCommandInvalid, ReplyCode::kChannelError,
        ReplyCode::kUnexpectedFrame, ReplyCode::kResourceError, ReplyCode::kNotAllowed,
        ReplyCode::kNotImplemented, ReplyCode::kInternalError}) {
    EXPECT_TRUE(isHardError(code)) << replyName(code);
  }
  for (const ReplyCode code :
       {ReplyCode::kReplySuccess, ReplyCode::kContentTooLarge, ReplyCode::kNoRoute,
        ReplyCode::kNoConsumers, ReplyCode::kAccessRefused, ReplyCode::kNotFound,
        ReplyCode::kResourceLocked, ReplyCode::kPreconditionFailed}) {
    EXPECT_FALSE(isHardError(code)) << replyName(code);
  }
}

}  // namespace
}  // namespace polylog::amqp
