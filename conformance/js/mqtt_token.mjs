// npm's mqtt logs in by a token in MQTT 5's enhanced authentication, and publishes once.
//   node mqtt_token.mjs PORT TOKEN TOPIC
import mqtt from "mqtt";

const [, , port, token, topic] = process.argv;
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
  protocolVersion: 5, reconnectPeriod: 0, connectTimeout: 10000,
  properties: { authenticationMethod: "OAUTH2-JWT", authenticationData: Buffer.from(token) } });
const fail = (error) => {
  process.stdout.write(String(error), () => process.exit(1));
};
client.on("error", fail);
client.on("close", () => fail("closed"));
client.on("connect", async () => {
  try {
    await client.publishAsync(topic, "m", { qos: 1 });
    process.exit(0);
  } catch (error) {
    fail(error);
  }
});
