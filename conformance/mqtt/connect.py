"""CONNECT, CONNACK and DISCONNECT (3.1, 3.2, 3.14), sessions and keep-alive."""

import time

from lib.cases import equal
from lib.mqtt_raw import (CONNACK, CONNECT, DISCONNECT, PINGREQ, PINGRESP, PUBLISH, SUBACK, SUBSCRIBE,
                          connect_body, packet, properties, text, two)

from .scenario import case, refused, refused_connect

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def connect(at, flags=2, rest=None, name="MQTT", level=None, keepalive=0, props=b"\0"):
    """A CONNECT made of its parts, right or wrong."""
    level = at.level if level is None else level
    head = text(name) + bytes([level, flags]) + two(keepalive) + (props if level >= 5 else b"")
    return packet(CONNECT, head + (text(at.id("x")) if rest is None else rest))


def will(at, topic=b"w", payload=b"x"):
    return text(at.id("x")) + (b"\0" if at.v5 else b"") + text(topic) + text(payload)


# ---- the first packet


@case("a first packet that isn't CONNECT ends the connection", "3.1.0-1 4.8.0-1", "3.1.0-1 4.13.1-1")
def not_connect(at):
    for octets in (packet(PINGREQ), packet(PUBLISH, text("a")), packet(DISCONNECT)):
        equal(at.raw(octets).ended(), "closed", "answer")


@case("a second CONNECT ends the connection", "3.1.0-2 4.8.0-1", "3.1.0-2 4.13.1-1")
def second_connect(at):
    refused(at, packet(CONNECT, connect_body(at.id("refused"), at.level)), 0x82)


@case("another protocol name isn't served", "3.1.2-1", "3.1.2-1")
def protocol_name(at):
    for name in ("MQTTX", "mqtt", "AMQP", ""):
        refused_connect(at, connect(at, name=name), 0x84)


@case("a protocol level that isn't served gets return code 1 (3.1.1), and the connection ends",
      "3.1.2-2 3.2.2-5", "3.1.2-2 3.2.2-7")
def protocol_level(at):
    for level in ((1, 2) if at.level == 4 else (6, 7, 100)):
        client = at.raw(connect(at, level=level))
        outcome = client.ended()
        if at.v5:
            assert outcome in ("closed", 0x84, 1), outcome
        else:
            equal(outcome, 1, "return code")


@case("CONNECT's reserved flag ends the connection", "3.1.2-3 2.2.2-1 2.2.2-2", "3.1.2-3 2.1.3-1")
def reserved_flag(at):
    refused_connect(at, connect(at, flags=3), 0x81)


@case("flags in CONNECT's first octet end the connection", "2.2.2-1 2.2.2-2", "2.1.3-1")
def header_flags(at):
    refused_connect(at, b"\x11" + connect(at)[1:], 0x81)


# ---- will, user name and password as their flags say


@case("a will's QoS or retain without a will ends the connection",
      "3.1.2-11 3.1.2-13 3.1.2-15 3.1.4-1", "3.1.2-11 3.1.2-13 3.1.4-1 4.13.1-1")
def will_flags(at):
    for flags in (0x0A, 0x12, 0x22):
        refused_connect(at, connect(at, flags=flags), 0x81, 0x82)


@case("a will at QoS 3 ends the connection", "3.1.2-14 3.1.4-1", "3.1.2-12 3.1.4-1")
def will_qos(at):
    refused_connect(at, connect(at, flags=0x1E, rest=will(at)), 0x81, 0x82)


@case("a will whose topic or message is missing ends the connection", "3.1.2-9 3.1.4-1",
      "3.1.2-9 3.1.4-1")
def will_missing(at):
    refused_connect(at, connect(at, flags=6), 0x81)
    refused_connect(at, connect(at, flags=6, rest=will(at)[:-3]), 0x81)


@case("a user name that no flag announces ends the connection", "3.1.2-18 3.1.4-1", "3.1.2-16 3.1.4-1")
def unannounced_user(at):
    refused_connect(at, connect(at, rest=text(at.id("x")) + text("user")), 0x81)


@case("a user name that is announced and missing ends the connection", "3.1.2-19 3.1.4-1",
      "3.1.2-17 3.1.4-1")
def missing_user(at):
    refused_connect(at, connect(at, flags=0x82), 0x81)


@case("a password that no flag announces ends the connection", "3.1.2-20 3.1.4-1", "3.1.2-18 3.1.4-1")
def unannounced_password(at):
    rest = text(at.id("x")) + text("user") + text("password")
    refused_connect(at, connect(at, flags=0x82, rest=rest), 0x81)


@case("a password that is announced and missing ends the connection", "3.1.2-21 3.1.4-1",
      "3.1.2-19 3.1.4-1")
def missing_password(at):
    refused_connect(at, connect(at, flags=0xC2, rest=text(at.id("x")) + text("user")), 0x81)


@case("a password without a user name ends the connection", "3.1.2-22 3.1.4-1")
def password_alone(at):
    refused_connect(at, connect(at, flags=0x42, rest=text(at.id("x")) + text("password")))


@case("strings in CONNECT that are no UTF-8, or have a surrogate or U+0000, end the connection",
      "1.5.3-1 1.5.3-2 3.1.3-4 3.1.3-10 3.1.3-11",
      "1.5.4-1 1.5.4-2 3.1.3-4 3.1.3-11 3.1.3-12")
def connect_utf8(at):
    for bad in (b"\xc3\x28", b"a\xed\xa0\x80", b"\xff", b"a\0b", b"\xc0\xaf"):
        refused_connect(at, connect(at, rest=text(bad)), 0x81, 0x85)
        refused_connect(at, connect(at, flags=6, rest=will(at, topic=bad)), 0x81)
        rest = text(at.id("x")) + text(bad)
        refused_connect(at, connect(at, flags=0x82, rest=rest), 0x81, 0x86)


@case("all fields of CONNECT in their order", "3.1.3-1 3.1.3-3", "3.1.3-1 3.1.3-3 2.2.2-1")
def all_fields(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    client = at.peer("a", username="", password="", keepalive=60, kept=True,
                     will={"topic": at.topic("w"), "payload": "gone", "qos": 0, "retain": False})
    client.drop()
    equal(watcher.message().payload, b"gone", "will")
    refused_connect(at, packet(CONNECT, text("MQTT") + bytes([at.level, 2, 0, 0])), 0x81)


@case("malformed CONNECT packets end the connection, 3.1.1's without CONNACK", "3.1.4-1",
      "3.1.4-1 3.1.4-2 3.2.2-6 3.2.2-7 3.2.2-8 3.14.0-1 4.13.2-1")
def malformed_connect(at):
    whole = connect(at)
    for octets in (whole[:2] + whole[2:4] + b"\xff" + whole[5:],  # the name cut short
                   packet(CONNECT, whole[2:-3]), packet(CONNECT, b"")):
        refused_connect(at, octets, 0x81, 0x84)
    if at.v5:
        for props in (b"\x03\x21\0\0", b"\x05\x27\0\0\0\0", b"\x06\x21\0\x05\x21\0\x05",
                      b"\x03\x23\0\x05", b"\x02\x7f\x01", b"\x02\x17\x02", b"\x02\x19\x02"):
            client = at.raw(connect(at, props=props))
            came = client.until_closed()
            assert len(came) < 2, came
            if came:
                equal(came[0].type, CONNACK, "answer")
                equal(came[0].session_present, 0, "session present")
                assert came[0].code in (0x81, 0x82), hex(came[0].code)


# ---- client identifiers


@case("client identifiers of 1 to 23 letters and digits are allowed", "3.1.3-5", "3.1.3-5")
def client_ids(at):
    size = 23 - len(at.id("")) - 1
    for name in ("", LETTERS[:size], LETTERS[size:2 * size], LETTERS[-size:]):
        at.peer("i" + name).leave()


@case("an empty client identifier is replaced by a unique one", "3.1.3-6 3.1.3-2",
      "3.1.3-6 3.1.3-7 3.2.2-16 3.1.3-2")
def empty_id(at):
    clients = []
    for _ in range(3):
        client = at.raw(packet(CONNECT, connect_body("", at.level)))
        equal(client.wait(CONNACK).code, 0, "CONNACK")
        clients.append(client)
    for client in clients:  # none has taken over another's session
        client.ping()


@case("the assigned client identifier is told, and is one to come back with",
      v5="3.1.3-7 3.2.2-16")
def assigned_id(at):
    seen = []
    for _ in range(2):
        client = at.raw(packet(CONNECT, connect_body("", 5, props=b"\x11\0\0\0\x3c")))
        seen.append(client.wait(CONNACK).get("assigned_client_id"))
        client.drop()
    assert seen[0] and seen[1] and seen[0] != seen[1], seen
    again = at.raw(packet(CONNECT, connect_body(seen[0], 5, clean=False)))
    connack = again.wait(CONNACK)
    equal((connack.session_present, connack.get("assigned_client_id")), (1, None), "CONNACK")


@case("an empty client identifier without CleanSession gets return code 2",
      "3.1.3-7 3.1.3-8 3.1.3-9 3.2.2-4 3.2.2-5")
def empty_id_kept(at):
    client = at.raw(packet(CONNECT, connect_body("", 4, clean=False)))
    connack = client.wait(CONNACK)
    equal((connack.code, connack.session_present), (2, 0), "CONNACK")
    equal(client.until_closed(), [], "after it")


@case("a client identifier that is refused ends the connection", v5="3.1.3-8")
def refused_id(at):
    refused_connect(at, connect(at, rest=text(b"\xff")), 0x81, 0x85)


# ---- CONNACK


@case("CONNACK comes first and once, whatever the client sends behind CONNECT",
      "3.2.0-1 3.1.4-4 3.2.2-1", "3.2.0-1 3.2.0-2 3.1.4-5 3.2.2-1 3.2.2-2 3.14.0-1")
def connack_first(at):
    subscribe = packet(SUBSCRIBE, two(1) + at.raw().props() + text(at.topic("#")) + b"\0")
    publish = packet(PUBLISH, text(at.topic("x")) + at.raw().props() + b"1")
    client = at.raw(packet(CONNECT, connect_body(at.id("a"), at.level)), subscribe, publish,
                    packet(PINGREQ))
    first = client.next()
    equal((first.type, first.session_present, first.code), (CONNACK, 0, 0), "first packet")
    rest = [client.next().type for _ in range(3)]
    equal(sorted(rest), sorted([SUBACK, PUBLISH, PINGRESP]), "the rest")


@case("a will that can't be taken is refused: 3.1.1 has no return code for it, and closes", "3.2.2-6",
      "3.1.4-2 3.2.2-8", ours=True)
def refused_will(at):
    will = {"topic": "$SYS/broker/uptime", "payload": "x", "qos": 0}
    outcome = at.raw(packet(CONNECT, connect_body(at.id("a"), at.level, will=will))).ended()
    equal(outcome, 0x90 if at.v5 else "closed", "answer")


@case("nothing that follows a refused CONNECT is processed", "3.1.4-5", "3.1.4-6 3.1.4-2")
def behind_refusal(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    unknown = packet(CONNECT, connect_body(at.id("a"), at.level, props=b"\x15" + text("unknown")))
    for octets in (unknown if at.v5 else connect(at, level=2), connect(at, flags=3)):
        publish = packet(PUBLISH, text(at.topic("x")) + watcher.props() + b"never")
        outcome = at.raw(octets, publish).ended()
        assert outcome != 0, "accepted"
    at.publish(at.topic("end"), b"end", 0)
    equal(watcher.message().payload, b"end", "first message")


# ---- sessions


@case("CleanSession, or Clean Start, throws an earlier session away",
      "3.1.2-6 3.1.4-3 3.2.2-1 3.2.2-3", "3.1.2-4 3.1.4-4 3.2.2-2 3.2.2-3")
def clean_start(at):
    first = at.peer(kept=True)
    first.subscribe(at.topic("#"), qos=1)
    first.leave()
    at.publish(at.topic("x"), b"old", 1)
    second = at.peer(clean=True)
    equal(second.connack.session_present, 0, "session present")
    at.publish(at.topic("x"), b"lost", 1)
    second.subscribe(at.topic("end"))
    at.publish(at.topic("end"), b"end", 1)
    equal(second.message().payload, b"end", "first message")
    second.leave()
    third = at.peer(kept=True)
    equal(third.connack.session_present, 0, "session present, after one that was clean")


@case("a session goes on where it was: subscriptions, and what came at QoS 1 and 2",
      "3.1.2-4 3.1.2-5 3.2.2-2 3.2.2-3 3.1.3-2 4.1.0-1 4.5.0-1",
      "3.1.2-5 3.1.2-6 3.1.2-23 3.2.2-3 3.1.3-2 4.5.0-1")
def resumed(at):
    first = at.peer(kept=True)
    equal(first.connack.session_present, 0, "session present, at first")
    first.subscribe(at.topic("#"), qos=2)
    first.leave()
    for qos in (1, 2):
        at.publish(at.topic(str(qos)), b"%d" % qos, qos)
    other = at.peer("other", kept=True)
    equal(other.connack.session_present, 0, "session present, of another identifier")
    again = at.peer(kept=True)
    equal(again.connack.session_present, 1, "session present")
    equal([one.payload for one in again.take(2)], [b"1", b"2"], "what came meanwhile")
    at.publish(at.topic("live"), b"live", 1)
    equal(again.take(1)[0].payload, b"live", "the subscription")


@case("a session's state stays while its connection lasts", "4.1.0-2", "4.1.0-1")
def while_connected(at):
    client = at.peer(keepalive=60)  # without an expiry
    client.subscribe(at.topic("#"), qos=1)
    time.sleep(1.2)  # longer than any expiry of 0 or 1
    at.publish(at.topic("x"), b"there", 1)
    equal(client.take(1)[0].payload, b"there", "message")


@case("a session ends when its expiry has passed after the connection", v5="4.1.0-2 3.1.2-23")
def session_expiry(at):
    at.peer(clean=False, expiry=2).drop()
    equal(at.peer(clean=False, expiry=1).connack.session_present, 1, "session present, in time")
    at.peers[-1].drop()
    time.sleep(2.2)  # the point of the case is that time passes
    equal(at.peer(clean=False, expiry=1).connack.session_present, 0, "session present, too late")
    at.peers[-1].send(DISCONNECT, b"\0" + properties(session_expiry=0))
    equal(at.peers[-1].until_closed(), [], "after DISCONNECT")
    equal(at.peer(clean=False).connack.session_present, 0, "session present, expiry 0 at the end")


@case("retained messages stay when the session of who published them ends", "3.1.2-7")
def retained_stays(at):
    first = at.peer(clean=True)
    first.publish(at.topic("r"), b"kept", 1, retain=True)
    first.leave()
    second = at.peer("b")
    second.subscribe(at.topic("r"))
    equal(second.message().payload, b"kept", "retained")


@case("a second connection of a client identifier ends the first", "3.1.4-2", "3.1.4-3 3.14.4-2")
def take_over(at):
    first = at.peer(kept=True)
    at.peer(kept=True).ping()
    equal(first.ended(), 0x8E if at.v5 else "closed", "the first one's end")


# ---- keep-alive


@case("silence of one and a half keep-alives ends the connection, as if the network had failed",
      "3.1.2-24 3.1.2-23", "3.1.2-22 3.1.2-20 3.2.2-22")
def keep_alive(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    client = at.peer(keepalive=2, will={"topic": at.topic("w"), "payload": "gone", "qos": 0})
    time.sleep(1)
    client.ping()
    began = time.monotonic()
    client.connection.settimeout(20)
    outcome = client.ended()
    passed = time.monotonic() - began
    assert outcome in ("closed", 0x8D), outcome
    # mosquitto looks every few seconds.
    assert 2.5 <= passed <= 12, f"after {passed:.1f} s"
    equal(watcher.message().payload, b"gone", "will")


@case("a keep-alive of 0 ends nothing", "3.1.2-24", "3.1.2-22")
def no_keep_alive(at):
    client = at.peer(keepalive=0)
    time.sleep(3)
    client.ping()


@case("PINGREQ is answered with PINGRESP", "3.12.4-1", "3.12.4-1")
def ping(at):
    client = at.peer()
    for _ in range(3):
        came = client.ping()
        equal((came.first, came.body), (0xD0, b""), "PINGRESP")


# ---- what CONNECT asks for in 5.0


@case("no response information for who doesn't ask", v5="3.1.2-28")
def response_information(at):
    for props in (b"", b"\x19\0"):
        client = at.peer(properties=props)
        equal(client.connack.get("response_info"), None, "response information")
        client.leave()


@case("Request Problem Information 0: no reason strings where they mustn't be",
      v5="3.1.2-29 3.4.2-1 3.5.2-1 3.9.3-2 3.11.3-2", ours=True)
def problem_information(at):
    client = at.peer(properties=b"\x17\0")
    identifier = client.send_publish("$nothing/x", b"", 1)
    packets = [client.wait(0x40)]
    equal(packets[0].identifier, identifier, "PUBACK")
    client.send_publish("$nothing/x", b"", 2)
    packets.append(client.wait(0x50))
    client.send(0x62, two(999))
    packets.append(client.wait(0x70))
    client.send(SUBSCRIBE, two(5) + b"\0" + text("a/#/b") + b"\0")
    packets.append(client.wait(SUBACK))
    client.send(0xA2, two(6) + b"\0" + text("never"))
    packets.append(client.wait(0xB0))
    equal([one.props for one in packets], [[]] * 5, "properties of the answers")


# ---- what a server may leave out: a listener that serves QoS 1 at most, and retains nothing


@case("a listener of QoS 1 at most says so, takes subscriptions at any QoS, and cuts off who goes beyond",
      v5="3.2.2-9 3.2.2-10 3.2.2-11")
def maximum_qos(at):
    client = at.peer("limited", port=at.broker.ports["limited"])
    equal(client.connack.get("maximum_qos"), 1, "Maximum QoS")
    filters = [(at.topic(f"{qos}/#"), qos) for qos in (0, 1, 2)]
    equal(client.subscribe(*filters), [0, 1, 1], "SUBACK")
    at.publish(at.topic("2/x"), b"two", 2)
    came = client.take(1)[0]
    equal((came.payload, came.qos), (b"two", 1), "message")
    equal(client.publish(at.topic("1/x"), "one", 1), 0, "PUBACK")
    client.send_publish(at.topic("none"), "two", 2)
    assert client.ended() in ("closed", 0x9B), "end"


@case("a will above the Maximum QoS is refused", v5="3.2.2-12")
def will_above(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    client = at.peer("above", port=at.broker.ports["limited"], connect=False)
    client.send(CONNECT, connect_body(at.id("above"), 5, will={"topic": at.topic("w"), "payload": "never",
                                                               "qos": 2, "retain": False}))
    assert client.ended() in ("closed", 0x9B), "end"
    at.publish(at.topic("end"), b"end", 0)
    equal(watcher.message().payload, b"end", "first message")


@case("a retained will is refused where nothing is retained, and so is a PUBLISH with RETAIN",
      v5="3.2.2-13 3.2.2-14", ours=True)  # mosquitto's retain_available is for all of its listeners
def no_retain(at):
    port = at.broker.ports["limited"]
    client = at.peer("will", port=port, connect=False)
    client.send(CONNECT, connect_body(at.id("will"), 5, will={"topic": at.topic("w"), "payload": "never"}))
    equal(client.ended(), 0x9A, "CONNACK")
    client = at.peer("publish", port=port)
    equal(client.connack.get("retain_available"), 0, "Retain Available")
    client.send_publish(at.topic("r"), "never", 1, retain=True)
    equal(client.ended(), 0x9A, "DISCONNECT")
    late = at.peer("late")
    late.subscribe(at.topic("#"))
    at.publish(at.topic("end"), b"end", 0)
    equal(late.message().payload, b"end", "first message")


@case("a client that knows nothing beyond the specification is served", "7.0.0-2")
def plain(at):
    client = at.peer("plain")
    equal(client.subscribe(at.topic("#"), qos=2), [2], "SUBACK")
    for qos in (0, 1, 2):
        client.publish(at.topic("x"), str(qos), qos)
    equal(sorted((one.qos, one.payload) for one in client.take(3)), [(0, b"0"), (1, b"1"), (2, b"2")], "messages")
    equal(client.unsubscribe(at.topic("#")), [], "UNSUBACK")
    client.ping()
    client.leave()


# ---- DISCONNECT


@case("DISCONNECT with reserved bits ends the connection as malformed, and the will goes out",
      "3.14.1-1 2.2.2-2", "3.14.1-1 2.1.3-1")
def disconnect_flags(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    for flags in (1, 8):
        client = at.peer(will={"topic": at.topic("w"), "payload": "gone", "qos": 0})
        client.connection.sendall(packet(DISCONNECT | flags))
        outcome = client.ended()
        equal(outcome, 0x81 if at.v5 else "closed", "end")
        equal(watcher.message().payload, b"gone", "will")


@case("what a client sends behind DISCONNECT isn't processed; the broker closes",
      "3.14.4-1 3.14.4-2", "3.14.4-1 3.14.4-2")
def behind_disconnect(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    client = at.peer()
    publish = packet(PUBLISH, text(at.topic("x")) + client.props() + b"never")
    client.connection.sendall(packet(DISCONNECT) + publish)
    equal(client.until_closed(), [], "after DISCONNECT")
    at.publish(at.topic("end"), b"end", 0)
    equal(watcher.message().payload, b"end", "first message")


@case("the broker's DISCONNECT has a code of its table and no session expiry, is the last packet, "
      "and closes", v5="3.14.2-1 3.14.2-2 3.14.4-1 3.14.4-2 4.13.2-1 4.13.1-1")
def own_disconnect(at):
    known = {0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3)}
    for octets in (b"\x00\0", packet(SUBSCRIBE, two(1)), b"\x36\x05\0\1a\0\1",
                   packet(PUBLISH, text("a") + b"\x03\x23\xff\xff"), packet(PUBLISH, text("a/#") + b"\0")):
        client = at.peer(kept=True)
        client.connection.sendall(octets + packet(PINGREQ))
        came = client.until_closed()
        equal([one.type for one in came], [DISCONNECT], "what came")
        assert came[0].code in known, hex(came[0].code)
        equal(came[0].get("session_expiry"), None, "session expiry")


@case("a DISCONNECT with a reason code that it hasn't is a protocol error; the will goes out",
      v5="3.14.2-1 4.13.1-1")
def disconnect_code(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    for code in (0x01, 0x10, 0x7F, 0xFF):
        client = at.peer(will={"topic": at.topic("w"), "payload": "gone", "qos": 0})
        client.connection.sendall(packet(DISCONNECT, bytes([code])))
        assert client.ended() in (0x81, 0x82), "end"
        equal(watcher.message().payload, b"gone", "will")


@case("DISCONNECT can't give a session that was to end with its connection a life after it",
      v5="4.13.1-1")
def late_expiry(at):
    refused(at, packet(DISCONNECT, b"\0" + properties(session_expiry=9)), 0x82)
