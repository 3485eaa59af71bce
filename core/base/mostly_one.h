// An ordered map by text that mostly has one element, which then stands in place; several stand in
// a std::map. Pointers and references to values hold until the map changes. Not thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace polylog {

template <class Value>
class MostlyOne {
 public:
  size_t size() const {
    if (const Many* many = this->many()) return many->size();
    return std::holds_alternative<One>(held_) ? 1 : 0;
  }

  Value* find(std::string_view key) {
    if (Many* many = this->many()) {
      auto at = many->find(key);
      return at == many->end() ? nullptr : &at->second;
    }
    One* one = std::get_if<One>(&held_);
    return one != nullptr && one->first == key ? &one->second : nullptr;
  }

  /// Adds it, or takes the place of what has that key.
  void put(std::string key, Value value) {
    if (Value* there = find(key)) {
      *there = std::move(value);
      return;
    }
    if (size() == 0) {
      held_.template emplace<One>(std::move(key), std::move(value));
      return;
    }
    if (One* one = std::get_if<One>(&held_)) {
      auto several = std::make_unique<Many>();
      several->emplace(std::move(one->first), std::move(one->second));
      held_ = std::move(several);
    }
    many()->emplace(std::move(key), std::move(value));
  }

  void erase(std::string_view key) {
    Many* several = many();
    if (several == nullptr) {
      if (find(key) != nullptr) clear();
      return;
    }
    auto at = several->find(key);
    if (at == several->end()) return;
    several->erase(at);
    if (several->size() > 1) return;
    auto last = several->extract(several->begin());
    held_ = One(std::move(last.key()), std::move(last.mapped()));
  }

  void clear() { held_ = std::monostate(); }

  /// visit(key, value) in the keys' order.
  template <class Visit>
  void forEach(Visit&& visit) const {
    if (const Many* many = this->many()) {
      for (const auto& [key, value] : *many) visit(key, value);
    } else if (const One* one = std::get_if<One>(&held_)) {
      visit(one->first, one->second);
    }
  }

 private:
  using One = std::pair<std::string, Value>;
  using Many = std::map<std::string, Value, std::less<>>;

  Many* many() {
    auto* held = std::get_if<std::unique_ptr<Many>>(&held_);
    return held != nullptr ? held->get() : nullptr;
  }
  const Many* many() const { return const_cast<MostlyOne*>(this)->many(); }

  std::variant<std::monostate, One, std::unique_ptr<Many>> held_;
};

}  // namespace polylog
