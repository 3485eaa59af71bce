// How a will stands in the state table kWill, under its session's inbox. Pure functions.
#pragma once

#include <string>

#include "core/base/error.h"
#include "core/model/subscriber_session.h"

namespace polylog::router {

std::string encodeWill(const Will& will);
/// kCorrupt.
Result<Will> decodeWill(BytesView value);

}  // namespace polylog::router
