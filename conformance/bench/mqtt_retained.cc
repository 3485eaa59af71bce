// Retained messages by the million, in raw MQTT 3.1.1 packets (no client library is fast enough).
//   mqtt_retained put PORT COUNT     publishes them at QoS 1, 1,000 unacknowledged at most: message n is
//                                    64 octets at "plant/<n / 1000>/<n % 1000>"; prints retained/s
//   mqtt_retained get PORT FILTER    subscribes at QoS 0 and reads until nothing more comes for 2 s; prints how
//                                    many were retained, and received/s until the last
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::string_literals;

double since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

[[noreturn]] void end(const char* why) {
  std::fprintf(stderr, "%s\n", why);
  std::exit(1);
}

std::string text(const std::string& value) {
  std::string out;
  out.push_back(static_cast<char>(value.size() >> 8));
  out.push_back(static_cast<char>(value.size()));
  return out + value;
}

std::string packet(unsigned char first, const std::string& body) {
  std::string out(1, static_cast<char>(first));
  out.push_back(static_cast<char>(body.size()));  // all of ours are under 128 octets
  return out + body;
}

class Connection {
 public:
  explicit Connection(const char* port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) end("no connection");
    int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    send(packet(0x10, text("MQTT") + "\x04\x02\x02\x58"s + text("retained")));
    if (next(10'000).empty() || first_ != 0x20) end("not accepted");
  }

  void send(std::string_view octets) {
    while (!octets.empty()) {
      ssize_t sent = ::send(fd_, octets.data(), octets.size(), MSG_NOSIGNAL);
      if (sent <= 0) end("the connection is gone");
      octets.remove_prefix(static_cast<size_t>(sent));
    }
  }

  /// The next packet's body, empty if none comes for `millis`; its first octet is first() then.
  std::string_view next(int millis) {
    while (true) {
      size_t size = 0;
      int shift = 0;
      for (size_t at = from_ + 1; at < got_.size(); ++at, shift += 7) {
        size |= static_cast<size_t>(got_[at] & 0x7f) << shift;
        if ((got_[at] & 0x80) != 0) continue;
        if (got_.size() - at - 1 < size) break;
        first_ = static_cast<unsigned char>(got_[from_]);
        std::string_view body(got_.data() + at + 1, size);
        from_ = at + 1 + size;
        return body;
      }
      got_.erase(0, std::exchange(from_, 0));
      pollfd one{fd_, POLLIN, 0};
      if (poll(&one, 1, millis) == 0) return {};
      char piece[1 << 16];
      ssize_t more = recv(fd_, piece, sizeof piece, 0);
      if (more <= 0) end("the broker closed the connection");
      got_.append(piece, static_cast<size_t>(more));
    }
  }
  unsigned char first() const { return first_; }

 private:
  int fd_;
  std::string got_;
  size_t from_ = 0;
  unsigned char first_ = 0;
};

void put(Connection& broker, long count) {
  constexpr long kWindow = 1000;
  const std::string payload(64, 'r');
  const auto began = Clock::now();
  long sent = 0;
  std::string piece;
  for (long acknowledged = 0; acknowledged < count;) {
    piece.clear();
    for (; sent < count && sent - acknowledged < kWindow; ++sent) {
      std::string topic = "plant/" + std::to_string(sent / 1000) + "/" + std::to_string(sent % 1000);
      std::string id = {static_cast<char>((sent % kWindow + 1) >> 8), static_cast<char>(sent % kWindow + 1)};
      piece += packet(0x33, text(topic) + id + payload);
    }
    broker.send(piece);
    if (broker.next(30'000).empty()) end("no acknowledgement for 30 s");
    if (broker.first() == 0x40) ++acknowledged;
  }
  std::printf("retained/s %.0f\n", static_cast<double>(count) / since(began));
}

void get(Connection& broker, const std::string& filter) {
  const auto began = Clock::now();
  double last = 0;
  long count = 0;
  broker.send(packet(0x82, "\x00\x01"s + text(filter) + "\x00"s));
  while (!broker.next(2000).empty()) {
    if ((broker.first() & 0xf1) != 0x31) continue;
    ++count;
    last = since(began);
  }
  std::printf("received %ld received/s %.0f\n", count, static_cast<double>(count) / last);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) end("usage: mqtt_retained put PORT COUNT | get PORT FILTER");
  Connection broker(argv[2]);
  if (argv[1] == "put"s) {
    put(broker, std::atol(argv[3]));
  } else {
    get(broker, argv[3]);
  }
  return 0;
}
