"""What is sent again, and what isn't (4.3, 4.4), in which order (4.6)."""

import time

from lib.cases import equal
from lib.mqtt_raw import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL

from .scenario import case

RELEASE = PUBREL & 0xF0


def session(at, again=False, qos=2):
    client = at.peer("reader", kept=True)
    equal(client.connack.session_present, int(again), "session present")
    if not again:
        client.subscribe(at.topic("#"), qos=qos)
    return client


def end(at, client):
    """Nothing came before what is published now."""
    at.publish(at.topic("end"), b"end", 1)
    came = client.next()
    equal((came.type, came.payload if came.type == PUBLISH else None), (PUBLISH, b"end"), "next packet")
    client.finish(came)


@case("QoS 1: what hasn't been acknowledged comes again at a reconnect, with DUP and its identifier",
      "4.3.2-1 4.4.0-1 3.3.1-1 2.3.1-3 2.3.1-4", "4.3.2-3 4.4.0-1 3.3.1-1")
def unacknowledged(at):
    client = session(at)
    for number in range(4):
        at.publish(at.topic("x"), b"%d" % number, 1)
    first = client.messages(4)
    client.ack(first[1].identifier)
    client.ping()
    client.drop()
    client = session(at, again=True)
    again = client.messages(3)
    equal([(one.payload, one.identifier, one.dup) for one in again],
          [(first[n].payload, first[n].identifier, True) for n in (0, 2, 3)], "sent again")
    for one in again:
        client.ack(one.identifier)
    end(at, client)
    client.leave()
    end(at, session(at, again=True))


@case("nothing is sent again while the connection lasts", "4.4.0-1", "4.4.0-1")
def not_otherwise(at):
    client = session(at)
    at.publish(at.topic("x"), b"1", 1)
    at.publish(at.topic("x"), b"2", 2)
    client.messages(2)
    time.sleep(2)
    client.ping()
    equal(list(client.aside), [], "what came before PINGRESP")
    end(at, client)


@case("QoS 2: until PUBREC the PUBLISH comes again", "4.3.3-1 4.4.0-1 3.3.1-1", "4.3.3-3 4.4.0-1 3.3.1-1")
def unreceived(at):
    client = session(at)
    at.publish(at.topic("x"), b"x", 2)
    first = client.message()
    client.drop()
    client = session(at, again=True)
    again = client.next()
    equal((again.payload, again.identifier, again.dup, again.qos), (b"x", first.identifier, True, 2),
          "sent again")
    client.finish(again)
    end(at, client)


@case("QoS 2: after PUBREC only the PUBREL comes again, until PUBCOMP", "4.3.3-1 4.4.0-1",
      "4.3.3-5 4.3.3-6 4.4.0-1")
def unreleased(at):
    client = session(at)
    at.publish(at.topic("x"), b"x", 2)
    first = client.message()
    client.ack(first.identifier, PUBREC)
    client.wait(RELEASE)
    for _ in range(2):
        client.drop()
        client = session(at, again=True)
        again = client.next()
        equal((again.first, again.identifier), (PUBREL, first.identifier), "sent again")
    client.ack(first.identifier, PUBCOMP)
    end(at, client)
    client.leave()
    end(at, session(at, again=True))


@case("what is sent again is in the order in which it was sent", "4.6.0-1 4.6.0-6", "4.6.0-5 4.4.0-1")
def order(at):
    client = session(at)
    for number in range(30):
        at.publish(at.topic("x"), b"%d" % number, 1 + number % 2)
    client.messages(20)
    client.drop()
    client = session(at, again=True)
    seen = [one for one in client.take(30)]
    for qos in (1, 2):
        numbers = [int(one.payload) for one in seen if one.qos == qos]
        equal(numbers, sorted(numbers), f"order at QoS {qos}")
    equal(sorted(int(one.payload) for one in seen), list(range(30)), "messages")


@case("acknowledgements in another order are taken, too", "4.6.0-2 4.6.0-3 4.6.0-4",
      "4.6.0-2 4.6.0-3 4.6.0-4")
def other_order(at):
    client = session(at)
    for number in range(6):
        at.publish(at.topic("x"), b"%d" % number, 1 + number % 2)
    seen = client.messages(6)
    for one in reversed(seen):
        client.ack(one.identifier, PUBACK if one.qos == 1 else PUBREC)
    released = [client.wait(RELEASE).identifier for _ in range(3)]
    for identifier in reversed(released):
        client.ack(identifier, PUBCOMP)
    end(at, client)
    client.leave()
    end(at, session(at, again=True))


@case("a message that is never acknowledged is not given up, and the others' way isn't barred",
      "4.5.0-2", "4.5.0-2")
def never_acknowledged(at):
    client = session(at)
    at.publish(at.topic("x"), b"never", 1)
    never = client.message()
    for number in range(10):
        at.publish(at.topic("x"), b"%d" % number, 1)
    client.take(10)
    client.ping()
    client.drop()
    again = session(at, again=True).message()
    equal((again.payload, again.identifier), (b"never", never.identifier), "sent again")


@case("PUBACK or PUBREC with 0x80 or above acknowledges", v5="4.4.0-2")
def refused(at):
    client = session(at)
    for qos, kind in ((1, PUBACK), (2, PUBREC)):
        at.publish(at.topic("x"), b"x", qos)
        came = client.message()
        client.send(kind, came.identifier.to_bytes(2, "big") + b"\x80")
    end(at, client)
    client.leave()
    end(at, session(at, again=True))


@case("what has been sent doesn't expire: it comes again after its time", v5="4.3.3-7 3.3.2-5 4.4.0-1")
def sent_before_expiry(at):
    client = session(at)
    at.publish(at.topic("x"), b"sent", 2, message_expiry=1)
    first = client.message()
    client.drop()
    time.sleep(2.2)  # the point of the case is that time passes
    client = session(at, again=True)
    again = client.next()
    equal((again.payload, again.identifier, again.dup), (b"sent", first.identifier, True), "sent again")
    client.finish(again)
    end(at, client)


@case("what had been received when it expired is released nevertheless", v5="4.3.3-7 4.3.3-5")
def received_before_expiry(at):
    client = session(at)
    at.publish(at.topic("x"), b"sent", 2, message_expiry=1)
    first = client.message()
    client.ack(first.identifier, PUBREC)
    client.wait(RELEASE)
    client.drop()
    time.sleep(2.2)  # the point of the case is that time passes
    client = session(at, again=True)
    equal((client.next().first, first.identifier), (PUBREL, first.identifier), "sent again")
    client.ack(first.identifier, PUBCOMP)
    end(at, client)
