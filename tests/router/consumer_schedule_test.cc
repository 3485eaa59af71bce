// ConsumerGroup under schedules of chance: members of both protocols come, go, fall silent and lose
// answers, topics come, grow and go, writes fail, the broker is killed. At no moment do two members
// have the same partition, and once it is quiet everything is assigned.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/byte_writer.h"
#include "mapping/kafka_consumer.h"
#include "router/consumer_group.h"
#include "tests/support/fake_clock.h"
#include "tests/support/manual_dispatcher.h"
#include "tests/support/seeded_random.h"

namespace polylog::router {
namespace {

using storage::StateTable;

const GroupLimits kLimits{0, 1, 1'800'000, 100};
const std::vector<std::string> kTopics{"a", "b", "c", "d"};

bool isIn(const Assignment& assignment, const TopicId& topic, int32_t partition) {
  auto at = assignment.find(topic);
  return at != assignment.end() && at->second.contains(partition);
}

class World final : public ConsumerGroupHost {
 public:
  explicit World(uint64_t seed) : random_(seed) {}
  ~World() override { group = nullptr; }

  // ---- what the group sees
  std::unique_ptr<Timer> makeTimer(Task onFire) override {
    return loop.makeTimer(std::move(onFire));
  }
  void later(Task task) override { loop.defer(std::move(task)); }
  std::string randomName() override { return "id" + std::to_string(++names_); }
  int64_t wallMillis() override { return clock.wallMillis(); }
  void persist(const std::string&, const GroupState&,
               std::move_only_function<void(Result<>)>) override {}
  void journal(std::vector<storage::StateChange> changes,
               std::move_only_function<void(Result<>)> done) override {
    pending.push_back({std::move(changes), std::move(done)});
  }
  uint64_t topicsVersion() const override { return version_; }
  TopicRef findTopic(const std::string& name) const override {
    auto at = topics.find(name);
    return at == topics.end() ? nullptr : at->second;
  }
  TopicRef findTopic(const TopicId& id) const override {
    for (const auto& [name, topic] : topics) {
      if (topic->id == id) return topic;
    }
    return nullptr;
  }
  std::vector<TopicRef> topicsFor(const PrincipalRef&) const override {
    std::vector<TopicRef> all;
    for (const auto& [name, topic] : topics) all.push_back(topic);
    return all;
  }
  ConsumerTimeouts timeoutsOf(const std::string&) const override { return {45'000, 5'000}; }
  const ConsumerFormat& format() const override { return format_; }
  void onlyClassicLeft(const std::string&) override {}

  // ---- what happens to it
  void setTopic(const std::string& name, size_t partitions) {
    auto topic = std::make_shared<Topic>();
    if (TopicRef known = findTopic(name)) {
      *topic = *known;
    } else {
      topic->name = name;
      topic->id[0] = static_cast<uint8_t>(++ids_);
      topic->id[1] = static_cast<uint8_t>(ids_ >> 8);
    }
    topic->partitions.resize(partitions);
    topics[name] = topic;
    ++version_;
  }
  void dropTopic(const std::string& name) {
    topics.erase(name);
    ++version_;
  }
  bool commit() {
    if (pending.empty()) return false;
    auto [changes, done] = std::move(pending.front());
    pending.pop_front();
    for (auto& change : changes) apply(change);
    done({});
    return true;
  }
  void apply(const storage::StateChange& change) {
    if (change.value) {
      disk[{change.table, change.key}] = *change.value;
    } else {
      disk.erase({change.table, change.key});
    }
  }
  void failWrites() {
    for (auto& [changes, done] : std::exchange(pending, {})) done(fail(ErrorKind::kIo, "no"));
  }
  /// kill -9 and a start: what was not committed is gone.
  void start() {
    // A long entry is several, of which the last may be missing.
    if (!pending.empty() && chance(2) == 0) {
      auto& changes = pending.front().changes;
      changes.resize(chance(changes.size() + 1));
      for (auto& change : changes) apply(change);
    }
    pending.clear();
    group = std::make_shared<ConsumerGroup>(*this, kLimits, "g");
    auto at = disk.find({StateTable::kGroup, "g"});
    if (at != disk.end()) {
      auto state = decodeConsumerGroup("g", at->second);
      ASSERT_TRUE(state.has_value());
      group->restore(std::move(*state));
    }
    for (auto next = disk.begin(); next != disk.end();) {
      const auto& [key, value] = *next++;
      if (key.first != StateTable::kGroupMember) continue;
      if (!disk.contains({StateTable::kGroup, "g"})) {
        disk.erase(std::prev(next));  // as GroupCoordinator does
        continue;
      }
      auto name = parseGroupMemberKey(key.second);
      ASSERT_TRUE(name.has_value());
      auto state = decodeConsumerMember(name->second, value);
      ASSERT_TRUE(state.has_value());
      group->restoreMember(std::move(*state));
    }
    group->resume();
  }
  size_t chance(size_t of) { return static_cast<size_t>(random_.next() % of); }

  struct Write {
    std::vector<storage::StateChange> changes;
    std::move_only_function<void(Result<>)> done;
  };
  test::FakeClock clock;
  test::ManualDispatcher loop{clock};
  std::map<std::string, TopicRef> topics;
  std::deque<Write> pending;
  std::map<std::pair<StateTable, std::string>, std::string> disk;
  std::shared_ptr<ConsumerGroup> group;

 private:
  test::SeededRandom random_;
  ConsumerFormat format_ = mapping::consumerFormat();
  uint64_t version_ = 1;
  uint64_t ids_ = 0;
  uint64_t names_ = 0;
};

/// A client: what it believes to have, and what it was told to have.
class Client {
 public:
  Client(World& world, std::string name, std::set<std::string> topics)
      : topics_(std::move(topics)), world_(world), name_(std::move(name)) {}
  virtual ~Client() = default;

  /// Whatever it has to say next, unless it waits for an answer.
  virtual void speak() = 0;
  /// Does what it was told: gives up, then takes.
  virtual void obey() {
    if (want_) owned_ = *std::exchange(want_, std::nullopt);
  }
  /// The connection is gone, and with it the answer.
  virtual void disconnect() {
    ++request_;
    waits_ = false;
  }
  virtual void leave() = 0;
  void subscribe(std::set<std::string> topics) {
    topics_ = std::move(topics);
    unsure_ = true;
  }
  const Assignment& owned() const { return owned_; }
  const std::set<std::string>& topics() const { return topics_; }

 protected:
  void loseAll() {
    owned_.clear();
    want_ = std::nullopt;
  }

  std::set<std::string> topics_;
  World& world_;
  std::string name_;
  Assignment owned_;
  std::optional<Assignment> want_;
  bool waits_ = false;
  bool unsure_ = false;  ///< what the group knows of it
  uint64_t request_ = 0;
};

class ConsumerClient final : public Client {
 public:
  ConsumerClient(World& world, std::string name, std::set<std::string> topics,
                 std::optional<std::string> instance)
      : Client(world, std::move(name), std::move(topics)), instance_(std::move(instance)) {}

  void speak() override {
    if (waits_) return;
    ConsumerHeartbeat beat;
    beat.group = "g";
    beat.memberId = name_;
    beat.epoch = epoch_;
    beat.instanceId = instance_;
    if (epoch_ == 0 || std::exchange(unsure_, false)) {
      beat.rebalanceTimeoutMs = 60'000;
      beat.topics = std::vector<std::string>(topics_.begin(), topics_.end());
      beat.owned = owned_;
      want_ = std::nullopt;  // what it says not to have it mustn't take: it is told again
      if (name_.ends_with('1')) beat.assignor = "range";
    } else if (!want_ && world_.chance(3) > 0) {
      beat.owned = owned_;
    }
    waits_ = true;
    world_.group->beat(nullptr, std::move(beat),
                       [this, request = ++request_](Result<ConsumerHeartbeatAnswer> answer) {
                         if (request == request_) hear(answer);
                       });
  }
  /// Not while a heartbeat is on its way that says that it has less.
  void obey() override {
    if (!waits_) Client::obey();
  }
  void disconnect() override {
    if (waits_) unsure_ = true;
    Client::disconnect();
  }
  void leave() override {
    disconnect();
    loseAll();
    ConsumerHeartbeat beat;
    beat.group = "g";
    beat.memberId = name_;
    beat.epoch = ConsumerHeartbeat::kLeaves;
    world_.group->beat(nullptr, std::move(beat), [](Result<ConsumerHeartbeatAnswer>) {});
  }

 private:
  void hear(const Result<ConsumerHeartbeatAnswer>& answer) {
    waits_ = false;
    if (answer) {
      epoch_ = answer->epoch;
      if (answer->assignment) want_ = answer->assignment;
      return;
    }
    switch (answer.error().kind) {
      case ErrorKind::kFencedEpoch:
      case ErrorKind::kUnknownMember:
        loseAll();
        epoch_ = 0;
        return;
      case ErrorKind::kIo: unsure_ = true; return;
      default: FAIL() << answer.error().text;
    }
  }

  std::optional<std::string> instance_;
  int32_t epoch_ = 0;
};

/// The classic protocol, eager or cooperative.
class ClassicClient final : public Client {
 public:
  ClassicClient(World& world, std::string name, std::set<std::string> topics, bool eager)
      : Client(world, std::move(name), std::move(topics)), eager_(eager) {}

  void speak() override {
    if (waits_) return;
    if (unsure_) next_ = Next::kJoin;
    unsure_ = false;
    switch (next_) {
      case Next::kJoin: return join();
      case Next::kSync: return sync();
      case Next::kHeartbeat: return heartbeat();
    }
  }
  /// Having given something up, it joins again for what others are to have.
  void obey() override {
    if (!want_) return;
    for (const auto& [topic, partitions] : owned_) {
      for (int32_t partition : partitions) {
        if (!isIn(*want_, topic, partition)) next_ = Next::kJoin;
      }
    }
    Client::obey();
  }
  void disconnect() override {
    if (waits_) next_ = Next::kJoin;
    Client::disconnect();
  }
  void leave() override {
    disconnect();
    loseAll();
    (void)world_.group->leave(member_, std::nullopt);
    world_.group->whenDurable([](const Result<>&) {});
  }

 private:
  enum class Next { kJoin, kSync, kHeartbeat };

  void join() {
    if (eager_) loseAll();
    want_ = std::nullopt;
    GroupJoin join;
    join.group = "g";
    join.memberId = member_;
    join.clientId = name_;
    join.protocolType = "consumer";
    join.protocols.push_back({"range", metadata()});
    join.sessionTimeoutMs = 45'000;
    join.rebalanceTimeoutMs = 60'000;
    waits_ = true;
    world_.group->join(std::move(join), [this, request = ++request_](GroupJoined joined) {
      if (request != request_) return;
      waits_ = false;
      if (joined.error) return hear(joined.error->kind);
      member_ = joined.memberId;
      generation_ = joined.generation;
      next_ = Next::kSync;
    });
  }
  void sync() {
    GroupSync sync;
    sync.group = "g";
    sync.memberId = member_;
    sync.generation = generation_;
    waits_ = true;
    world_.group->sync(std::move(sync), [this, request = ++request_](GroupSynced synced) {
      if (request != request_) return;
      waits_ = false;
      if (synced.error) return hear(synced.error->kind);
      next_ = Next::kHeartbeat;
      auto partitions = mapping::parseConsumerAssignment(synced.assignment);
      ASSERT_TRUE(partitions.has_value());
      want_ = Assignment{};
      for (const auto& [name, numbers] : *partitions) {
        TopicRef topic = world_.findTopic(name);
        if (topic) (*want_)[topic->id].insert(numbers.begin(), numbers.end());
      }
    });
  }
  void heartbeat() {
    Result<> alive = world_.group->heartbeat({"g", member_, std::nullopt, generation_});
    if (!alive) hear(alive.error().kind);
  }
  void hear(ErrorKind kind) {
    next_ = Next::kJoin;
    switch (kind) {
      case ErrorKind::kUnknownMember: member_.clear(); [[fallthrough]];
      case ErrorKind::kIllegalGeneration: return loseAll();
      case ErrorKind::kRebalanceInProgress:
      case ErrorKind::kIo: return;
      default: FAIL() << polylog::describe(kind);
    }
  }
  std::string metadata() const {
    ByteWriter out;
    out.i16(1);
    out.i32(static_cast<int32_t>(topics_.size()));
    for (const std::string& topic : topics_) out.bytes16(topic);
    out.i32(-1);
    std::vector<std::pair<TopicRef, const std::set<int32_t>*>> mine;
    for (const auto& [id, partitions] : owned_) {
      if (TopicRef topic = world_.findTopic(id)) mine.emplace_back(topic, &partitions);
    }
    out.i32(static_cast<int32_t>(mine.size()));
    for (const auto& [topic, partitions] : mine) {
      out.bytes16(topic->name);
      out.i32(static_cast<int32_t>(partitions->size()));
      for (int32_t partition : *partitions) out.i32(partition);
    }
    return out.take();
  }

  bool eager_;
  std::string member_;
  int32_t generation_ = -1;
  Next next_ = Next::kJoin;
};

class Schedule {
 public:
  explicit Schedule(uint64_t seed) : world_(seed) {
    world_.start();
    for (const std::string& name : kTopics) {
      if (world_.chance(4) > 0) world_.setTopic(name, 1 + world_.chance(6));
    }
  }

  void run(size_t steps) {
    for (size_t i = 0; i < steps && !testing::Test::HasFailure(); ++i) {
      step();
      world_.loop.runAll();
      nobodyHasWhatAnotherHas();
    }
    for (size_t round = 0; round < 12; ++round) passTime();
    everythingIsAssigned();
  }

 private:
  void step() {
    switch (world_.chance(20)) {
      case 0: return come();
      case 1: return go();
      case 2: return changeTopics();
      case 3: return world_.failWrites();
      case 4: return kill();
      case 5: return passTime();
      case 6: return withOne([&](Client& client) { client.subscribe(someTopics()); });
      case 7: return withOne([](Client& client) { client.disconnect(); });
      case 8:
      case 9:
      case 10: return withOne([](Client& client) { client.obey(); });
      case 11:
      case 12:
      case 13:
      case 14: world_.commit(); return;
      default: return withOne([](Client& client) { client.speak(); });
    }
  }
  std::set<std::string> someTopics() {
    std::set<std::string> topics;
    for (const std::string& name : kTopics) {
      if (world_.chance(3) > 0) topics.insert(name);
    }
    return topics;
  }
  void come() {
    if (clients_.size() >= 6) return;
    std::string name = "client" + std::to_string(++made_);
    std::set<std::string> topics(kTopics.begin(), kTopics.end());
    if (world_.chance(2) == 0) topics = someTopics();
    if (world_.chance(3) == 0) {
      clients_.push_back(
          std::make_unique<ClassicClient>(world_, name, topics, world_.chance(2) == 0));
    } else {
      std::optional<std::string> instance;
      if (world_.chance(3) == 0) instance = "static" + name;
      clients_.push_back(std::make_unique<ConsumerClient>(world_, name, topics, instance));
    }
  }
  /// It leaves, or is killed and never heard of again. Replies to it go nowhere.
  void go() {
    if (clients_.empty()) return;
    auto at = clients_.begin() + static_cast<int64_t>(world_.chance(clients_.size()));
    if (world_.chance(2) == 0) {
      (*at)->leave();
    } else {
      (*at)->disconnect();
    }
    gone_.push_back(std::move(*at));
    clients_.erase(at);
  }
  void changeTopics() {
    const std::string& name = kTopics[world_.chance(kTopics.size())];
    TopicRef topic = world_.findTopic(name);
    if (topic && world_.chance(3) == 0) return world_.dropTopic(name);
    size_t partitions = topic ? topic->partitions.size() : 0;
    world_.setTopic(name, partitions + 1 + world_.chance(3));
  }
  void kill() {
    world_.start();
    for (auto& client : clients_) client->disconnect();
  }
  template <class Work>
  void withOne(Work work) {
    if (!clients_.empty()) work(*clients_[world_.chance(clients_.size())]);
  }
  /// Everybody is heard of, does what it is told and says so.
  void passTime() {
    for (int i = 0; i < 6; ++i) {
      for (auto& client : clients_) client->speak();
      while (world_.commit()) world_.loop.runAll();
      for (auto& client : clients_) client->obey();
      nobodyHasWhatAnotherHas();
    }
    world_.loop.advance(10'000'000);
    while (world_.commit()) world_.loop.runAll();
  }

  void nobodyHasWhatAnotherHas() {
    std::set<std::pair<TopicId, int32_t>> taken;
    for (const auto& client : clients_) {
      for (const auto& [topic, partitions] : client->owned()) {
        for (int32_t partition : partitions) {
          ASSERT_TRUE(taken.insert({topic, partition}).second) << "partition " << partition;
        }
      }
    }
  }
  void everythingIsAssigned() {
    if (testing::Test::HasFailure()) return;
    GroupDescription description = world_.group->describe();
    EXPECT_EQ(description.members.size(), clients_.size());
    EXPECT_EQ(description.state, clients_.empty() ? "Empty" : "Stable");
    EXPECT_TRUE(world_.pending.empty());
    for (const auto& [name, topic] : world_.topics) {
      bool read = std::ranges::any_of(
          clients_, [&](const auto& client) { return client->topics().contains(name); });
      for (size_t partition = 0; partition < topic->partitions.size(); ++partition) {
        auto number = static_cast<int32_t>(partition);
        size_t owners = 0;
        for (const auto& client : clients_) {
          if (!isIn(client->owned(), topic->id, number)) continue;
          ++owners;
          EXPECT_TRUE(client->topics().contains(name));
        }
        EXPECT_EQ(owners, read ? 1U : 0U) << name << " " << partition;
      }
    }
  }

  World world_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<Client>> gone_;
  size_t made_ = 0;
};

TEST(ConsumerSchedule, NothingIsOwnedTwiceAndAllIsAssignedInTheEnd) {
  const char* text = std::getenv("POLYLOG_SEED");
  uint64_t first = text ? std::stoull(text) : 1;
  const char* many = std::getenv("POLYLOG_SEEDS");
  uint64_t last = text ? first : many ? std::stoull(many) : 300;
  for (uint64_t seed = first; seed <= last && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("POLYLOG_SEED=" + std::to_string(seed));
    Schedule(seed).run(250);
  }
}

TEST(ConsumerSchedule, WhatACutListGaveToTwoTheFirstKeeps) {
  World world(1);
  world.setTopic("a", 2);
  TopicId topic = world.findTopic("a")->id;
  auto keep = [&](const std::string& id, int32_t epoch, ConsumerPhase phase, Assignment assigned,
                  Assignment revoking) {
    ConsumerMemberState state;
    state.id = id;
    state.topics = {"a"};
    state.epoch = epoch;
    state.phase = phase;
    state.target = assigned;
    state.assigned = std::move(assigned);
    state.revoking = std::move(revoking);
    world.disk[{StateTable::kGroupMember, groupMemberKey("g", id)}] = encodeConsumerMember(state);
  };
  for (const std::string got : {"a", "z"}) {  // read before the other, and after it
    world.disk.clear();
    world.disk[{StateTable::kGroup, "g"}] = encodeConsumerGroup({2, 2, 0, {{topic, 2}}, {}});
    keep("m", 1, ConsumerPhase::kUnrevoked, {{topic, {0}}}, {{topic, {1}}});
    keep(got, 2, ConsumerPhase::kStable, {{topic, {1}}}, {});
    world.start();
    for (const auto& member : world.group->describe().members) {
      EXPECT_EQ(member.consumer->assigned.size(), member.memberId == "m" ? 1U : 0U) << got;
    }
  }
}

}  // namespace
}  // namespace polylog::router
