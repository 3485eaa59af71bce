#!/usr/bin/python3
"""What MQTT 5 settles between one client and the broker: topic aliases towards the client, response
information, and what a payload says that it is; with npm's mqtt, paho, mosquitto_sub, and packets by hand."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

import confluent_kafka
import pika
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from lib.broker import BINARY, ROOT, Broker
from lib.cases import Suite, equal
from lib.mqtt_clients import PahoClient
from lib.mqtt_raw import Packet, RawClient, properties, text, two
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
        received = []
        ended = threading.Event()

        def end():  # again and again: it is dropped, too, while nothing is read
            while not ended.wait(0.05):
                sender.publish("end", b"", 1)

        threading.Thread(target=end, daemon=True).start()
        while True:
            one = reader.wait(0x30)
            if one.topic == b"end":
                break
            received.append(one)
        ended.set()
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


# ---- response information


def response_client(broker, client_id, version_properties=b"\x19\x01", **options):
    client = RawClient(broker, client_id, level=5, properties=version_properties, **options)
    return client, Packet(*client.connack, 5).get("response_info")


@suite.case("who asks is told of names for its responses, and they come there")
def responses():
    with Broker(["mqtt.response_information=responses/%c/"]) as broker:
        responder = PahoClient(broker, "responder", on_message=answered).subscribe("requests/#", 1)
        for _ in range(2):  # it stays the same
            client, own = response_client(broker, "asker")
            equal(own, b"responses/asker/", "response information")
            client.subscribe(own.decode() + "#", 1)
            client.send(0x32, text("requests/time") + two(1) + properties(
                response_topic=own + b"time", correlation_data=b"17") + b"now?")
            came = client.wait(0x30)
            equal((came.topic, came.payload, came.get("correlation_data")),
                  (b"responses/asker/time", b"answer to now?", b"17"), "the response")
            client.close()
        equal(response_client(broker, "silent", b"")[1], None, "to who doesn't ask")
        equal(response_client(broker, "silent", b"\x19\0")[1], None, "to who wants none")
        equal(response_client(broker, "x/y")[1], None, "to who would be in another's corner")
        client, own = response_client(broker, "")
        assigned = Packet(*client.connack, 5).get("assigned_client_id")
        equal(own, b"responses/" + assigned + b"/", "with a client identifier of the broker's")
        responder.close()
    with Broker() as broker:
        equal(response_client(broker, "asker")[1], None, "where the configuration says nothing")


def answered(client, _, message):
    """A responder as the specification has it (4.10.1)."""
    given = Properties(PacketTypes.PUBLISH)
    given.CorrelationData = message.properties.CorrelationData
    client.publish(message.properties.ResponseTopic, b"answer to " + message.payload, 1, properties=given)


@suite.case("access rules make them a client's own; each listener and mount point has its own")
def own_responses():
    listen = tempfile.mkdtemp() + "/mqtt.sock"
    with Broker(["mqtt.response_information=responses/%c/"],
                unix=[f"mqtt=unix:{listen} mqtt.mount_point=tenants/a/ mqtt.response_information=re/%c/"]) as broker:
        for arguments in (["write", "responses/#"], ["read", "responses/%c/#"]):
            subprocess.run([BINARY, "acl", "create", "allow", "*", *arguments, "--pattern", "filter", "--admin",
                            broker.admin], check=True, timeout=60, stdout=subprocess.DEVNULL)
        one, own = response_client(broker, "one")
        two_, other = response_client(broker, "two")
        equal(one.subscribe(own.decode() + "#", 1), 1, "its own")
        one.subscribe(other.decode() + "#", 1), one.subscribe("#", 1)  # of what it may not read nothing comes
        two_.subscribe(other.decode() + "#", 1)
        responder = PahoClient(broker, "responder")
        responder.publish(other.decode() + "x", b"to two", 1)
        responder.publish(own.decode() + "x", b"to one", 1)
        equal([client.wait(0x30).payload for client in (one, two_)], [b"to one", b"to two"], "responses")
        client, inside = response_client(broker, "three", port=listen)
        equal(inside, b"re/three/", "behind a mount point")
        equal(client.subscribe("re/three/#", 1), 1, "its own")


# ---- why, and no more than the client takes


@suite.case("who is turned away, and whose publish is refused, is told why, if it wants to know and it fits")
def reasons():
    with Broker() as broker:
        subprocess.run([BINARY, "acl", "create", "deny", "*", "write", "secret", "--admin", broker.admin], check=True,
                       timeout=60, stdout=subprocess.DEVNULL)
        for props, room in ((b"", True), (b"\x17\0", True), (b"\x27\0\0\0\x1e", False)):
            refused = RawClient(broker, "$bridge/x", level=5, properties=props)
            connack = Packet(*refused.connack, 5)
            equal((connack.code, connack.get("reason_string") is not None), (0x85, room), "CONNACK")
            client = RawClient(broker, "c", level=5, properties=props)
            for qos, answer in ((1, 0x40), (2, 0x50)):
                client.send(0x30 | qos << 1, text("secret") + two(qos) + properties() + b"x")
                came = client.wait(answer)
                equal((came.code, b"secret" in came.get("reason_string", b"")), (0x87, props == b""), "the publish")
            client.close()


@suite.case("an answer larger than the client takes ends the connection, and isn't sent")
def large_answers():
    with Broker() as broker:
        client = RawClient(broker, "c", level=5, properties=b"\x27\0\0\0\x20")
        for count, answered in ((20, True), (60, False)):
            client.send(0x82, two(count) + properties() + b"".join(text(f"a/{n}") + b"\1" for n in range(count)))
            if answered:
                equal(len(client.wait(0x90).codes), count, "codes")
        ended = client.until_closed()
        equal([(one.type, one.code) for one in ended], [(0xE0, 0x95)], "the end")
        assert ended[0].size <= 32, ended


# ---- what a payload says that it is


@suite.case("payloads that aren't the UTF-8 that they say: refused where the listener checks, by each QoS's answer")
def payload_format():
    checked = tempfile.mkdtemp() + "/mqtt.sock"
    with Broker(unix=[f"mqtt=unix:{checked} mqtt.check_payload_format=true"]) as broker:
        reader = PahoClient(broker, "reader").subscribe("#", 1)
        for port, refused in ((None, 0), (checked, 0x99)):
            client = RawClient(broker, "c", level=5, port=port)
            for qos, answer in ((1, 0x40), (2, 0x50)):
                for payload, indicator, code in ((b"\xff", 1, refused), (b"\xff", 0, 0), ("caf\u00e9".encode(), 1, 0)):
                    client.send(0x30 | qos << 1, text("t") + two(qos) + properties(payload_format=indicator) + payload)
                    equal(client.wait(answer).code, code, (qos, payload, indicator))
                    if qos == 2 and code == 0:
                        client.ack(qos, 0x62)
                        client.wait(0x70)
            client.send(0x30, text("t") + properties(payload_format=1) + b"\xff")
            if refused:
                equal([one.code for one in client.until_closed()], [refused], "at QoS 0")
            else:
                client.send(0xC0)
                client.wait(0xD0)
            will = {"topic": "w", "payload": b"\xff", "props": [("payload_format", 1)], "retain": False}
            client = RawClient(broker, "d", level=5, will=will, port=port)
            equal(Packet(*client.connack, 5).code, refused, "CONNACK")
            client.connection.close()
        # Unchecked, all of them as they came; checked, those that are what they say.
        PahoClient(broker, "end").publish("end", b"", 1)
        messages = reader.expect(7 + 4 + 1)
        sent = [(m.payload, getattr(m.properties, "PayloadFormatIndicator", None)) for m in messages if m.topic == "t"]
        whole = [(b"\xff", 1), (b"\xff", 0), ("caf\u00e9".encode(), 1)]
        equal(sent, whole * 2 + whole[:1] + whole[1:] * 2, "messages")


@suite.case("what Kafka's and AMQP's clients, and HTTP, say of a payload is passed on only if it is so")
def payload_format_from_elsewhere():
    with Broker() as broker:
        reader = PahoClient(broker, "reader").subscribe("t/#", 1)
        producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.amqp))
        channel = connection.channel()
        for payload in (b"text", b"\xff"):
            said = {"payload-format": "utf-8"}
            producer.produce("t", payload, b"kafka", headers=said)
            producer.flush(20)
            channel.basic_publish("amq.topic", "t.amqp", payload, pika.BasicProperties(headers=said))
            record = {"key": "http", "value_base64": base64.b64encode(payload).decode(),
                      "headers": [{"name": "payload-format", "value": "utf-8"}]}
            request = urllib.request.Request(f"{broker.admin}/api/topics/t/records", json.dumps(record).encode())
            try:
                urllib.request.urlopen(request, timeout=20).close()
                assert payload == b"text", "HTTP took it"
            except urllib.error.HTTPError as error:
                equal((error.code, payload), (400, b"\xff"), "HTTP")
        connection.close()
        seen = {(m.topic, m.payload): getattr(m.properties, "PayloadFormatIndicator", None) for m in reader.expect(5)}
        equal(seen, {("t/kafka", b"text"): 1, ("t/kafka", b"\xff"): None, ("t/amqp", b"text"): 1,
                     ("t/amqp", b"\xff"): None, ("t/http", b"text"): 1}, "indicators")


if __name__ == "__main__":
    sys.exit(suite.run())
