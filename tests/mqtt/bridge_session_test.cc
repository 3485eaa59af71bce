// A bridge's connection against a remote broker played by hand.
#include "codecs/mqtt/bridge_session.h"

#include <map>

#include "codecs/mqtt/bridge_inbox.h"
#include "tests/mqtt/harness.h"

namespace polylog::mqtt::test {
namespace {

class FakeStore final : public BridgeStore {
 public:
  explicit FakeStore(FakeBroker& broker) : broker_(broker) {}
  std::vector<std::string> names() const override { return {}; }
  std::optional<std::string> find(const std::string& name) const override {
    auto found = rows.find(name);
    return found == rows.end() ? std::nullopt : std::optional(found->second);
  }
  void store(const std::string& name, std::string value, Done<Result<>> done) override {
    broker_.answer([this, name, value = std::move(value), done = std::move(done)]() mutable {
      rows[name] = std::move(value);
      done({});
    });
  }
  void remove(const std::string& name, Done<Result<>> done) override {
    rows.erase(name);
    broker_.answer([done = std::move(done)]() mutable { done({}); });
  }
  void backlog(const std::string&, Done<std::optional<Backlog>>) override {}

  std::map<std::string, std::string> rows;

 private:
  FakeBroker& broker_;
};

/// The remote broker's end of a bridge's connections.
struct Remote : BridgeObserver {
  explicit Remote(std::vector<std::string> topics, Version v = Version::k5) : version(v) {
    auto made = std::make_shared<BridgeOptions>();
    made->name = "north";
    made->clientId = "edge-1";
    made->version = v;
    made->brokerId = "us";
    std::vector<BridgeTopic> parsed;
    for (const std::string& text : topics) parsed.push_back(*BridgeTopic::parse(text));
    made->topics = BridgeTopics(std::move(parsed));
    Principal principal;
    principal.trusted = true;
    made->principal = std::make_shared<const Principal>(std::move(principal));
    made->mqtt = std::make_shared<const MqttOptions>(withLimits(world.broker, {}));
    options = std::move(made);
  }
  ~Remote() override { drop(); }

  void prepare() {
    prepareBridge(world.broker, options, memory(), [this](const Result<>& result) {
      EXPECT_TRUE(result.has_value());
      prepared = true;
    });
    world.dispatcher.runAll();
    EXPECT_TRUE(prepared);
  }

  /// A new connection; its CONNECT.
  ConnectPacket connect() {
    begin();
    run();
    auto all = packets();
    EXPECT_EQ(all.size(), 1U);
    decoder.use(version);
    return std::get<ConnectPacket>(all.at(0));
  }
  void begin() {
    drop();
    transport = std::make_unique<FakeTransport>(world.dispatcher);
    decoder = Decoder(Side::kServer, 1 << 28);
    session = std::make_unique<BridgeSession>(*transport, world.broker, options, memory(), counters,
                                              *this);
    ended.reset();
    up = false;
  }
  /// What memory there is after a crash.
  BridgeMemory& restart() {
    drop();
    known = std::make_unique<BridgeMemory>("north", store);
    return *known;
  }
  BridgeMemory& memory() { return *known; }
  /// Through the connection that cleans up, to one that stands; what it has sent by then.
  std::vector<Packet> establish(bool sessionPresent = false) {
    if (connect().cleanStart) {
      accept(false);
      EXPECT_TRUE(transport->closed);
      close();
      EXPECT_TRUE(ended && ended->again);
      EXPECT_FALSE(connect().cleanStart);
    }
    accept(sessionPresent);
    return packets();
  }
  void accept(bool sessionPresent) { send(ConnackPacket{sessionPresent, 0, {}}); }
  /// Grants all that is asked for; the packets other than those requests.
  std::vector<Packet> grant(std::vector<Packet> asked) {
    std::vector<Packet> rest;
    for (Packet& packet : asked) {
      if (auto* subscribe = std::get_if<SubscribePacket>(&packet)) {
        SubackPacket answer{PacketType::kSuback, subscribe->packetId, {}, {}};
        for (const SubscribeEntry& entry : subscribe->entries) {
          answer.codes.push_back(static_cast<ReasonCode>(entry.qos));
        }
        send(answer);
      } else if (auto* unsubscribe = std::get_if<UnsubscribePacket>(&packet)) {
        SubackPacket answer{PacketType::kUnsuback, unsubscribe->packetId, {}, {}};
        if (version == Version::k5) {
          answer.codes.assign(unsubscribe->filters.size(), ReasonCode::kSuccess);
        }
        send(answer);
      } else {
        rest.push_back(std::move(packet));
      }
    }
    return rest;
  }
  void send(const Packet& packet) {
    ByteWriter writer;
    encode(writer, version, packet);
    input.append(writer.view());
    run();
  }
  void run() {
    for (int round = 0; round < 100; ++round) {
      const size_t ran = world.dispatcher.runAll();
      const size_t before = input.size();
      if (session && !transport->paused && !transport->closed && !input.empty()) {
        input.erase(0, session->onBytes(SharedBytes::copyOf(input)));
      }
      if (ran == 0 && input.size() == before) return;
    }
    FAIL() << "never comes to rest";
  }
  std::vector<Packet> packets() {
    received.push_back(transport->takeSent());
    std::vector<Packet> out;
    BytesView rest = received.back();
    while (!rest.empty()) {
      Decoded decoded = decoder.next(rest);
      auto* packet = std::get_if<DecodedPacket>(&decoded);
      if (packet == nullptr) {
        ADD_FAILURE() << "the bridge sent something undecodable";
        break;
      }
      out.push_back(std::move(packet->packet));
      rest.remove_prefix(packet->size);
    }
    return out;
  }
  template <class P>
  P next() {
    auto all = packets();
    if (all.size() != 1 || !std::holds_alternative<P>(all[0])) {
      ADD_FAILURE() << "expected one packet of a kind, got " << all.size();
      return P{};
    }
    return std::get<P>(std::move(all[0]));
  }
  void close() {
    if (session) session->onClosed(transport->reason);
    session.reset();
    input.clear();
  }
  void drop() {
    if (session) session->onClosed("cut");
    session.reset();
    input.clear();
  }
  FakeSession& inbox() { return *world.broker.sessions.at("$bridge/north"); }

  void onBridgeUp() override { up = true; }
  void onBridgeNotice(std::string what) override { notices.push_back(std::move(what)); }
  void onBridgeEnd(BridgeEnd end) override { ended = std::move(end); }

  World world;
  const Version version;
  std::shared_ptr<const BridgeOptions> options;
  FakeStore store{world.broker};
  std::unique_ptr<BridgeMemory> known = std::make_unique<BridgeMemory>("north", store);
  BridgeCounters counters{"north"};
  std::unique_ptr<FakeTransport> transport;
  std::unique_ptr<BridgeSession> session;
  Decoder decoder{Side::kServer, 1 << 28};
  std::string input;
  std::deque<std::string> received;
  bool prepared = false;
  bool up = false;
  std::vector<std::string> notices;
  std::optional<BridgeEnd> ended;
};

TEST(BridgeSessionTest, itsSessionIsThereBeforeAnyConnection) {
  Remote remote({"a/# out 1", "b/# both 2"});
  remote.prepare();
  const auto& subscriptions = remote.inbox().subscriptions;
  ASSERT_EQ(subscriptions.size(), 2U);
  EXPECT_EQ(subscriptions.at("b/#").guarantee, DeliveryGuarantee::kExactlyOnce);
  EXPECT_TRUE(subscriptions.at("a/#").noLocal);
  EXPECT_TRUE(subscriptions.at("a/#").retainAsPublished);
  EXPECT_EQ(subscriptions.at("a/#").retainHandling, RetainHandling::kNever);
  EXPECT_EQ(remote.inbox().options.expirySeconds, kNeverExpires);
  EXPECT_TRUE(remote.inbox().detached);
  BridgeMemory again("north", remote.store);
  ASSERT_TRUE(again.load());
  EXPECT_EQ(again.record.localFilters, (std::vector<std::string>{"a/#", "b/#"}));
  EXPECT_FALSE(again.record.cleaned);
}

TEST(BridgeSessionTest, theFirstConnectionEndsWhatTheRemoteMayHave) {
  Remote remote({"a/# out 1", "b/# in 2 \"\" x/"});
  remote.prepare();
  ConnectPacket first = remote.connect();
  EXPECT_TRUE(first.cleanStart);
  EXPECT_EQ(first.clientId, "edge-1");
  EXPECT_FALSE(first.properties.has(PropertyId::kSessionExpiry));
  auto packets = remote.establish();
  ASSERT_EQ(packets.size(), 1U);
  const auto& subscribe = std::get<SubscribePacket>(packets[0]);
  ASSERT_EQ(subscribe.entries.size(), 1U);
  EXPECT_EQ(subscribe.entries[0].filter, "x/b/#");
  EXPECT_TRUE(subscribe.entries[0].noLocal);
  EXPECT_TRUE(subscribe.entries[0].retainAsPublished);
  EXPECT_GT(subscribe.packetId, kOwnPacketIds);
  EXPECT_FALSE(remote.up);
  remote.grant(std::move(packets));
  EXPECT_TRUE(remote.up);
  // The retained ones, now that somebody hears them.
  EXPECT_EQ(remote.inbox().subscriptions.at("a/#").retainHandling, RetainHandling::kAlways);
  EXPECT_TRUE(remote.memory().record.cleaned);
  EXPECT_FALSE(remote.memory().record.afresh);
  // The next time it goes on: no cleaning, and retained messages only if the remote has forgotten.
  EXPECT_FALSE(remote.connect().cleanStart);
  remote.accept(true);
  packets = remote.packets();
  ASSERT_EQ(packets.size(), 1U);
  EXPECT_EQ(std::get<SubscribePacket>(packets[0]).entries.at(0).retainHandling, 1);
  remote.grant(std::move(packets));
  EXPECT_TRUE(remote.up);
  EXPECT_EQ(remote.inbox().subscriptions.at("a/#").retainHandling, RetainHandling::kNever);
}

TEST(BridgeSessionTest, with311NothingIsAskedForThatTheRemoteHas) {
  Remote remote({"b/# in 2", "c in 0"}, Version::k311);
  remote.prepare();
  remote.grant(remote.establish());
  EXPECT_TRUE(remote.up);
  remote.connect();
  remote.accept(true);
  auto packets = remote.packets();
  ASSERT_EQ(packets.size(), 1U);
  const auto& subscribe = std::get<SubscribePacket>(packets[0]);
  ASSERT_EQ(subscribe.entries.size(), 1U);
  EXPECT_EQ(subscribe.entries[0].filter, "c");
}

TEST(BridgeSessionTest, whatGoesOutIsNamedMarkedAndFollowed) {
  Remote remote({"a/# out 2 \"\" site/"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.inbox().deliver("a", "b", "1", DeliveryGuarantee::kAtLeastOnce);
  remote.run();
  auto publish = remote.next<PublishPacket>();
  EXPECT_EQ(publish.topic, "site/a/b");
  EXPECT_EQ(publish.qos, 1);
  const Property* mark = publish.properties.find(PropertyId::kUserProperty);
  ASSERT_NE(mark, nullptr);
  EXPECT_EQ(mark->text, kBridgeMark);
  EXPECT_EQ(mark->value, "us");
  remote.send(ackOf(PacketType::kPuback, publish.packetId));
  EXPECT_TRUE(remote.inbox().acknowledged.contains(0));

  remote.inbox().deliver("a", "b", "2", DeliveryGuarantee::kExactlyOnce);
  remote.run();
  const uint16_t id = remote.next<PublishPacket>().packetId;
  remote.send(ackOf(PacketType::kPubrec, id));
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPubrel);
  EXPECT_FALSE(remote.inbox().acknowledged.contains(1));
  remote.send(ackOf(PacketType::kPubcomp, id));
  EXPECT_TRUE(remote.inbox().acknowledged.contains(1));
}

TEST(BridgeSessionTest, aMessageOfOursThatHasComeAroundIsNotSentAgain) {
  Remote remote({"a/# out 1"});
  remote.prepare();
  remote.grant(remote.establish());
  const int64_t before = remote.counters.droppedLoop.value();
  remote.inbox().deliver("a", "b", "1", DeliveryGuarantee::kAtLeastOnce,
                         {{"polylog-bridge", "us"}});
  remote.inbox().deliver("a", "b", "2", DeliveryGuarantee::kAtLeastOnce, {{"polylog-bridge", "x"}});
  remote.run();
  EXPECT_EQ(remote.next<PublishPacket>().payload, "2");
  EXPECT_EQ(remote.counters.droppedLoop.value(), before + 1);
  EXPECT_TRUE(remote.inbox().acknowledged.contains(0));
}

TEST(BridgeSessionTest, whatWasDroppedWhileTheRemoteHadItIsReleased) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  Delivery dropped;
  dropped.id = 4;
  dropped.guarantee = DeliveryGuarantee::kExactlyOnce;
  dropped.accepted = dropped.redelivered = true;
  remote.inbox().deliver(std::move(dropped));
  remote.run();
  const auto release = remote.next<AckPacket>();
  EXPECT_EQ(release.type, PacketType::kPubrel);
  remote.send(ackOf(PacketType::kPubcomp, release.packetId));
  EXPECT_TRUE(remote.inbox().acknowledged.contains(4));
}

TEST(BridgeSessionTest, whatTheRemoteHadAcceptedIsReleasedOrSentAgain) {
  for (const bool knows : {true, false}) {
    Remote remote({"a/# out 2"});
    remote.prepare();
    remote.grant(remote.establish());
    remote.inbox().deliver("a", "b", "1", DeliveryGuarantee::kExactlyOnce);
    remote.run();
    const uint16_t id = remote.next<PublishPacket>().packetId;
    remote.send(ackOf(PacketType::kPubrec, id));
    EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPubrel);
    remote.connect();
    remote.accept(knows);
    auto packets = remote.packets();
    ASSERT_EQ(packets.size(), 1U);
    if (knows) {
      EXPECT_EQ(std::get<AckPacket>(packets[0]).packetId, id);
    } else {
      EXPECT_FALSE(std::get<PublishPacket>(packets[0]).dup);
      EXPECT_EQ(std::get<PublishPacket>(packets[0]).packetId, id);
    }
  }
}

/// A delivery that the remote has accepted and not completed; its packet identifier.
uint16_t deliverAccepted(Remote& remote) {
  remote.inbox().deliver("a", "b", "1", DeliveryGuarantee::kExactlyOnce);
  remote.run();
  const uint16_t id = remote.next<PublishPacket>().packetId;
  remote.send(ackOf(PacketType::kPubrec, id));
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPubrel);
  return id;
}

TEST(BridgeSessionTest, whatIsSentAgainIsSentUntilTheRemoteHasAcceptedItAgain) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  const uint16_t id = deliverAccepted(remote);
  remote.connect();
  remote.accept(false);
  EXPECT_EQ(remote.next<PublishPacket>().packetId, id);
  EXPECT_TRUE(remote.up);  // all is settled, but the remote never reads it
  remote.connect();
  remote.accept(true);
  EXPECT_EQ(remote.next<PublishPacket>().packetId, id);
}

TEST(BridgeSessionTest, thatTheRemoteHasForgottenIsNotForgotten) {
  // Where the connection ends after the remote has begun another session, before that is kept.
  enum class Ends { kBeforeConnack, kBeforeItIsKept, kByAnError };
  for (const Ends ends : {Ends::kBeforeConnack, Ends::kBeforeItIsKept, Ends::kByAnError}) {
    for (const bool crash : {false, true}) {
      Remote remote({"a/# out 2", "c/# in 2"}, Version::k311);
      remote.prepare();
      remote.grant(remote.establish());
      const uint16_t id = deliverAccepted(remote);
      remote.inbox().held = {7};
      remote.connect();
      if (ends == Ends::kBeforeItIsKept) remote.world.broker.holdAnswers = true;
      if (ends == Ends::kByAnError) remote.world.broker.openError = Error{ErrorKind::kIo, "no"};
      if (ends != Ends::kBeforeConnack) remote.accept(false);
      remote.drop();
      remote.world.broker.holdAnswers = false;
      remote.world.broker.answerAll();
      remote.run();
      remote.world.broker.openError.reset();
      if (crash) {
        ASSERT_TRUE(remote.restart().load());
      }
      EXPECT_FALSE(remote.connect().cleanStart);
      remote.accept(true);
      auto packets = remote.packets();
      ASSERT_EQ(packets.size(), 2U) << static_cast<int>(ends) << crash;
      EXPECT_TRUE(std::holds_alternative<SubscribePacket>(packets[0]));
      EXPECT_EQ(std::get<PublishPacket>(packets[1]).packetId, id);
      EXPECT_TRUE(remote.inbox().held.empty());
    }
  }
}

TEST(BridgeSessionTest, aRefusedConnectionLeavesNoDoubt) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  const uint16_t id = deliverAccepted(remote);
  remote.connect();
  remote.send(ConnackPacket{false, 0x88, {}});
  remote.close();
  remote.connect();
  remote.accept(true);
  const auto released = remote.next<AckPacket>();
  EXPECT_EQ(released.type, PacketType::kPubrel);
  EXPECT_EQ(released.packetId, id);
  EXPECT_FALSE(remote.memory().record.connecting);
}

TEST(BridgeSessionTest, aConnectIsAnnouncedBeforeItIsSent) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.drop();
  remote.world.broker.holdAnswers = true;
  remote.begin();
  remote.run();
  EXPECT_TRUE(remote.packets().empty());
  remote.world.broker.holdAnswers = false;
  remote.world.broker.answerAll();
  remote.run();
  EXPECT_EQ(remote.packets().size(), 1U);
  BridgeMemory kept("north", remote.store);
  ASSERT_TRUE(kept.load());
  EXPECT_TRUE(kept.unsure);
}

TEST(BridgeSessionTest, with311ASubscriptionThatTheRemoteMayNotHaveReadIsMadeAgain) {
  Remote remote({"b/# in 2"}, Version::k311);
  remote.prepare();
  remote.grant(remote.establish());
  remote.connect();
  remote.accept(false);
  EXPECT_EQ(remote.next<SubscribePacket>().entries.size(), 1U);
  remote.connect();  // it was never answered
  remote.accept(true);
  EXPECT_EQ(remote.next<SubscribePacket>().entries.size(), 1U);
}

TEST(BridgeSessionTest, whatComesInIsPublishedOnceAndAnsweredWhenDurable) {
  Remote remote({"c/# in 2 here/ there/"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.world.broker.holdAnswers = true;
  PublishPacket publish = publishOf("there/c/1", "x", 2, 7);
  publish.properties.add(PropertyId::kContentType, "text/plain");
  remote.send(publish);
  ASSERT_EQ(remote.world.broker.published.size(), 1U);
  EXPECT_EQ(remote.world.broker.published[0].address, "here/c/1");
  EXPECT_EQ(remote.world.broker.published[0].exactlyOnceId, 7);
  ASSERT_NE(remote.world.broker.published[0].header("content-type"), nullptr);
  EXPECT_TRUE(remote.packets().empty());
  remote.world.broker.holdAnswers = false;
  remote.world.broker.answerAll();
  remote.run();
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPubrec);
  // It comes again after a break: answered, not published.
  remote.inbox().held.insert(7);
  remote.connect();
  remote.accept(true);
  (void)remote.packets();
  publish.dup = true;
  remote.send(publish);
  EXPECT_EQ(remote.world.broker.published.size(), 1U);
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPubrec);
  remote.send(ackOf(PacketType::kPubrel, 7));
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPubcomp);
  EXPECT_TRUE(remote.inbox().held.empty());
}

TEST(BridgeSessionTest, identifiersOfARemoteThatHasForgottenStandForNewMessages) {
  Remote remote({"c/# in 2"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.inbox().held = {7, 9};
  remote.connect();
  remote.accept(false);
  EXPECT_TRUE(remote.inbox().held.empty());
  (void)remote.packets();
  remote.send(publishOf("c/1", "new", 2, 7));
  EXPECT_EQ(remote.world.broker.published.size(), 1U);
}

TEST(BridgeSessionTest, whatIsOutsideTheSubscriptionsOrOurOwnIsNotTaken) {
  Remote remote({"c/# in 1"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.send(publishOf("d/1", "x", 1, 1));
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPuback);
  PublishPacket own = publishOf("c/1", "x", 1, 2);
  own.properties.add(PropertyId::kUserProperty, kBridgeMark, "us");
  remote.send(own);
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPuback);
  own.properties.clear();
  own.properties.add(PropertyId::kUserProperty, kBridgeMark, "in:us/south");
  own.packetId = 3;
  remote.send(own);
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPuback);
  EXPECT_TRUE(remote.world.broker.published.empty());
  own.properties.clear();
  own.packetId = 4;
  remote.send(own);
  ASSERT_EQ(remote.world.broker.published.size(), 1U);
  EXPECT_EQ(*remote.world.broker.published[0].header("polylog-bridge"), "in:us/north");
}

TEST(BridgeSessionTest, whatOneBridgeHasTakenInAnotherMaySendOut) {
  Remote remote({"a/# out 1"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.inbox().deliver("a", "b", "1", DeliveryGuarantee::kAtLeastOnce,
                         {{"polylog-bridge", "in:us/south"}});
  remote.run();
  EXPECT_EQ(remote.next<PublishPacket>().payload, "1");
}

TEST(BridgeSessionTest, whatItHasTakenInIsNotSentOutWhenItIsRetained) {
  Remote remote({"a/# both 1"}, Version::k311);
  remote.prepare();
  remote.grant(remote.establish());
  Delivery delivery;
  delivery.record = polylog::test::makeRouted("a", "b", "x", {{"polylog-bridge", "in:us/north"}});
  delivery.guarantee = DeliveryGuarantee::kAtLeastOnce;
  delivery.retain = true;
  remote.inbox().deliver(std::move(delivery));
  remote.run();
  EXPECT_TRUE(remote.packets().empty());
  EXPECT_TRUE(remote.inbox().acknowledged.contains(0));
}

TEST(BridgeSessionTest, aFullDiskHoldsWhatComesWithItsProperties) {
  Remote remote({"c/# in 1"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.world.broker.isFull = true;
  PublishPacket publish = publishOf("c/1", "x", 1, 1);
  publish.properties.add(PropertyId::kContentType, "text/plain");
  remote.send(publish);
  EXPECT_TRUE(remote.world.broker.published.empty());
  EXPECT_TRUE(remote.packets().empty());
  remote.world.broker.space();
  remote.run();
  ASSERT_EQ(remote.world.broker.published.size(), 1U);
  EXPECT_TRUE(remote.world.broker.published[0].admitted);
  EXPECT_NE(remote.world.broker.published[0].header("content-type"), nullptr);
  EXPECT_EQ(remote.next<AckPacket>().type, PacketType::kPuback);
}

TEST(BridgeSessionTest, aFullDiskDoesntChangeWhatAliasesStandFor) {
  Remote remote({"c/# in 1"});
  auto made = std::make_shared<BridgeOptions>(*remote.options);
  auto mqtt = std::make_shared<MqttOptions>(*made->mqtt);
  mqtt->topicAliasMaximum = 2;
  made->mqtt = std::move(mqtt);
  remote.options = std::move(made);
  remote.prepare();
  remote.grant(remote.establish());
  remote.world.broker.isFull = true;
  auto send = [&](const char* topic, uint8_t qos, uint16_t id) {
    PublishPacket publish = publishOf(topic, "x", qos, id);
    publish.properties.add(PropertyId::kTopicAlias, 1);
    remote.send(publish);
  };
  send("c/1", 1, 1);
  send("", 0, 0);  // not held back: it is lost or not
  send("c/2", 0, 0);
  send("", 1, 2);
  send("c/3", 0, 0);
  EXPECT_FALSE(remote.transport->closed);
  remote.world.broker.published.clear();
  remote.world.broker.space();
  remote.run();
  ASSERT_EQ(remote.world.broker.published.size(), 2U);
  EXPECT_EQ(remote.world.broker.published[0].address, "c/1");
  EXPECT_EQ(remote.world.broker.published[1].address, "c/2");
}

TEST(BridgeSessionTest, whatCantBeStoredNowStaysWithTheRemote) {
  Remote remote({"c/# in 1"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.world.broker.judge = [](const auto&) {
    return PublishResult{Error{ErrorKind::kUnauthorized, "no"}, false};
  };
  remote.send(publishOf("c/1", "x", 1, 1));
  EXPECT_EQ(remote.next<AckPacket>().code, ReasonCode::kNotAuthorized);
  remote.world.broker.judge = [](const auto&) {
    return PublishResult{Error{ErrorKind::kIo, "no"}, false};
  };
  remote.send(publishOf("c/1", "x", 1, 2));
  EXPECT_TRUE(remote.transport->closed);
}

TEST(BridgeSessionTest, whatTheRemoteCantTakeNowIsSentAgain) {
  Remote remote({"a/# out 1"});
  remote.prepare();
  remote.grant(remote.establish());
  for (int i = 0; i < 2; ++i) {
    remote.inbox().deliver("a", "b", "1", DeliveryGuarantee::kAtLeastOnce);
  }
  remote.run();
  auto sent = remote.packets();
  ASSERT_EQ(sent.size(), 2U);
  remote.send(ackOf(PacketType::kPuback, std::get<PublishPacket>(sent[0]).packetId,
                    ReasonCode::kNotAuthorized));
  EXPECT_TRUE(remote.inbox().acknowledged.contains(0));
  remote.send(ackOf(PacketType::kPuback, std::get<PublishPacket>(sent[1]).packetId,
                    ReasonCode::kQuotaExceeded));
  EXPECT_FALSE(remote.inbox().acknowledged.contains(1));
  EXPECT_TRUE(remote.transport->closed);
}

TEST(BridgeSessionTest, whatTheRemoteNeverTakesIsGivenUpOnce) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  const int64_t before = remote.counters.refusedThere.value();
  remote.inbox().deliver("a", "b", "1", DeliveryGuarantee::kExactlyOnce);
  remote.inbox().deliver("a", "b", "2", DeliveryGuarantee::kAtLeastOnce);
  remote.run();
  for (int i = 1; i < kMaxRefusals; ++i) {
    auto sent = remote.packets();
    ASSERT_EQ(sent.size(), 2U);
    remote.send(ackOf(PacketType::kPubrec, std::get<PublishPacket>(sent[0]).packetId,
                      ReasonCode::kUnspecifiedError));
    ASSERT_TRUE(remote.transport->closed);
    remote.close();
    EXPECT_FALSE(remote.ended->progressed);
    remote.connect();
    remote.accept(true);
  }
  auto sent = remote.packets();
  ASSERT_EQ(sent.size(), 2U);
  remote.send(ackOf(PacketType::kPubrec, std::get<PublishPacket>(sent[0]).packetId,
                    ReasonCode::kUnspecifiedError));
  EXPECT_FALSE(remote.transport->closed);
  EXPECT_TRUE(remote.inbox().acknowledged.contains(0));
  EXPECT_EQ(remote.counters.refusedThere.value(), before + 1);
  remote.send(ackOf(PacketType::kPuback, std::get<PublishPacket>(sent[1]).packetId));
  EXPECT_TRUE(remote.inbox().acknowledged.contains(1));
  remote.drop();
  EXPECT_TRUE(remote.ended->progressed);
}

TEST(BridgeSessionTest, limitsThatTheRemoteTellsAreKept) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.connect();
  remote.accept(false);
  remote.close();
  remote.connect();
  ConnackPacket connack;
  connack.properties.add(PropertyId::kMaximumQos, 1);
  connack.properties.add(PropertyId::kRetainAvailable, 0);
  connack.properties.add(PropertyId::kReceiveMaximum, 1);
  remote.send(connack);
  for (int i = 0; i < 2; ++i) {
    Delivery delivery;
    delivery.record = polylog::test::makeRouted("a", "b", "x");
    delivery.guarantee = DeliveryGuarantee::kExactlyOnce;
    delivery.retain = true;
    delivery.id = i;
    remote.inbox().deliver(std::move(delivery));
  }
  remote.run();
  auto publish = remote.next<PublishPacket>();
  EXPECT_EQ(publish.qos, 1);
  EXPECT_FALSE(publish.retain);
  remote.send(ackOf(PacketType::kPuback, publish.packetId));
  EXPECT_TRUE(remote.inbox().acknowledged.contains(0));
}

/// A connection whose remote takes packets of that size.
void establishWith(Remote& remote, uint32_t maximumPacket) {
  remote.prepare();
  remote.connect();
  remote.accept(false);
  remote.close();
  remote.connect();
  ConnackPacket connack;
  connack.properties.add(PropertyId::kMaximumPacketSize, maximumPacket);
  remote.send(connack);
}

TEST(BridgeSessionTest, aRemoteThatTakesHardlyAnyPacketGetsNoneThatIsLarger) {
  for (uint32_t most = 1; most <= 12; ++most) {
    SCOPED_TRACE(most);
    Remote remote({"a both 2", "b/# in 1"});
    establishWith(remote, most);
    EXPECT_EQ(remote.notices.size(), most < 9 ? 2U : most < 11 ? 1U : 0U);
    auto sent = [&] {
      std::vector<Packet> all = remote.packets();
      BytesView rest = remote.received.back();
      Decoder sizes(Side::kServer, 1 << 28);
      sizes.use(Version::k5);
      while (!rest.empty()) {
        const size_t size = std::get<DecodedPacket>(sizes.next(rest)).size;
        EXPECT_LE(size, most);
        rest.remove_prefix(size);
      }
      return all;
    };
    remote.grant(sent());
    EXPECT_TRUE(remote.up);
    remote.inbox().deliver("a", {}, "1", DeliveryGuarantee::kExactlyOnce);
    Delivery accepted;
    accepted.id = 4;
    accepted.guarantee = DeliveryGuarantee::kExactlyOnce;
    accepted.accepted = accepted.redelivered = true;
    remote.inbox().deliver(std::move(accepted));
    remote.run();
    sent();
    EXPECT_EQ(remote.transport->closed, most < 4);
    remote.send(publishOf("elsewhere", "x", 2, 1));
    // In one piece: the answer to the one is too large, and then comes the other.
    if (!remote.transport->closed) {
      ByteWriter both;
      encode(both, Version::k5, publishOf("elsewhere", "x", 1, 1));
      encode(both, Version::k5, ackOf(PacketType::kPubrel, 1));
      remote.input.append(both.view());
      remote.run();
    }
    sent();
    EXPECT_EQ(remote.transport->closed, most < 5);
    if (most == 4) {
      EXPECT_NE(remote.transport->reason.find("raise the largest packet that it takes"),
                std::string::npos);
      EXPECT_EQ(remote.transport->reason.find("max_message_bytes"), std::string::npos);
    }
    remote.session->onShutdown();
    sent();
  }
}

TEST(BridgeSessionTest, aKeepAliveThatTheRemoteDoesntTakeEndsTheConnection) {
  Remote remote({"a out 0"});
  establishWith(remote, 1);
  EXPECT_TRUE(remote.up);
  remote.world.clock.advance(int64_t{remote.options->keepAliveSeconds} * 500'000);
  remote.run();
  EXPECT_TRUE(remote.transport->closed);
  EXPECT_TRUE(remote.packets().empty());
}

TEST(BridgeSessionTest, subscriptionsAreAskedForInPacketsThatTheRemoteTakes) {
  std::vector<std::string> topics;
  for (char c = 'a'; c < 'k'; ++c) topics.push_back(std::string(10, c) + " in 1");
  topics.push_back(std::string(200, 'z') + " in 1");
  Remote remote(std::move(topics));
  establishWith(remote, 5 + 3 * 13);
  auto packets = remote.packets();
  ASSERT_EQ(packets.size(), 4U);
  EXPECT_EQ(std::get<SubscribePacket>(packets[0]).entries.size(), 3U);
  EXPECT_EQ(std::get<SubscribePacket>(packets[3]).entries.size(), 1U);
  ASSERT_EQ(remote.notices.size(), 1U);
  EXPECT_NE(remote.notices[0].find("`zzz"), std::string::npos);
  remote.grant(std::move(packets));
  EXPECT_TRUE(remote.up);
  EXPECT_EQ(remote.memory().record.remoteFilters.size(), 10U);
}

TEST(BridgeSessionTest, whatCantBeNamedHereIsCountedAtEachQos) {
  Remote remote({"# in 2"});
  remote.prepare();
  remote.grant(remote.establish());
  const int64_t before = remote.counters.refusedHere.value();
  for (uint8_t qos = 0; qos < 3; ++qos) remote.send(publishOf("enc--!", "x", qos, qos));
  EXPECT_EQ(remote.counters.refusedHere.value(), before + 3);
}

TEST(BridgeSessionTest, topicAliasesAsManyAsTheRemoteTakes) {
  Remote remote({"some-topic/# out 1"});
  remote.prepare();
  // On the next connection nothing is known of them.
  for (int connection = 0; connection < 2; ++connection) {
    if (remote.connect().cleanStart) {
      remote.accept(false);
      remote.close();
      remote.connect();
    }
    ConnackPacket connack{connection > 0, 0, {}};
    connack.properties.add(PropertyId::kTopicAliasMaximum, 1);
    remote.send(connack);
    (void)remote.grant(remote.packets());
    for (int i = 0; i < 4; ++i) {
      Delivery delivery;
      delivery.record = polylog::test::makeRouted("some-topic", i == 2 ? "other" : "one", "x");
      delivery.guarantee = DeliveryGuarantee::kAtLeastOnce;
      delivery.id = 4 * connection + i;
      remote.inbox().deliver(std::move(delivery));
    }
    remote.run();
    std::vector<std::string> topics;
    for (const Packet& packet : remote.packets()) {
      const auto* publish = std::get_if<PublishPacket>(&packet);
      if (publish == nullptr) continue;
      topics.emplace_back(publish->topic);
      EXPECT_EQ(publish->properties.number(PropertyId::kTopicAlias).has_value(),
                publish->topic != "some-topic/other");
      remote.send(ackOf(PacketType::kPuback, publish->packetId));
    }
    EXPECT_EQ(topics, (std::vector<std::string>{"some-topic/one", "", "some-topic/other", ""}));
  }
}

TEST(BridgeSessionTest, anotherServerThatIsNamedIsTold) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.connect();
  ConnackPacket connack{false, 0x9D, {}};
  connack.properties.add(PropertyId::kServerReference, "new.example:1883");
  remote.send(connack);
  remote.drop();
  ASSERT_TRUE(remote.ended);
  EXPECT_NE(remote.ended->why.find("new.example:1883"), std::string::npos) << remote.ended->why;
  EXPECT_NE(remote.ended->why.find("bridges.north.address"), std::string::npos);
}

TEST(BridgeSessionTest, theHighBitIsLeftOutOnceItIsRefused) {
  Remote remote({"a/# both 1"}, Version::k311);
  remote.prepare();
  EXPECT_TRUE(remote.connect().bridge);
  remote.send(ConnackPacket{false, 1, {}});
  remote.close();
  EXPECT_TRUE(remote.ended && remote.ended->again);
  EXPECT_FALSE(remote.connect().bridge);
  // As good as a refusal: closed without a word.
  Remote silent({"a/# both 1"}, Version::k311);
  silent.prepare();
  EXPECT_TRUE(silent.connect().bridge);
  silent.drop();
  EXPECT_FALSE(silent.ended->again);
  EXPECT_FALSE(silent.connect().bridge);
  // It wasn't the bit: the remote was going down.
  silent.drop();
  EXPECT_TRUE(silent.connect().bridge);
  silent.drop();
  EXPECT_FALSE(silent.connect().bridge);
  silent.accept(false);  // it was
  silent.drop();
  EXPECT_FALSE(silent.connect().bridge);
  silent.drop();
  EXPECT_FALSE(silent.connect().bridge);
}

TEST(BridgeSessionTest, aRefusalSaysWhatToDo) {
  Remote remote({"a/# out 1"});
  remote.prepare();
  remote.connect();
  remote.send(ConnackPacket{false, 0x86, {}});
  remote.close();
  ASSERT_TRUE(remote.ended);
  EXPECT_FALSE(remote.ended->again);
  EXPECT_NE(remote.ended->why.find("bridges.north.user"), std::string::npos) << remote.ended->why;
}

TEST(BridgeSessionTest, whatTheRemoteSaysAtTheEndIsToldOnOneLine) {
  Remote remote({"a/# out 1"});
  remote.prepare();
  remote.grant(remote.establish());
  DisconnectPacket packet{ReasonCode::kServerShuttingDown, {}};
  packet.properties.add(PropertyId::kReasonString, "bye\nfor now");
  remote.send(packet);
  remote.close();
  EXPECT_NE(remote.ended->why.find("0x8B (bye?for now)"), std::string::npos) << remote.ended->why;
}

TEST(BridgeSessionTest, whatCantBeReadEndsTheConnection) {
  Remote remote({"a/# in 1"});
  remote.prepare();
  remote.connect();
  remote.input = "HTTP/1.1 400 Bad Request\r\n\r\n";
  remote.run();
  EXPECT_TRUE(remote.transport->closed);
  remote.close();
  EXPECT_NE(remote.ended->why.find("bridges.north.address"), std::string::npos)
      << remote.ended->why;
}

TEST(BridgeSessionTest, aRefusedSubscriptionIsTold) {
  Remote remote({"a/# in 1"});
  remote.prepare();
  auto packets = remote.establish();
  const uint16_t id = std::get<SubscribePacket>(packets.at(0)).packetId;
  remote.send(SubackPacket{PacketType::kSuback, id, {}, {ReasonCode::kNotAuthorized}});
  EXPECT_TRUE(remote.up);
  ASSERT_EQ(remote.notices.size(), 1U);
  EXPECT_NE(remote.notices[0].find("`a/#`"), std::string::npos);
  EXPECT_TRUE(remote.memory().record.remoteFilters.empty());
}

TEST(BridgeSessionTest, subscriptionsThatAreNotWantedAnyMoreEnd) {
  Remote remote({"a/# both 1", "b/# both 1"});
  remote.prepare();
  remote.grant(remote.establish());
  auto fewer = std::make_shared<BridgeOptions>(*remote.options);
  fewer->topics = BridgeTopics({*BridgeTopic::parse("a/# both 1")});
  remote.options = fewer;
  remote.prepared = false;
  remote.prepare();
  EXPECT_EQ(remote.inbox().subscriptions.size(), 1U);
  remote.connect();
  remote.accept(true);
  auto packets = remote.packets();
  ASSERT_EQ(packets.size(), 2U);
  EXPECT_EQ(std::get<UnsubscribePacket>(packets[0]).filters.at(0), "b/#");
  remote.grant(std::move(packets));
  EXPECT_TRUE(remote.up);
}

TEST(BridgeSessionTest, aSessionThatBeganAnewHereBeginsAnewThere) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.drop();
  remote.world.broker.sessions.clear();  // as after `polylog session delete`
  EXPECT_FALSE(remote.connect().cleanStart);
  remote.accept(true);
  remote.close();
  EXPECT_TRUE(remote.ended->again);
  EXPECT_TRUE(remote.connect().cleanStart);
}

TEST(BridgeSessionTest, aSessionThatBeganAnewJustBeforeACrashBeginsAnewThere) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.drop();
  remote.inbox().lifeId = 2;  // made anew, but the record of that was not written any more
  remote.prepared = false;
  remote.prepare();
  EXPECT_TRUE(remote.connect().cleanStart);
}

TEST(BridgeSessionTest, anOperatorThatEndsTheSessionEndsTheConnection) {
  Remote remote({"a/# out 2"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.inbox().listener->onTakenOver(true);
  EXPECT_TRUE(remote.transport->closed);
  remote.close();
  EXPECT_TRUE(remote.ended->sessionGone);
  EXPECT_FALSE(remote.ended->again);
}

TEST(BridgeSessionTest, silenceOfTheRemoteEndsTheConnection) {
  Remote remote({"a/# out 1"});
  remote.prepare();
  remote.grant(remote.establish());
  remote.world.clock.advance(30'000'000);
  remote.run();
  EXPECT_EQ(remote.next<PingPacket>().type, PacketType::kPingreq);
  remote.send(PingPacket{PacketType::kPingresp});
  for (int i = 0; i < 4 && !remote.transport->closed; ++i) {
    remote.world.clock.advance(30'000'000);
    remote.run();
  }
  EXPECT_TRUE(remote.transport->closed);
}

TEST(BridgeSessionTest, onlyTheBrokersOwnBridgesHaveTheirNames) {
  World world;
  Client client(world);
  EXPECT_EQ(client.connect("$bridge/north").code,
            static_cast<uint8_t>(ReasonCode::kClientIdInvalid));
}

TEST(BridgeSessionTest, aBridgeToUsIsKnownByTheHighBit) {
  World world;
  Client client(world, Version::k311);
  ConnectPacket packet;
  packet.clientId = "remote.north";
  packet.bridge = true;
  WillFields will;
  will.topic = "$SYS/broker/connection/remote.north/state";
  will.payload = "0";
  will.qos = 1;
  will.retain = true;
  packet.will = will;
  EXPECT_EQ(client.connect(packet).code, 0);
  EXPECT_FALSE(client.broker("remote.north").will);
  PublishPacket state = publishOf(will.topic, "1", 1, 1);
  state.retain = true;
  client.sendAndRun(state);
  EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPuback);
  SubscribePacket subscribe;
  subscribe.packetId = 2;
  subscribe.entries.push_back({"a/#", 1, false, false, 0});
  client.sendAndRun(subscribe);
  (void)client.packets();
  EXPECT_TRUE(client.broker("remote.north").subscriptions.at("a/#").noLocal);
  EXPECT_TRUE(client.broker("remote.north").subscriptions.at("a/#").retainAsPublished);
  client.drop("gone");
  using Told = std::vector<std::pair<std::string, bool>>;
  EXPECT_EQ(world.broker.connections, (Told{{"remote.north", true}, {"remote.north", false}}));
  EXPECT_TRUE(world.broker.published.empty());
}

TEST(BridgeSessionTest, behindAMountPointABridgeToUsTellsNothing) {
  World world;
  world.options.mountPoint = "of/%c/";
  Client client(world, Version::k311);
  ConnectPacket packet;
  packet.clientId = "theirs";
  WillFields will;
  will.topic = "$SYS/broker/connection/theirs/state";
  will.payload = "0";
  packet.will = will;
  EXPECT_EQ(client.connect(packet).code, 0);
  client.sendAndRun(publishOf(will.topic, "1", 1, 1));
  EXPECT_EQ(client.next<AckPacket>().type, PacketType::kPuback);
  client.drop("gone");
  EXPECT_TRUE(world.broker.connections.empty());
}

TEST(BridgeRecordTest, isReadAsItWasWritten) {
  BridgeRecord record;
  record.clientId = "c";
  record.cleaned = true;
  record.afresh = false;
  record.connecting = true;
  record.life = 300;
  record.localFilters = {"a", "b/#"};
  record.remoteFilters = {{"x", 2}};
  auto read = BridgeRecord::decode(record.encode());
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, record);
  EXPECT_FALSE(BridgeRecord::decode("nonsense"));
  EXPECT_FALSE(BridgeRecord::decode(record.encode() + "x"));
}

}  // namespace
}  // namespace polylog::mqtt::test
