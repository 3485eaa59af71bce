#!/usr/bin/python3
"""Space on disk comes back while readers and writers run: key compaction, and queues of which one old
message stays. And however much there is, a start after `kill -9` reads only the end of it.

    space.py [--full] [--keys N] [--rounds N] [--megabytes N] [CASE]...

--full is the measure of a machine: a million keys overwritten 20 times, 10 GiB through a queue, a
journal of 10 GiB, all with the limits that Polylog promises; it takes some 15 minutes, and 12 GB below
$TMPDIR. As root it measures starts with a cold page cache too.
"""

import argparse
import array
import os
import random
import sys
import threading
import time

import confluent_kafka
import pika
from confluent_kafka.admin import AdminClient, NewTopic

from lib.amqp_clients import connect
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.stalls import Stalls

parser = argparse.ArgumentParser()
parser.add_argument("--full", action="store_true")
parser.add_argument("--keys", type=int)
parser.add_argument("--rounds", type=int, default=20)
parser.add_argument("--megabytes", type=int)
parser.add_argument("only", nargs="*")
options = parser.parse_args()
options.keys = options.keys or (1000000 if options.full else 10000)
options.megabytes = options.megabytes or (10240 if options.full else 64)

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


class Peak:
    """The most that a figure came to while others work."""

    def __init__(self, figure):
        self.figure, self.most, self.over = figure, 0, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.over.wait(0.5):
            self.most = max(self.most, self.figure())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def producer(broker, compression="none"):
    return confluent_kafka.Producer({
        "bootstrap.servers": broker.kafka, "linger.ms": 5, "log_level": 0, "enable.idempotence": True,
        "compression.type": compression, "queue.buffering.max.messages": 200000})


def produce(client, *record):
    while True:
        try:
            client.produce(*record)
            break
        except BufferError:
            client.poll(0.05)
    client.poll(0)


class Overwriter:
    """Writes each key once, then keys by chance, and knows the latest number of each."""

    def __init__(self, broker, topic, keys):
        self.client, self.topic, self.keys = producer(broker), topic, keys
        self.latest = array.array("l", [-1]) * keys
        self.written = 0
        self.dice = random.Random(1)

    def write(self, count):
        for _ in range(count):
            key = self.written if self.written < self.keys else self.dice.randrange(self.keys)
            self.latest[key] = self.written
            value = b"%d:%d:" % (key, self.written)
            produce(self.client, self.topic, value.ljust(VALUE, b"."), b"%d" % key)
            self.written += 1

    def check(self, newest):
        """`newest`: key -> number, as read."""
        equal(len(newest), self.keys, "keys")
        wrong = [key for key, number in newest.items() if number != self.latest[int(key)]]
        assert not wrong, f"{len(wrong)} keys have another value than their latest"


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
    with Broker(settings) as broker, Stalls(broker) as stalls:
        admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
        topic = NewTopic("compacted", 1, 1, config={
            "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"})
        admin.create_topics([topic])["compacted"].result(20)
        over = threading.Event()
        failures = []

        def follow():
            try:
                while not over.is_set():
                    read_newest(broker)
            except Exception as error:
                failures.append(error)

        writer = Overwriter(broker, "compacted", options.keys)
        threads = [threading.Thread(target=follow, daemon=True)]
        threads[0].start()
        with Peak(lambda: journal_bytes(broker)) as disk, Peak(broker.resident_bytes) as memory:
            writer.write(options.keys * options.rounds)
            writer.client.flush(120)

            def trickle():  # one in 200 keys a second
                while not over.wait(0.1):
                    writer.write(max(1, options.keys // 2000))

            threads.append(threading.Thread(target=trickle, daemon=True))
            threads[1].start()
            # What the active segment holds can't be compacted yet: of a small topic that is a lot.
            limit = live * 1.3 + (0 if options.full else segment)
            wait_until(lambda: journal_bytes(broker) < limit, 300, f"a journal of {limit} octets at most")
            sizes = sorted(map(lambda _: time.sleep(0.1) or journal_bytes(broker), range(100)))
            over.set()
            for thread in threads:
                thread.join()
        writer.client.flush(120)
        assert not failures, failures
        assert sizes[50] < limit, f"the median is {sizes[50]} octets"
        equal(len(writer.client), 0, "records not acknowledged")
        print(f"    {writer.written} written, {sizes[0] / live:.2f} to {sizes[-1] / live:.2f} times the live "
              f"octets left, median {sizes[50] / live:.2f}, {disk.most / live:.2f} at most; the broker: {broker.cpu_seconds():.0f} s of processor time, "
              f"{memory.most >> 20} MiB resident at most\n    another publisher's confirms: {stalls.end()}")
        for _ in range(2):
            writer.check(read_newest(broker))
            broker.kill()
            broker.start()


def read_newest(broker):
    newest = {}

    def keep(message):
        number = int(message.value().split(b":")[1])
        assert newest.get(message.key(), -1) <= number, "an older value came later"
        newest[message.key()] = number

    read_all(broker, "compacted", keep)
    return newest


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
    small = [f"storage.segment_bytes={segment}", f"storage.checkpoint_bytes={segment * 2}",
             "storage.retention_check_ms=200"]
    body = os.urandom((512 if options.full else 64) << 10)
    count = (options.megabytes << 20) // len(body)
    with Broker([] if options.full else small) as broker, Stalls(broker) as stalls:
        connection = connect(broker)
        channel = connection.channel()
        channel.queue_declare("jobs", durable=True)
        channel.confirm_delivery()
        publish = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", "jobs", b"the old one", publish)
        old, _, _ = channel.basic_get("jobs")
        channel.basic_qos(prefetch_count=64)
        with Peak(lambda: journal_bytes(broker)) as disk, Peak(broker.resident_bytes) as memory:
            thread = threading.Thread(target=publish_all, args=(broker, body, count))
            thread.start()
            got = 0
            for method, _, message in channel.consume("jobs", inactivity_timeout=60):
                assert method is not None, f"nothing came for a minute after {got} of {count}"
                assert message == body
                channel.basic_ack(method.delivery_tag)
                got += 1
                if got == count:
                    break
            thread.join()
            limit = 200 * 1000 * 1000 if options.full else 8 * segment
            wait_until(lambda: broker.data_bytes() < limit, 120, f"less than {limit} octets on disk")
        print(f"    {count * len(body) >> 20} MiB went through, {broker.data_bytes() >> 10} KiB are left on "
              f"disk, {disk.most >> 20} MiB of journal at most; the broker: {broker.cpu_seconds():.0f} s of "
              f"processor time, {memory.most >> 20} MiB resident at most\n"
              f"    another publisher's confirms: {stalls.end()}")
        broker.kill()
        broker.start()
        connection = connect(broker)
        channel = connection.channel()
        bodies = {}
        while True:
            method, _, message = channel.basic_get("jobs")
            if method is None:
                break
            bodies[bytes(message)] = method.redelivered
        assert bodies.pop(b"the old one"), "the old message isn't marked as redelivered"
        assert set(bodies) <= {body}, "something else is in the queue"
        connection.close()


@suite.case("AMQP: a message that stays now and then leaves few files behind")
def merging():
    settings = ["storage.segment_bytes=1048576", "storage.checkpoint_bytes=2097152",
                "storage.retention_check_ms=200"]
    body = os.urandom(64 << 10)
    rounds = 300 if options.full else 60
    with Broker(settings) as broker:
        connection = connect(broker)
        channel = connection.channel()
        publish = pika.BasicProperties(delivery_mode=2)
        for queue in ("passing", "staying"):
            channel.queue_declare(queue, durable=True)
        channel.confirm_delivery()
        for number in range(rounds):  # a segment each, and a little more
            for _ in range(17):
                channel.basic_publish("", "passing", body, publish)
                method, _, _ = channel.basic_get("passing")
                channel.basic_ack(method.delivery_tag)
            channel.basic_publish("", "staying", b"%d" % number, publish)
        most = 24
        wait_until(lambda: len(segments(broker)) <= most, 60, f"{most} segments at most")
        print(f"    {rounds} segments or more had a message that stays, {len(segments(broker))} are left, "
              f"{journal_bytes(broker) >> 10} KiB")
        for _ in range(2):
            broker.kill()
            broker.start()
            channel = connect(broker).channel()
            got = [channel.basic_get("staying")[2] for _ in range(rounds)]
            equal(got, [b"%d" % number for number in range(rounds)], "messages")


def segments(broker):
    return [name for name in os.listdir(os.path.join(broker.data, "journal")) if name.endswith(".segment")]


def publish_all(broker, body, count):
    """Up to 64 unconfirmed at a time."""
    connection = connect(broker)
    channel = connection.channel()._impl
    confirmed = 0

    def confirm(frame):
        nonlocal confirmed
        assert isinstance(frame.method, pika.spec.Basic.Ack), f"a confirm was {frame.method}"
        confirmed = max(confirmed, frame.method.delivery_tag)

    channel.confirm_delivery(confirm, lambda _: None)
    for sent in range(count):
        channel.basic_publish("", "jobs", body, pika.BasicProperties(delivery_mode=2))
        while sent - confirmed >= 64:
            connection.process_data_events(1)
    while confirmed < count:
        connection.process_data_events(1)
    connection.close()


def forget_cached(broker):
    """The page cache loses what it has of the data directory, and as root of everything."""
    os.sync()
    for folder, _, names in os.walk(broker.data):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if options.full and os.geteuid() == 0:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3\n")


@suite.case("Kafka: a start after kill -9 follows the tail and not the history")
def recovery():
    segment = (64 if options.full else 4) << 20  # the default in full
    settings = [f"storage.segment_bytes={segment}", f"storage.checkpoint_bytes={segment}"]
    value = os.urandom(10000)
    with Broker(settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
        admin.create_topics([NewTopic("history", 8, 1, config={"retention.ms": "-1"})])["history"].result(20)
        client = producer(broker)

        def write(octets):
            for number in range(octets // len(value)):
                produce(client, "history", value, b"%d" % number)
            client.flush(120)
            equal(len(client), 0, "records not acknowledged")

        write(options.megabytes << 20)
        # Checkpoints come behind a writer that is as fast as this.
        wait_until(lambda: checkpointed(broker) > (options.megabytes << 20) - segment, 60, "a checkpoint")
        while active_bytes(broker) < segment * 0.9:  # the longest tail that there can be
            write(segment // 20)
        seconds, read = {}, []
        for cache in ("warm", "cold"):
            for _ in range(3):
                broker.kill()
                if cache == "cold":
                    forget_cached(broker)
                began = time.monotonic()
                broker.start()
                seconds.setdefault(cache, []).append(time.monotonic() - began)
                read.append(read_bytes(broker))
        print(f"    ready after kill -9 with a journal of {journal_bytes(broker) >> 20} MiB, page cache "
              + ", ".join(f"{cache}: {' '.join(f'{s:.2f}' for s in each)} s" for cache, each in seconds.items())
              + f"; {max(read) >> 20} MiB read at most")
        # How far routing has looked is journaled every second: at the small size that is behind.
        assert not options.full or max(read) < 4 * segment + (32 << 20), "more was read than the journal's end"
        assert not options.full or max(map(max, seconds.values())) < 2, "that took more than 2 s"


def active_bytes(broker):
    return os.stat(os.path.join(broker.data, "journal", max(segments(broker)))).st_size


def checkpointed(broker):
    """The position of the newest checkpoint."""
    return max((int(name.split("-")[1]) for name in os.listdir(os.path.join(broker.data, "state"))
                if name.startswith("checkpoint-") and not name.endswith(".tmp")), default=0)


def read_bytes(broker):
    """What the process has read since it began, from the page cache too."""
    with open(f"/proc/{broker.pid}/io") as file:
        return int(file.readline().split()[1])


if __name__ == "__main__":
    sys.exit(suite.run(options.only))
