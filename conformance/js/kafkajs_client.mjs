// kafkajs behind a command line: records go in and come out as JSON, octets in base64.
//   node kafkajs_client.mjs produce HOST:PORT TOPIC COMPRESSION < messages.json
//   node kafkajs_client.mjs consume HOST:PORT TOPIC COUNT > messages.json
// With POLYLOG_CA=FILE over TLS.
import { readFileSync } from "node:fs";
import kafkajs from "kafkajs";

const { Kafka, CompressionTypes, logLevel } = kafkajs;
const [, , verb, address, topic, argument] = process.argv;
const ca = process.env.POLYLOG_CA;
const kafka = new Kafka({ clientId: "conformance", brokers: [address], logLevel: logLevel.ERROR,
                          ...(ca ? { ssl: { ca: [readFileSync(ca)] } } : {}) });
const plain = (coded) => (coded === null ? null : Buffer.from(coded, "base64"));
const coded = (value) => (value === null || value === undefined ? null : Buffer.from(value).toString("base64"));

async function produce() {
  const producer = kafka.producer({ allowAutoTopicCreation: true });
  await producer.connect();
  const messages = JSON.parse(readFileSync(0)).map((message) => {
    const headers = {};
    for (const [name, value] of message.headers) {
      const earlier = headers[name];
      headers[name] = earlier === undefined ? plain(value) : [].concat(earlier, plain(value));
    }
    return { partition: 0, key: plain(message.key), value: plain(message.value), headers,
             ...(message.timestamp === null ? {} : { timestamp: message.timestamp }) };
  });
  const compression = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }[argument];
  await producer.send({ topic, messages, acks: -1, compression });
  await producer.disconnect();
}

async function consume() {
  const count = Number(argument);
  const consumer = kafka.consumer({ groupId: `kafkajs-${topic}-${process.pid}`, maxBytesPerPartition: 8 << 20,
                                    maxWaitTimeInMs: 200 });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const seen = [];
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`only ${seen.length} of ${count} records`)), 60000).unref();
    consumer.run({
      eachMessage: async ({ message }) => {
        const headers = [];
        for (const [name, value] of Object.entries(message.headers ?? {})) {
          for (const one of Array.isArray(value) ? value : [value]) headers.push([name, coded(one)]);
        }
        seen.push({ key: coded(message.key), value: coded(message.value), headers, timestamp: message.timestamp });
        if (seen.length === count) resolve();
      },
    });
  });
  // Whole before we exit, also into a pipe.
  await new Promise((resolve) => process.stdout.write(JSON.stringify(seen), resolve));
  await consumer.disconnect();
}

await { produce, consume }[verb]();
process.exit(0);
