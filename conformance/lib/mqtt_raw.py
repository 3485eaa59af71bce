"""MQTT by hand, for what client libraries hide: acknowledgements left out, packets that are wrong."""

import socket
import struct


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    length, rest = b"", len(body)
    while True:
        length += bytes([rest % 128 | (0x80 if rest >= 128 else 0)])
        rest //= 128
        if rest == 0:
            return bytes([first]) + length + body


class RawClient:
    """One connection. `level` 3, 4 or 5; nothing is acknowledged unless a case says so."""

    def __init__(self, broker, client_id, level=4, clean=True, expiry=0, properties=b"", will=None,
                 timeout=10):
        self.level = level
        self.connection = socket.create_connection(("127.0.0.1", broker.mqtt), timeout)
        self.input = b""
        flags = (2 if clean else 0) | (0x2C if will else 0)  # QoS 1, retained
        body = text("MQIsdp" if level == 3 else "MQTT") + bytes([level, flags]) + b"\0\0"
        if level == 5:
            properties += b"\x11" + struct.pack(">I", expiry) if expiry else b""
            body += bytes([len(properties)]) + properties
        body += text(client_id)
        if will:
            delay = will.get("delay", 0)
            if level == 5:
                body += b"\x05\x18" + struct.pack(">I", delay)
            body += text(will["topic"]) + text(will["payload"])
        self.send(0x10, body)
        self.connack = self.read()

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

    def subscribe(self, topic, options=1, identifier=7):
        body = struct.pack(">H", identifier) + (b"\0" if self.level == 5 else b"")
        self.send(0x82, body + text(topic) + bytes([options]))
        while True:
            first, answer = self.read()
            if first == 0x90:
                return answer[-1]

    def publish_of(self, body, first):
        """(topic, packet id or None, payload) of a PUBLISH's body."""
        size = struct.unpack(">H", body[:2])[0]
        topic, rest = body[2:2 + size].decode(), body[2 + size:]
        identifier = None
        if first & 6:
            identifier, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
        if self.level == 5:
            rest = rest[1 + rest[0]:]
        return topic, identifier, rest

    def publishes(self, count):
        """So many of them, unacknowledged: (dup, qos, packet id, payload)."""
        seen = []
        while len(seen) < count:
            first, body = self.read()
            if first >> 4 == 3:
                _, identifier, payload = self.publish_of(body, first)
                seen.append((bool(first & 8), first >> 1 & 3, identifier, payload))
        return seen

    def ack(self, identifier, first=0x40):
        self.send(first, struct.pack(">H", identifier))

    def quiet(self, seconds=0.5):
        """Whether nothing comes for a while."""
        self.connection.settimeout(seconds)
        try:
            first, _ = self.read()
            return first >> 4 != 3
        except socket.timeout:
            return True
        finally:
            self.connection.settimeout(10)

    def close(self, politely=True):
        if politely:
            self.send(0xE0)
        self.connection.close()
