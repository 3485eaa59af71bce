// The client's side of SCRAM, for tests: shares nothing with the server's but the arithmetic.
#pragma once

#include <string>

#include "core/base/scram.h"

namespace polylog::test {

struct ScramClient {
  std::string user;
  std::string password;
  scram::Hash hash = scram::Hash::kSha256;
  std::string nonce = "rOprNGfwEbeRWgbNEkqO";
  bool doubledNonce = false;
  std::string serverSignature = {};  ///< what the server has to prove itself with

  std::string bare() const { return "n=" + user + ",r=" + nonce; }
  std::string first() const { return "n,," + bare(); }

  static std::string field(const std::string& message, char letter) {
    size_t at = message.find(std::string(1, letter) + "=");
    return message.substr(at + 2, message.find(',', at) - at - 2);
  }

  std::string last(const std::string& serverFirst) {
    std::string salt = scram::fromBase64(field(serverFirst, 's')).value_or("");
    auto iterations = static_cast<uint32_t>(std::stoul(field(serverFirst, 'i')));
    std::string salted = scram::saltedPassword(hash, password, salt, iterations);
    std::string withoutProof = "c=biws,r=" + (doubledNonce ? nonce : "") + field(serverFirst, 'r');
    std::string message = bare() + "," + serverFirst + "," + withoutProof;
    std::string proof = scram::hmac(hash, salted, "Client Key");
    std::string signature = scram::hmac(hash, scram::storedKeyOf(hash, salted), message);
    for (size_t i = 0; i < proof.size(); ++i) {
      proof[i] = static_cast<char>(static_cast<unsigned char>(proof[i]) ^
                                   static_cast<unsigned char>(signature[i]));
    }
    serverSignature =
        "v=" + scram::toBase64(scram::hmac(hash, scram::hmac(hash, salted, "Server Key"), message));
    return withoutProof + ",p=" + scram::toBase64(proof);
  }
};

}  // namespace polylog::test
