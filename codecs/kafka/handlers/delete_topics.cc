// DeleteTopics: by name or by id, answered when it is durable.
#include "codecs/kafka/wire/delete_topics.h"

#include <memory>
#include <string>
#include <utility>

#include "codecs/kafka/errors.h"
#include "codecs/kafka/handlers/common.h"
#include "codecs/kafka/handlers/handlers.h"
#include "mapping/address.h"
#include "mapping/kafka.h"

namespace polylog::kafka {
namespace {

using Answer = wire::DeleteTopicsResponse::Topic;

/// Whose clients know THROTTLING_QUOTA_EXCEEDED (KIP-599).
constexpr int16_t kFirstStrict = 5;

struct Deletion {
  explicit Deletion(CallRef c) : call(std::move(c)) {}
  void release() {
    if (--waiting == 0) call->answer(response);
  }
  void refuse(Answer& answer, int16_t errorCode, std::string text) {
    answer.errorCode = errorCode;
    if (!text.empty()) answer.errorMessage = texts.keep(std::move(text));
  }

  CallRef call;
  wire::DeleteTopicsResponse response;
  mapping::TextArena texts;
  size_t waiting = 1;
};
using DeletionRef = std::shared_ptr<Deletion>;

/// The topic that `answer` names; null, and the answer refused, if there is none.
TopicRef find(Deletion& deletion, Answer& answer) {
  Call& call = *deletion.call;
  if (!answer.name) {
    TopicRef found = call.broker().findTopic(call.principal(), answer.id);
    if (found == nullptr) deletion.refuse(answer, code(Code::kUnknownTopicId), {});
    std::string name;
    if (found != nullptr && mapping::appendKafkaTopic(found->name, name)) {
      answer.name = deletion.texts.keep(std::move(name));
    }
    return found;
  }
  Result<std::string> name = canonicalTopic(*answer.name);
  TopicRef found = name ? call.broker().findTopic(call.principal(), *name) : nullptr;
  if (found == nullptr) deletion.refuse(answer, code(Code::kUnknownTopicOrPartition), {});
  if (found != nullptr) answer.id = found->id;
  return found;
}

void remove(const DeletionRef& deletion, Answer& answer, MutationQuota& quota) {
  TopicRef topic = find(*deletion, answer);
  if (topic == nullptr) return;
  if (!quota.take(topic->partitions.size())) {
    return deletion->refuse(answer, code(Code::kThrottlingQuotaExceeded), kQuotaExceeded);
  }
  ++deletion->waiting;
  Call& call = *deletion->call;
  call.broker().deleteTopic(
      call.principal(), topic->name, [deletion, &answer](const Result<>& result) {
        if (!result)
          deletion->refuse(answer, code(result.error(), Area::kTopic), result.error().text);
        deletion->release();
      });
}

}  // namespace

void handleDeleteTopics(const CallRef& call, wire::DeleteTopicsRequest&& request) {
  auto deletion = std::make_shared<Deletion>(call);
  MutationQuota quota(call, kFirstStrict);
  auto& answers = deletion->response.topics;
  answers.resize(request.topics.size() + request.names.size());
  size_t at = 0;
  for (const auto& topic : request.topics) {
    answers[at].name = topic.name;
    answers[at++].id = topic.id;
  }
  for (BytesView name : request.names) answers[at++].name = name;
  for (Answer& answer : answers) {
    if (answer.name && !isZero(answer.id)) {
      deletion->refuse(answer, code(Code::kInvalidRequest),
                       "give a topic's name or its id, not both");
    } else {
      remove(deletion, answer, quota);
    }
  }
  quota.tell(deletion->response);
  deletion->release();
}

}  // namespace polylog::kafka
