#include "codecs/amqp/channel.h"

#include <fmt/format.h>

#include "core/base/log.h"
#include "mapping/address.h"

namespace polylog::amqp {

Outcome Channel::onFrame(const Frame& frame) {
  if (assembly_.idle() && frame.type == FrameType::kMethod) return onMethod(frame.payload);
  if (auto problem = assembly_.add(frame)) return problem;
  if (!assembly_.complete()) return {};
  const Content content = assembly_.take();
  Outcome outcome = publishing_.publish(shared_from_this(), content, assembly_.keptBody());
  assembly_.abandon();
  return about(std::move(outcome), {BasicPublish::kClassId, BasicPublish::kMethodId});
}

Outcome Channel::onMethod(BytesView payload) {
  const MethodId id = idOf(payload);
  const auto method = decodeMethod(payload);
  if (!method) return about(undecodable(payload, method.error().kind), id);
  return about(std::visit([this](const auto& each) { return on(each); }, *method), id);
}

void Channel::endRound() {
  touched_ = false;
  if (!open()) return;
  deliveries_.settle();
  assembly_.keep();
}

void Channel::fail(const Fault& fault) {
  if (!open()) return;
  if (isHardError(fault.code)) {
    link_.end(fault);
    return;
  }
  close();
  state_ = State::kClosing;
  const std::string text = replyText(fault);
  if (logEnabled(LogLevel::kInfo)) {
    logInfo(fmt::format("amqp {} channel {}: {}", link_.transport.peer(), number_, shown(text)));
  }
  ChannelClose method;
  method.replyCode = static_cast<uint16_t>(fault.code);
  method.replyText = text;
  method.classId = fault.classId;
  method.methodId = fault.methodId;
  answer(method);
}

void Channel::close() {
  if (!open()) return;
  state_ = State::kClosed;
  assembly_.abandon();
  deliveries_.close();
}

void Channel::settle() {
  publishing_.flush();
  publishing_.forgetRoute();
  deliveries_.settle();
}

void Channel::answered(Outcome outcome, MethodId method) {
  if (outcome) fail(*about(std::move(outcome), method));
  link_.flush();
  link_.progressed();
}

bool Channel::expand(BytesView name, std::string& out) const {
  out = name.empty() ? lastQueue_ : std::string(name);
  return !out.empty();
}

Outcome Channel::findQueue(const std::string& name, QueueInfo& out) const {
  auto found = link_.client->findQueue(name);
  if (!found) return notFound(queueText(name));
  if (found->exclusiveToOther) return locked(name);
  out = std::move(*found);
  return {};
}

std::string Channel::madeUpName(const char* prefix) const {
  std::string octets;
  for (int word = 0; word < 2; ++word) {
    uint64_t random = link_.options->random->next();
    for (size_t i = 0; i < sizeof random; ++i, random >>= 8) {
      octets.push_back(static_cast<char>(random & 0xFFU));
    }
  }
  std::string marked;
  mapping::appendMarked(octets, marked);  // the marker and base64url
  return prefix + marked.substr(mapping::kNameMarker.size());
}

// ---- channel.*, access.*

Outcome Channel::on(const ChannelOpen&) {
  return fault(ReplyCode::kChannelError, "second 'channel.open' seen");
}

Outcome Channel::on(const ChannelFlow& method) {
  if (!method.active) return notBuilt("active=false");
  ChannelFlowOk ok;
  ok.active = true;
  answer(ok);
  return {};
}

/// AMQP 0-8's tickets, which some old clients still ask for.
Outcome Channel::on(const AccessRequest&) {
  AccessRequestOk ok;
  ok.ticket = 1;
  answer(ok);
  return {};
}

// ---- publishing

Outcome Channel::on(const BasicPublish& method) {
  if (method.immediate) return notBuilt("immediate=true");
  assembly_.begin(method);
  return {};
}

Outcome Channel::on(const ConfirmSelect& method) {
  confirming_ = true;
  if (!method.noWait) answer(ConfirmSelectOk{});
  return {};
}

Outcome Channel::noTransactions() {
  return notBuilt("transactions are not supported");
}

void Channel::confirmed(uint64_t number, bool stored) {
  if (!open()) return;
  if (stored) {
    toConfirm_ = number;
    ++untold_;
    return;
  }
  sendConfirms();
  BasicNack nack;
  nack.deliveryTag = number;
  nack.requeue = true;  // as RabbitMQ writes it; it means nothing here
  answer(nack);
}

void Channel::sendConfirms() {
  if (untold_ == 0 || !open()) return;
  BasicAck ack;
  ack.deliveryTag = toConfirm_;
  ack.multiple = std::exchange(untold_, 0) > 1;
  answer(ack);
}

}  // namespace polylog::amqp
