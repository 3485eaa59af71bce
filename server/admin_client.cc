#include "server/admin_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <cstdlib>

#include "core/base/json_value.h"

namespace polylog::server {
namespace {

constexpr long kTimeoutSeconds = 90;

size_t collect(char* data, size_t size, size_t count, void* into) {
  static_cast<std::string*>(into)->append(data, size * count);
  return size * count;
}

std::string errorText(const std::string& body) {
  auto document = JsonValue::parse(body);
  const JsonValue* error = document ? document->find("error") : nullptr;
  if (error != nullptr && error->text() != nullptr) return *error->text();
  return body.empty() ? "no reason given" : body;
}

}  // namespace

AdminClient::AdminClient(std::string url) : url_(std::move(url)), curl_(curl_easy_init()) {
  while (url_.ends_with('/')) url_.pop_back();
}

AdminClient::~AdminClient() {
  if (curl_ != nullptr) curl_easy_cleanup(curl_);
}

Result<std::string> AdminClient::request(const std::string& method, const std::string& path,
                                         const std::string& body) {
  CURL* curl = curl_;
  if (curl == nullptr) return fail(ErrorKind::kInternal, "libcurl can't be set up");
  std::string url = url_ + path;
  std::string answer;
  curl_easy_reset(curl);  // options; the connection stays
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  // A proxy for the outside world has no business with this machine's own broker.
  curl_easy_setopt(curl, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, kTimeoutSeconds);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  if (const char* user = std::getenv("POLYLOG_USER")) {
    const char* password = std::getenv("POLYLOG_PASSWORD");
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
    curl_easy_setopt(curl, CURLOPT_USERNAME, user);
    curl_easy_setopt(curl, CURLOPT_PASSWORD, password == nullptr ? "" : password);
  }
  if (method == "POST") {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  }
  if (CURLcode code = curl_easy_perform(curl); code != CURLE_OK) {
    return fail(ErrorKind::kIo,
                fmt::format("can't reach the broker at {}: {}; is it running, and is its admin "
                            "listener there (--admin URL)?",
                            url_, curl_easy_strerror(code)));
  }
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 300) {
    return fail(status == 404 ? ErrorKind::kNotFound : ErrorKind::kInvalid,
                fmt::format("{} (the broker at {} answered {})", errorText(answer), url_, status));
  }
  return answer;
}

std::string encoded(std::string_view text) {
  std::string out;
  for (char c : text) {
    auto octet = static_cast<unsigned char>(c);
    bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                 c == '-' || c == '.' || c == '_' || c == '~';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", octet);
  }
  return out;
}

}  // namespace polylog::server
