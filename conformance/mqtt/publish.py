"""PUBLISH and its acknowledgements (3.3 to 3.7, 4.3), retained messages, order, topic names (4.7)."""

from lib.cases import equal
from lib.mqtt_raw import (PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, packet, properties, text,
                          two)

from .scenario import case, refused


def subscriber(at, name="reader", qos=2, **options):
    client = at.peer(name, **options)
    client.subscribe(at.topic("#"), qos=qos)
    return client


def publish_octets(at, topic, first=PUBLISH, identifier=b"", payload=b"x"):
    return packet(first, text(topic) + identifier + (b"\0" if at.v5 else b"") + payload)


# ---- acknowledgements of what a client publishes


@case("PUBLISH is answered as its QoS says, with its identifier",
      "3.3.4-1 2.3.1-6 4.3.2-2 4.3.3-2", "3.3.4-1 2.2.1-5 4.3.2-4 4.3.3-8 4.3.3-11")
def answers(at):
    client = at.peer()
    client.send_publish(at.topic("x"), b"0", 0)
    client.send(PINGREQ)
    equal(client.next().first, 0xD0, "after QoS 0")
    client.send_publish(at.topic("x"), b"1", 1, identifier=0x1234)
    came = client.next()
    equal((came.first, came.identifier), (PUBACK, 0x1234), "after QoS 1")
    client.send_publish(at.topic("x"), b"2", 2, identifier=0xFFFF)
    came = client.next()
    equal((came.first, came.identifier), (PUBREC, 0xFFFF), "after QoS 2")
    client.send(PUBREL, two(0xFFFF))
    came = client.next()
    equal((came.first, came.identifier), (PUBCOMP, 0xFFFF), "after PUBREL")


@case("answers have reason codes of their tables", v5="3.4.2-1 3.5.2-1 3.6.2-1 3.7.2-1")
def answer_codes(at):
    reader = subscriber(at)
    client = at.peer()
    codes = {client.publish(topic, b"x", qos) for topic in (at.topic("x"), "nobody-reads-this/x")
             for qos in (1, 2)}
    assert codes <= {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}, codes
    client.send(PUBREL, two(4711))
    assert client.wait(PUBCOMP).code in (0, 0x92), "PUBCOMP of what isn't known"
    client.ack(4711, PUBREC)
    assert client.wait(PUBREL & 0xF0).code in (0, 0x92), "PUBREL of what isn't known"
    reader.take(2)


@case("QoS 2: the same identifier again before PUBREL gets PUBREC and isn't delivered again",
      "4.3.3-2", "4.3.3-10")
def repeated(at):
    reader = subscriber(at)
    client = at.peer()
    for dup in (False, True, True):
        client.send_publish(at.topic("x"), b"once", 2, dup=dup, identifier=9)
        came = client.wait(PUBREC)
        equal((came.identifier, came.code if at.v5 else 0), (9, 0), "PUBREC")
    client.send(PUBREL, two(9))
    equal(client.wait(PUBCOMP).identifier, 9, "PUBCOMP")
    client.publish(at.topic("end"), b"end", 2)
    equal([one.payload for one in reader.take(2)], [b"once", b"end"], "delivered")


@case("QoS 2: not after a reconnect either", "4.3.3-2 3.1.2-4 4.1.0-1", "4.3.3-10 3.1.2-5")
def repeated_later(at):
    reader = subscriber(at)
    client = at.peer(kept=True)
    client.send_publish(at.topic("x"), b"once", 2, identifier=9)
    client.wait(PUBREC)
    client.drop()
    client = at.peer(kept=True)
    client.send_publish(at.topic("x"), b"once", 2, dup=True, identifier=9)
    client.wait(PUBREC)
    client.send(PUBREL, two(9))
    client.wait(PUBCOMP)
    client.publish(at.topic("end"), b"end", 2)
    equal([one.payload for one in reader.take(2)], [b"once", b"end"], "delivered")


@case("QoS 2: after PUBCOMP the same identifier is a new message's, DUP or not", "4.3.3-2", "4.3.3-12")
def reused(at):
    reader = subscriber(at)
    client = at.peer()
    for payload, dup in ((b"1", False), (b"2", False), (b"3", True)):
        client.publish(at.topic("x"), payload, 2, identifier=9, dup=dup)
    equal([one.payload for one in reader.take(3)], [b"1", b"2", b"3"], "delivered")


@case("QoS 1: after PUBACK the same identifier is a new message's, DUP or not", "4.3.2-2", "4.3.2-5")
def reused_once(at):
    reader = subscriber(at)
    client = at.peer()
    for payload, dup in ((b"1", False), (b"2", True), (b"3", True)):
        client.publish(at.topic("x"), payload, 1, identifier=9, dup=dup)
    equal([one.payload for one in reader.take(3)], [b"1", b"2", b"3"], "delivered")


@case("QoS 2: after a PUBREC that refuses, the same identifier is a new message's", v5="4.3.3-9", ours=True)
def after_refusal(at):
    reader = subscriber(at)
    client = at.peer()
    assert client.publish("$SYS/broker/uptime", b"no", 2, identifier=9) >= 0x80, "not refused"
    assert client.publish(at.topic("x"), b"yes", 2, identifier=9) < 0x80, "refused"
    equal(reader.take(1)[0].payload, b"yes", "delivered")


@case("QoS 2: the exchange goes on when the message has expired", v5="4.3.3-13")
def expired_exchange(at):
    client = at.peer()
    client.send_publish(at.topic("x"), b"x", 2, identifier=9, message_expiry=0)
    equal(client.wait(PUBREC).code & 0x80, 0, "PUBREC")
    client.send(PUBREL, two(9))
    equal(client.wait(PUBCOMP).code, 0, "PUBCOMP")


@case("a PUBLISH at QoS 1 under an identifier that QoS 2 holds is refused, not swallowed",
      "2.3.1-2 4.8.0-1", "2.2.1-3")
def identifier_in_use(at):
    reader = subscriber(at)
    client = at.peer()
    client.send_publish(at.topic("x"), b"first", 2, identifier=9)
    client.wait(PUBREC)
    client.send_publish(at.topic("x"), b"second", 1, identifier=9)
    try:
        answer = client.wait(PUBACK)
        told = at.v5 and answer.code >= 0x80
    except ConnectionError:
        told = True
    at.publish(at.topic("end"), b"end", 1)
    seen = [reader.finish(reader.message()).payload for _ in range(2)]
    assert told or b"second" in seen, f"acknowledged and not delivered; {seen} came"


@case("an identifier of 0 ends the connection", "2.3.1-1", "2.2.1-3 4.13.1-1")
def identifier_zero(at):
    for octets in (publish_octets(at, at.topic("x"), 0x32, two(0)),
                   publish_octets(at, at.topic("x"), 0x34, two(0)),
                   packet(0x82, two(0) + at.raw().props() + text("a") + b"\0"),
                   packet(0xA2, two(0) + at.raw().props() + text("a"))):
        refused(at, octets, 0x81, 0x82)


@case("PUBLISH at QoS 3 ends the connection", "3.3.1-4", "3.3.1-4 4.13.1-1")
def qos3(at):
    refused(at, publish_octets(at, at.topic("x"), 0x36, two(1)), 0x81)


@case("DUP at QoS 0 ends the connection", "3.3.1-2", "3.3.1-2")
def dup0(at):
    refused(at, publish_octets(at, at.topic("x"), 0x38), 0x81, 0x82)


@case("PUBREL with other flags ends the connection", "3.6.1-1 2.2.2-2", "3.6.1-1 2.1.3-1 4.13.1-1")
def pubrel_flags(at):
    for first in (0x60, 0x61, 0x6A):
        refused(at, packet(first, two(1)), 0x81)


@case("PUBACK, PUBREC and PUBCOMP with flags end the connection", "2.2.2-1 2.2.2-2", "2.1.3-1 4.13.1-1")
def ack_flags(at):
    for first in (0x41, 0x52, 0x74):
        refused(at, packet(first, two(1)), 0x81)


@case("PINGREQ with flags ends the connection", "2.2.2-1 2.2.2-2", "2.1.3-1 4.13.1-1")
def ping_flags(at):
    refused(at, packet(0xC1), 0x81)


@case("acknowledgements with a reason code that they haven't are protocol errors",
      v5="3.4.2-1 3.5.2-1 3.6.2-1 3.7.2-1 4.13.1-1")
def unknown_codes(at):
    for first, code in ((PUBACK, 0x92), (PUBACK, 0x01), (PUBREC, 0x92), (PUBREC, 0x02), (PUBREL, 0x10),
                        (PUBREL, 0x80), (PUBCOMP, 0x10), (PUBCOMP, 0xFF)):
        refused(at, packet(first, two(1) + bytes([code])), 0x81, 0x82)


# ---- what the broker sends


@case("deliveries at QoS 1 and 2 have identifiers of their own, other than 0, without DUP",
      "2.3.1-4 4.3.2-1 4.3.3-1", "2.2.1-4 4.3.2-1 4.3.2-2 4.3.3-1 4.3.3-2")
def identifiers(at):
    reader = subscriber(at)
    sender = at.peer("sender", level=5)
    for number in range(40):
        sender.publish(at.topic("x"), b"%d" % number, 1 + number % 2)
    came = reader.messages(20)
    numbers = [one.identifier for one in came]
    assert 0 not in numbers and len(set(numbers)) == 20, numbers
    equal({one.dup for one in came}, {False}, "DUP")


@case("QoS 0 is sent with QoS 0, without DUP or identifier", "2.3.1-5 3.3.1-2 4.3.1-1",
      "2.2.1-2 3.3.1-2 4.3.1-1")
def qos0(at):
    reader = subscriber(at)
    at.publish(at.topic("x"), b"payload", 0)
    came = reader.message()
    equal((came.first, came.payload), (PUBLISH, b"payload"), "delivered")


@case("DUP isn't passed on", "3.3.1-3", "3.3.1-3")
def dup_not_passed(at):
    reader = subscriber(at)
    sender = at.peer("sender")
    for qos in (1, 2):
        sender.publish(at.topic("x"), b"x", qos, dup=True)
    equal([one.dup for one in reader.take(2)], [False, False], "DUP")


@case("QoS 2: PUBLISH until PUBREC, PUBREL until PUBCOMP", "4.3.3-1 2.3.1-6",
      "4.3.3-4 2.2.1-5 3.6.2-1")
def released(at):
    reader = subscriber(at)
    at.publish(at.topic("x"), b"x", 2)
    came = reader.message()
    reader.ack(came.identifier, PUBREC)
    release = reader.next()
    equal((release.first, release.identifier, release.code if at.v5 else 0),
          (PUBREL, came.identifier, 0), "PUBREL")
    reader.ack(came.identifier, PUBREC)  # it was lost, the client thinks
    equal(reader.next().first, PUBREL, "PUBREL again")
    reader.ack(came.identifier, PUBCOMP)
    reader.ping()


@case("a client's messages reach a subscriber in their order, at every QoS", "4.6.0-5 4.6.0-6",
      "4.6.0-5 4.6.0-6")
def order(at):
    reader = subscriber(at)
    senders = [at.peer(f"sender{number}") for number in range(2)]
    for number in range(12):
        for index, sender in enumerate(senders):
            for qos in (0, 1, 2):
                sender.publish(at.topic(f"{index}/{qos}"), b"%d" % number, qos)
    by_topic = {}
    for one in reader.take(72):
        by_topic.setdefault((one.topic, one.qos), []).append(int(one.payload))
    equal(len(by_topic), 6, "topics")
    for name, numbers in by_topic.items():
        equal(numbers, list(range(12)), f"order at {name}")


@case("a message goes to every client whose subscription matches, and its name matches theirs",
      "4.5.0-1 3.3.2-3", "4.5.0-1 3.3.2-3")
def matching(at):
    filters = {"a/b": {"a/b"}, "a/+": {"a/b", "a/"}, "+/b": {"a/b", "x/b"}, "a/#": {"a", "a/b", "a/", "a/b/c"},
               "a/b/#": {"a/b", "a/b/c"}, "+/+/c": {"a/b/c"}, "#": {"a", "a/b", "a/", "x/b", "a/b/c", "end"}}
    readers = {}
    for index, name in enumerate(filters):
        readers[name] = at.peer(f"r{index}")
        equal(readers[name].subscribe(at.topic(name), at.topic("end"), qos=1)[0], 1, "granted")
    sender = at.peer("sender")
    for name in ("a", "a/b", "a/", "x/b", "a/b/c", "end"):
        sender.publish(at.topic(name), name.encode(), 1)
    for name, reader in readers.items():
        seen = set()
        while "end" not in seen:
            came = reader.take(1)[0]
            equal(came.topic.decode(), at.topic(came.payload.decode()), "topic name")
            seen.add(came.payload.decode())
        equal(seen - {"end"}, filters[name] - {"end"}, name)


# ---- topic names


@case("topic names that are no UTF-8, or have a surrogate or U+0000, end the connection",
      "1.5.3-1 1.5.3-2 3.3.2-1 4.7.3-2", "1.5.4-1 1.5.4-2 3.3.2-1 4.7.3-2 4.13.1-1")
def topic_utf8(at):
    for bad in (b"\xc3\x28", b"a\xed\xa0\x80", b"a\0b", b"\xf5\x80\x80\x80", b"\xc0\xaf"):
        refused(at, publish_octets(at, bad), 0x81, 0x90)
    refused(at, packet(PUBLISH, b"\0\x09t"), 0x81)


@case("wildcards in a topic name end the connection", "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1")
def wildcard_names(at):
    for bad in ("a/#", "a/+", "+", "#", "a+b", "a#"):
        refused(at, publish_octets(at, bad), 0x81, 0x82, 0x90)


@case("an empty topic name ends the connection", "4.7.3-1", "4.7.3-1")
def empty_name(at):
    refused(at, publish_octets(at, ""), 0x81, 0x82, 0x90)


@case("a topic name of 65,535 octets", "4.7.3-3", "4.7.3-3")
def long_name(at):
    name = at.topic("x" * (65535 - len(at.topic(""))))
    reader = at.peer("reader")
    equal(reader.subscribe(name, qos=1), [1], "granted")
    at.publish(name, b"x", 1)
    equal(reader.take(1)[0].topic, name.encode(), "name")


@case("EF BB BF in a topic name stays where it is", "1.5.3-3", "1.5.4-3")
def byte_order_mark(at):
    reader = subscriber(at)
    for name in (at.topic("\ufeffx"), at.topic("x\ufeff")):
        at.publish(name, b"x", 1)
        equal(reader.take(1)[0].topic, name.encode(), "name")
    other = at.peer("other")
    other.subscribe(at.topic("x"))
    at.publish(at.topic("\ufeffx"), b"no", 0)
    at.publish(at.topic("x"), b"yes", 0)
    equal(other.message().payload, b"yes", "of the name without it")


@case("names are compared as they are: case, composed characters, spaces, empty levels", "4.7.3-4",
      "4.7.3-4")
def not_normalized(at):
    names = ["caf\u00e9", "cafe\u0301", "CAF\u00c9", "a", "A", " a", "a ", "a/", "/a", "//", "a//b", "a/b",
             "\u212b", "\u00c5"]
    reader = {name: at.peer(f"r{index}") for index, name in enumerate(names)}
    for name, client in reader.items():
        client.subscribe(at.topic(name), at.topic("the end"), qos=1)
    sender = at.peer("sender")
    for name in names:
        sender.publish(at.topic(name), name.encode(), 1)
    sender.publish(at.topic("the end"), b"the end", 1)
    for name, client in reader.items():
        equal([one.payload.decode() for one in client.take(2)], [name, "the end"], "matches")


@case("filters that begin with a wildcard don't match topics that begin with '$'", "4.7.2-1", "4.7.2-1")
def dollar(at):
    readers = [at.peer(f"r{index}") for index in range(3)]
    for reader, name in zip(readers, ("#", "+/broker/uptime", "+/broker/#")):
        reader.subscribe(name, at.topic("end"), qos=1)
    named = at.peer("named")
    named.subscribe("$SYS/broker/uptime")
    named.message()  # it is there
    for reader in readers:
        at.publish(at.topic("end"), b"end", 1)
        while (came := reader.message()).payload != b"end" or came.topic.decode() != at.topic("end"):
            assert not came.topic.startswith(b"$"), came.topic


# ---- retained messages


def retained_of(at, name="r", topic="r", end=b"end"):
    """What a new subscriber of `topic` gets before what is published then."""
    client = at.peer(f"late{len(at.peers)}")
    client.subscribe(at.topic(topic), at.topic("end"), qos=2)
    at.publish(at.topic("end"), end, 2)
    seen = []
    while (came := client.take(1)[0]).topic.decode() != at.topic("end"):
        seen.append(came)
    return seen


@case("a retained message is stored with its QoS and sent to later subscribers, with RETAIN",
      "3.3.1-5 3.3.1-6 3.3.1-8", "3.3.1-5 3.3.1-9")
def retained(at):
    for qos in (0, 1, 2):
        at.publish(at.topic("r"), b"%d" % qos, qos, retain=True)
        seen = retained_of(at)
        equal([(one.payload, one.qos, one.retain) for one in seen], [(b"%d" % qos, qos, True)], "retained")


@case("each topic that matches has its last retained message sent", "3.3.1-6", "3.3.1-9")
def retained_each(at):
    for name in ("r/1", "r/2", "r/1", "r/3/x"):
        at.publish(at.topic(name), name.encode() + b" %d" % len(at.peers), 1, retain=True)
    seen = retained_of(at, topic="r/+")
    equal(sorted(one.topic.decode() for one in seen), [at.topic("r/1"), at.topic("r/2")], "topics")


@case("a retained message at QoS 0 replaces the one before", "3.3.1-7", "3.3.1-5")
def retained_qos0(at):
    at.publish(at.topic("r"), b"old", 1, retain=True)
    at.publish(at.topic("r"), b"new", 0, retain=True)
    equal([one.payload for one in retained_of(at)], [b"new"], "retained")


@case("what is published now comes without RETAIN", "3.3.1-9", "3.3.1-12")
def live_flag(at):
    reader = subscriber(at)
    for qos in (0, 1, 2):
        at.publish(at.topic("r"), b"x", qos, retain=True)
    equal([one.retain for one in reader.take(3)], [False] * 3, "RETAIN")


@case("an empty retained message is delivered, clears what was retained, and isn't retained itself",
      "3.3.1-10 3.3.1-11", "3.3.1-6 3.3.1-7")
def retained_cleared(at):
    reader = subscriber(at)
    for qos in (0, 1, 2):
        at.publish(at.topic("r"), b"x", 1, retain=True)
        at.publish(at.topic("r"), b"", qos, retain=True)
        equal([(one.payload, one.retain) for one in reader.take(2)], [(b"x", False), (b"", False)],
              "delivered")
        equal(retained_of(at), [], "retained")
        reader.take(1)


@case("a message without RETAIN changes nothing that is retained, empty or not", "3.3.1-12", "3.3.1-8")
def retained_stays(at):
    at.publish(at.topic("r"), b"kept", 1, retain=True)
    for payload in (b"x", b""):
        at.publish(at.topic("r"), payload, 1)
    equal([one.payload for one in retained_of(at)], [b"kept"], "retained")
    at.publish(at.topic("other"), b"x", 1)
    equal(retained_of(at, topic="other"), [], "of a topic without one")


# ---- a publish that isn't allowed


@case("a publish that the rules deny is acknowledged, in 5.0 with 0x87, and reaches nobody", "3.3.5-2",
      "3.4.2-1 3.5.2-1", ours=True)
def denied(at):
    reader = at.peer("reader")
    reader.subscribe("denied/#", at.topic("#"), qos=1)
    sender = at.peer("sender")
    for qos in (0, 1, 2):
        code = sender.publish("denied/x", b"no", qos)
        equal(code, 0x87 if at.v5 and qos else 0, "reason code")
    sender.publish(at.topic("end"), b"end", 1)
    equal(reader.message().payload, b"end", "first message")


@case("a packet of five octets of Remaining Length ends the connection", "4.8.0-1", "1.5.5-1 4.13.1-1")
def remaining_length(at):
    refused(at, b"\x30\x80\x80\x80\x80\x01", 0x81, 0x95)


@case("properties whose length has more octets than it needs end the connection", v5="1.5.5-1")
def padded_length(at):
    refused(at, packet(PUBLISH, text(at.topic("x")) + b"\x80\x00" + b"x"), 0x81)


@case("the broker's lengths have as few octets as can be", v5="1.5.5-1")
def short_lengths(at):
    reader = subscriber(at)
    sender = at.peer("sender")
    for size in (0, 100, 127, 128, 200, 16383, 16384):
        sender.publish(at.topic("x"), bytes(size), 1, user_property=("k", "v" * min(size, 200)))
        first, length = reader.exactly(1)[0], b""
        while not length or length[-1] & 0x80:
            length += reader.exactly(1)
        assert len(length) == 1 or length[-1] != 0, length
        body = reader.exactly(sum((octet & 0x7F) << 7 * place for place, octet in enumerate(length)))
        reader.ack(int.from_bytes(body[2 + len(at.topic("x")):][:2], "big"))
        equal(first >> 4, 3, "packet")


@case("without properties their length is there, and 0", v5="2.2.2-1")
def no_properties(at):
    reader = subscriber(at)
    at.publish(at.topic("x"), b"x", 0)
    came = reader.message()
    equal(came.body, text(at.topic("x")) + b"\0x", "PUBLISH")
    reader.send(0x82, two(9) + b"\0" + text("a") + b"\0")
    equal(reader.wait(0x90).body, two(9) + b"\0\0", "SUBACK")
    refused(at, packet(0x82, two(9)), 0x81)
    equal(properties(), b"\0", "what the case itself sends")
