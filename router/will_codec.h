// How a will stands in the state table kWill, under its session's inbox. Pure functions.
#pragma once

#include <string>

#include "core/base/error.h"
#include "core/model/subscriber_session.h"
#include "router/authorizer.h"

namespace polylog::router {

/// `own`: what its client's login says of it by itself.
std::string encodeWill(const Will& will, OwnVerdict own = OwnVerdict::kNone);
/// kCorrupt.
Result<Will> decodeWill(BytesView value, OwnVerdict* own = nullptr);

}  // namespace polylog::router
