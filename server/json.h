// Writes JSON; octets that are not UTF-8 text appear in base64 under NAME_base64. Over RapidJSON,
// which stays out of the headers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"

namespace polylog::server {

class Json {
 public:
  Json();
  ~Json();

  void object(const std::function<void()>& members);
  void array(const std::function<void()>& elements);
  /// A member whose value is an object or array that comes next.
  void name(std::string_view name);

  void field(std::string_view name, std::string_view text);
  void field(std::string_view name, const char* text) { field(name, std::string_view(text)); }
  void field(std::string_view name, const std::string& text) {
    field(name, std::string_view(text));
  }
  void field(std::string_view name, int64_t number);
  void field(std::string_view name, double number);
  void field(std::string_view name, bool value);
  /// Null, text, or base64 under another name.
  void octets(std::string_view name, const std::optional<BytesView>& value);
  void element(std::string_view text);

  std::string text() const;

 private:
  struct Writer;
  std::unique_ptr<Writer> writer_;
};

std::string base64(BytesView octets);
/// Nothing when `text` is not base64.
std::optional<std::string> fromBase64(std::string_view text);

}  // namespace polylog::server
