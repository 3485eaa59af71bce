"""WebSocket octet by octet, for what no client sends."""

import os
import socket
import struct

REQUEST = ("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Protocol: {protocol}\r\n{more}\r\n")
CONNECT = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03raw"


def frame(payload, opcode=2, final=True, masked=True):
    size = len(payload)
    head = bytes([(0x80 if final else 0) | opcode])
    mark = 0x80 if masked else 0
    if size < 126:
        head += bytes([mark | size])
    elif size < 1 << 16:
        head += bytes([mark | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mark | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(octet ^ mask[place % 4] for place, octet in enumerate(payload))


class RawWebSocket:
    def __init__(self, port, path="/mqtt", protocol="mqtt", more="", upgrade=True):
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.buffer = b""
        self.status = None
        if upgrade:
            self.socket.sendall(REQUEST.format(path=path, port=port, protocol=protocol, more=more).encode())
            self.head = self.until(b"\r\n\r\n").decode()
            self.status = int(self.head.split(" ")[1])

    def until(self, end):
        while end not in self.buffer:
            piece = self.socket.recv(4096)
            assert piece, f"closed after {self.buffer!r}"
            self.buffer += piece
        found, self.buffer = self.buffer.split(end, 1)
        return found

    def take(self, size):
        while len(self.buffer) < size:
            piece = self.socket.recv(4096)
            assert piece, f"closed after {self.buffer!r}"
            self.buffer += piece
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def receive(self):
        """The next frame: its opcode and payload."""
        first, size = self.take(2)
        if size == 126:
            size = struct.unpack(">H", self.take(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.take(8))[0]
        return first & 0xF, self.take(size)

    def connected(self):
        """After an MQTT 5 CONNECT and its CONNACK."""
        self.send(frame(CONNECT))
        opcode, payload = self.receive()
        assert (opcode, payload[0]) == (2, 0x20), (opcode, payload)
        return self

    def close_code(self):
        """Of the close frame that comes before the end."""
        while True:
            opcode, payload = self.receive()
            if opcode == 8:
                break
        assert self.socket.recv(1) == b"", "still open after the close frame"
        return struct.unpack(">H", payload)[0] if payload else None
