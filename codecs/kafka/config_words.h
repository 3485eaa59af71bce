// Lists in the values of configurations: words with commas between them.
#pragma once

#include <string>
#include <vector>

#include "core/base/bytes.h"

namespace polylog::kafka {

/// Without the spaces around it.
BytesView trimmed(BytesView text);

/// The words of a list, trimmed; empty ones count for nothing.
std::vector<std::string> wordsOf(BytesView list);

}  // namespace polylog::kafka
