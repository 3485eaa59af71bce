#include "tests/support/source_tree.h"

namespace polylog::testing {

// The build says so (CMakeLists.txt): __FILE__ is relative where a compiler cache is shared.
std::filesystem::path sourceTree() { return POLYLOG_SOURCE_TREE; }

}  // namespace polylog::testing
