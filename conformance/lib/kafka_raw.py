"""Kafka requests by hand, for what no client at hand reaches: octets out, a reader of the answer back."""

import socket
import struct


def i8(v):
    return struct.pack(">b", v)


def i16(v):
    return struct.pack(">h", v)


def i32(v):
    return struct.pack(">i", v)


def i64(v):
    return struct.pack(">q", v)


TAGS = b"\0"  # no tagged fields


def varuint(v):
    out = b""
    while v > 127:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def text(v, flexible=True):
    if v is None:
        return b"\0" if flexible else i16(-1)
    v = v.encode()
    return (varuint(len(v) + 1) if flexible else i16(len(v))) + v


def array(items, flexible=True):
    if items is None:
        return b"\0" if flexible else i32(-1)
    return (varuint(len(items) + 1) if flexible else i32(len(items))) + b"".join(items)


class Reader:
    def __init__(self, octets, flexible):
        self.octets, self.flexible = octets, flexible

    def take(self, count):
        assert len(self.octets) >= count, "the answer is cut short"
        piece, self.octets = self.octets[:count], self.octets[count:]
        return piece

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def i8(self):
        return self.number("b")

    def i16(self):
        return self.number("h")

    def i32(self):
        return self.number("i")

    def i64(self):
        return self.number("q")

    def varuint(self):
        value = shift = 0
        while True:
            octet = self.take(1)[0]
            value |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return value

    def text(self):
        size = self.varuint() - 1 if self.flexible else self.i16()
        return None if size < 0 else self.take(size).decode()

    def blob(self):
        size = self.varuint() - 1 if self.flexible else self.i32()
        return None if size < 0 else self.take(size)

    def array(self, element):
        count = self.varuint() - 1 if self.flexible else self.i32()
        return None if count < 0 else [element() for _ in range(count)]

    def tags(self):
        if self.flexible:
            for _ in range(self.varuint()):
                self.varuint()
                self.take(self.varuint())

    def struct(self, *fields):
        """A structure: its fields' values, tagged ones passed over."""
        values = [field() for field in fields]
        self.tags()
        return values

    def end(self):
        self.tags()
        assert not self.octets, f"{len(self.octets)} octets behind the answer's end"


class Connection:
    """A connection that stays, with a client id of its own."""

    def __init__(self, broker, client="raw"):
        host, port = broker.kafka.split(":")
        self.client, self.number = client, 0
        self.socket = socket.create_connection((host, int(port)), 20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, key, version, body, flexible=True):
        self.number += 1
        frame = i16(key) + i16(version) + i32(self.number) + text(self.client, False)
        frame += (TAGS if flexible else b"") + body
        self.socket.sendall(i32(len(frame)) + frame)

    def receive(self, flexible=True):
        size, = struct.unpack(">i", exactly(self.socket, 4))
        reader = Reader(exactly(self.socket, size), flexible)
        assert reader.i32() == self.number, "another request's answer"
        reader.tags()
        return reader

    def ask(self, key, version, body, flexible=True):
        self.send(key, version, body, flexible)
        return self.receive(flexible)


def batch(*values, producer=(-1, -1), sequence=-1, transactional=False):
    """A record batch of magic 2, by kafka-python's builder."""
    from kafka.record.default_records import DefaultRecordBatchBuilder
    builder = DefaultRecordBatchBuilder(2, 0, int(transactional), producer[0], producer[1], sequence, 1 << 24)
    for offset, value in enumerate(values):
        builder.append(offset, 1000 + offset, None, value, [])
    return bytes(builder.build())


def f64(v):
    return struct.pack(">d", v)


def blob(v):
    return b"\0" if v is None else varuint(len(v) + 1) + v


def produce(connection, topic, records, partition=0, version=9, transaction=None, topic_id=None, acks=-1):
    """(error, base offset, throttle time) of one batch; version 9 or later."""
    name = topic_id if topic_id else text(topic)
    body = (text(transaction) + i16(acks) + i32(10_000)
            + array([name + array([i32(partition) + blob(records) + TAGS]) + TAGS]) + TAGS)
    if acks == 0:
        return connection.send(0, version, body)
    answer = connection.ask(0, version, body)
    record_error = lambda: answer.struct(answer.i32, answer.text)
    partition = lambda: answer.struct(answer.i32, answer.i16, answer.i64, answer.i64, answer.i64,
                                      lambda: answer.array(record_error), answer.text)
    named = (lambda: answer.take(16)) if topic_id else answer.text
    [[_, [told]]] = answer.array(lambda: answer.struct(named, lambda: answer.array(partition)))
    throttle = answer.i32()
    answer.end()
    return told[1], told[2], throttle


def init_producer(connection, transaction=None, producer=(-1, -1)):
    """(id, epoch)"""
    answer = connection.ask(22, 4, text(transaction) + i32(60_000) + i64(producer[0]) + i16(producer[1]) + TAGS)
    answer.i32()
    error, made = answer.i16(), (answer.i64(), answer.i16())
    answer.end()
    assert error == 0, f"InitProducerId: {error}"
    return made


def call(broker, key, version, body, flexible=True):
    """One request on a connection of its own."""
    host, port = broker.kafka.split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        # The first request is a small one: it is held to be a greeting.
        frame = i16(key) + i16(version) + i32(7) + text("raw", False)
        frame += (TAGS if flexible else b"") + body
        connection.sendall(i32(len(frame)) + frame)
        size, = struct.unpack(">i", exactly(connection, 4))
        reader = Reader(exactly(connection, size), flexible)
    assert reader.i32() == 7, "another request's answer"
    reader.tags()
    return reader


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        assert piece, "the broker closed the connection"
        data += piece
    return data
