// `polylog journal inspect|verify DIR`: what a journal's files hold and whether they are sound.
// Reads only, beside a running broker too. Called once from main(), on the only thread.
#pragma once

namespace CLI {
class App;
}

namespace polylog::server {

/// A usage error's status, too: 1 means that there is damage.
inline constexpr int kJournalUnreadable = 2;

/// Adds `journal` to `app`; running it sets `status`: 0 when read, or sound; 1 when damage was
/// found by `verify`; kJournalUnreadable.
void addJournalCommands(CLI::App& app, int& status);

}  // namespace polylog::server
