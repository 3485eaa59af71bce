// How headers exchanges compare. Pure functions.
#pragma once

#include <vector>

#include "core/model/value.h"

namespace polylog::router {

/// A message's headers by name, made once for all bindings that look; of equal names the first
/// counts. A view.
class HeadersByName {
 public:
  /// Null: a message without headers.
  HeadersByName(const Table* headers);  // NOLINT(google-explicit-constructor)
  const Value* find(std::string_view name) const;

 private:
  std::vector<const Table::value_type*> entries_;
};

/// Whether a message's headers match a binding's arguments (RabbitMQ's headers exchange: `x-match`
/// all, any, all-with-x, any-with-x; names that begin with `x-` count only for the latter two).
bool headersMatch(const Table& arguments, const HeadersByName& headers);

}  // namespace polylog::router
