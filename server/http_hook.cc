#include "server/http_hook.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "core/base/json_value.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/base/scram.h"
#include "server/json.h"

namespace polylog::server {
namespace {

using Verdict = LoginHook::Verdict;
using Time = std::chrono::steady_clock::time_point;

constexpr size_t kMaxWaiting = 10'000;
constexpr size_t kMaxRemembered = 10'000;
constexpr size_t kMaxAnswer = size_t{64} * 1024;
constexpr std::chrono::seconds kLogEvery{10};
constexpr int kPollMillis = 1000;

Metric& asked(const char* result) {
  return counter("polylog_http_logins_total", "Logins that auth.http.url was asked about",
                 fmt::format("result=\"{}\"", result));
}

std::string bodyOf(const LoginPoint& point, const Credentials& credentials) {
  Json json;
  json.object([&] {
    json.field("protocol", protocolName(point.protocol));
    json.field("username", credentials.user);
    json.field("password", credentials.password);
    json.field("client_id", point.clientId);
    json.field("peer", point.peer);
  });
  return json.text();
}

/// The same question, but for the port that the client came from.
std::string questionOf(const LoginPoint& point, const Credentials& credentials) {
  std::string text;
  const std::string host = point.peer.substr(0, point.peer.rfind(':'));
  for (const std::string& part : {std::string(protocolName(point.protocol)), credentials.user,
                                  credentials.password, point.clientId, host}) {
    text += fmt::format("{}:", part.size()) + part;
  }
  return text;
}

/// One question on its way: a request of libcurl's, and what came back.
struct Request {
  std::string body;
  std::string key;  ///< to remember it by
  std::function<void(Verdict)> done;
  Time deadline;
  std::string answer{};
  CURL* curl = nullptr;

  Request(std::string theBody, std::string theKey, std::function<void(Verdict)> then, Time until)
      : body(std::move(theBody)), key(std::move(theKey)), done(std::move(then)), deadline(until) {}
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request() {
    if (curl != nullptr) curl_easy_cleanup(curl);
    std::ranges::fill(body, '\0');
  }
  static size_t collect(char* data, size_t size, size_t count, void* self) {
    std::string& answer = static_cast<Request*>(self)->answer;
    if (answer.size() + size * count > kMaxAnswer) return 0;
    answer.append(data, size * count);
    return size * count;
  }
};

/// Admitted logins by a keyed hash of the question; the oldest go first.
class Memory {
 public:
  explicit Memory(int64_t seconds) : seconds_(seconds) {}
  bool knows(const std::string& key, Time now) {
    auto found = until_.find(key);
    return found != until_.end() && now < found->second;
  }
  void remember(const std::string& key, Time now) {
    if (seconds_.count() == 0) return;
    if (until_.insert_or_assign(key, now + seconds_).second) order_.push_back(key);
    while (order_.size() > kMaxRemembered) {
      until_.erase(order_.front());
      order_.pop_front();
    }
  }

 private:
  const std::chrono::seconds seconds_;
  std::unordered_map<std::string, Time> until_;
  std::list<std::string> order_;
};

class HttpHook final : public LoginHook {
 public:
  explicit HttpHook(HttpHookOptions options)
      : options_(std::move(options)),
        key_(scram::randomOctets(systemRandom(), 32)),
        memory_(options_.cacheSeconds),
        multi_(curl_multi_init()) {
    curl_multi_setopt(multi_, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                      static_cast<long>(options_.maxConcurrent));
    headers_ = curl_slist_append(nullptr, "Content-Type: application/json");
    headers_ = curl_slist_append(headers_, "Expect:");
    thread_ = std::thread([this] { run(); });
  }
  ~HttpHook() override {
    stop();
    active_.clear();
    curl_multi_cleanup(multi_);
    curl_slist_free_all(headers_);
  }
  HttpHook(const HttpHook&) = delete;
  HttpHook& operator=(const HttpHook&) = delete;

  void ask(const LoginPoint& point, const Credentials& credentials,
           std::function<void(Verdict)> done) override;
  void stop() override;

 private:
  void run();
  void startNext();
  void start(std::unique_ptr<Request> request);
  void collectFinished();
  void finish(std::unique_ptr<Request> request, CURLcode code);
  Verdict verdictOf(CURL* curl, const std::string& answer, CURLcode code);
  void complain(const std::string& what);

  const HttpHookOptions options_;
  const std::string key_;  ///< of this run
  Metric& admitted_ = asked("admitted");
  Metric& remembered_ = asked("remembered");
  Metric& refused_ = asked("refused");
  Metric& unavailable_ = asked("unavailable");

  std::mutex lock_;  ///< of the three below
  Memory memory_;
  std::deque<std::unique_ptr<Request>> waiting_;
  bool stopping_ = false;

  // The thread's own.
  CURLM* multi_;
  curl_slist* headers_ = nullptr;
  std::unordered_map<CURL*, std::unique_ptr<Request>> active_;
  Time complainedAt_{};
  int64_t unsaid_ = 0;
  std::thread thread_;
};

void HttpHook::ask(const LoginPoint& point, const Credentials& credentials,
                   std::function<void(Verdict)> done) {
  std::string key = scram::hmac(scram::Hash::kSha256, key_, questionOf(point, credentials));
  const Time now = std::chrono::steady_clock::now();
  std::unique_lock hold(lock_);
  if (stopping_) return;
  const bool known = memory_.knows(key, now);
  if (known || waiting_.size() >= kMaxWaiting) {
    hold.unlock();
    (known ? remembered_ : unavailable_).add();
    return done(known ? Verdict::kAdmit : Verdict::kUnavailable);
  }
  waiting_.push_back(
      std::make_unique<Request>(bodyOf(point, credentials), std::move(key), std::move(done),
                                now + std::chrono::milliseconds(options_.timeoutMs)));
  hold.unlock();
  curl_multi_wakeup(multi_);
}

void HttpHook::stop() {
  {
    std::lock_guard hold(lock_);
    stopping_ = true;
    waiting_.clear();
  }
  if (!thread_.joinable()) return;
  curl_multi_wakeup(multi_);
  thread_.join();
}

void HttpHook::run() {
  while (true) {
    {
      std::lock_guard hold(lock_);
      if (stopping_) break;
    }
    startNext();
    int running = 0;
    curl_multi_perform(multi_, &running);
    collectFinished();
    bool more = false;
    {
      std::lock_guard hold(lock_);
      more = !waiting_.empty() && active_.size() < static_cast<size_t>(options_.maxConcurrent);
    }
    if (!more) curl_multi_poll(multi_, nullptr, 0, kPollMillis, nullptr);
  }
  for (auto& [curl, request] : active_) curl_multi_remove_handle(multi_, curl);
}

void HttpHook::startNext() {
  while (active_.size() < static_cast<size_t>(options_.maxConcurrent)) {
    std::unique_ptr<Request> next;
    {
      std::lock_guard hold(lock_);
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    start(std::move(next));
  }
}

void HttpHook::start(std::unique_ptr<Request> request) {
  // What it waited behind others counts as well.
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                        request->deadline - std::chrono::steady_clock::now())
                        .count();
  CURL* curl = left > 0 ? request->curl = curl_easy_init() : nullptr;
  if (curl == nullptr) return finish(std::move(request), CURLE_OPERATION_TIMEDOUT);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  // Passwords go to the service and to no proxy that the environment happens to name.
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_URL, options_.url.c_str());
  if (!options_.ca.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, options_.ca.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers_);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                   static_cast<curl_off_t>(request->body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.data());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &Request::collect);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, request.get());
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(left));
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  if (curl_multi_add_handle(multi_, curl) != CURLM_OK) {
    return finish(std::move(request), CURLE_OUT_OF_MEMORY);
  }
  active_.emplace(curl, std::move(request));
}

void HttpHook::collectFinished() {
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    auto found = active_.find(message->easy_handle);
    curl_multi_remove_handle(multi_, message->easy_handle);  // the message goes with it
    std::unique_ptr<Request> request = std::move(found->second);
    active_.erase(found);
    finish(std::move(request), code);
  }
}

void HttpHook::finish(std::unique_ptr<Request> request, CURLcode code) {
  const Verdict verdict = verdictOf(request->curl, request->answer, code);
  if (verdict == Verdict::kAdmit) {
    std::lock_guard hold(lock_);
    memory_.remember(request->key, std::chrono::steady_clock::now());
  }
  (verdict == Verdict::kAdmit    ? admitted_
   : verdict == Verdict::kRefuse ? refused_
                                 : unavailable_)
      .add();
  request->done(verdict);
}

/// Nothing but a plain yes admits.
Verdict HttpHook::verdictOf(CURL* curl, const std::string& answer, CURLcode code) {
  if (code != CURLE_OK) {
    complain(curl_easy_strerror(code));
    return Verdict::kUnavailable;
  }
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status == 204) return Verdict::kAdmit;
  if (status == 401 || status == 403) return Verdict::kRefuse;
  if (status == 200) {
    auto json = JsonValue::parse(answer);
    const JsonValue* result = json ? json->find("result") : nullptr;
    const std::string* text = result == nullptr ? nullptr : result->text();
    if (text != nullptr && *text == "allow") return Verdict::kAdmit;
    if (text != nullptr && *text == "deny") return Verdict::kRefuse;
    complain("status 200 without {\"result\": \"allow\"} or {\"result\": \"deny\"}");
    return Verdict::kUnavailable;
  }
  complain(fmt::format("status {}", status));
  return Verdict::kUnavailable;
}

/// The URL is not repeated: it may have a password.
void HttpHook::complain(const std::string& what) {
  const Time now = std::chrono::steady_clock::now();
  ++unsaid_;
  if (complainedAt_ != Time() && now - complainedAt_ < kLogEvery) return;
  complainedAt_ = now;
  logError(fmt::format("auth.http.url can't be asked about logins, which are refused: {} ({} so)",
                       what, std::exchange(unsaid_, 0)));
}

}  // namespace

Result<> checkHttpHook(const HttpHookOptions& options) {
  if (options.url.empty()) {
    if (options.ca.empty()) return {};
    return fail(
        ErrorKind::kInvalid,
        "`auth.http.ca` has no effect without `auth.http.url`: give that too, or leave it out");
  }
  std::unique_ptr<CURLU, void (*)(CURLU*)> url(curl_url(), curl_url_cleanup);
  char* scheme = nullptr;
  const bool parsed = curl_url_set(url.get(), CURLUPART_URL, options.url.c_str(), 0) == CURLUE_OK &&
                      curl_url_get(url.get(), CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK;
  const std::string_view name = parsed ? scheme : "";
  const bool known = name == "http" || name == "https";
  const bool secure = name == "https";
  curl_free(scheme);
  if (!known) {
    return fail(ErrorKind::kInvalid,
                "`auth.http.url` is no URL of HTTP: give https://HOST[:PORT]/PATH, or http:// on "
                "this machine");
  }
  if (!options.ca.empty() && !secure) {
    return fail(ErrorKind::kInvalid,
                "`auth.http.ca` has no effect on an http:// URL: leave it out");
  }
  return {};
}

Result<std::shared_ptr<LoginHook>> openHttpHook(HttpHookOptions options) {
  if (auto sound = checkHttpHook(options); !sound) return std::unexpected(sound.error());
  curl_global_init(CURL_GLOBAL_DEFAULT);
  return std::make_shared<HttpHook>(std::move(options));
}

}  // namespace polylog::server
