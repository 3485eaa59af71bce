// A certificate authority of a test's own: keys, certificates and lists of revoked ones as PEM
// files in a directory that goes with it.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <string>
#include <vector>

namespace polylog::test {

struct CertificateFiles {
  std::string certificate;
  std::string key;
};

class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "Test CA");
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  /// The authority's certificate.
  const std::string& file() const { return file_; }
  const std::string& directory() const { return directory_; }
  /// A certificate for `commonName` with alternative names as OpenSSL writes them
  /// ("DNS:a.example,IP:127.0.0.1"), written to `fileName`.crt and .key.
  CertificateFiles issue(const std::string& fileName, const std::string& commonName,
                         const std::string& alternativeNames, long validSeconds = 3600);
  /// A file with the list of the revoked, of the authority's `certificates` so far.
  std::string revoke(const std::string& fileName, const std::vector<std::string>& certificates);
  /// Writes `text` to a file in the directory; returns its path.
  std::string write(const std::string& fileName, const std::string& text);

 private:
  std::string directory_;
  std::string file_;
  EVP_PKEY* key_ = nullptr;
  X509* certificate_ = nullptr;
  long serial_ = 1;
};

}  // namespace polylog::test
