// kafkajs's admin client behind a command line: calls in as JSON, results out as JSON.
//   node kafkajs_admin.mjs HOST:PORT < [["describeConfigs", {...}], ...] > [{"result": ...} | {"error": type}, ...]
import { readFileSync } from "node:fs";
import kafkajs from "kafkajs";

const { Kafka, logLevel } = kafkajs;
const kafka = new Kafka({ clientId: "conformance", brokers: [process.argv[2]], logLevel: logLevel.NOTHING,
                          retry: { retries: 2 } });
const admin = kafka.admin();
await admin.connect();
const results = [];
for (const [method, argument] of JSON.parse(readFileSync(0))) {
  try {
    results.push({ result: (await admin[method](argument)) ?? null });
  } catch (error) {
    const first = error.errors?.[0] ?? error;
    results.push({ error: first.type ?? first.name, text: first.message });
  }
}
await admin.disconnect();
console.log(JSON.stringify(results));
