#include "core/net/tls_client.h"

#include <fmt/format.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/net/tls_layer.h"

namespace polylog {
namespace {

int noPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*nobody*/) {
  return -1;  // never asks at the terminal
}

std::unexpected<Error> wrong(const TlsClientOptions& options, std::string_view key,
                             const std::string& path, std::string_view why) {
  return fail(ErrorKind::kInvalid,
              fmt::format("`{}{}: {}`: {}", options.keyPrefix, key, path, why));
}

Result<> readable(const TlsClientOptions& options, std::string_view key, const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) {
    return wrong(options, key, path, fmt::format("can't be read: {}", std::strerror(errno)));
  }
  std::fclose(file);
  return {};
}

Result<> useCa(SSL_CTX* context, const TlsClientOptions& options) {
  if (options.ca.empty()) {
    SSL_CTX_set_default_verify_paths(context);
    takeTlsError();
    return {};
  }
  if (auto file = readable(options, "tls.ca", options.ca); !file) return file;
  if (SSL_CTX_load_verify_locations(context, options.ca.c_str(), nullptr) == 1) return {};
  return wrong(options, "tls.ca", options.ca,
               fmt::format("holds no certificate ({}); give a PEM file of the CAs that sign the "
                           "server's",
                           takeTlsError()));
}

Result<> useOwn(SSL_CTX* context, const TlsClientOptions& options) {
  if (options.certificate.empty()) {
    if (options.key.empty()) return {};
    return wrong(options, "tls.key", options.key,
                 "has no effect without `tls.certificate`: give that too, or leave it out");
  }
  if (auto file = readable(options, "tls.certificate", options.certificate); !file) return file;
  if (SSL_CTX_use_certificate_chain_file(context, options.certificate.c_str()) != 1) {
    return wrong(options, "tls.certificate", options.certificate,
                 fmt::format("holds no usable certificate ({}); give a PEM file with the bridge's "
                             "certificate first, then its chain",
                             takeTlsError()));
  }
  const std::string& key = options.key.empty() ? options.certificate : options.key;
  if (auto file = readable(options, "tls.key", key); !file) return file;
  SSL_CTX_set_default_passwd_cb(context, noPassphrase);
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) == 1) return {};
  return wrong(
      options, "tls.key", key,
      fmt::format("is no private key of the certificate {} without a passphrase ({}); give "
                  "the PEM file of the key that it was made with",
                  options.certificate, takeTlsError()));
}

}  // namespace

struct OutgoingTls::Loaded {
  Loaded() : context(SSL_CTX_new(TLS_client_method())) {}
  ~Loaded() { SSL_CTX_free(context); }
  Loaded(const Loaded&) = delete;
  Loaded& operator=(const Loaded&) = delete;

  SSL_CTX* context;
};

class OutgoingTls::Keys final : public TlsKeys {
 public:
  Keys(std::shared_ptr<const Loaded> loaded, std::string host, bool verifyHost)
      : loaded_(std::move(loaded)), host_(std::move(host)), verifyHost_(verifyHost) {}

  SSL* makeConnection() const override {
    SSL* made = SSL_new(loaded_->context);
    if (made == nullptr) return nullptr;
    X509_VERIFY_PARAM* rules = SSL_get0_param(made);
    // An address is looked for among the certificate's addresses, and has no SNI (RFC 6066).
    const bool address = X509_VERIFY_PARAM_set1_ip_asc(rules, host_.c_str()) == 1;
    if (!address || !verifyHost_) X509_VERIFY_PARAM_set1_ip(rules, nullptr, 0);
    if (!address) SSL_set_tlsext_host_name(made, host_.c_str());
    if (!address && verifyHost_) {
      X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
      X509_VERIFY_PARAM_set1_host(rules, host_.c_str(), 0);
    }
    takeTlsError();
    return made;
  }
  bool forClient() const override { return true; }
  Result<PeerIdentityRef> identify(const SSL* /*connection*/) const override { return nullptr; }

 private:
  std::shared_ptr<const Loaded> loaded_;
  const std::string host_;
  const bool verifyHost_;
};

Result<std::shared_ptr<OutgoingTls>> OutgoingTls::load(TlsClientOptions options) {
  std::shared_ptr<OutgoingTls> client(new OutgoingTls(std::move(options)));
  if (auto loaded = client->reload(); !loaded) return std::unexpected(loaded.error());
  return client;
}

Result<> OutgoingTls::reload() {
  auto loaded = std::make_shared<Loaded>();
  SSL_CTX* context = loaded->context;
  if (context == nullptr) return fail(ErrorKind::kInternal, "TLS: " + takeTlsError());
  SSL_CTX_set_min_proto_version(
      context, options_.minVersion == TlsOptions::Version::k13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (auto used = useCa(context, options_); !used) return used;
  if (auto used = useOwn(context, options_); !used) return used;
  std::lock_guard lock(mutex_);
  loaded_ = std::move(loaded);
  return {};
}

SessionFactory OutgoingTls::sessions(const std::string& host, const LayerLimits& limits,
                                     SessionFactory inner) const {
  std::shared_ptr<const Loaded> loaded;
  {
    std::lock_guard lock(mutex_);
    loaded = loaded_;
  }
  auto keys = std::make_shared<const Keys>(std::move(loaded), host, options_.verifyHost);
  auto upper = std::make_shared<const SessionFactory>(std::move(inner));
  return [keys, limits, upper](Transport& lower) {
    return std::make_unique<TlsLayer>(lower, upper, limits, keys);
  };
}

}  // namespace polylog
