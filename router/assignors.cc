#include "router/assignors.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

namespace polylog::router {
namespace {

using Place = std::pair<TopicId, int32_t>;

/// What members keep of what they had, and what is left to give out.
class Uniform {
 public:
  Uniform(std::span<const AssignorMember> members, const AssignorTopics& topics)
      : members_(members), topics_(topics), result_(members.size()), loads_(members.size()) {}

  AssignorResult run() {
    if (members_.empty()) return {};
    keepWhatIsRight();
    bool alike = std::all_of(members_.begin(), members_.end(), [&](const AssignorMember& member) {
      return member.topics == members_.front().topics;
    });
    alike ? divideEqually() : divideBySubscription();
    return std::move(result_);
  }

 private:
  void keepWhatIsRight() {
    std::set<Place> taken;
    for (size_t i = 0; i < members_.size(); ++i) {
      for (const auto& [topic, partitions] : *members_[i].current) {
        auto known = topics_.find(topic);
        if (known == topics_.end() || !members_[i].topics.contains(topic)) continue;
        for (int32_t partition : partitions) {
          if (partition < known->second && taken.insert({topic, partition}).second) {
            give(i, {topic, partition});
          }
        }
      }
    }
    std::set<TopicId> subscribed;
    for (const AssignorMember& member : members_) {
      subscribed.insert(member.topics.begin(), member.topics.end());
    }
    for (const auto& [topic, count] : topics_) {
      if (!subscribed.contains(topic)) continue;
      for (int32_t partition = 0; partition < count; ++partition) {
        if (!taken.contains({topic, partition})) free_.emplace_back(topic, partition);
      }
    }
  }

  void give(size_t member, const Place& place) {
    result_[member][place.first].insert(place.second);
    ++loads_[member];
  }
  void take(size_t member, const Place& place) {
    auto at = result_[member].find(place.first);
    at->second.erase(place.second);
    if (at->second.empty()) result_[member].erase(at);
    --loads_[member];
  }
  Place lastOf(size_t member) const {
    const auto& [topic, partitions] = *result_[member].rbegin();
    return {topic, *partitions.rbegin()};
  }

  /// All read the same topics: everybody gets as many, but for one more for some.
  void divideEqually() {
    size_t total = std::accumulate(loads_.begin(), loads_.end(), free_.size());
    size_t least = total / members_.size();
    size_t more = total % members_.size();
    // Those that have most keep most.
    std::vector<size_t> order(members_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::pair(loads_[b], a) < std::pair(loads_[a], b);
    });
    std::vector<size_t> quota(members_.size(), least);
    for (size_t i = 0; i < more; ++i) ++quota[order[i]];
    for (size_t i = 0; i < members_.size(); ++i) {
      while (loads_[i] > quota[i]) {
        free_.push_back(lastOf(i));
        take(i, free_.back());
      }
    }
    size_t next = 0;
    for (size_t i = 0; i < members_.size(); ++i) {
      while (loads_[i] < quota[i]) give(i, free_[next++]);
    }
  }

  /// Each free partition goes to the least loaded subscriber of its topic; then partitions move, as
  /// long as that makes two members more alike.
  void divideBySubscription() {
    std::map<TopicId, std::vector<size_t>> subscribers;
    for (size_t i = 0; i < members_.size(); ++i) {
      for (const TopicId& topic : members_[i].topics) subscribers[topic].push_back(i);
    }
    auto lighter = [&](size_t a, size_t b) { return loads_[a] < loads_[b]; };
    // What few can take is given out first.
    std::sort(free_.begin(), free_.end(), [&](const Place& a, const Place& b) {
      return std::pair(subscribers[a.first].size(), a) < std::pair(subscribers[b.first].size(), b);
    });
    for (const Place& place : free_) {
      const auto& able = subscribers[place.first];
      give(*std::min_element(able.begin(), able.end(), lighter), place);
    }
    bool moved = true;
    while (moved) {  // the sum of the loads' squares falls with every move
      moved = false;
      for (const auto& [topic, able] : subscribers) moved = balance(topic, able) || moved;
    }
  }

  bool balance(const TopicId& topic, const std::vector<size_t>& able) {
    bool moved = false;
    while (true) {
      size_t light = able.front();
      std::optional<size_t> heavy;
      for (size_t member : able) {
        if (loads_[member] < loads_[light]) light = member;
        if (!result_[member].contains(topic)) continue;
        if (!heavy || loads_[member] > loads_[*heavy]) heavy = member;
      }
      if (!heavy || loads_[*heavy] < loads_[light] + 2) return moved;
      Place place{topic, *result_[*heavy].at(topic).rbegin()};
      take(*heavy, place);
      give(light, place);
      moved = true;
    }
  }

  std::span<const AssignorMember> members_;
  const AssignorTopics& topics_;
  AssignorResult result_;
  std::vector<size_t> loads_;
  std::vector<Place> free_;
};

}  // namespace

AssignorResult assignUniform(std::span<const AssignorMember> members,
                             const AssignorTopics& topics) {
  return Uniform(members, topics).run();
}

AssignorResult assignRange(std::span<const AssignorMember> members, const AssignorTopics& topics) {
  AssignorResult result(members.size());
  std::vector<size_t> order(members.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    auto rank = [&](size_t i) {
      const AssignorMember& member = members[i];
      return std::tuple(!member.instanceId, member.instanceId.value_or(member.id), member.id);
    };
    return rank(a) < rank(b);
  });
  for (const auto& [topic, count] : topics) {
    std::vector<size_t> able;
    for (size_t member : order) {
      if (members[member].topics.contains(topic)) able.push_back(member);
    }
    int32_t next = 0;
    for (size_t i = 0; i < able.size(); ++i) {
      auto subscribers = static_cast<int32_t>(able.size());
      int32_t share = count / subscribers + (static_cast<int32_t>(i) < count % subscribers ? 1 : 0);
      for (int32_t end = next + share; next < end; ++next) result[able[i]][topic].insert(next);
    }
  }
  return result;
}

AssignorResult assignShared(std::span<const AssignorMember> members, const AssignorTopics& topics) {
  // Topics with the same readers are divided as if they were one.
  std::map<std::vector<size_t>, std::vector<Place>> byReaders;
  for (const auto& [topic, count] : topics) {
    std::vector<size_t> readers;
    for (size_t i = 0; i < members.size(); ++i) {
      if (members[i].topics.contains(topic)) readers.push_back(i);
    }
    if (readers.empty()) continue;
    auto& places = byReaders[std::move(readers)];
    for (int32_t partition = 0; partition < count; ++partition)
      places.emplace_back(topic, partition);
  }
  AssignorResult result(members.size());
  for (const auto& [readers, places] : byReaders) {
    size_t pairs = places.empty() ? 0 : std::max(readers.size(), places.size());
    for (size_t i = 0; i < pairs; ++i) {
      const Place& place = places[i % places.size()];
      result[readers[i % readers.size()]][place.first].insert(place.second);
    }
  }
  return result;
}

Assignor findAssignor(const std::string& name) {
  if (name == kAssignorNames[0]) return assignUniform;
  if (name == kAssignorNames[1]) return assignRange;
  return nullptr;
}

}  // namespace polylog::router
