#!/usr/bin/python3
"""What outside tools rely on: the command line, the admin listener, health and metrics."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import kafka
import pika
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource

from lib.broker import BINARY, Broker
from lib.cases import Suite, equal
from lib.mqtt_clients import PahoClient

suite = Suite("tools")


def polylog(*arguments, text="", status=0):
    done = subprocess.run([BINARY, *arguments], input=text, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60)
    equal(done.returncode, status, f"status of {' '.join(arguments)} ({done.stderr})")
    return done.stdout if status == 0 else done.stderr


def get(broker, path):
    with urllib.request.urlopen(broker.admin + path, timeout=20) as answer:
        return answer.read().decode()


@suite.case("healthz, readyz and Prometheus metrics that count what went through")
def health():
    with Broker() as broker:
        equal(get(broker, "/healthz").strip(), "ok", "/healthz")
        get(broker, "/readyz")
        client = PahoClient(broker, "counter")
        for number in range(7):
            client.publish("counted/x", b"%d" % number, 1)
        values = dict(line.rsplit(" ", 1) for line in get(broker, "/metrics").splitlines()
                      if line and not line.startswith("#"))
        equal(values['polylog_records_in_total{protocol="mqtt"}'], "7", "records in")
        assert int(values["polylog_journal_bytes_total"]) > 0
        client.close()


@suite.case("a verb that is not there, or is missing, is answered with those that there are")
def verbs():
    for words, told in ((["usr", "list"], "no `polylog usr`; there are: serve,"),
                        (["user", "lst"], "no `polylog user lst`; there are: create,"),
                        (["user"], "`polylog user` wants one of these after it: create,")):
        said = polylog(*words, status=1)
        assert told in said, said


@suite.case("queue and exchange create, list, describe, delete; what AMQP clients made is there")
def queues():
    with Broker() as broker:
        admin = ("--admin", broker.admin)
        polylog("queue", "create", "jobs", *admin)
        polylog("queue", "create", "log", "--type", "stream", *admin)
        polylog("exchange", "create", "orders", "--type", "topic", *admin)
        assert "already" in polylog("queue", "create", "jobs", *admin, status=1)
        assert "already" in polylog("exchange", "create", "orders", *admin, status=1)
        assert "amq." in polylog("queue", "create", "amq.mine", *admin, status=1)
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.amqp))
        channel = connection.channel()
        equal(channel.queue_declare("log", passive=True).method.message_count, 0, "the stream")
        channel.queue_bind("jobs", "orders", "new.*")
        channel.confirm_delivery()
        for number in range(5):
            channel.basic_publish("orders", "new.one", b"%d" % number)
        equal(channel.basic_get("jobs")[2], b"0", "the first")
        described = json.loads(polylog("queue", "describe", "jobs", "--json", *admin))
        equal([described[name] for name in ("ready", "unacknowledged", "consumers", "durable")],
              [4, 1, 0, True], "the queue")
        equal(described["bindings"], [{"source": "orders", "routing_key": "new.*"}], "its bindings")
        exchange = json.loads(polylog("exchange", "describe", "orders", "--json", *admin))
        equal(exchange["bindings"][0]["destination"], "jobs", "the exchange's binding")
        assert "jobs" in polylog("queue", "list", *admin)
        assert "orders" in polylog("exchange", "list", *admin)
        values = dict(line.rsplit(" ", 1) for line in get(broker, "/metrics").splitlines()
                      if line and not line.startswith("#"))
        equal(values['polylog_records_in_total{protocol="amqp"}'], "5", "records in")
        equal(values['polylog_records_out_total{protocol="amqp"}'], "1", "records out")
        connection.close()
        polylog("queue", "delete", "jobs", *admin)
        polylog("exchange", "delete", "orders", *admin)
        assert "jobs" in polylog("queue", "describe", "jobs", *admin, status=1)
        assert "orders" in polylog("exchange", "describe", "orders", *admin, status=1)
        assert "stay" in polylog("exchange", "delete", "amq.direct", *admin, status=1)


@suite.case("topic create, list, describe, delete")
def topics():
    with Broker() as broker:
        admin = ("--admin", broker.admin)
        polylog("topic", "create", "made", "--partitions", "3", *admin)
        assert "already" in polylog("topic", "create", "made", *admin, status=1)
        assert "made" in polylog("topic", "list", *admin)
        described = json.loads(polylog("topic", "describe", "made", "--json", *admin))
        equal(len(described["partitions"]), 3, "partitions")
        polylog("topic", "delete", "made", *admin)
        assert "made" in polylog("topic", "describe", "made", *admin, status=1)


@suite.case("topic-default set, list and delete; topic describe tells what is set and by whom, as Kafka's clients are told; over kill -9")
def defaults():
    with Broker() as broker:
        admin = ("--admin", broker.admin)
        polylog("topic", "create", "plain", *admin)
        polylog("topic", "create", "own", "--retention-ms", "60000", "--cleanup-policy", "compact", *admin)
        polylog("topic-default", "set", "log.retention.ms=90000", "message.max.bytes=2000000", *admin)
        polylog("topic-default", "set", "--broker", "1", "message.max.bytes=3000000", *admin)
        set_by = lambda topic: {one["key"]: (one["value"], one["source"]) for one in
                                json.loads(polylog("topic", "describe", topic, "--json", *admin))["settings"]}
        plain = {"retention.ms": ("90000", "cluster"), "max.message.bytes": ("3000000", "broker")}
        own = {"retention.ms": ("60000", "topic"), "cleanup.policy": ("compact", "topic"),
               "max.message.bytes": ("3000000", "broker")}
        for when in ("as they were set", "after kill -9"):
            equal((set_by("plain"), set_by("own")), (plain, own), when)
            broker.restart()
        client = AdminClient({"bootstrap.servers": broker.kafka})
        asked = ConfigResource(ConfigResource.Type.TOPIC, "plain")
        told = client.describe_configs([asked])[asked].result(20)
        equal([(told[key].value, told[key].source) for key in ("retention.ms", "max.message.bytes")],
              [("90000", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG.value),
               ("3000000", ConfigSource.DYNAMIC_BROKER_CONFIG.value)], "by a Kafka client")
        rows = [one.split() for one in polylog("topic", "describe", "own", *admin).splitlines()]
        assert ["retention.ms", "60000", "topic"] in rows, rows
        rows = [one.split() for one in polylog("topic-default", "list", *admin).splitlines()]
        assert ["message.max.bytes", "3000000", "broker", "3000000", "2000000"] in rows, rows
        for words, says in ((["retention.ms=1"], "log.retention.ms"), (["log.retention.ms=7d"], "milliseconds"),
                            (["log.retention.ms"], "KEY=VALUE"), (["--broker", "7", "log.retention.ms=1"], "this one is 1")):
            said = polylog("topic-default", "set", *words, *admin, status=1)
            assert says in said, said
        polylog("topic-default", "delete", "log.retention.ms", "message.max.bytes", *admin)
        polylog("topic-default", "delete", "--broker", "1", "message.max.bytes", *admin)
        assert "topic-default list" in polylog("topic-default", "delete", "log.retention.ms", *admin, status=1)
        equal(set_by("plain"), {}, "taken back")


@suite.case("what is no number is told in its unit, what is missing with the verb's help")
def mistakes():
    for words, says in ((["topic", "create", "t", "--retention-ms", "7d"], "`7d`: give a whole number of milliseconds, -1 or more"),
                        (["topic", "create", "t", "--retention-bytes", "1GiB"], "of octets"),
                        (["topic", "create", "t", "--cleanup-policy", "x"], "delete | compact | compact,delete"),
                        (["ban", "add", "user", "ann", "--seconds", "5s"], "of seconds"),
                        (["topic", "describe"], "NAME is required; `polylog topic describe --help`"),
                        (["consume", "t", "--offset", "3", "--from-beginning"], "excludes")):
        said = polylog(*words, status=1)
        assert said.startswith("polylog: ") and says in said, said


@suite.case("produce and consume; another protocol sees the same records")
def records():
    with Broker() as broker:
        admin = ("--admin", broker.admin)
        reader = PahoClient(broker, "reader").subscribe("line/#", 1)
        polylog("produce", "line", "--key", "a/b", *admin, text="one\ntwo\n")
        equal([(m.topic, m.payload) for m in reader.expect(2)],
              [("line/a/b", b"one"), ("line/a/b", b"two")], "MQTT")
        reader.publish("line/c", b"three", 1)
        equal(polylog("consume", "line", "--from-beginning", *admin).splitlines(),
              ["a/b one", "a/b two", "c three"], "consume")
        reader.close()


@suite.case("group list and describe give committed offsets and lag")
def groups():
    with Broker() as broker:
        admin = ("--admin", broker.admin)
        producer = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all")
        for _ in range(10):
            producer.send("work", b"x").get(20)
        consumer = kafka.KafkaConsumer(
            "work", group_id="team", bootstrap_servers=broker.kafka, auto_offset_reset="earliest",
            enable_auto_commit=False, max_poll_records=4)
        while not sum(len(batch) for batch in consumer.poll(1000).values()):
            pass
        consumer.commit()
        assert "team" in polylog("group", "list", *admin)
        group = json.loads(polylog("group", "describe", "team", "--json", *admin))
        offset, = group["offsets"]
        equal((offset["topic"], offset["offset"], offset["lag"]), ("work", 4, 6), "offset and lag")
        consumer.close()
        polylog("group", "delete", "team", *admin)
        assert "team" in polylog("group", "describe", "team", *admin, status=1)


@suite.case("session list, describe and delete")
def sessions():
    with Broker() as broker:
        admin = ("--admin", broker.admin)
        client = PahoClient(broker, "sleeper", clean=False, expiry=600).subscribe("a/#", 1)
        client.drop()
        PahoClient(broker, "sender").publish("a/b", b"waits", 1)
        session = json.loads(polylog("session", "describe", "sleeper", "--json", *admin))
        equal(session["waiting"], 1, "waiting")
        equal(session["subscriptions"][0]["filter"], "a/#", "subscription")
        heads, *rows = polylog("session", "list", *admin).splitlines()
        row = next(one for one in rows if one.startswith("sleeper "))
        assert "user" in heads and "expiry_seconds" in heads and " 600 " in row, (heads, row)
        polylog("session", "delete", "sleeper", *admin)
        assert "sleeper" not in polylog("session", "list", *admin)
        names = [f"s{number}" for number in range(5)]
        for name in names:
            PahoClient(broker, name, clean=False, expiry=0xFFFFFFFF).close()
        seen, after = [], []
        while True:
            page = json.loads(polylog("session", "list", "--json", "--limit", "2", *after, *admin))
            seen += [one["client_id"] for one in page["sessions"]]
            if "next" not in page:
                break
            assert len(page["sessions"]) == 2, page
            after = ["--after", page["next"]]
        equal([name for name in seen if name in names], names, "by pages")
        assert "never" in polylog("session", "list", *admin), "an expiry of never"


@suite.case("quotas and subscriptions of clients' metrics are set, listed and deleted, and outlive kill -9")
def quotas():
    with Broker() as broker:
        admin = ("--admin", broker.admin)
        listed = lambda: {one.pop("of"): one for one in json.loads(polylog("quota", "list", "--json", *admin))["quotas"]}
        polylog("quota", "set", "--user", "ann", "--default-client-id", "--producer-byte-rate", "1000",
                "--request-percentage", "12.5", *admin)
        polylog("quota", "set", "--default-ip", "--connection-creation-rate", "50", *admin)
        ann = {"user": "ann", "client_id": "", "producer_byte_rate": 1000, "request_percentage": 12.5}
        anywhere = {"ip": "", "connection_creation_rate": 50}
        equal(listed(), {"user ann, every other client id": ann, "every other ip": anywhere}, "set")
        broker.restart()
        equal(listed(), {"user ann, every other client id": ann, "every other ip": anywhere}, "after kill -9")
        assert "12.5" in polylog("quota", "list", *admin), "the table"
        for wrong in (["--user", "ann", "--producer-byte-rate", "some"], ["--producer-byte-rate", "1"],
                      ["--ip", "10.0.0.0/8", "--connection-creation-rate", "1"], ["--user", "ann", "--connection-creation-rate", "1"],
                      ["--user", "ann"], ["--user", "ann", "--default-user", "--producer-byte-rate", "1"]):
            polylog("quota", "set", *wrong, *admin, status=1)
        polylog("quota", "delete", "--user", "ann", "--default-client-id", "--request-percentage", *admin)
        del ann["request_percentage"]
        equal(listed()["user ann, every other client id"], ann, "one is gone")
        polylog("quota", "delete", "--user", "ann", "--default-client-id", *admin)
        polylog("quota", "delete", "--default-ip", *admin)
        equal(listed(), {}, "gone")
        assert "no quotas for user ann" in polylog("quota", "delete", "--user", "ann", *admin, status=1)
        polylog("client-metrics", "set", "s", "--metrics", "org.apache.kafka.,other.", *admin)
        polylog("client-metrics", "set", "s", "--interval-ms", "2000", "--match", "client_id=a.*", *admin)
        subscription = {"name": "s", "interval_ms": "2000", "metrics": "org.apache.kafka.,other.", "match": "client_id=a.*"}
        broker.restart()
        listed = lambda: json.loads(polylog("client-metrics", "list", "--json", *admin))["client_metrics"]
        equal(listed(), [subscription], "a subscription")
        assert "100" in polylog("client-metrics", "set", "s", "--interval-ms", "1", *admin, status=1), "out of bounds"
        for wrong in ("nobody", "client_id=("):
            said = polylog("client-metrics", "set", "s", "--match", wrong, *admin, status=1)
            assert "answered 400" in said, said
        polylog("client-metrics", "delete", "s", *admin)
        equal(listed(), [], "gone")
        polylog("client-metrics", "delete", "s", *admin, status=1)


@suite.case("check-config names the key, the value and the remedy")
def configuration():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "polylog.yaml")
        with open(path, "w") as file:
            file.write("topics:\n  partitions: 3\nlisteners: [mqtt=127.0.0.1:0]\n")
        polylog("check-config", path)
        with open(path, "w") as file:
            file.write("topics:\n  partitons: 3\nflush: sometimes\n")
        text = polylog("check-config", path, status=1)
        for word in ("topics.partitons", "topics.partitions", "flush", "sometimes", "interval"):
            assert word in text, text


@suite.case("the admin listener refuses nonsense and goes on")
def nonsense():
    with Broker() as broker:
        for path, status in (("/nowhere", 404), ("/api/topics/none", 404),
                             ("/api/topics/none/records?partition=x", 400)):
            try:
                get(broker, path)
                raise AssertionError(f"{path} was answered")
            except urllib.error.HTTPError as error:
                equal(error.code, status, path)
        request = urllib.request.Request(broker.admin + "/api/topics/t/records", b"{not json",
                                         method="POST")
        try:
            urllib.request.urlopen(request, timeout=20)
            raise AssertionError("bad JSON was taken")
        except urllib.error.HTTPError as error:
            equal(error.code, 400, "bad JSON")
        get(broker, "/healthz")


if __name__ == "__main__":
    sys.exit(suite.run())
