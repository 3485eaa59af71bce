// How headers exchanges compare. Pure functions.
#pragma once

#include "core/model/value.h"

namespace polylog::router {

/// Whether a message's headers match a binding's arguments (RabbitMQ's headers exchange: `x-match`
/// all, any, all-with-x, any-with-x; names that begin with `x-` count only for the latter two).
bool headersMatch(const Table& arguments, const Table* headers);

}  // namespace polylog::router
