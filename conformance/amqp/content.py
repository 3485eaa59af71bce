"""Bodies, properties and header tables: back as they were sent, octet for octet."""

import datetime
import os
import struct
from decimal import Decimal

import pika
from pika import spec

from lib.amqp_raw import BODY, Raw, frame, header, method, publish

from .peer import Consumer, Peer, confirmed
from .scenario import scenario

BODIES = {"empty": b"", "one octet": b"\xce", "all octets": bytes(range(256)),
          "a frame's end": b"\xce" * 100, "one frame exactly": b"f" * (131072 - 8),
          "one frame and one octet": b"g" * (131072 - 7), "1 MiB": bytes(range(256)) * 4096}


@scenario("bodies: empty, one frame, many frames, 1 MiB, by get, deliver and return")
def bodies(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("c.bodies", exclusive=True)
    consumer = Consumer(peer, "c.bodies", peer.open(), auto_ack=True)
    sender = peer.open(confirms=True)
    returns = []
    sender.add_on_return_callback(lambda _c, _m, _p, body: returns.append(body))
    for title, body in BODIES.items():
        confirmed(peer, "", [("c.bodies", body)], sender)
        peer.wait(lambda: consumer.seen, title)
        see(title, consumer.seen == [(False, body)])
        consumer.seen.clear()
        try:
            sender.basic_publish("", "c.none", body, mandatory=True)
        except pika.exceptions.UnroutableError as error:
            see(f"{title}, returned", error.messages[0].body == body)
    consumer.channel.close()
    for title, body in BODIES.items():
        confirmed(peer, "", [("c.bodies", body)], sender, delivery_mode=2)
        see(f"{title}, get", peer.channel.basic_get("c.bodies", True)[2] == body)
    peer.close()


@scenario("bodies in odd pieces in; no frame out is larger than the negotiated 4,096 octets")
def pieces(broker, see):
    raw = Raw(broker, frame_max=4096)
    raw.ask(1, spec.Queue.Declare(queue="c.pieces", exclusive=True))
    body = os.urandom(10000)
    raw.send(method(1, spec.Basic.Publish(exchange="", routing_key="c.pieces"))
             + header(1, len(body)))
    position = 0
    for size in (1, 0, 7, 4088, 100, 4000, 1804):
        raw.send(frame(BODY, 1, body[position:position + size]))
        position += size
    raw.send(method(1, spec.Basic.Get(queue="c.pieces", no_ack=True)))
    see("get-ok", str(raw.receive()))
    raw.receive()
    sizes, back = [], b""
    while len(back) < len(body):
        back += raw.receive().payload
        sizes.append(len(back))
    see("the same", back == body)
    see("ends of the pieces", sizes)
    raw.close()


PROPERTIES = dict(
    content_type="text/plain; charset=utf-8", content_encoding="gzip",
    headers={"a": 1}, delivery_mode=2, priority=7, correlation_id="id-7", reply_to="amq.reply",
    expiration="3600000", message_id="m-1", timestamp=1_600_000_000, type="order.created",
    user_id="guest", app_id="conformance", cluster_id="")


@scenario("the fourteen properties, each by itself, all and none, by pika")
def properties(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("c.properties", exclusive=True)

    def back(**given):
        confirmed(peer, "", [("c.properties", b"x")], **given)
        _, seen, _ = peer.channel.basic_get("c.properties", True)
        return {name: value for name, value in vars(seen).items() if value is not None}

    for name, value in PROPERTIES.items():
        see(name, back(**{name: value}))
    see("none", back())
    see("all", back(**{**PROPERTIES, "cluster_id": None}))
    see("255 octets", back(message_id="m" * 255))
    see("empty texts", back(content_type="", message_id="", type=""))
    peer.close()


TYPED = {
    "text": "kitchen", "empty text": "", "UTF-8": "käse €", "octets": b"\x00\xff\xfe", "true": True,
    "false": False, "zero": 0, "negative": -5, "31 bits": (1 << 31) - 1, "32 bits": 1 << 31,
    "63 bits": (1 << 63) - 1, "-40 bits": -(1 << 40), "fraction": Decimal("3.14"),
    "time": datetime.datetime(2020, 9, 13, 12, 26, 40), "void": None, "empty table": {},
    "table": {"in": {"deeper": [1, "two", None, {"x": True}]}}, "empty array": [],
    "array": [1, "a", True, None, b"\x00", [2], {"k": "v"}], "long": "x" * 100_000,
}


@scenario("header tables: every type that pika encodes comes back as it was")
def typed(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("c.typed", exclusive=True)
    for title, value in [*TYPED.items(), ("all", None)]:
        table = dict(TYPED) if title == "all" else {title: value}
        if title == "all":
            table.pop("long")  # a content header has to fit a frame
        confirmed(peer, "", [("c.typed", b"x")], headers=table)
        _, seen, _ = peer.channel.basic_get("c.typed", True)
        see(title, repr(seen.headers))
        assert seen.headers == table or title in ("-40 bits", "octets", "array", "all"), (title, seen.headers)
    peer.close()


def field(name, kind, value):
    return bytes([len(name)]) + name + kind + value


FIELDS = {  # every field type of RabbitMQ's table, by hand; s and u are its 16-bit ones
    "t": b"\x01", "b": b"\xfb", "B": b"\xfb", "s": b"\xff\xfe", "u": b"\xff\xfe", "I": b"\xff\xff\xff\xfe",
    "i": b"\xff\xff\xff\xfe", "l": b"\xff" * 8, "f": struct.pack(">f", 1.5), "d": struct.pack(">d", 2.5),
    "D": b"\x02\x00\x00\x01\x3a", "S": b"\x00\x00\x00\x03abc", "x": b"\x00\x00\x00\x02\x00\xff",
    "A": b"\x00\x00\x00\x07" + b"I\x00\x00\x00\x01" + b"t\x01", "T": b"\x00\x00\x00\x00\x5f\x5e\x10\x00",
    "F": b"\x00\x00\x00\x04\x01kt\x01", "V": b"",
}


def round_trip(raw, properties_):
    raw.send(publish(1, "", raw.queue, b"x", properties_))
    raw.send(method(1, spec.Basic.Get(queue=raw.queue, no_ack=True)))
    answer = raw.receive()
    if answer is None:
        return "the end"
    if not isinstance(answer.method, spec.Basic.GetOk):
        return str(answer)
    head = raw.receive().payload[12:]
    raw.receive()
    return "octet for octet" if head == properties_ else head.hex()


def with_headers(*fields):
    table = b"".join(fields)
    return b"\x20\x00" + struct.pack(">I", len(table)) + table


@scenario("content headers octet for octet: field types by hand, order, doubles, odd flags")
def octets(broker, see):
    def fresh():
        raw = Raw(broker)
        raw.queue = raw.ask(1, spec.Queue.Declare(exclusive=True)).method.queue
        return raw

    raw = fresh()
    for kind, value in FIELDS.items():
        see(f"type {kind}", round_trip(raw, with_headers(field(b"f", kind.encode(), value))))
    see("every type", round_trip(raw, with_headers(
        *[field(b"n" + kind.encode(), kind.encode(), value) for kind, value in FIELDS.items()])))
    see("not in order", round_trip(raw, with_headers(
        field(b"b", b"t", b"\x01"), field(b"a", b"t", b"\x00"), field(b"c", b"V", b""))))
    see("a name twice", round_trip(raw, with_headers(
        field(b"b", b"t", b"\x01"), field(b"a", b"t", b"\x00"), field(b"b", b"S", b"\x00\x00\x00\x01x"))))
    see("an empty name", round_trip(raw, with_headers(field(b"", b"t", b"\x01"))))
    see("a true of 7", round_trip(raw, with_headers(field(b"a", b"t", b"\x07"))))
    see("an empty table", round_trip(raw, with_headers()))
    see("names that are not UTF-8", round_trip(raw, with_headers(field(b"\xff\xfe", b"t", b"\x01"))))
    see("text that is not UTF-8", round_trip(raw, with_headers(field(b"a", b"S", b"\x00\x00\x00\x01\xff"))))
    see("a property that is not UTF-8", round_trip(raw, b"\x80\x00\x02\xff\xfe"))
    see("all fourteen", round_trip(raw, (
        b"\xff\xfc" + b"\x0atext/plain" + b"\x04gzip" + b"\x00\x00\x00\x04\x01kt\x01" + b"\x02" + b"\x05"
        + b"\x01c" + b"\x01r" + b"\x0560000" + b"\x01m" + b"\x00\x00\x00\x00\x5f\x5e\x10\x00" + b"\x01t"
        + b"\x05guest" + b"\x01a" + b"\x01c")))
    see("a timestamp beyond 2106", round_trip(raw, b"\x00\x40" + b"\x00\x00\x01\x00\x00\x00\x00\x00"))
    see("a timestamp with the top bit", round_trip(raw, b"\x00\x40" + b"\xff" * 8))
    for title, bad in (("an unknown field type", with_headers(field(b"a", b"?", b""))),
                       ("a table longer than its header", b"\x20\x00\x00\x00\x01\x00\x01a"),
                       ("a text longer than its table", with_headers(b"\x01aS\x00\x00\x01\x00x")),
                       ("properties that end early", b"\x80\x00\x10ab"),
                       ("octets behind the properties", b"\x80\x00\x02abxx"),
                       ("flags that say there are more", b"\x00\x01\x00\x00")):
        raw = fresh()
        see(title, raw.outcome(publish(1, "", raw.queue, b"x", bad)))
    deep = b""
    for _ in range(100):
        deep = field(b"d", b"F", struct.pack(">I", len(deep)) + deep)
    see("a hundred tables deep", round_trip(fresh(), with_headers(deep)))


@scenario("consumers' and channels' own texts: tags, redelivered flags and keys of deliveries as sent")
def labels(broker, see):
    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="c.labels", exclusive=True))
    for key in ("c.key", "", "k" * 255, "käse", "a.*.#"):
        raw.ask(1, spec.Queue.Bind(queue="c.labels", exchange="amq.direct", routing_key=key))
        raw.send(publish(1, "amq.direct", key, b"x"))
    tag = "tag with spaces and käse"
    see("consume-ok", str(raw.ask(1, spec.Basic.Consume(queue="c.labels", consumer_tag=tag))))
    for number in range(5):
        see(f"delivery {number}", vars(raw.delivered()[0]))
    named = raw.ask(1, spec.Basic.Consume(queue="c.labels")).method.consumer_tag
    see("a tag of the broker's", named[:9])
    raw.close()
