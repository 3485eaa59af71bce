// Holds many idle MQTT 5 connections, then lets all of them come back at once. In raw packets.
//   mqtt_connections PORT COUNT clean|kept
// For each line of its input: opens all connections, or closes them and opens them again, as fast as the
// broker takes them; `kept`: with sessions that outlive them. Prints "seconds S" when the last CONNACK is
// there. Ends with its input.
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr long kPerAddress = 20'000;  // ports of a source address

std::string text(const std::string& value) {
  std::string out;
  out.push_back(static_cast<char>(value.size() >> 8));
  out.push_back(static_cast<char>(value.size()));
  return out + value;
}

std::string connectPacket(long number, bool kept) {
  using namespace std::string_literals;
  // Version 5, keep-alive an hour; session expiry an hour or none.
  std::string body = text("MQTT") + (kept ? "\x05\x00\x0e\x10"s : "\x05\x02\x0e\x10"s) +
                     (kept ? "\x05\x11\x00\x00\x0e\x10"s : "\x00"s) +
                     text("idle-" + std::to_string(number));
  std::string out(1, '\x10');
  out.push_back(static_cast<char>(body.size()));  // under 128 octets
  return out + body;
}

int fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

int open(uint16_t port, long number) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail("socket");
  linger reset{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(static_cast<uint32_t>(INADDR_LOOPBACK + 1 + number / kPerAddress));
  int one = 1;
  setsockopt(fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof one);
  if (bind(fd, reinterpret_cast<sockaddr*>(&from), sizeof from) != 0) return fail("bind");
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
    return fail("connect");
  }
  return fd;
}

struct Connection {
  int fd = -1;
  bool sent = false;
  std::string got;
};

/// All of them on one thread: what is open is served while others are being opened.
class Crowd {
 public:
  Crowd(uint16_t port, size_t count, bool kept)
      : port_(port), kept_(kept), all_(count), poll_(epoll_create1(0)) {}

  /// Opens all (again) and waits for each one's CONNACK.
  void open() {
    for (Connection& one : all_) {
      if (one.fd >= 0) close(one.fd);
    }
    waiting_ = all_.size();
    for (size_t i = 0; i < all_.size(); ++i) {
      all_[i] = Connection{::open(port_, static_cast<long>(i)), false, {}};
      epoll_event event{EPOLLOUT, {}};
      event.data.u64 = i;
      epoll_ctl(poll_, EPOLL_CTL_ADD, all_[i].fd, &event);
      if (i % 64 == 63) serve(0);
    }
    while (waiting_ > 0) {
      if (!serve(60'000)) std::exit((std::fprintf(stderr, "%zu CONNACKs are missing\n", waiting_), 1));
    }
  }

 private:
  bool serve(int milliseconds) {
    int count = epoll_wait(poll_, events_.data(), static_cast<int>(events_.size()), milliseconds);
    for (int i = 0; i < count; ++i) {
      size_t index = events_[static_cast<size_t>(i)].data.u64;
      all_[index].sent ? receive(index) : greet(index);
    }
    return count > 0;
  }
  void greet(size_t index) {
    Connection& one = all_[index];
    one.sent = true;
    std::string octets = connectPacket(static_cast<long>(index), kept_);
    if (send(one.fd, octets.data(), octets.size(), MSG_NOSIGNAL) < 0) fail("send");
    epoll_event event{EPOLLIN, {}};
    event.data.u64 = index;
    epoll_ctl(poll_, EPOLL_CTL_MOD, one.fd, &event);
  }
  void receive(size_t index) {
    Connection& one = all_[index];
    char scratch[256];
    ssize_t size = recv(one.fd, scratch, sizeof scratch, 0);
    if (size <= 0) std::exit((std::fprintf(stderr, "connection %zu was closed\n", index), 1));
    one.got.append(scratch, static_cast<size_t>(size));
    if (one.got.size() < 2 || one.got.size() < 2U + static_cast<unsigned char>(one.got[1])) return;
    if (one.got[0] != 0x20 || one.got[3] != 0) std::exit((std::fprintf(stderr, "refused\n"), 1));
    epoll_ctl(poll_, EPOLL_CTL_DEL, one.fd, nullptr);
    --waiting_;
  }

  const uint16_t port_;
  const bool kept_;
  std::vector<Connection> all_;
  const int poll_;
  std::vector<epoll_event> events_{1024};
  size_t waiting_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: mqtt_connections PORT COUNT clean|kept\n");
    return 2;
  }
  const auto port = static_cast<uint16_t>(std::atoi(argv[1]));
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  Crowd crowd(port, std::strtoul(argv[2], nullptr, 10), argv[3] == std::string("kept"));
  for (std::string line; std::getline(std::cin, line);) {
    auto began = std::chrono::steady_clock::now();
    crowd.open();
    std::chrono::duration<double> passed = std::chrono::steady_clock::now() - began;
    std::printf("seconds %.3f\n", passed.count());
    std::fflush(stdout);
  }
}
