// Log lines to standard error. Thread-safe. The text says what happened, to whom (peer, path,
// topic) and what to do; format it with fmt::format at the call, behind logEnabled() if it is hot.
#pragma once

#include <cstdint>
#include <string_view>

namespace polylog {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

void setLogLevel(LogLevel level);
bool logEnabled(LogLevel level);
void log(LogLevel level, std::string_view text);

inline void logDebug(std::string_view text) { log(LogLevel::kDebug, text); }
inline void logInfo(std::string_view text) { log(LogLevel::kInfo, text); }
inline void logWarning(std::string_view text) { log(LogLevel::kWarning, text); }
inline void logError(std::string_view text) { log(LogLevel::kError, text); }

}  // namespace polylog
