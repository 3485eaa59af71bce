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


if __name__ == "__main__":
    sys.exit(suite.run())
