"""Third-party AMQP clients behind one face: publish(broker, topic, samples) to amq.topic, consumers
that have bound a queue to it when their constructor returns, and readers of a topic as a stream."""

import base64
import datetime
import json
import os
import subprocess

import pika

from .sample import AmqpSeen

AMQPLIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "js", "amqplib_client.mjs")
MODES = {None: None, False: 1, True: 2}
SWAP = str.maketrans("./", "/.")


def routing_key(topic, key):
    """The routing key of an address, as docs/mapping.md has it."""
    return (topic if key is None else f"{topic}/{key.decode()}").translate(SWAP)


def connect(broker):
    return pika.BlockingConnection(pika.ConnectionParameters(
        "127.0.0.1", broker.amqp, heartbeat=0, socket_timeout=20, blocked_connection_timeout=30))


class AmqpToolsPub:
    name = "amqp-publish"
    protocol = "amqp"

    @staticmethod
    def publish(broker, topic, samples):
        for sample in samples:
            command = ["amqp-publish", f"--url=amqp://127.0.0.1:{broker.amqp}", "-e", "amq.topic",
                       "-r", routing_key(topic, sample.key)]
            for option, value in (("-C", sample.content_type), ("-t", sample.reply_to)):
                if value is not None:
                    command += [option, value]
            if sample.durable:
                command += ["-p"]
            for name, value in sample.headers:
                command += ["-H", f"{name}: {value.decode()}"]
            subprocess.run(command, input=sample.value, check=True, timeout=30)


class PikaPub:
    name = "pika"
    protocol = "amqp"

    @staticmethod
    def publish(broker, topic, samples):
        connection = connect(broker)
        channel = connection.channel()
        channel.confirm_delivery()
        for sample in samples:
            channel.basic_publish("amq.topic", routing_key(topic, sample.key), sample.value, pika.BasicProperties(
                content_type=sample.content_type, reply_to=sample.reply_to,
                correlation_id=sample.correlation and sample.correlation.decode(),
                delivery_mode=MODES[sample.durable],
                timestamp=sample.timestamp and sample.timestamp // 1000,
                headers={name: value.decode() for name, value in sample.headers} or None))
        connection.close()


class AmqplibPub:
    name = "amqplib"
    protocol = "amqp"

    @staticmethod
    def publish(broker, topic, samples):
        messages = []
        for sample in samples:
            options = {"contentType": sample.content_type, "replyTo": sample.reply_to,
                       "correlationId": sample.correlation and sample.correlation.decode(),
                       "timestamp": sample.timestamp and sample.timestamp // 1000,
                       "headers": {name: value.decode() for name, value in sample.headers} or None}
            options = {name: value for name, value in options.items() if value is not None}
            if sample.durable is not None:
                options["persistent"] = sample.durable
            messages.append({"exchange": "amq.topic", "key": routing_key(topic, sample.key),
                             "content": base64.b64encode(sample.value).decode(), "options": options})
        subprocess.run(["node", AMQPLIB, "publish", str(broker.amqp)],
                       input=json.dumps(messages).encode(), check=True, timeout=90)


class BoundQueue:
    """A queue bound to all of a topic; messages wait in it until a client takes them."""

    protocol = "amqp"

    def __init__(self, broker, topic, count):
        self.broker, self.count = broker, count
        self.queue = f"matrix.{self.name}.{topic}"
        connection = connect(broker)
        channel = connection.channel()
        channel.queue_declare(self.queue)
        channel.queue_bind(self.queue, "amq.topic", f"{topic.translate(SWAP)}.#")
        connection.close()


class AmqpToolsSub(BoundQueue):
    """Hands bodies to a command and shows nothing else of a message."""

    name = "amqp-consume"

    def finish(self):
        output = subprocess.run(
            ["amqp-consume", f"--url=amqp://127.0.0.1:{self.broker.amqp}", "-q", self.queue, "-c",
             str(self.count), "-p", "10", "--", "sh", "-c", "base64 -w0; echo"],
            stdout=subprocess.PIPE, check=True, timeout=90).stdout
        return [AmqpSeen(None, base64.b64decode(line)) for line in output.split(b"\n")[:-1]]


class PikaSub(BoundQueue):
    name = "pika"

    def finish(self):
        return read_pika(self.broker, self.queue, self.count)


class AmqplibSub(BoundQueue):
    name = "amqplib"

    def finish(self):
        return read_amqplib(self.broker, self.queue, self.count)


def read_pika(broker, queue, count, arguments=None):
    connection = connect(broker)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=10)
    seen = []
    for method, properties, body in channel.consume(queue, arguments=arguments, inactivity_timeout=30):
        assert method is not None, f"only {len(seen)} of {count} messages of {queue}"
        seen.append(AmqpSeen(
            method.routing_key, body, properties.content_type, properties.correlation_id,
            properties.reply_to, list((properties.headers or {}).items()), properties.timestamp,
            properties.delivery_mode, method.exchange))
        channel.basic_ack(method.delivery_tag)
        if len(seen) == count:
            break
    connection.close()
    return [plain(one) for one in seen]


def plain(seen):
    """Values of headers as text, numbers, octets; stream offsets taken off."""
    def value(one):
        return int(one) if isinstance(one, int) and not isinstance(one, bool) else one

    seen.headers = [(name, value(one)) for name, one in seen.headers if name != "x-stream-offset"]
    if isinstance(seen.timestamp, datetime.datetime):
        seen.timestamp = int(seen.timestamp.timestamp())
    return seen


def read_amqplib(broker, queue, count, stream=None):
    wanted = {"queue": queue, "count": count, **({} if stream is None else {"stream": stream})}
    output = subprocess.run(["node", AMQPLIB, "consume", str(broker.amqp)],
                            input=json.dumps(wanted).encode(), stdout=subprocess.PIPE, check=True,
                            timeout=90).stdout

    def value(one):
        return base64.b64decode(one["octets"]) if isinstance(one, dict) and "octets" in one else one

    seen = []
    for message in json.loads(output):
        properties = message["properties"]
        seen.append(plain(AmqpSeen(
            message["key"], base64.b64decode(message["content"]), properties.get("contentType"),
            properties.get("correlationId"), properties.get("replyTo"),
            [(name, value(one)) for name, one in properties.get("headers", {}).items()],
            properties.get("timestamp"), properties.get("deliveryMode"), message["exchange"])))
    return seen


class StreamReader:
    """A topic read as a stream from its beginning: the reader needn't be there before the records."""

    protocol = "amqp"

    def __init__(self, name, read):
        self.name, self.read = name, read

    def __call__(self, broker, topic, count):
        return BoundStream(self.read, broker, topic, count)


class BoundStream:
    def __init__(self, *arguments):
        self.read, *self.arguments = arguments

    def finish(self):
        return self.read(*self.arguments)


PUBLISHERS = [AmqpToolsPub, PikaPub, AmqplibPub]
SUBSCRIBERS = [AmqpToolsSub, PikaSub, AmqplibSub]
READERS = [StreamReader("pika-stream", lambda broker, topic, count: read_pika(
               broker, topic, count, {"x-stream-offset": "first"})),
           StreamReader("amqplib-stream", lambda broker, topic, count: read_amqplib(
               broker, topic, count, "first"))]
