#!/usr/bin/python3
"""What Kafka's Java client says and other clients at hand don't, by frames as it sends them."""

import sys

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


if __name__ == "__main__":
    sys.exit(suite.run())
