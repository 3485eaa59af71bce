// amqplib's login by token, and newer tokens in its place (update-secret): each line on standard
// input is one, after which it publishes. Prints "renewed" for each; when the broker closes the
// connection, why, with status 3.
//   node amqplib_token.mjs PORT TOKEN ROUTING_KEY
import { createInterface } from "node:readline";
import amqp from "amqplib";

const [port, token, key] = process.argv.slice(2);
const connection = await amqp.connect(`amqp://127.0.0.1:${port}`, { credentials: amqp.credentials.plain("", token) });
connection.on("error", (error) => {
  console.log(String(error));
  process.exit(3);
});
const channel = await connection.createConfirmChannel();
for await (const newer of createInterface({ input: process.stdin })) {
  if (newer) {
    await connection.updateSecret(Buffer.from(newer), "renewed");
    console.log("renewed");
  }
  channel.publish("amq.topic", key, Buffer.from("m"));
  await channel.waitForConfirms();
  console.log("published");
}
await connection.close();
