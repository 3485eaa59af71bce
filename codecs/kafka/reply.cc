#include "codecs/kafka/reply.h"

#include <utility>

#include "core/net/transport.h"

namespace polylog::kafka {
namespace {
/// From here on handing a string over is cheaper than copying it into the connection's block.
constexpr size_t kByReferenceBytes = 4096;
}  // namespace

void Reply::append(BytesView bytes) {
  if (bytes.empty()) return;
  if (pieces_.empty() || !pieces_.back().shared.empty()) pieces_.emplace_back();
  pieces_.back().copied.append(bytes);
  size_ += bytes.size();
}

void Reply::append(std::string&& bytes) {
  if (bytes.empty()) return;
  size_ += bytes.size();
  pieces_.push_back({std::move(bytes), {}});
}

void Reply::append(SharedBytes bytes) {
  if (bytes.empty()) return;
  size_ += bytes.size();
  pieces_.push_back({{}, std::move(bytes)});
}

void Reply::sendTo(Transport& transport) {
  for (Piece& piece : pieces_) {
    if (!piece.shared.empty()) {
      transport.send(std::move(piece.shared));
    } else if (piece.copied.size() >= kByReferenceBytes) {
      transport.send(SharedBytes::own(std::move(piece.copied)));
    } else {
      transport.send(BytesView(piece.copied));
    }
  }
  pieces_.clear();
  size_ = 0;
}

}  // namespace polylog::kafka
