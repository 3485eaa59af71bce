"""What 5.0 adds to PUBLISH (3.3.2.3): properties that travel, expiry, topic aliases."""

import time

from lib.cases import equal
from lib.mqtt_raw import PUBLISH, packet, properties, text

from .scenario import case, refused


def subscriber(at, name="reader", qos=1, **options):
    client = at.peer(name, **options)
    client.subscribe(at.topic("#"), qos=qos)
    return client


@case("properties reach subscribers unaltered, live, retained and kept for a session",
      v5="3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20 1.5.4-3")
def travelling(at):
    users = [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("\ufeffk", "v\ufeff"), ("z", "0")]
    given = [("payload_format", 1), ("content_type", "text/plain; x=\u00fc"), ("response_topic", "a/\u00fc/b"),
             ("correlation_data", bytes(range(256)))]
    given += [("user_property", one) for one in users]
    at.peer("sleeper", kept=True).subscribe(at.topic("#"), qos=1)
    at.peers[-1].leave()
    live = subscriber(at)
    at.publish(at.topic("r"), b"x", 1, retain=True, given=given)
    late = subscriber(at, "late")
    for client in (live, late, at.peer("sleeper", kept=True)):
        came = client.take(1)[0]
        equal(came.all("user_property"), [(k.encode(), v.encode()) for k, v in users], "user properties")
        for name, value in given[:4]:
            expected = value.encode() if isinstance(value, str) else value
            equal(came.all(name), [expected], name)


@case("what nobody gave isn't there", v5="3.3.2-4 3.1.2-27")
def nothing_added(at):
    reader = subscriber(at)
    at.publish(at.topic("x"), b"x", 1)
    equal(reader.take(1)[0].props, [], "properties")
    for value in (0, 1):
        at.publish(at.topic("x"), b"x", 1, payload_format=value)
        equal(reader.take(1)[0].props, [("payload_format", value)], "properties")


@case("strings in properties that are no UTF-8, or have U+0000, end the connection",
      v5="1.5.4-1 1.5.4-2 1.5.7-1 3.3.2-13 3.3.2-19 4.13.1-1")
def property_utf8(at):
    for bad in (b"\xc3\x28", b"a\xed\xa0\x80", b"a\0"):
        for props in (properties(content_type=bad), properties(response_topic=bad),
                      properties(user_property=(bad, "v")), properties(user_property=("k", bad))):
            refused(at, packet(PUBLISH, text(at.topic("x")) + props), 0x81, 0x82)


@case("a response topic with a wildcard is a protocol error", v5="3.3.2-14 4.13.1-1")
def response_wildcard(at):
    for bad in ("a/#", "+/b"):
        props = properties(response_topic=bad)
        refused(at, packet(PUBLISH, text(at.topic("x")) + props), 0x81, 0x82, 0x90)


@case("properties that PUBLISH hasn't, unknown ones, and some twice, end the connection", v5="4.13.1-1")
def wrong_properties(at):
    for props in (b"\x02\x7f\x01", b"\x03\x21\0\x01", b"\x04\x01\0\x01\0", b"\x7f", b"\x02\x01\x02"):
        refused(at, packet(PUBLISH, text(at.topic("x")) + props), 0x81, 0x82)


@case("what expires before its delivery has begun isn't delivered; what remains is passed on",
      v5="3.3.2-5 3.3.2-6")
def expiry(at):
    at.peer("sleeper", kept=True).subscribe(at.topic("#"), qos=1)
    at.peers[-1].leave()
    live = subscriber(at)
    at.publish(at.topic("short"), b"short", 1, message_expiry=1, retain=True)
    at.publish(at.topic("long"), b"long", 1, message_expiry=500, retain=True)
    for came in live.take(2):
        assert came.get("message_expiry") in (0, 1, 499, 500), came.props
    time.sleep(2.2)  # the point of the case is that time passes
    for client in (at.peer("sleeper", kept=True), subscriber(at, "late")):
        came = client.take(1)[0]
        equal(came.payload, b"long", "the one that lives")
        assert 490 <= came.get("message_expiry") <= 498, came.props


# ---- topic aliases


def aliases(at, **options):
    client = at.peer("sender", **options)
    return client, client.connack.get("topic_alias_maximum", 0)


@case("all topic aliases up to the broker's maximum are taken, and may be changed", v5="3.3.2-12 3.3.2-9")
def all_aliases(at):
    client, most = aliases(at)
    reader = subscriber(at)
    for alias in range(1, most + 1):
        client.send_publish(at.topic(f"t{alias}"), b"", 1, topic_alias=alias)
    for alias in range(1, most + 1):
        client.send_publish("", b"", 1, topic_alias=alias)
    client.send_publish(at.topic("new"), b"", 1, topic_alias=1)
    client.send_publish("", b"", 1, topic_alias=1)
    names = [f"t{alias}" for alias in range(1, most + 1)]
    seen = [one.topic.decode() for one in reader.take(2 * most + 2)]
    equal(seen, [at.topic(name) for name in names + names + ["new", "new"]], "names")


@case("topic alias 0, or above the maximum, or one that stands for nothing, ends the connection",
      v5="3.3.2-8 3.3.2-9 3.2.2-17 3.2.2-18 4.13.1-1")
def wrong_aliases(at):
    for alias in (0, 65535):
        octets = packet(PUBLISH, text(at.topic("x")) + properties(topic_alias=alias))
        refused(at, octets, 0x81, 0x94)
    refused(at, packet(PUBLISH, text("") + properties(topic_alias=1)), 0x82, 0x94)


@case("topic aliases end with their connection", v5="3.3.2-7")
def alias_life(at):
    client, _ = aliases(at, kept=True)
    client.publish(at.topic("x"), b"", 1, topic_alias=1)
    client.leave()
    client, _ = aliases(at, kept=True)
    client.send_publish("", b"", 1, topic_alias=1)
    assert client.ended() in ("closed", 0x82, 0x94), "the alias was still known"


def resolved(messages, most):
    """The names that PUBLISH packets of one connection mean, by the aliases that it has told so far."""
    names, known = [], {}
    for came in messages:
        alias = came.get("topic_alias")
        assert alias is None or 1 <= alias <= most, alias
        assert came.topic or alias in known, f"an alias that stands for nothing: {alias}"
        if came.topic and alias:
            known[alias] = came.topic
        names.append((came.topic or known[alias]).decode())
    return names


@case("the broker sends no topic alias above the client's maximum, and none where there is none",
      v5="3.1.2-26 3.1.2-27 3.3.2-11 3.3.2-10")
def own_aliases(at):
    for most, props in ((0, b""), (0, b"\x22\0\0"), (1, b"\x22\0\1"), (5, b"\x22\0\5"), (65535, b"\x22\xff\xff")):
        reader = subscriber(at, properties=props)
        names = [at.topic(f"a-topic/{number % 7}") for number in range(21)]
        sender = at.peer("sender")
        for name in names:
            sender.publish(name, b"", 1)
        equal(resolved(reader.take(21), most), names, "names")
        reader.leave()


@case("what comes again on the next connection comes with its name", v5="3.3.2-7 3.3.2-8")
def own_alias_life(at):
    props = b"\x22\0\5"
    reader = at.peer("reader", kept=True, properties=props)
    reader.subscribe(at.topic("#"), qos=1)
    for number in range(4):
        at.publish(at.topic("a-topic"), b"%d" % number, 1)
    first = reader.messages(4)
    reader.ack(first[1].identifier)
    reader.ping()
    reader.drop()
    reader = at.peer("reader", kept=True, properties=props)
    at.publish(at.topic("a-topic"), b"4", 1)
    again = reader.take(4)
    equal([one.payload for one in again], [b"0", b"2", b"3", b"4"], "messages")
    equal(resolved(again, 5), [at.topic("a-topic")] * 4, "names")
