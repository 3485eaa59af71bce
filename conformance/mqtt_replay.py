#!/usr/bin/python3
"""Replay: a topic's stored past and then the live flow, from one log, over every way to ask for it."""

import subprocess
import sys
import threading
import time

import confluent_kafka
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from lib import amqp_clients, kafka_clients
from lib.broker import BINARY, Broker
from lib.cases import Suite, equal, wait_until
from lib.mqtt_clients import PahoClient
from lib.mqtt_raw import RawClient, text
from lib.sample import Sample

suite = Suite("mqtt_replay")


def mosquitto_sub(broker, topic, count, *options):
    """What mosquitto_sub saw, line by line: `topic payload`."""
    done = subprocess.run(
        ["mosquitto_sub", "-p", str(broker.mqtt), "-t", topic, "-C", str(count), "-W", "60",
         "-F", "%t %p", *options], stdout=subprocess.PIPE, check=True, timeout=90)
    return done.stdout.decode().splitlines()


def subscribe(client, topic, start, qos=1, **options):
    """By the user property; the reason codes and the reason string of SUBACK."""
    properties = Properties(PacketTypes.SUBSCRIBE)
    properties.UserProperty = [("polylog-replay", start)]
    seen = {}
    told = threading.Event()

    def on_subscribe(_client, _userdata, mid, codes, answer=None):
        seen[mid] = ([code.value for code in codes], getattr(answer, "ReasonString", None))
        told.set()

    before, client.client.on_subscribe = client.client.on_subscribe, on_subscribe
    _, mid = client.client.subscribe([(topic, SubscribeOptions(qos=qos, **options))],
                                     properties=properties)
    assert told.wait(20), "no SUBACK"
    client.client.on_subscribe = before
    return seen[mid]


def place(message):
    user = dict(message.properties.UserProperty)
    return int(user["polylog-partition"]), int(user["polylog-offset"]), int(user["polylog-time"])


def fill(broker, topic, count, first=0, qos=1):
    sender = PahoClient(broker, "filler")
    infos = [sender.client.publish(topic, b"%d" % n, qos) for n in range(first, first + count)]
    for info in infos:
        info.wait_for_publish(30)
    sender.publish("filler/through", b"", 1)  # what was sent at QoS 0 is in, too
    sender.close()


def values(messages):
    return [int(message.payload) for message in messages]


def mixed(broker):
    """Messages of every protocol in one topic."""
    sender = PahoClient(broker, "mqtt-publisher")
    sender.publish("mix/a", b"0", 1)
    amqp_clients.PikaPub.publish(broker, "mix", [Sample("", b"b", b"1")])
    kafka_clients.ConfluentPub.publish(broker, "mix", [Sample("", b"a", b"2"), Sample("", b"c/d", b"3")])
    sender.publish("mix/c/d", b"4", 2)
    sender.close()


@suite.case("mosquitto_sub by the prefix, of what MQTT, AMQP and Kafka clients wrote")
def prefix():
    with Broker() as broker:
        mixed(broker)
        everything = ["mix/a 0", "mix/b 1", "mix/a 2", "mix/c/d 3", "mix/c/d 4"]
        for version in ("311", "5"):
            for qos in "012":
                equal(mosquitto_sub(broker, "$replay/earliest/mix/#", 5, "-V", version, "-q", qos),
                      everything, "earliest")
        equal(mosquitto_sub(broker, "$replay/earliest/mix/+", 3), everything[:3], "one level")
        equal(mosquitto_sub(broker, "$replay/last=2/mix/#", 2), everything[-2:], "the last two")
        equal(mosquitto_sub(broker, "$replay/last=1/mix/a", 1), ["mix/a 2"], "the last of one name")
        equal(mosquitto_sub(broker, "$replay/offset=3/mix/#", 2), everything[3:], "offset")
        equal(mosquitto_sub(broker, "$replay/time=-1h/mix/#", 5), everything, "an hour")
        equal(mosquitto_sub(broker, f"$replay/time={int(time.time() * 1000) - 60_000}/mix/#", 5),
              everything, "epoch")
        equal(mosquitto_sub(broker, "$replay/earliest/#", 5), everything, "all topics")


@suite.case("an absolute time divides what was before from what came after")
def by_time():
    with Broker() as broker:
        fill(broker, "t/x", 20)
        time.sleep(0.05)
        middle = int(time.time() * 1000)
        fill(broker, "t/x", 20, 20)
        equal(mosquitto_sub(broker, f"$replay/time={middle}/t/x", 20),
              [f"t/x {n}" for n in range(20, 40)], "since then")


@suite.case("paho by the user property: places in the log, then the live flow, and on from an offset")
def property_form():
    with Broker() as broker:
        mixed(broker)
        client = PahoClient(broker, "reader")
        codes, reason = subscribe(client, "mix/#", "earliest", 2)
        equal((codes, reason), ([2], None), "SUBACK")
        messages = client.expect(5)
        equal([m.payload for m in messages], [b"0", b"1", b"2", b"3", b"4"], "payloads")
        equal([m.qos for m in messages], [1, 1, 1, 1, 2], "qos")
        equal([place(m)[:2] for m in messages], [(0, n) for n in range(5)], "places")
        assert all(abs(place(m)[2] / 1000 - time.time()) < 60 for m in messages)
        fill(broker, "mix/live", 3)
        equal([place(m)[1] for m in client.expect(8)], list(range(8)), "and the live ones")
        client.close()
        again = PahoClient(broker, "again")
        subscribe(again, "mix/#", f"offset={place(messages[3])[1] + 1}")
        equal([m.payload for m in again.expect(4)], [b"4", b"0", b"1", b"2"], "from an offset on")
        # An ordinary subscription has none of this.
        plain = PahoClient(broker, "plain").subscribe("mix/#")
        fill(broker, "mix/live", 1)
        equal(getattr(plain.expect(1)[0].properties, "UserProperty", []), [], "plain")
        equal(len(plain.seen), 1, "nothing of the past")
        again.close()
        plain.close()


@suite.case("what can't be meant is refused: 0x8F with a reason string, 0x80 in 3.1.1")
def refusals():
    with Broker() as broker:
        fill(broker, "t/x", 3)
        client = PahoClient(broker, "c")
        for topic, start, words in (("t/x", "yesterday", "must be earliest"),
                                    ("t/x", "offset=4", "offsets 0 to 2"),
                                    ("#", "offset=1", "of one topic"),
                                    ("$SYS/#", "earliest", "nothing is stored"),
                                    ("$share/g/t/x", "earliest", "shared subscription")):
            codes, reason = subscribe(client, topic, start)
            equal(codes, [0x8F], f"{start} {topic}")
            assert words in reason, reason
        equal(subscribe(client, "t/x", "earliest", noLocal=True)[0], [0x8F], "no local")
        client.close()
        old = PahoClient(broker, "old", paho.MQTTv311)
        codes = []
        told = threading.Event()
        old.client.on_subscribe = lambda _c, _u, _mid, granted: (codes.extend(granted), told.set())
        old.client.subscribe([("$replay/soon/t/x", 1), ("$replay/last=1/t/x", 1)])
        assert told.wait(20)
        equal(codes, [0x80, 1], "SUBACK of 3.1.1")
        equal(values(old.expect(1)), [2], "the other one")
        old.close()


PUBLISHER = """
import select, sys, time, paho.mqtt.client as paho
port, qos = int(sys.argv[1]), int(sys.argv[2])
client = paho.Client("fast")
client.max_inflight_messages_set(1000)
client.connect("127.0.0.1", port)
client.loop_start()
number, infos, running, pause = 0, [], True, 0
while running or number < 10000:
    infos.append(client.publish("fast/x", b"%d" % number, qos))
    number += 1
    if number == 3000: print("begun", flush=True)
    if len(infos) >= 500: infos.pop(0).wait_for_publish(30)
    if number % 100: continue
    time.sleep(pause)
    if running and select.select([sys.stdin], [], [], 0)[0]:
        running, pause = sys.stdin.readline() != "", 0.5
for info in infos: info.wait_for_publish(30)
client.publish("fast/x", b"%d" % number, max(qos, 1)).wait_for_publish(30)
print(number + 1, flush=True)
client.disconnect()
"""


def seam(broker, qos, expiry):
    """A publisher at full speed before and while a subscriber goes from past to live, and on."""
    publisher = subprocess.Popen(["/usr/bin/python3", "-c", PUBLISHER, str(broker.mqtt), str(qos)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        equal(publisher.stdout.readline(), b"begun\n", "the publisher")
        reader = PahoClient(broker, "reader", clean=False, expiry=expiry)
        subscribe(reader, "fast/#", "earliest", qos)
        reader.expect(6000, 60)
        publisher.stdin.write(b"not so fast\n")  # the reader is Python, too
        publisher.stdin.flush()
        wait_until(lambda: time.time() - place(reader.seen[-1])[2] / 1000 < 0.5, 120, "being live")
        reader.expect(len(reader.seen) + 300, 60)
    finally:
        publisher.stdin.close()  # enough
    sent = int(publisher.stdout.readline())
    publisher.wait(30)
    reader.expect(sent, 120)
    equal(values(reader.seen), list(range(sent)), "no gap, nothing twice, in order")
    reader.close()


for QOS, EXPIRY in ((0, 0), (1, 0), (1, 600), (2, 0), (2, 600)):
    suite.add(f"a publisher at full speed through the seam (QoS {QOS}, session expiry {EXPIRY})",
              lambda qos=QOS, expiry=EXPIRY: with_broker(lambda b: seam(b, qos, expiry)))


def with_broker(work):
    with Broker() as broker:
        work(broker)


@suite.case("kill -9 in mid-replay: every message at least once, each in order, on from where it was")
def crash():
    with Broker() as broker:
        count = 20_000
        fill(broker, "t/x", count)
        seen = []
        seen_by_connection = []
        for round_number in range(6):
            client = PahoClient(broker, "sleeper", clean=False, expiry=600, receive_maximum=50,
                                on_message=None)
            equal(client.session_present, round_number > 0, "session present")
            if round_number % 2 == 0:  # as clients do that subscribe at each connect
                equal(subscribe(client, "t/#", "earliest")[0], [1], "SUBACK")
            client.expect(1500, 60)
            broker.kill()
            client.drop()
            numbers = values(client.seen)
            for message in client.seen:
                equal(place(message)[1], int(message.payload), "the place")
            equal(numbers, list(range(numbers[0], numbers[0] + len(numbers))), "order")
            if seen_by_connection:
                assert numbers[0] > seen_by_connection[-1][0], "it began anew"
                assert numbers[0] <= seen_by_connection[-1][-1] + 1, "a gap"
            seen_by_connection.append(numbers)
            seen += numbers
            broker.start()
            if round_number == 3:
                fill(broker, "t/x", 100, count)  # while nobody is there
        client = PahoClient(broker, "sleeper", clean=False, expiry=600)
        wait_until(lambda: client.seen and int(client.seen[-1].payload) == count + 99, 60, "the end")
        seen += values(client.seen)
        equal(sorted(set(seen)), list(range(count + 100)), "all of them")
        client.close()


@suite.case("a replay takes little memory, and other subscribers don't wait for it")
def fairness():
    with Broker() as broker:
        sender = PahoClient(broker, "sender")
        payload = bytes(20_000)
        for _ in range(10):
            infos = [sender.client.publish("big/x", payload, 1) for _ in range(1000)]
            for info in infos:
                info.wait_for_publish(60)
        before = broker.resident_bytes()
        most = [0]
        counts = {}

        def take(name, qos, expiry):
            def on_message(_client, _userdata, _message):
                counts[name] = counts.get(name, 0) + 1

            client = PahoClient(broker, name, clean=False, expiry=expiry, on_message=on_message)
            subscribe(client, "big/#", "earliest", qos)
            return client

        readers = [take("plain", 0, 0), take("acked", 1, 0), take("kept", 1, 600)]
        # One that asks and doesn't read.
        deaf = RawClient(broker, "deaf")
        deaf.send(0x82, b"\0\1" + text("$replay/earliest/big/x") + b"\0")
        live = PahoClient(broker, "live").subscribe("ping/#", 1)
        slowest = 0
        for number in range(200):
            began = time.monotonic()
            sender.publish("ping/x", b"%d" % number, 1)
            live.expect(number + 1, 30)
            slowest = max(slowest, time.monotonic() - began)
            most[0] = max(most[0], broker.resident_bytes())
        wait_until(lambda: all(counts.get(n) == 10_000 for n in ("plain", "acked", "kept")), 120,
                   "all of 200 MB, three times")
        most[0] = max(most[0], broker.resident_bytes())
        grown = (most[0] - before) >> 20
        print(f"    {grown} MiB more; the slowest of 200 live messages took {slowest * 1000:.0f} ms")
        assert grown < 100, f"{grown} MiB"
        for client in readers:
            client.close()
        live.close()
        sender.close()
        deaf.connection.close()


@suite.case("messages that have expired aren't replayed")
def expired():
    with Broker() as broker:
        sender = PahoClient(broker, "sender")
        properties = Properties(PacketTypes.PUBLISH)
        properties.MessageExpiryInterval = 1
        sender.publish("t/x", b"gone", 1, properties=properties)
        sender.publish("t/x", b"kept", 1)
        time.sleep(1.1)
        equal(mosquitto_sub(broker, "$replay/earliest/t/x", 1), ["t/x kept"], "what is left")
        sender.close()


@suite.case("of Kafka's transactions, what was committed, when it is")
def transactions():
    with Broker() as broker:
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka,
                                             "transactional.id": "t"})
        producer.init_transactions(30)

        def send(*numbers):
            producer.begin_transaction()
            for number in numbers:
                producer.produce("tx", value=b"%d" % number, key=b"a", partition=0)
            producer.flush(30)

        send(0, 1)
        producer.commit_transaction(30)
        send(2, 3)
        producer.abort_transaction(30)
        send(4)
        client = PahoClient(broker, "c", clean=False, expiry=600)
        subscribe(client, "tx/#", "earliest")
        equal(values(client.expect(2)), [0, 1], "before the open one")
        producer.commit_transaction(30)
        equal(values(client.expect(3)), [0, 1, 4], "once it is committed")
        equal(mosquitto_sub(broker, "$replay/last=2/tx/#", 2), ["tx/a 1", "tx/a 4"], "the last two")
        client.close()


@suite.case("rules are judged for each replayed message, and for the filter")
def authorization():
    with Broker(["auth.default=deny"]) as broker:
        def polylog(*words):
            subprocess.run([BINARY, *words, "--admin", broker.admin], check=True,
                           stdout=subprocess.PIPE, timeout=30)

        polylog("acl", "create", "allow", "*", "all", "*", "--resource", "session")
        polylog("acl", "create", "allow", "*", "write", "*")
        polylog("acl", "create", "allow", "*", "read", "t/public/#", "--pattern", "filter")
        fill(broker, "t/secret/a", 5)
        fill(broker, "t/public/a", 5, 5)
        client = PahoClient(broker, "c")
        equal(subscribe(client, "t/secret/#", "earliest")[0], [0x87], "not a bit of it")
        equal(subscribe(client, "t/#", "earliest")[0], [1], "some of it")
        equal(values(client.expect(5)), list(range(5, 10)), "what may be read")
        client.close()


if __name__ == "__main__":
    sys.exit(suite.run())
