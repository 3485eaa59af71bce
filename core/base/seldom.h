// A value that mostly is what T{} is: one pointer, and nothing else until it is written to. Reading
// an unwritten one gives the default. Not thread-safe beyond what T is.
#pragma once

#include <memory>

namespace polylog {

template <class T>
class Seldom {
 public:
  const T& operator*() const { return held_ ? *held_ : kDefault; }
  const T* operator->() const { return &**this; }
  /// For changing it: makes it, if it isn't there yet.
  T& write() {
    if (!held_) held_ = std::make_unique<T>();
    return *held_;
  }
  void reset() { held_ = nullptr; }
  bool written() const { return held_ != nullptr; }

 private:
  static inline const T kDefault{};
  std::unique_ptr<T> held_;
};

}  // namespace polylog
