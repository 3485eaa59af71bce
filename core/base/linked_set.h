// A hash set of objects that carry the link to the next of their bucket themselves: beside the
// object an element costs its link and one bucket, and no allocation. It grows by a bucket an
// element (linear hashing), so no insertion has a million others to move, and a walk in slices sees
// every element that is there all along. Owns its elements; their addresses stay. Not thread-safe.
//
// Traits names the element and says how its link, hash and keys are had:
//   using Link = std::unique_ptr<T>;                  // or shared_ptr
//   static Link& next(T& element);                    // the set's alone
//   static size_t hash(const T& element);             // for each kind of key as well, and equal
//   static bool is(const T& element, const Key& key);
#pragma once

#include <bit>
#include <cstddef>
#include <deque>
#include <utility>

namespace polylog {

template <class T, class Traits>
class LinkedSet {
 public:
  using Link = typename Traits::Link;

  LinkedSet() = default;
  LinkedSet(const LinkedSet&) = delete;
  LinkedSet& operator=(const LinkedSet&) = delete;
  ~LinkedSet() { clear(); }

  size_t size() const { return size_; }
  size_t buckets() const { return buckets_.size(); }

  template <class Key>
  T* find(const Key& key) const {
    if (size_ == 0) return nullptr;
    T* at = buckets_[bucketOf(Traits::hash(key))].get();
    while (at != nullptr && !Traits::is(*at, key)) at = Traits::next(*at).get();
    return at;
  }

  /// Nothing in the set may be equal to it.
  T& insert(Link element) {
    if (size_ == buckets_.size()) split();
    T& added = *element;
    Link& bucket = buckets_[bucketOf(Traits::hash(added))];
    Traits::next(added) = std::exchange(bucket, nullptr);
    bucket = std::move(element);
    ++size_;
    return added;
  }

  /// Takes out exactly that element; null if it isn't in.
  Link remove(const T& element) {
    if (size_ == 0) return nullptr;
    Link* at = &buckets_[bucketOf(Traits::hash(element))];
    while (*at && at->get() != &element) at = &Traits::next(**at);
    if (!*at) return nullptr;
    Link taken = std::exchange(*at, nullptr);
    *at = std::exchange(Traits::next(*taken), nullptr);
    --size_;
    return taken;
  }

  /// Visits the elements of buckets [from, to). Walking up from bucket 0 until buckets() is
  /// reached, with changes between the slices: what is in the set all the while is seen at least
  /// once, maybe twice. `visit` must not change the set.
  template <class Visit>
  void visit(size_t from, size_t to, Visit&& visit) const {
    for (size_t bucket = from; bucket < to && bucket < buckets_.size(); ++bucket) {
      for (T* at = buckets_[bucket].get(); at != nullptr; at = Traits::next(*at).get()) visit(*at);
    }
  }
  template <class Visit>
  void forEach(Visit&& visit) const {
    this->visit(0, buckets_.size(), visit);
  }

  void clear() {
    // One by one: a chain must not be as deep as the stack.
    for (Link& bucket : buckets_) {
      while (bucket) bucket = Link(std::exchange(Traits::next(*bucket), nullptr));
    }
    buckets_.clear();
    size_ = 0;
  }

 private:
  /// The high bits count as well: hashes of numbers often have their best there.
  size_t bucketOf(size_t hash) const {
    size_t mixed = hash ^ (hash >> 32);
    size_t mask = std::bit_ceil(buckets_.size()) - 1;
    size_t at = mixed & mask;
    return at < buckets_.size() ? at : mixed & (mask >> 1);
  }

  /// One more bucket: it takes its share of the one that stood for it so far.
  void split() {
    size_t added = buckets_.size();
    buckets_.emplace_back();
    if (added == 0) return;
    Link* at = &buckets_[added - std::bit_floor(added)];
    while (*at) {
      if (bucketOf(Traits::hash(**at)) != added) {
        at = &Traits::next(**at);
        continue;
      }
      Link moved = std::exchange(*at, nullptr);
      *at = std::exchange(Traits::next(*moved), nullptr);
      Traits::next(*moved) = std::exchange(buckets_[added], nullptr);
      buckets_[added] = std::move(moved);
    }
  }

  std::deque<Link> buckets_;  ///< in place as it grows
  size_t size_ = 0;
};

}  // namespace polylog
