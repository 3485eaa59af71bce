#!/usr/bin/python3
"""Hostile input over the network: limits cut it, the protocol's error answers it, nobody else notices."""

import os
import random
import socket
import struct
import sys
import time

import kafka

from lib.broker import Broker
from lib.cases import Suite, equal
from lib.mqtt_clients import PahoClient

suite = Suite("hostile")


def closed_within(connection, seconds):
    """What came before the peer closed; fails when it doesn't."""
    deadline = time.monotonic() + seconds
    data = b""
    while True:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return data
        except socket.timeout:
            raise AssertionError(f"still open after {seconds} s") from None
        if not piece:
            return data
        data += piece


def ports(broker):
    return {"mqtt": broker.mqtt, "kafka": int(broker.kafka.split(":")[1])}


@suite.case("a connection that says nothing, or half a hello, is cut at the handshake's deadline")
def half_open():
    with Broker(["limits.handshake_seconds=1"]) as broker:
        for name, port in ports(broker).items():
            for hello in (b"", b"\x10\x20\x00\x04MQ" if name == "mqtt" else b"\x00\x00\x00\x40\x00"):
                connection = socket.create_connection(("127.0.0.1", port), 20)
                connection.sendall(hello)
                began = time.monotonic()
                closed_within(connection, 4)
                assert time.monotonic() - began > 0.5, f"{name}: cut too early"


@suite.case("an oversized hello is cut at 4 KiB, long before its claimed end")
def oversized():
    with Broker() as broker:
        hellos = {"mqtt": b"\x10\xff\xff\xff\x7f" + b"\x00\x04MQTT\x04\x02\x00\x00",
                  "kafka": struct.pack(">ihhih", 1 << 30, 18, 0, 1, -1)}
        for name, port in ports(broker).items():
            connection = socket.create_connection(("127.0.0.1", port), 20)
            connection.sendall(hellos[name])
            try:
                connection.sendall(b"x" * 8192)
            except (BrokenPipeError, ConnectionResetError):
                pass
            closed_within(connection, 4)


@suite.case("malformed frames close their connection with the protocol's error; others go on")
def malformed():
    with Broker() as broker:
        steady = PahoClient(broker, "steady").subscribe("s/#", 1)
        hello5 = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03bad"
        for packet, reason in ((b"\x30\x03\x00\x05a", 0x81),  # a string beyond its packet
                               (b"\x36\x06\x00\x01a\x00\x01\x00", 0x81),  # QoS 3
                               (b"\x30\x04\x00\x01#\x00", 0x90),  # a wildcard in a topic name
                               (b"\x80\x02\x00\x01", 0x81),  # SUBSCRIBE with wrong flags
                               (b"\xf0\x00", None),  # AUTH without a method
                               (hello5, 0x82)):  # a second CONNECT
            connection = socket.create_connection(("127.0.0.1", broker.mqtt), 20)
            connection.sendall(hello5 + packet)
            answer = closed_within(connection, 4)
            equal(answer[0], 0x20, "CONNACK")
            goodbye = answer[2 + answer[1]:]
            equal(goodbye[:1], b"\xe0", f"DISCONNECT after {packet!r}")
            if reason is not None:
                equal(goodbye[2], reason, f"reason after {packet!r}")
        for frame in (b"\xff\xff\xff\xff", struct.pack(">ihhih", 10, 3, 9, 1, 500),
                      struct.pack(">ihhihi", 14, 3, 1, 1, -1, 1 << 30)):
            connection = socket.create_connection(("127.0.0.1", ports(broker)["kafka"]), 20)
            connection.sendall(frame)
            closed_within(connection, 4)
        steady.publish("s/x", b"fine", 1)
        equal(steady.expect(1)[0].payload, b"fine", "the steady client")
        equal(steady.disconnects, [], "disconnections of the steady client")


@suite.case("two thousand connections of noise: the broker lives and serves")
def noise():
    dice = random.Random(7)
    with Broker() as broker:
        for number in range(2000):
            port = dice.choice(list(ports(broker).values()))
            connection = socket.create_connection(("127.0.0.1", port), 20)
            noise_bytes = dice.randbytes(dice.randrange(1, 200))
            if dice.random() < 0.5:
                noise_bytes = dice.choice([
                    b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03mum",
                    struct.pack(">ihhih", 10, 18, 0, 1, -1)]) + noise_bytes
            try:
                connection.sendall(noise_bytes)
            except (BrokenPipeError, ConnectionResetError):
                pass
            connection.close()
        client = PahoClient(broker, "after").subscribe("n/#", 1)
        client.publish("n/x", b"alive", 1)
        equal(client.expect(1)[0].payload, b"alive", "MQTT")
        kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all").send("n", b"x").get(20)


@suite.case("taken ports, a taken data directory and bad configuration end with status 1 and a line")
def refusals():
    import subprocess
    from lib.broker import BINARY
    with Broker() as broker:
        def refused(*arguments):
            done = subprocess.run([BINARY, "serve", *arguments], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=20, text=True)
            equal(done.returncode, 1, "status")
            equal(done.stdout, "", "standard output")
            return done.stderr

        other = broker.data + "-other"
        assert str(broker.mqtt) in refused("--data", other, "--listen", f"mqtt=127.0.0.1:{broker.mqtt}")
        assert broker.data in refused("--data", broker.data, "--listen", "mqtt=127.0.0.1:0")
        text = refused("--data", other, "--listen", "mqtt=127.0.0.1:0", "--set", "topics.partition=2")
        assert "topics.partition" in text and "topics.partitions" in text, text
        text = refused("--data", other, "--listen", "mqtt=0.0.0.0:0")
        assert "allow_anonymous" in text, text


if __name__ == "__main__":
    sys.exit(suite.run())
