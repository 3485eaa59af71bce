// A whole Kafka connection over a broker in memory: octets in pieces, time passing between them.
// The first octet says how the rest is cut up.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "codecs/kafka/registration.h"
#include "tests/kafka/log_broker.h"
#include "tests/support/fake_transport.h"
#include "tests/support/manual_dispatcher.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace polylog;
  if (size == 0) return 0;
  test::FakeClock clock;
  test::ManualDispatcher dispatcher(clock);
  test::ManualDispatcher::Scope scope(dispatcher);
  test::LogBroker broker;
  broker.addTopic("t", 2);
  broker.addTopic("with space");
  test::FakeTransport transport(dispatcher);
  auto session = kafka::makeSessionFactory(broker, {})(transport);

  size_t piece = data[0] == 0 ? size : data[0];
  std::string input;
  for (size_t at = 1; at < size && !transport.closed; at += piece) {
    input.append(reinterpret_cast<const char*>(data) + at, std::min(piece, size - at));
    for (int rounds = 0; rounds < 4 && !transport.closed; ++rounds) {
      if (!transport.paused) {
        size_t used = session->onBytes(SharedBytes::copyOf(input));
        if (used > input.size()) std::abort();
        input.erase(0, used);
      }
      dispatcher.runAll();
    }
    if (transport.sent.size() > 4096) transport.takeSent();
  }
  dispatcher.advance(1'000'000);
  session->onClosed("the input is over");
  session.reset();
  dispatcher.runAll();
  return 0;
}
