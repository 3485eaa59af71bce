// The generated messages: every version of each goes out and comes back; some known octets; and
// what hostile input may not do.
#include <gtest/gtest.h>

#include <concepts>
#include <string>
#include <tuple>

#include "codecs/kafka/wire/all.h"

namespace polylog::kafka {
namespace {

/// Gives every field that a version has a value of its own; null ones are left null if `nulls`.
class Filler {
 public:
  Filler(int16_t version, bool nulls) : version_(version), nulls_(nulls) {}

  void operator()(bool& v, bool) { v = true; }
  template <std::integral T>
  void operator()(T& v, bool) {
    v = static_cast<T>(++next_);
  }
  void operator()(double& v, bool) { v = ++next_ / 4.0; }
  void operator()(wire::Uuid& v, bool) { v.fill(static_cast<uint8_t>(++next_)); }
  void operator()(BytesView& v, bool) { v = BytesView(kText).substr(0, ++next_ % 20); }
  void operator()(wire::Records& v, bool nullable) {
    v.bytes = BytesView("records");
    if (nullable && nulls_) v.bytes.reset();
  }
  template <class T>
  void operator()(std::vector<T>& v, bool) {
    v.resize(1 + next_ % 3);
    for (T& element : v) (*this)(element, false);
  }
  template <class T>
  void operator()(std::optional<T>& v, bool nullable) {
    v.reset();
    if (nullable && nulls_) return;
    v = T{};
    (*this)(*v, false);
  }
  template <class T>
  requires requires(T& t, Filler& f) { t.visit(f, int16_t{0}); }
  void operator()(T& v, bool) { v.visit(*this, version_); }

 private:
  static constexpr const char* kText = "0123456789abcdefghij";
  int16_t version_;
  bool nulls_;
  uint32_t next_ = 0;
};

template <class Message>
void expectRoundTrip(const Message& message, int16_t version) {
  SCOPED_TRACE(std::string(Message::kName) + " version " + std::to_string(version));
  wire::Encoder out;
  message.encode(out, version);
  Message back;
  wire::Decoder in(out.view());
  back.decode(in, version);
  EXPECT_TRUE(in.complete()) << in.remaining() << " octets left";
  EXPECT_TRUE(back == message);
  // Whatever is cut off, decoding fails and reads no further than the end.
  for (size_t size = 0; size < out.size(); ++size) {
    std::string cut(out.view().substr(0, size));
    wire::Decoder shorter(cut);
    Message part;
    part.decode(shorter, version);
    EXPECT_FALSE(shorter.ok()) << "cut to " << size;
  }
}

template <class Message>
void roundTrips() {
  for (int16_t version = Message::kMinVersion; version <= Message::kMaxVersion; ++version) {
    for (bool nulls : {false, true}) {
      Message message;
      Filler filler(version, nulls);
      message.visit(filler, version);
      expectRoundTrip(message, version);
    }
  }
}

template <class... Messages>
void eachRoundTrips(std::tuple<Messages...>*) {
  (roundTrips<Messages>(), ...);
}

TEST(Wire, EveryRequestRoundTrips) {
  eachRoundTrips(static_cast<wire::AllRequests*>(nullptr));
}
TEST(Wire, EveryResponseRoundTrips) {
  eachRoundTrips(static_cast<wire::AllResponses*>(nullptr));
}

/// What is not set goes out as its default and comes back so. Nullable fields that a version can't
/// say null of come back empty, so it is the second trip that must change nothing.
template <class Message>
void defaultTrips() {
  for (int16_t version = Message::kMinVersion; version <= Message::kMaxVersion; ++version) {
    SCOPED_TRACE(std::string(Message::kName) + " version " + std::to_string(version));
    wire::Encoder first;
    Message().encode(first, version);
    Message back;
    wire::Decoder in(first.view());
    back.decode(in, version);
    EXPECT_TRUE(in.complete());
    wire::Encoder second;
    back.encode(second, version);
    EXPECT_EQ(first.view(), second.view());
  }
}

template <class... Messages>
void eachDefaultTrips(std::tuple<Messages...>*) {
  (defaultTrips<Messages>(), ...);
}

TEST(Wire, DefaultsRoundTrip) {
  eachDefaultTrips(static_cast<wire::AllRequests*>(nullptr));
  eachDefaultTrips(static_cast<wire::AllResponses*>(nullptr));
}

std::string octets(std::initializer_list<int> values) {
  std::string out;
  for (int v : values) out.push_back(static_cast<char>(v));
  return out;
}

template <class Message>
std::string encoded(const Message& message, int16_t version) {
  wire::Encoder out;
  message.encode(out, version);
  return out.take();
}

TEST(Wire, ApiVersionsRequest3IsAsClientsSendIt) {
  wire::ApiVersionsRequest request;
  request.clientSoftwareName = "librdkafka";
  request.clientSoftwareVersion = "2.0.2";
  EXPECT_EQ(encoded(request, 3),
            "\x0blibrdkafka\x06"
            "2.0.2" +
                octets({0}));
  EXPECT_EQ(encoded(request, 2), "");
}

TEST(Wire, ApiVersionsResponses) {
  wire::ApiVersionsResponse response;
  response.errorCode = 35;
  response.apiKeys.push_back({18, 0, 4});
  EXPECT_EQ(encoded(response, 0), octets({0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4}));
  EXPECT_EQ(encoded(response, 3), octets({0, 35, 2, 0, 18, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0}));
}

TEST(Wire, MetadataRequests) {
  wire::MetadataRequest request;
  request.topics.emplace().push_back({{}, BytesView("t")});
  request.allowAutoTopicCreation = true;
  EXPECT_EQ(encoded(request, 1), octets({0, 0, 0, 1, 0, 1, 't'}));
  EXPECT_EQ(encoded(request, 4), octets({0, 0, 0, 1, 0, 1, 't', 1}));
  EXPECT_EQ(encoded(request, 9), octets({2, 2, 't', 0, 1, 0, 0, 0}));
  EXPECT_EQ(encoded(request, 12),
            octets({2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 't', 0, 1, 0, 0}));
  request.topics.reset();
  EXPECT_EQ(encoded(request, 1), octets({255, 255, 255, 255}));
  EXPECT_EQ(encoded(request, 9), octets({0, 1, 0, 0, 0}));
}

TEST(Wire, ProduceRequest9) {
  wire::ProduceRequest request;
  request.acks = -1;
  request.timeoutMs = 30000;
  request.topics.push_back({"t", {}, {{3, {BytesView("abc"), 0}}}});
  EXPECT_EQ(encoded(request, 9), octets({0, 255, 255, 0, 0, 0x75, 0x30, 2,   2, 't', 2,
                                         0, 0,   0,   3, 4, 'a',  'b',  'c', 0, 0,   0}));
  EXPECT_EQ(encoded(request, 3),
            octets({255, 255, 255, 255, 0, 0, 0x75, 0x30, 0, 0, 0, 1, 0,   1,   't',
                    0,   0,   0,   1,   0, 0, 0,    3,    0, 0, 0, 3, 'a', 'b', 'c'}));
}

TEST(Wire, FetchRequest18TellsAReplicasHighWatermark) {
  wire::FetchRequest request;
  request.topics.emplace_back().partitions.emplace_back();
  size_t plain = encoded(request, 18).size();
  EXPECT_EQ(plain, encoded(request, 17).size());
  request.topics[0].partitions[0].highWatermark = 5;
  EXPECT_EQ(encoded(request, 18).size(), plain + 2 + 8);
  EXPECT_EQ(encoded(request, 17).size(), plain);
}

TEST(Wire, AlterPartitionReassignmentsTellsWhatWasAllowedBeforeTheError) {
  wire::AlterPartitionReassignmentsRequest request;
  request.timeoutMs = 1;
  request.topics.push_back({"t", {{0, {}}}});
  EXPECT_EQ(encoded(request, 0), octets({0, 0, 0, 1, 2, 2, 't', 2, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(encoded(request, 1), octets({0, 0, 0, 1, 1, 2, 2, 't', 2, 0, 0, 0, 0, 0, 0, 0, 0}));
  wire::AlterPartitionReassignmentsResponse response;
  response.errorCode = 42;
  EXPECT_EQ(encoded(response, 0), octets({0, 0, 0, 0, 0, 42, 0, 1, 0}));
  EXPECT_EQ(encoded(response, 1), octets({0, 0, 0, 0, 1, 0, 42, 0, 1, 0}));
}

TEST(Wire, DescribeLogDirs4TellsTheDisk) {
  wire::DescribeLogDirsResponse response;
  response.results.emplace_back().logDir = "d";
  response.results[0].totalBytes = 2;
  response.results[0].usableBytes = 1;
  EXPECT_EQ(encoded(response, 3), octets({0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 'd', 1, 0, 0}));
  EXPECT_EQ(encoded(response, 4), octets({0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 'd', 1, 0, 0, 0,
                                          0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,   0, 1, 0, 0}));
}

/// Octets one after the other.
std::string joined(std::initializer_list<std::string> parts) {
  std::string out;
  for (const std::string& part : parts) out += part;
  return out;
}

TEST(Wire, OffsetCommit10AndOffsetFetch10HaveTopicsIdsInTheirNamesPlace) {
  wire::Uuid id;
  id.fill(7);
  const std::string ids(id.size(), 7);
  const std::string none = octets({255, 255, 255, 255});
  wire::OffsetCommitRequest commit;
  commit.groupId = "g";
  commit.topics.push_back({"t", id, {{1, 2, -1, BytesView("m")}}});
  const std::string head = joined({octets({2, 'g'}), none, octets({1, 0, 2})});
  const std::string partition =
      joined({octets({2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2}), none, octets({2, 'm', 0, 0, 0})});
  EXPECT_EQ(encoded(commit, 9), joined({head, octets({2, 't'}), partition}));
  EXPECT_EQ(encoded(commit, 10), joined({head, ids, partition}));
  wire::OffsetCommitResponse committed;
  committed.topics.push_back({"t", id, {{1, 42}}});
  EXPECT_EQ(encoded(committed, 10),
            joined({octets({0, 0, 0, 0, 2}), ids, octets({2, 0, 0, 0, 1, 0, 42, 0, 0, 0})}));

  wire::OffsetFetchRequest fetch;
  auto& asked = fetch.groups.emplace_back();
  asked.groupId = "g";
  asked.memberId = "m";
  asked.memberEpoch = 3;
  asked.topics.emplace().push_back({"t", id, {1}});
  EXPECT_EQ(encoded(fetch, 10), joined({octets({2, 2, 'g', 2, 'm', 0, 0, 0, 3, 2}), ids,
                                        octets({2, 0, 0, 0, 1, 0, 0, 0, 0})}));
  wire::OffsetFetchResponse fetched;
  auto& told = fetched.groups.emplace_back();
  told.groupId = "g";
  told.errorCode = 42;
  told.topics.push_back({"t", id, {{1, 2, -1, BytesView("m"), 0}}});
  EXPECT_EQ(encoded(fetched, 10), joined({octets({0, 0, 0, 0, 2, 2, 'g', 2}), ids,
                                          octets({2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2}), none,
                                          octets({2, 'm', 0, 0, 0, 0, 0, 42, 0, 0})}));
}

TEST(Wire, TransactionsOfVersion2) {
  wire::EndTxnResponse ended;
  ended.producerId = 3;
  ended.producerEpoch = 4;
  EXPECT_EQ(encoded(ended, 4), octets({0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(encoded(ended, 5), octets({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 4, 0}));
  wire::ProduceRequest produce;
  produce.topics.push_back({"t", wire::Uuid{7}, {}});
  EXPECT_EQ(encoded(produce, 12), octets({0, 0, 0, 0, 0, 0, 0, 2, 2, 't', 1, 0, 0}));
  EXPECT_EQ(encoded(produce, 13), octets({0, 0, 0, 0, 0, 0, 0, 2, 7, 0, 0, 0, 0, 0,
                                          0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}));
  wire::AddPartitionsToTxnRequest add;
  add.transactions.push_back({"x", 1, 2, true, {{"t", {3}}}});
  EXPECT_EQ(encoded(add, 5), octets({2, 2, 'x', 0,   0, 0, 0, 0, 0, 0, 1, 0, 2,
                                     1, 2, 2,   't', 2, 0, 0, 0, 3, 0, 0, 0}));
}

TEST(Wire, UpdateFeatures) {
  wire::UpdateFeaturesRequest request;
  request.timeoutMs = 1;
  request.updates.push_back({"f", 2, true, 3});
  EXPECT_EQ(encoded(request, 0), octets({0, 0, 0, 1, 2, 2, 'f', 0, 2, 1, 0, 0}));
  EXPECT_EQ(encoded(request, 1), octets({0, 0, 0, 1, 2, 2, 'f', 0, 2, 3, 0, 0, 0}));
}

TEST(Wire, WriteTxnMarkers2TellsTheTransactionsVersion) {
  wire::WriteTxnMarkersRequest request;
  request.markers.emplace_back().transactionVersion = 2;
  EXPECT_EQ(encoded(request, 2).size(), encoded(request, 1).size() + 1);
}

TEST(Wire, TaggedFieldsAreWrittenOnlyWhenSet) {
  wire::FetchResponse response;
  response.topics.emplace_back().partitions.emplace_back();
  size_t plain = encoded(response, 12).size();
  response.topics[0].partitions[0].currentLeader = {1, 7};
  // Tag, size, two integers and the structure's own tags.
  EXPECT_EQ(encoded(response, 12).size(), plain + 2 + 9);
}

TEST(Wire, UnknownTaggedFieldsAreSkipped) {
  // Name, version, then two tagged fields that nobody knows.
  std::string body = octets({2, 'n', 2, 'v', 2, 5, 3, 'x', 'y', 'z', 200, 1, 0});
  wire::Decoder in(body);
  wire::ApiVersionsRequest request;
  request.decode(in, 3);
  EXPECT_TRUE(in.complete());
  EXPECT_EQ(request.clientSoftwareName, "n");
}

TEST(Wire, RecordsAreViewsOfTheInput) {
  wire::ProduceRequest request;
  request.topics.push_back({"t", {}, {{0, {BytesView("batch"), 0}}}});
  std::string body = encoded(request, 9);
  wire::ProduceRequest back;
  wire::Decoder in(body);
  back.decode(in, 9);
  BytesView batch = *back.topics.at(0).partitions.at(0).records.bytes;
  EXPECT_EQ(batch, "batch");
  EXPECT_GE(batch.data(), body.data());
  EXPECT_LE(batch.data() + batch.size(), body.data() + body.size());
}

TEST(Wire, RecordsToFollowLeaveACut) {
  wire::FetchResponse response;
  auto& partitions = response.topics.emplace_back().partitions;
  partitions.resize(2);
  partitions[1].records.later = 1000;
  wire::Encoder out;
  response.encode(out, 11);
  ASSERT_EQ(out.cuts.size(), 1U);
  EXPECT_EQ(out.cuts[0], out.size());
  EXPECT_EQ(out.view().substr(out.size() - 4), octets({0, 0, 3, 232}));
}

TEST(Wire, CountsAreBoundedByTheOctetsAtHand) {
  // 2^31 - 1 topics in eight octets.
  std::string body = octets({127, 255, 255, 255, 0, 0, 0, 0});
  wire::Decoder in(body);
  wire::MetadataRequest request;
  request.decode(in, 1);
  EXPECT_FALSE(in.ok());
  EXPECT_TRUE(!request.topics || request.topics->empty());
}

TEST(Wire, ElementsOfOneMessageAreBoundedInAll) {
  // Arrays of int32 that each fit, but not all together.
  size_t each = wire::kMaxElements / 2 + 1;
  wire::Encoder out;
  out.string("group", false);
  out.arrayCount(2, false);
  for (int i = 0; i < 2; ++i) {
    out.string("t", false);
    out.arrayCount(each, false);
    for (size_t k = 0; k < each; ++k) out.i32(0);
  }
  wire::Decoder in(out.view());
  wire::OffsetFetchRequest request;
  request.decode(in, 2);
  EXPECT_FALSE(in.ok());
}

TEST(Wire, NullWhereItCanNotBeFails) {
  std::string nullArray = octets({255, 255, 255, 255});
  wire::Decoder in(nullArray);
  wire::MetadataRequest request;
  request.decode(in, 0);
  EXPECT_FALSE(in.ok());

  std::string nullString = octets({255, 255, 0, 0, 0, 0});
  wire::Decoder second(nullString);
  wire::HeartbeatRequest beat;
  beat.decode(second, 0);
  EXPECT_FALSE(second.ok());
}

TEST(Wire, LongStringsAreCutWhereTheLengthHasSixteenBits) {
  wire::Encoder out;
  out.string(std::string(40000, 'x'), false);
  wire::Decoder in(out.view());
  EXPECT_EQ(in.string(false).size(), 32767U);
  EXPECT_TRUE(in.complete());
}

}  // namespace
}  // namespace polylog::kafka
