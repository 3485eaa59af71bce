// A member of a consumer group in Kafka's `consumer` protocol (KIP-848), by @platformatic/kafka:
//   node platformatic_member.mjs HOST:PORT GROUP TOPIC [ASSIGNOR]
// Writes a line of JSON for what happens to it: {"assigned": [0, 2]}, {"record": "value", "partition": 0},
// {"left": true}. Leaves when its input ends.
import { Consumer, stringDeserializers } from "@platformatic/kafka";

const [, , address, groupId, topic, assignor] = process.argv;
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const consumer = new Consumer({
  clientId: "conformance", groupId, bootstrapBrokers: [address], deserializers: stringDeserializers,
  groupProtocol: "consumer", ...(assignor ? { groupRemoteAssignor: assignor } : {}),
  sessionTimeout: 20000, rebalanceTimeout: 20000, retries: 60, retryDelay: 250, connectTimeout: 2000, requestTimeout: 5000,
});

let told = "";
setInterval(() => {
  const mine = (consumer.assignments ?? []).filter((one) => one.topic === topic)
    .flatMap((one) => one.partitions).sort((a, b) => a - b);
  if (JSON.stringify(mine) === told) return;
  told = JSON.stringify(mine);
  say({ assigned: mine });
}, 20);

process.stdin.resume();
process.stdin.on("end", async () => {
  await consumer.close(true).catch((error) => say({ error: error.message }));
  say({ left: true });
  process.exit(0);
});

// A broker that is being started again is no reason to end.
for (;;) {
  try {
    const stream = await consumer.consume({ topics: [topic], mode: "committed", fallbackMode: "earliest",
                                            autocommit: 100, maxWaitTime: 200 });
    for await (const message of stream) say({ record: message.value, partition: message.partition });
  } catch (error) {
    say({ error: error.message });
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}
