// TLS between a connection and its session (core/net/layer.h). OpenSSL reads ciphertext where the
// connection has received it and writes it into the connection's output: it never waits, and there
// is no buffer of our own in between. What the session sends in a round is gathered into records.
//
// Of a connection that we have made (TlsKeys::forClient()) the same holds with the sides exchanged:
// the layer begins the handshake, and who the server is has been verified when it is through.
//
// The session is made when the handshake is through, the client's certificate (if asked for)
// verified and told by identity(). The handshake counts against the connection's handshake deadline
// and budget. There is no renegotiation and no early data.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>

#include "core/net/layer.h"
#include "core/net/tls_context.h"

namespace polylog {

/// Wraps `inner` in TLS by what `context` has loaded when a connection is made.
SessionFactory tlsSessions(std::shared_ptr<const TlsContext> context, const LayerLimits& limits,
                           SessionFactory inner);

class TlsLayer final : public DecodingLayer {
 public:
  TlsLayer(Transport& lower, UpperFactory makeUpper, const LayerLimits& limits,
           std::shared_ptr<const TlsKeys> keys);
  ~TlsLayer() override;
  TlsLayer(const TlsLayer&) = delete;
  TlsLayer& operator=(const TlsLayer&) = delete;

  size_t onBytes(const SharedBytes& input) override;
  void onClosed(std::string_view why) override;

  void send(BytesView bytes) override;
  void send(SharedBytes bytes) override;
  size_t unsent() const override { return plain_.size() + Layer::unsent(); }
  PeerIdentityRef identity() const override { return identity_; }

 protected:
  void sayGoodbye() override;
  void decodeHeld() override;
  bool holdsInput() const override;

 private:
  friend struct TlsBio;

  void shakeHands();
  void gathered();
  void encrypt();
  /// Closes for what OpenSSL found last.
  void onFailure();
  void onFailure(std::string why);

  std::shared_ptr<const TlsKeys> keys_;
  SSL* ssl_;
  BytesView source_;   // what is left of the input that onBytes() was called with
  OutputQueue plain_;  // what is sent but not encrypted yet
  PeerIdentityRef identity_;
  bool established_ = false;
  bool failed_ = false;
  bool decrypting_ = false;
  bool flooded_ = false;
  bool encryptScheduled_ = false;
};

}  // namespace polylog
