#!/usr/bin/python3
"""What other brokers that speak Kafka's protocol got wrong, a case each, and requests that are wrong."""

import gzip
import os
import random
import socket
import struct
import subprocess
import sys
import time

import confluent_kafka
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, NewTopic

from lib import kafka_raw as raw
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.kafka_clients import read_confluent
from lib.kafka_raw import array, i8, i16, i32, i64, text, TAGS, Connection
from lib.mqtt_clients import PahoClient

suite = Suite("kafka pitfalls")
SMALL = ["storage.segment_bytes=1048576", "storage.checkpoint_bytes=1048576", "storage.retention_check_ms=100"]
HERE = os.path.dirname(os.path.abspath(__file__))


def admin(broker):
    client = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    broker.clients = getattr(broker, "clients", []) + [client]
    return client


def create(broker, name, partitions=1, **config):
    spec = NewTopic(name, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})
    admin(broker).create_topics([spec])[name].result(20)


def send(broker, topic, *values, **options):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, **options})
    for value in values:
        producer.produce(topic, value, b"k", partition=0)
    equal(producer.flush(60), 0, "left over")


def bounds(broker, topic):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "bounds"})
    found = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=20)
    consumer.close()
    return found


# ---- what a client relies on

@suite.case("offsets that are not dense: a number a record, whoever wrote it, in batches of any size, over restarts")
def dense():
    with Broker() as broker:
        create(broker, "t")
        dice, count = random.Random(7), 0
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            many = dice.randrange(50, 300)
            send(broker, "t", *(b"%d" % n for n in range(many)),
                 **{"compression.codec": codec, "linger.ms": "5"})
            client = PahoClient(broker, f"writer-{codec}")
            client.publish("t/k", b"by mqtt", 1)
            client.close()
            count += many + 1
            broker.restart()
        equal([message.offset() for message in messages(broker, "t")], list(range(count)), "offsets")
        equal(bounds(broker, "t"), (0, count), "where it begins and ends")


@suite.case("a version above what is offered: ApiVersions falls back to version 0 with UNSUPPORTED_VERSION, others close")
def versions():
    with Broker() as broker:
        with Connection(broker) as client:
            answer = client.ask(18, 99, b"", False)
            equal(answer.i16(), 35, "UNSUPPORTED_VERSION")
            [[key, low, high]] = answer.array(lambda: [answer.i16() for _ in range(3)])
            equal((key, low), (18, 0), "the range that there is")
            answer.end()
            answer = client.ask(18, 2, b"", False)
            equal(answer.i16(), 0, "the same connection goes on")
            offered = {key: (low, high) for key, low, high in
                       answer.array(lambda: [answer.i16() for _ in range(3)])}
        for key, (_, high) in offered.items():
            if key == 18:
                continue
            refused(broker, i16(key) + i16(high + 1) + i32(1) + text("raw", False) + bytes(64),
                    f"API {key} version {high + 1}")


@suite.case("duplicates rejected instead of deduplicated: each of the last five batches is answered as a success again")
def duplicates():
    with Broker() as broker:
        create(broker, "t")
        with Connection(broker) as client:
            who = raw.init_producer(client)
            for number in range(7):
                equal(raw.produce(client, "t", raw.batch(b"%d" % number, producer=who, sequence=number))[:2],
                      (0, number), "first")
            for number in (6, 5, 4, 3, 2, 2, 6):
                equal(raw.produce(client, "t", raw.batch(b"%d" % number, producer=who, sequence=number))[:2],
                      (0, number), f"sequence {number} again")
            assert raw.produce(client, "t", raw.batch(b"0", producer=who, sequence=0))[0] in (45, 46), "an older one"
            equal(raw.produce(client, "t", raw.batch(b"7", producer=who, sequence=7))[:2], (0, 7), "the next one")
        equal([r.value for r in read_confluent(broker, "t", 8)], [b"%d" % n for n in range(8)], "stored")


@suite.case("producer state lost: a repeat is one after kill -9, after its records were deleted, after compaction")
def producer_state():
    with Broker(SMALL) as broker:
        create(broker, "deleted")
        create(broker, "compacted", cleanup_policy="compact", max_compaction_lag_ms="1",
               min_cleanable_dirty_ratio="0.01")
        from kafka.record.default_records import DefaultRecordBatchBuilder

        def keyed(who, sequence):
            builder = DefaultRecordBatchBuilder(2, 0, 0, who[0], who[1], sequence, 1 << 20)
            builder.append(0, 1000, b"key", b"%d" % sequence, [])
            return bytes(builder.build())

        def repeat(who):
            with Connection(broker) as client:
                for topic in ("deleted", "compacted"):
                    equal(raw.produce(client, topic, keyed(who, 4))[:2], (0, 4), f"{topic}: the last again")
                    equal(raw.produce(client, topic, keyed(who, 9))[0], 45, f"{topic}: a gap")

        with Connection(broker) as client:
            who = raw.init_producer(client)
            for topic in ("deleted", "compacted"):
                for number in range(5):
                    equal(raw.produce(client, topic, keyed(who, number))[:2], (0, number), topic)
            answer = client.ask(21, 2, array([text("deleted") + array([i32(0) + i64(-1) + TAGS]) + TAGS])
                                + i32(10_000) + TAGS)
            answer.i32()
        wait_until(lambda: bounds(broker, "deleted") == (5, 5), 20, "the deletion")

        def compacted():
            # What is written besides brings the segment to its end.
            send(broker, "other", *[os.urandom(4000)] * 300)
            return len(messages(broker, "compacted")) < 5
        wait_until(compacted, 60, "the compaction")
        repeat(who)
        broker.restart()
        repeat(who)
        with Connection(broker) as client:
            for topic in ("deleted", "compacted"):
                equal(raw.produce(client, topic, keyed(who, 5))[:2], (0, 5), f"{topic}: the next one")


def messages(broker, topic):
    """All there are."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "all",
                                         "enable.partition.eof": True, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    while (message := consumer.poll(20)) is not None and not message.error():
        found.append(message)
    consumer.close()
    return found


@suite.case("configurations reported incompletely or with the wrong source: what Schema Registry, Connect and ksqlDB look at")
def configurations():
    with Broker(["kafka.retention.ms=86400000"]) as broker:
        create(broker, "_schemas", cleanup_policy="compact")
        create(broker, "plain")

        def entries(kind, name):
            resource = ConfigResource(kind, name)
            return admin(broker).describe_configs([resource])[resource].result(20)

        def seen(name, key):
            entry = entries("topic", name)[key]
            return entry.value, ConfigSource(entry.source)
        for _ in range(2):
            equal(seen("_schemas", "cleanup.policy"), ("compact", ConfigSource.DYNAMIC_TOPIC_CONFIG), "set")
            equal(seen("plain", "cleanup.policy"), ("delete", ConfigSource.DEFAULT_CONFIG), "not set")
            equal(seen("plain", "min.insync.replicas"), ("1", ConfigSource.DEFAULT_CONFIG), "min.insync.replicas")
            equal(seen("plain", "retention.ms"), ("86400000", ConfigSource.STATIC_BROKER_CONFIG), "the operator's")
            equal(seen("plain", "max.message.bytes")[1], ConfigSource.DEFAULT_CONFIG, "max.message.bytes")
            broker.restart()
        for key in ("min.insync.replicas", "auto.create.topics.enable", "delete.topic.enable",
                    "default.replication.factor", "num.partitions", "log.cleanup.policy"):
            assert key in entries("broker", "1"), f"the broker doesn't tell {key}"


@suite.case("lost timestamps, headers, tombstones: null and empty told apart, duplicates and order kept, over kill -9")
def exact():
    records = [(None, None, [], 1), (b"", b"", [("", b"")], 2), (b"k", None, [("h", None), ("h", b"")], 3),
               (b"k", b"v", [("a", b"1"), ("b", b"\xff\x00"), ("a", b"2")], 1_600_000_000_000)]
    with Broker() as broker:
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        for key, value, headers, timestamp in records:
            producer.produce("t", value=value, key=key, headers=headers, timestamp=timestamp)
        equal(producer.flush(30), 0, "left over")
        broker.restart()
        equal([(r.key, r.value, r.headers, r.timestamp) for r in read_confluent(broker, "t", len(records))],
              records, "records")


@suite.case("librdkafka's C++ API: every compression, idempotent, keys, headers and timestamps; transactions")
def native():
    folder = os.environ.get("TMPDIR", "/tmp")
    program = os.path.join(folder, f"polylog-librdkafka-{os.getpid()}")
    subprocess.run(["g++", "-std=c++20", "-O1", os.path.join(HERE, "native", "librdkafka.cc"), "-o", program,
                    "-lrdkafka++"], check=True, timeout=300)
    try:
        with Broker() as broker:
            for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
                create(broker, codec)
                said = subprocess.run([program, "exact", broker.kafka, codec, codec], capture_output=True,
                                      timeout=120, text=True)
                equal((said.returncode, said.stdout.splitlines()[-1:]), (0, ["ok"]), codec)
            create(broker, "tx")
            said = subprocess.run([program, "commit", broker.kafka, "tx", "id"], capture_output=True, timeout=120,
                                  text=True)
            equal((said.returncode, said.stdout.splitlines()[-1:]), (0, ["ok"]), "transactions")
    finally:
        os.unlink(program)


# ---- requests that are wrong

def refused(broker, frame, what, length=None, greet=True):
    """The connection is closed for that frame, and without an answer to it."""
    with Connection(broker) as client:
        if greet:
            client.ask(18, 0, b"", False)
        client.socket.settimeout(10)
        try:
            client.socket.sendall(i32(len(frame) if length is None else length) + frame)
            equal(client.socket.recv(100), b"", what)
        except ConnectionResetError:
            pass
        except socket.timeout:
            raise AssertionError(f"{what}: the connection stays open") from None


class Steady:
    """A client that has to notice nothing."""

    def __init__(self, broker):
        self.client, self.sent = Connection(broker, "steady"), 0
        self.client.ask(18, 0, b"", False)
        self.broker, self.before = broker, broker.resident_bytes()

    def check(self, what, limit=64 << 20):
        equal(raw.produce(self.client, "steady", raw.batch(b"fine"))[:2], (0, self.sent), f"after {what}")
        self.sent += 1
        grown = self.broker.resident_bytes() - self.before
        assert grown < limit, f"{what}: {grown >> 20} MiB more"


def header(key, version):
    return i16(key) + i16(version) + i32(1) + text("raw", False)


@suite.case("bad requests: unknown APIs and versions, frames too short and too long, negative lengths; nobody else notices")
def bad_frames():
    with Broker() as broker:
        create(broker, "steady")
        steady = Steady(broker)
        for key in (-1, 4, 52, 999, 32767):
            refused(broker, header(key, 0) + bytes(32), f"API {key}")
        for version in (-1, 14, 32767):
            refused(broker, header(0, version) + bytes(32), f"Produce version {version}")
        refused(broker, b"", "an empty frame")
        refused(broker, bytes(9), "a frame shorter than any header")
        refused(broker, bytes(16), "a negative frame length", -1)
        refused(broker, bytes(16), "the smallest frame length", -2**31)
        refused(broker, bytes(16), "a frame of 2 GiB", 2**31 - 1)
        refused(broker, bytes(64), "a first frame above 4 KiB", 5000, greet=False)
        refused(broker, i16(3) + i16(1) + i32(1) + i16(-2), "a client id of length -2")
        refused(broker, i16(3) + i16(1) + i32(1) + i16(500) + b"x", "a client id longer than its frame")
        refused(broker, header(3, 1) + i32(-2), "an array of -2 topics")
        refused(broker, header(3, 1) + i32(2**31 - 1), "an array of 2 G topics")
        refused(broker, header(3, 1) + i32(1) + i16(-1), "a topic without a name")
        refused(broker, header(0, 3) + i16(-1) + i16(-1) + i32(1) + i32(1) + text("t", False) + i32(1) + i32(0)
                + i32(-2), "records of length -2")
        refused(broker, header(3, 9) + TAGS + b"\xff\xff\xff\xff\xff\xff", "a varint without an end")
        steady.check("frames that are wrong")


@suite.case("bad requests: 20 million tagged fields cost nothing, said or sent")
def tagged_fields():
    with Broker() as broker:
        create(broker, "steady")
        steady = Steady(broker)
        many = raw.varuint(20_000_000)
        refused(broker, header(3, 9) + many + b"\x01\x00", "20 million in the header, of which one is there")
        refused(broker, header(3, 9) + TAGS + b"\x00" + i8(0) * 3 + many + b"\x01\x00", "in the body")
        # As many as the largest frame has room for: they are read, known to nobody and passed over.
        fields = 8_000_000
        body = b"\x00" + i8(0) * 3 + raw.varuint(fields) + b"\x01\x00" * fields
        with Connection(broker) as client:
            client.ask(18, 0, b"", False)
            client.ask(3, 9, body).i32()
        steady.check("tagged fields", 128 << 20)


def packed(codec, payload, count, first=1000, latest=1000):
    """A batch of magic 2 with `payload` as its compressed records, its CRC right."""
    from kafka.record.util import calc_crc32c
    rest = struct.pack(">hiqqqhii", codec, count - 1, first, latest, -1, -1, -1, count) + payload
    return struct.pack(">qiibI", 0, len(rest) + 9, 0, 2, calc_crc32c(rest)) + rest


@suite.case("bad requests: a decompression bomb is refused, and bounded in memory")
def bomb():
    with Broker() as broker:
        create(broker, "steady")
        create(broker, "anew", compression_type="zstd")
        create(broker, "asis")
        watcher = PahoClient(broker, "watcher").subscribe("asis/#", 1)
        steady = Steady(broker)
        # 1 GiB of zeroes in 1 MiB.
        evil = packed(1, gzip.compress(bytes(1 << 30), 9), 1)
        with Connection(broker) as client:
            client.ask(18, 0, b"", False)
            for topic in ("anew", "asis"):
                equal(raw.produce(client, topic, evil)[0], 10, f"{topic}: MESSAGE_TOO_LARGE")
                steady.check("a bomb", 256 << 20)
        watcher.publish("asis/fine", b"fine", 1)
        equal(watcher.expect(1)[0].payload, b"fine", "the subscriber goes on")
        watcher.close()


@suite.case("a producer that leaves the batch's largest timestamp out: the records' own are found by time, and kept")
def timestamps():
    with Broker(SMALL) as broker:
        create(broker, "t", retention_ms="3600000")
        now = int(time.time() * 1000)
        for codec, pack in ((0, bytes), (1, gzip.compress)):
            batch = packed(codec, pack(raw.batch(b"v")[61:]), 1, first=now, latest=-1)
            with Connection(broker) as client:
                client.ask(18, 0, b"", False)
                equal(raw.produce(client, "t", batch)[0], 0, "produced")
        consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "g"})
        [found] = consumer.offsets_for_times([TopicPartition("t", 0, now)], timeout=20)
        equal(found.offset, 0, "by time")
        consumer.close()
        # Retention, which takes a time of -1 for one long past, has come by when old records have gone.
        create(broker, "old", retention_ms="1000")
        send(broker, "old", b"x")
        wait_until(lambda: bounds(broker, "old") == (1, 1), 60, "retention")
        equal(bounds(broker, "t"), (0, 2), "what is there")


@suite.case("compacted topics take no record without a key, as in Kafka: it could never be superseded")
def keyless():
    with Broker() as broker:
        create(broker, "c", cleanup_policy="compact")
        said = []
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        producer.produce("c", b"no key", callback=lambda error, message: said.append(error))
        producer.produce("c", b"keyed", b"k", callback=lambda error, message: said.append(error))
        equal(producer.flush(30), 0, "left over")
        assert any(error is not None and error.name() == "INVALID_RECORD" for error in said), said


@suite.case("bad requests: a batch whose CRC, count or offset delta is wrong is refused, the next one taken")
def bad_batches():
    with Broker() as broker:
        create(broker, "t")
        good = raw.batch(b"a", b"b")

        def patched(at, octets, crc=True):
            from kafka.record.util import calc_crc32c
            made = good[:at] + octets + good[at + len(octets):]
            return made[:17] + struct.pack(">I", calc_crc32c(made[21:])) + made[21:] if crc else made
        with Connection(broker) as client:
            client.ask(18, 0, b"", False)
            for what, batch, expected in (
                    ("its CRC", patched(17, b"\0\0\0\0", False), 2),
                    ("an octet of its records", patched(len(good) - 1, b"\x7f", False), 2),
                    ("its count", patched(57, i32(3)), 87), ("a negative count", patched(57, i32(-1)), 87),
                    ("a count of 2 G", patched(57, i32(2**31 - 1)), 87),
                    ("its last offset delta", patched(23, i32(5)), 87),
                    ("a negative offset delta", patched(23, i32(-2)), 87),
                    ("its length", good[:8] + i32(len(good)) + good[12:], 87),
                    ("its magic", patched(16, b"\x01"), 87), ("its compression", patched(21, i16(7)), 76),
                    ("a control batch", patched(21, i16(0x20)), 87),
                    ("what is behind it", good + b"\0", 87), ("all of it", b"", 87)):
                error, _, _ = raw.produce(client, "t", batch)
                assert error in (expected, 2), f"{what} wrong: error {error}"
            equal(raw.produce(client, "t", good)[:2], (0, 0), "the good one")
        equal([r.value for r in read_confluent(broker, "t", 2)], [b"a", b"b"], "stored")


if __name__ == "__main__":
    sys.exit(suite.run())
