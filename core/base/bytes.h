// Octets without an owner, with an owner, and the alias the whole tree uses for them.
// SharedBytes is how a payload travels from a socket to the journal and on to consumers without
// a copy: a view plus whatever keeps the memory alive. Immutable, so any thread may read it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace polylog {

/// Octets owned by somebody else; not text unless a name says so.
using BytesView = std::string_view;

/// Octets that live as long as any SharedBytes that refers to them.
class SharedBytes {
 public:
  SharedBytes() = default;
  SharedBytes(std::shared_ptr<const void> owner, BytesView view)
      : owner_(std::move(owner)), view_(view) {}

  static SharedBytes copyOf(BytesView bytes) { return own(std::string(bytes)); }
  static SharedBytes own(std::string bytes) {
    auto owner = std::make_shared<const std::string>(std::move(bytes));
    BytesView view = *owner;
    return {std::move(owner), view};
  }

  BytesView view() const { return view_; }
  size_t size() const { return view_.size(); }
  bool empty() const { return view_.empty(); }
  const char* data() const { return view_.data(); }
  const std::shared_ptr<const void>& owner() const { return owner_; }

  /// The octets [from, from + length), sharing the owner. Bounds as of std::string_view::substr.
  SharedBytes slice(size_t from, size_t length = BytesView::npos) const {
    return {owner_, view_.substr(from, length)};
  }

 private:
  std::shared_ptr<const void> owner_;
  BytesView view_;
};

}  // namespace polylog
