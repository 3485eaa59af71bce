#!/usr/bin/python3
"""What MQTT 5 settles between one client and the broker: topic aliases towards the client, response
information, and what a payload says that it is; with npm's mqtt, paho, mosquitto_sub, and packets by hand."""

import json
import os
import subprocess
import sys

from lib.broker import ROOT, Broker
from lib.cases import Suite, equal
from lib.mqtt_clients import PahoClient
from lib.mqtt_raw import RawClient
from mqtt.properties import resolved

suite = Suite("mqtt_v5")


def aliasing(broker, name, most, **options):
    """A client that takes so many aliases and is subscribed to everything at QoS 1."""
    client = RawClient(broker, name, level=5, properties=b"\x22" + most.to_bytes(2, "big"), **options)
    client.subscribe("#", 1)
    return client


def names_of(count):
    return [f"factory/hall/{number}/temperature" for number in range(count)]


# ---- topic aliases towards the client


@suite.case("a name goes out once, then its alias in its place")
def named_once():
    with Broker() as broker:
        reader, plain = aliasing(broker, "reader", 10), RawClient(broker, "plain", level=5)
        plain.subscribe("#", 1)
        sender = PahoClient(broker, "sender")
        names = names_of(8) * 10
        for name in names:
            sender.publish(name, b"x", 1)
        came = [reader.wait(0x30) for _ in names]
        equal(resolved(came, 10), names, "names")
        equal(sum(1 for one in came if one.topic), 8, "packets with a name")
        others = [plain.wait(0x30) for _ in names]
        equal([one.topic.decode() for one in others], names, "names to who takes no aliases")
        octets = [sum(len(one.body) for one in seen) for seen in (came, others)]
        assert octets[0] < octets[1] * 0.5, octets


@suite.case("more names than aliases, of which some come again and again")
def many_names():
    with Broker() as broker:
        reader = aliasing(broker, "reader", 65535)
        sender = PahoClient(broker, "sender")
        often = names_of(10)
        names = []
        for number in range(200):
            names += [often[number % 10], f"only/once/{number}"]
        for name in names:
            sender.publish(name, b"x", 0)
        sender.publish("end", b"", 1)
        came = [reader.wait(0x30) for _ in names]
        equal(resolved(came, 32), names, "names")
        equal(sum(1 for one in came if one.topic.decode() in often), 10, "names that come again")


@suite.case("what is too large for the client, or wasn't read in time, leaves no alias unknown")
def dropped():
    with Broker(["mqtt.live.max_bytes=65536"]) as broker:
        reader = RawClient(broker, "reader", level=5, properties=b"\x22\0\x0a\x27\0\0\x40\0")
        reader.subscribe("#", 0)
        sender = PahoClient(broker, "sender")
        names = names_of(20)
        for number in range(4000):  # more than sockets and the broker keep
            sender.publish(names[number % 20], b"x" * (16_300 + number % 100), 0)
        sender.publish("end", b"", 1)
        received = []
        while True:
            one = reader.wait(0x30)
            if one.topic == b"end":
                break
            received.append(one)
        assert 0 < len(received) < 4000, len(received)
        resolved(received, 10)
        assert all(len(one.body) <= 16_384 for one in received)


@suite.case("npm's mqtt makes the right names of them")
def npm():
    with Broker() as broker:
        process = subprocess.Popen(["node", os.path.join(ROOT, "conformance/js/mqtt_aliases.mjs"), str(broker.mqtt), "#",
                                    "90", "20"], stdout=subprocess.PIPE, text=True)
        equal(process.stdout.readline().strip(), "Subscribed", "first line")
        sender = PahoClient(broker, "sender")
        names = names_of(15) * 6
        for number, name in enumerate(names):
            sender.publish(name, b"x", number % 3)
        out = json.loads(process.stdout.readline())
        process.wait(20)
        equal(sorted(out["seen"]), sorted(names), "names")
        # At QoS 2 it would have lost the names: it looks an alias up before it keeps the packet, and keeps it as it came.
        equal(out["named"], 10 + 30, "packets with a name")


if __name__ == "__main__":
    sys.exit(suite.run())
