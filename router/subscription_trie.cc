#include "router/subscription_trie.h"

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "core/base/linked_set.h"

namespace polylog::router {
namespace {

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

/// A level of some filters: 80 octets and what its text takes beyond 15. All of them stand in one
/// set, by what they hang below and their text: a million subscriptions to `devices/<id>/cmd` are a
/// million nodes with one child each, which have no containers of their own.
class SubscriptionTrie::Node {
 public:
  std::unique_ptr<Node> next;  ///< the set's
  Node* parent = nullptr;
  std::string text;
  Hung* first = nullptr;
  uint32_t children = 0;
  FilterLevel::Kind kind = FilterLevel::Kind::kLiteral;
  bool hasOne = false;   ///< a child for any one level
  bool hasRest = false;  ///< and for all further ones

  bool idle() const { return first == nullptr && children == 0; }
};

struct SubscriptionTrie::Nodes {
  struct Key {
    const Node* parent = nullptr;
    FilterLevel::Kind kind{};
    BytesView text;
  };
  struct Traits {
    using Link = std::unique_ptr<Node>;
    static Link& next(Node& node) { return node.next; }
    static size_t hash(const Key& key) {
      return std::hash<BytesView>{}(key.text) ^
             (reinterpret_cast<uintptr_t>(key.parent) + static_cast<uintptr_t>(key.kind)) *
                 0x9E3779B97F4A7C15ULL;
    }
    static size_t hash(const Node& node) { return hash({node.parent, node.kind, node.text}); }
    static bool is(const Node& node, const Key& key) {
      return node.parent == key.parent && node.kind == key.kind && node.text == key.text;
    }
  };

  Node* find(const Node& parent, FilterLevel::Kind kind, BytesView text) const {
    return parent.children == 0 ? nullptr : set.find(Key{&parent, kind, text});
  }
  const Node* literal(const Node& parent, BytesView text) const {
    return find(parent, FilterLevel::Kind::kLiteral, text);
  }
  const Node* one(const Node& parent) const {
    return parent.hasOne ? find(parent, FilterLevel::Kind::kOne, {}) : nullptr;
  }
  const Node* rest(const Node& parent) const {
    return parent.hasRest ? find(parent, FilterLevel::Kind::kRest, {}) : nullptr;
  }
  Node& childFor(Node& parent, const FilterLevel& level) {
    bool literal = level.kind == FilterLevel::Kind::kLiteral;
    BytesView text = literal ? BytesView(level.text) : BytesView();
    if (Node* there = find(parent, level.kind, text)) return *there;
    auto child = std::make_unique<Node>();
    child->parent = &parent;
    child->kind = level.kind;
    child->text = text;
    ++parent.children;
    parent.hasOne |= level.kind == FilterLevel::Kind::kOne;
    parent.hasRest |= level.kind == FilterLevel::Kind::kRest;
    return set.insert(std::move(child));
  }
  void drop(Node& child) {
    Node& parent = *child.parent;
    --parent.children;
    if (child.kind == FilterLevel::Kind::kOne) parent.hasOne = false;
    if (child.kind == FilterLevel::Kind::kRest) parent.hasRest = false;
    set.remove(child);
  }

  Node root;
  LinkedSet<Node, Traits> set;  ///< all but the root
};

namespace {

using Node = SubscriptionTrie::Node;

bool behindRest(const Node& node) {
  for (const Node* up = node.parent; up != nullptr; up = up->parent) {
    if (up->kind == FilterLevel::Kind::kRest) return true;
  }
  return false;
}

}  // namespace

/// One walk over the trie for one address.
class SubscriptionTrie::Walk {
 public:
  Walk(const Nodes& nodes, const std::vector<BytesView>& levels, bool hidden, bool innerRests,
       std::vector<const Hung*>& found)
      : nodes_(nodes), levels_(levels), hidden_(hidden), innerRests_(innerRests), found_(found) {}

  void at(const Node& node, size_t level) {
    // With a "rest" inside filters, several ways may lead to one place.
    if (innerRests_ && !seen_.emplace(&node, level).second) return;
    if (level == levels_.size()) take(node);
    bool wildcards = level > 0 || !hidden_;
    const Node* rest = wildcards ? nodes_.rest(node) : nullptr;
    if (rest != nullptr) restAt(*rest, level);
    if (level == levels_.size()) return;
    if (const Node* child = nodes_.literal(node, levels_[level])) at(*child, level + 1);
    const Node* one = wildcards ? nodes_.one(node) : nullptr;
    if (one != nullptr) at(*one, level + 1);
  }

 private:
  void restAt(const Node& node, size_t level) {
    take(node);
    if (node.children == 0) return;
    // What lies behind it was walked from `done` on already: rests behind rests must not take
    // exponential time.
    size_t& done = rests_.try_emplace(&node, levels_.size() + 1).first->second;
    size_t end = std::exchange(done, std::min(done, level));
    for (size_t next = level; next < end; ++next) inside(node, next);
  }
  void inside(const Node& node, size_t level) {
    if (const Node* rest = nodes_.rest(node)) restAt(*rest, level);
    if (level == levels_.size()) return;
    if (const Node* child = nodes_.literal(node, levels_[level])) at(*child, level + 1);
    if (const Node* one = nodes_.one(node)) at(*one, level + 1);
  }
  void take(const Node& node) {
    if (node.first == nullptr) return;
    if (innerRests_ && !taken_.insert(&node).second) return;
    found_.push_back(node.first);
  }

  const Nodes& nodes_;
  const std::vector<BytesView>& levels_;
  bool hidden_;
  bool innerRests_;
  std::vector<const Hung*>& found_;
  std::set<std::pair<const Node*, size_t>> seen_;
  std::set<const Node*> taken_;
  std::map<const Node*, size_t> rests_;
};

SubscriptionTrie::SubscriptionTrie() : nodes_(std::make_unique<Nodes>()) {}

SubscriptionTrie::~SubscriptionTrie() {
  auto drop = [](const Node& node) {
    for (Hung* at = node.first; at != nullptr;) delete std::exchange(at, at->next);
  };
  drop(nodes_->root);
  nodes_->set.forEach(drop);
}

SubscriptionTrie::Place SubscriptionTrie::add(const TopicFilter& filter, const TrieEntry& entry,
                                              Place before) {
  auto added = before == nullptr ? std::make_unique<Hung>() : nullptr;
  std::unique_lock lock(mutex_);
  Node* node = &nodes_->root;
  for (const FilterLevel& level : filter.levels) node = &nodes_->childFor(*node, level);
  Hung* hung = before == nullptr ? added.release() : before;
  if (hung->node != node) {
    Node* left = hung->node;
    if (left != nullptr) unhang(*hung);
    hang(*hung, *node);
    if (left != nullptr) prune(left);
  }
  hung->entry = entry;
  generation_.fetch_add(1, std::memory_order_release);
  return hung;
}

void SubscriptionTrie::remove(Place place) {
  std::unique_ptr<Hung> hung(place);
  std::unique_lock lock(mutex_);
  unhang(*hung);
  generation_.fetch_add(1, std::memory_order_release);
  prune(hung->node);
}

void SubscriptionTrie::hang(Hung& hung, Node& node) {
  hung.node = &node;
  hung.next = node.first;
  hung.link = &node.first;
  if (hung.next != nullptr) hung.next->link = &hung.next;
  node.first = &hung;
  if (behindRest(node)) ++innerRests_;
  size_.fetch_add(1, std::memory_order_relaxed);
}

void SubscriptionTrie::unhang(Hung& hung) {
  *hung.link = hung.next;
  if (hung.next != nullptr) hung.next->link = hung.link;
  if (behindRest(*hung.node)) --innerRests_;
  size_.fetch_sub(1, std::memory_order_relaxed);
}

/// Takes away what nothing hangs at any more, from `node` upwards.
void SubscriptionTrie::prune(Node* node) {
  while (node->parent != nullptr && node->idle()) {
    Node* parent = node->parent;
    nodes_->drop(*node);
    node = parent;
  }
}

void SubscriptionTrie::collect(const std::vector<BytesView>& levels, bool hidden,
                               std::vector<const Hung*>& found) const {
  Walk(*nodes_, levels, hidden, innerRests_ > 0, found).at(nodes_->root, 0);
}

bool SubscriptionTrie::couldMatchTopic(BytesView topic) const {
  std::shared_lock lock(mutex_);
  const Node& root = nodes_->root;
  if (!hiddenFromWildcards(topic) && (root.hasOne || root.hasRest)) return true;
  return nodes_->literal(root, topic.substr(0, topic.find('/'))) != nullptr;
}

}  // namespace polylog::router
