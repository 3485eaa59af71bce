#include "core/net/layer.h"

#include <fmt/format.h>

#include <algorithm>

namespace polylog {

// ---- Layer

void Layer::onDrained() {
  if (upper_ != nullptr && open_) upper_->onDrained();
}

void Layer::onShutdown() {
  if (upper_ != nullptr) return upper_->onShutdown();
  close("the broker stops");
}

void Layer::onClosed(std::string_view why) {
  open_ = false;
  if (upper_ == nullptr) return;
  upper_->onClosed(why);
  upper_.reset();
}

void Layer::send(BytesView bytes) {
  if (open_) lower_.send(bytes);
}

void Layer::send(SharedBytes bytes) {
  if (open_) lower_.send(std::move(bytes));
}

void Layer::pauseReading(bool paused) {
  paused_ = paused;
  lower_.pauseReading(paused);
}

void Layer::close(std::string_view why) {
  if (!open_) return;
  open_ = false;
  sayGoodbye();
  lower_.close(why);
}

void Layer::handshakeDone() {
  inHandshake_ = false;
  lower_.handshakeDone();
}

// ---- DecodingLayer

void DecodingLayer::pauseReading(bool pause) {
  if (paused() == pause) return;
  Layer::pauseReading(pause);
  if (pause || !open() || resuming_ || (input_.empty() && !holdsInput())) return;
  resuming_ = true;
  afterRound([this] { resume(); });
}

void DecodingLayer::resume() {
  resuming_ = false;
  if (!open() || paused()) return;
  if (!input_.empty()) pass();
  if (open() && !paused()) decodeHeld();
}

bool DecodingLayer::withinLimit() {
  size_t limit = inHandshake() ? limits_.handshakeInput : limits_.maxInput;
  size_t wanted = input_.empty() ? 0 : upper()->wanted();
  if (wanted <= limit && input_.size() < limit) return true;
  close(fmt::format("{} of {} octets, over the limit of {}", inHandshake() ? "handshake" : "packet",
                    std::max(wanted, input_.size()), limit));
  return false;
}

InputBuffer::Room DecodingLayer::room() {
  if (!withinLimit()) return {};
  return input_.room(input_.empty() ? 0 : upper()->wanted(),
                     inHandshake() ? limits_.handshakeInput : limits_.maxInput);
}

void DecodingLayer::deliver(size_t count) {
  input_.filled(count);
  pass();
}

void DecodingLayer::pass() {
  size_t used = upper()->onBytes(input_.unread());
  input_.consume(std::min(used, input_.size()));
  // At once: the octet that would make it too large may never come.
  if (open() && !paused()) withinLimit();
}

}  // namespace polylog
