#!/usr/bin/python3
"""What waits for a session that sleeps, or is slow, has limits: how many, how much, how old. Exactly which messages
remain, over kill -9 too, and beside mosquitto, which has limits of the kind."""

import json
import subprocess
import sys
import urllib.request

import paho.mqtt.client as paho
from confluent_kafka.admin import AdminClient, NewTopic

from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.mosquitto import Mosquitto
from lib.mqtt_clients import PahoClient
from lib.mqtt_raw import PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREL, RawClient, text, two

suite = Suite("mqtt_inbox")


def sleep(broker, client_id="sleeper", topics=("t/#",)):
    """Subscribes and leaves: -E ends mosquitto_sub at its SUBACK."""
    subprocess.run(["mosquitto_sub", "-p", str(broker.mqtt), "-i", client_id, "-c", "-q", "1", "-E",
                    *(word for topic in topics for word in ("-t", topic))], check=True, timeout=30)


def wake(broker, count, client_id="sleeper"):
    """The payloads of all that comes, which is `count`, all of it acknowledged."""
    client = PahoClient(broker, client_id, paho.MQTTv311, clean=False)
    client.expect(count)
    client.unsubscribe("nothing")  # answered behind all that came, and asked behind all acknowledgements
    payloads = [message.payload for message in client.seen]
    client.close()
    return payloads


def publish(broker, payloads, topic="t/x"):
    """One after the other, each acknowledged."""
    subprocess.run(["mosquitto_pub", "-p", str(broker.mqtt), "-q", "1", "-t", topic, "-l"],
                   input=b"".join(payload + b"\n" for payload in payloads), check=True, timeout=60)


def session(broker, client_id="sleeper"):
    with urllib.request.urlopen(f"{broker.admin}/api/sessions/{client_id}", timeout=10) as answer:
        return json.load(answer)


def waits(broker, count, client_id="sleeper"):
    wait_until(lambda: session(broker, client_id)["waiting"] == count, 20,
               f"that {count} wait (now {session(broker, client_id)})")


def metric(broker, reason):
    with urllib.request.urlopen(f"{broker.admin}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f'polylog_dropped_total{{reason="{reason}"}}'):
                return int(float(line.split()[-1]))
    return 0


def numbers(first, end):
    return [b"%d" % number for number in range(first, end)]


def large(first, end, octets=10_000):
    return [(b"%d." % number).ljust(octets, b"x") for number in range(first, end)]


def short(payloads):
    return [payload.split(b".")[0] for payload in payloads]


@suite.case("max_records: the newest remain, exactly, over kill -9; told and counted")
def oldest():
    with Broker(["mqtt.inbox.max_records=10"]) as broker:
        sleep(broker)
        publish(broker, numbers(0, 500))
        waits(broker, 10)
        equal(session(broker)["dropped"], 490, "dropped")
        equal(metric(broker, "inbox_full"), 490, "counted")
        broker.restart()
        waits(broker, 10)
        publish(broker, numbers(500, 503))
        waits(broker, 10)
        equal(wake(broker, 10), numbers(493, 503), "what remains")


@suite.case("max_records, lowered while it is down: the newest remain as soon as it is up")
def lowered():
    with Broker() as broker:
        sleep(broker)
        publish(broker, numbers(0, 100))
        broker.kill()
        broker.settings = ["mqtt.inbox.max_records=7"]
        broker.start()
        waits(broker, 7)
        equal(wake(broker, 7), numbers(93, 100), "what remains")


def newest_of(broker):
    sleep(broker)
    publish(broker, numbers(0, 30))
    equal(wake(broker, 10), numbers(0, 10), "what remains")
    publish(broker, numbers(30, 45))
    equal(wake(broker, 10), numbers(30, 40), "once there was room")


@suite.case("drop_new: the oldest remain, exactly; as mosquitto's max_queued_messages")
def newest():
    with Mosquitto(more="max_queued_messages 10") as broker:
        newest_of(broker)
    with Broker(["mqtt.inbox.max_records=10", "mqtt.inbox.when_full=drop_new"]) as broker:
        newest_of(broker)
        equal((session(broker)["waiting"], session(broker)["dropped"]), (0, 25), "told")


@suite.case("drop_new over kill -9: what was let in is there, what was not is not")
def newest_crash():
    with Broker(["mqtt.inbox.max_records=10", "mqtt.inbox.when_full=drop_new"]) as broker:
        sleep(broker)
        publish(broker, numbers(0, 30))
        broker.restart()
        waits(broker, 10)
        publish(broker, numbers(30, 32))
        broker.restart()
        equal(wake(broker, 10), numbers(0, 10), "what remains")


@suite.case("max_bytes: as many of the newest as fit, over kill -9; with drop_new, of the oldest")
def octets():
    # As they stand in the log: the payload, and less than a hundred octets more.
    limit = "mqtt.inbox.max_bytes=105000"
    for more, remain in (([], large(30, 40)), (["mqtt.inbox.when_full=drop_new"], large(0, 10))):
        with Broker([limit, *more]) as broker:
            sleep(broker)
            publish(broker, large(0, 20))
            broker.restart()
            publish(broker, large(20, 40))
            waits(broker, 10)
            told = session(broker)["waiting_bytes"]
            assert 100_000 <= told <= 105_000, told
            equal(short(wake(broker, 10)), short(remain), "what remains")
    # mosquitto counts payloads, and takes one that begins below the limit.
    with Mosquitto(more="max_queued_messages 1000\nmax_queued_bytes 95000") as broker:
        sleep(broker)
        publish(broker, large(0, 40))
        equal(short(wake(broker, 10)), short(large(0, 10)), "mosquitto's")


@suite.case("max_bytes: one message always may wait; neighbours of one batch share its octets")
def one_waits():
    with Broker(["mqtt.inbox.max_bytes=5000"]) as broker:
        sleep(broker)
        publish(broker, large(0, 3))
        waits(broker, 1)
        equal(short(wake(broker, 1)), [b"2"], "the last")
    # kcat sends one batch: its records are dropped one by one.
    with Broker(["mqtt.inbox.max_bytes=105000"]) as broker:
        publish(broker, [b"first"], "t")
        sleep(broker)
        subprocess.run(["kcat", "-P", "-b", broker.kafka, "-t", "t", "-X", "linger.ms=500", "-X", "batch.size=900000"],
                       input=b"\n".join(large(0, 40)), check=True, timeout=30)
        waits(broker, 10)
        equal(short(wake(broker, 10)), short(large(30, 40)), "what remains")


@suite.case("what is dropped gives its space back, what remains outlives the rewriting of its segments")
def space():
    settings = ["storage.segment_bytes=1048576", "storage.retention_check_ms=200", "topics.retention.bytes=1"]
    with Broker([*settings, "mqtt.inbox.max_bytes=105000"]) as broker:
        sleep(broker, "early", ["t/early", "t/x"])
        sleep(broker)
        publish(broker, [b"early"], "t/early")
        publish(broker, large(0, 800))
        waits(broker, 10)
        wait_until(lambda: broker.data_bytes() < 5_000_000, 30, f"less than 5 MB ({broker.data_bytes()})")
        waits(broker, 10, "early")
        broker.restart()
        publish(broker, large(800, 803))
        for client in ("sleeper", "early"):
            waits(broker, 10, client)
            told = session(broker, client)["waiting_bytes"]
            assert 100_000 <= told <= 105_000, told
            equal(short(wake(broker, 10, client)), short(large(793, 803)), "what remains")


@suite.case("drop_new holds for what Kafka clients produce")
def produced():
    with Broker(["mqtt.inbox.max_records=10", "mqtt.inbox.when_full=drop_new"]) as broker:
        publish(broker, [b"first"], "t")
        sleep(broker)
        subprocess.run(["kcat", "-P", "-b", broker.kafka, "-t", "t"], input=b"\n".join(numbers(0, 25)), check=True,
                       timeout=30)
        wait_until(lambda: metric(broker, "inbox_full") == 15, 20, "that the others are dropped")
        equal(wake(broker, 10), numbers(0, 10), "what remains")


@suite.case("a slow client: nothing more than the limit waits for it, in flight or not")
def slow():
    with Broker(["mqtt.inbox.max_records=10", "mqtt.inbox.when_full=drop_new"]) as broker:
        client = RawClient(broker, "slow", level=5, clean=False, expiry=600, properties=b"\x21\0\x02")
        client.subscribe("t/#", 1)
        publish(broker, numbers(0, 30))
        waits(broker, 10, "slow")
        equal(session(broker, "slow")["in_flight"], 2, "in flight")
        got = []
        while len(got) < 10:
            body = client.read()[1]
            size = int.from_bytes(body[:2], "big")
            got.append(body[2 + size + 2 + 1:])
            client.send(PUBACK, body[2 + size:4 + size])
        equal(got, numbers(0, 10), "what it gets")
        waits(broker, 0, "slow")
        publish(broker, numbers(30, 31))
        equal(client.read()[1][-2:], b"30", "room again")


@suite.case("max_inflight: no more is on its way to a 3.1.1 client, which has no Receive Maximum")
def in_flight():
    with Broker(["mqtt.max_inflight=3"]) as broker:
        client = RawClient(broker, "slow", level=4, clean=False)
        client.subscribe("t/#", 1)
        publish(broker, numbers(0, 10))
        waits(broker, 10, "slow")
        first = [client.read()[1][-1:] for _ in range(3)]
        equal(first, numbers(0, 3), "at first")
        equal(session(broker, "slow")["in_flight"], 3, "in flight")
        client.send(0xC0)
        equal(client.read()[0], 0xD0, "what comes next: PINGRESP")


@suite.case("max_age_s: what is too old goes by itself, over kill -9, and retained messages stay")
def age():
    with Broker(["mqtt.inbox.max_age_s=3"]) as broker:
        publisher = PahoClient(broker, "publisher")
        publisher.publish("t/state", b"state", 1, True)
        sleep(broker)
        publish(broker, numbers(0, 5))
        waits(broker, 6)
        waits(broker, 1)
        equal(metric(broker, "too_old"), 5, "counted")
        publish(broker, numbers(5, 10))
        broker.restart()
        waits(broker, 6)
        waits(broker, 1)
        publish(broker, numbers(10, 12))
        equal(wake(broker, 3), [b"state", *numbers(10, 12)], "what remains")


@suite.case("max_age_s holds for a client that is there and acknowledges nothing, but for what is in flight")
def age_connected():
    with Broker(["mqtt.inbox.max_age_s=3"]) as broker:
        client = RawClient(broker, "slow", level=5, clean=False, expiry=600, properties=b"\x21\0\x02")
        client.subscribe("t/#", 1)
        publish(broker, numbers(0, 10))
        waits(broker, 10, "slow")
        waits(broker, 2, "slow")
        equal(session(broker, "slow")["in_flight"], 2, "in flight")
        equal((session(broker, "slow")["dropped"], metric(broker, "too_old")), (8, 8), "told and counted")
        first = [client.wait(PUBLISH) for _ in range(2)]
        equal([one.payload for one in first], numbers(0, 2), "what is in flight")
        for one in first:
            client.send(PUBACK, two(one.identifier))
        client.send(PINGREQ)
        equal(client.next().type, PINGRESP, "nothing else was due: what comes next")
        publish(broker, numbers(10, 11))
        equal(client.wait(PUBLISH).payload, b"10", "what is new")


@suite.case("max_age_s beside a replay: its past stays, though it is older, what comes beside it goes")
def age_replay():
    with Broker(["mqtt.inbox.max_age_s=3"]) as broker:
        publish(broker, numbers(0, 3), "r/x")
        client = RawClient(broker, "slow", level=5, clean=False, expiry=600, properties=b"\x21\0\x02")
        client.subscribe("$replay/earliest/r/#", 1)
        first = [client.wait(PUBLISH) for _ in range(2)]
        client.subscribe("t/#", 1)
        publish(broker, numbers(10, 15))
        waits(broker, 8, "slow")
        waits(broker, 3, "slow")
        for one in first:
            client.send(PUBACK, two(one.identifier))
        equal(client.wait(PUBLISH).payload, b"2", "the past")
        client.send(PINGREQ)
        equal(client.next().type, PINGRESP, "what comes next")


@suite.case("QoS 2 beyond 1,024 in flight, kill -9, and a lower limit: whatever the client may have is released")
def released():
    count = 2000
    with Broker([f"mqtt.max_inflight={count}"]) as broker:
        client = RawClient(broker, "slow", level=4, clean=False)
        client.subscribe("t/#", 2)
        subprocess.run(["mosquitto_pub", "-p", str(broker.mqtt), "-q", "2", "-t", "t/x", "-l"],
                       input=b"\n".join(numbers(0, count)), check=True, timeout=60)
        ids = {client.wait(PUBLISH).identifier for _ in range(count)}
        equal(len(ids), count, "in flight")
        broker.kill()
        broker.settings.append("mqtt.inbox.max_records=10")
        broker.start()
        client = RawClient(broker, "slow", level=4, clean=False)
        again = [client.wait(PUBREL & 0xF0, PUBLISH) for _ in range(count)]
        equal({one.identifier for one in again}, ids, "what the broker ends")
        equal(sum(one.type == PUBLISH for one in again), 10, "sent again")
        for one in again:
            if one.type != PUBLISH:
                client.send(PUBCOMP, two(one.identifier))
        waits(broker, 10, "slow")


def limit_topic(broker, name, octets):
    admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": str(octets)})])[name].result(20)
    return admin


def series(broker, start):
    with urllib.request.urlopen(f"{broker.admin}/metrics", timeout=10) as answer:
        return next((int(float(line.split()[-1])) for line in answer.read().decode().splitlines()
                     if line.startswith(start)), 0)


@suite.case("beyond a topic's max.message.bytes: the log says whose and where, the metric counts, at QoS 0 too")
def too_large():
    counted = 'polylog_publish_too_large_total{protocol="mqtt"}'
    with Broker() as broker:
        limit_topic(broker, "small", 1000)
        what = "a record of 2000 octets for 'small/x', 1000 at most (max.message.bytes of topic 'small')"

        def logged(client_id, words):
            with open(broker.log_path, errors="replace") as log:
                return any(f"client '{client_id}'" in line and words in line and what in line for line in log)

        payload = "x" * 2000
        at = ["mosquitto_pub", "-p", str(broker.mqtt), "-t", "small/x", "-m", payload]
        subprocess.run([*at, "-i", "zero", "-q", "0"], check=True, timeout=30)
        wait_until(lambda: logged("zero", "dropped"), 20, "that the log tells of QoS 0")
        equal(series(broker, counted), 1, "counted")
        equal(series(broker, 'polylog_publish_refused_total{protocol="mqtt"}'), 1, "refused")
        # 3.1.1 has no word for it: the client is cut off, and the log is where the reason stands.
        cut = RawClient(broker, "old", level=4)
        cut.send(0x32, text("small/x") + two(1) + payload.encode())
        equal(cut.until_closed(), [], "3.1.1 gets nothing")
        wait_until(lambda: logged("old", "cut off"), 20, "that the log says why")
        told = RawClient(broker, "new", level=5)
        told.send(0x32, text("small/x") + two(1) + b"\0" + payload.encode())
        puback = told.wait(PUBACK)
        equal((puback.code >= 0x80, puback.get("reason_string").decode()), (True, what), "5.0 is told")
        equal(series(broker, counted), 3, "counted")


if __name__ == "__main__":
    sys.exit(suite.run())
