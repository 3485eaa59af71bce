// Asks a web service whether a login is right (auth.http.*): a POST with JSON for each, over
// libcurl, on a thread of its own; nobody waits for it. At most `maxConcurrent` requests at once,
// a bounded number behind them. What isn't answered in time is not admitted. What was admitted is
// known again for a short while, by a keyed hash: no password is kept.
//
// Any thread. stop() before it is destroyed, or by its destructor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/error.h"
#include "core/model/authentication.h"

namespace polylog::server {

struct HttpHookOptions {
  std::string url;  ///< empty: there is none
  std::string ca;   ///< PEM file of the CAs that vouch for it; empty = the system's
  int64_t timeoutMs = 5000;
  int64_t maxConcurrent = 64;
  int64_t cacheSeconds = 10;  ///< 0 = ask every time
};

/// kInvalid, naming the key and the remedy.
Result<std::shared_ptr<LoginHook>> openHttpHook(HttpHookOptions options);

/// What is wrong with them, before anything is opened.
Result<> checkHttpHook(const HttpHookOptions& options);

}  // namespace polylog::server
