// One request of the admin listener and the answer that is still due. Between AdminServer and the
// API handlers; a worker's thread only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"

struct evhttp_request;

namespace polylog::server {

/// The answer owed to one request: sent once, from any later callback on the worker. If the client
/// has gone or the listener has stopped meanwhile, sending does nothing. Dropping it answers 503.
class Reply {
 public:
  /// `open` turns false when the listener stops, which frees all its requests.
  Reply(evhttp_request* request, std::shared_ptr<const bool> open)
      : request_(request), open_(std::move(open)) {}
  Reply(Reply&& other) noexcept;
  Reply& operator=(Reply&&) = delete;
  ~Reply();

  void send(int status, const std::string& body, const char* contentType);
  void json(int status, const std::string& body) { send(status, body, "application/json"); }
  /// What is sent next says that a login is needed (401).
  void challenge();
  /// {"error": text} with the status that suits the kind.
  void error(const Error& error);

 private:
  evhttp_request* request_;
  std::shared_ptr<const bool> open_;
  bool challenged_ = false;
};

/// Answers a change when it is done: `{}` with `status`, or the error. `absent`: in place of a
/// kNotFound, which names no remedy to those who use the API.
inline auto acknowledged(Reply reply, int status = 200, std::optional<Error> absent = {}) {
  return
      [reply = std::move(reply), status, absent = std::move(absent)](const auto& result) mutable {
        if (result) return reply.json(status, "{}");
        const bool gone = absent && result.error().kind == ErrorKind::kNotFound;
        reply.error(gone ? *absent : result.error());
      };
}

struct Call {
  Reply reply;
  std::string method;             ///< GET, POST, DELETE
  std::vector<std::string> path;  ///< decoded segments: {"api", "topics", "sensors"}
  std::map<std::string, std::string> query;
  std::string body;
  std::string user{};  ///< who asks; empty = nobody has logged in
};

}  // namespace polylog::server
