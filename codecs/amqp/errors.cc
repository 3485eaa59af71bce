#include "codecs/amqp/errors.h"

#include <fmt/format.h>

#include <algorithm>

#include "codecs/amqp/limits.h"
#include "mapping/address.h"
#include "mapping/errors.h"

namespace polylog::amqp {
namespace {

constexpr size_t kPrintedOctets = 512;  // no reply text holds more

bool printable(BytesView octets) {
  return std::ranges::all_of(octets, [](char c) { return c >= 0x20 && c < 0x7F; });
}

std::string snippet(uint8_t type, BytesView payload) {
  constexpr size_t kShown = 16;
  return fmt::format("type {}, {} octets = {}", type, payload.size() > kShown ? "first 16" : "all",
                     erlangBinary(payload.substr(0, kShown)));
}

}  // namespace

Outcome about(Outcome outcome, MethodId method) {
  if (outcome && outcome->classId == 0) {
    outcome->classId = method.classId;
    outcome->methodId = method.methodId;
  }
  return outcome;
}

std::string replyText(const Fault& fault) {
  std::string text(replyName(fault.code));
  text.append(" - ").append(fault.text);
  // Names in publishes may be any octets, clients take the text for UTF-8.
  if (!mapping::isUtf8(text)) {
    std::ranges::replace_if(
        text, [](char c) { return (c & 0x80) != 0; }, '?');
  }
  if (text.size() > kMaxShortString) {
    size_t end = kMaxShortString - 3;
    while ((text[end] & 0xC0) == 0x80) --end;  // not within a character
    text.resize(end);
    text.append("...");
  }
  return text;
}

std::string queueText(BytesView name) {
  return fmt::format("queue '{}' in vhost '/'", name);
}

std::string exchangeText(BytesView name) {
  return fmt::format("exchange '{}' in vhost '/'", name);
}

Fault notFound(const std::string& resource) {
  return fault(ReplyCode::kNotFound, "no " + resource);
}

Fault locked(BytesView queue) {
  return fault(ReplyCode::kResourceLocked,
               fmt::format("cannot obtain exclusive access to locked {}. It could be originally "
                           "declared on another connection or the exclusive property value does "
                           "not match that of the original declaration.",
                           queueText(queue)));
}

Fault noLastQueue() {
  return fault(ReplyCode::kNotFound, "no previously declared queue");
}

Fault reservedPrefix(const char* kind, BytesView name) {
  return fault(ReplyCode::kAccessRefused,
               fmt::format("{} name '{}' contains reserved prefix 'amq.*'", kind, name));
}

Fault notBuilt(const std::string& what) {
  return fault(ReplyCode::kNotImplemented, what);
}

Fault undecodable(BytesView payload, ErrorKind why) {
  constexpr size_t kMethodId = 4;
  if (why == ErrorKind::kNotFound) return fault(ReplyCode::kCommandInvalid, "unimplemented method");
  if (payload.size() < kMethodId) return badFrame(1, payload, "unknown_frame");
  return fault(ReplyCode::kFrameError,
               "cannot decode " + erlangBinary(payload.substr(kMethodId), true));
}

Fault unexpectedFrame(uint8_t type, BytesView payload) {
  return fault(ReplyCode::kUnexpectedFrame, snippet(type, payload));
}

Fault badFrame(uint8_t type, BytesView payload, const std::string& how) {
  return fault(ReplyCode::kFrameError, snippet(type, payload) + ": " + how);
}

Fault faultOf(const Error& error, const std::string& resource, const std::string& user) {
  const auto code = static_cast<ReplyCode>(mapping::amqpError(error.kind).code);
  switch (error.kind) {
    case ErrorKind::kNotFound: return notFound(resource);
    case ErrorKind::kUnauthorized:
      return fault(code, fmt::format("access to {} refused for user '{}'", resource, user));
    case ErrorKind::kInUse: return fault(code, resource + " in use");
    case ErrorKind::kNotEmpty: return fault(code, resource + " not empty");
    case ErrorKind::kShutdown:
      return fault(code, "broker forced connection closure with reason 'shutdown'");
    default: return fault(code, error.text);
  }
}

std::string shown(BytesView text) {
  std::string out(text);
  std::ranges::replace_if(
      out, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return out;
}

std::string erlangBinary(BytesView octets, bool plain) {
  octets = octets.substr(0, kPrintedOctets);
  if (octets.empty()) return "<<>>";
  std::string out = "<<";
  if (!plain && printable(octets)) {
    out.push_back('"');
    for (char c : octets) {
      if (c == '"' || c == '\\') out.push_back('\\');
      out.push_back(c);
    }
    out.push_back('"');
  } else {
    for (char c : octets) {
      if (out.size() > 2) out.push_back(',');
      out.append(std::to_string(static_cast<unsigned char>(c)));
    }
  }
  return out + ">>";
}

}  // namespace polylog::amqp
