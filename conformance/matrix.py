#!/usr/bin/python3
"""The matrix: each publisher of each protocol to each consumer of each. Across protocols records
arrive as docs/mapping.md says, within one exactly as they were sent."""

import base64
import sys
import threading
import time

import confluent_kafka

from lib import amqp_clients, kafka_clients, mqtt_clients
from lib.broker import Broker
from lib.cases import Suite, equal
from lib.sample import Sample, properties_as_headers

PUBLISHERS = mqtt_clients.PUBLISHERS + kafka_clients.PUBLISHERS + amqp_clients.PUBLISHERS
LIVE = mqtt_clients.SUBSCRIBERS + amqp_clients.SUBSCRIBERS  # there before the records
CONSUMERS = LIVE + kafka_clients.CONSUMERS + amqp_clients.READERS
CLIENT_TIME = int(time.time() - 3600) * 1000 + 123  # not so old that retention takes it away
LARGE = bytes(range(256)) * 4096  # 1 MiB


def samples_for(publisher):
    # AMQP's correlation id is text.
    correlation = b"id-7\xfe" if publisher.protocol != "amqp" else b"id-7"
    samples = [
        Sample("text", b"kitchen/temp", b"21.5"),
        Sample("binary", b"kitchen/raw", bytes(range(256))),
        Sample("empty", b"kitchen/none", b""),
        Sample("1 MiB", b"kitchen/film", LARGE),
        Sample("no key", None, b"to the topic itself"),
        Sample("properties", b"kitchen/ask", b"?", "text/plain", correlation, "answers/here",
               [("trace", b"abc"), ("unit", b"C")]),
    ]
    if publisher.protocol == "kafka":
        samples.append(Sample("null", b"kitchen/deleted", None))
        if publisher.name != "kcat":
            samples.append(Sample("empty key", b"", b"under the empty key"))
            samples.append(Sample("client time", b"kitchen/then", b"then", timestamp=CLIENT_TIME))
    if publisher.protocol == "amqp":
        samples.append(Sample("persistent", b"kitchen/kept.for/good", b"kept", durable=True))
        samples.append(Sample("empty key", b"", b"under the empty key"))
    if publisher.name == "amqp-publish":
        for sample in samples:  # it has no option for a correlation id, and always says a delivery mode
            sample.correlation = None
            sample.durable = bool(sample.durable)
    elif publisher.protocol == "amqp":
        samples.append(Sample("client time", b"kitchen/then", b"then",
                              timestamp=CLIENT_TIME // 1000 * 1000))
    return samples


def check_mqtt(sample, seen, publisher, began):
    name = mqtt_clients.topic_name(TOPIC[publisher], sample.key)
    equal(seen.name, name, "topic name")
    equal(seen.value, sample.value or b"", "payload")
    equal(seen.content_type, sample.content_type, "content type")
    equal(seen.correlation, sample.correlation, "correlation data")
    equal(seen.reply_to, sample.reply_to, "response topic")
    user = list(seen.user)
    if publisher.protocol != "mqtt":  # MQTT has no timestamp; ours is the last user property
        title, text = user.pop()
        equal(title, "timestamp", "last user property")
        check_time(sample, int(text), began)
    if sample.durable is not None:
        equal(user.pop(0), ("durable", "true" if sample.durable else "false"), "delivery mode")
    equal(user, [(name, value.decode()) for name, value in sample.headers], "user properties")


def check_kafka(sample, seen, publisher, began):
    equal(seen.key, sample.key, "key")
    equal(seen.value, sample.value, "value")
    properties = properties_as_headers(sample)
    if publisher.protocol == "amqp":  # as it was sent, in the broker's own layout
        seen.headers = [(name, value) for name, value in seen.headers if name != "polylog.amqp"]
    equal(sorted(seen.headers[:len(properties)]), sorted(properties), "headers of properties")
    equal(seen.headers[len(properties):], sample.headers, "headers")
    check_time(sample, seen.timestamp, began)


def check_amqp(sample, seen, publisher, began):
    equal(seen.value, sample.value or b"", "body")
    if seen.key is None:
        return  # the client shows nothing else
    equal(seen.key, amqp_clients.routing_key(TOPIC[publisher], sample.key), "routing key")
    equal(seen.exchange, "amq.topic", "exchange")
    equal(seen.content_type, sample.content_type, "content type")
    equal(seen.correlation, as_text(sample.correlation), "correlation id")
    equal(seen.reply_to, sample.reply_to, "reply-to")
    equal(seen.delivery_mode, amqp_clients.MODES[sample.durable], "delivery mode")
    headers = list(seen.headers)
    if publisher.protocol != "amqp":
        title, milliseconds = headers.pop()
        equal(title, "timestamp_in_ms", "last header")
        check_time(sample, milliseconds, began)
        equal(seen.timestamp, milliseconds // 1000, "timestamp")
    else:
        equal(seen.timestamp, sample.timestamp and sample.timestamp // 1000, "timestamp")
    equal(headers, [(name, value.decode()) for name, value in sample.headers], "headers")


def as_text(octets):
    """AMQP's short strings are text: other octets are marked."""
    try:
        return octets and octets.decode()
    except UnicodeDecodeError:
        return "enc--" + base64.urlsafe_b64encode(octets).decode().rstrip("=")


def check_time(sample, timestamp, began):
    if sample.timestamp is not None:
        equal(timestamp, sample.timestamp, "timestamp")
    else:
        assert began - 1000 <= timestamp <= time.time() * 1000 + 1000, f"timestamp {timestamp}"


TOPIC = {publisher: f"from-{publisher.name.replace('_', '-')}-{publisher.protocol}"
         for publisher in PUBLISHERS}


def main():
    suite = Suite("matrix")
    checks = {"mqtt": check_mqtt, "kafka": check_kafka, "amqp": check_amqp}
    with Broker(["limits.max_message_bytes=8388608"]) as broker:
        received = {}
        began = time.time() * 1000
        for publisher in PUBLISHERS:
            samples, topic = samples_for(publisher), TOPIC[publisher]
            live = [subscriber(broker, topic, len(samples)) for subscriber in LIVE]
            try:
                publisher.publish(broker, topic, samples)
                received[publisher] = live
            except Exception as error:
                received[publisher] = error

        def compare(publisher, consumer):
            def check():
                if isinstance(received[publisher], Exception):
                    raise received[publisher]
                samples, topic = samples_for(publisher), TOPIC[publisher]
                if consumer in LIVE:
                    reader = received[publisher][LIVE.index(consumer)]
                else:
                    reader = consumer(broker, topic, len(samples))
                seen = reader.finish()
                equal(len(seen), len(samples), "records")
                for sample, record in zip(samples, seen):
                    try:
                        checks[consumer.protocol](sample, record, publisher, began)
                    except AssertionError as error:
                        raise AssertionError(f"{sample.label}: {error}") from None

            return check

        for publisher in PUBLISHERS:
            for consumer in CONSUMERS:
                suite.add(f"{publisher.name} ({publisher.protocol}) to {consumer.name} "
                          f"({consumer.protocol})", compare(publisher, consumer))
        suite.add("a consumer group, a stream consumer and an MQTT subscriber side by side on one topic, "
                  "publishers of all three protocols: all see the same, in order",
                  lambda: side_by_side(broker))
        return suite.run()


def side_by_side(broker):
    topic, count = "together", 300
    subscriber = mqtt_clients.PahoClient(broker, "together-subscriber").subscribe(f"{topic}/#", 1)
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
    mqtt = mqtt_clients.PahoClient(broker, "together-publisher")
    connection = amqp_clients.connect(broker)
    channel = connection.channel()
    channel.confirm_delivery()

    def publish(number):
        text = b"%d" % number
        if number % 3 == 0:
            mqtt.publish(f"{topic}/m", text, 1)
        elif number % 3 == 1:
            producer.produce(topic, text, b"k", partition=0)
            assert not producer.flush(20)
        else:
            channel.basic_publish("amq.topic", f"{topic}.a", text)

    publish(0)  # the topic comes by itself
    seen = {"group": [], "stream": []}

    def group():
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": "together", "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        while len(seen["group"]) < count and (message := consumer.poll(30)) is not None:
            if message.error() is None:
                seen["group"].append(int(message.value()))
        consumer.close()

    def stream():
        seen["stream"] = [int(one.value) for one in amqp_clients.read_pika(
            broker, topic, count, {"x-stream-offset": "first"})]

    readers = [threading.Thread(target=reader) for reader in (group, stream)]
    for reader in readers:
        reader.start()
    for number in range(1, count):
        publish(number)
    for reader in readers:
        reader.join(60)
    equal(seen["group"], list(range(count)), "the consumer group")
    equal(seen["stream"], list(range(count)), "the stream consumer")
    # Live delivery doesn't wait for the journal, so it keeps the order of each publisher only.
    numbers = [int(m.payload) for m in subscriber.expect(count)]
    for publisher in range(3):
        equal([number for number in numbers if number % 3 == publisher],
              list(range(publisher, count, 3)), "the subscriber, one publisher's")
    for client in (subscriber, mqtt):
        client.close()
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
