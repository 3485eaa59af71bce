// Publishes and consumes over rabbitmq-c (a third-party client), against any AMQP 0-9-1 broker.
//   amqp_bench queue  PORT MESSAGES SIZE [RATE]   persistent, confirmed, one durable queue, one consumer
//   amqp_bench fanout PORT MESSAGES SIZE QUEUES   one fanout exchange, durable queues, one consumer each
// One connection publishes with at most 1000 unconfirmed messages, another consumes with a prefetch of
// 1000 and acknowledges every 50th delivery and all before it. Prints messages (fanout: deliveries) a
// second from the first publish to the last delivery, and percentiles of confirms and of the way.
// With RATE (a second) it publishes at that pace.
#include <amqp.h>
#include <amqp_tcp_socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kWindow = 1000;
constexpr int kAckEvery = 50;

int64_t nowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "amqp_bench: %s\n", what);
  std::exit(1);
}

void check(amqp_connection_state_t connection, const char* what) {
  if (amqp_get_rpc_reply(connection).reply_type != AMQP_RESPONSE_NORMAL) die(what);
}

amqp_connection_state_t connectTo(int port) {
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t* socket = amqp_tcp_socket_new(connection);
  if (amqp_socket_open(socket, "127.0.0.1", port) != 0) die("can't connect");
  amqp_rpc_reply_t reply = amqp_login(connection, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest");
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) die("can't log in");
  amqp_channel_open(connection, 1);
  check(connection, "channel.open");
  return connection;
}

struct Percentiles {
  std::vector<int64_t> values;
  int64_t at(double part) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1, static_cast<size_t>(part * static_cast<double>(values.size())))];
  }
};

std::atomic<long> delivered{0};
Percentiles way;

void consume(amqp_connection_state_t connection, long messages) {
  long since = 0;
  while (delivered < messages) {
    amqp_envelope_t envelope;
    timeval timeout{20, 0};
    amqp_maybe_release_buffers(connection);
    amqp_rpc_reply_t reply = amqp_consume_message(connection, &envelope, &timeout, 0);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) die("a delivery didn't come");
    int64_t sent = 0;
    std::memcpy(&sent, envelope.message.body.bytes, sizeof sent);
    way.values.push_back(nowMicros() - sent);
    ++delivered;
    if (++since == kAckEvery || delivered == messages) {
      amqp_basic_ack(connection, 1, envelope.delivery_tag, 1);
      since = 0;
    }
    amqp_destroy_envelope(&envelope);
  }
}

struct Publisher {
  amqp_connection_state_t connection;
  std::deque<int64_t> unconfirmed;  ///< when each was published
  uint64_t confirmedTag = 0;
  Percentiles confirms;

  void confirm(uint64_t tag, bool multiple) {
    // rabbitmq-c's brokers may confirm single tags out of order; what counts here is how many.
    uint64_t count = multiple ? tag - confirmedTag : 1;
    confirmedTag = multiple ? tag : confirmedTag + 1;
    for (; count > 0 && !unconfirmed.empty(); --count) {
      confirms.values.push_back(nowMicros() - unconfirmed.front());
      unconfirmed.pop_front();
    }
  }
  /// Reads confirms; waits for one if `wait`.
  void read(bool wait) {
    amqp_frame_t frame;
    timeval timeout{wait ? 20 : 0, 0};
    while (amqp_simple_wait_frame_noblock(connection, &frame, &timeout) == AMQP_STATUS_OK) {
      if (frame.frame_type != AMQP_FRAME_METHOD) die("an unexpected frame");
      if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
        auto* ack = static_cast<amqp_basic_ack_t*>(frame.payload.method.decoded);
        confirm(ack->delivery_tag, ack->multiple != 0);
      } else {
        die("something else than a confirm");
      }
      amqp_maybe_release_buffers(connection);
      if (!amqp_frames_enqueued(connection) && !amqp_data_in_buffer(connection)) return;
      timeout = {0, 0};
    }
    if (wait && unconfirmed.size() >= kWindow) die("a confirm didn't come");
  }
};

int run(bool fanout, int port, long messages, size_t size, double rate, int queues) {
  amqp_connection_state_t consumer = connectTo(port);
  const std::string suffix = std::to_string(nowMicros());
  const std::string exchange = fanout ? "bench-" + suffix : "";
  if (fanout) {
    amqp_exchange_declare(consumer, 1, amqp_cstring_bytes(exchange.c_str()), amqp_cstring_bytes("fanout"), 0,
                          1, 0, 0, amqp_empty_table);
    check(consumer, "exchange.declare");
  }
  amqp_basic_qos(consumer, 1, 0, fanout ? 10000 : kWindow, 0);
  check(consumer, "basic.qos");
  std::string queue;
  for (int i = 0; i < queues; ++i) {
    queue = "bench-" + suffix + "-" + std::to_string(i);
    amqp_queue_declare(consumer, 1, amqp_cstring_bytes(queue.c_str()), 0, 1, 0, 0, amqp_empty_table);
    check(consumer, "queue.declare");
    if (fanout) {
      amqp_queue_bind(consumer, 1, amqp_cstring_bytes(queue.c_str()), amqp_cstring_bytes(exchange.c_str()),
                      amqp_empty_bytes, amqp_empty_table);
      check(consumer, "queue.bind");
    }
    amqp_basic_consume(consumer, 1, amqp_cstring_bytes(queue.c_str()), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    check(consumer, "basic.consume");
  }
  Publisher publisher{connectTo(port), {}, 0, {}};
  amqp_confirm_select(publisher.connection, 1);
  check(publisher.connection, "confirm.select");

  const long deliveries = messages * queues;
  way.values.reserve(static_cast<size_t>(deliveries));
  publisher.confirms.values.reserve(static_cast<size_t>(messages));
  std::string body(size, 'x');
  amqp_basic_properties_t properties{};
  properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
  properties.delivery_mode = 2;
  const int64_t began = nowMicros();
  std::thread consuming([&] { consume(consumer, deliveries); });
  for (long i = 0; i < messages; ++i) {
    if (rate > 0) {
      auto due = began + static_cast<int64_t>(static_cast<double>(i) * 1e6 / rate);
      while (nowMicros() < due) {
        publisher.read(false);
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
    while (publisher.unconfirmed.size() >= kWindow) publisher.read(true);
    int64_t now = nowMicros();
    std::memcpy(body.data(), &now, sizeof now);
    amqp_bytes_t bytes{body.size(), body.data()};
    publisher.unconfirmed.push_back(now);
    if (amqp_basic_publish(publisher.connection, 1, amqp_cstring_bytes(exchange.c_str()),
                           amqp_cstring_bytes(fanout ? "" : queue.c_str()), 0, 0, &properties, bytes) != 0) {
      die("basic.publish");
    }
    if (i % 20 == 0) publisher.read(false);
  }
  while (!publisher.unconfirmed.empty()) publisher.read(true);
  consuming.join();
  const double seconds = static_cast<double>(nowMicros() - began) / 1e6;
  std::printf("rate %.0f confirm_median_us %lld confirm_p99_us %lld way_median_us %lld way_p99_us %lld\n",
              static_cast<double>(deliveries) / seconds, static_cast<long long>(publisher.confirms.at(0.5)),
              static_cast<long long>(publisher.confirms.at(0.99)), static_cast<long long>(way.at(0.5)),
              static_cast<long long>(way.at(0.99)));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) die("usage: amqp_bench queue PORT MESSAGES SIZE [RATE] | fanout PORT MESSAGES SIZE QUEUES");
  const bool fanout = std::strcmp(argv[1], "fanout") == 0;
  const size_t size = std::max(sizeof(int64_t), static_cast<size_t>(std::atol(argv[4])));
  const double rate = !fanout && argc > 5 ? std::atof(argv[5]) : 0;
  const int queues = fanout && argc > 5 ? std::atoi(argv[5]) : 1;
  return run(fanout, std::atoi(argv[2]), std::atol(argv[3]), size, rate, queues);
}
