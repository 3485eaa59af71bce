// npm mqtt as a member of a shared subscription: prints "Subscribed", then a line a message.
//   node mqtt_member.mjs PORT FILTER PROTOCOL_VERSION
import mqtt from "mqtt";

const [, , port, filter, version] = process.argv;
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { protocolVersion: Number(version) });
client.on("message", (_, payload) => console.log(`REC ${payload}`));
client.on("connect", () =>
  client.subscribe(filter, { qos: 1 }, (error) => console.log(error ? `failed: ${error}` : "Subscribed")));
