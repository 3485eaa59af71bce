// The keys `bridges.NAME.*`, for the table of config.cc. They act on Config::bridge.
#pragma once

#include <vector>

#include "server/config_key.h"

namespace polylog::server {

std::vector<Key> bridgeKeys();

}  // namespace polylog::server
