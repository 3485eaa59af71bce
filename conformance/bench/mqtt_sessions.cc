// Makes persistent MQTT 5 sessions that sleep at once: CONNECT, SUBSCRIBE at QoS 1 and DISCONNECT on a
// connection of its own each, in raw packets (no client library opens thousands a second).
//   mqtt_sessions PORT FIRST COUNT [AT_ONCE]
// Session n is "sleeper-<n>" and subscribes to "sleep/<n>". Prints sessions a second.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

std::string text(const std::string& value) {
  std::string out;
  out.push_back(static_cast<char>(value.size() >> 8));
  out.push_back(static_cast<char>(value.size()));
  return out + value;
}

std::string packet(unsigned char type, const std::string& body) {
  std::string out(1, static_cast<char>(type));
  out.push_back(static_cast<char>(body.size()));  // all of ours are under 128 octets
  return out + body;
}

std::string opening(long number) {
  using namespace std::string_literals;
  // Version 5, no clean start, keep-alive 60 s, session expiry a day.
  std::string connect = text("MQTT") + "\x05\x00\x00\x3c"s + "\x05\x11\x00\x01\x51\x80"s;
  std::string subscribe = "\x00\x01\x00"s + text("sleep/" + std::to_string(number)) + "\x01"s;
  return packet(0x10, connect + text("sleeper-" + std::to_string(number))) + packet(0x82, subscribe);
}

struct Opening {
  int fd = -1;
  std::string got;
};

/// True once CONNACK and SUBACK are whole; exits when they tell of a failure.
bool finished(const std::string& got) {
  if (got.size() < 2 || got.size() < 2U + static_cast<unsigned char>(got[1])) return false;
  size_t suback = 2U + static_cast<unsigned char>(got[1]);
  if (got[0] != 0x20 || got[3] != 0) {
    std::fprintf(stderr, "refused: reason %d\n", got[3]);
    std::exit(1);
  }
  if (got.size() < suback + 2 || got.size() < suback + 2 + static_cast<unsigned char>(got[suback + 1])) {
    return false;
  }
  if (static_cast<unsigned char>(got.back()) > 2) {
    std::fprintf(stderr, "SUBACK: reason %d\n", static_cast<unsigned char>(got.back()));
    std::exit(1);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: mqtt_sessions PORT FIRST COUNT [AT_ONCE]\n");
    return 2;
  }
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[1])));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  long next = std::atol(argv[2]);
  const long end = next + std::atol(argv[3]);
  std::vector<Opening> openings(argc > 4 ? std::strtoul(argv[4], nullptr, 10) : 200);
  int poll = epoll_create1(0);
  auto began = std::chrono::steady_clock::now();
  size_t open = 0;
  auto begin = [&](size_t slot) {
    Opening& one = openings[slot];
    one.got.clear();
    one.fd = socket(AF_INET, SOCK_STREAM, 0);
    // Thousands of ports a second would run out in TIME_WAIT: it ends with a reset.
    linger reset{1, 0};
    setsockopt(one.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(one.fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
      std::perror("connect");
      std::exit(1);
    }
    std::string bytes = opening(next++);
    if (send(one.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) std::perror("send");
    epoll_event event{EPOLLIN, {}};
    event.data.u64 = slot;
    epoll_ctl(poll, EPOLL_CTL_ADD, one.fd, &event);
    ++open;
  };
  const long first = next;
  for (size_t slot = 0; slot < openings.size() && next < end; ++slot) begin(slot);
  std::vector<epoll_event> events(256);
  while (open > 0) {
    int count = epoll_wait(poll, events.data(), static_cast<int>(events.size()), 10'000);
    if (count == 0) {
      std::fprintf(stderr, "nothing came for 10 s\n");
      return 1;
    }
    for (int i = 0; i < count; ++i) {
      Opening& one = openings[events[static_cast<size_t>(i)].data.u64];
      char scratch[512];
      ssize_t got = recv(one.fd, scratch, sizeof scratch, 0);
      if (got <= 0) {
        std::fprintf(stderr, "the broker closed a connection\n");
        return 1;
      }
      one.got.append(scratch, static_cast<size_t>(got));
      if (!finished(one.got)) continue;
      if (send(one.fd, "\xe0\x00", 2, MSG_NOSIGNAL) < 0) std::perror("send");
      close(one.fd);
      --open;
      if (next < end) begin(events[static_cast<size_t>(i)].data.u64);
    }
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::printf("sessions/s %.0f of %ld\n", static_cast<double>(end - first) / seconds, end - first);
  return 0;
}
