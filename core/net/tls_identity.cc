#include "core/net/tls_identity.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace polylog {
namespace {

/// Alternative names beyond that many are left out.
constexpr int kMaxNames = 64;

/// Empty if it has a NUL: what compares names as C strings would take it for another one.
std::string textOf(const ASN1_STRING* string) {
  unsigned char* utf8 = nullptr;
  int size = ASN1_STRING_to_UTF8(&utf8, string);
  if (size < 0) return {};
  std::string text(reinterpret_cast<char*>(utf8), static_cast<size_t>(size));
  OPENSSL_free(utf8);
  return text.find('\0') == std::string::npos ? text : std::string();
}

std::string subjectOf(X509* certificate) {
  BIO* out = BIO_new(BIO_s_mem());
  X509_NAME_print_ex(out, X509_get_subject_name(certificate), 0,
                     XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB));
  char* data = nullptr;
  long size = BIO_get_mem_data(out, &data);
  std::string text(data, static_cast<size_t>(std::max(size, 0L)));
  BIO_free(out);
  return text;
}

std::string commonNameOf(X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  int last = -1;
  for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) last = at;
  if (last < 0) return {};
  return textOf(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)));
}

std::string addressOf(const ASN1_OCTET_STRING* octets) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  int family = ASN1_STRING_length(octets) == 4 ? AF_INET : AF_INET6;
  if (family == AF_INET6 && ASN1_STRING_length(octets) != 16) return {};
  inet_ntop(family, ASN1_STRING_get0_data(octets), text.data(), text.size());
  return text.data();
}

std::string nameOf(const GENERAL_NAME* name) {
  auto typed = [](const char* type, std::string text) {
    return text.empty() ? text : fmt::format("{}:{}", type, text);
  };
  switch (name->type) {
    case GEN_DNS: return typed("DNS", textOf(name->d.dNSName));
    case GEN_URI: return typed("URI", textOf(name->d.uniformResourceIdentifier));
    case GEN_EMAIL: return typed("email", textOf(name->d.rfc822Name));
    case GEN_IPADD: return typed("IP", addressOf(name->d.iPAddress));
    default: return {};
  }
}

std::vector<std::string> alternativeNamesOf(X509* certificate) {
  std::vector<std::string> names;
  auto* all = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(all) && i < kMaxNames; ++i) {
    std::string name = nameOf(sk_GENERAL_NAME_value(all, i));
    if (!name.empty()) names.push_back(std::move(name));
  }
  GENERAL_NAMES_free(all);
  return names;
}

}  // namespace

PeerIdentity identityOf(X509* certificate) {
  PeerIdentity identity;
  identity.subject = subjectOf(certificate);
  identity.commonName = commonNameOf(certificate);
  identity.alternativeNames = alternativeNamesOf(certificate);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  X509_digest(certificate, EVP_sha256(), digest.data(), &size);
  for (unsigned int i = 0; i < size; ++i) identity.fingerprint += fmt::format("{:02x}", digest[i]);
  return identity;
}

std::string userOf(const PeerIdentity& identity, TlsOptions::UserFrom from) {
  using From = TlsOptions::UserFrom;
  auto alternative = [&](std::string_view type) -> std::string {
    for (const std::string& name : identity.alternativeNames) {
      if (name.starts_with(type)) return name.substr(type.size());
    }
    return {};
  };
  switch (from) {
    case From::kNothing: break;
    case From::kCommonName: return identity.commonName;
    case From::kDistinguishedName: return identity.subject;
    case From::kDns: return alternative("DNS:");
    case From::kEmail: return alternative("email:");
    case From::kUri: return alternative("URI:");
  }
  return {};
}

Result<PeerIdentityRef> identityOf(const SSL* connection, TlsOptions::UserFrom userFrom) {
  X509* certificate = SSL_get0_peer_certificate(connection);
  if (certificate == nullptr || SSL_get_verify_result(connection) != X509_V_OK) return nullptr;
  auto identity = std::make_shared<PeerIdentity>(identityOf(certificate));
  identity->user = userOf(*identity, userFrom);
  if (identity->user.empty() && userFrom != TlsOptions::UserFrom::kNothing) {
    return fail(ErrorKind::kUnauthorized,
                "the client's certificate has no name of the kind that tls.user_from takes");
  }
  return identity;
}

}  // namespace polylog
