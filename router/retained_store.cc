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

/// Collects what matches; values that are not in memory are read after the lock is let go.
class RetainedStore::Walk {
 public:
  explicit Walk(const TopicFilter& filter) : filter_(filter.levels) {}

  void at(const Node& node, size_t depth) {
    if (depth == filter_.size()) return take(node);
    const FilterLevel& level = filter_[depth];
    // A filter that goes on behind a "rest", or deeper than nodes do, is compared text by text.
    if (level.kind == FilterLevel::Kind::kRest) {
      if (depth + 1 == filter_.size()) return all(node, depth == 0);
      return compare(node, depth == 0);
    }
    if (depth + 1 >= kNodeLevels) return compare(node, false);
    if (level.kind == FilterLevel::Kind::kLiteral) {
      auto child = node.children.find(level.text);
      if (child != node.children.end()) inside(level.text, *child->second, depth);
      return;
    }
    for (const auto& [text, child] : node.children) {
      if (depth == 0 && hiddenFromWildcards(text)) continue;
      inside(text, *child, depth);
    }
  }

  struct Found {
    std::string address;
    SharedBytes value;
  };
  std::vector<Found> found;

 private:
  void inside(BytesView text, const Node& child, size_t depth) {
    size_t before = enter(text, depth);
    at(child, depth + 1);
    address_.resize(before);
  }
  size_t enter(BytesView text, size_t depth) {
    size_t before = address_.size();
    if (depth > 0) address_.push_back('/');
    address_.append(text);
    return before;
  }
  void take(const Node& node) {
    if (node.present) found.push_back({address_, node.value});
  }
  void all(const Node& node, bool fromRoot) {
    if (!fromRoot) take(node);
    for (const auto& [text, child] : node.children) {
      if (fromRoot && hiddenFromWildcards(text)) continue;
      size_t before = address_.size();
      if (!fromRoot) address_.push_back('/');
      address_.append(text);
      all(*child, false);
      address_.resize(before);
    }
  }
  void compare(const Node& node, bool fromRoot) {
    size_t known = found.size();
    all(node, fromRoot);
    std::vector<BytesView> levels;
    std::erase_if(found, [&, index = size_t{0}](const Found& one) mutable {
      if (index++ < known) return false;
      levelsOf(splitAddressText(one.address), levels);
      return !levelsMatch(filter_, 0, levels);
    });
  }

  const std::vector<FilterLevel>& filter_;
  std::string address_;
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
    const TopicFilter& filter,
    const std::function<void(BytesView address, const SharedBytes& value)>& visit) const {
  Walk walk(filter);
  {
    std::shared_lock lock(mutex_);
    walk.at(*root_, 0);
  }
  for (Walk::Found& one : walk.found) {
    if (one.value.empty()) {
      auto stored = core_.store.getState(storage::StateTable::kRetained, one.address);
      if (!stored) continue;  // cleared meanwhile
      one.value = SharedBytes::own(std::move(*stored));
    }
    visit(one.address, one.value);
    one.value = {};
  }
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
