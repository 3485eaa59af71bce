// DeleteGroups: groups without members, and their offsets.
#include "codecs/kafka/wire/delete_groups.h"

#include <memory>
#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"

namespace polylog::kafka {
namespace {

struct Deletion {
  explicit Deletion(CallRef c) : call(std::move(c)) {}
  void release() {
    if (--waiting == 0) call->answer(response);
  }
  CallRef call;
  wire::DeleteGroupsResponse response;
  size_t waiting = 1;
};

}  // namespace

void handleDeleteGroups(const CallRef& call, wire::DeleteGroupsRequest&& request) {
  auto deletion = std::make_shared<Deletion>(call);
  deletion->response.results.resize(request.groups.size());
  for (size_t i = 0; i < request.groups.size(); ++i) {
    deletion->response.results[i].groupId = request.groups[i];
    ++deletion->waiting;
    call->broker().deleteGroup(call->principal(), owned(request.groups[i]),
                               [deletion, i](const Result<>& result) {
                                 auto& out = deletion->response.results[i];
                                 if (!result) out.errorCode = code(result.error(), Area::kGroup);
                                 deletion->release();
                               });
  }
  deletion->release();
}

}  // namespace polylog::kafka
