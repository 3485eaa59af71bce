#!/usr/bin/python3
"""What Kafka's administration tools ask for beside topics and groups: the quorum, what a client may do, transactions
by a pattern, quotas, clients' metrics. @platformatic/kafka, librdkafka, kafka-python, and frames by hand where none of them reaches."""

import gzip
import json
import os
import subprocess
import sys
import time
import urllib.request

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from auth import allow, guarded
from lib import kafka_raw as raw
from lib import otlp
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

        def slowest(client, requests):
            most = 0
            with Connection(broker, client) as connection:
                connection.ask(18, 0, b"", False)
                while requests > 0 and most == 0:
                    answer = connection.ask(3, 12, array(None) + i8(0) + i8(0) + TAGS)
                    most, requests = answer.i32(), requests - 1
            return most

        held = slowest("busy", 1000)
        assert 0 < held <= 1000, held
        equal(slowest("calm", 10), 0, "another client")


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


# ---------------------------------------------------------------- clients' metrics (KIP-714)

NOBODY = "00000000-0000-0000-0000-000000000000"
CLIENT_METRICS = 16


def subscribe(name, **settings):
    """Settings of a subscription, or None for what is to go."""
    configs = [{"name": key.replace("_", "."), "configOperation": int(value is None), "value": value}
               for key, value in settings.items()]
    return ["incrementalAlterConfigsV1",
            [[{"resourceType": CLIENT_METRICS, "resourceName": name, "configs": configs}], False]]


def scraped(broker, word):
    with urllib.request.urlopen(broker.admin + "/metrics", timeout=10) as answer:
        return [line for line in answer.read().decode().splitlines() if word in line]


def pushed(octets, identity, compression=0, last=False):
    return ["pushTelemetryV0", [identity["clientInstanceId"], identity["subscriptionId"], last, compression,
                                {"hex": octets.hex()}]]


@suite.case("@platformatic/kafka: clients' metrics are asked for by subscriptions that outlive kill -9, pushed, and shown by /metrics")
def telemetry():
    with Broker() as broker:
        [none, _, listed] = platformatic(
            broker, ["getTelemetrySubscriptionsV0", [NOBODY]],
            subscribe("s", interval_ms="100", metrics="org.apache.kafka.", match="client_id=conf.*"),
            ["listClientMetricsResourcesV0", []])
        equal((none["result"]["requestedMetrics"], none["result"]["pushIntervalMs"]), ([], 300_000), "without one")
        equal(listed["result"]["clientMetricsResources"], [{"name": "s"}], "resources")
        broker.restart()
        [asked] = platformatic(broker, ["getTelemetrySubscriptionsV0", [NOBODY]])
        told = asked["result"]
        equal((told["requestedMetrics"], told["pushIntervalMs"], told["telemetryMaxBytes"], told["deltaTemporality"]),
              (["org.apache.kafka."], 100, 1 << 20, True), "after kill -9")
        octets = otlp.metrics(gauges=[("org.apache.kafka.producer.rate", 2.5, {"node_id": "1"}), ("other", 1.0, {})],
                              sums=[("org.apache.kafka.producer.total", 7, {})], resource={"client_rack": "r"})
        [first] = platformatic(broker, pushed(gzip.compress(octets), told, compression=1))
        equal(first.get("result", {}).get("errorCode"), 0, f"a push: {first}")
        [early] = platformatic(broker, pushed(octets, {**told, "subscriptionId": told["subscriptionId"] ^ 1}, last=True))
        assert "error" in early, "another subscription's"
        lines = scraped(broker, "polylog_kafka_client_metric{")
        equal(sorted(line.split(",name=")[1] for line in lines), [
            '"org.apache.kafka.producer.rate",client_rack="r",node_id="1"} 2.5',
            '"org.apache.kafka.producer.total",client_rack="r"} 7'], "what is shown")
        assert all('client_id="conformance"' in line for line in lines), lines
        assert scraped(broker, 'pushes_total{result="taken"} 1') and scraped(broker, "dropped_total 1"), "counters"


@suite.case("telemetry by hand: pushed early, too large, of no known compression, no metrics at all, after the last one")
def telemetry_rules():
    with Broker() as broker:
        platformatic(broker, subscribe("all", metrics="*", interval_ms="400"))
        octets = otlp.metrics(gauges=[("m", 1.0, {})])
        with Connection(broker, "by-hand") as client:
            client.ask(18, 3, text("by-hand") + text("1.0") + TAGS)

            def ask(identity):
                answer = client.ask(71, 0, identity + TAGS)
                answer.i32()
                told = answer.i16(), answer.take(16), answer.i32()
                kinds, interval = answer.array(answer.i8), answer.i32()
                answer.i32(), answer.i8()
                told += (kinds, interval, answer.array(answer.text))
                answer.end()
                return told

            def push(identity, subscription, metrics, compression=0, last=0):
                answer = client.ask(72, 0, identity + i32(subscription) + i8(last) + i8(compression)
                                    + raw.blob(metrics) + TAGS)
                answer.i32()
                error = answer.i16()
                answer.end()
                return error

            error, identity, subscription, kinds, interval, metrics = ask(bytes(16))
            equal((error, kinds, interval, metrics), (0, [4, 3, 1, 2], 400, ["*"]), "asked for")
            equal(ask(identity)[0], 89, "THROTTLING_QUOTA_EXCEEDED")
            equal(push(identity, subscription, octets), 0, "the first")
            equal(push(identity, subscription, octets), 89, "one more at once")
            equal(push(bytes(16), subscription, octets), 42, "without an id")
            wait = lambda: time.sleep(0.41)  # the interval is the client's to keep
            wait()
            equal(push(identity, subscription + 1, octets), 117, "UNKNOWN_SUBSCRIPTION_ID")
            equal(ask(identity)[0], 0, "asked again at once after that")
            equal(push(identity, subscription, octets, compression=7), 76, "UNSUPPORTED_COMPRESSION_TYPE")
            wait()
            equal(push(identity, subscription, bytes((1 << 20) + 1)), 118, "TELEMETRY_TOO_LARGE")
            wait()
            equal(push(identity, subscription, b"no metrics"), 87, "INVALID_RECORD")
            equal(push(identity, subscription, octets, last=1), 0, "the last may come early")
            equal(push(identity, subscription, octets), 42, "nothing comes after it")
            platformatic(broker, subscribe("all", metrics="m", interval_ms=None))
            changed = ask(identity)
            equal((changed[0], changed[4], changed[5]), (0, 300_000, ["m"]), "once the subscription has changed")


if __name__ == "__main__":
    sys.exit(suite.run())
