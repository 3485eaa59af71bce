#!/usr/bin/python3
"""MQTT beyond the basics: wills over a crash, `$SYS`, MQTT 3.1, malformed packets and their reason codes.

`BROKER=mosquitto conformance/mqtt_features.py` runs what mosquitto has too against it; where it answers
otherwise, MOSQUITTO says how."""

import socket
import struct
import subprocess
import sys

import paho.mqtt.client as paho

from lib.cases import equal, wait_until
from lib.mqtt_clients import PahoClient
from lib.mqtt_raw import RawClient, packet, text
from lib.mqtt_suite import REFERENCE, Broker, MqttSuite

suite = MqttSuite("mqtt_features")
ours = suite.ours


# ---- wills over a crash


@ours("a persistent session's will is published after kill -9, once")
def will_after_crash():
    with Broker() as broker:
        PahoClient(broker, "watcher", clean=False, expiry=600).subscribe("w/#", 1).drop()
        RawClient(broker, "c", level=5, clean=False, expiry=600,
                  will={"topic": "w/c", "payload": "gone"})
        broker.restart()
        watcher = PahoClient(broker, "watcher", clean=False, expiry=600)
        equal([(m.topic, m.payload) for m in watcher.expect(1)], [("w/c", b"gone")], "wills")
        late = PahoClient(broker, "late").subscribe("w/#", 1)
        equal([m.payload for m in late.expect(1)], [b"gone"], "retained")
        watcher.close()
        # Behind its acknowledgement in the journal, which promised nothing.
        PahoClient(broker, "sender").publish("other", b"", 1)
        broker.restart()
        watcher = PahoClient(broker, "watcher", clean=False, expiry=600)
        PahoClient(broker, "sender").publish("w/end", b"end", 1)
        equal([m.payload for m in watcher.expect(1)], [b"end"], "no second will")


@ours("its delay counts over the crash; a client that is back in time has none")
def delayed_will():
    with Broker() as broker:
        PahoClient(broker, "watcher", clean=False, expiry=600).subscribe("w/#", 1).drop()
        for name, delay in (("soon", 2), ("back", 2), ("late", 500)):
            RawClient(broker, name, level=5, clean=False, expiry=600,
                      will={"topic": f"w/{name}", "payload": name, "delay": delay})
        broker.restart()
        RawClient(broker, "back", level=5, clean=False, expiry=600)
        watcher = PahoClient(broker, "watcher", clean=False, expiry=600)
        watcher.expect(1)
        PahoClient(broker, "sender").publish("w/end", b"end", 1)
        equal([m.payload for m in watcher.expect(2)], [b"soon", b"end"], "wills")


@ours("DISCONNECT takes it back, for the crash too; so does a connection without one")
def will_taken_back():
    with Broker() as broker:
        PahoClient(broker, "watcher", clean=False, expiry=600).subscribe("w/#", 1).drop()
        will = {"topic": "w/x", "payload": "wrong"}
        RawClient(broker, "polite", level=5, clean=False, expiry=600, will=will).close()
        RawClient(broker, "twice", level=5, clean=False, expiry=600, will={**will, "delay": 60})
        RawClient(broker, "twice", level=5, clean=False, expiry=600)
        # Behind what the first one's end has journaled.
        PahoClient(broker, "sender").publish("other", b"", 1)
        broker.restart()
        watcher = PahoClient(broker, "watcher", clean=False, expiry=600)
        PahoClient(broker, "sender").publish("w/end", b"end", 1)
        equal([m.payload for m in watcher.expect(1)], [b"end"], "wills")


@ours("the user's rules send a will where they send its topic")
def ruled_will():
    from confluent_kafka import Consumer
    with Broker(["rules=state/+/will -> topic wills, key {1}"]) as broker:
        watcher = PahoClient(broker, "watcher").subscribe("state/#", 1)
        RawClient(broker, "c", will={"topic": "state/c/will", "payload": "gone"}).close(False)
        equal([(m.topic, m.payload) for m in watcher.expect(1)], [("state/c/will", b"gone")], "will")
        consumer = Consumer({"bootstrap.servers": broker.kafka, "group.id": "g",
                             "auto.offset.reset": "earliest"})
        consumer.subscribe(["wills"])

        def poll():  # an error at first, if its metadata are older than the topic
            found = consumer.poll(0.2)
            return found if found and not found.error() else None

        record = wait_until(poll, 30, "the record")
        equal((record.key(), record.value()), (b"c", b"gone"), "record")
        consumer.close()


@suite.case("a will reaches a shared group, a sleeping session and a connection, at each QoS")
def will_to_all():
    for qos in (0, 1, 2):
        with Broker() as broker:
            member = PahoClient(broker, "member").subscribe("$share/g/w/#", 2)
            sleeper = PahoClient(broker, "sleeper", clean=False, expiry=600).subscribe("w/#", 2)
            plain = PahoClient(broker, "plain").subscribe("w/#", 2)
            will = {"topic": "w/x", "payload": "gone", "qos": qos, "retain": False}
            RawClient(broker, "c", level=5, will=will).close(politely=False)
            for client in (member, sleeper, plain):
                equal([(m.payload, m.qos) for m in client.expect(1)], [(b"gone", qos)], "will")


# ---- $SYS

SYS = ["version", "uptime", "clients/total", "clients/connected", "clients/disconnected",
       "clients/maximum", "messages/received", "messages/sent", "publish/messages/received",
       "publish/messages/sent", "publish/messages/dropped", "publish/bytes/received",
       "publish/bytes/sent", "bytes/received", "bytes/sent", "retained messages/count",
       "subscriptions/count", "shared_subscriptions/count", "heap/current"]
SYS += [f"load/{what}/{minutes}min" for minutes in (1, 5, 15)
        for what in ("messages/received", "messages/sent", "publish/received", "publish/sent",
                     "bytes/received", "bytes/sent", "sockets", "connections")]


@suite.case("$SYS: mosquitto's names, retained-like for a new subscription, not for '#'")
def sys_topics():
    settings = ["mqtt.sys_interval_s=1"] if not REFERENCE else []
    with Broker(settings) as broker:
        everything = PahoClient(broker, "everything").subscribe("#", 0)
        busy = PahoClient(broker, "busy").subscribe("a/#", 1)
        for number in range(20):
            busy.publish("a/x", b"%d" % number, 1)
        busy.expect(20)
        reader = PahoClient(broker, "reader")
        wanted = {f"$SYS/broker/{name}" for name in SYS}
        if REFERENCE:  # has nothing to say of what hasn't happened
            wanted = {name for name in wanted if "/load/" not in name and "heap" not in name}
        reader.subscribe("$SYS/#", 0)
        wait_until(lambda: wanted <= {m.topic for m in list(reader.seen)}, 30, "all names")
        first = {m.topic: m for m in reversed(reader.seen)}
        equal(bool(first["$SYS/broker/version"].retain), True, "retain flag")
        assert first["$SYS/broker/uptime"].payload.endswith(b" seconds"), "uptime"
        if REFERENCE:
            return
        wait_until(lambda: latest(reader, "publish/messages/received") == b"20", 20, "count")
        equal(latest(reader, "clients/connected"), b"3", "clients")
        equal([m.retain for m in reader.seen if m.topic.endswith("uptime")][-1], 0, "live")
        equal({m.topic for m in everything.seen}, {"a/x"}, "what '#' gets")
        equal(stored(broker), ["a"], "topics")


def latest(reader, name):
    return [m.payload for m in list(reader.seen) if m.topic == f"$SYS/broker/{name}"][-1]


def stored(broker):
    from confluent_kafka.admin import AdminClient
    return sorted(AdminClient({"bootstrap.servers": broker.kafka}).list_topics(timeout=20).topics)


@ours("$SYS: mqtt.sys_interval_s=0 turns it off; nobody may publish there")
def no_sys():
    with Broker(["mqtt.sys_interval_s=0"]) as broker:
        client = RawClient(broker, "c", level=5)
        client.subscribe("$SYS/#", 0)
        client.send(0x32, text("$SYS/broker/uptime") + b"\0\x09\0" + b"x")
        equal(client.read(), (0x40, b"\0\x09\x90"), "PUBACK: topic name invalid")
        assert client.quiet(), "something came"


# ---- MQTT 3.1


@suite.case("3.1: sessions, QoS 0, 1 and 2, retained, wills, by paho and mosquitto_sub")
def version31():
    with Broker() as broker:
        sleeper = PahoClient(broker, "sleeper", paho.MQTTv31, clean=False).subscribe("o/#", 2)
        equal(sleeper.session_present, False, "session present")
        sleeper.drop()
        reader = subprocess.Popen(
            ["mosquitto_sub", "-p", str(broker.mqtt), "-V", "mqttv31", "-i", "sub", "-t", "o/#", "-q",
             "2", "-C", "3", "-W", "60", "-F", "%t %q %r %p"], stdout=subprocess.PIPE, text=True)
        sender = PahoClient(broker, "sender", paho.MQTTv31)
        sender.publish("o/0", b"zero", 0, True)
        for qos in (1, 2):
            sender.publish(f"o/{qos}", b"x", qos, True)
        lines = sorted(reader.communicate(timeout=60)[0].split("\n"))[1:]
        equal([line.split()[0] for line in lines], ["o/0", "o/1", "o/2"], "mosquitto_sub")
        back = PahoClient(broker, "sleeper", paho.MQTTv31, clean=False)
        equal(back.session_present, False, "3.1 doesn't say")
        equal(sorted((m.topic, m.qos) for m in back.expect(2) if m.qos), [("o/1", 1), ("o/2", 2)],
              "what waited")
        watcher = PahoClient(broker, "watcher", paho.MQTTv31).subscribe("w/#", 1)
        RawClient(broker, "lost", level=3, will={"topic": "w/x", "payload": "gone"}).close(False)
        equal(watcher.expect(1)[0].payload, b"gone", "will")


@suite.case("3.1: no client identifier is refused; the user's name may be missing")
def version31_connect():
    with Broker() as broker:
        client = RawClient(broker, "", level=3)
        equal(client.connack, (0x20, b"\0\2"), "CONNACK")
        client = RawClient(broker, "", level=3, connect=False)
        client.send(0x10, text("MQIsdp") + b"\x03\x82\0\0" + text("c"))
        equal(client.read(), (0x20, b"\0\0"), "CONNACK")


# ---- malformed packets

MALFORMED, PROTOCOL = 0x81, 0x82
SUB = struct.pack(">H", 1) + b"\0"


def publish(topic=b"\0\x01t", first=0x30, rest=b"\0x"):
    return packet(first, topic + rest)


# Name, octets on an open connection of 5.0, the reason code of its DISCONNECT.
PACKETS = [
    ("packet type 0", packet(0x00, b""), MALFORMED),
    ("a remaining length of five octets", b"\x30\x80\x80\x80\x80\x01", MALFORMED),
    ("CONNECT again", packet(0x10, text("MQTT") + b"\x05\x02\0\0\0" + text("c")), PROTOCOL),
    ("CONNACK from a client", packet(0x20, b"\0\0\0"), PROTOCOL),
    ("SUBACK from a client", packet(0x90, b"\0\1\0\0"), PROTOCOL),
    ("PINGRESP from a client", packet(0xD0, b""), PROTOCOL),
    ("PUBLISH at QoS 3", publish(first=0x36, rest=b"\0\1\0x"), MALFORMED),
    ("PUBLISH at QoS 0 with DUP", publish(first=0x38), MALFORMED),
    ("PUBLISH without room for its topic", packet(0x30, b"\0\x09t"), MALFORMED),
    ("PUBLISH with a topic that is no UTF-8", publish(b"\0\x02\xc3\x28"), MALFORMED),
    ("PUBLISH with U+0000 in its topic", publish(b"\0\x02a\0"), MALFORMED),
    ("PUBLISH with a surrogate in its topic", publish(b"\0\x03\xed\xa0\x80"), MALFORMED),
    ("PUBLISH with a wildcard in its topic", publish(b"\0\x03a/#"), 0x90),
    ("PUBLISH with neither topic nor alias", publish(b"\0\0"), PROTOCOL),
    ("PUBLISH with topic alias 0", publish(rest=b"\x03\x23\0\0x"), 0x94),
    ("PUBLISH with a topic alias above the maximum", publish(rest=b"\x03\x23\xff\xffx"), 0x94),
    ("PUBLISH with an alias that stands for nothing", publish(b"\0\0", rest=b"\x03\x23\0\x05x"),
     PROTOCOL),
    ("PUBLISH with a subscription identifier", publish(rest=b"\x02\x0b\x01x"), PROTOCOL),
    ("PUBLISH with an unknown property", publish(rest=b"\x02\x7f\x01x"), MALFORMED),
    ("PUBLISH with another packet's property", publish(rest=b"\x03\x21\0\x01x"), MALFORMED),
    ("PUBLISH with a property twice", publish(rest=b"\x04\x01\0\x01\0x"), PROTOCOL),
    ("PUBLISH with properties longer than itself", publish(rest=b"\x7fx"), MALFORMED),
    ("PUBLISH with packet identifier 0", publish(first=0x32, rest=b"\0\0\0x"), PROTOCOL),
    ("PUBACK with packet identifier 0", packet(0x40, b"\0\0"), PROTOCOL),
    ("PUBACK of one octet", packet(0x40, b"\0"), MALFORMED),
    ("PUBACK with flags", packet(0x41, b"\0\1"), MALFORMED),
    ("PUBREL without its flags", packet(0x60, b"\0\1"), MALFORMED),
    ("PUBCOMP with flags", packet(0x72, b"\0\1"), MALFORMED),
    ("SUBSCRIBE without its flags", packet(0x80, SUB + text("t") + b"\0"), MALFORMED),
    ("SUBSCRIBE without a filter", packet(0x82, SUB), PROTOCOL),
    ("SUBSCRIBE with packet identifier 0", packet(0x82, b"\0\0\0" + text("t") + b"\0"), PROTOCOL),
    ("SUBSCRIBE at QoS 3", packet(0x82, SUB + text("t") + b"\x03"), PROTOCOL),
    ("SUBSCRIBE with reserved bits", packet(0x82, SUB + text("t") + b"\x40"), MALFORMED),
    ("SUBSCRIBE with retain handling 3", packet(0x82, SUB + text("t") + b"\x30"), PROTOCOL),
    ("SUBSCRIBE without its last options", packet(0x82, SUB + text("t")), MALFORMED),
    ("SUBSCRIBE with identifier 0", packet(0x82, b"\0\1\x02\x0b\0" + text("t") + b"\0"), PROTOCOL),
    ("UNSUBSCRIBE without its flags", packet(0xA0, SUB + text("t")), MALFORMED),
    ("UNSUBSCRIBE without a filter", packet(0xA2, SUB), PROTOCOL),
    ("PINGREQ with flags", packet(0xC1, b""), MALFORMED),
    ("PINGREQ with a body", packet(0xC0, b"x"), MALFORMED),
    ("DISCONNECT with flags", packet(0xE1, b""), MALFORMED),
    ("DISCONNECT that makes a session outlive a connection", packet(0xE0, b"\0\x05\x11\0\0\0\x09"),
     PROTOCOL),
    ("AUTH without a method", packet(0xF0, b""), PROTOCOL),
]

# What mosquitto 2.0.11 does instead: it is lenient where nothing depends on it, closes without a
# word in other places, and says malformed for some protocol errors and the other way round.
MOSQUITTO = {
    "packet type 0": 0x82,
    "a remaining length of five octets": "closed",
    "CONNECT again": "closed",
    "CONNACK from a client": "closed",
    "SUBACK from a client": "nothing",
    "PINGRESP from a client": "nothing",
    "PUBLISH at QoS 0 with DUP": "nothing",
    "PUBLISH with a wildcard in its topic": 0x82,
    "PUBLISH with topic alias 0": 0x81,
    "PUBLISH with a subscription identifier": "nothing",
    "PUBLISH with a property twice": "closed",
    "PUBACK with packet identifier 0": "closed",
    "PUBACK of one octet": "closed",
    "PUBACK with flags": "nothing",
    "PUBREL without its flags": "closed",
    "PUBCOMP with flags": "nothing",
    "SUBSCRIBE without a filter": 0x81,
    "SUBSCRIBE with packet identifier 0": 0x81,
    "SUBSCRIBE at QoS 3": 0x81,
    "SUBSCRIBE with retain handling 3": 0x81,
    "SUBSCRIBE with identifier 0": 0x81,
    "UNSUBSCRIBE without a filter": 0x81,
    "PINGREQ with flags": "packet d0",
    "PINGREQ with a body": "packet d0",
    "DISCONNECT with flags": "closed",
    "AUTH without a method": "closed",
}


@suite.case("5.0: malformed packets of every type: the specification's reason code")
def malformed():
    wrong = []
    with Broker() as broker:
        for name, octets, expected in PACKETS:
            outcome = outcome_of(broker, octets)
            expected = MOSQUITTO.get(name, expected) if REFERENCE else expected
            if outcome != expected:
                wrong.append((name, outcome, expected))
    equal(wrong, [], "answers")


def outcome_of(broker, octets, level=5):
    """The reason code of the DISCONNECT, "closed" without one, or what came instead."""
    client = RawClient(broker, "c", level=level)
    client.connection.sendall(octets)
    client.connection.settimeout(1)
    try:
        first, body = client.read()
        if first != 0xE0:
            return f"packet {first:02x}"
        return body[0] if body else 0
    except ConnectionError:
        return "closed"
    except OSError:
        return "nothing"
    finally:
        client.connection.close()


def connect(flags=b"\x02", properties=b"\0", rest=None, name=b"MQTT", level=b"\x05"):
    rest = text("c") if rest is None else rest
    return packet(0x10, text(name) + level + flags + b"\0\0" + properties + rest)


# Name, octets of the first packet, the reason code of its CONNACK.
CONNECTS = [
    ("as it should be", connect(), 0),
    ("a first packet that is another", packet(0xC0, b""), "closed"),
    ("flags in its first octet", b"\x11" + connect()[1:], MALFORMED),
    ("another protocol's name", connect(name=b"HTTP"), "closed"),
    ("a level from the future", connect(level=b"\x06"), 0x84),
    ("the reserved flag", connect(flags=b"\x03"), MALFORMED),
    ("a will's QoS without a will", connect(flags=b"\x0a"), MALFORMED),
    ("a will at QoS 3", connect(flags=b"\x1e", rest=text("c") + b"\0" + text("w") + text("x")),
     MALFORMED),
    ("a will with a wildcard", connect(flags=b"\x06", rest=text("c") + b"\0" + text("w/#") + text("")),
     0x90),
    ("a will cut short", connect(flags=b"\x06", rest=text("c") + b"\0" + text("w")), MALFORMED),
    ("a client identifier that is no UTF-8", connect(rest=text(b"\xc3\x28")), MALFORMED),
    ("a user name that isn't there", connect(flags=b"\x82"), MALFORMED),
    ("octets behind its end", connect(rest=text("c") + b"x"), MALFORMED),
    ("receive maximum 0", connect(properties=b"\x03\x21\0\0"), PROTOCOL),
    ("maximum packet size 0", connect(properties=b"\x05\x27\0\0\0\0"), PROTOCOL),
    ("a property twice", connect(properties=b"\x06\x21\0\x05\x21\0\x05"), PROTOCOL),
    ("another packet's property", connect(properties=b"\x03\x23\0\x05"), MALFORMED),
    ("an unknown property", connect(properties=b"\x02\x7f\x01"), MALFORMED),
    ("an authentication method", connect(properties=b"\x04\x15" + text("x")[:3]), 0x8C),
    ("authentication data alone", connect(properties=b"\x04\x16" + text("x")[:3]), PROTOCOL),
    ("request problem information 2", connect(properties=b"\x02\x17\x02"), PROTOCOL),
]
# mosquitto 2.0.11 closes without an answer where it can't read a CONNECT (4.13.2 lets it).
MOSQUITTO_CONNECTS = {name: "closed" for name, _, code in CONNECTS if code in (MALFORMED, PROTOCOL)}
MOSQUITTO_CONNECTS |= {"a level from the future": 1, "a will with a wildcard": "closed",
                       "authentication data alone": 0}


def connack_of(broker, octets):
    with socket.create_connection(("127.0.0.1", broker.mqtt), 10) as connection:
        connection.sendall(octets)
        answer = b""
        try:
            while len(answer) < 4:
                piece = connection.recv(4 - len(answer))
                if not piece:
                    return "closed"
                answer += piece
        except ConnectionResetError:
            return "closed"
        return answer[3]


@suite.case("5.0: CONNECT packets that are wrong: the specification's reason code")
def malformed_connects():
    wrong = []
    with Broker() as broker:
        for name, octets, expected in CONNECTS:
            outcome = connack_of(broker, octets)
            expected = MOSQUITTO_CONNECTS.get(name, expected) if REFERENCE else expected
            if outcome != expected:
                wrong.append((name, outcome, expected))
    equal(wrong, [], "answers")


@suite.case("3.1.1: the same packets end the connection without a word")
def malformed311():
    names = {"packet type 0", "a remaining length of five octets", "CONNACK from a client",
             "PUBLISH at QoS 3", "PUBLISH without room for its topic", "PUBACK with flags",
             "PUBLISH with U+0000 in its topic", "PUBREL without its flags", "PINGREQ with flags",
             "PUBACK with packet identifier 0", "PUBACK of one octet"}
    with Broker() as broker:
        outcomes = {name: outcome_of(broker, octets, 4) for name, octets, _ in PACKETS
                    if name in names}
        if REFERENCE:
            # Flags of these two it doesn't look at.
            outcomes.pop("PUBACK with flags")
            outcomes.pop("PINGREQ with flags")
        equal(set(outcomes.values()) - {"closed"}, set(), "answers")


if __name__ == "__main__":
    sys.exit(suite.run())
