"""Wills (3.1.2.5): when they go out, as what, and when not."""

import time

from lib.cases import equal
from lib.mqtt_raw import DISCONNECT, packet

from .scenario import case


def will(at, name="w", payload="gone", **more):
    return {"topic": at.topic(name), "payload": payload, "qos": 1, "retain": False, **more}


def watcher(at, **options):
    client = at.peer("watcher")
    client.subscribe(at.topic("#"), qos=2, **options)
    return client


@case("a will goes out when the connection is lost, and after a protocol error",
      "3.1.2-8 4.8.0-1", "3.1.2-7 3.1.2-8 4.13.1-1")
def lost(at):
    seen = watcher(at)
    at.peer("lost", will=will(at, "lost")).drop()
    equal(seen.take(1)[0].topic.decode(), at.topic("lost"), "will")
    wrong = at.peer("wrong", will=will(at, "wrong"))
    wrong.send(0x82, b"")
    wrong.until_closed()
    equal(seen.take(1)[0].topic.decode(), at.topic("wrong"), "will")


@case("DISCONNECT takes the will back; without one there is none", "3.1.2-10 3.1.2-12 3.14.4-3",
      "3.1.2-10 3.14.4-3 3.1.2-8")
def taken_back(at):
    seen = watcher(at)
    at.peer("polite", will=will(at, "polite")).leave()
    at.peer("none").drop()
    # A connection that takes over what a polite one has left behind.
    at.peer("kept", kept=True, will=will(at, "kept")).leave()
    at.peer("kept", kept=True).drop()
    at.publish(at.topic("end"), b"end")
    equal(seen.message().payload, b"end", "first message")


@case("a will goes out once: not again when the client is back and lost again", "3.1.2-10", "3.1.2-10")
def once(at):
    seen = watcher(at)
    at.peer("a", kept=True, will=will(at)).drop()
    equal(seen.take(1)[0].payload, b"gone", "will")
    at.peer("a", kept=True).drop()
    at.publish(at.topic("end"), b"end")
    equal(seen.message().payload, b"end", "the next message")


@case("a will without its retain flag isn't retained", "3.1.2-16", "3.1.2-14")
def not_retained(at):
    seen = watcher(at)
    at.peer("lost", will=will(at)).drop()
    equal(seen.take(1)[0].retain, False, "retain")
    late = at.peer("late")
    late.subscribe(at.topic("#"))
    at.publish(at.topic("end"), b"end")
    equal(late.message().payload, b"end", "first message")


@case("a will with its retain flag is retained", "3.1.2-17", "3.1.2-15")
def retained(at):
    seen = watcher(at)
    at.peer("lost", will=will(at, retain=True)).drop()
    seen.take(1)
    late = at.peer("late")
    late.subscribe(at.topic("#"))
    came = late.message()
    equal((came.payload, came.retain), (b"gone", True), "retained")


@case("a will goes out at its QoS", "3.1.2-9", "3.1.2-8")
def qos(at):
    seen = watcher(at)
    for level in (0, 1, 2):
        at.peer(f"lost{level}", will=will(at, payload=str(level), qos=level)).drop()
        came = seen.take(1)[0]
        equal((came.payload, came.qos), (b"%d" % level, level), "will")


@case("DISCONNECT 0x04 lets the will go out", v5="3.1.2-8 3.1.2-10")
def disconnect_with_will(at):
    seen = watcher(at)
    client = at.peer("a", will=will(at))
    client.connection.sendall(packet(DISCONNECT, b"\x04"))
    equal(client.until_closed(), [], "after DISCONNECT")
    equal(seen.take(1)[0].payload, b"gone", "will")


@case("a will waits for its delay, or the session's end if that is earlier", v5="3.1.2-8")
def delayed(at):
    seen = watcher(at)
    began = time.monotonic()
    at.peer("slow", kept=True, will=will(at, "slow", delay=2)).drop()
    at.peer("ends", clean=False, expiry=1, will=will(at, "ends", delay=600)).drop()
    at.peer("clean", will=will(at, "clean", delay=600)).drop()
    order = [one.topic.decode() for one in seen.take(3)]
    equal(order, [at.topic(name) for name in ("clean", "ends", "slow")], "wills")
    assert time.monotonic() - began >= 1.9, "too early"


@case("a client that is back before its will's delay has run out has none", v5="3.1.3-9 3.1.2-8")
def back_in_time(at):
    seen = watcher(at)
    at.peer("a", kept=True, will=will(at, delay=2)).drop()
    at.peer("a", kept=True)
    time.sleep(2.5)  # the point of the case is that time passes
    at.publish(at.topic("end"), b"end")
    equal(seen.message().payload, b"end", "first message")


@case("a will's properties reach its subscribers, user properties in their order", v5="3.1.3-10")
def with_properties(at):
    seen = watcher(at)
    users = [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"a", b"2")]
    props = [("content_type", "t/p"), ("response_topic", "r/t"), ("correlation_data", b"\0\xff")]
    at.peer("lost", will=will(at, props=props + [("user_property", one) for one in users])).drop()
    came = seen.take(1)[0]
    equal(came.all("user_property"), users, "user properties")
    equal([came.get(name) for name, _ in props], [b"t/p", b"r/t", b"\0\xff"], "other properties")
