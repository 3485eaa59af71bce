// Channel's handlers of the class basic, but for publishing. What is checked, in which order and
// with which words is RabbitMQ 3.10's.
#include <fmt/format.h>

#include <optional>

#include "codecs/amqp/arguments.h"
#include "codecs/amqp/channel.h"

namespace polylog::amqp {

Outcome Channel::on(const BasicQos& method) {
  if (method.prefetchSize != 0) {
    return notBuilt(fmt::format("prefetch_size!=0 ({})", method.prefetchSize));
  }
  deliveries_.settle();
  if (method.global) {
    deliveries_.limitChannel(method.prefetchCount);
  } else {
    deliveries_.limitConsumers(method.prefetchCount);
  }
  answer(BasicQosOk{});
  return {};
}

// ---- consumers

Outcome Channel::on(const BasicConsume& method) {
  settle();
  ConsumeOptions options;
  if (!expand(method.queue, options.queue)) return noLastQueue();
  if (deliveries_.hasConsumer(method.consumerTag)) {
    return fault(ReplyCode::kNotAllowed,
                 fmt::format("attempt to reuse consumer tag '{}'", method.consumerTag));
  }
  if (options.queue == kReplyToQueue) return notBuilt("direct reply-to is not supported");
  if (link_.consumers.size() >= kMaxConsumers) {
    return fault(ReplyCode::kResourceError, "too many consumers on this connection");
  }
  QueueInfo queue;
  if (auto problem = findQueue(options.queue, queue)) return problem;
  if (auto problem = checkConsume(method, queue, options)) return problem;
  std::string tag(method.consumerTag);
  if (tag.empty()) tag = madeUpName("amq.ctag-");
  auto consumer = deliveries_.makeConsumer(std::move(tag), queue, !method.noAck);
  deliveries_.setWindows(*consumer, options);
  // While this is on its way the listener lives in the callback.
  QueueListener* listener = consumer.get();
  auto done = await<Result<std::unique_ptr<QueueConsumer>>>(
      method,
      [this, consumer = std::move(consumer), name = options.queue,
       noWait = method.noWait](Result<std::unique_ptr<QueueConsumer>> begun) -> Outcome {
        if (!begun) return refusedConsumer(begun.error(), name);
        if (!noWait) {
          BasicConsumeOk ok;
          ok.consumerTag = consumer->tag;
          answer(ok);
        }
        deliveries_.start(consumer, std::move(*begun));
        return {};
      });
  link_.client->consume(std::move(options), listener, std::move(done));
  return {};
}

/// The arguments, and what streams ask for.
Outcome Channel::checkConsume(const BasicConsume& method, const QueueInfo& queue,
                              ConsumeOptions& options) const {
  const std::string& name = queue.spec.name;
  Table arguments;
  if (auto problem = decodeArguments(method.arguments, arguments)) return problem;
  if (auto problem =
          checkConsumer(name, queue.spec.kind, arguments, link_.wallMillis(), options.start)) {
    return problem;
  }
  if (queue.spec.kind != QueueKind::kStream) {
    options.exclusive = method.exclusive;
    return {};
  }
  if (deliveries_.prefetch() == 0) {
    return fault(ReplyCode::kPreconditionFailed,
                 fmt::format("consumer prefetch count is not set for '{}'", queueText(name)));
  }
  if (method.noAck) {
    return notBuilt("automatic acknowledgement not supported by stream queues " + queueText(name));
  }
  if (deliveries_.channelLimited()) {
    return notBuilt(queueText(name) + " does not support global qos");
  }
  return {};
}

Fault Channel::refusedConsumer(const Error& error, const std::string& queue) const {
  if (error.kind == ErrorKind::kLocked) return locked(queue);
  if (error.kind == ErrorKind::kInUse) {
    return fault(ReplyCode::kAccessRefused, queueText(queue) + " in exclusive use");
  }
  return faultOf(error, queueText(queue), link_.principal->user);
}

Outcome Channel::on(const BasicCancel& method) {
  settle();
  deliveries_.cancel(method.consumerTag);
  if (method.noWait) return {};
  BasicCancelOk ok;
  ok.consumerTag = method.consumerTag;
  answer(ok);
  return {};
}

// ---- basic.get

Outcome Channel::on(const BasicGet& method) {
  settle();
  std::string name;
  if (!expand(method.queue, name)) return noLastQueue();
  QueueInfo queue;
  if (auto problem = findQueue(name, queue)) return problem;
  if (queue.spec.kind == QueueKind::kStream) {
    return notBuilt("basic.get not supported by stream queues " + queueText(name));
  }
  if (!method.noAck && deliveries_.unacknowledged() >= static_cast<size_t>(kMaxUnacknowledged)) {
    return fault(ReplyCode::kPreconditionFailed, "too many unacknowledged deliveries");
  }
  get(name, !method.noAck);
  return {};
}

void Channel::get(const std::string& queue, bool acknowledges) {
  waiting_ = true;
  link_.client->get(queue, acknowledges,
                    [weak = weak_from_this(), queue,
                     acknowledges](Result<std::optional<QueueGot>> result) mutable {
                      const std::shared_ptr<Channel> self = weak.lock();
                      if (self && self->open()) {
                        self->got(queue, acknowledges, std::move(result));
                      } else if (result && *result && acknowledges) {
                        const Settlement back{(*result)->delivery.id, Disposition::kReturn};
                        (*result)->queue->settle({&back, 1});
                      }
                    });
}

void Channel::got(const std::string& queue, bool acknowledges,
                  Result<std::optional<QueueGot>> result) {
  const MethodId method{BasicGet::kClassId, BasicGet::kMethodId};
  if (!result) {
    waiting_ = false;
    const bool isLocked = result.error().kind == ErrorKind::kLocked;
    return answered(
        isLocked ? locked(queue) : faultOf(result.error(), queueText(queue), link_.principal->user),
        method);
  }
  if (*result && !deliveries_.sendGot(**result, acknowledges, queue)) {
    return get(queue, acknowledges);  // it had expired
  }
  waiting_ = false;
  if (!*result) answer(BasicGetEmpty{});
  answered({}, method);
}

// ---- acknowledgements

Outcome Channel::on(const BasicAck& method) {
  return deliveries_.acknowledge(method.deliveryTag, method.multiple, Disposition::kAccept);
}

Outcome Channel::on(const BasicReject& method) {
  return deliveries_.acknowledge(method.deliveryTag, false,
                                 method.requeue ? Disposition::kRequeue : Disposition::kReject);
}

Outcome Channel::on(const BasicNack& method) {
  return deliveries_.acknowledge(method.deliveryTag, method.multiple,
                                 method.requeue ? Disposition::kRequeue : Disposition::kReject);
}

Outcome Channel::on(const BasicRecover& method) {
  if (!method.requeue) return notBuilt("requeue=false");
  deliveries_.recover();
  answer(BasicRecoverOk{});
  return {};
}

Outcome Channel::on(const BasicRecoverAsync& method) {
  if (!method.requeue) return notBuilt("requeue=false");
  deliveries_.recover();
  return {};
}

}  // namespace polylog::amqp
