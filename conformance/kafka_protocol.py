#!/usr/bin/python3
"""What Kafka's Java client says and other clients at hand don't, by frames as it sends them."""

import os
import random
import sys
import time

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from lib import kafka_raw as raw
from lib.broker import Broker
from lib.cases import Suite, equal
from lib.kafka_raw import array, i8, i16, i32, i64, text, TAGS, Connection

suite = Suite("kafka protocol")
FETCH = 1


def create(broker, **topics):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    for done in admin.create_topics([NewTopic(n, p, 1) for n, p in topics.items()]).values():
        done.result(20)


def send(broker, topic, *values, partition=0):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
    for value in values:
        producer.produce(topic, value, partition=partition)
    equal(producer.flush(30), 0, "left over")


# ---- fetch sessions (KIP-227)

def fetch_body(session, epoch, partitions=(), forgotten=(), wait=0):
    """Fetch version 12; `partitions` are (topic, partition, offset), one structure each."""
    asked = [text(t) + array([i32(p) + i32(-1) + i64(o) + i32(-1) + i64(-1) + i32(1 << 20) + TAGS]) + TAGS
             for t, p, o in partitions]
    gone = [text(t) + array([i32(p)]) + TAGS for t, p in forgotten]
    return (i32(-1) + i32(wait) + i32(1) + i32(1 << 24) + i8(0) + i32(session) + i32(epoch) + array(asked)
            + array(gone) + text("") + TAGS)


def fetch(connection, *arguments, **named):
    """(error, session, {(topic, partition): (error, octets)})"""
    answer = connection.ask(FETCH, 12, fetch_body(*arguments, **named))
    answer.i32()
    error, session = answer.i16(), answer.i32()
    aborted = lambda: answer.struct(answer.i64, answer.i64)
    partition = lambda: answer.struct(answer.i32, answer.i16, answer.i64, answer.i64, answer.i64,
                                      lambda: answer.array(aborted), answer.i32, answer.blob)
    topics = answer.array(lambda: answer.struct(answer.text, lambda: answer.array(partition)))
    answer.end()
    return error, session, {(t, p[0]): (p[1], len(p[7] or b"")) for t, ps in topics for p in ps}


@suite.case("fetch sessions: a consumer as Kafka's own is told of what has changed, over another connection too")
def sessions():
    with Broker() as broker:
        create(broker, a=2, b=1)
        with Connection(broker) as consumer:
            error, session, told = fetch(consumer, 0, 0, [("a", 0, 0), ("a", 1, 0), ("b", 0, 0)])
            equal((error, sorted(told)), (0, [("a", 0), ("a", 1), ("b", 0)]), "the full request")
            assert session != 0, "no session"
            send(broker, "a", b"x", partition=1)
            error, same, told = fetch(consumer, session, 1, wait=20_000)
            equal((error, same, list(told)), (0, session, [("a", 1)]), "after a record")
            equal(fetch(consumer, session, 2, [("a", 1, 1)])[2], {}, "nothing new")
            equal(fetch(consumer, session, 2)[0], 71, "INVALID_FETCH_SESSION_EPOCH")
            equal(fetch(consumer, session, 3, forgotten=[("a", 1)])[:2], (0, session), "forgetting")
            send(broker, "a", b"y", partition=1)
            send(broker, "b", b"z")
        with Connection(broker) as consumer:
            equal(list(fetch(consumer, session, 4, wait=20_000)[2]), [("b", 0)], "over another connection")
            error, other, told = fetch(consumer, session, 0, [("a", 0, 0)])
            assert error == 0 and other not in (0, session), (error, other)
            equal(fetch(consumer, session, 5)[0], 70, "FETCH_SESSION_ID_NOT_FOUND")
            equal(fetch(consumer, other, -1, [("a", 0, 0)])[:2], (0, 0), "the final epoch")
            equal(fetch(consumer, other, 1)[0], 70, "after the final epoch")


@suite.case("fetch sessions: as many as there are places, then fetches without; a restart forgets them")
def places():
    with Broker(["kafka.max_fetch_sessions=2"]) as broker:
        create(broker, a=1)
        with Connection(broker) as consumer:
            given = [fetch(consumer, 0, 0, [("a", 0, 0)]) for _ in range(3)]
            equal([g[0] for g in given], [0, 0, 0], "errors")
            equal([g[1] != 0 for g in given], [True, True, False], "sessions")
        broker.restart()
        with Connection(broker) as consumer:
            equal(fetch(consumer, given[0][1], 1)[0], 70, "after kill -9")


# ---- transactions of version 2 (KIP-890)

def end_txn(connection, name, producer, commit, version=5):
    """(error, id, epoch)"""
    answer = connection.ask(26, version, text(name) + i64(producer[0]) + i16(producer[1]) + i8(commit) + TAGS)
    answer.i32()
    told = (answer.i16(), answer.i64(), answer.i16()) if version >= 5 else (answer.i16(),)
    answer.end()
    return told


def commit_offset(connection, name, producer, group, topic, offset, version=5):
    body = (text(name) + text(group) + i64(producer[0]) + i16(producer[1]) + i32(-1) + text("") + text(None)
            + array([text(topic) + array([i32(0) + i64(offset) + i32(-1) + text("") + TAGS]) + TAGS]) + TAGS)
    answer = connection.ask(28, version, body)
    answer.i32()
    partition = lambda: answer.struct(answer.i32, answer.i16)
    [[_, [told]]] = answer.array(lambda: answer.struct(answer.text, lambda: answer.array(partition)))
    answer.end()
    return told[1]


def features(connection):
    """{name: (min, max)} supported, {name: level} in force, the epoch"""
    connection.send(18, 4, text("java") + text("4.1") + TAGS)
    answer = connection.receive(False)  # its header never has tagged fields
    answer.flexible = True
    equal(answer.i16(), 0, "error")
    answer.array(lambda: answer.struct(answer.i16, answer.i16, answer.i16))
    answer.i32()
    found = {}
    for _ in range(answer.varuint()):
        tag, size = answer.varuint(), answer.varuint()
        found[tag] = raw.Reader(answer.take(size), True)
    supported, epoch, finalized = found[0], found[1], found[2]
    return ({n: (a, b) for n, a, b in supported.array(
        lambda: supported.struct(supported.text, supported.i16, supported.i16))},
        {n: a for n, a, b in finalized.array(
            lambda: finalized.struct(finalized.text, finalized.i16, finalized.i16))}, epoch.i64())


def committed(broker, topic):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "reader", "isolation.level": "read_committed",
        "enable.partition.eof": True, "enable.auto.commit": False})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    values = []
    while (message := consumer.poll(20)) is not None and not message.error():
        values.append(message.value())
    consumer.close()
    assert message is not None, "no end"
    return values


@suite.case("transactions of version 2: offered by its feature; what is produced joins by itself, each end gives an epoch")
def version_2():
    with Broker() as broker:
        create(broker, t=1)
        with Connection(broker) as client:
            supported, level, epoch = features(client)
            equal((supported["transaction.version"], level["transaction.version"], epoch >= 0),
                  ((0, 2), 2, True), "features")
            first = raw.init_producer(client, "tx")
            batch = lambda who, sequence, value: raw.batch(value, producer=who, sequence=sequence, transactional=True)
            equal(raw.produce(client, "t", batch(first, 0, b"no"), version=11, transaction="tx")[0], 120,
                  "version 11 adds its partitions itself: TRANSACTION_ABORTABLE")
            equal(raw.produce(client, "t", batch(first, 0, b"a"), version=12, transaction="tx")[:2], (0, 0), "joins")
            equal(raw.produce(client, "t", batch(first, 1, b"b"), version=12, transaction="tx")[:2], (0, 1), "again")
            equal(commit_offset(client, "tx", first, "g", "t", 7), 0, "the group joins too")
            equal(committed(broker, "t"), [], "before the commit")
            error, *second = end_txn(client, "tx", first, True)
            equal((error, second), (0, [first[0], first[1] + 1]), "the commit")
            equal(end_txn(client, "tx", first, True), (0, *second), "the commit asked for again")
            equal(end_txn(client, "tx", first, False)[0], 48, "an abort of what was committed")
            equal(raw.produce(client, "t", batch(first, 2, b"late"), version=12, transaction="tx")[0], 47,
                  "a record of the last transaction: INVALID_PRODUCER_EPOCH")
            equal(raw.produce(client, "t", batch(second, 0, b"c"), version=12, transaction="tx")[0], 0, "the next one")
            equal(end_txn(client, "tx", first, True)[0], 90, "the last epoch can't end the next transaction")
        broker.restart()
        with Connection(broker) as client:
            error, *third = end_txn(client, "tx", second, False)
            equal((error, third), (0, [first[0], first[1] + 2]), "the abort, after kill -9")
            equal(end_txn(client, "tx", third, True)[0], 48, "a commit of nothing")
            error, *fourth = end_txn(client, "tx", third, False)
            equal((error, fourth), (0, [first[0], first[1] + 3]), "an abort of nothing")
        equal(committed(broker, "t"), [b"a", b"b"], "what was committed")
        consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "g"})
        equal(consumer.committed([confluent_kafka.TopicPartition("t", 0)], 20)[0].offset, 7, "the group's offset")
        consumer.close()


@suite.case("transactions of version 2: requests sent without waiting, to several partitions, are taken in their order")
def pipelined():
    with Broker() as broker:
        create(broker, t=2)
        with Connection(broker) as client:
            who = raw.init_producer(client, "tx")
            begun = client.number
            for number in range(10):
                for partition in (0, 1):
                    batch = raw.batch(b"%d" % number, producer=who, sequence=number, transactional=True)
                    client.send(0, 12, text("tx") + i16(-1) + i32(10_000) + array([text("t") + array(
                        [i32(partition) + raw.blob(batch) + TAGS]) + TAGS]) + TAGS)
            sent, client.number = client.number, begun
            for _ in range(20):
                client.number += 1
                answer = client.receive()
                record_error = lambda: answer.struct(answer.i32, answer.text)
                partition = lambda: answer.struct(answer.i32, answer.i16, answer.i64, answer.i64, answer.i64,
                                                  lambda: answer.array(record_error), answer.text)
                [[_, [told]]] = answer.array(lambda: answer.struct(answer.text, lambda: answer.array(partition)))
                equal(told[1], 0, f"error of request {client.number - begun}")
            equal(client.number, sent, "answers")
            equal(end_txn(client, "tx", who, True)[0], 0, "commit")
        equal(committed(broker, "t"), [b"%d" % n for n in range(10)], "partition 0")


@suite.case("transactions of version 2 over kill -9: an end whose answer was lost is asked for again, and has happened once")
def lost_ends():
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with Broker() as broker:
        create(broker, t=1)
        client = Connection(broker)
        who, expected = raw.init_producer(client, "tx"), []
        for number in range(25):
            commit = chance.random() < 0.7
            for sequence in range(3):
                value = b"%d.%d" % (number, sequence)
                batch = raw.batch(value, producer=who, sequence=sequence, transactional=True)
                equal(raw.produce(client, "t", batch, version=12, transaction="tx")[0], 0, f"produce, seed {seed}")
                expected += [value] * commit
            if chance.random() < 0.4:
                client.send(26, 5, text("tx") + i64(who[0]) + i16(who[1]) + i8(commit) + TAGS)
                time.sleep(chance.random() * 0.004)  # anywhere between its arrival and its answer
                broker.restart()
                client = Connection(broker)
            error, *after = end_txn(client, "tx", who, commit)
            equal((error, after), (0, [who[0], who[1] + 1]), f"end {number}, seed {seed}")
            who = tuple(after)
        equal(committed(broker, "t"), expected, f"committed, seed {seed}")


@suite.case("UpdateFeatures: the levels are what they are, and said so")
def update_features():
    with Broker() as broker, Connection(broker) as client:
        def update(name, level, version=1):
            answer = client.ask(57, version, i32(1000) + array([text(name) + i16(level) + i8(2) + TAGS]) + i8(0) + TAGS)
            answer.i32()
            error, _ = answer.i16(), answer.text()
            if version >= 2:
                return error
            [[_, error, _]] = answer.array(lambda: answer.struct(answer.text, answer.i16, answer.text))
            return error
        equal(update("transaction.version", 2), 0, "the level it has")
        equal(update("transaction.version", 1), 96, "FEATURE_UPDATE_FAILED")
        equal(update("transaction.version", 3), 95, "INVALID_UPDATE_VERSION")
        equal(update("no.such", 1, 2), 95, "a feature that is not known")


@suite.case("Produce 13 and Fetch 18 know topics by their ids")
def by_id():
    with Broker() as broker:
        create(broker, t=1)
        with Connection(broker) as client:
            answer = client.ask(3, 12, array([bytes(16) + text("t") + TAGS]) + i8(0) + i8(0) + TAGS)
            answer.i32()
            answer.array(lambda: answer.struct(answer.i32, answer.text, answer.i32, answer.text))
            answer.text(), answer.i32(), answer.varuint(), answer.i16(), answer.text()
            topic = answer.take(16)
            equal(raw.produce(client, "", raw.batch(b"x"), version=13, topic_id=topic)[:2], (0, 0), "by its id")
            equal(raw.produce(client, "", raw.batch(b"x"), version=13, topic_id=b"\7" * 16)[0], 100, "UNKNOWN_TOPIC_ID")
            body = (i32(0) + i32(1) + i32(1 << 20) + i8(0) + i32(0) + i32(-1) + array([topic + array(
                [i32(0) + i32(-1) + i64(0) + i32(-1) + i64(-1) + i32(1 << 20) + TAGS]) + TAGS])
                + array([]) + text("") + TAGS)
            answer = client.ask(FETCH, 18, body)
            answer.i32()
            equal(answer.i16(), 0, "error")
            answer.i32(), answer.varuint()
            equal(answer.take(16), topic, "the topic")


# ---- quotas (KIP-546)

def alter_quota(client, entity, **rates):
    ops = [text(k) + raw.f64(v or 0) + i8(v is None) + TAGS for k, v in rates.items()]
    parts = [text(kind) + text(name) + TAGS for kind, name in entity.items()]
    answer = client.ask(49, 1, array([array(parts) + array(ops) + TAGS]) + i8(0) + TAGS)
    answer.i32()
    part = lambda: answer.struct(answer.text, answer.text)
    [[error, message, _]] = answer.array(
        lambda: answer.struct(answer.i16, answer.text, lambda: answer.array(part)))
    answer.end()
    return error


def quotas(client):
    answer = client.ask(48, 1, array([]) + i8(0) + TAGS)
    answer.i32()
    equal((answer.i16(), answer.text()), (0, None), "error")
    part = lambda: tuple(answer.struct(answer.text, answer.text))
    value = lambda: tuple(answer.struct(answer.text, lambda: answer.number("d")))
    told = answer.array(lambda: answer.struct(lambda: answer.array(part), lambda: answer.array(value)))
    answer.end()
    return sorted((dict(entity), dict(values)) for entity, values in told) if len(told) < 2 else told


@suite.case("quotas: set, seen, durable over kill -9, enforced against a raw client: told, and held")
def quota():
    with Broker() as broker:
        create(broker, t=1)
        with Connection(broker, "admin") as admin:
            equal(alter_quota(admin, {"client-id": "fast"}, producer_byte_rate=10_000.0), 0, "set")
            equal(alter_quota(admin, {"client-id": "fast"}, request_rate=5.0), 42, "one that there isn't")
            equal(alter_quota(admin, {"ip": "127.0.0.1"}, producer_byte_rate=5.0), 42, "one that an ip hasn't")
        broker.restart()
        with Connection(broker, "admin") as admin:
            equal(quotas(admin), [({"client-id": "fast"}, {"producer_byte_rate": 10_000.0})], "after kill -9")
        with Connection(broker, "fast") as client, Connection(broker, "other") as other:
            for connection in (client, other):
                connection.ask(18, 0, b"", False)  # the first request is a small one
            big = raw.batch(bytes(95_000))
            equal(raw.produce(client, "t", big)[::2], (0, 0), "ten seconds' worth")
            small = raw.batch(bytes(40_000))
            began = time.monotonic()
            error, _, throttle = raw.produce(client, "t", small)
            equal(error, 0, "what has come is kept")
            assert 2400 < throttle < 3600, throttle
            assert time.monotonic() - began < 1, "the answer comes at once"
            raw.produce(client, "t", raw.batch(b"x"))
            held = time.monotonic() - began
            assert held * 1000 > throttle - 500, f"held for {held:.2f} s only, told {throttle} ms"
            equal(raw.produce(other, "t", big)[::2], (0, 0), "another client")
        with Connection(broker, "admin") as admin:
            equal(alter_quota(admin, {"client-id": "fast"}, producer_byte_rate=None), 0, "removed")
            equal(quotas(admin), [], "none left")


@suite.case("quotas: librdkafka produces and consumes about as fast as it may, and is told")
def quota_librdkafka():
    with Broker() as broker:
        create(broker, t=1)
        with Connection(broker, "admin") as admin:
            equal(alter_quota(admin, {"client-id": None}, producer_byte_rate=200_000.0,
                              consumer_byte_rate=200_000.0), 0, "for everybody")
        told = []
        options = {"bootstrap.servers": broker.kafka, "client.id": "rd", "throttle_cb": told.append}
        producer = confluent_kafka.Producer({**options, "linger.ms": 1, "batch.size": 20_000})
        began = time.monotonic()
        for _ in range(260):
            producer.produce("t", os.urandom(10_000), partition=0)
            producer.poll(0)
        equal(producer.flush(60), 0, "left over")
        took = time.monotonic() - began
        # 2.6 MB at 0.2 MB/s, of which ten seconds' worth goes at once.
        assert 2 < took < 20, f"{took:.1f} s"
        assert told and max(event.throttle_time for event in told) > 0, "it was not told"
        consumer = confluent_kafka.Consumer({**options, "group.id": "g", "auto.offset.reset": "earliest",
                                             "fetch.message.max.bytes": 100_000})
        consumer.assign([confluent_kafka.TopicPartition("t", 0, 0)])
        began, seen = time.monotonic(), 0
        while seen < 260 and time.monotonic() - began < 60:
            message = consumer.poll(1)
            seen += message is not None and not message.error()
        consumer.close()
        took = time.monotonic() - began
        equal(seen, 260, "records")
        assert 2 < took < 20, f"{took:.1f} s to consume"


if __name__ == "__main__":
    sys.exit(suite.run())
