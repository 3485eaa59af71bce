// npm mqtt as a client that takes topic aliases: prints "Subscribed", then of COUNT messages the topic that it makes of
// each and whether the name was on the wire.
//   node mqtt_aliases.mjs PORT FILTER COUNT MAXIMUM
import mqtt from "mqtt";

const [, , port, filter, count, maximum] = process.argv;
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
  protocolVersion: 5, reconnectPeriod: 0, properties: { topicAliasMaximum: Number(maximum) } });
let named = 0;
const seen = [];
client.on("packetreceive", (packet) => {
  if (packet.cmd === "publish" && packet.topic) named += 1;
});
client.on("error", (error) => { console.log(`failed: ${error}`); process.exit(1); });
client.on("message", (topic) => {
  seen.push(topic);
  if (seen.length === Number(count)) client.end(() => console.log(JSON.stringify({ seen, named })));
});
client.on("connect", () =>
  client.subscribe(filter, { qos: 2 }, (error) => console.log(error ? `failed: ${error}` : "Subscribed")));
