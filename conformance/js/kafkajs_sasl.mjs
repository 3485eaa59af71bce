// kafkajs with SASL: one record. Status 3 when the login is refused.
//   node kafkajs_sasl.mjs HOST:PORT TOPIC MECHANISM USER PASSWORD
import kafkajs from "kafkajs";

const { Kafka, logLevel } = kafkajs;
const [, , address, topic, mechanism, username, password] = process.argv;
const kafka = new Kafka({
  clientId: "conformance", brokers: [address], logLevel: logLevel.NOTHING, retry: { retries: 1 },
  sasl: { mechanism: mechanism.toLowerCase(), username, password },
});
const producer = kafka.producer();
try {
  await producer.connect();
  await producer.send({ topic, messages: [{ key: "k", value: "m" }] });
  await producer.disconnect();
} catch (error) {
  console.log(String(error));
  process.exit(error.name === "KafkaJSSASLAuthenticationError" ? 3 : 1);
}
