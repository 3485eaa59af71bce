// A TLS client of OpenSSL's over plain blocking sockets, or over two strings, for tests.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/loopback.h"

namespace polylog::test {

struct TlsClientOptions {
  std::string ca{};           ///< empty = the server isn't verified
  std::string certificate{};  ///< empty = none is shown
  std::string key{};
  std::string serverName{};
  std::string pskIdentity{};  ///< with `psk` in place of certificates
  std::string psk{};
  int maxVersion = 0;
  SSL_SESSION* resume = nullptr;
};

/// The client's side of a connection, whatever carries it.
class TlsClient {
 public:
  explicit TlsClient(const TlsClientOptions& options) : context_(SSL_CTX_new(TLS_client_method())) {
    if (!options.ca.empty()) {
      SSL_CTX_load_verify_locations(context_, options.ca.c_str(), nullptr);
      SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    }
    if (!options.certificate.empty()) {
      SSL_CTX_use_certificate_chain_file(context_, options.certificate.c_str());
      SSL_CTX_use_PrivateKey_file(context_, options.key.c_str(), SSL_FILETYPE_PEM);
    }
    if (options.maxVersion != 0) SSL_CTX_set_max_proto_version(context_, options.maxVersion);
    if (!options.psk.empty()) SSL_CTX_set_psk_client_callback(context_, &TlsClient::takePsk);
    ssl_ = SSL_new(context_);
    identity_ = options.pskIdentity;
    psk_ = options.psk;
    SSL_set_app_data(ssl_, this);
    if (!options.serverName.empty()) SSL_set_tlsext_host_name(ssl_, options.serverName.c_str());
    if (options.resume != nullptr) SSL_set_session(ssl_, options.resume);
    SSL_set_connect_state(ssl_);
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    ERR_clear_error();
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  SSL* ssl() { return ssl_; }
  /// The common name in the server's certificate.
  std::string serverName() {
    char text[256] = "";
    X509* certificate = SSL_get0_peer_certificate(ssl_);
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text,
                              sizeof text);
    return text;
  }

 private:
  static unsigned int takePsk(SSL* ssl, const char* /*hint*/, char* identity, unsigned int room,
                              unsigned char* key, unsigned int keyRoom) {
    const auto* self = static_cast<const TlsClient*>(SSL_get_app_data(ssl));
    if (self->identity_.size() >= room || self->psk_.size() > keyRoom) return 0;
    std::memcpy(identity, self->identity_.c_str(), self->identity_.size() + 1);
    std::memcpy(key, self->psk_.data(), self->psk_.size());
    return static_cast<unsigned int>(self->psk_.size());
  }

  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  std::string identity_;
  std::string psk_;
};

/// Over a socket.
class TlsSocket : public TlsClient {
 public:
  TlsSocket(const HostPort& address, const TlsClientOptions& options)
      : TlsClient(options), socket_(address) {
    SSL_set_fd(ssl(), socket_.descriptor());
  }
  /// With TLS 1.3 a server that refuses the client's certificate says so only when asked to read.
  bool handshake() { return SSL_do_handshake(ssl()) == 1; }
  bool send(std::string_view bytes) {
    size_t written = 0;
    return SSL_write_ex(ssl(), bytes.data(), bytes.size(), &written) == 1;
  }
  std::string read(size_t size) {
    std::string out(size, '\0');
    size_t have = 0;
    while (have < size) {
      size_t got = 0;
      int result = SSL_read_ex(ssl(), out.data() + have, size - have, &got);
      if (result != 1) {
        status_ = SSL_get_error(ssl(), result);
        break;
      }
      have += got;
    }
    out.resize(have);
    return out;
  }
  /// How the last read ended: SSL_ERROR_ZERO_RETURN after a proper good-bye.
  int status() const { return status_; }
  LoopbackClient& socket() { return socket_; }

 private:
  LoopbackClient socket_;
  int status_ = SSL_ERROR_NONE;
};

/// Over two strings that the test carries to and fro.
class TlsStrings : public TlsClient {
 public:
  explicit TlsStrings(const TlsClientOptions& options) : TlsClient(options) {
    SSL_set_bio(ssl(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  }
  /// What it has to say next.
  std::string take() {
    std::string out(BIO_ctrl_pending(SSL_get_wbio(ssl())), '\0');
    if (!out.empty()) BIO_read(SSL_get_wbio(ssl()), out.data(), static_cast<int>(out.size()));
    return out;
  }
  void give(std::string_view bytes) {
    if (!bytes.empty())
      BIO_write(SSL_get_rbio(ssl()), bytes.data(), static_cast<int>(bytes.size()));
  }
  bool handshake() { return SSL_do_handshake(ssl()) == 1; }
  void send(std::string_view bytes) {
    size_t written = 0;
    SSL_write_ex(ssl(), bytes.data(), bytes.size(), &written);
  }
  std::string read() {
    std::string out(size_t{64} * 1024, '\0');
    size_t have = 0;
    size_t got = 0;
    while (have < out.size() &&
           SSL_read_ex(ssl(), out.data() + have, out.size() - have, &got) == 1) {
      have += got;
    }
    out.resize(have);
    return out;
  }
};

}  // namespace polylog::test
