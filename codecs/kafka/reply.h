// An answer ready to go out: copied pieces and pieces by reference, in order. One request's, on its
// connection's thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/base/bytes.h"

namespace polylog {
class Transport;
}

namespace polylog::kafka {

class Reply {
 public:
  Reply() = default;
  explicit Reply(std::string whole) { append(std::move(whole)); }

  /// Copies.
  void append(BytesView bytes);
  void append(std::string&& bytes);
  /// Keeps a reference.
  void append(SharedBytes bytes);

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  /// Queues everything and leaves the reply empty.
  void sendTo(Transport& transport);

 private:
  struct Piece {
    std::string copied;
    SharedBytes shared;  ///< if not empty, this is the piece
  };

  std::vector<Piece> pieces_;
  size_t size_ = 0;
};

}  // namespace polylog::kafka
