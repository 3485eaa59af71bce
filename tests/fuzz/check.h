// What a fuzz target's input must not bring about.
#pragma once

#include <cstdlib>

namespace polylog::test {

/// A crash that the fuzzer keeps the input of.
inline void check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace polylog::test
