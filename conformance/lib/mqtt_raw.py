"""MQTT by hand, for what client libraries hide: acknowledgements left out, packets that are wrong."""

import socket
import struct
import time
from collections import deque

# Packet types with the flags that belong to them (3.1.1 and 5.0, 2.2 and 2.1).
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x82, 0x90, 0xA2, 0xB0
PINGREQ, PINGRESP, DISCONNECT, AUTH = 0xC0, 0xD0, 0xE0, 0xF0

# Properties of 5.0 (2.2.2.2) by name: identifier and kind.
PROPERTIES = {
    "payload_format": (0x01, "byte"), "message_expiry": (0x02, "four"), "content_type": (0x03, "text"),
    "response_topic": (0x08, "text"), "correlation_data": (0x09, "text"),
    "subscription_id": (0x0B, "varint"), "session_expiry": (0x11, "four"),
    "assigned_client_id": (0x12, "text"), "server_keep_alive": (0x13, "two"),
    "authentication_method": (0x15, "text"), "authentication_data": (0x16, "text"),
    "request_problem_info": (0x17, "byte"), "will_delay": (0x18, "four"),
    "request_response_info": (0x19, "byte"), "response_info": (0x1A, "text"),
    "server_reference": (0x1C, "text"), "reason_string": (0x1F, "text"),
    "receive_maximum": (0x21, "two"), "topic_alias_maximum": (0x22, "two"),
    "topic_alias": (0x23, "two"), "maximum_qos": (0x24, "byte"), "retain_available": (0x25, "byte"),
    "user_property": (0x26, "pair"), "maximum_packet_size": (0x27, "four"),
    "wildcard_available": (0x28, "byte"), "subscription_id_available": (0x29, "byte"),
    "shared_available": (0x2A, "byte")}
NAMES = {number: (name, kind) for name, (number, kind) in PROPERTIES.items()}


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def varint(value):
    octets = b""
    while True:
        octets += bytes([value % 128 | (0x80 if value >= 128 else 0)])
        value //= 128
        if value == 0:
            return octets


def packet(first, body=b""):
    return bytes([first]) + varint(len(body)) + body


def two(number):
    return struct.pack(">H", number)


def one_property(name, value):
    number, kind = PROPERTIES[name]
    if kind == "pair":
        return bytes([number]) + text(value[0]) + text(value[1])
    if kind == "text":
        return bytes([number]) + text(value)
    if kind == "varint":
        return bytes([number]) + varint(value)
    return bytes([number]) + value.to_bytes({"byte": 1, "two": 2, "four": 4}[kind], "big")


def properties(given=(), **named):
    """Their length and their octets; `given` are (name, value) pairs, whose order is kept."""
    pairs = [*(given.items() if isinstance(given, dict) else given), *named.items()]
    octets = b"".join(one_property(name, value) for name, value in pairs)
    return varint(len(octets)) + octets


def connect_body(client_id, level=4, clean=True, keepalive=0, props=b"", will=None, username=None,
                 password=None):
    """`props`: the octets of CONNECT's properties without their length. `will` has topic, payload,
    qos (1), retain (True), delay and props, (name, value) pairs."""
    flags = 2 if clean else 0
    if will:
        flags |= 4 | will.get("qos", 1) << 3 | (0x20 if will.get("retain", True) else 0)
    flags |= (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQIsdp" if level == 3 else "MQTT") + bytes([level, flags]) + two(keepalive)
    if level == 5:
        body += varint(len(props)) + props
    body += text(client_id)
    if will:
        if level == 5:
            body += properties([("will_delay", will.get("delay", 0)), *will.get("props", ())])
        body += text(will["topic"]) + text(will["payload"])
    for field in (username, password):
        body += text(field) if field is not None else b""
    return body


class Packet:
    """One packet that came, taken apart as its version says."""

    def __init__(self, first, body, level):
        self.first, self.body, self.level = first, body, level
        self.type, self.flags = first & 0xF0, first & 0x0F
        self.size = len(packet(first, body))
        self.props, self.codes, self.identifier = [], [], None
        rest = body
        if self.type == PUBLISH:
            self.dup, self.qos = bool(first & 8), first >> 1 & 3
            self.retain = bool(first & 1)
            self.topic, rest = self._text(rest)
            if self.qos:
                self.identifier, rest = self._two(rest)
            self.payload = self._properties(rest) if level == 5 else rest
        elif self.type in (PUBACK, PUBREC, PUBREL & 0xF0, PUBCOMP):
            self.identifier, rest = self._two(rest)
            self._reason(rest)
        elif self.type in (SUBACK, UNSUBACK):
            self.identifier, rest = self._two(rest)
            self.codes = list(self._properties(rest) if level == 5 else rest)
        elif self.type == CONNACK:
            self.session_present, self.codes = rest[0], [rest[1]]
            if level == 5 and len(rest) > 2:
                assert self._properties(rest[2:]) == b"", "octets behind CONNACK"
        elif self.type in (DISCONNECT, AUTH):
            self._reason(rest)

    def _two(self, rest):
        return struct.unpack(">H", rest[:2])[0], rest[2:]

    def _text(self, rest):
        size, rest = self._two(rest)
        assert len(rest) >= size, "a string longer than its packet"
        return rest[:size], rest[size:]

    def _reason(self, rest):
        self.codes = [rest[0] if rest else 0]
        if len(rest) > 1:
            assert self._properties(rest[1:]) == b"", "octets behind the properties"

    def _varint(self, rest):
        value = shift = 0
        for place, octet in enumerate(rest):
            value |= (octet & 0x7F) << shift
            shift += 7
            if octet < 128:
                return value, rest[place + 1:]
        raise AssertionError("a length cut short")

    def _properties(self, rest):
        size, rest = self._varint(rest)
        mine, rest = rest[:size], rest[size:]
        assert len(mine) == size, "properties longer than their packet"
        while mine:
            name, kind = NAMES[mine[0]]
            mine = mine[1:]
            if kind == "pair":
                first, mine = self._text(mine)
                second, mine = self._text(mine)
                self.props.append((name, (first, second)))
            elif kind == "text":
                value, mine = self._text(mine)
                self.props.append((name, value))
            elif kind == "varint":
                value, mine = self._varint(mine)
                self.props.append((name, value))
            else:
                width = {"byte": 1, "two": 2, "four": 4}[kind]
                self.props.append((name, int.from_bytes(mine[:width], "big")))
                mine = mine[width:]
        return rest

    @property
    def code(self):
        return self.codes[0]

    def all(self, name):
        return [value for each, value in self.props if each == name]

    def get(self, name, default=None):
        return next(iter(self.all(name)), default)

    def __repr__(self):
        return f"<packet {self.first:02x} {self.body[:40]!r}>"


class RawClient:
    """One connection. `level` 3, 4 or 5; nothing is acknowledged unless a case says so. `port` may be
    the path of a Unix-domain socket."""

    def __init__(self, broker, client_id, level=4, clean=True, expiry=0, properties=b"", will=None,
                 timeout=10, keepalive=0, username=None, password=None, connect=True, port=None):
        self.level, self.timeout = level, timeout
        if isinstance(port, str):
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.settimeout(timeout)
            self.connection.connect(port)
        else:
            self.connection = socket.create_connection(("127.0.0.1", port or broker.mqtt), timeout)
        self.input = b""
        self.aside = deque()  # what came while another packet was waited for
        self.connack = None
        self.last_id = 0
        if level == 5 and expiry:
            properties += b"\x11" + struct.pack(">I", expiry)
        if connect:
            self.send(0x10, connect_body(client_id, level, clean, keepalive, properties, will,
                                         username, password))
            self.connack = self.read()

    # ---- packets as octets

    def send(self, first, body=b""):
        self.connection.sendall(packet(first, body))

    def exactly(self, count):
        while len(self.input) < count:
            piece = self.connection.recv(65536)
            if not piece:
                raise ConnectionError("the broker closed the connection")
            self.input += piece
        data, self.input = self.input[:count], self.input[count:]
        return data

    def read(self):
        """The next packet: its first octet and its body."""
        first = self.exactly(1)[0]
        length = shift = 0
        while True:
            octet = self.exactly(1)[0]
            length |= (octet & 0x7F) << shift
            shift += 7
            if octet < 128:
                return first, self.exactly(length)

    # ---- packets taken apart

    def next(self):
        """The next packet, in the order that they came."""
        return self.aside.popleft() if self.aside else Packet(*self.read(), self.level)

    def wait(self, *types):
        """The next packet of these types; what comes before it is kept for later."""
        for place, kept in enumerate(self.aside):
            if kept.type in types:
                del self.aside[place]
                return kept
        while True:
            came = Packet(*self.read(), self.level)
            if came.type in types:
                return came
            self.aside.append(came)

    def answer(self, *types):
        """The same, but nothing else than PUBLISH may come before it."""
        came = self.wait(*types)
        strange = [one for one in self.aside if one.type != PUBLISH]
        assert not strange, f"before {came}: {strange}"
        return came

    def until_closed(self):
        """What comes until the broker closes; what it doesn't close raises a time-out."""
        came = list(self.aside)
        self.aside.clear()
        try:
            while True:
                came.append(Packet(*self.read(), self.level))
        except ConnectionError:
            return came

    def next_id(self):
        self.last_id += 1
        return self.last_id

    def props(self, given=(), **named):
        return properties(given, **named) if self.level == 5 else b""

    def subscribe(self, topic, options=1, identifier=7):
        body = two(identifier) + self.props()
        self.send(0x82, body + text(topic) + bytes([options]))
        return self.wait(SUBACK).codes[-1]

    def publish_of(self, body, first):
        """(topic, packet id or None, payload) of a PUBLISH's body."""
        came = Packet(first, body, self.level)
        return came.topic.decode(), came.identifier, came.payload

    def publishes(self, count):
        """So many of them, unacknowledged: (dup, qos, packet id, payload)."""
        seen = []
        while len(seen) < count:
            came = self.wait(PUBLISH)
            seen.append((came.dup, came.qos, came.identifier, came.payload))
        return seen

    def ack(self, identifier, first=0x40):
        self.send(first, two(identifier))

    def quiet(self, seconds=0.5):
        """Whether nothing comes for a while."""
        if any(one.type == PUBLISH for one in self.aside):
            return False
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if Packet(*self.read(), self.level).type == PUBLISH:
                    return False
            return True
        except socket.timeout:
            return True
        finally:
            self.connection.settimeout(self.timeout)

    def close(self, politely=True):
        if politely:
            self.send(0xE0)
        self.connection.close()
