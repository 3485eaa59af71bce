"""SUBSCRIBE, UNSUBSCRIBE and their answers (3.8 to 3.11), topic filters (4.7)."""

from lib.cases import equal
from lib.mqtt_raw import PUBCOMP, PUBREC, SUBACK, SUBSCRIBE, UNSUBSCRIBE, packet, text, two

from .scenario import case, refused


def octets(at, first, rest, identifier=1):
    return packet(first, two(identifier) + (b"\0" if at.v5 else b"") + rest)


# ---- packets that are wrong


@case("SUBSCRIBE with other flags ends the connection", "3.8.1-1 2.2.2-2", "3.8.1-1 2.1.3-1")
def subscribe_flags(at):
    for first in (0x80, 0x81, 0x8A):
        refused(at, octets(at, first, text(at.topic("x")) + b"\0"), 0x81)


@case("UNSUBSCRIBE with other flags ends the connection", "3.10.1-1 2.2.2-2", "3.10.1-1 2.1.3-1")
def unsubscribe_flags(at):
    for first in (0xA0, 0xA3):
        refused(at, octets(at, first, text(at.topic("x"))), 0x81)


@case("SUBSCRIBE without a filter ends the connection", "3.8.3-3 4.8.0-1", "3.8.3-2 4.13.1-1")
def no_filter(at):
    refused(at, octets(at, SUBSCRIBE, b""), 0x81, 0x82)
    refused(at, octets(at, SUBSCRIBE, text("a")), 0x81, 0x82)


@case("UNSUBSCRIBE without a filter ends the connection", "3.10.3-2 4.8.0-1", "3.10.3-2 4.13.1-1")
def no_filter_to_unsubscribe(at):
    refused(at, octets(at, UNSUBSCRIBE, b""), 0x81, 0x82)


@case("filters that are no UTF-8, or have U+0000, end the connection",
      "3.8.3-1 3.10.3-1 1.5.3-1 4.7.3-2", "3.8.3-1 3.10.3-1 1.5.4-1 4.7.3-2 4.13.1-1")
def filter_utf8(at):
    for bad in (b"\xc3\x28", b"a\xed\xa0\x80", b"a\0b"):
        refused(at, octets(at, SUBSCRIBE, text(bad) + b"\0"), 0x81, 0x8F)
        refused(at, octets(at, UNSUBSCRIBE, text(bad)), 0x81, 0x8F)


@case("an empty filter ends the connection, or is refused", "4.7.3-1", "4.7.3-1")
def empty_filter(at):
    refused(at, octets(at, SUBSCRIBE, text("") + b"\0"), 0x81, 0x82, 0x8F)


@case("reserved bits, or QoS 3, in SUBSCRIBE end the connection", "3.8.3-4", "3.8.3-5 4.13.1-1")
def reserved_bits(at):
    for options in ((3, 4, 8, 0x10, 0x40, 0x80) if not at.v5 else (3, 0x40, 0x80, 0x30)):
        refused(at, octets(at, SUBSCRIBE, text(at.topic("x")) + bytes([options])), 0x81, 0x82)


BAD_FILTERS = ("a/#/b", "a#", "#/b", "##", "a/b#", "a+", "+a", "a/+b/c", "a/b+")


@case("filters in which '#' or '+' shares a level, or '#' isn't last, are refused", "4.7.1-2 4.7.1-3",
      "4.7.1-1 4.7.1-2")
def bad_filters(at):
    for bad in BAD_FILTERS:
        client = at.peer("bad")
        client.send(SUBSCRIBE, two(1) + client.props() + text(bad) + b"\0")
        try:
            code = client.wait(SUBACK).code
            assert code == (0x8F if at.v5 else 0x80), f"{bad}: {code:#x}"
        except ConnectionError:
            pass
        client.drop()


# ---- SUBACK


@case("SUBSCRIBE is answered with SUBACK of its identifier: a code for each filter, in their order",
      "3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2 2.3.1-7 3.8.3-2",
      "3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2 2.2.1-6")
def suback(at):
    client = at.peer()
    filters = [(at.topic("a"), 1), (at.topic("+/b"), 0), (at.topic("#"), 2), (at.topic("c"), 1)]
    for identifier in (1, 0x1234, 0xFFFF):
        equal(client.subscribe(*filters, identifier=identifier), [1, 0, 2, 1], "codes")
    at.publish(at.topic("c"), b"x", 2)
    client.message()


@case("a filter that is refused leaves the others of its SUBSCRIBE alone",
      "3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2", "3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2")
def partly_refused(at):
    client = at.peer()
    failure = 0x8F if at.v5 else 0x80
    equal(client.subscribe((at.topic("a"), 1), (at.topic("b/#/c"), 1), (at.topic("d"), 2)),
          [1, failure, 2], "codes")
    at.publish(at.topic("d"), b"x", 1)
    equal(client.take(1)[0].payload, b"x", "message")


@case("deliveries have the lesser of the two QoS", "3.8.4-6", "3.8.4-8")
def lesser_qos(at):
    readers = [at.peer(f"r{qos}") for qos in (0, 1, 2)]
    for qos, reader in enumerate(readers):
        equal(reader.subscribe(at.topic("#"), qos=qos), [qos], "granted")
    for qos in (0, 1, 2):
        at.publish(at.topic("x"), b"%d" % qos, qos)
    for granted, reader in enumerate(readers):
        equal(sorted((int(one.payload), one.qos) for one in reader.take(3)),
              [(qos, min(qos, granted)) for qos in (0, 1, 2)], "QoS")


@case("a subscription replaces an earlier one to the same filter; nothing is lost meanwhile",
      "3.8.4-3", "3.8.4-3 3.8.4-4 3.3.1-9")
def replaced(at):
    at.publish(at.topic("r"), b"kept", 1, retain=True)
    client, sender = at.peer(), at.peer("sender")
    equal(client.subscribe(at.topic("#"), qos=2), [2], "granted")
    equal(client.take(1)[0].payload, b"kept", "retained")
    for number in range(100):
        sender.send_publish(at.topic("x"), b"%d" % number, 1)
        if number == 50:
            client.send(SUBSCRIBE, two(77) + client.props() + text(at.topic("#")) + b"\x01")
    seen = client.take(101)
    equal(client.wait(SUBACK).codes, [1], "granted")
    equal([one.payload for one in seen if one.retain], [b"kept"], "retained, again")
    equal([int(one.payload) for one in seen if not one.retain], list(range(100)), "the rest")
    at.publish(at.topic("x"), b"after", 2)
    after = client.take(1)[0]
    equal((after.payload, after.qos), (b"after", 1), "one copy, at the new QoS")
    at.publish(at.topic("x"), b"end", 1)
    equal(client.take(1)[0].payload, b"end", "no second copy")


@case("overlapping subscriptions: the highest QoS is respected", "3.3.5-1", "3.3.4-2")
def overlapping(at):
    client = at.peer()
    client.subscribe((at.topic("a/#"), 0), (at.topic("a/+"), 2), (at.topic("a/b"), 1))
    at.publish(at.topic("a/b"), b"x", 2)
    at.publish(at.topic("a/end"), b"end", 2)
    seen = []
    while (came := client.take(1)[0]).payload != b"end":
        seen.append(came.qos)
    equal(max(seen), 2, "the highest QoS")


# ---- UNSUBSCRIBE


@case("UNSUBSCRIBE is answered with UNSUBACK of its identifier, also for what wasn't there",
      "3.10.4-4 3.10.4-5 3.10.4-6 2.3.1-7",
      "3.10.4-4 3.10.4-5 3.10.4-6 3.11.3-1 3.11.3-2 2.2.1-6")
def unsuback(at):
    client = at.peer()
    client.subscribe(at.topic("a"), at.topic("b"))
    for names, codes in (([at.topic("b"), at.topic("never"), at.topic("a")], [0, 0x11, 0]),
                         ([at.topic("a")], [0x11])):
        equal(client.unsubscribe(*names), codes if at.v5 else [], "codes")


@case("filters to unsubscribe are compared character by character", "3.10.4-1", "3.10.4-1")
def compared(at):
    client = at.peer()
    client.subscribe(at.topic("a/+"), qos=1)
    client.unsubscribe(at.topic("a/b"), at.topic("a/#"), at.topic("A/+"), at.topic("#"))
    at.publish(at.topic("a/b"), b"still", 1)
    equal(client.take(1)[0].payload, b"still", "message")
    client.unsubscribe(at.topic("a/+"))
    client.subscribe(at.topic("end"), qos=1)
    at.publish(at.topic("a/b"), b"no", 1)
    at.publish(at.topic("end"), b"end", 1)
    equal(client.take(1)[0].payload, b"end", "first message after it")


@case("after UNSUBSCRIBE nothing new comes; deliveries that had begun are completed", "3.10.4-2 3.10.4-3",
      "3.10.4-2 3.10.4-3")
def completed(at):
    client = at.peer()
    client.subscribe(at.topic("x"), at.topic("end"), qos=2)
    at.publish(at.topic("x"), b"1", 1)
    at.publish(at.topic("x"), b"2", 2)
    first, second = client.messages(2)
    client.ack(second.identifier, PUBREC)
    client.unsubscribe(at.topic("x"))
    client.ack(first.identifier)
    equal(client.wait(0x60).identifier, second.identifier, "PUBREL")
    client.ack(second.identifier, PUBCOMP)
    at.publish(at.topic("x"), b"never", 1)
    at.publish(at.topic("end"), b"end", 1)
    equal(client.take(1)[0].payload, b"end", "next message")


@case("what a session that is away was sent before UNSUBSCRIBE's time is delivered once, not more",
      "3.10.4-2 3.1.2-4", "3.10.4-2 3.1.2-5")
def unsubscribed_session(at):
    client = at.peer(kept=True)
    client.subscribe(at.topic("x"), at.topic("end"), qos=1)
    client.unsubscribe(at.topic("x"))
    client.leave()
    at.publish(at.topic("x"), b"never", 1)
    at.publish(at.topic("end"), b"end", 1)
    equal(at.peer(kept=True).take(1)[0].payload, b"end", "first message")


# ---- options of 5.0


@case("No Local: a client doesn't get what it published itself", v5="3.8.3-3")
def no_local(at):
    client, other = at.peer(), at.peer("other")
    client.subscribe((at.topic("#"), 1 | 4))
    other.subscribe((at.topic("#"), 1 | 4))
    client.publish(at.topic("x"), b"mine", 1)
    other.publish(at.topic("x"), b"theirs", 1)
    equal(client.take(1)[0].payload, b"theirs", "first message")
    equal(other.take(1)[0].payload, b"mine", "the other's")


@case("Retain Handling 0, 1 and 2", v5="3.3.1-9 3.3.1-10 3.3.1-11 3.8.4-4")
def retain_handling(at):
    at.publish(at.topic("r"), b"kept", 1, retain=True)
    client = at.peer()

    def got(handling):
        client.subscribe((at.topic("r"), 1 | handling << 4))
        client.subscribe((at.topic("end"), 1 | 2 << 4))
        at.publish(at.topic("end"), b"end", 1)
        count = 0
        while client.take(1)[0].payload != b"end":
            count += 1
        return count

    equal([got(2), got(1), got(0), got(0)], [0, 0, 1, 1], "retained messages")
    client.unsubscribe(at.topic("r"))
    equal([got(1), got(1)], [1, 0], "retained messages of a new subscription, and an old one")


@case("Retain As Published", v5="3.3.1-12 3.3.1-13")
def retain_as_published(at):
    with_it, without = at.peer(), at.peer("b")
    with_it.subscribe((at.topic("#"), 1 | 8))
    without.subscribe((at.topic("#"), 1))
    for retain in (True, False):
        at.publish(at.topic("r"), b"x", 1, retain=retain)
    equal([one.retain for one in with_it.take(2)], [True, False], "with it")
    equal([one.retain for one in without.take(2)], [False, False], "without it")


@case("subscription identifiers: of all subscriptions that match, and of the new one after a replacement",
      v5="3.3.4-3 3.3.4-4 3.3.4-5 3.8.4-3")
def subscription_ids(at):
    client = at.peer()
    client.subscribe(at.topic("a/#"), qos=1, subscription_id=1)
    client.subscribe(at.topic("a/+"), qos=1, subscription_id=268435455)
    client.subscribe(at.topic("a/b"), qos=1)
    client.subscribe(at.topic("end"), qos=1, subscription_id=3)

    def seen():
        at.publish(at.topic("a/b"), b"x", 1)
        at.publish(at.topic("end"), b"end", 1)
        found = []
        while (came := client.take(1)[0]).payload != b"end":
            found += came.all("subscription_id")
        equal(came.all("subscription_id"), [3], "identifiers")
        return sorted(found)

    equal(seen(), [1, 268435455], "identifiers")
    client.subscribe(at.topic("a/#"), qos=1, subscription_id=7)
    equal(seen(), [7, 268435455], "identifiers after a replacement")


@case("a subscription identifier in a client's PUBLISH, or of 0, or twice, is a protocol error",
      v5="3.3.4-6 4.13.1-1")
def wrong_ids(at):
    refused(at, packet(0x30, text(at.topic("x")) + b"\x02\x0b\x01x"), 0x82, 0x81)
    refused(at, packet(0x82, two(1) + b"\x02\x0b\0" + text("a") + b"\0"), 0x82, 0x81)
    refused(at, packet(0x82, two(1) + b"\x04\x0b\1\x0b\2" + text("a") + b"\0"), 0x82, 0x81)


# ---- shared subscriptions


@case("names that are no shares' are refused", v5="4.8.2-1 4.8.2-2")
def share_names(at):
    for bad in ("$share/g", "$share/g/", "$share//s", "$share/+/s", "$share/#/s", "$share/g+/s", "$share/"):
        client = at.peer("bad")
        try:
            code = client.subscribe(bad, qos=1)[0]
            assert code >= 0x80, f"{bad}: {code}"
        except ConnectionError:
            pass
        client.drop()


@case("No Local on a shared subscription is a protocol error", v5="3.8.3-4 4.13.1-1")
def shared_no_local(at):
    refused(at, packet(0x82, two(1) + b"\0" + text("$share/g/" + at.topic("x")) + b"\x05"), 0x82)


@case("the QoS granted to a share's member is respected", v5="4.8.2-3")
def shared_qos(at):
    for granted in (0, 1, 2):
        member = at.peer(f"m{granted}")
        equal(member.subscribe(f"$share/g{granted}/" + at.topic("#"), qos=granted), [granted], "granted")
        for qos in (0, 1, 2):
            at.publish(at.topic("x"), b"%d" % qos, qos)
        for came in member.take(3):
            equal(came.qos, min(granted, int(came.payload)), "QoS")
        member.leave()


@case("QoS 2 that a share's member was being sent is completed with it when it is back", v5="4.8.2-4")
def shared_completed(at):
    share = "$share/g/" + at.topic("#")
    first = at.peer("first", kept=True)
    first.subscribe(share, qos=2)
    at.publish(at.topic("x"), b"its own", 2)
    came = first.message()
    other = at.peer("other")
    other.subscribe(share, qos=2)
    first.drop()
    first = at.peer("first", kept=True)
    again = first.message()
    equal((again.payload, again.identifier, again.dup), (b"its own", came.identifier, True), "again")
    first.finish(again)
    # In turn: one of two goes to each.
    at.publish(at.topic("x"), b"1", 2)
    at.publish(at.topic("x"), b"2", 2)
    assert other.message().payload in (b"1", b"2"), "the other's"


@case("if that member's session ends instead, no other gets it", v5="4.8.2-5")
def shared_ended(at):
    share = "$share/g/" + at.topic("#")
    first = at.peer("first")
    first.subscribe(share, qos=2)
    at.publish(at.topic("x"), b"its own", 2)
    first.message()
    other = at.peer("other")
    other.subscribe(share, qos=2)
    first.drop()
    at.publish(at.topic("x"), b"end", 2)
    at.publish(at.topic("x"), b"end", 2)
    equal(other.message().payload, b"end", "the other's first message")


@case("what a share's member refuses goes to no other", v5="4.8.2-6 4.4.0-2")
def shared_refused(at):
    share = "$share/g/" + at.topic("#")
    first = at.peer("first")
    first.subscribe(share, qos=2)
    for qos in (1, 2):
        at.publish(at.topic("x"), b"no", qos)
        came = first.message()
        first.send(0x40 if qos == 1 else PUBREC, two(came.identifier) + b"\x83")
    first.ping()
    other = at.peer("other")
    other.subscribe(share, qos=2)
    first.leave()
    at.publish(at.topic("x"), b"end", 2)
    equal(other.message().payload, b"end", "the other's first message")
