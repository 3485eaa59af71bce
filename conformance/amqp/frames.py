"""Frames that no client library sends."""

import struct
import time

from pika import spec

from lib.amqp_raw import BODY, HEADER, HEARTBEAT, HELLO, METHOD, Raw, frame, header, method, publish

from .scenario import scenario

OPEN = struct.pack(">HH", 20, 10) + b"\x00"
PUBLISH = method(1, spec.Basic.Publish(exchange="", routing_key="x"))


def outcomes(broker, see, cases, probe=None):
    for title, data in cases.items():
        see(title, Raw(broker).outcome(data, probe))


@scenario("bad frames: the end octet, the size, the type, frames on the wrong channel")
def bad_frames(broker, see):
    outcomes(broker, see, {
        "no end octet": frame(METHOD, 2, OPEN, b"Z"),
        "larger than negotiated": struct.pack(">BHI", BODY, 1, 131073) + bytes(131073) + b"\xce",
        "a gigabyte": struct.pack(">BHI", METHOD, 1, 1 << 30) + b"x" * 100,
        "an unknown type": frame(9, 1, b"abc"),
        "an unknown type on channel 0": frame(4, 0, b""),
        "a heartbeat with a payload": frame(HEARTBEAT, 0, b"a"),
        "a heartbeat on a channel": frame(HEARTBEAT, 1, b""),
        "a body on channel 0": frame(BODY, 0, b"abc"),
        "a header on channel 0": frame(HEADER, 0, bytes(14)),
        "a method of no octets": frame(METHOD, 1, b""),
        "a method of three octets": frame(METHOD, 1, b"\x00\x14\x00"),
        "a channel beyond the negotiated": method(3000, spec.Channel.Open()),
    })
    outcomes(broker, see, {"a heartbeat": frame(HEARTBEAT, 0, b"")}, probe=1)


@scenario("methods out of place: unknown ones, on channels that aren't open, the server's own")
def bad_methods(broker, see):
    def raw_method(channel, class_id, method_id, arguments=b""):
        return frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)

    outcomes(broker, see, {
        "unknown method": raw_method(1, 50, 99), "unknown class": raw_method(1, 999, 10),
        "unknown method on channel 0": raw_method(0, 10, 99),
        "channel not open": method(7, spec.Basic.Qos()),
        "publish, channel not open": publish(7, "", "x"),
        "channel.close, not open": method(7, spec.Channel.Close(200, "", 0, 0)),
        "channel.close-ok, not open": method(7, spec.Channel.CloseOk()),
        "second channel.open": method(1, spec.Channel.Open()),
        "basic.qos on channel 0": method(0, spec.Basic.Qos()),
        "channel.open on channel 0": method(0, spec.Channel.Open()),
        "connection.open again": method(0, spec.Connection.Open("/")),
        "connection.close on a channel": method(1, spec.Connection.Close(200, "", 0, 0)),
        "channel.close-ok unasked": method(1, spec.Channel.CloseOk()),
        "flow-ok unasked": method(1, spec.Channel.FlowOk(True)),
        "cancel-ok unasked": method(1, spec.Basic.CancelOk("t")),
        "basic.deliver from a client": method(1, spec.Basic.Deliver("t", 1, False, "", ""))
        + header(1, 0),
        "arguments cut short": raw_method(1, 50, 10, b"\x00\x00\x05ab"),
        "octets behind the arguments": raw_method(1, 20, 20, b"\x01\x01"),
        "a name that is not UTF-8": raw_method(1, 50, 30, b"\x00\x00\x02\xff\xfe\x00"),
        "a bad table": raw_method(1, 50, 10, b"\x00\x00\x01q\x00\x00\x00\x00\x05\x01a?xx"),
        "access.request": raw_method(1, 30, 10, b"\x01/\x00"),
    })


@scenario("contents out of place: none where one belongs, of another class, longer than announced")
def bad_contents(broker, see):
    outcomes(broker, see, {
        "a method in the place of a header": PUBLISH + method(1, spec.Basic.Qos()),
        "a body in the place of a header": PUBLISH + frame(BODY, 1, b"abc"),
        "a header of another class": PUBLISH + header(1, 3, class_id=50),
        "a header with a weight": PUBLISH + header(1, 3, weight=1),
        "a method in the place of a body": PUBLISH + header(1, 3) + method(1, spec.Basic.Qos()),
        "a second header": PUBLISH + header(1, 3) + header(1, 3),
        "more than announced": PUBLISH + header(1, 3) + frame(BODY, 1, b"abcd"),
        "more than announced, by a frame": PUBLISH + header(1, 3) + frame(BODY, 1, b"abc")
        + frame(BODY, 1, b"d"),
        "a body after an empty one": PUBLISH + header(1, 0) + frame(BODY, 1, b""),
        "a body of nothing": frame(BODY, 1, b"abc"),
        "a header of nothing": header(1, 3),
        "a header cut short": PUBLISH + frame(HEADER, 1, b"\x00\x3c\x00\x00\x00"),
    })


@scenario("contents of several channels between each other, methods between them too")
def interleaved(broker, see):
    raw = Raw(broker)
    raw.open(2)
    raw.ask(1, spec.Queue.Declare(queue="m.between", exclusive=True))
    first, second = (method(channel, spec.Basic.Publish(exchange="", routing_key="m.between"))
                     for channel in (1, 2))
    raw.send(first + second + header(2, 4) + header(1, 6) + frame(BODY, 1, b"one") + frame(BODY, 2, b"bb")
             + frame(HEARTBEAT, 0, b"") + frame(BODY, 2, b"bb"))
    raw.open(3)
    raw.send(frame(BODY, 1, b"two"))
    see("goes on", raw.outcome(probe=1))
    seen = []
    for _ in range(2):
        raw.send(method(2, spec.Basic.Get(queue="m.between", no_ack=True)))
        seen.append(raw.delivered()[2])
    see("both", sorted(seen))
    raw.close()


@scenario("octets one at a time, and many frames in one piece")
def trickle(broker, see):
    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="m.trickle", exclusive=True))
    for octet in publish(1, "", "m.trickle", b"slowly"):
        raw.send(bytes([octet]))
    raw.send(b"".join(publish(1, "", "m.trickle", b"%d" % number) for number in range(100))
             + method(1, spec.Basic.Consume(queue="m.trickle", consumer_tag="t", no_ack=True)))
    see("consume-ok", str(raw.receive()))
    see("deliveries", [raw.delivered()[2] for _ in range(101)])
    raw.close()


@scenario("handshakes out of turn: cut off or refused, nothing else notices")
def bad_handshakes(broker, see):
    start_ok = method(0, spec.Connection.StartOk({}, "PLAIN", b"\x00guest\x00guest", "en_US"))

    def tune_ok(*values):
        return method(0, spec.Connection.TuneOk(*values))

    for title, data in (
            ("a channel before connection.open", tune_ok(2047, 131072, 0) + method(1, spec.Channel.Open())),
            ("channels without limit", tune_ok(0, 131072, 0) + method(0, spec.Connection.Open("/"))),
            ("frames larger than offered",
             tune_ok(2047, 1 << 20, 0) + method(0, spec.Connection.Open("/"))),
            ("frames smaller than 4,096", tune_ok(2047, 100, 0) + method(0, spec.Connection.Open("/")))):
        raw = Raw(broker, handshake=False)
        raw.send(HELLO)
        raw.receive()
        raw.send(start_ok)
        raw.receive()
        see(title, raw.outcome(data))
    for title, tune in (("tune-ok", (2047, 131072, 0)), ("a frame of 4,096", (2047, 4096, 0)),
                        ("no heartbeat, one channel", (1, 131072, 0))):
        raw = Raw(broker, channel_max=tune[0], frame_max=tune[1], heartbeat=tune[2])
        see(title, str(raw.opened))
        if tune[0] == 1:
            see("a second channel of one", raw.outcome(method(2, spec.Channel.Open())))


@scenario("heartbeats: sent when there is nothing else to send; a silent client is cut off")
def heartbeats(broker, see):
    raw = Raw(broker, heartbeat=1)
    began = time.monotonic()
    kinds = set()
    while (one := raw.receive()) is not None:
        kinds.add((one.kind, one.channel, one.payload))
    passed = time.monotonic() - began
    see("what came", sorted(kinds))
    assert 1 <= passed <= 6, f"cut off after {passed:.1f} s"
