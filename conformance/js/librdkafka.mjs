// librdkafka of today, by npm's @confluentinc/kafka-javascript: node librdkafka.mjs
// A line of JSON on standard input is a call: {"id", "on", "do", "with"}: "open" makes the client `on` from
// [kind, configuration], "produce" takes records and waits for their offsets, all else are methods of the client's. It is answered by
// {"id", "result"} or {"id", "error"}; what happens besides comes as {"on", "event", ...} whenever it does.
import { createInterface } from "node:readline";
import kafka from "@confluentinc/kafka-javascript";

const say = (what) => process.stdout.write(JSON.stringify(what, plain) + "\n");
const plain = (_, value) => (typeof value === "bigint" ? String(value) : value);
const clients = {};
const TIMEOUT = 30000;

// What a client tells of itself: its log from warnings on, errors, partitions that come and go, records.
function listen(name, client) {
  client.on("event.log", (log) => say({ on: name, event: "log", severity: log.severity, fac: log.fac, message: log.message }));
  client.on("event.error", (error) => say({ on: name, event: "error", code: error.code, message: error.message }));
  client.on("event.throttle", (told) => say({ on: name, event: "throttle", told }));
  client.on("rebalance", (error, parts) =>
    say({ on: name, event: error.code === -175 ? "assigned" : "revoked", parts }));
  client.on("rebalance.error", (error) => say({ on: name, event: "error", message: error.message }));
  client.on("delivery-report", (error, report) => report.opaque(error, report));
  client.on("partition.eof", (part) => say({ on: name, event: "eof", part }));
  client.on("data", (record) => say({ on: name, event: "record", ...record, key: record.key && String(record.key),
    value: record.value && record.value.toString(), headers: (record.headers ?? []).map(
      (one) => Object.entries(one).map(([key, value]) => [key, String(value)])[0]) }));
}

function open(name, kind, { token, topic = {}, ...settings }) {
  const config = { event_cb: true, ...settings };
  if (token) {
    config.oauthbearer_token_refresh_cb = async () =>
      ({ tokenValue: token, lifetime: Date.now() + 600000, principal: "by-its-token" });
  }
  if (kind === "admin") {
    const client = kafka.AdminClient.create(config, {
      "event.log": (log) => say({ on: name, event: "log", severity: log.severity, fac: log.fac, message: log.message }),
      "event.error": (error) => say({ on: name, event: "error", code: error.code, message: error.message }) });
    clients[name] = client;
    return Promise.resolve(kafka.librdkafkaVersion);
  }
  const client = kind === "consumer" ? new kafka.KafkaConsumer({ rebalance_cb: true, ...config }, topic)
    : new kafka.Producer({ dr_cb: true, ...config }, topic);
  clients[name] = client;
  listen(name, client);
  if (kind === "producer") client.setPollInterval(10);
  else client.setDefaultConsumeTimeout(50), client.setDefaultConsumeLoopTimeoutDelay(5);
  return new Promise((done, failed) => client.connect({ timeout: TIMEOUT }, (error) =>
    (error ? failed(error) : done(kafka.librdkafkaVersion))));
}

const produce = (client, { topic, partition, value, key = null, timestamp = null, headers = [] }) =>
  new Promise((done, failed) => client.produce(topic, partition, value === null ? null : Buffer.from(value), key, timestamp,
    (error, report) => (error ? failed(error) : done(report.offset)), headers.map(([one, text]) => ({ [one]: text }))));

// Methods that answer at once; all others take a callback at the end.
const AT_ONCE = ["subscribe", "unsubscribe", "consume", "assign", "unassign", "assignments", "commit", "commitSync", "position",
                 "pause", "resume", "setSaslCredentials", "subscription", "rebalanceProtocol", "assignmentLost"];

async function call({ on, do: method, with: given = [] }) {
  const client = clients[on];
  if (method === "open") return open(on, ...given);
  if (method === "produce") return Promise.all(given.map((record) => produce(client, record)));
  if (method === "sendOffsetsToTransaction") given[1] = clients[given[1]];
  if (AT_ONCE.includes(method)) {
    const result = client[method](...given);
    return result === client ? null : result;
  }
  if (method === "disconnect" && client.createTopic) return client.disconnect();
  return new Promise((done, failed) => client[method](...given, (error, result) => (error ? failed(error) : done(result ?? null))));
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const asked = JSON.parse(line);
  call(asked).then((result) => say({ id: asked.id, result: result ?? null }),
    (error) => say({ id: asked.id, error: { code: error.code ?? null, message: error.message, fatal: error.isFatal,
                                            abort: error.isTxnRequiresAbort } }));
});
lines.on("close", () => process.exit(0));
