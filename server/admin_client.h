// A small HTTP client for the admin listener (over libcurl), for the command line.
#pragma once

#include <string>
#include <string_view>

#include "core/base/error.h"

namespace polylog::server {

class AdminClient {
 public:
  /// `url` is the admin listener's: "http://127.0.0.1:15672". Who asks is in the environment:
  /// POLYLOG_USER and POLYLOG_PASSWORD.
  explicit AdminClient(std::string url);
  ~AdminClient();
  AdminClient(const AdminClient&) = delete;
  AdminClient& operator=(const AdminClient&) = delete;

  /// The answer's body. The error names the URL and what the broker said; `path` is encoded by the
  /// caller, see encoded().
  Result<std::string> request(const std::string& method, const std::string& path,
                              const std::string& body = {});

 private:
  std::string url_;
  void* curl_;  ///< libcurl's handle: keeps the connection between requests
};

/// One path segment or query value, percent-encoded.
std::string encoded(std::string_view text);

}  // namespace polylog::server
