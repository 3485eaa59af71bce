// SCRAM messages as a client may send them: the parsers, and a whole conversation. The input is the
// client's first message, a line feed, and its last.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/base/scram_exchange.h"
#include "tests/support/seeded_random.h"

using namespace polylog;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  BytesView input(reinterpret_cast<const char*>(data), size);
  size_t line = input.find('\n');
  BytesView first = input.substr(0, line);
  BytesView last = line == BytesView::npos ? BytesView() : input.substr(line + 1);

  if (auto parsed = scram::parseClientFirst(first)) {
    if (parsed->user.empty() || parsed->gs2Header + parsed->bare != first) std::abort();
  }
  if (auto parsed = scram::parseClientFinal(last)) {
    if (!last.starts_with(parsed->withoutProof) || parsed->nonce.empty()) std::abort();
  }
  test::SeededRandom random(1);
  scram::ServerExchange exchange(scram::Hash::kSha256, random);
  if (!exchange.begin(first)) return 0;
  scram::Credential nobodys;
  nobodys.salt = "salt";
  nobodys.storedKey = std::string(32, 's');
  nobodys.serverKey = std::string(32, 'k');
  exchange.challenge(nobodys);
  // Nobody has a password whose hash that is.
  if (exchange.finish(last)) std::abort();
  return 0;
}
