#include "router/retained_store.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "core/model/record_batch.h"
#include "router/core.h"
#include "router/subscription_trie.h"

namespace polylog::router {
namespace {

/// Octets up to which a value stays in memory.
constexpr size_t kKeptInMemory = 4096;
/// Levels that have a node of their own; what is deeper hangs together as one, so that neither
/// memory nor recursion follows an address of 32,000 levels.
constexpr size_t kNodeLevels = 32;

/// The next level of `rest`, which loses it; at the last node level, all that is left.
BytesView nextLevel(std::optional<BytesView>& rest, size_t depth) {
  size_t end = depth + 1 < kNodeLevels ? rest->find('/') : BytesView::npos;
  BytesView level = rest->substr(0, end);
  if (end == BytesView::npos) {
    rest.reset();
  } else {
    rest->remove_prefix(end + 1);
  }
  return level;
}

}  // namespace

bool levelsMatch(const std::vector<FilterLevel>& filter, size_t from,
                 std::span<const BytesView> levels) {
  for (size_t i = from; i < filter.size(); ++i) {
    switch (filter[i].kind) {
      case FilterLevel::Kind::kRest:
        if (i + 1 == filter.size()) return true;
        for (size_t skip = 0; skip <= levels.size(); ++skip) {
          if (levelsMatch(filter, i + 1, levels.subspan(skip))) return true;
        }
        return false;
      case FilterLevel::Kind::kLiteral:
        if (levels.empty() || levels.front() != filter[i].text) return false;
        break;
      case FilterLevel::Kind::kOne:
        if (levels.empty()) return false;
        break;
    }
    levels = levels.subspan(1);
  }
  return levels.empty();
}

void appendAddressText(const Address& address, std::string& out) {
  out.append(address.topic);
  if (!address.key) return;
  out.push_back('/');
  out.append(*address.key);
}

Address splitAddressText(BytesView text) {
  size_t slash = text.find('/');
  if (slash == BytesView::npos) return {text, std::nullopt};
  return {text.substr(0, slash), text.substr(slash + 1)};
}

struct RetainedStore::Node {
  using Children = std::map<std::string, std::unique_ptr<Node>, std::less<>>;
  Node* parent = nullptr;
  Children::iterator place;  ///< in the parent's children
  Children children;
  bool present = false;
  SharedBytes value;  ///< empty though present: in the state table
};

/// Collects the next of what matches behind an address: node by node, parents before their
/// children, those in the order of their levels. Values that are not in memory are read after the
/// lock is let go.
class RetainedStore::Walk {
 public:
  Walk(const TopicFilter& filter, const std::optional<std::string>& behind, size_t most)
      : filter_(filter.levels), most_(most) {
    std::optional<BytesView> rest = behind;
    while (rest) behind_.push_back(nextLevel(rest, behind_.size()));
  }

  /// False: there may be more.
  bool run(const Node& root) { return at(root, 0, !behind_.empty()); }

  struct Found {
    std::string address;
    SharedBytes value;
  };
  std::vector<Found> found;

 private:
  using Children = Node::Children;

  // Each returns false when enough has been found. `passed`: the node is the address that the walk
  // goes on behind, or above it.
  bool at(const Node& node, size_t depth, bool passed) {
    if (depth == filter_.size()) return take(node, passed);
    const FilterLevel& level = filter_[depth];
    // A filter that goes on behind a "rest", or deeper than nodes do, is compared text by text.
    compares_ = level.kind == FilterLevel::Kind::kRest ? depth + 1 != filter_.size()
                                                       : depth + 1 >= kNodeLevels;
    if (compares_ || level.kind == FilterLevel::Kind::kRest) return all(node, depth, passed);
    if (level.kind == FilterLevel::Kind::kLiteral) {
      auto child = node.children.find(level.text);
      if (child == node.children.end()) return true;
      if (goesOn(depth, passed) && child->first < behind_[depth]) return true;
      return inside(*child, depth, passed, false);
    }
    return each(node, depth, passed, false);
  }
  bool all(const Node& node, size_t depth, bool passed) {
    if (depth > 0 && !take(node, passed)) return false;
    return each(node, depth, passed, true);
  }
  bool each(const Node& node, size_t depth, bool passed, bool whole) {
    auto child = goesOn(depth, passed) ? node.children.lower_bound(behind_[depth])
                                       : node.children.begin();
    for (; child != node.children.end(); ++child) {
      if (depth == 0 && hiddenFromWildcards(child->first)) continue;
      if (!inside(*child, depth, passed, whole)) return false;
    }
    return true;
  }
  bool inside(const Children::value_type& child, size_t depth, bool passed, bool whole) {
    size_t before = address_.size();
    if (depth > 0) address_.push_back('/');
    address_.append(child.first);
    bool childPassed = goesOn(depth, passed) && child.first == behind_[depth];
    bool goOn = whole ? all(*child.second, depth + 1, childPassed)
                      : at(*child.second, depth + 1, childPassed);
    address_.resize(before);
    return goOn;
  }
  bool goesOn(size_t depth, bool passed) const { return passed && depth < behind_.size(); }
  bool take(const Node& node, bool passed) {
    if (passed || !node.present || (compares_ && !matches())) return true;
    if (found.size() == most_) return false;
    found.push_back({address_, node.value});
    return true;
  }
  bool matches() {
    levelsOf(splitAddressText(address_), levels_);
    return levelsMatch(filter_, 0, levels_);
  }

  const std::vector<FilterLevel>& filter_;
  const size_t most_;
  std::vector<BytesView> behind_;
  bool compares_ = false;
  std::string address_;
  std::vector<BytesView> levels_;
};

RetainedStore::RetainedStore(Core& core) : core_(core), root_(std::make_unique<Node>()) {}
RetainedStore::~RetainedStore() = default;

Result<> RetainedStore::load() {
  core_.store.scanState(storage::StateTable::kRetained, "", [&](BytesView key, BytesView value) {
    Node* node = find(key, true);
    node->present = true;
    if (value.size() <= kKeptInMemory) node->value = SharedBytes::copyOf(value);
    size_.fetch_add(1, std::memory_order_relaxed);
    return true;
  });
  core_.metrics.retained.set(static_cast<int64_t>(size()));
  return {};
}

RetainedStore::Node* RetainedStore::find(BytesView address, bool make) {
  Node* node = root_.get();
  std::optional<BytesView> rest = address;
  for (size_t depth = 0; rest; ++depth) {
    BytesView level = nextLevel(rest, depth);
    auto at = node->children.find(level);
    if (at == node->children.end()) {
      if (!make) return nullptr;
      at = node->children.emplace(level, std::make_unique<Node>()).first;
      at->second->parent = node;
      at->second->place = at;
    }
    node = at->second.get();
  }
  return node;
}

void RetainedStore::apply(BytesView address, std::optional<SharedBytes> value) {
  Node* node = find(address, value.has_value());
  if (node == nullptr) return;
  if (value) {
    if (!node->present) size_.fetch_add(1, std::memory_order_relaxed);
    node->present = true;
    node->value = std::move(*value);
  } else {
    if (node->present) size_.fetch_sub(1, std::memory_order_relaxed);
    node->present = false;
    node->value = {};
    while (node->parent != nullptr && !node->present && node->children.empty()) {
      Node* parent = node->parent;
      parent->children.erase(node->place);
      node = parent;
    }
  }
  core_.metrics.retained.set(static_cast<int64_t>(size()));
}

void RetainedStore::settled(BytesView address, const SharedBytes& value) {
  if (value.size() <= kKeptInMemory) return;
  // Where a topic isn't flushed at once, the state follows later: then it stays in memory.
  auto stored = core_.store.getState(storage::StateTable::kRetained, address);
  if (!stored || *stored != value.view()) return;
  std::unique_lock lock(mutex_);
  Node* node = find(address, false);
  if (node != nullptr && node->present && node->value.data() == value.data()) node->value = {};
}

void RetainedStore::refresh(BytesView address) {
  std::unique_lock lock(mutex_);
  std::optional<std::string> value =
      core_.store.getState(storage::StateTable::kRetained, address);
  std::optional<SharedBytes> shared;
  if (value) shared = SharedBytes::own(std::move(*value));
  apply(address, std::move(shared));
}

void RetainedStore::match(
    const TopicFilter& filter, Cursor& cursor, size_t most,
    const std::function<bool(BytesView address, const SharedBytes& value)>& visit) const {
  Walk walk(filter, cursor.last, most);
  bool ended = false;
  {
    std::shared_lock lock(mutex_);
    ended = walk.run(*root_);
  }
  for (Walk::Found& one : walk.found) {
    if (one.value.empty()) {
      auto stored = core_.store.getState(storage::StateTable::kRetained, one.address);
      if (!stored) continue;  // cleared meanwhile
      one.value = SharedBytes::own(std::move(*stored));
    }
    if (!visit(one.address, one.value)) return;
    one.value = {};
    cursor.last = std::move(one.address);
  }
  cursor.ended = ended;
}

std::string RetainedStore::encode(Protocol origin, const Record& record) {
  RecordBatchBuilder builder;
  builder.add(record);
  std::string value(1, static_cast<char>(origin));
  value += builder.finish();
  return value;
}

Result<std::pair<Protocol, SharedBytes>> RetainedStore::batchOf(const SharedBytes& value) {
  auto origin = value.empty() ? uint8_t{0xFF} : static_cast<uint8_t>(value.view().front());
  if (origin > static_cast<uint8_t>(Protocol::kRocketMq)) {
    return fail(ErrorKind::kCorrupt, "a retained record can't be read");
  }
  return std::pair(static_cast<Protocol>(origin), value.slice(1));
}

}  // namespace polylog::router
