"""Third-party Kafka clients behind one face: publish(broker, topic, samples), and a consumer that
reads a topic from its beginning."""

import base64
import json
import os
import re
import subprocess
import tempfile

import confluent_kafka
import kafka

from .sample import KafkaSeen, properties_as_headers

HERE = os.path.dirname(os.path.abspath(__file__))
KAFKAJS = os.path.join(HERE, "..", "js", "kafkajs_client.mjs")
LARGEST = 4 << 20
KCAT_END = b"--end of record--\n"
AMQP_ORIGINAL = re.compile(rb"^polylog\.amqp=.*?((?:,[a-z-]+=[^,]*)*)$", re.DOTALL)


class KcatPub:
    name = "kcat"
    protocol = "kafka"

    @staticmethod
    def publish(broker, topic, samples, compression="none"):
        for sample in samples:
            command = ["kcat", "-P", "-b", broker.kafka, "-t", topic, "-p", "0",
                       "-X", f"message.max.bytes={LARGEST}", "-z", compression]
            for name, value in properties_as_headers(sample) + sample.headers:
                command += ["-H", name.encode() + b"=" + value]
            if not sample.value:
                if sample.value is None:
                    command += ["-Z"]
                # kcat passes over empty lines, but not over lines with nothing behind the key.
                subprocess.run(command + ["-K", "="], input=sample.key + b"=\n", check=True, timeout=30)
                continue
            if sample.key is not None:
                command += ["-k", sample.key]
            with tempfile.NamedTemporaryFile() as file:
                file.write(sample.value)
                file.flush()
                subprocess.run(command + [file.name], check=True, timeout=30)


class ConfluentPub:
    name = "confluent-kafka"
    protocol = "kafka"

    @staticmethod
    def publish(broker, topic, samples, compression="none", idempotent=True):
        producer = confluent_kafka.Producer({
            "bootstrap.servers": broker.kafka, "message.max.bytes": LARGEST,
            "enable.idempotence": idempotent, "compression.type": compression})
        errors = []
        for sample in samples:
            options = {} if sample.timestamp is None else {"timestamp": sample.timestamp}
            producer.produce(topic, value=sample.value, key=sample.key, partition=0,
                             headers=properties_as_headers(sample) + sample.headers,
                             on_delivery=lambda error, _: error and errors.append(error), **options)
        left = producer.flush(60)
        assert not left and not errors, (left, errors)


class KafkaPythonPub:
    name = "kafka-python"
    protocol = "kafka"

    @staticmethod
    def publish(broker, topic, samples, compression=None):
        producer = kafka.KafkaProducer(
            bootstrap_servers=broker.kafka, max_request_size=LARGEST, acks="all",
            compression_type=compression)
        sent = [producer.send(
            topic, value=sample.value, key=sample.key, partition=0,
            timestamp_ms=sample.timestamp,
            headers=properties_as_headers(sample) + sample.headers) for sample in samples]
        for future in sent:
            future.get(60)
        producer.close()


class KafkaJsPub:
    name = "kafkajs"
    protocol = "kafka"

    @staticmethod
    def publish(broker, topic, samples, compression="none"):
        def coded(value):
            return None if value is None else base64.b64encode(value).decode()

        messages = [{
            "key": coded(sample.key), "value": coded(sample.value),
            "timestamp": None if sample.timestamp is None else str(sample.timestamp),
            "headers": [[name, coded(value)] for name, value in
                        properties_as_headers(sample) + sample.headers],
        } for sample in samples]
        subprocess.run(["node", KAFKAJS, "produce", broker.kafka, topic, compression],
                       input=json.dumps(messages).encode(), check=True, timeout=90)


def read_kcat(broker, topic, count):
    """Parses lengths, not separators: payloads are arbitrary. Headers have no lengths, so their end is
    marked, and what AMQP publishers sent (the first header then) is passed over."""
    output = subprocess.run(
        ["kcat", "-C", "-b", broker.kafka, "-t", topic, "-o", "beginning", "-c", str(count), "-q",
         "-X", f"fetch.message.max.bytes={LARGEST}", "-X", f"fetch.max.bytes={LARGEST * 4}",
         "-f", f"%T %K %S\n%k%s%h{KCAT_END.decode()}"],
        stdout=subprocess.PIPE, check=True, timeout=60).stdout
    seen = []
    while output:
        line, output = output.split(b"\n", 1)
        timestamp, key_size, value_size = line.split(b" ")
        key_size, value_size = int(key_size), int(value_size)
        key, value = None, None
        if key_size >= 0:
            key, output = output[:key_size], output[key_size:]
        else:  # kcat prints NULL for what is null
            assert not output.startswith(b"NULL") or (output := output[4:]) is not None
        if value_size >= 0:
            value, output = output[:value_size], output[value_size:]
        else:
            assert not output.startswith(b"NULL") or (output := output[4:]) is not None
        headers, output = output.split(KCAT_END, 1)
        headers = AMQP_ORIGINAL.sub(rb"\1", headers).lstrip(b",")
        pairs = [pair.split(b"=", 1) for pair in headers.split(b",") if pair]
        seen.append(KafkaSeen(key, value, [(k.decode(), None if v == b"NULL" else v)
                                           for k, v in pairs], int(timestamp)))
    return seen


def read_confluent(broker, topic, count):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": f"confluent-{topic}",
        "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "fetch.message.max.bytes": LARGEST, "fetch.max.bytes": LARGEST * 4})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    seen = []
    while len(seen) < count:
        message = consumer.poll(30)
        assert message is not None, f"only {len(seen)} of {count} records of {topic}"
        assert message.error() is None, message.error()
        seen.append(KafkaSeen(message.key(), message.value(),
                              [(k, v) for k, v in message.headers() or []],
                              message.timestamp()[1]))
    consumer.close()
    return seen


def read_kafka_python(broker, topic, count):
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.kafka, auto_offset_reset="earliest", enable_auto_commit=False,
        max_partition_fetch_bytes=LARGEST, consumer_timeout_ms=30000)
    consumer.assign([kafka.TopicPartition(topic, 0)])
    seen = []
    for record in consumer:
        seen.append(KafkaSeen(record.key, record.value, list(record.headers), record.timestamp))
        if len(seen) == count:
            break
    consumer.close()
    return seen


def read_kafkajs(broker, topic, count):
    output = subprocess.run(["node", KAFKAJS, "consume", broker.kafka, topic, str(count)],
                            stdout=subprocess.PIPE, check=True, timeout=90).stdout

    def plain(value):
        return None if value is None else base64.b64decode(value)

    return [KafkaSeen(plain(record["key"]), plain(record["value"]),
                      [(name, plain(value)) for name, value in record["headers"]],
                      int(record["timestamp"])) for record in json.loads(output)]


class KafkaReader:
    """A consumer of the matrix: Kafka's need not be there when the records are published."""

    protocol = "kafka"

    def __init__(self, name, read):
        self.name = name
        self.read = read

    def __call__(self, broker, topic, count):
        return BoundReader(self.read, broker, topic, count)


class BoundReader:
    def __init__(self, read, *arguments):
        self.read, self.arguments = read, arguments

    def finish(self):
        return self.read(*self.arguments)


PUBLISHERS = [KcatPub, ConfluentPub, KafkaPythonPub, KafkaJsPub]
CONSUMERS = [KafkaReader("kcat", read_kcat), KafkaReader("confluent-kafka", read_confluent),
             KafkaReader("kafka-python", read_kafka_python), KafkaReader("kafkajs", read_kafkajs)]
