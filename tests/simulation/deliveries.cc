#include "tests/simulation/deliveries.h"

#include <set>

namespace polylog::simulation {

void Deliveries::delivered(int64_t id, BytesView text, bool again) {
  auto number = records_.numberOf(text);
  if (!number) return;
  std::string name = "r" + std::to_string(*number) + " under " + std::to_string(id);
  machine_.say(owner_ + " gets " + name + (again ? " again" : ""));
  auto before = got_.find(id);
  if (before != got_.end() && before->second.number != *number) {
    if (!records_.mayVanish(before->second.number)) {
      return fail(name + " was r" + std::to_string(before->second.number) + " before");
    }
    // That one was lost with the power, and all behind it.
    got_.erase(before, got_.end());
    before = got_.end();
  }
  if (!held_.insert(id).second) return fail(name + " is delivered and not settled");
  if (before == got_.end()) {
    if (!got_.empty() && got_.rbegin()->first > id) {
      return fail(name + " comes after " + std::to_string(got_.rbegin()->first));
    }
    got_[id].number = *number;
    return;
  }
  if (before->second.settled) return fail(name + " was settled and is back");
  if (!again) return fail(name + " comes again and doesn't say so");
}

void Deliveries::settled(int64_t id) {
  held_.erase(id);
  auto at = got_.find(id);
  if (at != got_.end()) at->second.settled = true;
}

void Deliveries::ended(bool clean) {
  held_.clear();
  for (auto& [id, delivery] : got_) {
    if (clean) delivery.settledForGood = delivery.settled;
    delivery.settled = delivery.settledForGood;
  }
}

void Deliveries::verify(const std::function<bool(const Sent&)>& promised) const {
  std::map<size_t, int64_t> ids;
  std::map<size_t, size_t> latest;  // of each publisher
  for (const auto& [id, delivery] : got_) {
    std::string name = "r" + std::to_string(delivery.number);
    auto [twin, fresh] = ids.try_emplace(delivery.number, id);
    if (!fresh) {
      return fail(name + " was delivered twice, under " + std::to_string(twin->second) + " and " +
                  std::to_string(id));
    }
    const Sent& sent = records_.at(delivery.number);
    auto [before, first] = latest.try_emplace(sent.publisher * 64 + sent.topic * 8 +
                                                  static_cast<size_t>(sent.partition),
                                              delivery.number);
    if (!first && before->second > delivery.number) {
      return fail(name + " came after r" + std::to_string(before->second) +
                  " of the same publisher");
    }
    before->second = delivery.number;
  }
  for (size_t number = 0; number < records_.size(); ++number) {
    if (ids.contains(number) || !records_.inLog(number) || !promised(records_.at(number))) continue;
    return fail("r" + std::to_string(number) + " was promised and never came");
  }
}

}  // namespace polylog::simulation
