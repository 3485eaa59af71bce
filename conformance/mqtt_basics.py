#!/usr/bin/python3
"""What MQTT clients rely on: QoS, retained, wills, sessions, wildcards, windows, limits."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from lib.cases import equal, wait_until
from lib.mqtt_clients import PahoClient
from lib.mqtt_raw import RawClient
from lib.mqtt_suite import Broker, MqttSuite

suite = MqttSuite("mqtt")
for_versions = suite.for_versions


@for_versions("delivery at the lesser of the two QoS, in order")
def qos(version):
    with Broker() as broker:
        sender = PahoClient(broker, "sender", version)
        readers = [PahoClient(broker, f"reader{level}", version).subscribe("q/#", level)
                   for level in (0, 1, 2)]
        for number in range(30):
            sender.publish(f"q/{number % 3}", b"%d" % number, number % 3)
        for level, reader in enumerate(readers):
            seen = reader.expect(30)
            equal(sorted(int(m.payload) for m in seen), list(range(30)), "payloads")
            for message in seen:
                equal(message.qos, min(int(message.payload) % 3, level), "QoS")
            for sent in (0, 1, 2):
                order = [int(m.payload) for m in seen if m.topic == f"q/{sent}"]
                equal(order, sorted(order), "order")


@for_versions("wildcards match as they should, '$' topics don't")
def wildcards(version):
    with Broker() as broker:
        filters = {"#": 0, "+/b": 0, "a/+/c": 0, "a/#": 0, "a/b": 0, "/+": 0, "+": 0}
        readers = {text: PahoClient(broker, f"r{index}", version).subscribe(text, 1)
                   for index, text in enumerate(filters)}
        sender = PahoClient(broker, "sender", version)
        topics = ["a", "a/b", "a/b/c", "a/", "/x", "other", "a//c"]
        for topic in topics:
            sender.publish(topic, topic.encode(), 1)
        expected = {"#": topics, "+/b": ["a/b"], "a/+/c": ["a/b/c", "a//c"],
                    "a/#": ["a", "a/b", "a/b/c", "a/", "a//c"], "a/b": ["a/b"], "/+": ["/x"],
                    "+": ["a", "other"]}
        for text, reader in readers.items():
            equal([m.topic for m in reader.expect(len(expected[text]))], expected[text], text)


@for_versions("retained: sent to new subscribers, replaced, cleared")
def retained(version):
    with Broker() as broker:
        sender = PahoClient(broker, "sender", version)
        sender.publish("r/1", b"first", 1, True)
        sender.publish("r/2", b"second", 0, True)
        sender.publish("r/1", b"third", 2, True)
        sender.publish("r/end", b"", 1)
        reader = PahoClient(broker, "reader", version).subscribe("r/+", 1)
        equal(sorted((m.topic, m.payload, m.retain) for m in reader.expect(2)),
              [("r/1", b"third", True), ("r/2", b"second", True)], "retained")
        sender.publish("r/1", b"live", 1, True)
        equal(reader.expect(3)[2].retain, False, "retain flag of a live message")
        sender.publish("r/1", b"", 1, True)
        late = PahoClient(broker, "late", version).subscribe("r/+", 1)
        sender.publish("r/end", b"now", 1)
        equal([(m.topic, m.payload) for m in late.expect(2)],
              [("r/2", b"second"), ("r/end", b"now")], "after clearing")


@for_versions("a will is published when the connection is lost, not after DISCONNECT")
def will(version):
    with Broker() as broker:
        reader = PahoClient(broker, "reader", version).subscribe("will/#", 2)
        for client_id, polite in (("polite", True), ("rude", False)):
            client = PahoClient(broker, client_id, version,
                                will={"topic": f"will/{client_id}", "payload": b"gone", "qos": 1})
            if polite:
                client.close()
            else:
                client.drop()
        equal([(m.topic, m.payload) for m in reader.expect(1)], [("will/rude", b"gone")], "wills")


@for_versions("an idle client's connection ends after one and a half keep-alives; its will is sent")
def keep_alive(version):
    with Broker() as broker:
        reader = PahoClient(broker, "reader", version).subscribe("will/#", 1)
        began = time.monotonic()
        PahoClient(broker, "silent", version, keepalive=1, manual_start=True,
                   will={"topic": "will/silent", "payload": b"x", "qos": 1}).client.loop(0.5)
        reader.expect(1)
        passed = time.monotonic() - began
        assert 1.4 <= passed <= 7, f"after {passed:.1f} s"


@for_versions("a second connection of the same client id takes over")
def take_over(version):
    with Broker() as broker:
        first = PahoClient(broker, "same", version)
        first.client.reconnect_delay_set(60, 120)
        PahoClient(broker, "same", version)
        wait_until(lambda: first.disconnects, what="the first client's disconnection")


@suite.case("5.0: no local, retain as published, subscription identifier, retain handling")
def options():
    with Broker() as broker:
        client = PahoClient(broker, "both")
        client.publish("o/kept", b"old", 1, True)
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = 42
        from paho.mqtt.subscribeoptions import SubscribeOptions
        _, mid = client.client.subscribe(
            "o/#", options=SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True,
                                            retainHandling=2), properties=properties)
        client._wait(lambda: mid in client.acknowledged, "SUBACK")
        client.publish("o/own", b"mine", 1)
        PahoClient(broker, "sender").publish("o/x", b"theirs", 1, True)
        message = client.expect(1)[0]
        equal((message.topic, message.payload, message.retain), ("o/x", b"theirs", True), "message")
        equal(message.properties.SubscriptionIdentifier, [42], "subscription identifier")


@suite.case("5.0: message expiry: what has expired isn't delivered, what remains is passed on")
def expiry():
    with Broker() as broker:
        sleeper = PahoClient(broker, "sleeper", clean=False, expiry=600).subscribe("e/#", 1)
        sleeper.drop()
        sender = PahoClient(broker, "sender")
        for seconds, text in ((1, b"short"), (500, b"long")):
            properties = Properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = seconds
            sender.publish("e/x", text, 1, properties=properties)
        time.sleep(2.1)  # the point of the case is that time passes
        message = PahoClient(broker, "sleeper", clean=False, expiry=600).expect(1)[0]
        equal(message.payload, b"long", "the one that lives")
        assert 490 <= message.properties.MessageExpiryInterval <= 498, message.properties


@suite.case("5.0: receive maximum: a subscriber that doesn't acknowledge gets that many")
def receive_maximum():
    with Broker() as broker:
        reader = RawClient(broker, "reader", level=5, properties=b"\x21\0\x03")
        reader.subscribe("rm/#", 1)
        sender = PahoClient(broker, "sender")
        for number in range(10):
            sender.publish("rm/x", b"%d" % number, 1)
        equal([payload for *_, payload in reader.publishes(3)], [b"0", b"1", b"2"], "in flight")
        assert reader.quiet(), "more than that"
        reader.close()


@suite.case("a subscriber that doesn't read harms nobody and stays within bounds")
def silent_subscriber():
    with Broker() as broker:
        silent = RawClient(broker, "mum")
        silent.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.subscribe("b/#", 0)
        reader = PahoClient(broker, "reader").subscribe("b/#", 1)
        sender = PahoClient(broker, "sender")
        before = broker.resident_bytes()
        for number in range(300):
            sender.publish("b/x", os.urandom(1 << 18), 1)  # 75 MiB in all
        reader.expect(300, 60)
        grown = broker.resident_bytes() - before
        # The cache of verified batches may hold 64 MiB; the queue of the silent one far less.
        assert grown < 150 << 20, f"{grown >> 20} MiB more"
        silent.connection.close()


@suite.case("of a hundred subscribers one doesn't read and one doesn't acknowledge: the others get all, in "
            "order, and memory stays within bounds")
def among_a_hundred():
    count, payload = 400, os.urandom(16384)  # more than a connection's buffers take
    with Broker() as broker:
        silent = RawClient(broker, "silent", clean=False)
        silent.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy = RawClient(broker, "greedy", level=5, properties=b"\x21\0\x14", clean=False, expiry=600)
        others = [RawClient(broker, f"reader{number}", timeout=60) for number in range(98)]
        for client in (silent, greedy, *others):
            equal(client.subscribe("h/#", 1), 1, "granted")

        def read(client):
            numbers = []
            while len(numbers) < count:
                _, _, identifier, got = client.publishes(1)[0]
                client.ack(identifier)
                numbers.append(int.from_bytes(got[:4], "big"))
            return numbers

        before = broker.resident_bytes()
        with ThreadPoolExecutor(len(others)) as pool:
            reading = [pool.submit(read, client) for client in others]
            sender = PahoClient(broker, "sender")
            for number in range(count):
                sender.publish("h/x", number.to_bytes(4, "big") + payload, 1)
            for one in reading:
                equal(one.result(), list(range(count)), "what a reader got")
        grown = broker.resident_bytes() - before
        # A message is in memory once, whoever waits for it.
        assert grown < 48 << 20, f"{grown >> 20} MiB more"
        print(f"    resident memory grew by {grown >> 10} KiB; {count * len(payload) >> 10} KiB were published")
        greedy.publishes(20)
        assert greedy.quiet(), "more than its Receive Maximum"
        # Both get what they missed, from where they stopped, once they do their part.
        greedy.connection.close()
        silent.connection.close()
        for name, level, expiry in (("silent", 4, 0), ("greedy", 5, 600)):
            back = RawClient(broker, name, level=level, clean=False, expiry=expiry)
            equal(read(back), list(range(count)), f"what {name} got")
            back.close()


@suite.case("mosquitto_pub and mosquitto_sub over 3.1.1 and 5, ten thousand lines at QoS 1")
def mosquitto_lines():
    with Broker() as broker:
        for version in ("mqttv311", "mqttv5"):
            lines = "".join(f"line {number}\n" for number in range(10000))
            with tempfile.NamedTemporaryFile() as sink, open(sink.name) as output, \
                    tempfile.TemporaryFile("w+") as source:
                reader = subprocess.Popen(
                    ["stdbuf", "-oL", "mosquitto_sub", "-p", str(broker.mqtt), "-V", version, "-t",
                     "lines", "-q", "1", "-d", "-C", "10000", "-F", "REC %p"], stdout=sink)
                wait_until(lambda: output.seek(0) or "Subscribed" in output.read(), what="SUBACK")
                source.write(lines)
                source.seek(0)
                subprocess.run(["mosquitto_pub", "-p", str(broker.mqtt), "-V", version, "-t", "lines",
                                "-q", "1", "-l"], stdin=source, check=True, timeout=60)
                equal(reader.wait(60), 0, "mosquitto_sub")
                output.seek(0)
                seen = [line[4:-1] for line in output if line.startswith("REC ")]
            equal(seen, lines.splitlines(), "lines")


@suite.case("one 10 KiB QoS 1 message to 1,000 sleeping sessions costs its payload once")
def sleeping_sessions():
    with Broker() as broker:
        def connect(number):
            return RawClient(broker, f"sleeper{number}", clean=False)

        for number in range(1000):
            client = connect(number)
            equal(client.subscribe("z/#", 1), 1, "SUBACK")
            client.close()
        sender = PahoClient(broker, "sender")
        sender.publish("warm/up", b"", 1)
        payload = os.urandom(10240)
        before = broker.data_bytes()
        sender.publish("z/wake", payload, 1)
        grown = broker.data_bytes() - before
        assert grown < 100 << 10, f"the data directory grew by {grown} octets"
        print(f"    the data directory grew by {grown} octets")
        sender.client.loop_stop()
        broker.restart()
        for number in range(1000):
            client = connect(number)
            equal(client.connack, (0x20, b"\1\0"), "CONNACK, session present")
            _, _, identifier, got = client.publishes(1)[0]
            equal(got, payload, "payload")
            client.ack(identifier)
            client.connection.close()


if __name__ == "__main__":
    sys.exit(suite.run())
