// Where the sources lie, for tests that hold pages of docs/ against the code.
#pragma once

#include <filesystem>

namespace polylog::testing {

/// The top of the source tree this test was built from.
std::filesystem::path sourceTree();

}  // namespace polylog::testing
