#include "server/json.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cmath>

#include "core/base/rapidjson.h"
#include "mapping/address.h"

namespace polylog::server {

struct Json::Writer {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> json{buffer};

  void string(std::string_view text) {
    json.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
  }
};

Json::Json() : writer_(std::make_unique<Writer>()) {}
Json::~Json() = default;

void Json::object(const std::function<void()>& members) {
  writer_->json.StartObject();
  members();
  writer_->json.EndObject();
}

void Json::array(const std::function<void()>& elements) {
  writer_->json.StartArray();
  elements();
  writer_->json.EndArray();
}

void Json::name(std::string_view name) {
  writer_->json.Key(name.data(), static_cast<rapidjson::SizeType>(name.size()));
}

void Json::field(std::string_view name, std::string_view text) {
  octets(name, text);
}

void Json::field(std::string_view name, double number) {
  this->name(name);
  if (number == std::floor(number) && std::abs(number) < 1e15) {
    writer_->json.Int64(static_cast<int64_t>(number));
  } else {
    writer_->json.Double(number);
  }
}

void Json::field(std::string_view name, int64_t number) {
  this->name(name);
  writer_->json.Int64(number);
}

void Json::field(std::string_view name, bool value) {
  this->name(name);
  writer_->json.Bool(value);
}

void Json::octets(std::string_view name, const std::optional<BytesView>& value) {
  if (!value) {
    this->name(name);
    writer_->json.Null();
  } else if (mapping::isText(*value)) {
    this->name(name);
    writer_->string(*value);
  } else {
    this->name(std::string(name) + "_base64");
    writer_->string(base64(*value));
  }
}

void Json::element(std::string_view text) {
  writer_->string(text);
}

std::string Json::text() const {
  return {writer_->buffer.GetString(), writer_->buffer.GetSize()};
}

std::string base64(BytesView octets) {
  std::string out(4 * ((octets.size() + 2) / 3) + 1, '\0');
  int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                               reinterpret_cast<const unsigned char*>(octets.data()),
                               static_cast<int>(octets.size()));
  out.resize(static_cast<size_t>(length));
  return out;
}

std::optional<std::string> fromBase64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  // OpenSSL forgives blanks and stray padding; the same octets would have several forms.
  auto coding = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+' ||
           c == '/';
  };
  if (!std::ranges::all_of(text.substr(0, text.size() - padding), coding)) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                               reinterpret_cast<const unsigned char*>(text.data()),
                               static_cast<int>(text.size()));
  if (length < 0) return std::nullopt;
  out.resize(static_cast<size_t>(length) - padding);
  return out;
}

}  // namespace polylog::server
