#include "tests/support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace polylog::test {
namespace {

using File = std::unique_ptr<FILE, int (*)(FILE*)>;

File open(const std::string& path, const char* mode) {
  File file(std::fopen(path.c_str(), mode), std::fclose);
  if (file == nullptr) throw std::runtime_error("can't open " + path);
  return file;
}

void extend(X509* certificate, X509* issuer, int type, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, type, value.c_str());
  if (extension == nullptr) throw std::runtime_error("no extension of " + value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

X509* makeCertificate(EVP_PKEY* key, const std::string& commonName, long serial, long seconds) {
  X509* made = X509_new();
  X509_set_version(made, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(made), serial);
  X509_gmtime_adj(X509_getm_notBefore(made), -7200);
  X509_gmtime_adj(X509_getm_notAfter(made), seconds);
  X509_set_pubkey(made, key);
  auto add = [&](const char* field, const std::string& value) {
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), field, MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(value.data()),
                               static_cast<int>(value.size()), -1, 0);
  };
  add("O", "Example");
  add("CN", commonName);
  return made;
}

}  // namespace

TestAuthority::TestAuthority(const std::string& name) {
  std::string pattern = (std::filesystem::temp_directory_path() / "polylog-ca-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no directory " + pattern);
  directory_ = pattern;
  key_ = EVP_EC_gen("P-256");
  certificate_ = makeCertificate(key_, name, serial_++, 86'400);
  X509_set_issuer_name(certificate_, X509_get_subject_name(certificate_));
  extend(certificate_, certificate_, NID_basic_constraints, "critical,CA:TRUE");
  extend(certificate_, certificate_, NID_key_usage, "critical,keyCertSign,cRLSign");
  X509_sign(certificate_, key_, EVP_sha256());
  file_ = directory_ + "/ca.crt";
  PEM_write_X509(open(file_, "w").get(), certificate_);
}

TestAuthority::~TestAuthority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

CertificateFiles TestAuthority::issue(const std::string& fileName, const std::string& commonName,
                                      const std::string& alternativeNames, long validSeconds) {
  CertificateFiles files{directory_ + "/" + fileName + ".crt",
                         directory_ + "/" + fileName + ".key"};
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* made = makeCertificate(key, commonName, serial_++, validSeconds);
  X509_set_issuer_name(made, X509_get_subject_name(certificate_));
  if (!alternativeNames.empty()) {
    extend(made, certificate_, NID_subject_alt_name, alternativeNames);
  }
  X509_sign(made, key_, EVP_sha256());
  PEM_write_X509(open(files.certificate, "w").get(), made);
  PEM_write_PrivateKey(open(files.key, "w").get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  X509_free(made);
  EVP_PKEY_free(key);
  return files;
}

std::string TestAuthority::revoke(const std::string& fileName,
                                  const std::vector<std::string>& certificates) {
  X509_CRL* list = X509_CRL_new();
  X509_CRL_set_version(list, X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list, X509_get_subject_name(certificate_));
  ASN1_TIME* moment = ASN1_TIME_new();
  X509_gmtime_adj(moment, -60);
  X509_CRL_set1_lastUpdate(list, moment);
  for (const std::string& path : certificates) {
    X509* revoked = PEM_read_X509(open(path, "r").get(), nullptr, nullptr, nullptr);
    X509_REVOKED* entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked));
    X509_REVOKED_set_revocationDate(entry, moment);
    X509_CRL_add0_revoked(list, entry);
    X509_free(revoked);
  }
  X509_gmtime_adj(moment, 3600);
  X509_CRL_set1_nextUpdate(list, moment);
  ASN1_TIME_free(moment);
  X509_CRL_sort(list);
  X509_CRL_sign(list, key_, EVP_sha256());
  std::string path = directory_ + "/" + fileName;
  PEM_write_X509_CRL(open(path, "w").get(), list);
  X509_CRL_free(list);
  return path;
}

std::string TestAuthority::write(const std::string& fileName, const std::string& text) {
  std::string path = directory_ + "/" + fileName;
  std::ofstream(path) << text;
  return path;
}

}  // namespace polylog::test
