#!/usr/bin/python3
"""Kafka's transactions with real clients: what is committed is seen as a whole and by everybody, what is
aborted by nobody, whoever is killed and when.

    kafka_transactions.py [--rounds N] [--seed N] [--history FILE] [WORD]...

The last case copies a topic to another, exactly once, while the broker and the copier are killed (kill -9) in
N rounds. It logs a history, which the checker in history/ judges.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from history.checker import Checker
from history.events import History
from lib.amqp_clients import connect
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.mqtt_clients import PahoClient

HERE = os.path.dirname(os.path.abspath(__file__))
KAFKAJS = os.path.join(HERE, "js", "kafkajs_transactions.mjs")
suite = Suite("kafka transactions")
arguments = argparse.Namespace(rounds=4, seed=None, history=None)
# Small segments and frequent checkpoints, so that kills fall into rolls and checkpoints too.
SETTINGS = ["storage.segment_bytes=1048576", "storage.checkpoint_bytes=1048576",
            "storage.retention_check_ms=100"]


def create(broker, **topics):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    for name, done in admin.create_topics([NewTopic(n, p, 1) for n, p in topics.items()]).items():
        done.result(20)


def producer(broker, name, **options):
    made = confluent_kafka.Producer({
        "bootstrap.servers": broker.kafka, "transactional.id": name, "log_level": 0,
        "transaction.timeout.ms": 60_000, **{k.replace("_", "."): v for k, v in options.items()}})
    made.init_transactions(30)
    return made


def read(broker, topic, isolation="read_committed", partitions=1, until=None):
    """Values up to `until`, or to the end that a reader of that isolation sees."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "reader", "isolation.level": isolation,
        "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    values, ended = [], set()
    deadline = time.monotonic() + 30
    while len(ended) < partitions and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())
            if until is None:
                ended.add(message.partition())
            continue
        values.append(message.value().decode())
        if values[-1] == until:
            break
    consumer.close()
    return values


def offset_of(broker, group, topic, partition=0):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": group})
    [found] = consumer.committed([TopicPartition(topic, partition)], 20)
    consumer.close()
    return found.offset


def send(client, topic, *values, partition=0):
    for value in values:
        client.produce(topic, value, partition=partition)
    equal(client.flush(30), 0, "left over")


@suite.case("commit and abort: read_committed sees what was committed, read_uncommitted all of it")
def commit_and_abort():
    with Broker() as broker:
        create(broker, t=2)
        client = producer(broker, "tx")
        for number in range(6):
            client.begin_transaction()
            send(client, "t", f"a{number}")
            send(client, "t", f"b{number}", partition=1)
            if number == 0:
                equal(read(broker, "t", partitions=2), [], "before the commit")
            client.commit_transaction(30) if number % 2 == 0 else client.abort_transaction(30)
        equal(sorted(read(broker, "t", partitions=2)), ["a0", "a2", "a4", "b0", "b2", "b4"], "committed")
        equal(sorted(read(broker, "t", "read_uncommitted", 2)),
              sorted(f"{p}{n}" for n in range(6) for p in "ab"), "uncommitted")
        broker.restart()
        equal(sorted(read(broker, "t", partitions=2)), ["a0", "a2", "a4", "b0", "b2", "b4"], "after kill -9")


@suite.case("an open transaction holds readers of committed records up, and nobody else")
def open_transaction():
    with Broker() as broker:
        create(broker, t=1)
        plain = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        client = producer(broker, "tx")
        send(plain, "t", "before")
        client.begin_transaction()
        send(client, "t", "inside")
        send(plain, "t", "after")
        equal(read(broker, "t"), ["before"], "committed")
        equal(read(broker, "t", "read_uncommitted"), ["before", "inside", "after"], "uncommitted")
        seen = []
        waiting = threading.Thread(target=lambda: seen.extend(read(broker, "t", until="after")))
        waiting.start()
        client.commit_transaction(30)
        waiting.join(30)
        equal(seen, ["before", "inside", "after"], "a reader that waited")


@suite.case("a second producer with the same id fences the first and aborts its transaction")
def fencing():
    with Broker() as broker:
        create(broker, t=1)
        first = producer(broker, "tx")
        first.begin_transaction()
        send(first, "t", "zombie")
        second = producer(broker, "tx")
        second.begin_transaction()
        send(second, "t", "heir")
        second.commit_transaction(30)
        try:
            first.commit_transaction(30)
            raise AssertionError("the first producer committed")
        except KafkaException as error:
            assert error.args[0].fatal(), error
            assert error.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED,
                                            KafkaError.INVALID_PRODUCER_EPOCH), error
        equal(read(broker, "t"), ["heir"], "committed")


@suite.case("a transaction that takes too long is aborted, and its producer fenced")
def timing_out():
    with Broker() as broker:
        create(broker, t=1)
        client = producer(broker, "tx", transaction_timeout_ms=2000)
        client.begin_transaction()
        send(client, "t", "late")
        plain = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        send(plain, "t", "other")
        wait_until(lambda: read(broker, "t") == ["other"], 30, "the time-out")
        try:
            client.commit_transaction(30)
            raise AssertionError("it committed")
        except KafkaException:
            pass
        equal(read(broker, "t"), ["other"], "committed")
        try:
            producer(broker, "greedy", transaction_timeout_ms=2_000_000)
            raise AssertionError("a time-out above the broker's limit was taken")
        except KafkaException as error:
            equal(error.args[0].code(), KafkaError.INVALID_TRANSACTION_TIMEOUT, "error")


@suite.case("offsets are the group's with the commit, and not with an abort; stale generations are refused")
def offsets():
    with Broker() as broker:
        create(broker, source=1, sink=1)
        plain = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        send(plain, "source", *(str(n) for n in range(10)))
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": "g", "auto.offset.reset": "earliest",
            "enable.auto.commit": False})
        consumer.subscribe(["source"])
        wait_until(lambda: consumer.poll(0.5), 30, "a record")
        client = producer(broker, "tx")
        position = [TopicPartition("source", 0, 7)]
        client.begin_transaction()
        client.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 30)
        client.abort_transaction(30)
        equal(offset_of(broker, "g", "source"), confluent_kafka.OFFSET_INVALID, "after an abort")
        client.begin_transaction()
        send(client, "sink", "x")
        client.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 30)
        client.commit_transaction(30)
        equal(offset_of(broker, "g", "source"), 7, "after a commit")
        stale = consumer.consumer_group_metadata()
        consumer.close()
        other = producer(broker, "other")
        other.begin_transaction()
        try:
            other.send_offsets_to_transaction([TopicPartition("source", 0, 9)], stale, 30)
            raise AssertionError("offsets of a member that left were taken")
        except KafkaException as error:
            assert error.args[0].txn_requires_abort(), error
        other.abort_transaction(30)
        equal(offset_of(broker, "g", "source"), 7, "after a refusal")
        broker.restart()
        equal(offset_of(broker, "g", "source"), 7, "after kill -9")
        equal(read(broker, "sink"), ["x"], "committed")


@suite.case("MQTT subscribers, an AMQP queue, a stream and `polylog consume` get it at the commit, never an abort")
def other_protocols():
    with Broker() as broker:
        create(broker, orders=1)
        client = producer(broker, "tx")
        live = PahoClient(broker, "live")
        live.subscribe("orders/#", 1)
        connection = connect(broker)
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "amq.topic", "orders.#")

        def queued():
            method, _, body = channel.basic_get("q", auto_ack=True)
            return body if method else None

        def consumed():
            url = f"{broker.admin}/api/topics/orders/records?offset=earliest&max=1000"
            with urllib.request.urlopen(url) as answer:
                return [r["value"] for r in json.load(answer)["records"]]

        def write(*values):
            client.begin_transaction()
            for value in values:
                client.produce("orders", value, key="k")
            client.flush(30)

        write("no")
        client.abort_transaction(30)
        write("1", "2")
        equal(consumed(), [], "polylog consume, before the commit")
        equal((queued(), [m.payload for m in live.seen]), (None, []), "before the commit")
        client.commit_transaction(30)
        live.expect(2)
        equal([m.payload for m in live.seen], [b"1", b"2"], "MQTT")
        got = [wait_until(queued, 20, "a queued message") for _ in range(2)]
        equal(got, [b"1", b"2"], "the queue")
        equal(queued(), None, "the queue, then")
        equal(consumed(), ["1", "2"], "polylog consume")
        channel.queue_declare("orders", durable=True, arguments={"x-queue-type": "stream"})
        channel.basic_qos(prefetch_count=10)
        stream = []
        for _, _, body in channel.consume("orders", arguments={"x-stream-offset": "first"},
                                          inactivity_timeout=1):
            if body is None:
                break
            stream.append(body)
        equal(stream, [b"1", b"2"], "the stream")
        connection.close()
        live.close()


@suite.case("kafkajs: abort, commit, and offsets with the commit")
def with_kafkajs():
    with Broker() as broker:
        create(broker, source=1, sink=1)
        plain = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        send(plain, "source", *(str(n) for n in range(10)))
        done = subprocess.run(["node", KAFKAJS, broker.kafka, "source", "sink", "g"],
                              capture_output=True, timeout=90)
        assert done.returncode == 0, done.stderr.decode()
        equal(json.loads(done.stdout), ["committed", "end"], "kafkajs read")
        equal(offset_of(broker, "g", "source"), 5, "the group's offset")


COPIER = """
import sys, confluent_kafka, json
from confluent_kafka import TopicPartition, KafkaException
address, name = sys.argv[1:]
options = {"bootstrap.servers": address, "log_level": 0}
consumer = confluent_kafka.Consumer({**options, "group.id": "copier", "auto.offset.reset": "earliest",
    "enable.auto.commit": False, "isolation.level": "read_committed", "session.timeout.ms": 6000})
producer = confluent_kafka.Producer({**options, "transactional.id": name, "transaction.timeout.ms": 10000})
producer.init_transactions()
consumer.subscribe(["source"])
count = 0
while True:
    batch = [m for m in consumer.consume(20, 0.2) if not m.error()]
    if not batch:
        continue
    count += 1
    producer.begin_transaction()
    try:
        for message in batch:
            producer.produce("sink", message.value(), partition=message.partition())
        if count % 5 == 4:
            raise RuntimeError("let's abort this one")
        producer.send_offsets_to_transaction(consumer.position(consumer.assignment()),
                                             consumer.consumer_group_metadata())
        producer.commit_transaction()
    except Exception as error:
        if isinstance(error, KafkaException) and error.args[0].fatal():
            sys.exit(3)  # fenced: whoever watches starts another
        while True:
            try:
                producer.abort_transaction()
                break
            except KafkaException as failed:
                if failed.args[0].fatal():
                    sys.exit(3)
                if not failed.args[0].retriable():
                    sys.exit(4)
        for partition in consumer.committed(consumer.assignment()):
            if partition.offset < 0:
                partition.offset = 0
            consumer.seek(partition)
"""


class Copying:
    """A copier in a process of its own, which is started again when it ends."""

    def __init__(self, broker):
        self.broker = broker
        self.process = None
        self.over = False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.over:
            self.process = subprocess.Popen([sys.executable, "-c", COPIER, self.broker.kafka, "copier"])
            self.process.wait()

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)

    def stop(self):
        self.over = True
        self.kill()
        self.thread.join()


def numbered(value):
    name, number = value.decode().split(":")
    return name, int(number)


def judge(broker, history, counts, partitions):
    """Reads the copy to its end, and has the checker look at it."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "judge", "isolation.level": "read_committed",
        "enable.auto.commit": False, "log_level": 0})
    history.log("consumer", "sink", "judge", {"isolation": "committed"})
    consumer.assign([TopicPartition("sink", p, 0) for p in range(partitions)])
    for partition in range(partitions):
        history.log("assign", "sink", "judge", partition, 0)
    left = sum(counts.values())
    # Many rounds leave the copier much to do: what counts is that it gets on.
    deadline = time.monotonic() + 120
    quiet = None
    while time.monotonic() < deadline and (left > 0 or quiet is None or time.monotonic() < quiet):
        message = consumer.poll(0.2)
        if message is None or message.error():
            continue
        deadline = time.monotonic() + 120
        name, number = numbered(message.value())
        history.log("read", "sink", "judge", name, number, message.partition(), message.offset())
        left -= 1
        # A copy too many would come behind: a moment is left for it.
        quiet = time.monotonic() + 2
    consumer.close()
    assert left <= 0, f"{left} records weren't copied"


@suite.case("consume, transform, produce: exactly once across kill -9 of broker and copier")
def exactly_once():
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    chance = random.Random(seed)
    partitions = 3
    history = History(arguments.history)
    with Broker(SETTINGS) as broker:
        create(broker, source=partitions, sink=partitions)
        history.log("topic", "sink", {"kind": "log"})
        for partition in range(partitions):
            history.log("publisher", "sink", f"p{partition}", {"ordered": True})
        counts = {f"p{partition}": 0 for partition in range(partitions)}
        plain = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "log_level": 0,
                                          "enable.idempotence": True})
        copying = Copying(broker)
        try:
            for round_ in range(arguments.rounds):
                for _ in range(600):
                    partition = chance.randrange(partitions)
                    name = f"p{partition}"
                    # The copy is to hold what the source holds: each number once.
                    history.log("send", "sink", name, counts[name])
                    plain.produce("source", f"{name}:{counts[name]}", partition=partition)
                    counts[name] += 1
                    plain.poll(0)
                time.sleep(chance.random() * 2)
                if round_ % 2 == 0:
                    history.log("note", "the broker is killed")
                    broker.kill()
                    history.log("crash")
                    broker.start()
                    history.log("restart")
                else:
                    history.log("note", "the copier is killed")
                    copying.kill()
            equal(plain.flush(60), 0, "left over")
            for name, count in counts.items():
                for number in range(count):
                    history.log("ack", "sink", name, number)
            judge(broker, history, counts, partitions)
        finally:
            copying.stop()
        history.log("complete", "sink")
    checker = Checker()
    checker.feed(history.take())
    report = checker.finish()
    history.close()
    assert report.ok, f"seed {seed}: {report}"
    print(f"    {report.summary()} over {arguments.rounds} rounds, seed {seed}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--history")
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    sys.exit(suite.run(arguments.words))
