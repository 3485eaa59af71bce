// kafkajs's transactions behind a command line.
//   node kafkajs_transactions.mjs HOST:PORT IN OUT GROUP
// Writes "aborted" to OUT and aborts; then OUT gets "committed", and GROUP the offset 5 of IN's partition 0, in
// one transaction. What a consumer of OUT saw until "end", which is written without a transaction, goes to
// standard output as JSON.
import kafkajs from "kafkajs";

const { Kafka, logLevel } = kafkajs;
const [, , address, input, output, group] = process.argv;
const kafka = new Kafka({ clientId: "conformance", brokers: [address], logLevel: logLevel.ERROR });

const producer = kafka.producer({ transactionalId: "kafkajs", maxInFlightRequests: 1, idempotent: true });
await producer.connect();
const doomed = await producer.transaction();
await doomed.send({ topic: output, messages: [{ value: "aborted" }] });
await doomed.abort();
const kept = await producer.transaction();
await kept.send({ topic: output, messages: [{ value: "committed" }] });
await kept.sendOffsets({
  consumerGroupId: group, topics: [{ topic: input, partitions: [{ partition: 0, offset: "5" }] }],
});
await kept.commit();
await producer.disconnect();

const plain = kafka.producer();
await plain.connect();
await plain.send({ topic: output, messages: [{ value: "end" }] });
await plain.disconnect();

const consumer = kafka.consumer({ groupId: `reader-${process.pid}`, maxWaitTimeInMs: 200, readUncommitted: false });
await consumer.connect();
await consumer.subscribe({ topic: output, fromBeginning: true });
const seen = [];
await new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`only ${JSON.stringify(seen)}`)), 60000).unref();
  consumer.run({
    eachMessage: async ({ message }) => {
      seen.push(message.value.toString());
      if (seen.at(-1) === "end") resolve();
    },
  });
});
await consumer.disconnect();
process.stdout.write(JSON.stringify(seen));
process.exit(0);
