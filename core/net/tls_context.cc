#include "core/net/tls_context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/base/log.h"
#include "core/net/tls_identity.h"
#include "core/net/tls_psk.h"

namespace polylog {
namespace {

/// What a client's certificate chain may take in a handshake.
constexpr long kMaxClientChain = long{32} * 1024;
constexpr unsigned char kSessionId[] = "polylog";

template <auto kFree>
struct Freer {
  template <class T>
  void operator()(T* what) const {
    kFree(what);
  }
};
using ContextPtr = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free>>;
using CrlPtr = std::unique_ptr<X509_CRL, Freer<X509_CRL_free>>;

std::unexpected<Error> wrong(std::string_view key, std::string_view value, std::string_view why) {
  return fail(ErrorKind::kInvalid, fmt::format("`{}: {}`: {}", key, value, why));
}

/// Never asks at the terminal, as OpenSSL would.
int noPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

Result<> readable(std::string_view key, const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) {
    return wrong(key, path, fmt::format("can't be read: {}", std::strerror(errno)));
  }
  std::fclose(file);
  return {};
}

Result<> useCertificate(SSL_CTX* context, const std::string& path) {
  if (auto file = readable("tls.certificate", path); !file) return file;
  if (SSL_CTX_use_certificate_chain_file(context, path.c_str()) != 1) {
    return wrong("tls.certificate", path,
                 fmt::format("holds no usable certificate ({}); give a PEM file with the server's "
                             "certificate first, then its chain",
                             takeTlsError()));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(SSL_CTX_get0_certificate(context))) < 0) {
    logWarning(fmt::format("`tls.certificate: {}` has expired: clients will refuse it", path));
  }
  return {};
}

Result<> useKey(SSL_CTX* context, const std::string& path, const std::string& certificate) {
  if (auto file = readable("tls.key", path); !file) return file;
  bool passphrase = false;
  SSL_CTX_set_default_passwd_cb(context, noPassphrase);
  SSL_CTX_set_default_passwd_cb_userdata(context, &passphrase);
  bool used = SSL_CTX_use_PrivateKey_file(context, path.c_str(), SSL_FILETYPE_PEM) == 1;
  SSL_CTX_set_default_passwd_cb_userdata(context, nullptr);
  SSL_CTX_set_default_passwd_cb(context, nullptr);
  std::string why = takeTlsError();
  if (passphrase) {
    return wrong("tls.key", path,
                 "asks for a passphrase; give a key without one (openssl pkey -in KEY -out PLAIN), "
                 "in a file that only the broker's user can read");
  }
  if (!used) {
    return wrong("tls.key", path,
                 fmt::format("is no private key of the certificate {} ({}); give the PEM file of "
                             "the key that it was made with",
                             certificate, why));
  }
  return {};
}

Result<> useCa(SSL_CTX* context, const TlsOptions& options) {
  if (auto file = readable("tls.ca", options.ca); !file) return file;
  STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(options.ca.c_str());
  if (names == nullptr ||
      SSL_CTX_load_verify_locations(context, options.ca.c_str(), nullptr) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return wrong("tls.ca", options.ca,
                 fmt::format("holds no certificate ({}); give a PEM file of the CAs that sign "
                             "clients' certificates",
                             takeTlsError()));
  }
  SSL_CTX_set_client_CA_list(context, names);
  bool required = options.clients == TlsOptions::Clients::kRequired;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  return {};
}

Result<> useCrl(SSL_CTX* context, const std::string& path) {
  if (auto file = readable("tls.crl", path); !file) return file;
  BioPtr file(BIO_new_file(path.c_str(), "r"));
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  int lists = 0;
  for (;;) {
    CrlPtr list(PEM_read_bio_X509_CRL(file.get(), nullptr, nullptr, nullptr));
    if (list == nullptr) break;
    if (X509_STORE_add_crl(store, list.get()) == 1) ++lists;
  }
  // The end of the file shows as an error too; what lies broken behind a good list must not pass.
  auto last = ERR_peek_last_error();
  bool atEnd = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
  std::string why = takeTlsError();
  if (lists == 0 || !atEnd) {
    return wrong("tls.crl", path,
                 fmt::format("is no list of revoked certificates ({}); give a PEM file with the "
                             "list (X509 CRL) of each CA in tls.ca",
                             why));
  }
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  return {};
}

Result<> useCiphers(SSL_CTX* context, const TlsOptions& options) {
  if (!options.ciphers.empty() && SSL_CTX_set_cipher_list(context, options.ciphers.c_str()) != 1) {
    takeTlsError();
    return wrong("tls.ciphers", options.ciphers,
                 "names no cipher that there is; `openssl ciphers -v` lists them");
  }
  if (!options.ciphersuites.empty() &&
      SSL_CTX_set_ciphersuites(context, options.ciphersuites.c_str()) != 1) {
    takeTlsError();
    return wrong("tls.ciphersuites", options.ciphersuites,
                 "names no cipher suite that there is; `openssl ciphers -v -s -tls1_3` lists them");
  }
  return {};
}

void setRules(SSL_CTX* context, const TlsOptions& options) {
  SSL_CTX_set_min_proto_version(
      context, options.minVersion == TlsOptions::Version::k13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // An idle connection keeps no record buffers.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_max_cert_list(context, kMaxClientChain);
  // Resumption by tickets, which the clients keep: nothing grows here.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 1);
  SSL_CTX_set_session_id_context(context, kSessionId, sizeof kSessionId - 1);
}

/// The certificate with that number, its key, and what clients' certificates are verified with.
Result<> useFiles(SSL_CTX* context, const TlsOptions& options, size_t which) {
  const std::string& certificate = options.certificates[which];
  const std::string& key = options.keys.empty() ? certificate : options.keys[which];
  if (auto used = useCertificate(context, certificate); !used) return used;
  if (auto used = useKey(context, key, certificate); !used) return used;
  if (options.clients != TlsOptions::Clients::kNone) {
    if (auto used = useCa(context, options); !used) return used;
  }
  return options.crl.empty() ? Result<>() : useCrl(context, options.crl);
}

Result<ContextPtr> makeContext(const TlsOptions& options) {
  ContextPtr context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return fail(ErrorKind::kInternal, "TLS: " + takeTlsError());
  setRules(context.get(), options);
  if (auto used = useCiphers(context.get(), options); !used) return std::unexpected(used.error());
  return context;
}

Result<ContextPtr> makeContext(const TlsOptions& options, size_t which) {
  auto context = makeContext(options);
  if (!context) return context;
  if (auto used = useFiles(context->get(), options, which); !used) {
    return std::unexpected(used.error());
  }
  return context;
}

/// What doesn't hold together, before any file is read.
Result<> checkOptions(const TlsOptions& options) {
  using Clients = TlsOptions::Clients;
  if (!options.pskFile.empty()) {
    const bool both = !options.certificates.empty() || !options.keys.empty() ||
                      options.clients != Clients::kNone || !options.ca.empty() ||
                      !options.crl.empty() || options.userFrom != TlsOptions::UserFrom::kNothing;
    if (!both) return {};
    return wrong("tls.psk_file", options.pskFile,
                 "a listener has pre-shared keys or certificates, not both: give the file to a "
                 "listener of its own (mqtts=HOST:PORT tls.psk_file=FILE)");
  }
  if (options.certificates.empty()) {
    return fail(ErrorKind::kInvalid,
                "`tls.certificate` is missing: give the PEM file of the server's certificate, and "
                "`tls.key` for its private key");
  }
  if (!options.keys.empty() && options.keys.size() != options.certificates.size()) {
    return wrong("tls.key", fmt::format("{}", fmt::join(options.keys, ", ")),
                 fmt::format("there are {} keys for {} certificates: give as many, in the same "
                             "order, or none if each stands in its certificate's file",
                             options.keys.size(), options.certificates.size()));
  }
  if (options.clients != Clients::kNone && options.ca.empty()) {
    return wrong(
        "tls.client_certificates", options.clients == Clients::kRequired ? "required" : "optional",
        "`tls.ca` is missing: give the PEM file of the CAs that sign clients' certificates");
  }
  if (options.clients == Clients::kNone && !options.ca.empty()) {
    return wrong("tls.ca", options.ca,
                 "has no effect while clients aren't asked for certificates: set "
                 "`tls.client_certificates` to optional or required, or leave it out");
  }
  if (options.clients == Clients::kNone && !options.crl.empty()) {
    return wrong("tls.crl", options.crl,
                 "has no effect while clients aren't asked for certificates: set "
                 "`tls.client_certificates` to optional or required, or leave it out");
  }
  if (options.clients == Clients::kNone && options.userFrom != TlsOptions::UserFrom::kNothing) {
    return fail(ErrorKind::kInvalid,
                "`tls.user_from` has no effect while clients aren't asked for certificates: set "
                "`tls.client_certificates` to optional or required, or leave it out");
  }
  return {};
}

class LoadedKeys final : public TlsKeys {
 public:
  static Result<std::shared_ptr<const TlsKeys>> load(const TlsOptions& options);

  explicit LoadedKeys(TlsOptions::UserFrom userFrom) : userFrom_(userFrom) {}

  SSL* makeConnection() const override { return SSL_new(contexts_.front().get()); }
  Result<PeerIdentityRef> identify(const SSL* connection) const override {
    if (psk_) {
      auto identity = std::make_shared<PeerIdentity>();
      identity->user = PskTable::identityOf(connection);
      if (identity->user.empty()) return fail(ErrorKind::kUnauthorized, "no pre-shared key");
      return identity;
    }
    return identityOf(connection, userFrom_);
  }

 private:
  static int chooseByName(SSL* connection, int* /*alert*/, void* self);

  const TlsOptions::UserFrom userFrom_;
  std::unique_ptr<const PskTable> psk_;  ///< outlives the contexts
  std::vector<ContextPtr> contexts_;
};

Result<std::shared_ptr<const TlsKeys>> LoadedKeys::load(const TlsOptions& options) {
  if (auto sound = checkOptions(options); !sound) return std::unexpected(sound.error());
  auto loaded = std::make_shared<LoadedKeys>(options.userFrom);
  if (!options.pskFile.empty()) {
    auto table = PskTable::load(options.pskFile);
    if (!table) return std::unexpected(table.error());
    loaded->psk_ = *std::move(table);
    auto context = makeContext(options);
    if (!context) return std::unexpected(context.error());
    loaded->psk_->serve(context->get());
    loaded->contexts_.push_back(*std::move(context));
  }
  for (size_t i = 0; i < options.certificates.size(); ++i) {
    auto context = makeContext(options, i);
    if (!context) return std::unexpected(context.error());
    loaded->contexts_.push_back(*std::move(context));
  }
  if (loaded->contexts_.size() > 1) {
    SSL_CTX* first = loaded->contexts_.front().get();
    SSL_CTX_set_tlsext_servername_callback(first, &LoadedKeys::chooseByName);
    SSL_CTX_set_tlsext_servername_arg(first, loaded.get());
  }
  return loaded;
}

int LoadedKeys::chooseByName(SSL* connection, int* /*alert*/, void* self) {
  const char* name = SSL_get_servername(connection, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
  for (const ContextPtr& each : static_cast<LoadedKeys*>(self)->contexts_) {
    if (X509_check_host(SSL_CTX_get0_certificate(each.get()), name, 0, 0, nullptr) == 1) {
      SSL_set_SSL_CTX(connection, each.get());
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_NOACK;
}

}  // namespace

Result<std::shared_ptr<TlsContext>> TlsContext::load(TlsOptions options) {
  std::shared_ptr<TlsContext> context(new TlsContext(std::move(options)));
  if (auto loaded = context->reload(); !loaded) return std::unexpected(loaded.error());
  return context;
}

Result<> TlsContext::reload() {
  auto keys = LoadedKeys::load(options_);
  if (!keys) return std::unexpected(keys.error());
  std::lock_guard lock(mutex_);
  keys_ = *std::move(keys);
  return {};
}

std::shared_ptr<const TlsKeys> TlsContext::current() const {
  std::lock_guard lock(mutex_);
  return keys_;
}

std::string takeTlsError() {
  auto code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  std::string text = reason != nullptr ? reason
                     : code != 0       ? fmt::format("{:#x}", code)
                                       : "no reason given";
  ERR_clear_error();
  return text;
}

}  // namespace polylog
