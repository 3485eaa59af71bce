// A group of members of a shared subscription, and what is published to it.
#pragma once

#include <string>
#include <vector>

#include "tests/router/router_fixture.h"

namespace polylog::router {

class SharedFixture : public RouterFixture {
 protected:
  static Subscription shared(const std::string& group, const std::string& filter,
                             DeliveryGuarantee guarantee, uint32_t id = 0) {
    Subscription made = subscription(filter, guarantee, id);
    made.text = "$share/" + group + "/" + filter;
    made.share = group;
    return made;
  }
  TestClient& member(const std::string& id, uint32_t expiry = 0,
                     DeliveryGuarantee guarantee = kQos1, size_t worker = 0,
                     int64_t window = 1024) {
    TestClient& client = newClient(id, worker);
    SubscriberOptions options{id, false, expiry, window, std::nullopt};
    on(worker, [&] {
      router_->openSession(principal(id), options, &client,
                           [&client](Result<std::shared_ptr<SubscriberSession>> result) {
                             client.session = *result;
                           });
    });
    settle();
    auto results = subscribe(client, {shared("g", "t/#", guarantee)});
    EXPECT_TRUE(results.at(0).has_value());
    return client;
  }
  void send(int from, int to, DeliveryGuarantee guarantee = kQos1) {
    std::vector<Outgoing> records;
    for (int i = from; i < to; ++i) {
      records.push_back({"t/" + std::to_string(i % 10), std::to_string(i), guarantee});
    }
    publish(records);
    settle();
  }
  std::vector<Delivery> takeShared(TestClient& client, size_t max = 1000) {
    std::vector<Delivery> out;
    on(client.worker, [&] { client.session->take(max, {INT64_MAX, INT64_MAX}, out); });
    settle();
    return out;
  }
  std::vector<std::string> texts(const std::vector<Delivery>& deliveries) {
    std::vector<std::string> out;
    for (const Delivery& delivery : deliveries) out.push_back(textOf(delivery));
    return out;
  }
  std::vector<std::string> takeAndAcknowledge(TestClient& client) {
    std::vector<std::string> all;
    for (auto taken = takeShared(client); !taken.empty(); taken = takeShared(client)) {
      for (const Delivery& delivery : taken) {
        all.push_back(textOf(delivery));
        if (delivery.id >= 0) acknowledge(client, delivery.id);
      }
      settle();
    }
    return all;
  }
  std::vector<SharedGroupInfo> groups() {
    return on(0, [&] { return router_->sharedGroups(principal("admin")); });
  }
  int64_t lag() {
    auto all = groups();
    return all.empty() ? -1 : all[0].lag;
  }
};

}  // namespace polylog::router
