// kafkajs's login by token (SASL OAUTHBEARER): sends one record, then another for each line on its
// standard input, over the same connections for as long as they last. Status 3 when it is refused.
//   node kafkajs_oauth.mjs BROKER TOPIC TOKEN_FILE
// The file is read anew whenever kafkajs wants a token; each time "token" is printed, and "sent" for
// each record.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Kafka, logLevel } from "kafkajs";

const [broker, topic, tokenFile] = process.argv.slice(2);
const kafka = new Kafka({
  brokers: [broker], logLevel: logLevel.NOTHING, retry: { retries: 1 }, authenticationTimeout: 5000,
  reauthenticationThreshold: 2000,
  sasl: {
    mechanism: "oauthbearer",
    oauthBearerProvider: async () => {
      console.log("token");
      return { value: readFileSync(tokenFile, "utf8").trim() };
    },
  },
});
const producer = kafka.producer();
try {
  await producer.connect();
  const send = async () => {
    await producer.send({ topic, messages: [{ value: "m" }] });
    console.log("sent");
  };
  await send();
  for await (const _ of createInterface({ input: process.stdin })) await send();
  await producer.disconnect();
} catch (error) {
  console.log(String(error), error.type ?? "");
  process.exit(3);
}
