// The keys `mqtt.*`, for the table of config.cc.
#pragma once

#include <vector>

#include "server/config_key.h"

namespace polylog::server {

std::vector<Key> mqttKeys();

}  // namespace polylog::server
