// Kafka requests as @platformatic/kafka writes and reads them, one after the other over one connection:
//   node platformatic_calls.mjs HOST:PORT [USER PASSWORD] < [["describeQuorumV2", [argument...]], ...] > [{"result": ...} | {"error": text}, ...]
// {"hex": "..."} stands for octets.
import { readFileSync } from "node:fs";
import * as kafka from "@platformatic/kafka";

const [, , address, username, password] = process.argv;
const [host, port] = address.split(":");
const connection = new kafka.Connection("conformance", username ? { sasl: { mechanism: "PLAIN", username, password } } : {});
await connection.connect(host, Number(port));
const octets = (key, value) => (value?.hex === undefined ? value : Buffer.from(value.hex, "hex"));
const plain = (key, value) => (typeof value === "bigint" ? Number(value) : value);
const results = [];
for (const [name, parameters] of JSON.parse(readFileSync(0, "utf8"), octets)) {
  try {
    results.push({ result: await kafka[name].api.async(connection, ...parameters) });
  } catch (error) {
    results.push({ error: error.errors?.[0]?.apiId ?? error.message });
  }
}
await connection.close();
console.log(JSON.stringify(results, plain));
