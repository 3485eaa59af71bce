#include "codecs/amqp/handshake.h"

#include <fmt/format.h>

#include "codecs/amqp/field_table.h"
#include "codecs/amqp/limits.h"
#include "core/net/address.h"

namespace polylog::amqp {
namespace {

constexpr size_t kTableLength = 4;

/// Only what is built: clients do what they are told they may.
Table capabilities() {
  Table out;
  for (const char* name :
       {"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
        "connection.blocked", "authentication_failure_close", "per_consumer_qos"}) {
    out.emplace_back(name, Value{true});
  }
  return out;
}

bool isTrue(const Table& table, std::string_view name) {
  const Value* value = find(table, name);
  return value != nullptr && *value == Value{true};
}

const std::string* textOf(const Table& table, std::string_view name) {
  const Value* value = find(table, name);
  return value == nullptr ? nullptr : std::get_if<std::string>(&value->is);
}

/// RFC 4616 without an authorization identity, as RabbitMQ has it: NUL, user, NUL, password.
std::optional<Credentials> plain(BytesView response) {
  if (!response.starts_with('\0')) return std::nullopt;
  response.remove_prefix(1);
  const size_t end = response.find('\0');
  if (end == BytesView::npos) return std::nullopt;
  const BytesView password = response.substr(end + 1);
  if (password.find('\0') != BytesView::npos) return std::nullopt;
  return Credentials{std::string(response.substr(0, end)), std::string(password), false};
}

/// A table's octets with LOGIN and PASSWORD.
std::optional<Credentials> amqPlain(BytesView response) {
  const auto table = decodeTable(response);
  if (!table) return std::nullopt;
  const std::string* user = textOf(*table, "LOGIN");
  const std::string* password = textOf(*table, "PASSWORD");
  if (user == nullptr || password == nullptr) return std::nullopt;
  return Credentials{*user, *password, false};
}

bool fromHere(const std::string& peer) {
  const auto address = parseHostPort(peer);
  return address && isLoopback(*address);
}

Outcome checkTuned(const char* name, uint32_t value, uint32_t least, uint32_t most) {
  const auto refuse = [&](const char* how, const char* bound) {
    const char* none = value == 0 && most == kChannelMax ? " (no limit)" : "";
    Fault out =
        fault(ReplyCode::kNotAllowed,
              fmt::format("negotiated {} = {}{} is {} than the {} allowed value ({})", name, value,
                          none, how, bound, value != 0 && value < least ? least : most));
    out.classId = ConnectionTuneOk::kClassId;
    out.methodId = ConnectionTuneOk::kMethodId;
    return out;
  };
  if (value == 0 || value > most) return refuse("higher", "maximum");
  if (value < least) return refuse("lower", "minimum");
  return {};
}

}  // namespace

BytesView mechanisms(bool identified) {
  return identified ? "EXTERNAL AMQPLAIN PLAIN" : "AMQPLAIN PLAIN";
}

std::string serverProperties(const AmqpOptions& options) {
  Table table;
  table.emplace_back("capabilities", Value{capabilities()});
  table.emplace_back("platform", Value{std::string("C++")});
  table.emplace_back("product", Value{std::string("Polylog")});
  table.emplace_back("version", Value{options.version});
  ByteWriter out;
  encodeTable(table, out);
  return out.take().substr(kTableLength);
}

std::expected<ClientFacts, Fault> clientFacts(const ConnectionStartOk& method) {
  const auto table = decodeTable(method.clientProperties);
  if (!table) {
    return std::unexpected(fault(ReplyCode::kSyntaxError, "malformed client properties"));
  }
  ClientFacts out;
  if (const std::string* name = textOf(*table, "connection_name")) out.connectionName = *name;
  const Value* value = find(*table, "capabilities");
  const Table* can = value == nullptr ? nullptr : std::get_if<Table>(&value->is);
  if (can == nullptr) return out;
  out.failureClose = isTrue(*can, "authentication_failure_close");
  out.cancelNotify = isTrue(*can, "consumer_cancel_notify");
  out.blockedNotify = isTrue(*can, "connection.blocked");
  return out;
}

std::expected<Credentials, Fault> credentialsOf(const ConnectionStartOk& method) {
  std::optional<Credentials> who;
  if (method.mechanism == "PLAIN") {
    who = plain(method.response);
  } else if (method.mechanism == "AMQPLAIN") {
    who = amqPlain(method.response);
  } else {
    return std::unexpected(
        fault(ReplyCode::kCommandInvalid,
              fmt::format("unknown authentication mechanism '{}'", method.mechanism)));
  }
  if (!who) {
    // The response may hold a password: it is not repeated.
    return std::unexpected(
        fault(ReplyCode::kSyntaxError, fmt::format("malformed {} response", method.mechanism)));
  }
  who->conventional = who->user == "guest" && who->password == "guest";
  return *std::move(who);
}

bool admittedWithoutPassword(const AmqpOptions& options, const std::string& peer) {
  return options.remoteLogins || fromHere(peer);
}

Fault loginRefused(BytesView mechanism) {
  return fault(ReplyCode::kAccessRefused,
               fmt::format("Login was refused using authentication mechanism {}. For details see "
                           "the broker logfile.",
                           mechanism));
}

Outcome checkTuning(const ConnectionTuneOk& method) {
  if (auto problem = checkTuned("frame_max", method.frameMax, kFrameMin, kFrameMax)) return problem;
  return checkTuned("channel_max", method.channelMax, 1, kChannelMax);
}

}  // namespace polylog::amqp
