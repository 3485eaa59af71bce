// The rows of MQTT in the configuration's table.
#include "server/mqtt_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "codecs/mqtt/limits.h"
#include "mapping/mqtt.h"

namespace polylog::server {
namespace {

std::optional<std::string> assignRewrites(const Values& values, Config& config) {
  auto rewrites = mapping::TopicRewrites::parse(values);
  if (!rewrites) return rewrites.error().text;
  config.mqttRewriteTexts = values;
  config.mqttRewrites = std::move(*rewrites);
  return std::nullopt;
}

/// One of mqtt.auto_subscribe. Returns what is wrong, if anything is.
std::optional<std::string> parseAutomatic(std::string_view text,
                                          mqtt::MqttOptions::AutomaticSubscription& out) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t blank = text.find(' ');
    if (blank != 0) words.push_back(text.substr(0, blank));
    text.remove_prefix(blank == std::string_view::npos ? text.size() : blank + 1);
  }
  if (words.empty() || !mapping::parseMqttSubscription(words[0])) {
    return "give FILTER [qos=0] [nl=0] [rap=0] [rh=0], the filter an MQTT topic filter";
  }
  out.filter = std::string(words[0]);
  for (std::string_view word : std::span(words).subspan(1)) {
    const std::string_view key = word.substr(0, word.find('='));
    const std::string_view value = word.substr(std::min(word.size(), key.size() + 1));
    const int number = value.size() == 1 ? value[0] - '0' : -1;
    const int most = key == "qos" || key == "rh" ? 2 : key == "nl" || key == "rap" ? 1 : -1;
    if (number < 0 || number > most) {
      return fmt::format("`{}`: give qos=0 to 2, nl=0 or 1, rap=0 or 1, rh=0 to 2", word);
    }
    if (key == "qos") out.qos = static_cast<uint8_t>(number);
    if (key == "rh") out.retainHandling = static_cast<uint8_t>(number);
    if (key == "nl") out.noLocal = number == 1;
    if (key == "rap") out.retainAsPublished = number == 1;
  }
  if (out.noLocal && out.filter.starts_with("$share/")) {
    return "a shared subscription can't have nl=1: leave it out";
  }
  return std::nullopt;
}

std::optional<std::string> assignAutomatic(const Values& values, Config& config) {
  std::vector<mqtt::MqttOptions::AutomaticSubscription> all(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (auto fault = parseAutomatic(values[i], all[i])) return fault;
  }
  config.mqttAutomaticTexts = values;
  config.mqttAutomatic = std::move(all);
  return std::nullopt;
}

/// Whole levels: with one cut in two, names below it would reach into its neighbours.
std::optional<std::string> assignNameStart(const std::string& text, std::string& out) {
  const bool sound =
      mapping::validMqttTopicName(text) && text.ends_with('/') && !text.starts_with('$');
  if (!sound) {
    return "give the start of a topic name, whole levels with a slash behind them, without "
           "+ and # and not beginning with $";
  }
  out = text;
  return std::nullopt;
}

}  // namespace

std::vector<Key> mqttKeys() {
  return {
      number("mqtt.max_inflight", &Config::mqttMaxInflight, 1, 49'150,
             "Deliveries at QoS 1 and 2 on their way to one client, fewer if its Receive Maximum "
             "says so; of MQTT 3.1.1 clients, which have none, too."),
      number("mqtt.receive_maximum", &Config::mqttReceiveMaximum, 1, 65'535,
             "Publishes at QoS 1 and 2 that one client may have unacknowledged."),
      number("mqtt.outbound_topic_aliases", &Config::mqttOutboundTopicAliases, 0,
             mqtt::kMaxOutboundAliases,
             "Topic aliases that the broker uses towards one client (MQTT 5) that takes some, or "
             "towards a bridge's remote broker. Each keeps a name in memory while the connection "
             "lasts. 0 = none."),
      number("mqtt.max_keep_alive", &Config::mqttMaxKeepAlive, 0, 65'535,
             "The longest keep-alive in seconds; clients that ask for more, or none, get this. 0 = "
             "any."),
      number("mqtt.max_qos", &Config::mqttMaxQos, 0, 2,
             "[L] The highest QoS at which clients may publish: told in CONNACK (MQTT 5); who goes "
             "beyond it is cut off (0x9B). Subscriptions at a higher one are granted this."),
      flag(
          "mqtt.retain_available", &Config::mqttRetainAvailable,
          "[L] Whether clients may publish retained messages: told in CONNACK (MQTT 5) if not; who "
          "does so nevertheless is cut off (0x9A). Those that are there are delivered all the "
          "same."),
      flag("mqtt.check_payload_format", &Config::mqttCheckPayloadFormat,
           "[L] Whether publishes and wills whose Payload Format Indicator (MQTT 5) says UTF-8 are "
           "refused if they aren't: 0x99 in PUBACK, PUBREC, CONNACK, and DISCONNECT at QoS 0."),
      number("mqtt.inbox.max_records", &Config::mqttInboxRecords, 1, kMaxInt64,
             "Deliveries at QoS 1 and 2 that wait for one session, asleep or slow; "
             "`mqtt.inbox.when_full` says what is dropped beyond it, counted."),
      number("mqtt.inbox.max_bytes", &Config::mqttInboxBytes, 0, kMaxInt64,
             "Octets of them, as they stand in the log; one always may wait. 0 = any number."),
      number("mqtt.inbox.max_age_s", &Config::mqttInboxAgeSeconds, 0, 3'153'600'000,
             "Seconds for which one may wait; older ones are dropped, counted. Retained messages "
             "and replays don't age. 0 = any time."),
      choice<bool>("mqtt.inbox.when_full", &Config::mqttInboxDropsNew,
                   {{"drop_oldest", false}, {"drop_new", true}},
                   "What is dropped when `max_records` or `max_bytes` are reached: the oldest of "
                   "what waits, or what comes."),
      number("mqtt.live.max_bytes", &Config::mqttLiveBytes, 65'536, kMaxInt64,
             "Octets held in memory for one slow subscriber; beyond it QoS 0 is dropped, counted."),
      choice<router::SharedDispatch>(
          "mqtt.shared_dispatch", &Config::mqttSharedDispatch,
          {{"round_robin", router::SharedDispatch::kRoundRobin},
           {"random", router::SharedDispatch::kRandom},
           {"sticky", router::SharedDispatch::kSticky},
           {"hash_client", router::SharedDispatch::kHashClient},
           {"hash_topic", router::SharedDispatch::kHashTopic},
           {"least_in_flight", router::SharedDispatch::kLeastInFlight}},
          "Which member of a shared subscription gets a message: in turn; any; one until it "
          "leaves; "
          "by the publisher's client id; by the topic name; who has the fewest unacknowledged."),
      {"mqtt.mount_point", "start of a topic name, up to a slash", "none",
       "[L] Put before all names that clients publish and subscribe to, and taken off those that "
       "they "
       "get: `tenants/a/` is a corner of its own for a listener's clients, `clients/%c/` for each "
       "(%u: the user's name). Names that begin with `$` are as they are.",
       false,
       [](const Values& values, Config& config) {
         return assignNameStart(values[0], config.mqttMountPoint);
       }},
      {"mqtt.response_information", "start of a topic name, up to a slash, with %c", "none",
       "[L] Told to MQTT 5 clients that ask for response information: where the responses to their "
       "requests may go. `responses/%c/` is one's own (%c: the client identifier, %u: the user's "
       "name). It gives no rights: access rules are as for any topic.",
       false,
       [](const Values& values, Config& config) -> std::optional<std::string> {
         if (values[0].find("%c") == std::string::npos) {
           return "put %c (the client identifier) in it: it is to be one client's own";
         }
         return assignNameStart(values[0], config.mqttResponseInformation);
       }},
      anyText("mqtt.redirect", "server reference, such as HOST:PORT", &Config::mqttRedirect,
              "[L] Serves nobody: MQTT 5 clients are sent to that server (0x9C), others told that "
              "this one is unavailable."),
      flag("mqtt.redirect_permanent", &Config::mqttRedirectForGood,
           "[L] Whether clients are told that the server has moved for good (0x9D)."),
      number("mqtt.publish_rate", &Config::mqttPublishRate, 0, 10'000'000,
             "[L] Publishes that one client may send in a second; beyond it the broker reads no "
             "faster. 0 = any."),
      number("mqtt.byte_rate", &Config::mqttByteRate, 0, 10'000'000'000,
             "[L] Octets that one client may send in a second; beyond it the broker reads no "
             "faster. 0 = any."),
      {"mqtt.rewrite", "list of texts", "none",
       "Names that clients publish or subscribe to become others: `ACTION FILTER [EXPRESSION] -> "
       "DESTINATION`, the action being publish, subscribe or all "
       "(docs/mqtt-extensions.md#topic-rewrites).",
       true, assignRewrites},
      {"mqtt.auto_subscribe", "list of texts", "none",
       "What every client is subscribed to when it connects: `FILTER [qos=0] [nl=0] [rap=0] "
       "[rh=0]`, with %c for its client identifier and %u for its user's name.",
       true, assignAutomatic},
      number("mqtt.delayed.max_records", &Config::mqttMaxDelayed, 0, 100'000'000,
             "Publishes to `$delayed/...` that wait for their time; more are refused "
             "(quota exceeded). 0 = none are taken."),
      flag("mqtt.sparkplug", &Config::mqttSparkplug,
           "Whether Sparkplug's birth certificates are retained below `$sparkplug/certificates/`."),
      number(
          "mqtt.slow_subscriber_ms", &Config::mqttSlowSubscriberMs, 0, 3'600'000,
          "Subscribers that let a message wait longer than this, in milliseconds, while they are "
          "connected, are listed (`polylog client slow`). 0 = none are."),
      number("mqtt.sys_interval_s", &Config::mqttSysIntervalSeconds, 0, 86'400,
             "Seconds between updates of the `$SYS` topics; 0 = there are none."),
  };
}

}  // namespace polylog::server
