#!/usr/bin/python3
"""Bridges: Polylog as a client of Debian's mosquitto, of another Polylog, and mosquitto as one of Polylog's."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import confluent_kafka
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from lib import amqp_clients, kafka_clients
from lib.broker import BINARY, Broker
from lib.cases import Suite, equal, wait_until
from lib.certificates import Authority
from lib.mosquitto import Mosquitto
from lib.mqtt_clients import PahoClient
from lib.ports import free_port
from lib.sample import Sample

suite = Suite("mqtt_bridge")

VERSIONS = ("5", "3.1.1")


def bridge(remote, *topics, version="5", name="north", protocol="mqtt", **keys):
    """--set of one bridge; a key's underscores of two stand for a dot."""
    prefix = f"bridges.{name}."
    settings = [f"{prefix}address={protocol}=127.0.0.1:{remote if isinstance(remote, int) else remote.mqtt}",
                f"{prefix}topics={','.join(topics)}", f"{prefix}version={version}",
                f"{prefix}reconnect.min_ms=50", f"{prefix}reconnect.max_ms=400"]
    return settings + [f"{prefix}{key.replace('__', '.')}={value}" for key, value in keys.items()]


def status(broker, name="north", env=None):
    done = subprocess.run([BINARY, "bridge", "list", "--json", "--admin", broker.admin],
                          stdout=subprocess.PIPE, check=True, timeout=30, env=env)
    return {each["name"]: each for each in json.loads(done.stdout)["bridges"]}[name]


def up(broker, name="north"):
    return wait_until(lambda: status(broker, name)["state"] == "connected" and status(broker, name), 30,
                      f"the bridge {name}")


def drained(broker, name="north"):
    wait_until(lambda: status(broker, name)["waiting"] == 0, 60, "an empty backlog")


def payloads(messages):
    return [message.payload for message in messages]


def numbers(messages):
    return [int(message.payload) for message in messages]


class Sub(PahoClient):
    """Subscribed, in a session that outlives the connection."""

    def __init__(self, broker, topic, qos=2, client_id="watcher", **options):
        super().__init__(broker, client_id, clean=False, expiry=3600)
        self.subscribe(topic, qos, **options)


def silence(client, count, seconds=0.5):
    """That nothing more comes can't be waited for."""
    time.sleep(seconds)
    equal(len(client.seen), count, "messages after a moment")


def each_version(title):
    def register(function):
        for version in VERSIONS:
            suite.add(f"{title} ({version})", lambda version=version: function(version))
        return function

    return register


def by_name(messages, prefix):
    """Of 0 to 29, n was published to PREFIX(n % 3) at QoS n % 3: in order at each name."""
    for each in range(3):
        equal([(int(m.payload), m.qos) for m in messages if m.topic == f"{prefix}{each}"],
              [(n, n % 3) for n in range(each, 30, 3)], f"at {prefix}{each}")


@each_version("out: every QoS, prefixes, in order; what isn't named stays")
def outwards(version):
    with Mosquitto() as remote:
        with Broker(bridge(remote, "t/# out 2 here/ there/", "plain out 1", version=version)) as broker:
            up(broker)
            watcher = Sub(remote, "#")
            sender = PahoClient(broker, "sender")
            for number in range(30):
                sender.publish(f"here/t/{number % 3}", b"%d" % number, number % 3)
            sender.publish("plain", b"p", 2)
            sender.publish("plain/below", b"x", 1)
            sender.publish("there/t/0", b"x", 1)
            messages = watcher.expect(31)
            by_name(messages, "there/t/")
            equal([m.qos for m in messages if m.topic == "plain"], [1], "the QoS is the topic's at most")
            silence(watcher, 31)
            drained(broker)
            equal(status(broker)["sent"], 31, "sent")


@each_version("in: every QoS, prefixes, to clients of MQTT, Kafka and AMQP")
def inwards(version):
    with Mosquitto() as remote:
        with Broker(bridge(remote, "t/# in 2 here/ there/", version=version)) as broker:
            up(broker)
            watcher = Sub(broker, "#")
            sender = PahoClient(remote, "sender")
            for number in range(30):
                sender.publish(f"there/t/{number % 3}", b"%d" % number, number % 3)
            sender.publish("elsewhere/t", b"x", 1)
            messages = watcher.expect(30)
            by_name(messages, "here/t/")
            silence(watcher, 30)
            equal(sorted(int(value) for _, value in records_of(broker, "here")), list(range(30)),
                  "records that a Kafka client reads")
            equal(status(broker)["received"], 30, "received")


@suite.case("what Kafka and AMQP clients write goes out as well")
def other_protocols():
    with Mosquitto() as remote, Broker(bridge(remote, "mix/# out 1")) as broker:
        up(broker)
        watcher = Sub(remote, "mix/#")
        kafka_clients.ConfluentPub.publish(broker, "mix", [Sample("", b"k", b"1")])
        amqp_clients.PikaPub.publish(broker, "mix", [Sample("", b"a", b"2")])
        equal(sorted((m.topic, m.payload) for m in watcher.expect(2)), [("mix/a", b"2"), ("mix/k", b"1")],
              "messages")


@each_version("both ways by one name: once on each side, no echo")
def no_loop(version):
    with Mosquitto() as remote:
        with Broker(bridge(remote, "shared/# both 2", version=version)) as broker:
            up(broker)
            here, there = Sub(broker, "shared/#"), Sub(remote, "shared/#", client_id="other")
            ours, theirs = PahoClient(broker, "ours"), PahoClient(remote, "theirs")
            for number in range(9):
                ours.publish("shared/a", b"o%d" % number, number % 3)
                theirs.publish("shared/b", b"t%d" % number, number % 3)
            expected = sorted([b"o%d" % n for n in range(9)] + [b"t%d" % n for n in range(9)])
            for side in (here, there):
                equal(sorted(payloads(side.expect(18))), expected, "messages")
                silence(side, 18)


@each_version("one bridge between two Polylogs, both ways: once on each side; retained, QoS 2 over kill -9 of the remote")
def between_polylogs(version):
    with Broker() as remote, Broker(bridge(remote, "shared/# both 2", version=version)) as broker:
        up(broker)
        here, there = Sub(broker, "shared/#"), Sub(remote, "shared/#", client_id="other")
        ours, theirs = PahoClient(broker, "ours"), PahoClient(remote, "theirs")
        ours.publish("shared/a", b"o", 2, retain=True)
        theirs.publish("shared/b", b"t", 2)
        for side in (here, there):
            equal(sorted(payloads(side.expect(2))), [b"o", b"t"], "messages")
            silence(side, 2)
        wait_until(lambda: retained_of(remote, "shared/a", 1), 20, "retained over the bridge")
        there.close(), theirs.close()
        for number in range(400):
            ours.client.publish("shared/x", b"%d" % number, 2)
            if number == 200:
                remote.kill()
        remote.start()
        drained(broker)
        equal([int(value) for name, value in records_of(remote, "shared") if name == b"x"], list(range(400)),
              "exactly once, in order")


@suite.case("two Polylogs with a bridge to each other settle")
def two_bridges():
    ports = free_port(), free_port()
    first = Broker(bridge(ports[1], "shared/# both 1"))
    second = Broker(bridge(ports[0], "shared/# both 1"))
    first.ports["mqtt"], second.ports["mqtt"] = ports
    with first, second:
        up(first), up(second)
        watchers = [Sub(first, "shared/#"), Sub(second, "shared/#")]
        sender = PahoClient(first, "sender")
        for number in range(10):
            sender.publish("shared/x", b"%d" % number, 1)
        for watcher in watchers:
            watcher.expect(10)
        drained(first), drained(second)
        time.sleep(1)
        for watcher in watchers:
            counts = {n: numbers(watcher.seen).count(n) for n in range(10)}
            assert all(1 <= count <= 3 for count in counts.values()), counts
        before = [len(watcher.seen) for watcher in watchers]
        time.sleep(1)
        equal([len(watcher.seen) for watcher in watchers], before, "messages a second later")


@each_version("the remote is down for a while: nothing is lost, in order")
def remote_down(version):
    remote = Mosquitto().start()
    with Broker(bridge(remote, "t/# both 1", version=version)) as broker:
        up(broker)
        watcher = Sub(remote, "t/#", 1)
        watcher.close()
        remote.kill()
        wait_until(lambda: status(broker)["state"] != "connected", 20, "the loss")
        sender = PahoClient(broker, "sender")
        for number in range(500):
            sender.publish("t/x", b"%d" % number, 1)
        told = wait_until(lambda: status(broker)["last_error"] and status(broker), 20)
        assert told["waiting"] >= 500 and "can't connect" in told["last_error"], told
        broker.restart()  # by kill -9: what waits is still there
        remote.start()
        watcher = PahoClient(remote, "watcher", clean=False, expiry=3600)
        up(broker)
        equal(numbers(watcher.expect(500)), list(range(500)), "what came")
        drained(broker)
        # And the other way: what comes there while the bridge is away waits there.
        broker.kill()
        theirs = PahoClient(remote, "theirs")
        for number in range(200):
            theirs.publish("t/y", b"%d" % number, 1)
        broker.start()
        here = Sub(broker, "t/y", 1, client_id="here")
        kept = wait_until(lambda: status(broker)["received"] >= 200 and status(broker), 30)
        equal(kept["dropped"], 0, "dropped")
        equal(kafka_values(broker, "t", b"y"), list(range(200)), "what came in")
        here.close()
    remote.kill()


def records_of(broker, topic):
    """(key, value) of all that the topic has, by a Kafka client."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "reader",
                                         "enable.auto.commit": False})
    partition = confluent_kafka.TopicPartition(topic, 0, 0)
    _, end = consumer.get_watermark_offsets(partition, timeout=20)
    consumer.assign([partition])
    found = []
    while len(found) < end:
        record = consumer.poll(20)
        assert record is not None and record.error() is None, record
        found.append((record.key(), record.value()))
    consumer.close()
    return found


def kafka_values(broker, topic, key):
    return [int(value) for name, value in records_of(broker, topic) if name == key]


class Stream:
    """Publishes numbers one after the other, again what wasn't acknowledged, until told to end."""

    def __init__(self, broker, topic, qos):
        self.client = paho.Client("streamer", clean_session=False)
        self.client.max_inflight_messages_set(20)
        self.client.max_queued_messages_set(0)
        self.client.reconnect_delay_set(0.05, 0.2)
        self.acknowledged = set()
        self.client.on_publish = lambda _client, _userdata, mid: self.acknowledged.add(mid)
        self.client.connect("127.0.0.1", broker.mqtt)
        self.client.loop_start()
        self.topic, self.qos, self.sent, self.ended = topic, qos, [], False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.ended:
            self.sent.append(self.client.publish(self.topic, b"%d" % len(self.sent), self.qos).mid)
            time.sleep(0.001)

    def finish(self):
        self.ended = True
        self.thread.join()
        wait_until(lambda: len(self.acknowledged) == len(self.sent), 60, "all acknowledgements")
        self.client.disconnect()
        self.client.loop_stop()
        return len(self.sent)


def kill_in_stream(version, qos, inward):
    """kill -9 of the broker with the bridge, thrice, while messages flow."""
    with Mosquitto() as remote:
        direction = "in" if inward else "out"
        with Broker(bridge(remote, f"t/# {direction} {qos}", version=version)) as broker:
            up(broker)
            source, target = (remote, broker) if inward else (broker, remote)
            watcher = None if inward else Sub(target, "t/#", qos)
            stream = Stream(source, "t/x", qos)
            for _ in range(3):
                count = len(stream.sent)
                wait_until(lambda count=count: len(stream.sent) > count + 300, 30)
                broker.restart()
            up(broker)
            total = stream.finish()
            if inward:
                wait_until(lambda: set(kafka_values(broker, "t", b"x")) == set(range(total)), 30, "all messages")
                came, sent = kafka_values(broker, "t", b"x"), list(range(total))
            else:
                drained(broker)
                # What the publisher repeated when it lost its broker stands in the log twice.
                sent = kafka_values(broker, "t", b"x")
                equal(set(sent), set(range(total)), "messages in the log")
                wait_until(lambda: len(watcher.seen) >= len(sent), 30, "all messages")
                came = numbers(watcher.seen)
            if qos == 2:
                equal(came, sent, "exactly once, in order")
            else:
                equal(list(dict.fromkeys(came)), list(dict.fromkeys(sent)), "in order but for repeats")


for each_qos in (1, 2):
    for way in (False, True):
        for each in VERSIONS:
            name = "in" if way else "out"
            what = "exactly once" if each_qos == 2 else "nothing lost"
            suite.add(f"kill -9 in the middle of a stream, {name}, QoS {each_qos}: {what} ({each})",
                      lambda v=each, q=each_qos, w=way: kill_in_stream(v, q, w))


@each_version("the remote ends and comes back with its persistence, in the middle of a stream: exactly once")
def remote_restarts(version):
    with Mosquitto() as remote:
        with Broker(bridge(remote, "t/# out 2", version=version)) as broker:
            up(broker)
            Sub(remote, "t/#", 2).close()
            stream = Stream(broker, "t/x", 2)
            for _ in range(2):
                count = len(stream.sent)
                wait_until(lambda count=count: len(stream.sent) > count + 300, 30)
                remote.restart()
            total = stream.finish()
            up(broker)
            drained(broker)
            watcher = PahoClient(remote, "watcher", clean=False, expiry=3600)
            equal(numbers(watcher.expect(total)), list(range(total)), "exactly once, in order")
            silence(watcher, total)


@suite.case("a remote that has lost everything gets what it hadn't acknowledged, and what is retained")
def remote_forgets():
    remote = Mosquitto(more="persistence false\n").start()
    with Broker(bridge(remote, "t/# both 2")) as broker:
        up(broker)
        sender = PahoClient(broker, "sender")
        sender.publish("t/kept", b"r", 1, retain=True)
        drained(broker)
        remote.crash()
        sender.publish("t/x", b"1", 2)
        remote.start()
        watcher = Sub(remote, "t/#")
        up(broker)
        wait_until(lambda: {b"r", b"1"} <= set(payloads(watcher.seen)), 20, "both")
        theirs = PahoClient(remote, "theirs")
        here = Sub(broker, "t/y", client_id="here")
        theirs.publish("t/y", b"2", 2)
        equal(payloads(here.expect(1)), [b"2"], "the subscription there was made again")
    remote.kill()


@each_version("retained messages, both ways, with their flag, and cleared")
def retained(version):
    with Mosquitto() as remote:
        PahoClient(remote, "early").publish("r/there", b"t", 1, retain=True)
        broker = Broker().start()
        PahoClient(broker, "early").publish("r/here", b"h", 1, retain=True)
        broker.kill()
        broker.settings = bridge(remote, "r/# both 1", version=version)
        with broker:
            up(broker)
            for side in (broker, remote):
                late = PahoClient(side, "late")
                wait = wait_until(lambda side=side: retained_of(side, "r/#", 2), 20, "retained")
                equal(wait, {"r/there": b"t", "r/here": b"h"}, "retained")
                late.close()
            PahoClient(broker, "clearing").publish("r/there", b"", 1, retain=True)
            wait_until(lambda: retained_of(remote, "r/#", 1) == {"r/here": b"h"}, 20, "cleared")


def retained_of(side, topic, count):
    client = PahoClient(side, "retained-reader")
    client.subscribe(topic, 1)
    done = wait_quietly(lambda: len(client.seen) >= count)
    seen = {m.topic: m.payload for m in client.seen if m.retain}
    client.close()
    return seen if done and len(seen) == count else None


def wait_quietly(condition, seconds=0.3):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            time.sleep(0.05)
            return True
        time.sleep(0.01)
    return condition()


@suite.case("MQTT 5 properties travel both ways; the expiry is what remains")
def properties():
    with Mosquitto() as remote, Broker(bridge(remote, "p/# both 1")) as broker:
        up(broker)
        for source, target in ((broker, remote), (remote, broker)):
            watcher = Sub(target, "p/#", 1, client_id="props")
            sent = Properties(PacketTypes.PUBLISH)
            sent.ContentType = "text/plain"
            sent.ResponseTopic = "answers/here"
            sent.CorrelationData = b"\x00\x01"
            sent.UserProperty = [("a", "1"), ("a", "2"), ("b", "")]
            sent.PayloadFormatIndicator = 1
            sent.MessageExpiryInterval = 100
            PahoClient(source, "props-sender").publish("p/x", b"v", 1, properties=sent)
            got = watcher.expect(1)[0].properties
            equal((got.ContentType, got.ResponseTopic, got.CorrelationData, got.PayloadFormatIndicator),
                  ("text/plain", "answers/here", b"\x00\x01", 1), "properties")
            equal([pair for pair in got.UserProperty if pair[0] != "polylog-bridge"],
                  [("a", "1"), ("a", "2"), ("b", "")], "user properties")
            assert 90 <= got.MessageExpiryInterval <= 100, got.MessageExpiryInterval
            watcher.close()


@suite.case("over TLS with a client certificate; another CA or another name is refused, and told")
def tls():
    authority, stranger = Authority(), Authority("Stranger")
    server = authority.issue("server", "/CN=remote", "IP:127.0.0.1,DNS:localhost")
    elsewhere = authority.issue("elsewhere", "/CN=elsewhere", "DNS:elsewhere.example")
    mine = authority.issue("bridge", "/CN=bridge")

    def listener(certificate):
        return (f"cafile {authority.ca}\ncertfile {certificate.file}\nkeyfile {certificate.key}\n"
                "require_certificate true\nuse_identity_as_username true\n")

    login = {"tls__certificate": mine.file, "tls__key": mine.key}
    with Mosquitto(listener=listener(server), more=f"listener {(plain := free_port())} 127.0.0.1") as remote:
        keys = {"protocol": "mqtts", "tls__ca": authority.ca, **login}
        with Broker(bridge(remote, "t/# both 1", **keys)) as broker:
            up(broker)
            remote.mqtt, secure = plain, remote.mqtt
            watcher = Sub(remote, "t/#")
            PahoClient(broker, "sender").publish("t/x", b"1" * 100_000, 1)
            equal(len(watcher.expect(1)[0].payload), 100_000, "octets")
            remote.mqtt = secure
        keys["tls__ca"] = stranger.ca
        with Broker(bridge(remote, "t/# both 1", **keys)) as broker:
            failure(broker, "certificate")
        without = {"protocol": "mqtts", "tls__ca": authority.ca}
        with Broker(bridge(remote, "t/# both 1", **without)) as broker:
            failure(broker, "certificate")
    with Mosquitto(listener=listener(elsewhere)) as remote:
        keys = {"protocol": "mqtts", "tls__ca": authority.ca, **login}
        with Broker(bridge(remote, "t/# both 1", **keys)) as broker:
            failure(broker, "mismatch")
        with Broker(bridge(remote, "t/# both 1", tls__verify_host="false", **keys)) as broker:
            up(broker)


def failure(broker, text):
    return wait_until(lambda: text in status(broker)["last_error"] and status(broker), 20, f"`{text}`")


@suite.case("user and password from a file; a wrong one is told with the key, a right one put there later is taken")
def password():
    with tempfile.TemporaryDirectory() as folder:
        users, secret = os.path.join(folder, "users"), os.path.join(folder, "secret")
        subprocess.run(["mosquitto_passwd", "-b", "-c", users, "edge", "right"], check=True)
        os.chmod(users, 0o644)
        os.chmod(folder, 0o755)
        with open(secret, "w") as file:
            file.write("wrong\n")
        with Mosquitto(more=f"password_file {users}") as remote:
            for version in VERSIONS:
                with open(secret, "w") as file:
                    file.write("wrong\n")
                settings = bridge(remote, "t/# both 1", version=version, user="edge", password_file=secret)
                with Broker(settings) as broker:
                    failure(broker, "bridges.north.user" if version == "3.1.1" else "bridges.north.")
                    with open(secret, "w") as file:
                        file.write("right\n")
                    up(broker)


@suite.case("the local user's rights hold for what is published and what is read")
def local_user():
    with Mosquitto() as remote:
        with Broker(bridge(remote, "t/# both 1", local_user="edge")) as broker:
            up(broker)
            root = {**os.environ, "POLYLOG_USER": "root", "POLYLOG_PASSWORD": "secret"}

            def polylog(*arguments, env=root):
                subprocess.run([BINARY, *arguments, "--admin", broker.admin], input="secret\n", text=True,
                               check=True, env=env, stdout=subprocess.PIPE)

            here, there = Sub(broker, "t/#"), Sub(remote, "t/#", client_id="other")
            ours, theirs = PahoClient(broker, "ours"), PahoClient(remote, "theirs")
            polylog("user", "create", "root", env=dict(os.environ))
            for operation in ("read", "write"):
                polylog("acl", "create", "deny", "edge", operation, f"t/no-{operation}/#", "--pattern", "filter")
            for name in ("t/no-read/x", "t/no-write/x", "t/yes"):
                ours.publish(name, b"o", 1)
                theirs.publish(name, b"t", 1)
            equal(sorted((m.topic, m.payload) for m in there.expect(5)),
                  sorted([("t/no-read/x", b"t"), ("t/no-write/x", b"t"), ("t/yes", b"t"),
                          ("t/no-write/x", b"o"), ("t/yes", b"o")]), "there")
            equal(sorted((m.topic, m.payload) for m in here.expect(5)),
                  sorted([("t/no-read/x", b"o"), ("t/no-write/x", b"o"), ("t/yes", b"o"),
                          ("t/no-read/x", b"t"), ("t/yes", b"t")]), "here")
            silence(here, 5), silence(there, 5)
            theirs.publish("t/no-write/x", b"t", 0)
            wait_until(lambda: status(broker, env=root)["refused"] == 2, what="what isn't taken at QoS 0 is counted")
            equal(status(broker, env=root)["denied"], 1, "what isn't read is counted")


@suite.case("mosquitto as the bridge: its high bit, no echo, its state below $SYS and when it has gone")
def mosquitto_bridges():
    for version in ("mqttv311", "mqttv50"):
        with Broker() as broker:
            lines = (f"connection up\naddress 127.0.0.1:{broker.mqtt}\nbridge_protocol_version {version}\n"
                     "remote_clientid mosq\ntopic shared/# both 2\ncleansession false\nnotifications true\n"
                     "restart_timeout 1\n")
            watcher = PahoClient(broker, "sys")
            watcher.subscribe("$SYS/broker/connection/+/state", 1)
            remote = Mosquitto(more=lines).start()
            equal(payloads(watcher.expect(1)), [b"1"], f"state ({version})")
            equal(watcher.seen[0].topic, "$SYS/broker/connection/mosq/state", "topic")
            here, there = Sub(broker, "shared/#"), Sub(remote, "shared/#", client_id="other")
            ours, theirs = PahoClient(broker, "ours"), PahoClient(remote, "theirs")
            ours.publish("shared/a", b"o", 2)
            theirs.publish("shared/b", b"t", 2)
            for side in (here, there):
                equal(sorted(payloads(side.expect(2))), [b"o", b"t"], "messages")
            ours.publish("shared/kept", b"k", 1, retain=True)
            there.expect(3)
            wait_until(lambda: retained_of(remote, "shared/kept", 1), 20, "retained over the bridge")
            for side in (here, there):
                silence(side, 3)
            remote.crash()
            equal(payloads(watcher.expect(2))[1], b"0", "state after a crash")


@suite.case("the state below $SYS, metrics and the list")
def told():
    remote = Mosquitto().start()
    with Broker(bridge(remote, "t/# both 1")) as broker:
        up(broker)
        watcher = PahoClient(broker, "sys")
        watcher.subscribe("$SYS/broker/connection/north/state", 1)
        equal(payloads(watcher.expect(1)), [b"1"], "state")
        remote.kill()
        equal(payloads(watcher.expect(2))[1], b"0", "state without the remote")
        table = subprocess.run([BINARY, "bridge", "list", "--admin", broker.admin], stdout=subprocess.PIPE,
                               check=True, text=True).stdout
        head, row = table.splitlines()
        at = head.index("error_at")
        assert row.startswith("north") and re.match(r"20\d\d-\d\d-\d\dT", row[at:]), table
        remote.start()
        equal(payloads(watcher.expect(3, 30))[2], b"1", "state with it again")
        with urllib.request.urlopen(broker.admin + "/metrics") as answer:
            text = answer.read().decode()
        assert 'polylog_bridge_connected{bridge="north"} 1' in text, "metrics"
    remote.kill()


@suite.case("the backlog's limit drops the oldest, counted")
def limit():
    port = free_port()
    with Broker(bridge(port, "t/# out 1") + ["mqtt.inbox.max_records=100"]) as broker:
        sender = PahoClient(broker, "sender")
        for number in range(300):
            sender.publish("t/x", b"%d" % number, 1)
        dropped = wait_until(lambda: status(broker)["dropped"] >= 190 and status(broker), 20)
        assert dropped["waiting"] <= 110, dropped
        remote = Mosquitto()
        remote.mqtt = port
        with remote:
            watcher = Sub(remote, "t/#", 1)
            came = numbers(watcher.expect(dropped["waiting"], 30))
            equal(came[-1], 299, "the newest is there")
            equal(came, list(range(300 - len(came), 300)), "the newest, in order")


@suite.case("kept across a change of the configuration: topics that go are unsubscribed on both sides")
def changed():
    with Mosquitto() as remote:
        broker = Broker(bridge(remote, "a/# both 1", "b/# both 1"))
        with broker:
            up(broker)
            broker.kill()
            broker.settings = bridge(remote, "a/# both 1")
            broker.start()
            up(broker)
            here, there = Sub(broker, "#"), Sub(remote, "#", client_id="other")
            ours, theirs = PahoClient(broker, "ours"), PahoClient(remote, "theirs")
            ours.publish("b/x", b"0", 1)
            ours.publish("a/x", b"1", 1)
            theirs.publish("b/y", b"2", 1)
            theirs.publish("a/y", b"3", 1)
            equal(sorted(payloads(here.expect(3))), [b"0", b"1", b"3"], "here")
            equal(sorted(payloads(there.expect(3))), [b"1", b"2", b"3"], "there")
            silence(here, 3), silence(there, 3)
            broker.kill()
            broker.settings = []
            broker.start()

            def told():
                with open(broker.log_path) as log:
                    return "isn't configured any more" in log.read()

            wait_until(told, 20, "the log names what is left")


@suite.case("out: topic aliases, as many as the remote broker takes")
def aliases():
    with Mosquitto() as remote, Broker(bridge(remote, "factory/# out 1")) as broker:
        up(broker)
        watcher = Sub(remote, "#")
        sender = PahoClient(broker, "sender")
        names = [f"factory/hall/{number}/temperature" for number in range(15)] * 6
        for name in names:
            sender.publish(name, b"x", 1)
        equal([message.topic for message in watcher.expect(90)], names, "names")


@suite.case("a session of its own that an operator ends begins anew on both sides")
def ended_by_operator():
    with Mosquitto() as remote, Broker(bridge(remote, "t/# both 2")) as broker:
        up(broker)
        watcher = Sub(remote, "t/#")
        sender = PahoClient(broker, "sender")
        for number in range(5):
            sender.publish("t/x", b"%d" % number, 2)
        watcher.expect(5)
        subprocess.run([BINARY, "session", "delete", "$bridge/north", "--admin", broker.admin], check=True)
        wait_until(lambda: "operator" in status(broker)["last_error"], 20, "the end")
        up(broker)
        for number in range(5, 10):
            sender.publish("t/x", b"%d" % number, 2)
        equal(numbers(watcher.expect(10)), list(range(10)), "messages")


@suite.case("a peer that isn't an MQTT broker: told, with the key, and tried again")
def not_mqtt():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                peer.recv(100)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.close()

        threading.Thread(target=answer, daemon=True).start()
        with Broker(bridge(port, "t/# both 1")) as broker:
            failure(broker, "bridges.north.address")


@suite.case("check-config tells of mistakes")
def mistakes():
    def check(*lines):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            done = subprocess.run([BINARY, "check-config", file.name], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
            return done.returncode, done.stdout

    head = ["bridges:", "  north:", "    address: mqtt=127.0.0.1:1884", "    topics:"]
    equal(check(*head, "      - a/# both 1")[0], 0, "sound")
    for lines, text in (
            ([*head, "      - a/# sideways 1"], "out, in or both"),
            ([*head, "      - a/# in 1 +/"], "without + and #"),
            ([*head, "      - a/# both 1", "      - a/+ both 1"], "overlap"),
            ([*head, "      - a/# out 1", "  south:", "    address: mqtt=127.0.0.1:1884", "    topics: a/# in 1"],
             "to the same broker"),
            (["bridges:", "  north:", "    address: mqtt=127.0.0.1:1884"], "bridges.north.topics"),
            (["bridges:", "  north:", "    topics: a out 1"], "bridges.north.address"),
            (["bridges:", "  north:", "    address: mqtt=localhost:1883", "    topics: a out 1"], "own listener"),
            (["bridges:", "  north:", "    address: http=127.0.0.1:1"], "mqtts=HOST:PORT"),
            ([*head, "      - a out 1", "    tls.ca: /nowhere"], "has no effect"),
            ([*head, "      - a out 1", "    password: x"], "`user` is missing"),
            ([*head, "      - a out 1", "    adress: x"], "did you mean")):
        code, out = check(*lines)
        assert code == 1 and text in out, (lines, code, out)


if __name__ == "__main__":
    sys.exit(suite.run())
