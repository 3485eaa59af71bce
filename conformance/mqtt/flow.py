"""Flow control (4.9), Maximum Packet Size (3.1.2.11.4)."""

from lib.cases import equal
from lib.mqtt_raw import (PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK,
                          UNSUBSCRIBE, packet, text, two)

from .scenario import case

RELEASE = PUBREL & 0xF0


def small(at, size, **options):
    """A client that takes packets of so many octets."""
    return at.peer("small", properties=b"\x27" + size.to_bytes(4, "big"), **options)


@case("no more unacknowledged messages than the client's Receive Maximum; others and other packets go on",
      v5="3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3")
def receive_maximum(at):
    client = at.peer("reader", properties=b"\x21\0\x03")
    client.subscribe(at.topic("#"), qos=2)
    sender = at.peer("sender")
    for number in range(10):
        sender.publish(at.topic("x"), b"%d" % number, 1 + number % 2)
    held = client.messages(3)
    client.ping()
    equal(client.subscribe(at.topic("other"), qos=0), [0], "granted, at a quota of 0")
    sender.publish(at.topic("zero"), b"zero", 0)
    equal(client.message().payload, b"zero", "QoS 0, at a quota of 0")
    equal(client.ping().first, 0xD0, "PINGRESP")
    equal([one.payload for one in client.aside if one.qos], [], "beyond the quota")
    # PUBREC doesn't give a place back, PUBCOMP does, and PUBACK.
    second = next(one for one in held if one.qos == 2)
    client.ack(second.identifier, PUBREC)
    client.wait(RELEASE)
    client.ping()
    equal([one.payload for one in client.aside if one.qos], [], "after PUBREC")
    client.ack(second.identifier, PUBCOMP)
    equal(client.message().qos, 2, "after PUBCOMP")
    for one in held:
        if one.qos == 1:
            client.ack(one.identifier)
    client.message()


@case("PUBREC of 0x80 or above gives a place back", v5="3.3.4-9 4.9.0-2")
def refused_place(at):
    client = at.peer("reader", properties=b"\x21\0\x01")
    client.subscribe(at.topic("#"), qos=2)
    for number in range(3):
        at.publish(at.topic("x"), b"%d" % number, 2)
    for number in range(3):
        came = client.message()
        equal(came.payload, b"%d" % number, "message")
        client.send(PUBREC, two(came.identifier) + b"\x83")


@case("a client that goes beyond the broker's Receive Maximum is cut off with 0x93", v5="3.3.4-7 4.9.0-2")
def beyond(at):
    client = at.peer("eager")
    most = client.connack.get("receive_maximum", 65535)
    if most > 2000:  # mosquitto's default is 20
        return
    client.connection.sendall(b"".join(
        packet(PUBLISH | 4, text(at.topic("x")) + two(number) + b"\0") for number in range(1, most + 2)))
    came = [one for one in client.until_closed() if one.type != PUBREC]
    equal([one.code for one in came], [0x93], "the end")


@case("as many as the broker's Receive Maximum are taken, and other packets with them", v5="3.3.4-8 4.9.0-3")
def up_to(at):
    client = at.peer("eager")
    most = min(2000, client.connack.get("receive_maximum", 65535))
    client.connection.sendall(b"".join(
        packet(PUBLISH | 4, text(at.topic("x")) + two(number) + b"\0") for number in range(1, most + 1)))
    for number in range(1, most + 1):
        equal(client.wait(PUBREC).identifier, number, "PUBREC")
    client.ping()
    equal(client.subscribe(at.topic("y"), identifier=60000), [0], "granted")
    client.send(PUBREL, two(1))
    client.wait(PUBCOMP)
    client.send_publish(at.topic("x"), b"", 2, identifier=61000)
    equal(client.wait(PUBREC).identifier, 61000, "PUBREC")


@case("a message larger than the client takes is discarded as if it had been delivered",
      v5="3.1.2-24 3.1.2-25")
def too_large(at):
    for qos in (0, 1, 2):
        client = small(at, 100, kept=True)
        client.subscribe(at.topic("#"), qos=2)
        for payload in (b"a" * 10, b"b" * 200, b"c" * 20):
            at.publish(at.topic("x"), payload, qos)
        equal([one.payload[:1] for one in client.take(2)], [b"a", b"c"], "delivered")
        client.leave()
        client = at.peer("small", kept=True)  # takes everything now
        at.publish(at.topic("x"), b"end", qos)
        equal(client.take(1)[0].payload, b"end", "nothing of it comes later")
        client.leave()
        at.peer("small", clean=True).leave()


@case("the limit counts to the octet", v5="3.1.2-24 3.1.2-25")
def exact(at):
    client = small(at, 60)
    client.subscribe(at.topic("#"), qos=1)
    for extra in (0, 1):
        room = 60 - 2 - len(text(at.topic("x"))) - 2 - 1
        at.publish(at.topic("x"), bytes(room + extra), 1)
    at.publish(at.topic("x"), b"end", 1)
    seen = client.take(2)
    equal([one.size for one in seen][0], 60, "size")
    equal(seen[1].payload, b"end", "the next one")


@case("answers stay within the client's Maximum Packet Size: no reason strings or user properties then",
      v5="3.1.2-24 3.2.2-19 3.2.2-20 3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 "
         "3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2", ours=True)
def small_answers(at):
    client = small(at, 30)
    client.send_publish("$SYS/x", b"", 1, identifier=1)
    client.send_publish("$SYS/x", b"", 2, identifier=2)
    client.send(PUBREL, two(3))
    client.ack(4, PUBREC)
    client.send(SUBSCRIBE, two(5) + b"\0" + text("a/#/b") + b"\0")
    client.send(UNSUBSCRIBE, two(6) + b"\0" + text("never"))
    came = [client.wait(kind) for kind in (PUBACK, PUBREC, PUBCOMP, RELEASE, SUBACK, UNSUBACK)]
    equal([one.identifier for one in came], [1, 2, 3, 4, 5, 6], "answers")
    assert max(one.size for one in came + [client.connack]) <= 30, [one.size for one in came]


@case("DISCONNECT stays within the client's Maximum Packet Size", v5="3.1.2-24 3.14.2-3 3.14.2-4")
def small_disconnect(at):
    client = small(at, 25)
    client.connection.sendall(packet(PUBLISH, text("a/#") + b"\0"))
    came = client.until_closed()
    assert len(came) <= 1 and all(one.size <= 25 for one in came), [one.size for one in came]


@case("a packet larger than the broker takes ends the connection, in 5.0 with 0x95",
      "4.8.0-2", "3.2.2-15 4.13.1-1", ours=True)
def larger_than_ours(at):
    client = at.peer("large")
    most = client.connack.get("maximum_packet_size", 268435455)
    client.connection.sendall(b"\x30" + bytes([most & 0x7F | 0x80, most >> 7 & 0x7F | 0x80,
                                               most >> 14 & 0x7F | 0x80, most >> 21]) + text("a"))
    equal(client.ended(), 0x95 if at.v5 else "closed", "the end")
