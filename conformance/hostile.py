#!/usr/bin/python3
"""Hostile input over the network: limits cut it, the protocol's error answers it, nobody else notices."""

import os
import random
import socket
import struct
import sys
import time

import kafka
import pika
from pika import spec

from amqp.peer import Peer
from lib import amqp_raw
from lib.broker import Broker
from lib.cases import Suite, equal
from lib.mqtt_clients import PahoClient

suite = Suite("hostile")
START_OK = amqp_raw.method(0, spec.Connection.StartOk({}, "PLAIN", b"\x00guest\x00guest", "en_US"))
TUNE_OK = (amqp_raw.method(0, spec.Connection.TuneOk(2047, 131072, 0))
           + amqp_raw.method(0, spec.Connection.Open("/")))


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
    return {"mqtt": broker.mqtt, "kafka": int(broker.kafka.split(":")[1]), "amqp": broker.amqp}


@suite.case("a connection that says nothing, or half a hello, is cut at the handshake's deadline")
def half_open():
    halves = {"mqtt": [b"\x10\x20\x00\x04MQ"], "kafka": [b"\x00\x00\x00\x40\x00"],
              "amqp": [amqp_raw.HELLO[:5], amqp_raw.HELLO, amqp_raw.HELLO + START_OK[:20],
                       amqp_raw.HELLO + START_OK]}
    with Broker(["limits.handshake_seconds=1"]) as broker:
        connections = []
        for name, port in ports(broker).items():
            for hello in (b"", *halves[name]):
                connections.append((name, socket.create_connection(("127.0.0.1", port), 20)))
                connections[-1][1].sendall(hello)
        began = time.monotonic()
        for name, connection in connections:
            closed_within(connection, 4)
            assert time.monotonic() - began > 0.5, f"{name}: cut too early"


@suite.case("an oversized hello is cut at 4 KiB, long before its claimed end")
def oversized():
    with Broker() as broker:
        hellos = {"mqtt": b"\x10\xff\xff\xff\x7f" + b"\x00\x04MQTT\x04\x02\x00\x00",
                  "kafka": struct.pack(">ihhih", 1 << 30, 18, 0, 1, -1),
                  "amqp": amqp_raw.HELLO + struct.pack(">BHI", 1, 0, 1 << 30)}
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


@suite.case("AMQP: malformed frames close their connection, told why; others go on")
def malformed_amqp():
    with Broker() as broker:
        steady = Peer(broker)
        steady.channel.queue_declare("h.steady", exclusive=True)
        sender = steady.open(confirms=True)
        dice = random.Random(7)
        told = 0
        for _ in range(300):
            raw = amqp_raw.Raw(broker)
            good = amqp_raw.publish(1, "amq.direct", "h", bytes(30), b"\x90\x00\x04text\x02")
            place, octet = dice.randrange(len(good)), dice.randrange(256)
            raw.send(good[:place] + bytes([octet]) + good[place + 1:])
            try:
                raw.socket.shutdown(socket.SHUT_WR)  # some wait for more octets than come
            except OSError:
                pass  # it is closed already
            while (answer := raw.receive()) is not None:
                # A returned message has frames without a method.
                if answer.method and answer.method.NAME in ("Connection.Close", "Channel.Close"):
                    told += 1
                    break
            raw.close()
        assert told > 50, f"only {told} of 300 broken publishes were refused"
        sender.basic_publish("", "h.steady", b"fine")
        equal(steady.channel.basic_get("h.steady", True)[2], b"fine", "the steady client")
        steady.close()


def many_small(raw, exchange, count):
    """Publishes that many messages of 64 octets and returns when they are confirmed."""
    raw.ask(1, spec.Confirm.Select())
    one = amqp_raw.publish(1, exchange, "", bytes(64), b"\x10\x00\x02")
    confirmed = 0
    for begin in range(0, count, 2000):
        raw.send(one * min(2000, count - begin))
        while confirmed < min(begin + 2000, count):
            confirmed = raw.receive().method.delivery_tag


def bounded(title, prepare):
    """A fanout to a queue of a bad consumer and to one of a good one: 75 MiB in large messages and
    200,000 small ones go through while the broker stays within bounds."""
    @suite.case(f"AMQP: {title} harms nobody and stays within bounds")
    def check():
        with Broker() as broker:
            good = Peer(broker)
            good.channel.exchange_declare("h.fan", "fanout", durable=True)
            for name in ("h.good", "h.bad"):
                good.channel.queue_declare(name, durable=True)
                good.channel.queue_bind(name, "h.fan")
            bad = prepare(broker)
            channel = good.open()
            channel.basic_qos(prefetch_count=100)
            received = []

            def take(channel, method, _properties, body):
                received.append(len(body))
                channel.basic_ack(method.delivery_tag)

            channel.basic_consume("h.good", take)
            sender = good.open(confirms=True)
            before = broker.resident_bytes()
            for number in range(300):
                sender.basic_publish("h.fan", "", os.urandom(1 << 18), pika.BasicProperties(delivery_mode=2))
            good.wait(lambda: len(received) == 300, "the large messages", 60)
            # The cache of verified batches may hold 64 MiB; what the bad one holds far less.
            grown = broker.resident_bytes() - before
            print(f"    {grown >> 20} MiB more after 75 MiB in large messages")
            assert grown < 150 << 20, f"{grown >> 20} MiB more"
            channel.close()
            many_small(amqp_raw.Raw(broker), "h.fan", 200_000)
            grown = broker.resident_bytes() - before
            print(f"    {grown >> 20} MiB more after 200,000 small ones")
            assert grown < 200 << 20, f"{grown >> 20} MiB more"
            equal(good.channel.queue_declare("h.good", passive=True).method.message_count, 200_000,
                  "waiting for the good one")
            bad()
            good.close()


def silent(broker):
    raw = amqp_raw.Raw(broker, receive_buffer=4096)
    raw.send(amqp_raw.method(1, spec.Basic.Consume(queue="h.bad", no_ack=True)))
    return raw.close


def never_acknowledging(broker):
    import threading
    raw = amqp_raw.Raw(broker)
    raw.send(amqp_raw.method(1, spec.Basic.Consume(queue="h.bad")))
    count = [0]

    def read():
        try:
            while piece := raw.socket.recv(1 << 20):
                count[0] += len(piece)
        except ConnectionResetError:
            pass  # a case that failed

    raw.socket.settimeout(None)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def finish():
        assert count[0] > 60 << 20, f"it was sent {count[0] >> 20} MiB only"
        raw.socket.shutdown(socket.SHUT_RDWR)
        reader.join(10)

    return finish


bounded("a consumer that reads nothing", silent)
bounded("a consumer that never acknowledges, without a prefetch,", never_acknowledging)


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
                    struct.pack(">ihhih", 10, 18, 0, 1, -1), amqp_raw.HELLO,
                    amqp_raw.HELLO + START_OK + TUNE_OK]) + noise_bytes
            try:
                connection.sendall(noise_bytes)
            except (BrokenPipeError, ConnectionResetError):
                pass
            connection.close()
        client = PahoClient(broker, "after").subscribe("n/#", 1)
        client.publish("n/x", b"alive", 1)
        equal(client.expect(1)[0].payload, b"alive", "MQTT")
        kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all").send("n", b"x").get(20)
        amqp_raw.Raw(broker).close()


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


if os.environ.get("BROKER") == "rabbitmq":  # its cases have AMQP in their titles
    from lib.rabbitmq import RabbitMQ as Broker  # noqa: F811

if __name__ == "__main__":
    sys.exit(suite.run())
