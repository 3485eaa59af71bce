// Produces and fetches over librdkafka (a third-party client).
//   kafka_bench produce HOST:PORT TOPIC RECORDS SIZE [CODEC]   acks=all, idempotence off
//   kafka_bench fetch   HOST:PORT TOPIC RECORDS                from the beginning, one consumer
// Prints records and megabytes (10^6) a second.
#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

long failures = 0;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void set(rd_kafka_conf_t* conf, const char* key, const char* value) {
  char error[512];
  if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK) {
    std::fprintf(stderr, "%s\n", error);
    std::exit(2);
  }
}

int produce(const char* broker, const char* topic, long records, size_t size, const char* codec) {
  char error[512];
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", broker);
  set(conf, "queue.buffering.max.messages", "1000000");
  set(conf, "queue.buffering.max.kbytes", "1000000");
  set(conf, "linger.ms", "20");
  set(conf, "batch.num.messages", "10000");
  set(conf, "batch.size", "1000000");
  set(conf, "compression.codec", codec);
  rd_kafka_conf_set_dr_msg_cb(conf, [](rd_kafka_t*, const rd_kafka_message_t* message, void*) {
    if (message->err) ++failures;
  });
  rd_kafka_t* client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  rd_kafka_topic_t* handle = rd_kafka_topic_new(client, topic, nullptr);
  std::string payload(size, 'x');
  for (size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(std::rand());
  const double began = seconds();
  for (long i = 0; i < records; ++i) {
    while (rd_kafka_produce(handle, 0, 0, payload.data(), size, nullptr, 0, nullptr) != 0) {
      rd_kafka_poll(client, 5);
    }
    if (i % 1000 == 0) rd_kafka_poll(client, 0);
  }
  rd_kafka_flush(client, 120000);
  const double passed = seconds() - began;
  std::printf("records/s %.0f MB/s %.1f failed %ld\n", static_cast<double>(records) / passed,
              static_cast<double>(records) * static_cast<double>(size) / passed / 1e6, failures);
  return failures == 0 ? 0 : 1;
}

int fetch(const char* broker, const char* topic, long records) {
  char error[512];
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", broker);
  set(conf, "queued.min.messages", "1000000");
  set(conf, "queued.max.messages.kbytes", "262144");
  set(conf, "fetch.message.max.bytes", "10000000");
  set(conf, "check.crcs", "false");
  rd_kafka_t* client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
  rd_kafka_topic_t* handle = rd_kafka_topic_new(client, topic, nullptr);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(client);
  const double began = seconds();
  rd_kafka_consume_start_queue(handle, 0, RD_KAFKA_OFFSET_BEGINNING, queue);
  long seen = 0;
  double bytes = 0;
  double last = began;
  static rd_kafka_message_t* messages[10000];
  while (seen < records) {
    ssize_t count = rd_kafka_consume_batch_queue(queue, 1000, messages, 10000);
    for (ssize_t i = 0; i < count; ++i) {
      if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        ++seen;
        bytes += static_cast<double>(messages[i]->len);
      }
      rd_kafka_message_destroy(messages[i]);
    }
    if (count > 0) last = seconds();
    if (seconds() - last > 20) break;
  }
  const double passed = last - began;
  std::printf("records/s %.0f MB/s %.1f of %ld missing %ld\n", static_cast<double>(seen) / passed,
              bytes / passed / 1e6, records, records - seen);
  return seen == records ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 6 && std::strcmp(argv[1], "produce") == 0) {
    return produce(argv[2], argv[3], std::atol(argv[4]), static_cast<size_t>(std::atol(argv[5])),
                   argc > 6 ? argv[6] : "none");
  }
  if (argc >= 5 && std::strcmp(argv[1], "fetch") == 0) return fetch(argv[2], argv[3], std::atol(argv[4]));
  std::fprintf(stderr, "usage: kafka_bench produce|fetch HOST:PORT TOPIC RECORDS [SIZE [CODEC]]\n");
  return 2;
}
