#!/usr/bin/python3
"""What Kafka's administration tools ask for beside topics and groups: the quorum, what a client may do, transactions
by a pattern, quotas. @platformatic/kafka, librdkafka, kafka-python, and frames by hand where none of them reaches."""

import json
import os
import subprocess
import sys
import time

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from auth import allow, guarded
from lib import kafka_raw as raw
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.kafka_raw import array, i8, i16, i32, i64, text, TAGS, Connection
from kafka_protocol import alter_quota, quotas

suite = Suite("kafka tools")
PLATFORMATIC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "js", "platformatic_calls.mjs")


def create(broker, **topics):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    for done in admin.create_topics([NewTopic(n, p, 1) for n, p in topics.items()]).values():
        done.result(20)


def platformatic(broker, *calls, login=()):
    output = subprocess.run(["node", PLATFORMATIC, broker.kafka, *login], input=json.dumps(calls).encode(),
                            stdout=subprocess.PIPE, check=True, timeout=60).stdout
    return json.loads(output)


def bits(*numbers):
    return sum(1 << number for number in numbers)


# ---------------------------------------------------------------- the quorum

@suite.case("@platformatic/kafka: DescribeQuorum tells one voter, whose high watermark rises and outlives kill -9")
def quorum():
    def partition(broker):
        asked = [{"topicName": "__cluster_metadata", "partitions": [{"partitionIndex": 0}]}]
        [told] = platformatic(broker, ["describeQuorumV2", [asked]])
        equal((told["result"]["errorCode"], len(told["result"]["topics"])), (0, 1), "the answer")
        equal(told["result"]["nodes"], [{"nodeId": 1, "listeners": [
            {"name": "CONTROLLER", "host": "127.0.0.1", "port": broker.ports["kafka"]}]}], "nodes")
        [one] = told["result"]["topics"][0]["partitions"]
        equal((one["errorCode"], one["leaderId"], one["observers"]), (0, 1, []), "partition")
        [voter] = one["currentVoters"]
        equal((voter["replicaId"], voter["logEndOffset"]), (1, one["highWatermark"]), "voter")
        assert abs(voter["lastCaughtUpTimestamp"] - time.time() * 1000) < 60_000, voter
        return one

    with Broker() as broker:
        first = partition(broker)
        create(broker, t=1)
        second = partition(broker)
        assert second["highWatermark"] > first["highWatermark"], (first, second)
        broker.restart()
        third = partition(broker)
        assert third["highWatermark"] >= second["highWatermark"], (second, third)
        equal(third["leaderEpoch"], second["leaderEpoch"] + 1, "epoch")
        [other] = platformatic(broker, ["describeQuorumV2", [
            [{"topicName": "t", "partitions": [{"partitionIndex": 0}]}]]])
        assert "error" in other, other


# ---------------------------------------------------------------- authorized operations (KIP-430)

READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS = range(3, 12)


@suite.case("@platformatic/kafka: the authorized operations of topics, groups and the cluster are those that the rules allow")
def operations():
    asked = [["describeTopicPartitionsV0", [[{"name": "t"}], 10, None]], ["describeClusterV1", [True, 1]],
             ["describeGroupsV5", [["g"], True]], ["describeClusterV1", [False, 1]]]

    def told(broker, name, password):
        answers = [one["result"] for one in platformatic(broker, *asked, login=(name, password))]
        return (answers[0]["topics"][0]["topicAuthorizedOperations"], answers[1]["clusterAuthorizedOperations"],
                answers[2]["groups"][0]["authorizedOperations"], answers[3]["clusterAuthorizedOperations"])

    with guarded() as broker:
        login = {"bootstrap.servers": broker.kafka, "security.protocol": "SASL_PLAINTEXT", "log_level": 0,
                 "sasl.mechanism": "PLAIN", "sasl.username": "root", "sasl.password": "root-secret"}
        admin = AdminClient(login)
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(20)
        consumer = confluent_kafka.Consumer({**login, "group.id": "g"})
        consumer.commit(offsets=[confluent_kafka.TopicPartition("t", 0, 0)], asynchronous=False)
        allow(broker, "ann", "read", "t")
        allow(broker, "ann", "alter-configs", "t")
        allow(broker, "ann", "read", "g", "--resource", "group")
        asked_not = -1 << 31
        equal(told(broker, "ann", "ann-secret"),
              (bits(READ, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS), 0, bits(READ, DESCRIBE), asked_not), "ann's")
        equal(told(broker, "root", "root-secret"), (3576, 8096, 3400, asked_not), "root's")
        allow(broker, "ann", "describe", "kafka-cluster", "--resource", "cluster")
        equal(told(broker, "ann", "ann-secret")[1], bits(DESCRIBE), "ann's with the cluster, once she may see it")
        consumer.close()
        # What is told is so.
        ann = AdminClient({**login, "sasl.username": "ann", "sasl.password": "ann-secret"})
        resource = ConfigResource("topic", "t", set_config={"retention.ms": "1000"})
        ann.alter_configs([resource])[resource].result(20)
        allow(broker, "ann", "alter-configs", "t", permission="deny")
        try:
            ann.alter_configs([resource])[resource].result(20)
        except KafkaException as error:
            equal(error.args[0].code(), KafkaError.TOPIC_AUTHORIZATION_FAILED, "once it is denied")
        else:
            raise AssertionError("taken though it is denied")


# ---------------------------------------------------------------- transactions

@suite.case("ListTransactions 2 by hand: transactional ids by a regular expression, in RE2's syntax")
def transactions():
    def listed(client, pattern):
        answer = client.ask(66, 2, array([]) + array([]) + i64(-1) + text(pattern) + TAGS)
        answer.i32()
        error, unknown = answer.i16(), answer.array(answer.text)
        told = answer.array(lambda: answer.struct(answer.text, answer.i64, answer.text))
        answer.end()
        return error, sorted(name for name, _, _ in told)

    with Broker() as broker:
        create(broker, t=1)
        for name in ("orders-1", "orders-2", "billing"):
            producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
            producer.init_transactions(20)
        with Connection(broker) as client:
            equal(listed(client, None), (0, ["billing", "orders-1", "orders-2"]), "all")
            equal(listed(client, "orders-.*"), (0, ["orders-1", "orders-2"]), "some")
            equal(listed(client, "orders"), (0, []), "the whole has to match")
            equal(listed(client, "("), (128, []), "INVALID_REGULAR_EXPRESSION")


# ---------------------------------------------------------------- quotas of other kinds than octets

def create_topic(client, name, partitions, version=7):
    """(error, throttle time)"""
    answer = client.ask(19, version, array([text(name) + i32(partitions) + i16(1) + array([]) + array([]) + TAGS])
                        + i32(20_000) + i8(0) + TAGS)
    throttle = answer.i32()
    config = lambda: answer.struct(answer.text, answer.text, answer.i8, answer.i8, answer.i8)
    [[_, _, error, _, _, _, _]] = answer.array(lambda: answer.struct(
        answer.text, lambda: answer.take(16), answer.i16, answer.text, answer.i32, answer.i16,
        lambda: answer.array(config)))
    answer.end()
    return error, throttle


@suite.case("controller_mutation_rate: THROTTLING_QUOTA_EXCEEDED to those who know it, held if not; kept over kill -9")
def mutations():
    with Broker() as broker:
        with Connection(broker, "admin") as admin:
            equal(alter_quota(admin, {"client-id": "fast"}, controller_mutation_rate=2.0), 0, "set")
        broker.restart()
        with Connection(broker, "admin") as admin:
            equal(quotas(admin), [({"client-id": "fast"}, {"controller_mutation_rate": 2.0})], "after kill -9")
            with Connection(broker, "fast") as client:
                client.ask(18, 0, b"", False)
                equal(create_topic(client, "a", 26), (0, 0), "more than there is at once")
                began = time.monotonic()
                error, throttle = create_topic(client, "b", 1)
                equal(error, 89, "THROTTLING_QUOTA_EXCEEDED")
                assert 1000 < throttle <= 2000, throttle
                equal(create_topic(client, "b", 1), (0, 0), "after it was held")
                assert time.monotonic() - began > throttle / 1000 - 0.2, "it was not held"
            equal(create_topic(admin, "c", 100), (0, 0), "another client")
            equal(alter_quota(admin, {"client-id": "fast"}, controller_mutation_rate=None), 0, "removed")


@suite.case("request_percentage: who keeps a thread busy is held, for a second at most; others are not")
def busy():
    with Broker() as broker:
        create(broker, t=2000)
        with Connection(broker, "admin") as admin:
            equal(alter_quota(admin, {"client-id": "busy"}, request_percentage=0.01), 0, "set")

        def slowest(client):
            most = 0
            with Connection(broker, client) as connection:
                connection.ask(18, 0, b"", False)
                for _ in range(10):
                    answer = connection.ask(3, 12, array(None) + i8(0) + i8(0) + TAGS)
                    most = max(most, answer.i32())
            return most

        held = slowest("busy")
        assert 0 < held <= 1000, held
        equal(slowest("calm"), 0, "another client")


@suite.case("connection_creation_rate: an address that connects too fast is closed after a while, and served later")
def connections():
    with Broker() as broker:
        with Connection(broker, "admin") as admin:
            equal(alter_quota(admin, {"ip": "127.0.0.1"}, connection_creation_rate=1.0), 0, "set")
            served, closed = 0, 0
            for _ in range(13):
                with Connection(broker) as client:
                    client.socket.settimeout(10)
                    try:
                        client.ask(18, 0, b"", False)
                        served += 1
                    except (ConnectionError, AssertionError):
                        closed += 1
            assert served >= 9 and closed >= 1, (served, closed)
            equal(alter_quota(admin, {"ip": "127.0.0.1"}, connection_creation_rate=None), 0, "removed")
            with Connection(broker) as client:
                client.ask(18, 0, b"", False)


@suite.case("consumer_byte_rate: a fetch that passes it is answered with nothing, and what there was comes after the wait")
def fetches():
    def fetch(client, offset):
        answer = client.ask(1, 12, i32(-1) + i32(0) + i32(1) + i32(1 << 24) + i8(0) + i32(0) + i32(-1) + array(
            [text("t") + array([i32(0) + i32(-1) + i64(offset) + i32(-1) + i64(-1) + i32(1 << 20) + TAGS]) + TAGS])
            + array([]) + text("") + TAGS)
        throttle = answer.i32()
        answer.i16(), answer.i32()
        partition = lambda: answer.struct(answer.i32, answer.i16, answer.i64, answer.i64, answer.i64,
                                          lambda: answer.array(lambda: answer.struct(answer.i64, answer.i64)),
                                          answer.i32, answer.blob)
        topics = answer.array(lambda: answer.struct(answer.text, lambda: answer.array(partition)))
        answer.end()
        return throttle, sum(len(row[7] or b"") for _, rows in topics for row in rows)

    with Broker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        # Records made by hand are old.
        admin.create_topics([NewTopic("t", 1, 1, config={"retention.ms": "-1"})])["t"].result(20)
        with Connection(broker, "admin") as admin, Connection(broker, "fast") as client:
            admin.ask(18, 0, b"", False)  # the first request is a small one
            for _ in range(2):
                raw.produce(admin, "t", raw.batch(os.urandom(90_000)))
            equal(alter_quota(admin, {"client-id": "fast"}, consumer_byte_rate=10_000.0), 0, "set")
            client.ask(18, 0, b"", False)
            throttle, octets = fetch(client, 0)
            assert (throttle, octets > 90_000) == (0, True), (throttle, octets)
            throttle, octets = fetch(client, 1)
            assert throttle > 5000 and octets == 0, (throttle, octets)
            began = time.monotonic()
            again, octets = fetch(client, 1)
            assert (again, octets > 90_000) == (0, True), (again, octets)
            assert time.monotonic() - began > throttle / 1000 - 0.5, "it was not held"


if __name__ == "__main__":
    sys.exit(suite.run())
