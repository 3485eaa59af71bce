#include "server/admin.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/queue.h>

#include <cerrno>
#include <cstring>
#include <future>
#include <map>
#include <utility>
#include <vector>

#include "core/event/event_dispatcher.h"
#include "core/model/access.h"
#include "core/model/authentication.h"
#include "core/model/broker.h"
#include "core/net/address.h"
#include "server/api.h"
#include "server/http.h"
#include "server/json.h"

namespace polylog::server {
namespace {

constexpr int kTimeoutSeconds = 60;
constexpr ssize_t kMaxHeaders = 16 * 1024;
constexpr long kMaxOpenRequests = 256;

/// Below 500 is what the one who asks can mend.
int statusOf(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
    case ErrorKind::kInvalidPattern:
    case ErrorKind::kMemberIdRequired:
    case ErrorKind::kUnsupportedAssignor: return 400;
    case ErrorKind::kUnauthorized: return 403;
    case ErrorKind::kNotFound:
    case ErrorKind::kUnknownMember:
    case ErrorKind::kUnknownProducer: return 404;
    case ErrorKind::kAlreadyExists:
    case ErrorKind::kGroupNotEmpty:
    case ErrorKind::kNotEmpty:
    case ErrorKind::kInUse:
    case ErrorKind::kLocked:
    case ErrorKind::kIllegalGeneration:
    case ErrorKind::kInconsistentProtocol:
    case ErrorKind::kFencedInstance:
    case ErrorKind::kFencedEpoch:
    case ErrorKind::kStaleEpoch:
    case ErrorKind::kUnreleasedInstance:
    case ErrorKind::kProducerFenced:
    case ErrorKind::kOutOfOrderSequence:
    case ErrorKind::kInvalidTransaction: return 409;
    case ErrorKind::kTooLarge: return 413;
    case ErrorKind::kOutOfRange: return 416;
    case ErrorKind::kBusy:
    case ErrorKind::kRebalanceInProgress:
    case ErrorKind::kConcurrentTransaction: return 429;  // a group that is being deleted
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
    case ErrorKind::kInternal: return 500;
    case ErrorKind::kUnsupported: return 501;
    case ErrorKind::kShutdown:
    case ErrorKind::kTimeout: return 503;
    case ErrorKind::kNoSpace: return 507;
  }
  return 500;
}

std::string decoded(std::string_view text) {
  size_t length = 0;
  std::unique_ptr<char, void (*)(void*)> raw(
      evhttp_uridecode(std::string(text).c_str(), 0, &length), std::free);
  return raw ? std::string(raw.get(), length) : std::string();
}

std::vector<std::string> segments(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    size_t end = std::min(path.find('/'), path.size());
    parts.push_back(decoded(path.substr(0, end)));
    path.remove_prefix(end);
  }
  return parts;
}

/// False: there is none that can be meant.
bool parseQuery(const char* text, std::map<std::string, std::string>& query) {
  // A decoded one would end the value before its end, and so name something else.
  if (std::string_view(text).contains("%00")) return false;
  evkeyvalq pairs{};
  const bool parsed = evhttp_parse_query_str(text, &pairs) == 0;
  for (evkeyval* pair = pairs.tqh_first; parsed && pair != nullptr; pair = pair->next.tqe_next) {
    query[pair->key] = pair->value;
  }
  evhttp_clear_headers(&pairs);
  return parsed;
}

const char* methodName(evhttp_cmd_type type) {
  switch (type) {
    case EVHTTP_REQ_GET: return "GET";
    case EVHTTP_REQ_POST: return "POST";
    case EVHTTP_REQ_DELETE: return "DELETE";
    default: return "";
  }
}

/// Rights on the cluster, and their names. What Kafka's clients see and change too takes what it
/// takes there.
std::vector<std::pair<Operation, const char*>> neededFor(const Call& call) {
  const bool read = call.method == "GET";
  std::vector<std::pair<Operation, const char*>> needed;
  needed.emplace_back(read ? Operation::kDescribe : Operation::kAlter, read ? "describe" : "alter");
  const bool configures = call.path.size() >= 2 && call.path[0] == "api" &&
                          (call.path[1] == "quotas" || call.path[1] == "client_metrics" ||
                           call.path[1] == "topic_defaults");
  if (configures && read) needed.emplace_back(Operation::kDescribeConfigs, "describe-configs");
  if (configures && !read) needed.emplace_back(Operation::kAlterConfigs, "alter-configs");
  return needed;
}

std::string peerOf(evhttp_request* request) {
  char* host = nullptr;
  ev_uint16_t port = 0;
  evhttp_connection* connection = evhttp_request_get_connection(request);
  if (connection == nullptr) return {};
  evhttp_connection_get_peer(connection, &host, &port);
  if (host == nullptr) return {};
  // An IPv4 client of an IPv6 socket.
  BytesView name = host;
  if (name.starts_with("::ffff:") && name.find('.') != BytesView::npos) name.remove_prefix(7);
  return toText(HostPort{std::string(name), port});
}

/// RFC 7617. Nothing unless it is that.
std::optional<Credentials> basicCredentials(std::string_view header) {
  constexpr std::string_view kBasic = "Basic ";
  if (header.size() > kMaxHeaders || !header.starts_with(kBasic)) return std::nullopt;
  auto text = fromBase64(header.substr(kBasic.size()));
  size_t colon = text ? text->find(':') : std::string::npos;
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  return Credentials{text->substr(0, colon), text->substr(colon + 1), false};
}

class HttpAdminServer final : public AdminServer {
 public:
  HttpAdminServer(EventDispatcher& worker, Broker& broker, std::function<bool()> ready,
                  AdminSecurity security)
      : worker_(worker),
        ready_(std::move(ready)),
        security_(security),
        api_(broker, security, worker) {}

  ~HttpAdminServer() override {
    if (http_ != nullptr) evhttp_free(http_);
  }

  Result<> listen(const HostPort& address);
  const HostPort& bound() const override { return bound_; }
  void stop() override;

 private:
  static void onRequest(evhttp_request* request, void* self) {
    static_cast<HttpAdminServer*>(self)->handle(request);
  }
  void handle(evhttp_request* request);
  void admit(const std::string& peer, const char* authorization, Call call);
  void answer(Call call);
  /// `refused`: the client gave a user and password.
  void challenge(Reply reply, bool refused);

  EventDispatcher& worker_;
  std::function<bool()> ready_;
  const AdminSecurity security_;
  Api api_;
  evhttp* http_ = nullptr;
  HostPort bound_;
  std::shared_ptr<bool> open_ = std::make_shared<bool>(true);
};

Result<> HttpAdminServer::listen(const HostPort& address) {
  http_ = evhttp_new(worker_.base());
  evhttp_set_timeout(http_, kTimeoutSeconds);
  evhttp_set_max_headers_size(http_, kMaxHeaders);
  evhttp_set_max_body_size(http_, static_cast<ssize_t>(api_.maxBody()));
  evhttp_set_allowed_methods(http_, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_DELETE);
  evhttp_set_gencb(http_, &HttpAdminServer::onRequest, this);
  evhttp_bound_socket* socket =
      evhttp_bind_socket_with_handle(http_, address.host.c_str(), address.port);
  if (socket == nullptr) {
    return fail(ErrorKind::kBusy,
                fmt::format("listener admin={} can't be opened: {}; stop what has it, or choose "
                            "another with --listen",
                            toText(address), std::strerror(errno)));
  }
  SocketAddress actual;
  actual.length = sizeof actual.storage;
  getsockname(evhttp_bound_socket_get_fd(socket), actual.get(), &actual.length);
  bound_ = actual.numeric();
  return {};
}

void HttpAdminServer::stop() {
  std::promise<void> done;
  worker_.post([&] {
    *open_ = false;
    api_.stop();
    evhttp_free(http_);
    http_ = nullptr;
    done.set_value();
  });
  done.get_future().wait();
}

void HttpAdminServer::handle(evhttp_request* request) {
  worker_.noteAwake();
  Reply reply(request, open_);
  const evhttp_uri* uri = evhttp_request_get_evhttp_uri(request);
  const char* path = uri == nullptr ? nullptr : evhttp_uri_get_path(uri);
  if (path == nullptr || path[0] != '/') {
    return reply.error({ErrorKind::kInvalid, "the request has no path"});
  }
  std::string_view route = path;
  if (route == "/healthz") return reply.send(200, "ok\n", "text/plain");
  if (route == "/readyz") {
    return ready_() ? reply.send(200, "ready\n", "text/plain")
                    : reply.send(503, "starting or stopping\n", "text/plain");
  }
  if (open_.use_count() > kMaxOpenRequests) {
    return reply.error({ErrorKind::kBusy, "too many requests at once; try again later"});
  }
  Call call{
      std::move(reply), methodName(evhttp_request_get_command(request)), segments(route), {}, {}};
  if (const char* query = evhttp_uri_get_query(uri)) {
    if (!parseQuery(query, call.query)) {
      return call.reply.error({ErrorKind::kInvalid, "the query is no key=value&..., or has %00"});
    }
  }
  evbuffer* input = evhttp_request_get_input_buffer(request);
  call.body.resize(evbuffer_get_length(input));
  evbuffer_copyout(input, call.body.data(), call.body.size());
  const char* authorization =
      evhttp_find_header(evhttp_request_get_input_headers(request), "Authorization");
  admit(peerOf(request), authorization, std::move(call));
}

void HttpAdminServer::answer(Call call) {
  if (call.path.size() == 1 && call.path[0] == "metrics") {
    return api_.metrics(std::move(call.reply));
  }
  api_.handle(std::move(call));
}

void HttpAdminServer::challenge(Reply reply, bool refused) {
  reply.challenge();
  if (refused) return reply.error({ErrorKind::kUnauthorized, "wrong user or password"});
  reply.error({ErrorKind::kUnauthorized,
               "log in as a user with rights on the cluster (POLYLOG_USER and POLYLOG_PASSWORD for "
               "the command line; docs/security.md)"});
}

void HttpAdminServer::admit(const std::string& peer, const char* authorization, Call call) {
  if (security_.authenticator == nullptr) return answer(std::move(call));
  auto address = parseHostPort(peer);
  const bool here = address && isLoopback(*address);
  const bool metrics = call.path.size() == 1 && call.path[0] == "metrics";
  // Whoever is on this machine makes the first user.
  if (here && (metrics || !security_.access->anyUsers())) return answer(std::move(call));
  auto credentials = basicCredentials(authorization == nullptr ? "" : authorization);
  if (!credentials && !security_.allowAnonymous) return challenge(std::move(call.reply), false);
  const LoginPoint point{Protocol::kInternal, peer, security_.allowAnonymous};
  security_.authenticator->admit(
      point, credentials.value_or(Credentials{}),
      [this, open = open_, peer, given = credentials.has_value(),
       call = std::move(call)](Result<LoginRef> login) mutable {
        if (!*open) return;
        if (!login) return challenge(std::move(call.reply), given);
        call.user = (*login)->user();
        auto principal = std::make_shared<Principal>(
            Principal{(*login)->user(), "admin", peer, Protocol::kInternal});
        const char* missing = nullptr;
        for (const auto& [operation, name] : neededFor(call)) {
          if (missing == nullptr &&
              !security_.access->permits(principal, operation, ResourceKind::kCluster,
                                         kClusterName)) {
            missing = name;
          }
        }
        if (missing == nullptr) return answer(std::move(call));
        if ((*login)->user().empty()) return challenge(std::move(call.reply), false);
        call.reply.error(
            {ErrorKind::kUnauthorized, fmt::format("user `{}` has no rights on the cluster ({})",
                                                   (*login)->user(), missing)});
      });
}

}  // namespace

Reply::Reply(Reply&& other) noexcept
    : request_(std::exchange(other.request_, nullptr)),
      open_(std::move(other.open_)),
      challenged_(other.challenged_) {}

Reply::~Reply() {
  send(503, "{\"error\":\"the broker is stopping\"}", "application/json");
}

void Reply::send(int status, const std::string& body, const char* contentType) {
  evhttp_request* request = std::exchange(request_, nullptr);
  if (request == nullptr || !*open_) return;
  evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", contentType);
  evbuffer* output = evbuffer_new();
  evbuffer_add(output, body.data(), body.size());
  // If the client has gone, libevent frees the request here and sends nothing.
  evhttp_send_reply(request, status, nullptr, output);
  evbuffer_free(output);
}

void Reply::challenge() {
  if (request_ == nullptr || !*open_) return;
  challenged_ = true;
  evhttp_add_header(evhttp_request_get_output_headers(request_), "WWW-Authenticate",
                    "Basic realm=\"polylog\"");
}

void Reply::error(const Error& error) {
  Json json;
  json.object([&] { json.field("error", error.text); });
  send(challenged_ ? 401 : statusOf(error.kind), json.text(), "application/json");
}

Result<std::unique_ptr<AdminServer>> AdminServer::open(const HostPort& address,
                                                       EventDispatcher& worker, Broker& broker,
                                                       std::function<bool()> ready,
                                                       AdminSecurity security) {
  auto server = std::make_unique<HttpAdminServer>(worker, broker, std::move(ready), security);
  // The loop runs already and has no locks: its events are made on its own thread.
  std::promise<Result<>> listening;
  worker.post([&] { listening.set_value(server->listen(address)); });
  auto result = listening.get_future().get();
  if (!result) {
    std::promise<void> freed;
    worker.post([&] {
      server.reset();
      freed.set_value();
    });
    freed.get_future().wait();
    return std::unexpected(result.error());
  }
  return server;
}

}  // namespace polylog::server
