// Sockets that listen: on the addresses that a name has, or on a Unix-domain socket. For start-up
// and the end; descriptors are plain, whoever opened them closes them with closeAll().
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/net/address.h"
#include "core/net/transport.h"

namespace polylog {

struct ListeningSocket {
  int fd = -1;
  /// With the port that was picked.
  HostPort bound;
  /// A Unix-domain socket's file is there still.
  bool hasFile = false;
};

/// A socket on every one of `addresses` (which `wanted` names), all on one port. Addresses that the
/// machine lacks are passed over as long as there is one. kBusy if it's taken; errors begin with
/// `protocol` and name the remedy.
Result<std::vector<ListeningSocket>> listenOnAll(const std::string& protocol,
                                                 const HostPort& wanted,
                                                 const std::vector<SocketAddress>& addresses);

/// Where a socket is bound; not for Unix-domain sockets.
Result<HostPort> boundAddress(int fd);

/// Lets nobody connect any more: new clients are refused, and the files of Unix-domain sockets
/// gone.
void stopListening(std::vector<ListeningSocket>& sockets);

/// Closes them, and removes the files of Unix-domain sockets.
void closeAll(std::vector<ListeningSocket>& sockets);

/// setsockopt() with an integer; failures are of no consequence.
void setFlag(int fd, int level, int option, int value = 1);

}  // namespace polylog
