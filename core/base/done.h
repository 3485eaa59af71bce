// The answer to a call that takes its time: run exactly once, later.
#pragma once

#include <functional>

namespace polylog {

template <class T>
using Done = std::move_only_function<void(T)>;

}  // namespace polylog
