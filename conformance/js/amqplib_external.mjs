// amqplib's login by its client certificate (SASL EXTERNAL), and nothing else.
//   node amqplib_external.mjs PORT CA CERTIFICATE KEY
import { readFileSync } from "node:fs";
import amqp from "amqplib";

const [port, ca, certificate, key] = process.argv.slice(2);
const connection = await amqp.connect(`amqps://127.0.0.1:${port}`, {
  ca: [readFileSync(ca)], cert: readFileSync(certificate), key: readFileSync(key),
  credentials: amqp.credentials.external(),
});
await connection.close();
