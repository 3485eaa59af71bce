// ListGroups: all groups, or those in given states or of given types.
#include "codecs/kafka/wire/list_groups.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

BytesView typeOf(const GroupDescription& group) {
  if (group.kind == GroupKind::kShare) return "share";
  return group.kind == GroupKind::kConsumer ? "consumer" : "classic";
}

bool sameWord(BytesView a, BytesView b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

bool admits(const std::vector<BytesView>& filter, BytesView word) {
  return filter.empty() ||
         std::ranges::any_of(filter, [&](BytesView f) { return sameWord(f, word); });
}

}  // namespace

void handleListGroups(const CallRef& call, wire::ListGroupsRequest&& request) {
  auto asked = std::make_shared<wire::ListGroupsRequest>(std::move(request));
  call->broker().listGroups(
      call->principal(), [call, asked](const std::vector<GroupDescription>& groups) {
        wire::ListGroupsResponse response;
        for (const GroupDescription& group : groups) {
          if (!admits(asked->typesFilter, typeOf(group))) continue;
          if (!admits(asked->statesFilter, group.state)) continue;
          response.groups.push_back({group.group, group.protocolType, group.state, typeOf(group)});
        }
        call->answer(response);
      });
}

}  // namespace polylog::kafka
