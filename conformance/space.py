#!/usr/bin/python3
"""Space on disk comes back while readers and writers run: key compaction, and queues of which one old
message stays.

    space.py [--keys N] [--rounds N] [--megabytes N]

The full measure: --keys 1000000 --rounds 20 --megabytes 10240.
"""

import argparse
import os
import sys
import threading
import time

import confluent_kafka
import pika
from confluent_kafka.admin import AdminClient, NewTopic

from lib.amqp_clients import connect
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until

parser = argparse.ArgumentParser()
parser.add_argument("--keys", type=int, default=10000)
parser.add_argument("--rounds", type=int, default=20)
parser.add_argument("--megabytes", type=int, default=32)
parser.add_argument("only", nargs="*")
options = parser.parse_args()

suite = Suite("space")
VALUE = 200  # octets


def journal_bytes(broker):
    folder = os.path.join(broker.data, "journal")
    total = 0
    for name in os.listdir(folder):
        try:
            total += os.stat(os.path.join(folder, name)).st_size
        except FileNotFoundError:  # just rewritten
            pass
    return total


def producer(broker):
    return confluent_kafka.Producer({
        "bootstrap.servers": broker.kafka, "linger.ms": 5, "log_level": 0, "enable.idempotence": True,
        "compression.type": "none", "queue.buffering.max.messages": 200000})


def write_round(client, topic, keys, number):
    for key in range(keys):
        value = b"%d:%d:" % (key, number)
        while True:
            try:
                client.produce(topic, value.ljust(VALUE, b"."), b"%d" % key)
                break
            except BufferError:
                client.poll(0.05)
        client.poll(0)


def read_all(broker, topic, on_record):
    """From the beginning to the end as of now; offsets rise, with gaps."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "reader", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "enable.partition.eof": True})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)])
    last, count = -1, 0
    deadline = time.monotonic() + 20
    while True:
        batch = consumer.consume(1000, timeout=0.1)
        if batch:
            deadline = time.monotonic() + 20
        assert time.monotonic() < deadline, "neither a record nor the end within 20 s"
        for message in batch:
            if message.error() is not None:
                equal(message.error().code(), confluent_kafka.KafkaError._PARTITION_EOF, "error")
                consumer.close()
                return count
            assert message.offset() > last, f"offset {message.offset()} after {last}"
            last = message.offset()
            count += 1
            on_record(message)


@suite.case("Kafka: a compacted topic shrinks to near its live size under readers and writers")
def compaction():
    live = options.keys * (VALUE + 20)
    segment = max(1 << 20, min(64 << 20, live // 8))
    settings = [f"storage.segment_bytes={segment}", f"storage.checkpoint_bytes={segment * 2}",
                "storage.retention_check_ms=200"]
    with Broker(settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
        topic = NewTopic("compacted", 1, 1, config={
            "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"})
        admin.create_topics([topic])["compacted"].result(20)
        client = producer(broker)
        over = threading.Event()
        failures = []

        def follow():
            try:
                while not over.is_set():
                    newest = {}

                    def keep(message):
                        number = int(message.value().split(b":")[1])
                        assert newest.get(message.key(), -1) <= number, "an older value came later"
                        newest[message.key()] = number

                    read_all(broker, "compacted", keep)
            except Exception as error:
                failures.append(error)

        reader = threading.Thread(target=follow)
        reader.start()
        for number in range(options.rounds):
            write_round(client, "compacted", options.keys, number)
        client.flush(120)
        over.set()
        reader.join()
        assert not failures, failures

        def shrunk():
            size = journal_bytes(broker)
            return size if size < live * 1.3 + segment else None

        wait_until(shrunk, 120, f"a journal near the {live} octets that are live")
        for _ in range(2):
            newest = {}
            count = read_all(broker, "compacted", lambda m: newest.__setitem__(m.key(), m.value()))
            equal(len(newest), options.keys, "keys")
            wrong = [key for key, value in newest.items()
                     if value.rstrip(b".") != b"%s:%d:" % (key, options.rounds - 1)]
            assert not wrong, f"{len(wrong)} keys have another value than their latest"
            broker.kill()
            broker.start()
        print(f"    {options.keys * options.rounds} written, {count} left, "
              f"{journal_bytes(broker) / live:.2f} times the live octets")


@suite.case("Kafka: tombstones, and a record without a key is refused for a compacted topic")
def tombstones():
    settings = ["storage.segment_bytes=1048576", "storage.checkpoint_bytes=1048576",
                "storage.retention_check_ms=100"]
    with Broker(settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
        admin.create_topics([NewTopic("t", 1, 1, config={
            "cleanup.policy": "compact", "delete.retention.ms": "0",
            "max.compaction.lag.ms": "1"})])["t"].result(20)
        answers = []
        client = producer(broker)
        client.produce("t", b"value", None, on_delivery=lambda error, _: answers.append(error))
        client.flush(20)
        equal(answers[0].code(), confluent_kafka.KafkaError.INVALID_RECORD, "error")
        client = producer(broker)
        client.produce("t", b"kept", b"b")
        client.produce("t", b"x" * 1000, b"a")
        client.produce("t", None, b"a")
        client.flush(20)

        def only_kept():
            # What is written besides brings the segment with the tombstone to its end.
            for number in range(300):
                client.produce("other", b"o" * 4000)
            client.flush(20)
            found = {}
            read_all(broker, "t", lambda m: found.setdefault(m.key(), []).append(m.value()))
            return found == {b"b": [b"kept"]} or found == {b"b": [b"kept"], b"a": [None]}

        wait_until(only_kept, 60, "the end of what was deleted")


@suite.case("AMQP: one message that stays unacknowledged holds up nothing behind it")
def queue_space():
    segment = 4 << 20
    settings = [f"storage.segment_bytes={segment}", f"storage.checkpoint_bytes={segment * 2}",
                "storage.retention_check_ms=200"]
    body = os.urandom(64 << 10)
    count = (options.megabytes << 20) // len(body)
    with Broker(settings) as broker:
        connection = connect(broker)
        channel = connection.channel()
        channel.queue_declare("jobs", durable=True)
        channel.confirm_delivery()
        publish = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", "jobs", b"the old one", publish)
        old, _, _ = channel.basic_get("jobs")
        most = 0
        for number in range(count):
            channel.basic_publish("", "jobs", body, publish)
            method, _, got = channel.basic_get("jobs")
            assert got == body
            channel.basic_ack(method.delivery_tag)
            if number % 100 == 0:
                most = max(most, journal_bytes(broker))
        limit = max(200 << 20, 0) if options.megabytes > 1024 else 8 * segment
        wait_until(lambda: journal_bytes(broker) < limit, 60, f"a journal under {limit} octets")
        print(f"    {count * len(body) >> 20} MiB went through, {journal_bytes(broker) >> 10} KiB are "
              f"left, {most >> 20} MiB at most")
        broker.kill()
        broker.start()
        connection = connect(broker)
        channel = connection.channel()
        bodies = {}
        while True:
            method, _, got = channel.basic_get("jobs")
            if method is None:
                break
            bodies[bytes(got)] = method.redelivered
        assert bodies.pop(b"the old one"), "the old message isn't marked as redelivered"
        assert set(bodies) <= {body}, "something else is in the queue"
        connection.close()


if __name__ == "__main__":
    sys.exit(suite.run(options.only))
