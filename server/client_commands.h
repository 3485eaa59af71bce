// The verbs that talk to a running broker over its admin listener: topic, group, session, queue,
// exchange, produce, consume. Called once from main(), on the only thread.
#pragma once

namespace CLI {
class App;
}

namespace polylog::server {

/// Adds the verbs to `app`; running one sets `status` to the process's exit status: 0, or 1 when
/// the broker can't be reached or says no (the reason, the URL and the remedy are on standard
/// error).
void addClientCommands(CLI::App& app, int& status);

}  // namespace polylog::server
