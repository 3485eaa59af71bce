// amqplib behind a command line: messages go in and come out as JSON, octets in base64.
//   node amqplib_client.mjs publish PORT < messages.json     with confirms
//   node amqplib_client.mjs consume PORT < {queue, count, stream} > messages.json
//   node amqplib_client.mjs scenario PORT > observations.json
// With POLYLOG_CA=FILE over TLS.
// In tables octets are {"octets": BASE64}; others are as amqplib has them, so {"!": TYPE, "value": V} chooses a type.
import { readFileSync } from "node:fs";
import amqp from "amqplib";

const [, , verb, port] = process.argv;
const ca = process.env.POLYLOG_CA;
const connect = () => (ca
  ? amqp.connect(`amqps://guest:guest@127.0.0.1:${port}?heartbeat=0`, { ca: [readFileSync(ca)] })
  : amqp.connect(`amqp://guest:guest@127.0.0.1:${port}?heartbeat=0`));
// Whole before we exit, also into a pipe that is full for a while.
const print = (value) => new Promise((resolve) => process.stdout.write(JSON.stringify(value), resolve));
const input = () => JSON.parse(readFileSync(0));

function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  if ("octets" in value) return Buffer.from(value.octets, "base64");
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]));
}

function shown(value) {
  if (Buffer.isBuffer(value)) return { octets: value.toString("base64") };
  if (Array.isArray(value)) return value.map(shown);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, shown(one)]));
}

const seen = (message) => ({
  exchange: message.fields.exchange, key: message.fields.routingKey, redelivered: message.fields.redelivered,
  content: message.content.toString("base64"),
  properties: Object.fromEntries(Object.entries(message.properties)
    .filter(([, value]) => value !== undefined).map(([name, value]) => [name, shown(value)])),
});

async function publish() {
  const connection = await connect();
  const channel = await connection.createConfirmChannel();
  for (const { exchange, key, content, options } of input()) {
    channel.publish(exchange, key, Buffer.from(content, "base64"), plain(options));
  }
  await channel.waitForConfirms();
  await connection.close();
}

async function consume() {
  const { queue, count, stream } = input();
  const connection = await connect();
  const channel = await connection.createChannel();
  const messages = [];
  await channel.prefetch(10);
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`only ${messages.length} of ${count} messages`)), 60000).unref();
    channel.on("error", reject);
    channel.consume(queue, (message) => {
      messages.push(seen(message));
      channel.ack(message);
      if (messages.length === count) resolve();
    }, stream === undefined ? {} : { arguments: { "x-stream-offset": stream } }).catch(reject);
  });
  await connection.close();
  await print(messages);
}

// Every type of a table that amqplib can be told to write.
const TYPED = {
  text: "käse", octets: Buffer.from([0, 255, 206]), yes: true, no: false, nothing: null, small: 5, negative: -5,
  short: 300, int: 70000, long: 2 ** 40, "negative long": -(2 ** 40), fraction: 2.5, array: [1, "a", [true], { k: null }],
  table: { in: { deeper: 1 } }, "empty array": [], "empty table": {}, time: { "!": "timestamp", value: 1600000000 },
  float: { "!": "float", value: 1.5 }, double: { "!": "double", value: 1 }, byte: { "!": "byte", value: 7 },
  "a short": { "!": "short", value: 7 }, "an int": { "!": "int", value: 7 }, "a long": { "!": "long", value: 7 },
  decimal: { "!": "decimal", value: { digits: 314, places: 2 } },
};

async function scenario() {
  const saw = {};
  const see = (label, value) => { saw[label] = value; };
  const connection = await connect();
  connection.on("error", () => {});
  const channel = await connection.createConfirmChannel();

  async function refused(label, call) {
    const other = await connection.createChannel();
    const closed = new Promise((resolve) => other.on("error", (error) => resolve(error.message)));
    try {
      await call(other);
      await other.checkExchange("amq.direct");  // answered after everything before it
      await other.close();
      see(label, "fine");
    } catch {
      see(label, await closed);
    }
  }

  see("queue", await channel.assertQueue("a.js", { autoDelete: false, durable: true }));
  await channel.assertExchange("a.js.x", "topic", { durable: false, autoDelete: true, alternateExchange: "amq.fanout" });
  see("bind", await channel.bindQueue("a.js", "a.js.x", "*.b"));
  const returned = [];
  channel.on("return", (message) => returned.push(message.fields.replyText));
  channel.publish("a.js.x", "a.b", Buffer.from("1"), { persistent: true, messageId: "m", timestamp: 1600000000, headers: TYPED });
  channel.publish("a.js.x", "a.c", Buffer.from("lost"), { mandatory: true });
  channel.sendToQueue("a.js", Buffer.alloc(1 << 20, 7), { expiration: 60000, priority: 3 });
  channel.sendToQueue("a.js", Buffer.alloc(0));
  await channel.waitForConfirms();
  see("returned", returned);
  see("check", await channel.checkQueue("a.js"));

  const first = await channel.get("a.js");
  see("typed table", shown(first.properties.headers));
  see("properties", [first.properties.messageId, first.properties.timestamp, first.properties.deliveryMode]);
  channel.nack(first);
  const again = await channel.get("a.js");
  see("again", [again.fields.redelivered, again.fields.messageCount, again.content.toString()]);
  channel.ack(again);
  const bodies = [];
  await channel.prefetch(1);
  await new Promise((resolve) => {
    channel.consume("a.js", (message) => {
      bodies.push([message.content.length, message.properties.expiration ?? null, message.properties.priority ?? null]);
      channel.ack(message);
      if (bodies.length === 2) resolve();
    }, { consumerTag: "js" });
  });
  see("consumed", bodies);
  see("cancel", await channel.cancel("js"));
  see("empty", await channel.get("a.js"));

  const cancelled = new Promise((resolve) => channel.consume("a.js", resolve, { consumerTag: "js" }));
  see("deleted", await channel.deleteQueue("a.js"));
  see("told of it", await cancelled);
  await refused("missing queue", (other) => other.checkQueue("a.none"));
  await refused("missing exchange", (other) => other.publish("a.none", "k", Buffer.alloc(0)));
  await refused("another type", (other) => other.assertExchange("amq.topic", "fanout"));
  await refused("unknown tag", (other) => other.ack({ fields: { deliveryTag: 9 } }));
  await connection.close();
  await print(saw);
}

await { publish, consume, scenario }[verb]();
process.exit(0);
