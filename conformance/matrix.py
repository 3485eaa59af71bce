#!/usr/bin/python3
"""The matrix: each publisher of each protocol to each consumer of each. Across protocols records
arrive as docs/mapping.md says, within one exactly as they were sent."""

import sys
import time

from lib import kafka_clients, mqtt_clients
from lib.broker import Broker
from lib.cases import Suite, equal
from lib.sample import Sample, properties_as_headers

PUBLISHERS = mqtt_clients.PUBLISHERS + kafka_clients.PUBLISHERS
CONSUMERS = mqtt_clients.SUBSCRIBERS + kafka_clients.CONSUMERS
CLIENT_TIME = 1_600_000_000_123
NO_TIMESTAMPS = ("kcat",)  # can't set one when producing
LARGE = bytes(range(256)) * 4096  # 1 MiB


def samples_for(publisher):
    samples = [
        Sample("text", b"kitchen/temp", b"21.5"),
        Sample("binary", b"kitchen/raw", bytes(range(256))),
        Sample("empty", b"kitchen/none", b""),
        Sample("1 MiB", b"kitchen/film", LARGE),
        Sample("no key", None, b"to the topic itself"),
        Sample("properties", b"kitchen/ask", b"?", "text/plain", b"id-7\xfe", "answers/here",
               [("trace", b"abc"), ("unit", b"C")]),
    ]
    if publisher.protocol == "kafka":
        samples.append(Sample("null", b"kitchen/deleted", None))
        if publisher.name != "kcat":
            samples.append(Sample("empty key", b"", b"under the empty key"))
            samples.append(Sample("client time", b"kitchen/then", b"then", timestamp=CLIENT_TIME))
    return samples


def check_mqtt(sample, seen, publisher, began):
    name = mqtt_clients.topic_name(TOPIC[publisher], sample.key)
    equal(seen.name, name, "topic name")
    equal(seen.value, sample.value or b"", "payload")
    equal(seen.content_type, sample.content_type, "content type")
    equal(seen.correlation, sample.correlation, "correlation data")
    equal(seen.reply_to, sample.reply_to, "response topic")
    user = list(seen.user)
    if publisher.protocol == "kafka":  # MQTT has no timestamp; ours is the last user property
        title, text = user.pop()
        equal(title, "timestamp", "last user property")
        check_time(sample, int(text), began)
    equal(user, [(name, value.decode()) for name, value in sample.headers], "user properties")


def check_kafka(sample, seen, publisher, began):
    equal(seen.key, sample.key, "key")
    equal(seen.value, sample.value, "value")
    properties = properties_as_headers(sample)
    equal(sorted(seen.headers[:len(properties)]), sorted(properties), "headers of properties")
    equal(seen.headers[len(properties):], sample.headers, "headers")
    check_time(sample, seen.timestamp, began)


def check_time(sample, timestamp, began):
    if sample.timestamp is not None:
        equal(timestamp, sample.timestamp, "timestamp")
    else:
        assert began - 1000 <= timestamp <= time.time() * 1000 + 1000, f"timestamp {timestamp}"


TOPIC = {publisher: f"from-{publisher.name.replace('_', '-')}-{publisher.protocol}"
         for publisher in PUBLISHERS}


def main():
    suite = Suite("matrix")
    checks = {"mqtt": check_mqtt, "kafka": check_kafka}
    with Broker(["limits.max_message_bytes=8388608"]) as broker:
        received = {}
        began = time.time() * 1000
        for publisher in PUBLISHERS:
            samples, topic = samples_for(publisher), TOPIC[publisher]
            live = [subscriber(broker, topic, len(samples)) for subscriber in mqtt_clients.SUBSCRIBERS]
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
                if consumer in mqtt_clients.SUBSCRIBERS:
                    reader = received[publisher][mqtt_clients.SUBSCRIBERS.index(consumer)]
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
        return suite.run()


if __name__ == "__main__":
    sys.exit(main())
