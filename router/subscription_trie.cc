#include "router/subscription_trie.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace polylog::router {
namespace {

constexpr size_t kFewChildren = 8;

void splitInto(BytesView text, std::vector<BytesView>& out) {
  size_t from = 0;
  for (size_t at = text.find('/'); at != BytesView::npos; at = text.find('/', from)) {
    out.push_back(text.substr(from, at - from));
    from = at + 1;
  }
  out.push_back(text.substr(from));
}

}  // namespace

void levelsOf(const Address& address, std::vector<BytesView>& out) {
  out.clear();
  splitInto(address.topic, out);
  if (address.key) splitInto(*address.key, out);
}

/// A level of some filters. Few literal children stand in a vector, many in a map besides: a
/// million subscriptions to `devices/<id>/cmd` are a million nodes with one child each.
class SubscriptionTrie::Node {
 public:
  Node* parent = nullptr;
  FilterLevel::Kind kind = FilterLevel::Kind::kLiteral;
  std::string text;
  std::vector<TrieEntry> entries;
  std::unique_ptr<Node> one;
  std::unique_ptr<Node> rest;

  const Node* literal(BytesView name) const {
    if (index_) {
      auto at = index_->find(name);
      return at == index_->end() ? nullptr : literals_[at->second].get();
    }
    for (const auto& child : literals_) {
      if (child->text == name) return child.get();
    }
    return nullptr;
  }

  Node* childFor(const FilterLevel& level) {
    if (level.kind == FilterLevel::Kind::kLiteral) {
      if (const Node* there = literal(level.text)) return const_cast<Node*>(there);
      return addLiteral(level.text);
    }
    auto& slot = level.kind == FilterLevel::Kind::kOne ? one : rest;
    if (!slot) slot = make(level.kind);
    return slot.get();
  }

  bool idle() const { return entries.empty() && !hasChildren(); }
  bool hasChildren() const { return one || rest || !literals_.empty(); }

  void dropChild(Node* child) {
    if (child == one.get()) return one.reset();
    if (child == rest.get()) return rest.reset();
    size_t at = 0;
    if (index_) {
      at = index_->find(child->text)->second;
      index_->erase(child->text);
    } else {
      while (literals_[at].get() != child) ++at;
    }
    if (at + 1 != literals_.size()) {
      literals_[at].swap(literals_.back());
      if (index_) (*index_)[literals_[at]->text] = at;
    }
    literals_.pop_back();
    if (literals_.empty()) {
      index_.reset();
      literals_.shrink_to_fit();
    }
  }

 private:
  std::unique_ptr<Node> make(FilterLevel::Kind ofKind) {
    auto child = std::make_unique<Node>();
    child->parent = this;
    child->kind = ofKind;
    return child;
  }
  Node* addLiteral(const std::string& name) {
    auto child = make(FilterLevel::Kind::kLiteral);
    child->text = name;
    Node* added = child.get();
    literals_.push_back(std::move(child));
    if (index_) {
      (*index_)[added->text] = literals_.size() - 1;
    } else if (literals_.size() > kFewChildren) {
      index_ = std::make_unique<std::unordered_map<std::string_view, size_t>>();
      for (size_t i = 0; i < literals_.size(); ++i) (*index_)[literals_[i]->text] = i;
    }
    return added;
  }

  std::vector<std::unique_ptr<Node>> literals_;
  std::unique_ptr<std::unordered_map<std::string_view, size_t>> index_;  ///< keys in the nodes
};

namespace {

using Node = SubscriptionTrie::Node;

bool behindRest(const Node& node) {
  for (const Node* up = node.parent; up != nullptr; up = up->parent) {
    if (up->kind == FilterLevel::Kind::kRest) return true;
  }
  return false;
}

/// One walk over the trie for one address.
class Walk {
 public:
  Walk(const std::vector<BytesView>& levels, bool hidden, bool innerRests,
       std::vector<const std::vector<TrieEntry>*>& found)
      : levels_(levels), hidden_(hidden), innerRests_(innerRests), found_(found) {}

  void at(const Node& node, size_t level) {
    // With a "rest" inside filters, several ways may lead to one place.
    if (innerRests_ && !seen_.emplace(&node, level).second) return;
    if (level == levels_.size()) take(node);
    bool wildcards = level > 0 || !hidden_;
    if (node.rest && wildcards) restAt(*node.rest, level);
    if (level == levels_.size()) return;
    if (const Node* child = node.literal(levels_[level])) at(*child, level + 1);
    if (node.one && wildcards) at(*node.one, level + 1);
  }

 private:
  void restAt(const Node& node, size_t level) {
    take(node);
    if (!node.hasChildren()) return;
    // What lies behind it was walked from `done` on already: rests behind rests must not take
    // exponential time.
    size_t& done = rests_.try_emplace(&node, levels_.size() + 1).first->second;
    size_t end = std::exchange(done, std::min(done, level));
    for (size_t next = level; next < end; ++next) inside(node, next);
  }
  void inside(const Node& node, size_t level) {
    if (node.rest) restAt(*node.rest, level);
    if (level == levels_.size()) return;
    if (const Node* child = node.literal(levels_[level])) at(*child, level + 1);
    if (node.one) at(*node.one, level + 1);
  }
  void take(const Node& node) {
    if (node.entries.empty()) return;
    if (innerRests_ && !taken_.insert(&node).second) return;
    found_.push_back(&node.entries);
  }

  const std::vector<BytesView>& levels_;
  bool hidden_;
  bool innerRests_;
  std::vector<const std::vector<TrieEntry>*>& found_;
  std::set<std::pair<const Node*, size_t>> seen_;
  std::set<const Node*> taken_;
  std::map<const Node*, size_t> rests_;
};

}  // namespace

SubscriptionTrie::SubscriptionTrie() : root_(std::make_unique<Node>()) {}

SubscriptionTrie::~SubscriptionTrie() = default;

SubscriptionTrie::Place SubscriptionTrie::add(const TopicFilter& filter, const TrieEntry& entry) {
  std::unique_lock lock(mutex_);
  Node* node = root_.get();
  for (size_t i = 0; i < filter.levels.size(); ++i) node = node->childFor(filter.levels[i]);
  generation_.fetch_add(1, std::memory_order_release);
  for (TrieEntry& there : node->entries) {
    if (there.session == entry.session && there.number == entry.number) {
      there = entry;
      return node;
    }
  }
  node->entries.push_back(entry);
  if (behindRest(*node)) ++innerRests_;
  size_.fetch_add(1, std::memory_order_relaxed);
  return node;
}

void SubscriptionTrie::remove(Place place, const Session* session, uint32_t number) {
  std::unique_lock lock(mutex_);
  auto& entries = place->entries;
  auto at = std::find_if(entries.begin(), entries.end(), [&](const TrieEntry& entry) {
    return entry.session == session && entry.number == number;
  });
  if (at == entries.end()) return;
  *at = entries.back();
  entries.pop_back();
  if (entries.empty()) entries.shrink_to_fit();
  if (behindRest(*place)) --innerRests_;
  size_.fetch_sub(1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  Node* node = place;
  while (node->parent != nullptr && node->idle()) {
    Node* parent = node->parent;
    parent->dropChild(node);
    node = parent;
  }
}

void SubscriptionTrie::collect(const std::vector<BytesView>& levels, bool hidden,
                               std::vector<const std::vector<TrieEntry>*>& found) const {
  Walk(levels, hidden, innerRests_ > 0, found).at(*root_, 0);
}

bool SubscriptionTrie::couldMatchTopic(BytesView topic) const {
  std::shared_lock lock(mutex_);
  if (!hiddenFromWildcards(topic) && (root_->one || root_->rest)) return true;
  size_t end = topic.find('/');
  return root_->literal(topic.substr(0, end)) != nullptr;
}

}  // namespace polylog::router
