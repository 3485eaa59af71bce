// The protocols that listeners have, and what the configuration says of each listener. Values that
// a listener has of its own ("mqtts=0.0.0.0:8883 tls.client_certificates=required") go over the
// configuration's for that listener alone; they are keys like any other, only fewer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "server/config.h"

namespace polylog::server {

/// How a listener's name is put together: the protocol spoken, and what lies below it.
struct ListenerKind {
  std::string_view name;      ///< "wss"
  std::string_view protocol;  ///< "mqtt"
  bool tls = false;
  bool webSocket = false;
};

/// Null if there is no such name.
const ListenerKind* listenerKind(std::string_view name);

/// `--listen PROTOCOL=HOST:PORT [KEY=VALUE]...`.
Result<ListenerConfig> parseListener(std::string_view text);

/// The listener's "PROTOCOL=HOST:PORT".
std::string nameOf(const ListenerConfig& listener);

/// The configuration with the listener's own values in it.
Config configFor(const ListenerConfig& listener, const Config& config);

/// Whether who connects there has proved who it is, by a certificate or a pre-shared key.
bool asksForCertificates(const ListenerConfig& listener, const Config& config);
/// Whether clients of the listener need not log in.
bool mayBeAnonymous(const ListenerConfig& listener, const Config& config);

/// checkConfig()'s part about listeners.
std::vector<Error> checkListeners(const Config& config);

}  // namespace polylog::server
