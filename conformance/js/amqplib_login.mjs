// amqplib's login, and nothing else. Status 3 when it is refused.
//   node amqplib_login.mjs URL
import amqp from "amqplib";

try {
  const connection = await amqp.connect(process.argv[2]);
  await connection.close();
} catch (error) {
  console.log(String(error));
  process.exit(String(error).includes("403") ? 3 : 1);
}
