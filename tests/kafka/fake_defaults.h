// What topics follow that set nothing, in memory, answered at once.
#pragma once

#include <memory>
#include <utility>

#include "core/model/topic_defaults.h"

namespace polylog::kafka::test {

class FakeDefaults final : public DynamicDefaults {
 public:
  Result<> mayAlter(const PrincipalRef&) const override {
    if (permitted) return {};
    return fail(ErrorKind::kUnauthorized, "not permitted");
  }
  void alter(const PrincipalRef& principal, DefaultsScope scope, Change change,
             Done<Result<>> done) override {
    if (Result<> may = mayAlter(principal); !may) return done(may);
    TopicDefaults changed = *defaults;
    Result<> result = change(scope == DefaultsScope::kCluster ? changed.cluster : changed.broker);
    if (result) defaults = std::make_shared<const TopicDefaults>(std::move(changed));
    done(std::move(result));
  }
  std::shared_ptr<const TopicDefaults> current() const override { return defaults; }

  std::shared_ptr<const TopicDefaults> defaults = std::make_shared<const TopicDefaults>();
  bool permitted = true;
};

}  // namespace polylog::kafka::test
