#include "core/net/tls_layer.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/base/log.h"
#include "core/base/metrics.h"

namespace polylog {
namespace {

/// The most that a TLS record holds.
constexpr size_t kRecord = 16 * 1024;

Metric& handshakeFailures() {
  static Metric& metric =
      counter("polylog_tls_handshake_failures_total", "TLS handshakes that failed");
  return metric;
}

}  // namespace

/// The layer as OpenSSL's BIO: reads from the layer's input, writes to the connection's output.
struct TlsBio {
  static int read(BIO* bio, char* out, size_t size, size_t* got) {
    auto* self = static_cast<TlsLayer*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    *got = std::min(size, self->source_.size());
    if (*got == 0) {
      BIO_set_retry_read(bio);
      return 0;
    }
    std::memcpy(out, self->source_.data(), *got);
    self->source_.remove_prefix(*got);
    return 1;
  }

  static int write(BIO* bio, const char* from, size_t size, size_t* taken) {
    auto* self = static_cast<TlsLayer*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    // What TLS answers of its own accord (key updates, that it doesn't renegotiate) would pile up
    // without bound if the peer goes on asking and reads nothing.
    if (self->decrypting_ && self->lower().congested()) {
      self->flooded_ = true;
      return 0;
    }
    self->lower().send(BytesView(from, size));
    *taken = size;
    return 1;
  }

  static long control(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static const BIO_METHOD* method() {
    static const BIO_METHOD* made = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
      if (method == nullptr) throw std::bad_alloc();
      BIO_meth_set_read_ex(method, &TlsBio::read);
      BIO_meth_set_write_ex(method, &TlsBio::write);
      BIO_meth_set_ctrl(method, &TlsBio::control);
      return method;
    }();
    return made;
  }
};

SessionFactory tlsSessions(std::shared_ptr<const TlsContext> context, const LayerLimits& limits,
                           SessionFactory inner) {
  auto upper = std::make_shared<const SessionFactory>(std::move(inner));
  return [context = std::move(context), limits, upper](Transport& lower) {
    return std::make_unique<TlsLayer>(lower, upper, limits, context->current());
  };
}

TlsLayer::TlsLayer(Transport& lower, UpperFactory makeUpper, const LayerLimits& limits,
                   std::shared_ptr<const TlsKeys> keys)
    : DecodingLayer(lower, std::move(makeUpper), limits),
      keys_(std::move(keys)),
      ssl_(keys_->makeConnection()) {
  BIO* bio = ssl_ == nullptr ? nullptr : BIO_new(TlsBio::method());
  if (bio == nullptr) {
    SSL_free(ssl_);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  if (keys_->forClient()) {
    SSL_set_connect_state(ssl_);
    shakeHands();
  } else {
    SSL_set_accept_state(ssl_);
  }
}

TlsLayer::~TlsLayer() {
  SSL_free(ssl_);
}

// ---- From the peer

size_t TlsLayer::onBytes(const SharedBytes& input) {
  source_ = input.view();
  if (!established_) shakeHands();
  if (established_ && open()) decodeHeld();
  size_t used = input.size() - source_.size();
  source_ = {};
  return used;
}

void TlsLayer::shakeHands() {
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    auto who = keys_->identify(ssl_);
    if (!who) return onFailure(who.error().text);
    established_ = true;
    identity_ = *std::move(who);
    return openUpper();
  }
  if (SSL_get_error(ssl_, result) != SSL_ERROR_WANT_READ) onFailure();
}

void TlsLayer::decodeHeld() {
  while (open() && !paused()) {
    InputBuffer::Room into = room();
    size_t filled = 0;
    int status = SSL_ERROR_NONE;
    decrypting_ = true;
    while (filled < into.size) {
      size_t got = 0;
      ERR_clear_error();
      int result = SSL_read_ex(ssl_, into.data + filled, into.size - filled, &got);
      if (result != 1) {
        status = SSL_get_error(ssl_, result);
        break;
      }
      filled += got;
    }
    decrypting_ = false;
    if (flooded_ || status == SSL_ERROR_SSL || status == SSL_ERROR_SYSCALL) return onFailure();
    if (filled > 0) deliver(filled);
    if (status == SSL_ERROR_WANT_READ) return rest();
    // Reported again when the session reads again, if it has paused.
    if (status == SSL_ERROR_ZERO_RETURN && !paused()) return close("closed by the peer");
  }
}

bool TlsLayer::holdsInput() const {
  return SSL_has_pending(ssl_) == 1 || (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0;
}

void TlsLayer::onFailure() {
  long verified = SSL_get_verify_result(ssl_);
  std::string why = flooded_ ? "it sends but doesn't read" : takeTlsError();
  if (!flooded_ && !established_ && verified != X509_V_OK) {
    why = fmt::format("the {}'s certificate: {}", keys_->forClient() ? "server" : "client",
                      X509_verify_cert_error_string(verified));
  }
  onFailure(std::move(why));
}

void TlsLayer::onFailure(std::string why) {
  if (failed_) return;
  failed_ = true;
  ERR_clear_error();
  why = fmt::format("TLS {}: {}", established_ ? "failed" : "handshake failed", why);
  if (!established_) {
    handshakeFailures().add();
    logInfo(fmt::format("{}: {}", peer(), why));
  }
  close(why);
}

void TlsLayer::onClosed(std::string_view why) {
  if (!established_ && !failed_) {
    handshakeFailures().add();
    logDebug(fmt::format("{}: TLS handshake: {}", peer(), why));
  }
  Layer::onClosed(why);
}

// ---- To the peer

void TlsLayer::send(BytesView bytes) {
  if (!open() || bytes.empty()) return;
  plain_.append(bytes);
  gathered();
}

void TlsLayer::send(SharedBytes bytes) {
  if (!open() || bytes.empty()) return;
  plain_.append(bytes);
  gathered();
}

void TlsLayer::gathered() {
  if (plain_.size() >= kRecord) return encrypt();
  if (encryptScheduled_) return;
  encryptScheduled_ = true;
  afterRound([this] {
    encryptScheduled_ = false;
    if (open()) encrypt();
  });
}

void TlsLayer::encrypt() {
  while (!plain_.empty() && !failed_) {
    iovec piece{};
    plain_.gather(&piece, 1);
    size_t written = 0;
    ERR_clear_error();
    if (SSL_write_ex(ssl_, piece.iov_base, piece.iov_len, &written) != 1) return onFailure();
    plain_.consume(written);
  }
}

void TlsLayer::sayGoodbye() {
  if (!established_ || failed_) return;
  encrypt();
  ERR_clear_error();
  SSL_shutdown(ssl_);  // close_notify
  ERR_clear_error();
}

}  // namespace polylog
