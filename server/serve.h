// `polylog serve`: puts the layers together and runs them until a signal. The composition root: the
// only place that knows every layer.
#pragma once

#include "server/config.h"

namespace polylog::server {

inline constexpr const char* kVersion = "0.1.0";

/// Runs the broker until SIGTERM or SIGINT; returns the process's exit status: 0 after a drain, 1
/// when it can't start (the reason is on standard error). A second signal while it drains ends the
/// process at once, as a crash would: nothing acknowledged is lost. SIGHUP reads TLS's files again.
/// A disk that fails to sync ends it at once with status 1.
int serve(const Config& config);

}  // namespace polylog::server
