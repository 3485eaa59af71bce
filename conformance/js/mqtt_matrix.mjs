// npm's mqtt behind a command line: publishes one message at each QoS, or prints the payloads that come.
//   node mqtt_matrix.mjs pub|sub URL TOPIC VERSION CA-FILE [CLIENT-ID]
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [, , what, url, topic, version, ca, clientId] = process.argv;
const client = await mqtt.connectAsync(url, {
  protocolVersion: Number(version), clientId, reconnectPeriod: 0, connectTimeout: 20000, ca: readFileSync(ca) });
if (what === "pub") {
  for (const qos of [0, 1, 2]) await client.publishAsync(topic, `npm ${qos}`, { qos });
  await client.endAsync();
} else {
  client.on("message", (_, payload) => process.stdout.write(`${payload}\n`));
  await client.subscribeAsync(topic, { qos: 2 });
}
