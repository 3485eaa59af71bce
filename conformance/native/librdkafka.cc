// librdkafka by its C++ API, as services in C++ use it.
//   librdkafka exact  HOST:PORT TOPIC CODEC   writes records with keys, headers and timestamps,
//   reads them back librdkafka commit HOST:PORT TOPIC ID      a committed and an aborted
//   transaction; what read_committed sees
// The last line is `ok`; anything else, and a status other than 0, is a failure.
#include <librdkafka/rdkafkacpp.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr int kPartition = 0;
constexpr int kTimeoutMs = 30'000;

[[noreturn]] void fail(const std::string& why) {
  std::cout << why << std::endl;
  std::exit(1);
}

void check(RdKafka::ErrorCode code, const std::string& what) {
  if (code != RdKafka::ERR_NO_ERROR) fail(what + ": " + RdKafka::err2str(code));
}

void check(RdKafka::Error* error, const std::string& what) {
  std::unique_ptr<RdKafka::Error> owned(error);
  if (owned) fail(what + ": " + owned->str());
}

using Settings = std::vector<std::pair<std::string, std::string>>;

std::unique_ptr<RdKafka::Conf> configure(const Settings& settings) {
  std::unique_ptr<RdKafka::Conf> conf(RdKafka::Conf::create(RdKafka::Conf::CONF_GLOBAL));
  std::string error;
  for (const auto& [key, value] : settings) {
    if (conf->set(key, value, error) != RdKafka::Conf::CONF_OK) fail(error);
  }
  return conf;
}

class Reports final : public RdKafka::DeliveryReportCb {
 public:
  void dr_cb(RdKafka::Message& message) override {
    if (message.err() != RdKafka::ERR_NO_ERROR) fail("delivery: " + message.errstr());
    if (message.offset() != delivered++) fail("offsets are not dense");
  }
  int64_t delivered = 0;
};

struct Record {
  std::string key, value, header;
  int64_t timestamp;
  bool operator==(const Record&) const = default;
};

void produce(RdKafka::Producer& producer, const std::string& topic, const Record& record) {
  RdKafka::Headers* headers = RdKafka::Headers::create();
  headers->add("twice", std::string("first"));
  headers->add("twice", record.header);
  check(producer.produce(topic, kPartition, RdKafka::Producer::RK_MSG_COPY,
                         const_cast<char*>(record.value.data()), record.value.size(),
                         record.key.data(), record.key.size(), record.timestamp, headers, nullptr),
        "produce");
  producer.poll(0);
}

/// What a message holds, which must not outlive its consumer.
Record recordOf(RdKafka::Message& message, int64_t offset) {
  std::vector<RdKafka::Headers::Header> headers = message.headers()->get_all();
  if (message.offset() != offset) fail("offset " + std::to_string(message.offset()));
  if (headers.size() != 2 || headers[0].key() != "twice" || headers[1].key() != "twice") {
    fail("headers came back changed");
  }
  return {*message.key(), std::string(static_cast<const char*>(message.payload()), message.len()),
          std::string(static_cast<const char*>(headers[1].value()), headers[1].value_size()),
          message.timestamp().timestamp};
}

/// All records up to the end that a reader of committed records sees. `dense`: none is passed over.
std::vector<Record> readAll(const std::string& broker, const std::string& topic, bool dense) {
  std::string error;
  auto conf = configure({{"bootstrap.servers", broker},
                         {"group.id", "reader"},
                         {"enable.auto.commit", "false"},
                         {"enable.partition.eof", "true"},
                         {"check.crcs", "true"},
                         {"isolation.level", "read_committed"}});
  std::unique_ptr<RdKafka::KafkaConsumer> consumer(
      RdKafka::KafkaConsumer::create(conf.get(), error));
  if (!consumer) fail(error);
  std::unique_ptr<RdKafka::TopicPartition> place(
      RdKafka::TopicPartition::create(topic, kPartition, RdKafka::Topic::OFFSET_BEGINNING));
  check(consumer->assign({place.get()}), "assign");
  std::vector<Record> seen;
  while (true) {
    std::unique_ptr<RdKafka::Message> message(consumer->consume(kTimeoutMs));
    if (message->err() == RdKafka::ERR__PARTITION_EOF) break;
    check(message->err(), "consume");
    seen.push_back(
        recordOf(*message, dense ? static_cast<int64_t>(seen.size()) : message->offset()));
  }
  consumer->close();
  return seen;
}

void exact(const std::string& broker, const std::string& topic, const std::string& codec) {
  constexpr int kRecords = 5000;
  std::string error;
  Reports reports;
  auto conf = configure({{"bootstrap.servers", broker},
                         {"compression.codec", codec},
                         {"enable.idempotence", "true"},
                         {"linger.ms", "5"}});
  if (conf->set("dr_cb", &reports, error) != RdKafka::Conf::CONF_OK) fail(error);
  std::unique_ptr<RdKafka::Producer> producer(RdKafka::Producer::create(conf.get(), error));
  if (!producer) fail(error);
  std::vector<Record> sent;
  for (int i = 0; i < kRecords; ++i) {
    sent.push_back({"key" + std::to_string(i % 7), std::string(static_cast<size_t>(i % 300), 'v'),
                    std::string("\0\xff", 2) + std::to_string(i), 1'600'000'000'000 + i});
    produce(*producer, topic, sent.back());
  }
  check(producer->flush(kTimeoutMs), "flush");
  if (reports.delivered != kRecords) fail("not all were delivered");
  if (readAll(broker, topic, true) != sent) fail("records came back changed");
}

void transactions(const std::string& broker, const std::string& topic, const std::string& id) {
  std::string error;
  auto conf = configure({{"bootstrap.servers", broker}, {"transactional.id", id}});
  std::unique_ptr<RdKafka::Producer> producer(RdKafka::Producer::create(conf.get(), error));
  if (!producer) fail(error);
  check(producer->init_transactions(kTimeoutMs), "init");
  for (int round = 0; round < 6; ++round) {
    check(producer->begin_transaction(), "begin");
    bool commit = round % 2 == 0;
    for (int i = 0; i < 10; ++i) {
      produce(*producer, topic, {"k", commit ? "committed" : "aborted", "h", 1000 + i});
    }
    check(
        commit ? producer->commit_transaction(kTimeoutMs) : producer->abort_transaction(kTimeoutMs),
        commit ? "commit" : "abort");
  }
  auto seen = readAll(broker, topic, false);
  if (seen.size() != 30) fail(std::to_string(seen.size()) + " records are committed");
  for (const Record& record : seen) {
    if (record.value != "committed") fail("an aborted record is seen");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) fail("usage: librdkafka exact|commit HOST:PORT TOPIC CODEC|ID");
  if (std::string(argv[1]) == "exact") exact(argv[2], argv[3], argv[4]);
  if (std::string(argv[1]) == "commit") transactions(argv[2], argv[3], argv[4]);
  std::cout << "ok" << std::endl;
  return 0;
}
