#!/usr/bin/python3
"""What operators and devices use beyond the specification: delayed publishes, topic rewrites, automatic and
exclusive subscriptions, mount points, rates, redirection; clients listed, kicked and banned."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

from lib.broker import BINARY, ROOT, Broker
from lib.cases import Suite, equal, wait_until
from lib.mqtt_clients import PahoClient
from lib.mqtt_raw import RawClient, text

suite = Suite("mqtt_operations")


def metric(broker, name):
    with urllib.request.urlopen(f"{broker.admin}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def mosquitto_pub(broker, topic, payload, *options):
    subprocess.run(["mosquitto_pub", "-p", str(broker.mqtt), "-V", "5", "-t", topic, "-m", payload,
                    *options], check=True, timeout=30)


# ---- delayed publishes


@suite.case("delayed: every QoS and retained, in the order of their times, by mosquitto_pub and paho")
def delayed():
    with Broker() as broker:
        reader = PahoClient(broker, "reader").subscribe("d/#", 2)
        began = time.monotonic()
        mosquitto_pub(broker, "$delayed/12/d/late", "late", "-q", "1")
        for qos in (0, 1, 2):
            mosquitto_pub(broker, f"$delayed/6/d/{qos}", str(qos), "-q", str(qos))
        sender = PahoClient(broker, "sender")
        sender.publish("$delayed/6/d/kept", b"kept", 2, True)
        sender.publish("$delayed/0/d/now", b"now", 1)
        equal([m.topic for m in reader.expect(1)], ["d/now"], "at once")
        equal(metric(broker, "polylog_delayed_records"), 5, "waiting")
        seen = reader.expect(6)
        assert time.monotonic() - began >= 12, "too early"
        equal(sorted((m.topic, m.qos) for m in seen[1:5]),
              [("d/0", 0), ("d/1", 1), ("d/2", 2), ("d/kept", 2)], "due together")
        equal(seen[5].topic, "d/late", "the last")
        wait_until(lambda: metric(broker, "polylog_delayed_records") == 0, 10, "none waiting")
        late = PahoClient(broker, "late").subscribe("d/#", 1)
        equal([(m.topic, bool(m.retain)) for m in late.expect(1)], [("d/kept", True)], "retained")


@suite.case("delayed: acknowledged publishes survive kill -9 and come once; a QoS 2 repeat is none")
def delayed_crash():
    with Broker() as broker:
        PahoClient(broker, "reader", clean=False, expiry=600).subscribe("d/#", 1).drop()
        sender = PahoClient(broker, "sender")
        for number in range(100):
            sender.publish("$delayed/2/d/x", b"%d" % number, 1)
        exact = RawClient(broker, "exact", level=5, clean=False, expiry=600)
        publish = text("$delayed/2/d/exact") + b"\0\x09\0" + b"exact"
        exact.send(0x34, publish)
        equal(exact.read()[1][:2], b"\0\x09", "PUBREC")
        broker.restart()
        exact = RawClient(broker, "exact", level=5, clean=False, expiry=600)
        exact.send(0x3C, publish)
        equal(exact.read()[1][:2], b"\0\x09", "PUBREC of the repeat")
        reader = PahoClient(broker, "reader", clean=False, expiry=600)
        wanted = [b"%d" % number for number in range(100)]
        equal([m.payload for m in reader.expect(101)][:100], wanted, "in order")
        # Killed about when the second hundred is due.
        sender = PahoClient(broker, "sender2")
        for number in range(100, 200):
            sender.publish("$delayed/1/d/y", b"%d" % number, 1)
        wait_until(lambda: metric(broker, "polylog_delayed_records") < 100, 30, "the first of them")
        broker.restart()
        reader.drop()
        reader = PahoClient(broker, "reader", clean=False, expiry=600)
        PahoClient(broker, "end").publish("d/end", b"end", 1)
        wait_until(lambda: any(m.topic == "d/y" and m.payload == b"199" for m in list(reader.seen)), 30,
                   "the last")
        from confluent_kafka import Consumer, TopicPartition
        consumer = Consumer({"bootstrap.servers": broker.kafka, "group.id": "g"})
        consumer.assign([TopicPartition("d", 0, 0)])
        stored = []
        while len(stored) < 202:
            record = consumer.poll(10)
            assert record is not None, f"only {len(stored)}"
            stored.append((record.key(), record.value()))
        consumer.close()
        equal(len(set(stored)), 202, "none twice, none lost")


@suite.case("delayed: refused are what is no delay, too long, too many, and where rules forbid the topic")
def delayed_refused():
    with Broker(["mqtt.delayed.max_records=1"]) as broker:
        client = RawClient(broker, "c", level=5)

        def code(topic):
            client.send(0x32, text(topic) + b"\0\x09\0" + b"x")
            first, body = client.read()
            equal(first, 0x40, "PUBACK")
            return body[2] if len(body) > 2 else 0

        most, now = 42_949_669, int(time.time())
        equal([code(t) for t in ("$delayed/x/t", "$delayed/-1/t", "$delayed/5", "$delayed/5/$SYS/t",
                                 f"$delayed/{most + 1}/t", f"$delayed/{now + most + 60}/t",
                                 f"$delayed/{now - most - 60}/t", f"$delayed/{now * 1000}/t")],
              [0x90] * 8, "names")
        equal(code(f"$delayed/{most}/t"), 0, "the longest")
        equal(code("$delayed/5/t"), 0x97, "too many")
        equal(metric(broker, "polylog_delayed_records"), 1, "waiting")
    with Broker(["auth.default=deny"]) as broker:
        polylog(broker, "acl", "create", "allow", "*", "all", "ok")
        client = RawClient(broker, "c", level=5)
        equal([code("$delayed/1/t"), code("$delayed/1/ok"), code("$delayed/3/ok")], [0x87, 0, 0], "rights")
        # And again when it is due.
        wait_until(lambda: metric(broker, "polylog_delayed_records") == 1, 10, "the first")
        polylog(broker, "acl", "create", "deny", "*", "write", "ok")
        wait_until(lambda: metric(broker, "polylog_delayed_records") == 0, 10, "the second")
        with open(broker.log_path) as log:
            assert "a delayed publish was dropped" in log.read()


@suite.case("delayed: until a time of the clock, in their order, wills and what was for a time gone by too")
def delayed_until():
    with Broker() as broker:
        reader = PahoClient(broker, "reader").subscribe("d/#", 1)
        at = int(time.time()) + 4
        # Given in different seconds, due at the same time: as they came.
        mosquitto_pub(broker, f"$delayed/{at}/d/1", "1", "-q", "1")
        RawClient(broker, "c", level=5, will={"topic": f"$delayed/{at + 1}/d/will", "payload": "gone"}
                  ).close(False)
        mosquitto_pub(broker, f"$delayed/{at - 3600}/d/past", "0", "-q", "1")
        equal([m.topic for m in reader.expect(1)], ["d/past"], "at once")
        wait_until(lambda: time.time() > at - 2, 5, "another second")
        mosquitto_pub(broker, f"$delayed/{at}/d/2", "2", "-q", "1")
        seen = []
        for count in (2, 3, 4):
            seen.append((reader.expect(count)[count - 1].topic, time.time()))
        equal([topic for topic, _ in seen], ["d/1", "d/2", "d/will"], "in their order")
        assert seen[0][1] >= at and seen[2][1] >= at + 1, f"too early: {at}, {seen}"


@suite.case("delayed: a will too; message expiry counts from its time")
def delayed_will():
    with Broker() as broker:
        reader = PahoClient(broker, "reader").subscribe("d/#", 1)
        RawClient(broker, "c", level=5, will={"topic": "$delayed/1/d/will", "payload": "gone"}
                  ).close(False)
        mosquitto_pub(broker, "$delayed/2/d/expiring", "x", "-q", "1", "-D", "publish",
                      "message-expiry-interval", "1")
        equal([m.payload for m in reader.expect(2)], [b"gone", b"x"], "both")


# ---- topic rewrites


REWRITES = ["mqtt.rewrite=all x/# ^x/y/(.+)$ -> z/$1,publish +/data -> devices/%c/$1,"
            "subscribe mine/# -> users/%c/$1"]


@suite.case("rewrites: publishes, subscriptions, wills, unsubscribing, shared subscriptions")
def rewrites():
    with Broker(REWRITES) as broker:
        plain = PahoClient(broker, "plain").subscribe("z/#", 1).subscribe("devices/#", 1)
        plain.subscribe("x/#", 1).subscribe("users/#", 1)
        mosquitto_pub(broker, "x/y/1/2", "a", "-q", "1")
        mosquitto_pub(broker, "x/other", "b", "-q", "1")
        mosquitto_pub(broker, "t/data", "c", "-q", "1", "-i", "pub")
        mosquitto_pub(broker, "$delayed/1/x/y/later", "d", "-q", "1")
        RawClient(broker, "lost", will={"topic": "x/y/will", "payload": "e"}).close(False)
        equal(sorted((m.topic, m.payload) for m in plain.expect(5)),
              [("devices/pub/t", b"c"), ("x/other", b"b"), ("z/1/2", b"a"), ("z/later", b"d"),
               ("z/will", b"e")], "seen")
        own = PahoClient(broker, "own").subscribe("mine/a/#", 1)
        shared = PahoClient(broker, "shared").subscribe("$share/g/x/y/s", 1)
        plain.publish("users/own/a/b", b"f", 1)
        plain.publish("z/s", b"g", 1)
        equal([m.topic for m in own.expect(1)], ["users/own/a/b"], "its own")
        equal([m.topic for m in shared.expect(1)], ["z/s"], "shared")
        npm = subprocess.run(["node", f"{ROOT}/conformance/js/mqtt_client.mjs",
                              f"mqtt://127.0.0.1:{broker.mqtt}", "x/y/npm", "3"],
                             capture_output=True, timeout=60, check=True)
        both = json.loads(npm.stdout)
        equal(both["seen"], both["sent"], "npm's mqtt")
        equal([m.topic for m in plain.expect(10)[-3:]], ["z/npm"] * 3, "as others see it")
        raw = RawClient(broker, "raw", level=5)
        equal(raw.subscribe("x/y/u", 1), 1, "SUBACK")
        raw.send(0xA2, b"\0\x08\0" + text("x/y/u"))
        equal(raw.read(), (0xB0, b"\0\x08\0\0"), "UNSUBACK: there was one")


@suite.case("rewrites come before access rules")
def rewrites_and_rules():
    with Broker([*REWRITES, "auth.default=deny"]) as broker:
        for name in ("z", "devices"):
            urllib.request.urlopen(urllib.request.Request(
                f"{broker.admin}/api/acls?user=*&operation=all&resource=topic&name={name}&permission=allow"
                "&host=*&pattern=literal", method="POST"), timeout=10)
        client = RawClient(broker, "c", level=5)
        equal(client.subscribe("x/y/1", 1), 1, "what it becomes may be read")
        equal(client.subscribe("x/z", 1), 0x87, "what it stays may not")


@suite.case("rewrites that make no sense are refused at the start, with the remedy")
def wrong_rewrites():
    for rule, why in (("x/# -> y", "doesn't begin with"), ("all x/# (( -> y", "no expression"),
                      ("all x/# -> $2", "could stand for"), ("all x/#", "has no '->'")):
        done = subprocess.run([BINARY, "serve", "--data", "/nonexistent", "--set",
                               f"mqtt.rewrite={rule}"], capture_output=True, text=True, timeout=30)
        assert done.returncode != 0 and why in done.stderr, (rule, done.stderr)


# ---- automatic subscriptions


@suite.case("automatic subscriptions: with %c, options, retained; at every connect; and may be left")
def automatic():
    with Broker(["mqtt.auto_subscribe=to/%c/# qos=1,all/# qos=1 nl=1 rap=1 rh=2"]) as broker:
        sender = PahoClient(broker, "sender")
        sender.publish("to/a/kept", b"kept", 1, True)
        sender.publish("all/kept", b"not for new ones", 1, True)
        client = PahoClient(broker, "a", clean=False, expiry=600)
        equal([(m.topic, m.qos) for m in client.expect(1)], [("to/a/kept", 1)], "retained")
        client.publish("all/x", b"own", 1)
        sender.publish("to/b", b"another's", 1)
        sender.publish("all/y", b"y", 1, True)
        equal([(m.topic, bool(m.retain)) for m in client.expect(2)[1:]], [("all/y", True)], "live")
        raw = RawClient(broker, "b", level=5)
        raw.send(0xA2, b"\0\x08\0" + text("all/#"))
        equal(raw.read(), (0xB0, b"\0\x08\0\0"), "UNSUBACK: there was one")


# ---- exclusive subscriptions


@suite.case("exclusive: one at a time; others' plain ones beside it; free at unsubscribe and session's end")
def exclusive():
    with Broker() as broker:
        first = RawClient(broker, "first", level=5)
        second = RawClient(broker, "second", level=5)
        equal(first.subscribe("$exclusive/e/1", 1), 1, "first")
        equal(first.subscribe("$exclusive/e/1", 2), 2, "first again")
        equal(second.subscribe("$exclusive/e/1", 1), 0x97, "second: quota exceeded")
        equal(second.subscribe("$exclusive/e/2", 1), 1, "another topic")
        equal(second.subscribe("$exclusive/$share/g/e", 1), 0x8F, "no shared one")
        plain = PahoClient(broker, "plain").subscribe("e/1", 1)
        PahoClient(broker, "sender").publish("e/1", b"x", 1)
        plain.expect(1)
        equal(first.publishes(1)[0][3], b"x", "the topic without its prefix")
        first.send(0xA2, b"\0\x08\0" + text("$exclusive/e/1"))
        equal(first.read(), (0xB0, b"\0\x08\0\0"), "UNSUBACK")
        equal(second.subscribe("$exclusive/e/1", 1), 1, "free again")
        second.close(False)
        wait_until(lambda: first.subscribe("$exclusive/e/1", 1) == 1, 10, "free at the end")
        old = RawClient(broker, "old", level=4)
        equal(old.subscribe("$exclusive/e/1", 1), 0x80, "3.1.1")


@suite.case("exclusive: a persistent session keeps it, over kill -9, until it ends")
def exclusive_persistent():
    with Broker() as broker:
        RawClient(broker, "keeper", level=5, clean=False, expiry=600).subscribe("$exclusive/e", 1)
        broker.restart()
        other = RawClient(broker, "other", level=5)
        equal(other.subscribe("$exclusive/e", 1), 0x97, "held")
        RawClient(broker, "keeper", level=5, clean=True)
        equal(other.subscribe("$exclusive/e", 1), 1, "free")


# ---- what a listener has of its own


@suite.case("mount points: invisible to clients, whole names for others, wills, shared, by mosquitto")
def mount_points():
    directory = tempfile.mkdtemp()
    path = f"{directory}/mounted.sock"
    with Broker(unix=[f"mqtt=unix:{path} mqtt.mount_point=tenants/%c/"]) as broker:
        def inside(command, client_id, *arguments, **options):
            return subprocess.Popen([command, "--unix", path, "-V", "5", "-i", client_id, *arguments],
                                    stdout=subprocess.PIPE, text=True, **options)

        whole = PahoClient(broker, "whole").subscribe("#", 1)
        whole.publish("tenants/t1/kept", b"kept", 1, True)
        reader = inside("mosquitto_sub", "t1", "-t", "#", "-t", "$share/g/s", "-q", "1", "-C", "3", "-W", "30",
                        "-F", "%t %p")
        equal(reader.stdout.readline(), "kept kept\n", "retained")
        whole.publish("tenants/t2/x", b"another's", 1)
        whole.publish("x", b"nobody's", 1)
        whole.publish("tenants/t1/s", b"shared", 1)
        lines = sorted(reader.communicate(timeout=30)[0].splitlines())
        equal(lines, ["s shared", "s shared"], "mounted")
        inside("mosquitto_pub", "t3", "-t", "out", "-m", "x", "-q", "1").wait(30)
        seen = whole.expect(5)
        equal(seen[-1].topic, "tenants/t3/out", "whole name")
        refused = inside("mosquitto_pub", "+", "-t", "out", "-m", "x", stderr=subprocess.PIPE)
        assert refused.wait(30) != 0, "a wildcard for a name"


@suite.case("rates: a client that sends too much is slowed down, others aren't, nothing is lost")
def rates():
    with Broker(listeners={"mqtt": "mqtt.publish_rate=50"}) as broker:
        reader = PahoClient(broker, "reader").subscribe("t", 1)
        fast = RawClient(broker, "fast", level=5)
        began = time.monotonic()
        for number in range(150):
            fast.send(0x30, text("t") + b"\0" + b"%d" % number)
        other = RawClient(broker, "other", level=5)
        other.send(0x32, text("u") + b"\0\x01\0" + b"x")
        equal(other.read()[0], 0x40, "PUBACK of another")
        assert time.monotonic() - began < 1.5, "another had to wait"
        equal([m.payload for m in reader.expect(150)], [b"%d" % n for n in range(150)], "all of them")
        took = time.monotonic() - began
        assert 1.8 <= took < 20, f"{took:.1f} s for 150 at 50 a second and 50 at once"
        assert metric(broker, "polylog_mqtt_throttled_total") >= 1


@suite.case("redirection: 0x9C and 0x9D with the server's name, 3.1.1 unavailable")
def redirection():
    for own, code in (("mqtt.redirect=b.example.org:1883", 0x9C),
                      ("mqtt.redirect=b.example.org:1883 mqtt.redirect_permanent=true", 0x9D)):
        with Broker(listeners={"mqtt": own}) as broker:
            body = RawClient(broker, "c", level=5).connack[1]
            equal(body[1], code, "CONNACK")
            assert b"\x1c" + text("b.example.org:1883") in body, body
            equal(RawClient(broker, "c", level=4).connack[1], b"\0\x03", "CONNACK of 3.1.1")


# ---- Sparkplug


@suite.case("Sparkplug: birth certificates are retained under their names, over kill -9, and nothing else is")
def sparkplug():
    with Broker() as broker:
        host = PahoClient(broker, "host").subscribe("$sparkplug/certificates/#", 1)
        node = PahoClient(broker, "node")
        for topic, payload in (("spBv1.0/G/NBIRTH/N", b"old"), ("spBv1.0/G/NBIRTH/N", b"node"),
                               ("spBv1.0/G/DBIRTH/N/D", b"device"), ("spBv1.0/G/NDATA/N", b"data"),
                               ("spBv1.0/G/NDEATH/N", b"dead"), ("spBv1.0/G/NBIRTH/N/x", b"no"),
                               ("spAv1.0/G/NBIRTH/N", b"no")):
            node.publish(topic, payload, 0 if payload == b"device" else 1)
        wanted = {("$sparkplug/certificates/spBv1.0/G/NBIRTH/N", b"node"),
                  ("$sparkplug/certificates/spBv1.0/G/DBIRTH/N/D", b"device")}
        host.expect(3)
        node.publish("spBv1.0/G/NBIRTH/end", b"end", 1)
        equal([m.payload for m in host.expect(4)], [b"old", b"node", b"device", b"end"], "live")
        broker.restart()
        late = PahoClient(broker, "late").subscribe("$sparkplug/certificates/spBv1.0/G/+/N/#", 1)
        equal({(m.topic, m.payload) for m in late.expect(2)}, wanted, "certificates")
        equal([bool(m.retain) for m in late.seen], [True, True], "retain flag")
        all_of_it = PahoClient(broker, "all").subscribe("#", 1)
        PahoClient(broker, "sender").publish("end", b"", 1)
        equal([m.topic for m in all_of_it.expect(1)], ["end"], "nothing is retained as it was published")
        raw = RawClient(broker, "c", level=5)
        raw.send(0x32, text("$sparkplug/certificates/x") + b"\0\x09\0" + b"x")
        equal(raw.read(), (0x40, b"\0\x09\x90"), "PUBACK: topic name invalid")


@suite.case("Sparkplug: certificates reach who may read them, where rules deny everything else")
def sparkplug_rules():
    with Broker(["auth.default=deny"]) as broker:
        polylog(broker, "acl", "create", "allow", "*", "read", "$sparkplug")
        polylog(broker, "acl", "create", "allow", "*", "write", "spBv1.0")
        host = PahoClient(broker, "host").subscribe("$sparkplug/certificates/#", 1)
        PahoClient(broker, "node").publish("spBv1.0/G/NBIRTH/N", b"node", 1)
        equal([m.payload for m in host.expect(1)], [b"node"], "live")
        client = RawClient(broker, "c", level=5)
        equal(client.subscribe("spBv1.0/#", 1), 0x87, "SUBACK: what it was published as")


# ---- who is connected, who is kept out


def polylog(broker, *arguments, status=0):
    done = subprocess.run([BINARY, *arguments, "--admin", broker.admin], capture_output=True, text=True,
                          timeout=30)
    equal(done.returncode, status, f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def clients(broker, query=""):
    with urllib.request.urlopen(f"{broker.admin}/api/clients{query}", timeout=10) as answer:
        return json.load(answer)


def connack_of(broker, client_id, level=5):
    return RawClient(broker, client_id, level=level).connack[1][1]


@suite.case("clients of every protocol are listed in pages, with what waits for them, and kicked")
def client_list():
    import kafka
    import pika
    with Broker() as broker:
        reader = RawClient(broker, "reader", level=5, clean=False, expiry=600)
        reader.subscribe("t/#", 1)
        sender = PahoClient(broker, "sender")
        for number in range(5):
            sender.publish("t/x", b"%d" % number, 1)
        reader.publishes(5)
        consumer = kafka.KafkaConsumer("t", bootstrap_servers=broker.kafka, client_id="kafka-client")
        consumer.topics()
        queue = pika.BlockingConnection(pika.ConnectionParameters(
            port=broker.amqp, client_properties={"connection_name": "amqp-client"}))
        everybody = {c["client_id"]: c for c in clients(broker)["clients"]}
        equal({name: (c["protocol"], c["version"]) for name, c in everybody.items()
               if name in ("reader", "kafka-client", "amqp-client")},
              {"reader": ("mqtt", "5.0"), "kafka-client": ("kafka", ""),
               "amqp-client": ("amqp", "0-9-1")}, "protocols")
        mine = everybody["reader"]
        equal((mine["waiting"], mine["in_flight"]), (5, 5), "backlog")
        assert abs(mine["connected_ms"] / 1000 - time.time()) < 60 and mine["peer"], mine
        pages, after = [], 0
        while after is not None:
            page = clients(broker, f"?limit=2&after={after}")
            assert len(page["clients"]) <= 2, page
            pages += [c["id"] for c in page["clients"]]
            after = page.get("next")
        equal(pages, sorted(pages), "order of pages")
        assert {c["id"] for c in everybody.values() if c["protocol"] != "kafka"} <= set(pages), pages
        assert "reader" in polylog(broker, "client", "list", "--client-id", "reader")
        polylog(broker, "client", "kick", "reader")
        first, body = reader.read()
        equal((first, body[0]), (0xE0, 0x98), "DISCONNECT: administrative action")
        polylog(broker, "client", "kick", "reader", status=1)
        back = RawClient(broker, "reader", level=5, clean=False, expiry=600)
        equal(back.connack[1][0], 1, "session present")
        polylog(broker, "client", "kick", "amqp-client")
        try:
            while True:
                queue.process_data_events(1)
        except pika.exceptions.ConnectionClosedByBroker as closed:
            equal(closed.reply_code, 320, "connection forced")
        consumer.close()


@suite.case("a subscriber that lets messages wait is listed, with how long")
def slow_subscribers():
    with Broker() as broker:
        slow = RawClient(broker, "slow", level=5, properties=b"\x21\0\x01")  # receive maximum 1
        slow.subscribe("t/#", 1)
        sender = PahoClient(broker, "sender")
        quick = PahoClient(broker, "quick").subscribe("t/#", 1)
        for number in range(2):
            sender.publish("t/x", b"%d" % number, 1)
        quick.expect(2)
        identifier = slow.publishes(1)[0][2]
        time.sleep(0.8)  # is what is measured
        slow.ack(identifier)
        slow.publishes(1)
        with urllib.request.urlopen(f"{broker.admin}/api/slow_subscribers", timeout=10) as answer:
            listed = json.load(answer)["slow_subscribers"]
        equal([each["client_id"] for each in listed], ["slow"], "listed")
        assert 800 <= listed[0]["waited_ms"] < 20_000, listed
        assert "slow" in polylog(broker, "client", "slow")
        assert metric(broker, "polylog_slow_deliveries_total") >= 1


@suite.case("traces: a client's packets, or a topic's, into a file; bounded; without payloads unless asked")
def traces():
    with Broker() as broker:
        polylog(broker, "trace", "start", "one", "client_id", "traced")
        polylog(broker, "trace", "start", "topic", "topic", "t/#", "--payload")
        polylog(broker, "trace", "start", "small", "address", "127.0.0.0/8", "--max-bytes", "1024")
        polylog(broker, "trace", "start", "one", "client_id", "again", status=1)
        polylog(broker, "trace", "start", "../x", "client_id", "c", status=1)
        client = PahoClient(broker, "traced").subscribe("t/#", 1)
        PahoClient(broker, "other").publish("t/x", b"secret", 1)
        client.expect(1)
        wait_until(lambda: "PUBACK" in trace_text(broker, "one"), 10, "the acknowledgement")
        client.close()
        wait_until(lambda: "DISCONNECT" in trace_text(broker, "one"), 10, "the end")
        words = [line.split()[3:5] for line in trace_text(broker, "one").splitlines()]
        equal([" ".join(pair) for pair in words],
              ["-> CONNECT", "<- CONNACK", "-> SUBSCRIBE", "<- SUBACK", "<- PUBLISH", "-> PUBACK",
               "-> DISCONNECT"], "the conversation")
        assert "secret" not in trace_text(broker, "one") and "other" not in trace_text(broker, "one")
        lines = trace_text(broker, "topic").splitlines()
        equal([line.split()[2:5] for line in lines],
              [["other", "->", "PUBLISH"], ["traced", "<-", "PUBLISH"]], "of the topic")
        assert all(line.endswith("6 octets: secret") for line in lines), lines
        equal(os.stat(f"{broker.data}/traces/one.trace").st_mode & 0o777, 0o600, "mode")
        for number in range(20):
            PahoClient(broker, f"more{number}").close()
        assert len(trace_text(broker, "small")) <= 1024
        polylog(broker, "trace", "stop", "one")
        polylog(broker, "trace", "stop", "one", status=1)
        assert "small" in polylog(broker, "trace", "list")


def trace_text(broker, name):
    with open(f"{broker.data}/traces/{name}.trace") as file:
        return file.read()


@suite.case("bans: by client id, user and address, MQTT 0x8A, over kill -9, until they run out")
def bans():
    with Broker() as broker:
        there = RawClient(broker, "bad", level=5)
        polylog(broker, "ban", "add", "client_id", "bad", "--reason", "too loud")
        first, body = there.read()
        equal((first, body[0]), (0xE0, 0x98), "DISCONNECT: an administrative action (0x8A is for CONNACK alone)")
        equal(connack_of(broker, "bad"), 0x8A, "CONNACK: banned")
        equal(connack_of(broker, "bad", 4), 5, "CONNACK of 3.1.1: not authorized")
        equal(connack_of(broker, "good"), 0, "others")
        polylog(broker, "ban", "add", "client_id", "short", "--seconds", "1")
        equal(connack_of(broker, "short"), 0x8A, "CONNACK")
        wait_until(lambda: connack_of(broker, "short") == 0, 10, "the end of it")
        broker.restart()
        equal(connack_of(broker, "bad"), 0x8A, "CONNACK after kill -9")
        assert "too loud" in polylog(broker, "ban", "list")
        polylog(broker, "ban", "remove", "client_id", "bad")
        polylog(broker, "ban", "remove", "client_id", "bad", status=1)
        equal(connack_of(broker, "bad"), 0, "let in again")
        polylog(broker, "ban", "add", "address", "127.0.0.1/8", status=1)
        polylog(broker, "ban", "add", "address", "127.0.0.0/8")
        equal(connack_of(broker, "good"), 0x8A, "CONNACK by address")
        polylog(broker, "ban", "remove", "address", "127.0.0.0/8")
        assert metric(broker, "polylog_clients_banned_total") >= 2


@suite.case("bans: Kafka and AMQP clients by address and by user")
def bans_elsewhere():
    import kafka
    import pika
    with Broker() as broker:
        def amqp(user="guest", password="guest"):
            credentials = pika.PlainCredentials(user, password)
            try:
                pika.BlockingConnection(pika.ConnectionParameters(
                    port=broker.amqp, credentials=credentials)).close()
            except pika.exceptions.AMQPConnectionError as refused:
                return 530 if "530" in repr(refused) else repr(refused)
            return 0

        def kafka_in():
            try:
                kafka.KafkaConsumer(bootstrap_servers=broker.kafka, api_version_auto_timeout_ms=2000).close()
            except kafka.errors.KafkaError:  # which one hangs on what it was asking
                return False
            return True

        equal((amqp(), kafka_in()), (0, True), "before")
        polylog(broker, "ban", "add", "address", "127.0.0.1")
        equal((amqp(), kafka_in()), (530, False), "banned")
        polylog(broker, "ban", "remove", "address", "127.0.0.1")
        equal((amqp(), kafka_in()), (0, True), "after")
        # A user: first banned, then made, since the admin listener is the users' from then on.
        polylog(broker, "ban", "add", "user", "mallory")
        subprocess.run([BINARY, "user", "create", "mallory", "--admin", broker.admin], input="secret",
                       text=True, check=True, timeout=30)
        equal(amqp("mallory", "secret"), 530, "AMQP, not allowed")
        client = subprocess.run(["mosquitto_pub", "-p", str(broker.mqtt), "-V", "5", "-u", "mallory", "-P",
                                 "secret", "-t", "t", "-m", "x"], capture_output=True, timeout=30)
        assert client.returncode != 0 and b"anned" in client.stderr, client.stderr


@suite.case("flapping: who connects too often is banned for a while")
def flapping():
    with Broker(["flapping.max_connects=5", "flapping.window_s=60", "flapping.ban_s=2"]) as broker:
        codes = [connack_of(broker, "restless") for _ in range(5)]
        equal(codes, [0] * 5, "CONNACK")
        connack_of(broker, "restless")
        wait_until(lambda: connack_of(broker, "restless") == 0x8A, 10, "the ban")
        equal(connack_of(broker, "calm"), 0, "others")
        assert "flapping" in polylog(broker, "ban", "list")
        wait_until(lambda: connack_of(broker, "restless") == 0, 10, "its end")


if __name__ == "__main__":
    sys.exit(suite.run())
