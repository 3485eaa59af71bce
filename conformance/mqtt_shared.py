#!/usr/bin/python3
"""Shared subscriptions: each message to one member of a group, and none lost.

`BROKER=mosquitto conformance/mqtt_shared.py` runs the same scenarios against Debian's mosquitto. Where
that does otherwise, the case says what it does and why we don't: differs()."""

import json
import os
import subprocess
import sys
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from lib.broker import BINARY, ROOT
from lib.cases import equal, wait_until
from lib.mqtt_clients import Lines, PahoClient
from lib.mqtt_raw import RawClient, text
from lib.mqtt_suite import REFERENCE, Broker, MqttSuite, differs

suite = MqttSuite("mqtt_shared")
for_versions, ours = suite.for_versions, suite.ours


def numbers(messages):
    return sorted(int(message.payload) for message in messages)


def publish(broker, count, qos=1, topic="s/x", first=0):
    sender = PahoClient(broker, "sender")
    for number in range(first, first + count):
        sender.publish(topic, b"%d" % number, qos)
    sender.close()


def sleeper(broker, client_id, version=paho.MQTTv5, share="$share/g/s/#", qos=1):
    client = PahoClient(broker, client_id, version, clean=False,
                        expiry=600 if version == paho.MQTTv5 else None)
    return client.subscribe(share, qos) if share else client


@for_versions("each message to one member, in turn; to every group and ordinary subscriber")
def one_member(version):
    with Broker() as broker:
        members = [PahoClient(broker, f"m{i}", version).subscribe("$share/g/s/#", 1)
                   for i in range(3)]
        other = PahoClient(broker, "other", version).subscribe("$share/h/s/+", 1)
        plain = PahoClient(broker, "plain", version).subscribe("s/#", 1)
        publish(broker, 30)
        equal(numbers(other.expect(30)), list(range(30)), "the other group")
        equal(numbers(plain.expect(30)), list(range(30)), "the ordinary subscriber")
        wait_until(lambda: sum(len(m.seen) for m in members) >= 30, what="30 messages")
        equal(sorted(len(m.seen) for m in members), [10, 10, 10], "shares")
        equal(sorted(n for m in members for n in numbers(m.seen)), list(range(30)), "the group")


@for_versions("the lesser of the two QoS, 0, 1 and 2")
def qos(version):
    with Broker() as broker:
        for granted in (0, 1, 2):
            member = PahoClient(broker, f"m{granted}", version)
            member.subscribe(f"$share/g{granted}/q/#", granted)
            sender = PahoClient(broker, "sender")
            for sent in (0, 1, 2):
                sender.publish(f"q/{sent}", b"%d" % sent, sent)
            for message in member.expect(3):
                equal(message.qos, min(granted, int(message.payload)), "QoS")
            member.close()


@for_versions("an offline group of persistent sessions loses nothing")
def offline(version):
    with Broker() as broker:
        for client_id in ("a", "b"):
            sleeper(broker, client_id, version).drop()
        publish(broker, 40, 1)
        publish(broker, 40, 2, first=40)
        back = [sleeper(broker, client_id, version, None) for client_id in ("a", "b")]
        wait_until(lambda: sum(len(c.seen) for c in back) >= 80, what="80 messages")
        equal(sorted(n for c in back for n in numbers(c.seen)), list(range(80)), "messages")


@suite.case("of an offline group, whoever comes back first gets what waits")
def first_back():
    with Broker() as broker:
        for client_id in ("a", "b"):
            sleeper(broker, client_id).drop()
        publish(broker, 40)
        back = sleeper(broker, "a", share=None)
        count = differs(40, 20, "mosquitto divides messages among sleeping sessions as they come; "
                                "what is b's waits for b, however long that stays away")
        back.expect(count)
        equal(len(back.seen), count, "messages")


@suite.case("what a lost member has not acknowledged goes to another one")
def redelivery():
    with Broker() as broker:
        silent = RawClient(broker, "silent")
        equal(silent.subscribe("$share/g/s/#", 1), 1, "SUBACK")
        member = PahoClient(broker, "member").subscribe("$share/g/s/#", 1)
        publish(broker, 10)
        silent.publishes(5)
        silent.close(politely=False)
        count = differs(10, 5, "mosquitto drops what a session that ends has in flight; MQTT 5, "
                               "4.8.2: the server should send it to another subscriber")
        member.expect(count)
        expected = list(range(10))
        if not REFERENCE:
            equal(numbers(member.seen), expected, "messages")


@suite.case("QoS 2 that a lost member was being sent stays its own [MQTT-4.8.2-5]")
def exactly_once():
    with Broker() as broker:
        silent = RawClient(broker, "silent", level=5, clean=False, expiry=600)
        silent.subscribe("$share/g/s/#", 2)
        publish(broker, 1, 2)
        _, _, identifier, payload = silent.publishes(1)[0]
        member = PahoClient(broker, "member").subscribe("$share/g/s/#", 2)
        silent.close(politely=False)
        if not REFERENCE:
            broker.restart()
            member.close()
            member = PahoClient(broker, "member").subscribe("$share/g/s/#", 2)
        publish(broker, 2, 2, first=1)
        back = RawClient(broker, "silent", level=5, clean=False, expiry=600)
        again = back.publishes(1)[0]
        equal((again[0], again[2], again[3]), (True, identifier, payload), "the same again")
        equal(0 in numbers(member.seen), False, "also to another member")


@suite.case("no local on a shared subscription is a protocol error [MQTT-3.8.3-4]")
def no_local():
    with Broker() as broker:
        client = RawClient(broker, "c", level=5)
        client.send(0x82, b"\0\1\0" + text("$share/g/s/#") + b"\x05")
        first, body = client.read()
        equal((first, body[:1] if first == 0xE0 else body), differs((0xE0, b"\x82"), (0x90, b"\0\1\0\1"),
                                     "mosquitto 2.0.11 grants it"), "answer")


@for_versions("retained messages aren't sent to shared subscriptions")
def retained(version):
    with Broker() as broker:
        sender = PahoClient(broker, "sender", version)
        sender.publish("s/kept", b"0", 1, True)
        member = PahoClient(broker, "member", version).subscribe("$share/g/s/#", 1)
        sender.publish("s/live", b"1", 1, True)
        expected = differs([(b"1", False)], [(b"0", True), (b"1", False)],
                           "mosquitto 2.0.11 sends them; MQTT 5, 4.8.2: retained messages are not "
                           "sent to the session when it first subscribes")
        equal([(m.payload, bool(m.retain)) for m in member.expect(len(expected))], expected,
              "messages")


@suite.case("5.0: subscription identifier, retain as published")
def options():
    with Broker() as broker:
        member = PahoClient(broker, "member")
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = 99
        _, mid = member.client.subscribe(
            "$share/g/s/#", options=SubscribeOptions(qos=1, retainAsPublished=True),
            properties=properties)
        member._wait(lambda: mid in member.acknowledged, "SUBACK")
        PahoClient(broker, "sender").publish("s/x", b"1", 1, True)
        message = member.expect(1)[0]
        equal(message.properties.SubscriptionIdentifier, [99], "subscription identifier")
        equal(message.retain, True, "retain")


@for_versions("unsubscribing leaves the group to the others")
def unsubscribe(version):
    with Broker() as broker:
        a, b = (PahoClient(broker, i, version).subscribe("$share/g/s/#", 1) for i in "ab")
        a.unsubscribe("$share/g/s/#")
        publish(broker, 10)
        equal(numbers(b.expect(10)), list(range(10)), "messages")
        equal(len(a.seen), 0, "of the one that left")


@for_versions("a group of sessions that don't persist ends with the last of them")
def last_leaves(version):
    with Broker() as broker:
        PahoClient(broker, "a", version).subscribe("$share/g/s/#", 1).close()
        publish(broker, 5)
        member = PahoClient(broker, "b", version).subscribe("$share/g/s/#", 1)
        publish(broker, 1, first=5)
        equal(numbers(member.expect(1)), [5], "messages")


@suite.case("names that can't be shares are refused [MQTT-4.8.2-1, -2]")
def validity():
    for bad in ("$share/g", "$share/g/", "$share//s", "$share/+/s", "$share/#/s", "$share/g+/s"):
        for level in (4, 5):
            with Broker() as broker:
                client = RawClient(broker, "c", level=level)
                try:
                    answer = client.subscribe(bad, 1)
                except ConnectionError:
                    answer = "closed"
                refused = {4: {0x80}, 5: {0x8F}}[level]
                refused = differs(refused, refused | {"closed", 0x80, 0x8F, 1},
                                  "mosquitto closes the connection for some of these and grants "
                                  "others, e.g. a wildcard in the name")
                assert answer in refused, f"{bad} at level {level}: {answer}"


@suite.case("5.0: CONNACK doesn't say that shared subscriptions are missing")
def connack():
    with Broker() as broker:
        client = RawClient(broker, "c", level=5)
        assert b"\x2a\x00" not in client.connack[1], client.connack


@suite.case("mosquitto_sub and npm mqtt as members of one group")
def third_parties():
    with Broker() as broker:
        commands = [["stdbuf", "-oL", "mosquitto_sub", "-p", str(broker.mqtt), "-V", version, "-t",
                     "$share/g/s/#", "-q", "1", "-d", "-F", "REC %p"]
                    for version in ("mqttv311", "mqttv5")]
        commands += [["node", os.path.join(ROOT, "conformance/js/mqtt_member.mjs"),
                      str(broker.mqtt), "$share/g/s/#", version] for version in ("4", "5")]
        members = [Lines(command) for command in commands]
        try:
            shares_of(broker, members)
        finally:
            for member in members:
                member.end()


def shares_of(broker, members):
    for member in members:
        wait_until(lambda m=member: any("Subscribed" in line for line in m.lines), what="SUBACK")
    publish(broker, 80)

    def got():
        return [[int(line[4:]) for line in m.lines if line.startswith("REC ")] for m in members]

    wait_until(lambda: sum(map(len, got())) >= 80, what="80 messages")
    equal(sorted(sum(got(), [])), list(range(80)), "messages")
    equal([len(one) for one in got()], [20] * 4, "shares")


# ---- ours alone


@ours("a Kafka producer's records reach the group")
def from_kafka():
    from confluent_kafka import Producer
    with Broker() as broker:
        sleeper(broker, "a", share="$share/g/jobs/#").drop()
        producer = Producer({"bootstrap.servers": broker.kafka})
        for number in range(20):
            producer.produce("jobs", b"%d" % number, b"k%d" % number)
        producer.flush(20)
        equal(numbers(sleeper(broker, "a", share=None).expect(20)), list(range(20)), "messages")


@ours("kill -9 under load: what was acknowledged to publishers reaches the group, at each QoS once "
      "at least; at QoS 2 once")
def killed():
    for level in (1, 2):
        with Broker() as broker:
            for client_id in ("a", "b"):
                sleeper(broker, client_id, qos=level).drop()
            got, lock = [], threading.Lock()

            def on_message(client, userdata, message):
                with lock:
                    got.append(int(message.payload))

            # They connect again by themselves, with what they remember of QoS 2.
            members = [PahoClient(broker, i, clean=False, expiry=600, on_message=on_message)
                       for i in "ab"]
            promised = 0
            for _ in range(4):
                sender = PahoClient(broker, "sender", paho.MQTTv311, clean=False)
                for _ in range(60):
                    sender.publish("s/x", b"%d" % promised, level)
                    promised += 1
                sender.close()
                broker.restart()
            wait_until(lambda: set(range(promised)) <= set(got), 30, "all that was promised")
            for member in members:
                member.close()
            if level == 2:
                equal(sorted(got), list(range(promised)), "messages, once each")


@ours("groups stand in one listing with their lag")
def listing():
    def polylog(*arguments):
        command = [BINARY, "group", *arguments, "--admin", broker.admin, "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=20).stdout)

    with Broker() as broker:
        sleeper(broker, "a").drop()
        publish(broker, 5)
        from confluent_kafka import Consumer
        consumer = Consumer({"bootstrap.servers": broker.kafka, "group.id": "k",
                             "auto.offset.reset": "earliest"})
        consumer.subscribe(["s"])
        wait_until(lambda: consumer.poll(0.2), 30, "a record")
        consumer.commit(asynchronous=False)
        groups = {group["group"]: group for group in polylog("list")["groups"]}
        equal(sorted(groups), ["$share/g/s/#", "k"], "groups")
        equal(groups["$share/g/s/#"]["lag"], 5, "lag")
        equal(groups["$share/g/s/#"]["members"], 1, "members")
        one = polylog("describe", "$share/g/s/#")
        equal(one["members"], [{"member_id": "a", "client_id": "a", "connected": False}], "members")
        equal(one["offsets"][0]["topic"], "s/#", "filter")
        equal(one["offsets"][0]["lag"], 5, "lag")
        consumer.close()
        back = sleeper(broker, "a", share=None)
        back.expect(5)
        wait_until(lambda: polylog("describe", "$share/g/s/#")["offsets"][0]["lag"] == 0,
                   what="no lag")


@ours("what the rules deny to one member goes to another; what they deny to all bars nobody's way")
def denied():
    def polylog(*arguments, said="secret\n"):
        subprocess.run([BINARY, *arguments, "--admin", broker.admin], input=said, text=True, check=True,
                       stdout=subprocess.DEVNULL, timeout=60,
                       env={**os.environ, "POLYLOG_USER": "root", "POLYLOG_PASSWORD": "secret"})

    def member(name):
        client = PahoClient(broker, name, prepare=lambda client: client.username_pw_set(name, "secret"))
        return client.subscribe("$share/g/#", 1)

    with Broker(["auth.superusers=root"]) as broker:
        for name in ("root", "ann", "eve"):
            polylog("user", "create", name)
        polylog("acl", "create", "deny", "eve", "read", "hidden")
        polylog("acl", "create", "deny", "*", "read", "nobody")
        eve, ann = member("eve"), member("ann")
        for topic, first in (("hidden/x", 0), ("nobody/x", 100), ("open/x", 20)):
            publish(broker, 20, topic=topic, first=first)
        wait_until(lambda: len(ann.seen) + len(eve.seen) >= 40, what="40 messages")
        equal(numbers(ann.seen + eve.seen), list(range(40)), "messages")
        equal({m.topic for m in eve.seen}, {"open/x"}, "what eve got")


@ours("mqtt.shared_dispatch: sticky, hash_topic, hash_client, random, least_in_flight")
def strategies():
    for name in ("sticky", "hash_topic", "hash_client", "random", "least_in_flight"):
        with Broker([f"mqtt.shared_dispatch={name}"]) as broker:
            members = [PahoClient(broker, f"m{i}").subscribe("$share/g/s/#", 1) for i in range(2)]
            senders = [PahoClient(broker, f"sender{i}") for i in range(8)]
            for number in range(160):
                senders[number % 8].publish(f"s/{number % 5}", b"%d %d" % (number, number % 8), 1)
            wait_until(lambda: sum(len(m.seen) for m in members) >= 160, what="160 messages")
            counts = sorted(len(m.seen) for m in members)
            if name == "sticky":
                equal(counts, [0, 160], "shares")
                continue
            assert counts[0] > 0, f"{name}: {counts}"
            if name.startswith("hash"):
                kinds = [{m.topic if name == "hash_topic" else m.payload.split()[1]
                          for m in member.seen} for member in members]
                equal(kinds[0] & kinds[1], set(), name)


@ours("what the rules let only a sleeping member read is kept for it, over kill -9, and bars nobody's way")
def kept_for_sleeper():
    with Broker(["auth.superusers=root"]) as broker:
        def polylog(*arguments, text=""):
            subprocess.run([BINARY, *arguments, "--admin", broker.admin], input=text, text=True, check=True,
                           stdout=subprocess.DEVNULL, timeout=60,
                           env={**os.environ, "POLYLOG_USER": "root", "POLYLOG_PASSWORD": "root-secret"})

        def lag():
            said = subprocess.run([BINARY, "group", "describe", "$share/g/#", "--json", "--admin", broker.admin],
                                  check=True, stdout=subprocess.PIPE, timeout=60,
                                  env={**os.environ, "POLYLOG_USER": "root", "POLYLOG_PASSWORD": "root-secret"})
            return json.loads(said.stdout)["offsets"][0]["lag"]

        for name in ("root", "ann", "eve"):
            polylog("user", "create", name, text=f"{name}-secret\n")
        polylog("acl", "create", "deny", "eve", "read", "secret")

        def member(name, **options):
            return PahoClient(broker, name, prepare=lambda client: client.username_pw_set(name, f"{name}-secret"),
                              **options)

        ann = member("ann", clean=False, expiry=600).subscribe("$share/g/#", 1)
        ann.drop()
        eve = member("eve").subscribe("$share/g/#", 1)
        sender = member("root")
        for number in range(5):
            sender.publish("secret/x", b"%d" % number, 1)
        sender.publish("open/x", b"open", 1)
        equal([m.payload for m in eve.expect(1)], [b"open"], "eve's")
        wait_until(lambda: lag() == 5, 10, "five are kept")
        for client in (eve, sender):
            client.drop()
        broker.restart()
        eve = member("eve").subscribe("$share/g/#", 1)
        member("root").publish("open/x", b"open", 1)
        equal([m.payload for m in eve.expect(1)], [b"open"], "eve's after the restart")
        ann = member("ann", clean=False, expiry=600)
        equal(numbers(ann.expect(5)), list(range(5)), "ann's")
        wait_until(lambda: lag() == 0, 10, "nothing left")


if __name__ == "__main__":
    sys.exit(suite.run())
