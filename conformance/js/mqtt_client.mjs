// npm's mqtt behind a command line: subscribes, publishes COUNT payloads of growing size and prints what came back,
// as lengths and SHA-256 digests.
//   node mqtt_client.mjs URL TOPIC COUNT [CA-FILE]
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [, , url, topic, argument, ca] = process.argv;
const count = Number(argument);
const digest = (payload) => `${payload.length} ${createHash("sha256").update(payload).digest("hex")}`;
const client = await mqtt.connectAsync(url, {
  protocolVersion: 5, reconnectPeriod: 0, connectTimeout: 10000, ...(ca ? { ca: readFileSync(ca) } : {}) });
const seen = [];
const all = new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`only ${seen.length} of ${count} messages`)), 30000).unref();
  client.on("error", reject);
  client.on("message", (_, payload) => {
    seen.push(digest(payload));
    if (seen.length === count) resolve();
  });
});
await client.subscribeAsync(topic, { qos: 1 });
const sent = [];
for (let number = 0; number < count; number += 1) {
  const payload = Buffer.alloc(number ** 3 * 5, number);
  sent.push(digest(payload));
  await client.publishAsync(topic, payload, { qos: 1 });
}
await all;
await client.endAsync();
await new Promise((resolve) => process.stdout.write(JSON.stringify({ sent, seen }), resolve));
process.exit(0);
