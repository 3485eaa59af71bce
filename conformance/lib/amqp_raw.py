"""AMQP 0-9-1 by hand: frames as octets, for what no client library lets one send or see. pika's
spec module only packs and unpacks the methods' arguments."""

import socket
import struct
import time
from dataclasses import dataclass

from pika import spec

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
HELLO = b"AMQP\x00\x00\x09\x01"
CAPABILITIES = {"publisher_confirms": True, "basic.nack": True, "consumer_cancel_notify": True,
                "connection.blocked": True, "authentication_failure_close": True}


PROBE = 1999  # a channel that nobody else uses


class Silence(AssertionError):
    """Nothing came in time."""


@dataclass
class Frame:
    kind: int
    channel: int
    payload: bytes

    @property
    def method(self):
        """The method's object of pika.spec, or None."""
        if self.kind != METHOD:
            return None
        number = struct.unpack_from(">I", self.payload)[0]
        return spec.methods[number]().decode(self.payload, 4)

    def __str__(self):
        return f"{self.channel}: {describe(self)}"


def describe(frame):
    """A frame in words: the same for two brokers that said the same."""
    if frame.kind == METHOD:
        method = frame.method
        if isinstance(method, (spec.Connection.Close, spec.Channel.Close)):
            return (f"{method.NAME} {method.reply_code} {method.reply_text} "
                    f"({method.class_id}, {method.method_id})")
        fields = " ".join(f"{name}={value!r}" for name, value in vars(method).items())
        return f"{method.NAME} {fields}".strip()
    if frame.kind == HEADER:
        return f"header {frame.payload.hex()}"
    if frame.kind == BODY:
        return f"body {frame.payload[:32]!r} of {len(frame.payload)}"
    return f"frame {frame.kind} {frame.payload[:32]!r}"


def frame(kind, channel, payload, end=END):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def method(channel, which):
    return frame(METHOD, channel, struct.pack(">I", which.INDEX) + b"".join(which.encode()))


def header(channel, size, properties=b"\x00\x00", class_id=60, weight=0):
    return frame(HEADER, channel, struct.pack(">HHQ", class_id, weight, size) + properties)


def publish(channel, exchange, key, body=b"x", properties=b"\x00\x00", mandatory=False,
            immediate=False, piece=131072 - 8):
    data = method(channel, spec.Basic.Publish(exchange=exchange, routing_key=key,
                                              mandatory=mandatory, immediate=immediate))
    data += header(channel, len(body), properties)
    for begin in range(0, len(body), piece):
        data += frame(BODY, channel, body[begin:begin + piece])
    return data


class Raw:
    """A connection whose handshake is done and, unless told otherwise, channel 1 open."""

    def __init__(self, broker, channel=1, heartbeat=0, frame_max=131072, channel_max=2047,
                 handshake=True, capabilities=None, receive_buffer=None, virtual_host="/",
                 mechanism="PLAIN", response=b"\x00guest\x00guest"):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", broker.amqp))
        self.buffer = b""
        if not handshake:
            return
        self.send(HELLO)
        self.start = self.receive().method
        capabilities = CAPABILITIES if capabilities is None else capabilities
        self.send(method(0, spec.Connection.StartOk(
            {"product": "conformance", "capabilities": capabilities}, mechanism, response, "en_US")))
        answer = self.receive()
        self.tune = answer and answer.method
        if not isinstance(self.tune, spec.Connection.Tune):
            self.opened = answer
            return
        self.send(method(0, spec.Connection.TuneOk(channel_max, frame_max, heartbeat)) +
                  method(0, spec.Connection.Open(virtual_host)))
        self.opened = self.receive()
        if channel and self.opened and isinstance(self.opened.method, spec.Connection.OpenOk):
            self.open(channel)

    def open(self, channel):
        answer = self.ask(channel, spec.Channel.Open())
        assert answer and isinstance(answer.method, spec.Channel.OpenOk), str(answer)

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what the broker said before it closed is still to be read

    def receive(self, timeout=20):
        """The next frame, or None at the connection's end."""
        deadline = time.monotonic() + timeout
        while True:
            if len(self.buffer) >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self.buffer)
                if len(self.buffer) >= size + 8:
                    assert self.buffer[size + 7:size + 8] == END, "the broker's frame has no end"
                    payload, self.buffer = self.buffer[7:size + 7], self.buffer[size + 8:]
                    return Frame(kind, channel, payload)
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            except socket.timeout:
                raise Silence(f"nothing came within {timeout} s") from None
            if not piece:
                return None
            self.buffer += piece

    def ask(self, channel, which):
        """Sends a method and returns the next frame."""
        self.send(method(channel, which))
        return self.receive()

    def outcome(self, data=b"", probe=None):
        """Sends octets and tells in words what came of it: up to the end of the connection or the
        channel; or that the connection goes on. `probe` is a channel that answers after what was
        sent on it: without one a further channel is opened, and as channels aren't ordered among
        each other a moment of silence tells that nothing else comes."""
        self.send(data)
        self.send(method(probe, spec.Basic.Qos()) if probe else method(PROBE, spec.Channel.Open()))
        said, wait = [], 5
        while True:
            try:
                frame_ = self.receive(wait)
            except Silence:
                return said + ["goes on" if wait < 1 else "silence"]
            if frame_ is None:
                return said + ["the end"]
            if frame_.kind == METHOD:
                which = frame_.method
                if frame_.channel == PROBE and isinstance(which, spec.Channel.OpenOk):
                    wait = 0.2
                    continue
                if probe and isinstance(which, spec.Basic.QosOk):
                    return said + ["goes on"]
                if isinstance(which, spec.Connection.Close):
                    self.send(method(0, spec.Connection.CloseOk()))
                    return said + [str(frame_)]
                if isinstance(which, spec.Channel.Close):
                    self.send(method(frame_.channel, spec.Channel.CloseOk()))
                    return said + [str(frame_)]
            said.append(str(frame_))

    def delivered(self):
        """The next delivery (or basic.get-ok, basic.return): method, header frame's payload, body."""
        which = self.receive().method
        head = self.receive()
        assert head.kind == HEADER, str(head)
        size = struct.unpack_from(">Q", head.payload, 4)[0]
        body = b""
        while len(body) < size:
            body += self.receive().payload
        return which, head.payload, body

    def close(self):
        self.socket.close()
