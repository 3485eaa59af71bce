// One publisher to one subscriber over libmosquitto (a third-party client), against any MQTT
// broker.
//   mqtt_bench PORT QOS MESSAGES PAYLOAD [RATE]
// Without RATE: as fast as a window of 1000 unacknowledged messages (QoS 1, 2), or of 10,000 that
// haven't arrived (QoS 0), takes them; prints messages a second over the time from the first
// publish to the last arrival. With RATE (a second): prints the median and 99th percentile of the
// hop in microseconds.
#include <mosquitto.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<int> received{0};
std::atomic<int> acknowledged{0};
std::atomic<bool> subscribed{false};
std::vector<int64_t> hops;

int64_t nowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

mosquitto* connectTo(const char* id, int port) {
  mosquitto* client = mosquitto_new(id, true, nullptr);
  mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
  mosquitto_max_inflight_messages_set(client, 1000);
  if (mosquitto_connect(client, "127.0.0.1", port, 60) != MOSQ_ERR_SUCCESS) {
    std::fprintf(stderr, "can't connect to 127.0.0.1:%d\n", port);
    std::exit(1);
  }
  return client;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const int port = std::atoi(argv[1]);
  const int qos = std::atoi(argv[2]);
  const int messages = std::atoi(argv[3]);
  const size_t size = std::max<size_t>(static_cast<size_t>(std::atoi(argv[4])), sizeof(int64_t));
  const double rate = argc > 5 ? std::atof(argv[5]) : 0;
  mosquitto_lib_init();
  hops.reserve(static_cast<size_t>(messages));

  mosquitto* subscriber = connectTo("bench-subscriber", port);
  mosquitto_subscribe_callback_set(
      subscriber, [](mosquitto*, void*, int, int, const int*) { subscribed = true; });
  mosquitto_message_callback_set(subscriber,
                                 [](mosquitto*, void*, const mosquitto_message* message) {
                                   int64_t sent = 0;
                                   std::memcpy(&sent, message->payload, sizeof sent);
                                   hops.push_back(nowMicros() - sent);
                                   ++received;
                                 });
  mosquitto_subscribe(subscriber, nullptr, "bench/#", qos);
  mosquitto_loop_start(subscriber);
  while (!subscribed) std::this_thread::sleep_for(std::chrono::milliseconds(1));

  // The publisher's one thread is this one: with libmosquitto's own beside it, the two hand a lock
  // to each other at every message, which costs more the more acknowledgements come at once.
  mosquitto* publisher = connectTo("bench-publisher", port);
  mosquitto_publish_callback_set(publisher, [](mosquitto*, void*, int) { ++acknowledged; });
  std::string payload(size, 'x');
  const int64_t began = nowMicros();
  int sent = 0;
  auto untilNext = [&]() -> int64_t {  // microseconds until the next publish may go
    if (sent == messages) return 1'000'000;
    if (rate > 0) return began + static_cast<int64_t>(sent * 1e6 / rate) - nowMicros();
    // Who takes QoS 0 slower than it is sent may lose some: no more are on their way than any
    // broker keeps.
    if (qos == 0) return sent - received < 10'000 ? 0 : 1000;
    return sent - acknowledged < 1000 ? 0 : 1'000'000;
  };
  while (acknowledged < messages) {
    while (untilNext() <= 0) {
      int64_t now = nowMicros();
      std::memcpy(payload.data(), &now, sizeof now);
      mosquitto_publish(publisher, nullptr, "bench/one", static_cast<int>(size), payload.data(),
                        qos, false);
      ++sent;
    }
    const int millis = static_cast<int>(untilNext() / 1000);
    if (mosquitto_loop(publisher, millis, 1) != MOSQ_ERR_SUCCESS) return 1;
  }
  int last = -1;
  for (int still = 0; received < messages && still < 500; ++still) {
    if (received != last) still = 0;
    last = received;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const double seconds = static_cast<double>(nowMicros() - began) / 1e6;
  std::sort(hops.begin(), hops.end());
  if (hops.empty()) return 1;
  std::printf("received %d of %d rate %.0f median_us %lld p99_us %lld\n", received.load(), messages,
              received / seconds, static_cast<long long>(hops[hops.size() / 2]),
              static_cast<long long>(hops[hops.size() * 99 / 100]));
  return 0;
}
