#!/usr/bin/python3
"""Kafka's administration as tools use it: confluent-kafka's AdminClient (librdkafka), kafka-python's
KafkaAdminClient and kafkajs's admin, and frames by hand for what none of them reaches."""

import json
import os
import subprocess
import sys

import confluent_kafka
import kafka
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (AdminClient, ConfigResource, ConfigSource, NewPartitions,
                                   NewTopic)
from kafka.admin import ConfigResource as PythonResource
from kafka.admin import ConfigResourceType, KafkaAdminClient
from kafka.admin import NewPartitions as PythonPartitions

from lib import kafka_raw as raw
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.kafka_raw import array, i8, i16, i32, i64, text, TAGS

suite = Suite("kafka admin")
KAFKAJS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "js", "kafkajs_admin.mjs")
TOPIC, BROKER = 2, 4


def confluent(broker):
    """A client that lives as long as the broker: its futures end with it."""
    admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    broker.clients = getattr(broker, "clients", []) + [admin]
    return admin


def create(broker, name, partitions=1, **config):
    spec = NewTopic(name, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})
    confluent(broker).create_topics([spec])[name].result(20)


def refused(code, future, what):
    try:
        future.result(20)
    except KafkaException as error:
        equal(error.args[0].code(), code, what)
        return error.args[0].str()
    raise AssertionError(f"{what} was taken")


def described(broker, kind, name):
    resource = ConfigResource(kind, name)
    return confluent(broker).describe_configs([resource])[resource].result(20)


def alter(broker, name, config, **options):
    resource = ConfigResource("topic", name, set_config=config)
    return confluent(broker).alter_configs([resource], **options)[resource]


def produce(broker, topic, values, partition=0, **config):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, **config})
    errors = []
    for value in values:
        producer.produce(topic, value, b"key", partition=partition,
                         on_delivery=lambda error, _: error and errors.append(error.code()))
    equal(producer.flush(30), 0, "left over")
    return errors


def ends(broker, topic, partition=0):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "ends"})
    result = consumer.get_watermark_offsets(
        confluent_kafka.TopicPartition(topic, partition), timeout=20)
    consumer.close()
    return result


def kafkajs(broker, *calls):
    output = subprocess.run(["node", KAFKAJS, broker.kafka], input=json.dumps(calls).encode(),
                            stdout=subprocess.PIPE, check=True, timeout=90).stdout
    return json.loads(output)


# ---------------------------------------------------------------- configurations

@suite.case("confluent-kafka: DescribeConfigs names every key with its right source, DEFAULT and DYNAMIC apart")
def sources():
    with Broker(["kafka.retention.ms=86400000"]) as broker:
        create(broker, "t", cleanup_policy="compact", segment_bytes="52428800")
        entries = described(broker, "topic", "t")
        equal(len(entries), 33, "keys")
        for name, value, source in (("cleanup.policy", "compact", ConfigSource.DYNAMIC_TOPIC_CONFIG),
                                    ("segment.bytes", "52428800", ConfigSource.DYNAMIC_TOPIC_CONFIG),
                                    ("retention.ms", "86400000", ConfigSource.STATIC_BROKER_CONFIG),
                                    ("max.message.bytes", "16777216", ConfigSource.DEFAULT_CONFIG),
                                    ("min.insync.replicas", "1", ConfigSource.DEFAULT_CONFIG)):
            entry = entries[name]
            equal((entry.value, entry.source), (value, source.value), name)
            equal((entry.is_sensitive, entry.is_read_only), (False, False), name)
        equal(sorted((s.name, s.value, s.source) for s in entries["cleanup.policy"].synonyms.values()),
              [("cleanup.policy", "compact", ConfigSource.DYNAMIC_TOPIC_CONFIG.value),
               ("log.cleanup.policy", "delete", ConfigSource.DEFAULT_CONFIG.value)], "synonyms")
        broker_entries = described(broker, "broker", "1")
        equal({name: entry.is_read_only for name, entry in broker_entries.items() if name in
               ("log.retention.ms", "message.max.bytes", "num.partitions", "log.dirs")},
              {"log.retention.ms": False, "message.max.bytes": False, "num.partitions": True, "log.dirs": True},
              "what is read-only")
        equal(broker_entries["log.retention.ms"].value, "86400000", "log.retention.ms")
        equal(broker_entries["log.retention.ms"].source, ConfigSource.STATIC_BROKER_CONFIG.value, "source")
        equal(broker_entries["log.dirs"].value, broker.data, "log.dirs")
        resource = ConfigResource("topic", "none")
        refused(KafkaError.UNKNOWN_TOPIC_OR_PART,
                confluent(broker).describe_configs([resource])[resource], "a topic that isn't there")


@suite.case("confluent-kafka: AlterConfigs sets the whole, survives kill -9, and says what is wrong")
def altering():
    with Broker() as broker:
        create(broker, "t", retention_ms="5000")
        alter(broker, "t", {"max.message.bytes": "2000"}).result(20)
        broker.kill()
        broker.start()
        entries = described(broker, "topic", "t")
        equal(entries["max.message.bytes"].value, "2000", "max.message.bytes")
        equal(entries["retention.ms"].value, "604800000", "not named, so back to the default")
        alter(broker, "t", {"retention.ms": "9"}, validate_only=True).result(20)
        equal(described(broker, "topic", "t")["retention.ms"].value, "604800000", "validated only")
        for key, value in (("no.such.key", "1"), ("retention.ms", "soon"), ("min.insync.replicas", "2"),
                           ("remote.storage.enable", "true")):
            told = refused(KafkaError.INVALID_CONFIG, alter(broker, "t", {key: value}), key)
            assert key in told, told
        resource = ConfigResource("broker", "1", set_config={"num.partitions": "3", "log.retention.ms": "5"})
        told = refused(KafkaError.INVALID_REQUEST, confluent(broker).alter_configs([resource])[resource],
                       "what isn't dynamic")
        assert "Cannot update these configs dynamically: Set(num.partitions)" in told, told


@suite.case("max.message.bytes, message.timestamp.type and compression.type do what they say, from the moment they are set")
def effects():
    with Broker() as broker:
        create(broker, "t")
        equal(produce(broker, "t", [b"x" * 5000]), [], "errors")
        alter(broker, "t", {"max.message.bytes": "1000"}).result(20)
        equal(produce(broker, "t", [b"x" * 5000]), [KafkaError.MSG_SIZE_TOO_LARGE], "errors")
        alter(broker, "t", {"message.timestamp.type": "LogAppendTime", "compression.type": "zstd"}).result(20)
        equal(produce(broker, "t", [b"y" * 900] * 3, **{"compression.type": "gzip"}), [], "errors")
        consumer = kafka.KafkaConsumer(bootstrap_servers=broker.kafka)
        equal(consumer.end_offsets([kafka.TopicPartition("t", 0)]), {kafka.TopicPartition("t", 0): 4}, "end")
        consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "g"})
        consumer.assign([confluent_kafka.TopicPartition("t", 0, 1)])
        message = consumer.poll(20)
        equal(message.value(), b"y" * 900, "value")
        kind, time = message.timestamp()
        equal(kind, confluent_kafka.TIMESTAMP_LOG_APPEND_TIME, "timestamp type")
        assert time > 1_000_000_000_000, time
        consumer.close()
        equal(codec_at(broker, "t", 1), 4, "zstd, though it came as gzip")
        alter(broker, "t", {"cleanup.policy": "compact"}).result(20)
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        failed = []
        producer.produce("t", b"without a key", on_delivery=lambda error, _: failed.append(error.code()))
        producer.flush(20)
        equal(failed, [KafkaError.INVALID_RECORD], "a record without a key")


def codec_at(broker, topic, offset):
    """The codec of the batch that Fetch 11 hands out there."""
    body = i32(-1) + i32(500) + i32(1) + i32(1 << 20) + i8(0) + i32(0) + i32(-1)
    partition = i32(0) + i32(-1) + i64(offset) + i64(-1) + i32(1 << 20)
    body += array([text(topic, False) + array([partition], False)], False)
    body += array([], False) + text("", False)
    answer = raw.call(broker, 1, 11, body, flexible=False)
    equal((answer.i32(), answer.i16(), answer.i32(), answer.i32()), (0, 0, 0, 1), "throttle, error, session, topics")
    equal((answer.text(), answer.i32(), answer.i32(), answer.i16()), (topic, 1, 0, 0), "topic, partition, error")
    answer.take(24)  # high watermark, last stable offset, log start
    answer.array(lambda: answer.take(16))
    answer.i32()
    batch = answer.take(answer.i32())
    return batch[22] & 7


@suite.case("retention.ms that is altered takes effect on records that are there")
def retention():
    with Broker(["storage.retention_check_ms=200"]) as broker:
        create(broker, "t", retention_ms="-1")
        produce(broker, "t", [b"old"] * 5)
        equal(ends(broker, "t"), (0, 5), "before")
        alter(broker, "t", {"retention.ms": "1000"}).result(20)
        wait_until(lambda: ends(broker, "t") == (5, 5), 20, "retention")


def change(broker, *ops, validate=False, resource=(TOPIC, "t")):
    """IncrementalAlterConfigs of one resource, by hand."""
    configs = [text(key) + i8(operation) + text(value) + TAGS for key, operation, value in ops]
    body = array([i8(resource[0]) + text(resource[1]) + array(configs) + TAGS]) + i8(validate) + TAGS
    answer = raw.call(broker, 44, 1, body)
    answer.i32()
    (code, message, *named), = answer.array(
        lambda: answer.struct(answer.i16, answer.text, answer.i8, answer.text))
    answer.end()
    equal(tuple(named), resource, "resource")
    return code, message


@suite.case("IncrementalAlterConfigs by hand: set, delete, append and subtract leave the other keys alone")
def incremental():
    with Broker() as broker:
        create(broker, "t", retention_bytes="5000")
        equal(change(broker, ("retention.ms", 0, "7"), ("cleanup.policy", 2, "compact")), (0, None), "set, append")
        broker.kill()
        broker.start()
        entries = described(broker, "topic", "t")
        equal([entries[key].value for key in ("retention.ms", "cleanup.policy", "retention.bytes")],
              ["7", "delete,compact", "5000"], "values")
        equal(change(broker, ("retention.ms", 1, None), ("cleanup.policy", 3, "delete")), (0, None),
              "delete, subtract")
        entries = described(broker, "topic", "t")
        equal([entries[key].value for key in ("retention.ms", "cleanup.policy", "retention.bytes")],
              ["604800000", "compact", "5000"], "values")
        code, message = change(broker, ("retention.ms", 0, "8"), ("flush.ms", 0, "often"))
        equal(code, 40, "one wrong key")
        assert "flush.ms=often" in message, message
        equal(change(broker, ("retention.ms", 0, "8"), validate=True), (0, None), "validate only")
        equal(described(broker, "topic", "t")["retention.ms"].value, "604800000", "nothing changed")


# ---------------------------------------------------------------- the broker's, while it runs

ALL_BROKERS, THIS_BROKER = (BROKER, ""), (BROKER, "1")


def told_by_hand(broker, kind, name):
    """DescribeConfigs 4: {key: (value, read-only, source, synonyms)}. librdkafka can't name all brokers, and
    confluent-kafka forgets synonyms of the same name."""
    body = array([i8(kind) + text(name) + i8(0) + TAGS]) + i8(1) + i8(0) + TAGS
    answer = raw.call(broker, 32, 4, body)
    answer.i32()

    def config():
        name, value, read_only, source = answer.text(), answer.text(), answer.i8(), answer.i8()
        answer.i8()
        synonyms = answer.array(lambda: tuple(answer.struct(answer.text, answer.text, answer.i8)))
        answer.i8(), answer.text(), answer.tags()
        return name, (value, bool(read_only), source, synonyms)

    def result():
        equal((answer.i16(), answer.text(), answer.i8(), answer.text()), (0, None, kind, name), "result")
        configs = answer.array(config)
        answer.tags()
        return dict(configs)

    results = answer.array(result)
    answer.end()
    return results[0]


def set_broker(broker, config):
    resource = ConfigResource("broker", "1", set_config=config)
    confluent(broker).alter_configs([resource])[resource].result(20)


def told_of(broker, key, topic="t"):
    entry = described(broker, "topic", topic)[key]
    return entry.value, entry.source


@suite.case("the broker's configuration is changed while it runs: topics that are there follow, over kill -9, unless they have their own")
def broker_while_it_runs():
    with Broker() as broker:
        create(broker, "t")
        create(broker, "own", max_message_bytes="16777216")
        large = [b"x" * 5000]
        equal(produce(broker, "t", large), [], "before")
        set_broker(broker, {"message.max.bytes": "1000"})
        broker.kill()
        broker.start()
        for topic, errors in (("t", [KafkaError.MSG_SIZE_TOO_LARGE]), ("own", [])):
            equal(produce(broker, topic, large), errors, topic)
        equal(told_of(broker, "max.message.bytes"), ("1000", ConfigSource.DYNAMIC_BROKER_CONFIG.value), "t")
        equal(told_of(broker, "max.message.bytes", "own"),
              ("16777216", ConfigSource.DYNAMIC_TOPIC_CONFIG.value), "own")
        entry = described(broker, "broker", "1")["message.max.bytes"]
        equal((entry.value, entry.source, entry.is_read_only),
              ("1000", ConfigSource.DYNAMIC_BROKER_CONFIG.value, False), "broker")
        equal(told_by_hand(broker, *ALL_BROKERS), {}, "of all brokers")
        set_broker(broker, {})  # the whole: nothing
        equal(produce(broker, "t", large), [], "taken back")
        equal(told_of(broker, "max.message.bytes"), ("16777216", ConfigSource.DEFAULT_CONFIG.value), "t")


@suite.case("the configuration of all brokers by hand: what is set for one comes before it, lists are extended, kill -9")
def all_brokers():
    with Broker() as broker:
        create(broker, "t")
        ops = ("message.max.bytes", 0, "9000"), ("log.cleanup.policy", 2, "compact")
        equal(change(broker, *ops, validate=True, resource=ALL_BROKERS), (0, None), "validate only")
        equal(told_by_hand(broker, *ALL_BROKERS), {}, "nothing changed")
        equal(change(broker, *ops, resource=ALL_BROKERS), (0, None), "all brokers")
        equal(change(broker, ("message.max.bytes", 0, "1000"), resource=THIS_BROKER), (0, None), "this one")
        broker.kill()
        broker.start()
        equal(told_by_hand(broker, *ALL_BROKERS),
              {"log.cleanup.policy": ("delete,compact", False, 3, [("log.cleanup.policy", "delete,compact", 3)]),
               "message.max.bytes": ("9000", False, 3, [("message.max.bytes", "9000", 3)])}, "of all brokers")
        for resource, key in ((THIS_BROKER, "message.max.bytes"), ((TOPIC, "t"), "max.message.bytes")):
            equal(told_by_hand(broker, *resource)[key],
                  ("1000", False, 2, [("message.max.bytes", "1000", 2), ("message.max.bytes", "9000", 3),
                                      ("message.max.bytes", "16777216", 5)]), "layers")
        equal(told_of(broker, "cleanup.policy"),
              ("delete,compact", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG.value), "policy")
        large = [b"x" * 5000]
        equal(produce(broker, "t", large), [KafkaError.MSG_SIZE_TOO_LARGE], "more than this one takes")
        equal(change(broker, ("message.max.bytes", 1, None), resource=THIS_BROKER), (0, None), "taken back")
        equal(produce(broker, "t", large), [], "within what all take")
        equal(produce(broker, "t", [b"x" * 9000]), [KafkaError.MSG_SIZE_TOO_LARGE], "more than all take")
        equal(change(broker, ("log.cleanup.policy", 3, "delete"), resource=ALL_BROKERS), (0, None), "subtract")
        equal(told_of(broker, "cleanup.policy")[0], "compact", "policy")
        for resource in (ALL_BROKERS, THIS_BROKER):
            equal(change(broker, ("num.io.threads", 0, "9"), ("log.dirs", 0, "/"), resource=resource),
                  (42, "Cannot update these configs dynamically: Set(num.io.threads, log.dirs)"), "not dynamic")
            code, message = change(broker, ("log.retention.ms", 0, "soon"), resource=resource)
            equal(code, 42, message)
            assert "log.retention.ms=soon" in message, message
        code, message = change(broker, ("log.retention.ms", 0, "5"), resource=(BROKER, "7"))
        equal((code, message), (42, "Unexpected broker id, expected 1 or empty string, but received 7"), "another")


@suite.case("log.retention.ms of the broker, and another file at the next start, take effect on records that are there")
def broker_retention():
    with Broker(["storage.retention_check_ms=200"]) as broker:
        create(broker, "t")
        create(broker, "own", retention_ms="604800000")
        for topic in ("t", "own"):
            produce(broker, topic, [b"old"] * 5)
        set_broker(broker, {"log.retention.ms": "1000"})
        wait_until(lambda: ends(broker, "t") == (5, 5), 20, "retention")
        set_broker(broker, {})
        produce(broker, "t", [b"newer"] * 5)
        broker.kill()
        broker.settings.append("kafka.retention.ms=1000")
        broker.start()
        equal(told_of(broker, "retention.ms"), ("1000", ConfigSource.STATIC_BROKER_CONFIG.value), "t")
        wait_until(lambda: ends(broker, "t") == (10, 10), 20, "retention")
        equal(ends(broker, "own"), (0, 5), "its own")


@suite.case("kafkajs: the broker's configuration is set and seen")
def kafkajs_broker():
    with Broker() as broker:
        create(broker, "t")
        entries = [{"name": "log.retention.ms", "value": "5000"}]
        results = kafkajs(
            broker,
            ["alterConfigs", {"validateOnly": False, "resources": [
                {"type": BROKER, "name": "1", "configEntries": entries}]}],
            ["describeConfigs", {"includeSynonyms": True, "resources": [
                {"type": BROKER, "name": "1", "configNames": ["log.retention.ms"]}]}],
            ["describeConfigs", {"includeSynonyms": True, "resources": [
                {"type": TOPIC, "name": "t", "configNames": ["retention.ms"]}]}],
            ["alterConfigs", {"validateOnly": False, "resources": [
                {"type": BROKER, "name": "1", "configEntries": [{"name": "num.io.threads", "value": "7"}]}]}])
        assert "result" in results[0], results[0]
        for result in results[1:3]:
            entry, = result["result"]["resources"][0]["configEntries"]
            equal((entry["configValue"], entry["configSource"], entry["readOnly"]), ("5000", 2, False), "entry")
            equal([s["configSource"] for s in entry["configSynonyms"]], [2, 5], "synonyms")
        equal(results[3]["error"], "INVALID_REQUEST", "a key that isn't dynamic")


# ---------------------------------------------------------------- partitions, records

@suite.case("confluent-kafka: CreatePartitions; the new ones take records and stay after kill -9")
def partitions():
    with Broker() as broker:
        create(broker, "t", 2)
        admin = confluent(broker)
        admin.create_partitions([NewPartitions("t", 5)], validate_only=True)["t"].result(20)
        equal(len(admin.list_topics(timeout=20).topics["t"].partitions), 2, "validated only")
        admin.create_partitions([NewPartitions("t", 5)])["t"].result(20)
        equal(produce(broker, "t", [b"v"], partition=4), [], "errors")
        broker.kill()
        broker.start()
        equal(len(confluent(broker).list_topics(timeout=20).topics["t"].partitions), 5, "partitions")
        equal(ends(broker, "t", 4), (0, 1), "the new one's ends")
        for count in (5, 3):
            refused(KafkaError.INVALID_PARTITIONS,
                    confluent(broker).create_partitions([NewPartitions("t", count)])["t"], f"{count} partitions")
        refused(KafkaError.UNKNOWN_TOPIC_OR_PART,
                confluent(broker).create_partitions([NewPartitions("none", 3)])["none"], "no topic")


@suite.case("kafkajs: DeleteRecords up to an offset and of all there are; what is gone stays gone after kill -9")
def records():
    with Broker() as broker:
        create(broker, "t", 2)
        create(broker, "c", cleanup_policy="compact")
        produce(broker, "t", [b"%d" % number for number in range(10)])
        produce(broker, "t", [b"v"] * 3, partition=1)
        # kafkajs knows only topics that it has asked about.
        _, _, *results = kafkajs(
            broker,
            ["fetchTopicOffsets", "t"], ["fetchTopicOffsets", "c"],
            ["deleteTopicRecords", {"topic": "t", "partitions": [{"partition": 0, "offset": "4"},
                                                                 {"partition": 1, "offset": "-1"}]}],
            ["fetchTopicOffsets", "t"],
            ["deleteTopicRecords", {"topic": "t", "partitions": [{"partition": 0, "offset": "11"}]}],
            ["deleteTopicRecords", {"topic": "c", "partitions": [{"partition": 0, "offset": "-1"}]}])
        assert "error" not in results[0], results[0]
        equal({p["partition"]: p["low"] for p in results[1]["result"]}, {0: "4", 1: "3"}, "low watermarks")
        # kafkajs wraps both; the topic of the second is only compacted.
        assert "error" in results[2] and "error" in results[3], results
        broker.kill()
        broker.start()
        equal((ends(broker, "t"), ends(broker, "t", 1)), ((4, 10), (3, 3)), "ends")
        consumer = kafka.KafkaConsumer(bootstrap_servers=broker.kafka, auto_offset_reset="earliest",
                                       consumer_timeout_ms=20000)
        consumer.assign([kafka.TopicPartition("t", 0)])
        equal(next(consumer).value, b"4", "the first that is left")


@suite.case("DeleteRecords by hand tells OFFSET_OUT_OF_RANGE, POLICY_VIOLATION and the low watermark")
def records_by_hand():
    with Broker() as broker:
        create(broker, "t")
        create(broker, "c", cleanup_policy="compact")
        produce(broker, "t", [b"v"] * 3)

        def one(topic, offset):
            body = array([text(topic) + array([i32(0) + i64(offset) + TAGS]) + TAGS]) + i32(1000) + TAGS
            answer = raw.call(broker, 21, 2, body)
            answer.i32()
            partition = lambda: answer.struct(answer.i32, answer.i64, answer.i16)
            (_, ((_, low, code),)), = answer.array(
                lambda: answer.struct(answer.text, lambda: answer.array(partition)))
            answer.end()
            return low, code

        equal(one("t", 2), (2, 0), "up to 2")
        equal(one("t", 1), (2, 0), "less than is gone already")
        equal(one("t", 4), (-1, 1), "beyond the end")
        equal(one("c", -1), (-1, 44), "of a compacted topic")
        equal(one("none", -1), (-1, 3), "of no topic")


# ---------------------------------------------------------------- groups

def commit(broker, group, topic, offsets):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": group})
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, partition, offset)
                             for partition, offset in offsets.items()], asynchronous=False)
    consumer.close()


@suite.case("kafka-python: groups are listed, described, their offsets told, and deleted while empty")
def python_groups():
    with Broker() as broker:
        create(broker, "t", 2)
        commit(broker, "idle", "t", {0: 3, 1: 4})
        admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
        offsets = admin.list_consumer_group_offsets("idle")
        equal({p.partition: m.offset for p, m in offsets.items()}, {0: 3, 1: 4}, "offsets")
        busy = kafka.KafkaConsumer("t", bootstrap_servers=broker.kafka, group_id="busy",
                                   session_timeout_ms=10000)
        wait_until(lambda: busy.poll(200) is not None and busy.assignment(), 20, "an assignment")
        equal(sorted(name for name, _ in admin.list_consumer_groups()), ["busy", "idle"], "groups")
        described_group, = admin.describe_consumer_groups(["busy"])
        equal((described_group.state, len(described_group.members)), ("Stable", 1), "described")
        results = {name: error.__name__ for name, error in admin.delete_consumer_groups(["idle", "busy", "no"])}
        equal(results, {"idle": "NoError", "busy": "NonEmptyGroupError", "no": "GroupIdNotFoundError"}, "deleted")
        busy.close()
        admin.close()


@suite.case("OffsetDelete by hand: offsets of topics that nobody reads go for good, others stay")
def offset_delete():
    def delete(broker, group, topic, partitions):
        body = text(group, False) + array(
            [text(topic, False) + array([i32(p) for p in partitions], False)], False)
        answer = raw.call(broker, 47, 0, body, flexible=False)
        code = answer.i16()
        answer.i32()
        topics = answer.array(lambda: answer.struct(
            answer.text, lambda: answer.array(lambda: answer.struct(answer.i32, answer.i16))))
        answer.end()
        return code, [error for _, partitions in topics for _, error in partitions]

    with Broker() as broker:
        create(broker, "t", 2)
        create(broker, "u")
        commit(broker, "g", "t", {0: 3, 1: 4})
        equal(delete(broker, "g", "t", [0, 9]), (0, [0, 3]), "one, and one that isn't there")
        equal(delete(broker, "none", "t", [0]), (69, []), "of no group")
        broker.kill()
        broker.start()
        admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
        equal({p.partition: m.offset for p, m in admin.list_consumer_group_offsets("g").items()}, {1: 4}, "left")
        member = kafka.KafkaConsumer("u", bootstrap_servers=broker.kafka, group_id="g")
        wait_until(lambda: member.poll(200) is not None and member.assignment(), 20, "an assignment")
        equal(delete(broker, "g", "u", [0]), (0, [86]), "a topic that a member reads")
        equal(delete(broker, "g", "t", [1]), (0, [0]), "one that none reads any more")
        member.close()
        admin.close()


# ---------------------------------------------------------------- the other clients

@suite.case("kafka-python: configurations, partitions and the cluster")
def python_admin():
    with Broker() as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
        admin.create_topics([kafka.admin.NewTopic("t", 1, 1, topic_configs={"retention.ms": "5"})])
        admin.alter_configs([PythonResource(ConfigResourceType.TOPIC, "t", {"retention.bytes": "7"})])
        response, = admin.describe_configs([PythonResource(ConfigResourceType.TOPIC, "t")])
        values = {row[0]: row[1] for row in response.resources[0][4]}
        equal((values["retention.bytes"], values["retention.ms"]), ("7", "604800000"), "values")
        admin.create_partitions({"t": PythonPartitions(3)})
        equal(len(admin.describe_topics(["t"])[0]["partitions"]), 3, "partitions")
        cluster = admin.describe_cluster()
        equal([(b["node_id"], b["port"]) for b in cluster["brokers"]], [(1, broker.ports["kafka"])], "brokers")
        admin.delete_topics(["t"])
        equal(admin.list_topics(), [], "topics")
        admin.close()


@suite.case("kafkajs: configurations, partitions, offsets, groups and reassignments")
def kafkajs_admin():
    with Broker() as broker:
        results = kafkajs(
            broker,
            ["createTopics", {"topics": [{"topic": "t", "numPartitions": 1, "configEntries": [
                {"name": "retention.ms", "value": "5"}]}]}],
            ["describeConfigs", {"includeSynonyms": True,
                                 "resources": [{"type": TOPIC, "name": "t", "configNames": ["retention.ms"]}]}],
            ["alterConfigs", {"validateOnly": False, "resources": [
                {"type": TOPIC, "name": "t", "configEntries": [{"name": "retention.bytes", "value": "7"}]}]}],
            ["alterConfigs", {"validateOnly": False, "resources": [
                {"type": TOPIC, "name": "t", "configEntries": [{"name": "no.such.key", "value": "7"}]}]}],
            ["createPartitions", {"topicPartitions": [{"topic": "t", "count": 3}]}],
            ["describeCluster", None],
            ["setOffsets", {"groupId": "g", "topic": "t", "partitions": [{"partition": 2, "offset": "6"}]}],
            ["fetchOffsets", {"groupId": "g", "topics": ["t"]}],
            ["listGroups", None],
            ["describeGroups", ["g"]],
            ["deleteGroups", ["g"]],
            ["listPartitionReassignments", {"topics": None}],
            ["alterPartitionReassignments", {"topics": [
                {"topic": "t", "partitionAssignment": [{"partition": 0, "replicas": [2]}]}]}])
        entry, = results[1]["result"]["resources"][0]["configEntries"]
        equal((entry["configValue"], entry["configSource"]), ("5", 1), "retention.ms")
        equal([s["configSource"] for s in entry["configSynonyms"]], [1, 5], "synonyms")
        assert "result" in results[2], results[2]
        equal(results[3]["error"], "INVALID_CONFIG", "an unknown key")
        equal(results[5]["result"]["controller"], 1, "controller")
        offsets = {p["partition"]: p["offset"] for p in results[7]["result"][0]["partitions"]}
        equal(offsets, {0: "-1", 1: "-1", 2: "6"}, "offsets")
        equal([g["groupId"] for g in results[8]["result"]["groups"]], ["g"], "groups")
        equal(results[9]["result"]["groups"][0]["state"], "Empty", "state")
        assert "result" in results[10], results[10]
        equal(results[11]["result"]["topics"], [], "reassignments")
        equal(results[12]["error"], "INVALID_REPLICA_ASSIGNMENT", "to a broker that isn't there")


# ---------------------------------------------------------------- by hand

@suite.case("a cluster of one by hand: DescribeCluster 2, ElectLeaders 2, DescribeLogDirs 4, ListConfigResources 1")
def cluster_of_one():
    with Broker() as broker:
        create(broker, "t", 2)
        produce(broker, "t", [os.urandom(1000) for _ in range(10)])
        answer = raw.call(broker, 60, 2, i8(1) + i8(1) + i8(0) + TAGS)
        answer.i32()
        equal((answer.i16(), answer.text(), answer.i8()), (0, None, 1), "DescribeCluster")
        equal((len(answer.text()), answer.i32()), (22, 1), "cluster id, controller")
        brokers = answer.array(lambda: answer.struct(answer.i32, answer.text, answer.i32, answer.text, answer.i8))
        equal(brokers, [[1, "127.0.0.1", broker.ports["kafka"], None, 0]], "brokers")
        equal(answer.i32(), 8096, "authorized operations")
        answer.end()

        answer = raw.call(broker, 43, 2, i8(0) + array([text("t") + array([i32(0), i32(5)]) + TAGS])
                          + i32(1000) + TAGS)
        answer.i32()
        equal(answer.i16(), 0, "ElectLeaders")
        partition = lambda: answer.struct(answer.i32, answer.i16, answer.text)
        (_, elected), = answer.array(lambda: answer.struct(answer.text, lambda: answer.array(partition)))
        equal([(index, code) for index, code, _ in elected], [(0, 84), (5, 3)], "elections")
        answer.end()

        answer = raw.call(broker, 35, 4, array(None) + TAGS)
        answer.i32()
        equal(answer.i16(), 0, "DescribeLogDirs")
        size = lambda: answer.struct(answer.i32, answer.i64, answer.i64, answer.i8)
        topic = lambda: answer.struct(answer.text, lambda: answer.array(size))
        (code, directory, topics, total, usable), = answer.array(lambda: answer.struct(
            answer.i16, answer.text, lambda: answer.array(topic), answer.i64, answer.i64))
        equal((code, directory, topics[0][0]), (0, broker.data, "t"), "directory")
        assert topics[0][1][0][1] > 10_000 and topics[0][1][1][1] == 0, topics
        assert total > usable > 0, (total, usable)
        answer.end()

        answer = raw.call(broker, 74, 1, array([]) + TAGS)
        answer.i32()
        equal(answer.i16(), 0, "ListConfigResources")
        equal(answer.array(lambda: answer.struct(answer.text, answer.i8)), [["t", TOPIC], ["1", BROKER]],
              "resources")
        answer.end()


@suite.case("DescribeTopicPartitions by hand, a page at a time")
def pages():
    with Broker() as broker:
        create(broker, "a", 3)
        create(broker, "b", 2)
        seen, cursor = [], i8(-1)
        while True:
            answer = raw.call(broker, 75, 0, array([]) + i32(2) + cursor + TAGS)
            answer.i32()
            ids = lambda: answer.array(answer.i32)
            partition = lambda: answer.struct(answer.i16, answer.i32, answer.i32, answer.i32, ids, ids, ids,
                                              ids, ids)
            topics = answer.array(lambda: answer.struct(
                answer.i16, answer.text, lambda: answer.take(16), answer.i8,
                lambda: answer.array(partition), answer.i32))
            for code, name, _, _, partitions, _ in topics:
                equal(code, 0, "code")
                seen += [f"{name}{row[1]}" for row in partitions]
            if answer.i8() < 0:
                answer.end()
                break
            name, index = answer.struct(answer.text, answer.i32)
            answer.end()
            seen.append("|")
            cursor = i8(1) + text(name) + i32(index) + TAGS
        equal(seen, ["a0", "a1", "|", "a2", "b0", "|", "b1"], "pages")


@suite.case("DescribeProducers and OffsetForLeaderEpoch by hand, before and after a restart")
def producers_and_epochs():
    with Broker() as broker:
        create(broker, "t")
        produce(broker, "t", [b"v"] * 4, **{"enable.idempotence": True})

        def producers():
            answer = raw.call(broker, 61, 0, array([text("t") + array([i32(0)]) + TAGS]) + TAGS)
            answer.i32()
            producer = lambda: answer.struct(answer.i64, answer.i32, answer.i32, answer.i64, answer.i32, answer.i64)
            partition = lambda: answer.struct(answer.i32, answer.i16, answer.text, lambda: answer.array(producer))
            (_, ((_, code, _, active),)), = answer.array(
                lambda: answer.struct(answer.text, lambda: answer.array(partition)))
            answer.end()
            equal(code, 0, "code")
            return [(identity, epoch, sequence, start) for identity, epoch, sequence, _, _, start in active]

        def epoch_end(current, epoch):
            body = i32(-1) + array([text("t") + array([i32(0) + i32(current) + i32(epoch) + TAGS]) + TAGS]) + TAGS
            answer = raw.call(broker, 23, 4, body)
            answer.i32()
            partition = lambda: answer.struct(answer.i16, answer.i32, answer.i32, answer.i64)
            (_, ((code, _, found, end),)), = answer.array(
                lambda: answer.struct(answer.text, lambda: answer.array(partition)))
            answer.end()
            return code, found, end

        (identity, epoch, sequence, start), = before = producers()
        equal((epoch, sequence, start), (0, 3, -1), "the producer")
        equal(epoch_end(0, 0), (0, 0, 4), "this epoch's end")
        broker.kill()
        broker.start()
        equal(producers(), before, "after the restart")
        equal(epoch_end(1, 0), (0, 0, 4), "the epoch before")
        equal(epoch_end(0, 0)[0], 74, "an old leader: FENCED_LEADER_EPOCH")
        equal(epoch_end(9, 0)[0], 75, "one to come: UNKNOWN_LEADER_EPOCH")


if __name__ == "__main__":
    sys.exit(suite.run())
