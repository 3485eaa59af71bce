#!/usr/bin/python3
"""Within Kafka a record comes back exactly as it was sent, and stands on disk as it was sent."""

import glob
import os
import socket
import struct
import subprocess
import sys

import confluent_kafka
import kafka
from confluent_kafka.admin import AdminClient, NewTopic

from lib.broker import Broker
from lib.cases import Suite, equal
from lib.kafka_clients import read_confluent, read_kafka_python, read_kcat

suite = Suite("kafka")
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@suite.case("null and empty keys and values, duplicate, null and binary headers, client timestamps")
def exact():
    records = [
        (None, None, [], 1), (b"", b"", [("", b"")], 2), (None, b"v", [("h", None)], 3),
        (b"k", None, [("twice", b"1"), ("other", b"x"), ("twice", b"2")], 1_600_000_000_000),
        (bytes(range(256)), bytes(reversed(range(256))), [("binary", bytes(range(256)))], 5),
        (b"k", b"v", [("content-type", b"\xff\xfe"), ("user.content-type", b"z")], 2**41),
    ]
    with Broker() as broker:
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        for key, value, headers, timestamp in records:
            producer.produce("exact", value=value, key=key, headers=headers, timestamp=timestamp)
        equal(producer.flush(30), 0, "left over")
        for read in (read_confluent, read_kafka_python):
            seen = [(r.key, r.value, r.headers, r.timestamp)
                    for r in read(broker, "exact", len(records))]
            for got, sent in zip(seen, records):
                equal(got, sent, read.__name__)


def raw_fetch(broker, topic):
    """The octets of partition 0 as Fetch hands them out."""
    from kafka.conn import BrokerConnection
    from kafka.protocol.fetch import FetchRequest
    host, port = broker.kafka.split(":")
    connection = BrokerConnection(host, int(port), socket.AF_INET, api_version=(2, 0, 0))
    assert connection.connect_blocking(20)
    future = connection.send(FetchRequest[10](
        -1, 500, 1, 8 << 20, 0, 0, -1, [(topic, [(0, -1, 0, -1, 8 << 20)])], []))
    while not future.is_done:
        for response, done in connection.recv():
            done.success(response)
    connection.close()
    return bytes(future.value.topics[0][1][0][-1])


def codec_case(codec):
    @suite.case(f"{codec}: librdkafka's batch passes through and stands on disk as it came")
    def check():
        with Broker() as broker:
            admin = AdminClient({"bootstrap.servers": broker.kafka})
            admin.create_topics([NewTopic("packed", 1, 1)])["packed"].result(20)
            producer = confluent_kafka.Producer({
                "bootstrap.servers": broker.kafka, "compression.type": codec, "linger.ms": 500})
            values = [b"the same again and again %d " % (number % 7) * 20 for number in range(500)]
            for value in values:
                producer.produce("packed", value, b"key")
            equal(producer.flush(30), 0, "left over")
            batches = raw_fetch(broker, "packed")
            magic, = struct.unpack_from(">b", batches, 16)
            attributes, = struct.unpack_from(">h", batches, 21)
            equal((magic, attributes & 7), (2, CODECS[codec]), "magic and codec handed out")
            length, = struct.unpack_from(">i", batches, 8)
            stored = b"".join(open(name, "rb").read() for name in
                              glob.glob(os.path.join(broker.data, "journal", "*.segment")))
            # All but the base offset and leader epoch, which are patched on the way out.
            assert batches[16:length + 12] in stored, "the batch isn't on disk as it was sent"
            for read in (read_confluent, read_kcat, read_kafka_python):
                if codec in ("snappy", "lz4", "zstd") and read is read_kafka_python:
                    continue  # needs Python packages that Debian's kafka-python doesn't pull in
                equal([r.value for r in read(broker, "packed", 500)], values, read.__name__)


for name in CODECS:
    codec_case(name)


@suite.case("consumer group: two members share a topic's partitions, one leaves, the other takes all")
def rebalance():
    with Broker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("shared", 4, 1)])["shared"].result(20)

        def member():
            consumer = confluent_kafka.Consumer({
                "bootstrap.servers": broker.kafka, "group.id": "team",
                "session.timeout.ms": 6000, "heartbeat.interval.ms": 300})
            consumer.subscribe(["shared"])
            return consumer

        def settle(expected, *members):
            for _ in range(300):
                for consumer in members:
                    message = consumer.poll(0.1)
                    assert message is None, message.error()
                shares = [sorted(p.partition for p in consumer.assignment()) for consumer in members]
                if sorted(sum(shares, [])) == [0, 1, 2, 3] and all(len(s) == expected for s in shares):
                    return
            raise AssertionError(f"the group didn't settle: {shares}")

        first = member()
        settle(4, first)
        second = member()
        settle(2, first, second)
        second.close()
        settle(4, first)
        first.close()


@suite.case("kafka-python and kafkajs style groups: a member that dies is replaced after its time-out")
def member_dies():
    with Broker() as broker:
        producer = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all")
        producer.send("mortal", b"1").get(20)
        script = ("import kafka,sys,time; c = kafka.KafkaConsumer('mortal', group_id='g', "
                  "bootstrap_servers=sys.argv[1], session_timeout_ms=6000, heartbeat_interval_ms=500, "
                  "auto_offset_reset='earliest', enable_auto_commit=False); next(c); print('got', flush=True); "
                  "time.sleep(60)")
        victim = subprocess.Popen(["/usr/bin/python3", "-c", script, broker.kafka],
                                  stdout=subprocess.PIPE)
        equal(victim.stdout.readline(), b"got\n", "the first member reads")
        victim.kill()
        victim.wait()
        survivor = kafka.KafkaConsumer(
            "mortal", group_id="g", bootstrap_servers=broker.kafka, session_timeout_ms=6000,
            heartbeat_interval_ms=500, auto_offset_reset="earliest", consumer_timeout_ms=20000)
        equal(next(survivor).value, b"1", "the second member reads")
        survivor.close()


@suite.case("topics are created, listed and deleted; errors are Kafka's")
def administration():
    with Broker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("made", 5, 1)])["made"].result(20)
        equal(len(admin.list_topics(timeout=20).topics["made"].partitions), 5, "partitions")
        for spec, code in ((NewTopic("made", 1, 1), confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS),
                           (NewTopic("bad name", 1, 1), confluent_kafka.KafkaError.TOPIC_EXCEPTION)):
            try:
                admin.create_topics([spec])[spec.topic].result(20)
                raise AssertionError(f"{spec.topic} was created")
            except confluent_kafka.KafkaException as error:
                equal(error.args[0].code(), code, spec.topic)
        admin.delete_topics(["made"])["made"].result(20)
        assert "made" not in admin.list_topics(timeout=20).topics


@suite.case("offsets by timestamp, earliest and latest; out of range is said")
def offsets():
    with Broker() as broker:
        producer = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all", linger_ms=100)
        for number in range(10):
            producer.send("timed", b"%d" % number, timestamp_ms=1000 + 10 * number)
        producer.flush(20)
        consumer = kafka.KafkaConsumer(bootstrap_servers=broker.kafka, auto_offset_reset="none")
        partition = kafka.TopicPartition("timed", 0)
        consumer.assign([partition])
        equal(consumer.beginning_offsets([partition])[partition], 0, "earliest")
        equal(consumer.end_offsets([partition])[partition], 10, "latest")
        found = consumer.offsets_for_times({partition: 1035})[partition]
        equal((found.offset, found.timestamp), (4, 1040), "the first at or after 1035")
        equal(consumer.offsets_for_times({partition: 5000})[partition], None, "none so late")
        consumer.seek(partition, 99)
        try:
            consumer.poll(3000)
            raise AssertionError("reading at 99 of 10 worked")
        except kafka.errors.OffsetOutOfRangeError:
            pass


@suite.case("a consumer that waits gets a record at once, without polling for it")
def long_poll():
    import threading
    import time
    with Broker() as broker:
        producer = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all")
        producer.send("quick", b"first").get(20)
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": "x", "fetch.wait.max.ms": 10000})
        consumer.assign([confluent_kafka.TopicPartition("quick", 0, 0)])
        equal(consumer.poll(20).value(), b"first", "first")
        delays = []
        for _ in range(10):
            threading.Timer(0.2, lambda: producer.send("quick", b"%f" % time.time())).start()
            delays.append(time.time() - float(consumer.poll(20).value()))
        assert sorted(delays)[5] < 0.2, f"delays {delays}"
        consumer.close()


@suite.case("an unknown ApiVersions version is answered in version 0 with error 35")
def api_versions():
    with Broker() as broker:
        host, port = broker.kafka.split(":")
        with socket.create_connection((host, int(port)), 20) as connection:
            for correlation in (1, 2):
                body = struct.pack(">hhih", 18, 99, correlation, -1)
                connection.sendall(struct.pack(">i", len(body)) + body)
                size, = struct.unpack(">i", exactly(connection, 4))
                answer = exactly(connection, size)
                equal(struct.unpack_from(">ih", answer), (correlation, 35), "answer")
            body = struct.pack(">hhih", 18, 0, 3, -1)
            connection.sendall(struct.pack(">i", len(body)) + body)
            size, = struct.unpack(">i", exactly(connection, 4))
            answer = exactly(connection, size)
            equal(struct.unpack_from(">ih", answer), (3, 0), "version 0")
            count, = struct.unpack_from(">i", answer, 6)
            apis = {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", answer[10:10 + 6 * count])}
            equal(apis[0][0], 0, "Produce is advertised from 0 (KAFKA-18659)")


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        assert piece, "the broker closed the connection"
        data += piece
    return data


if __name__ == "__main__":
    sys.exit(suite.run())
