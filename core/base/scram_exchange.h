// The server's side of one SCRAM conversation (RFC 5802 section 5), without channel binding, for
// any protocol that carries SASL: MQTT 5's AUTH, Kafka's SaslAuthenticate. Texts in, texts out; no
// I/O, no thread of its own, cheap: the slow derivation is the client's. What comes in is hostile.
#pragma once

#include <optional>
#include <string>

#include "core/base/error.h"
#include "core/base/scram.h"

namespace polylog::scram {

/// The longest message taken from a client.
inline constexpr size_t kMaxMessage = 2048;

/// "n,,n=user,r=nonce". Names have their "=2C" and "=3D" undone.
struct ClientFirst {
  std::string gs2Header;  ///< "n,,"
  std::string bare;       ///< what follows it
  std::string user;
  std::string nonce;
};
/// kInvalid when malformed, kUnsupported for channel binding and mandatory extensions.
Result<ClientFirst> parseClientFirst(BytesView message);

/// "c=biws,r=nonce,p=proof". Views into the message.
struct ClientFinal {
  BytesView withoutProof;
  std::string binding;  ///< decoded
  BytesView nonce;
  std::string proof;  ///< decoded
};
Result<ClientFinal> parseClientFinal(BytesView message);

class ServerExchange {
 public:
  ServerExchange(Hash hash, Random& random) : hash_(hash), random_(random) {}

  /// Takes the client's first message; user() is known then, nothing is proved yet. kInvalid,
  /// kUnsupported.
  Result<> begin(BytesView clientFirst);
  const std::string& user() const { return first_.user; }
  Hash hash() const { return hash_; }
  /// The server's first message. `credential` is what proof is asked of: of a user that isn't
  /// there, one that nobody can prove.
  std::string challenge(Credential credential);
  /// The server's final message for a proof that holds; kUnauthorized for one that doesn't,
  /// kInvalid for a malformed message.
  Result<std::string> finish(BytesView clientFinal);

 private:
  Hash hash_;
  Random& random_;
  ClientFirst first_;
  Credential credential_;
  std::string nonce_;
  std::string serverFirst_;
};

}  // namespace polylog::scram
