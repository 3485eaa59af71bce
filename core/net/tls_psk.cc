#include "core/net/tls_psk.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

namespace polylog {
namespace {

/// 128 bits: less can be guessed from a handshake that somebody has listened to.
constexpr size_t kMinKey = 16;
constexpr size_t kMaxKey = 256;
constexpr size_t kMaxIdentity = 128;

/// The slot of a connection in which its identity lies.
int identitySlot() {
  static const int slot =
      SSL_get_ex_new_index(0, nullptr, nullptr, nullptr,
                           [](void* /*parent*/, void* identity, CRYPTO_EX_DATA*, int, long, void*) {
                             delete static_cast<std::string*>(identity);
                           });
  return slot;
}

std::optional<std::string> fromHex(std::string_view text) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    if (digit(text[i]) < 0 || digit(text[i + 1]) < 0) return std::nullopt;
    out.push_back(static_cast<char>(digit(text[i]) * 16 + digit(text[i + 1])));
  }
  return text.size() % 2 == 0 ? std::optional(out) : std::nullopt;
}

std::unexpected<Error> wrong(const std::string& path, std::string_view why) {
  return fail(ErrorKind::kInvalid, fmt::format("`tls.psk_file: {}`: {}", path, why));
}

}  // namespace

Result<std::unique_ptr<const PskTable>> PskTable::load(const std::string& path) {
  std::ifstream file(path);
  if (!file) return wrong(path, fmt::format("can't be read: {}", std::strerror(errno)));
  auto table = std::make_unique<PskTable>();
  std::string line;
  for (size_t number = 1; std::getline(file, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with('#')) continue;
    const size_t colon = line.rfind(':');
    auto key = colon == std::string::npos ? std::nullopt
                                          : fromHex(std::string_view(line).substr(colon + 1));
    if (!key || colon == 0 || colon > kMaxIdentity) {
      return wrong(path, fmt::format("line {}: write IDENTITY:KEY, the identity of 128 octets at "
                                     "most, the key in hexadecimal digits",
                                     number));
    }
    if (key->size() < kMinKey || key->size() > kMaxKey) {
      return wrong(path, fmt::format("line {}: a key has 16 to 256 octets, twice as many digits "
                                     "(openssl rand -hex 32)",
                                     number));
    }
    if (!table->keys_.emplace(line.substr(0, colon), *std::move(key)).second) {
      return wrong(path,
                   fmt::format("line {}: the identity is there twice: leave one out", number));
    }
  }
  if (table->keys_.empty()) return wrong(path, "holds no key: write IDENTITY:KEY, a line each");
  return table;
}

void PskTable::serve(SSL_CTX* context) const {
  SSL_CTX_set_app_data(context, const_cast<PskTable*>(this));
  SSL_CTX_set_psk_server_callback(context, &PskTable::find);
  // Resumed, a connection would not be asked for its key.
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(context, 0);
}

/// OpenSSL goes on with the last that was found, and fails if the peer hasn't its key.
unsigned int PskTable::find(SSL* connection, const char* identity, unsigned char* key,
                            unsigned int room) {
  const auto* table =
      static_cast<const PskTable*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(connection)));
  const auto found = identity == nullptr ? table->keys_.end() : table->keys_.find(identity);
  if (found == table->keys_.end() || found->second.size() > room) return 0;
  delete static_cast<std::string*>(SSL_get_ex_data(connection, identitySlot()));
  SSL_set_ex_data(connection, identitySlot(), new std::string(identity));
  std::memcpy(key, found->second.data(), found->second.size());
  return static_cast<unsigned int>(found->second.size());
}

std::string PskTable::identityOf(const SSL* connection) {
  const auto* identity =
      static_cast<const std::string*>(SSL_get_ex_data(connection, identitySlot()));
  return identity == nullptr ? std::string() : *identity;
}

}  // namespace polylog
