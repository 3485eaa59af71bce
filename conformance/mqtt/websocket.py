"""MQTT over WebSocket (6)."""

from lib.cases import equal
from lib.mqtt_raw import CONNECT, Packet, connect_body, packet, text
from lib.websocket_raw import RawWebSocket, frame

from .scenario import case

BINARY, TEXT = 2, 1


def socket(at, protocol="mqtt"):
    return RawWebSocket(at.broker.ports["ws"], protocol=protocol)


def receive(connection, level):
    """The next packet, in one frame or several."""
    octets = b""
    while True:
        opcode, payload = connection.receive()
        equal(opcode, BINARY, "opcode")
        octets += payload
        if len(octets) >= 2 and len(octets) == octets[1] + 2:
            return Packet(octets[0], octets[2:], level)


@case("the subprotocol mqtt is chosen", "6.0.0-4 7.1.1-1", "6.0.0-4 4.2-1")
def subprotocol(at):
    for offered in ("mqtt", "other, mqtt"):
        head = socket(at, offered).head.lower()
        assert "sec-websocket-protocol: mqtt\r" in head + "\r", head


@case("a client that doesn't offer mqtt isn't served as if it had", "6.0.0-3", "6.0.0-3")
def no_subprotocol(at):
    try:
        connection = socket(at, "other")
    except (AssertionError, ConnectionError):
        return  # closed without an answer
    assert connection.status != 101 or "sec-websocket-protocol: other" not in connection.head.lower(), \
        connection.head


@case("packets in pieces over several frames, and several in one frame", "6.0.0-2", "6.0.0-2")
def pieces(at):
    connection = socket(at)
    connect = packet(CONNECT, connect_body(at.id("a"), at.level))
    for octet in connect:
        connection.send(frame(bytes([octet])))
    equal(receive(connection, at.level).code, 0, "CONNACK")
    ping = packet(0xC0)
    props = b"\0" if at.level == 5 else b""
    subscribe = packet(0x82, b"\0\1" + props + text(at.topic("x")) + b"\0")
    connection.send(frame(ping + ping + subscribe + ping[:1]), frame(ping[1:]))
    octets = b""
    while octets.count(b"\xd0\0") < 3 or b"\x90" not in octets:
        opcode, payload = connection.receive()
        equal(opcode, BINARY, "opcode")
        octets += payload


@case("a text frame ends the connection", "6.0.0-1", "6.0.0-1")
def text_frame(at):
    connection = socket(at)
    connection.send(frame(packet(CONNECT, connect_body(at.id("a"), at.level))))
    equal(receive(connection, at.level).code, 0, "CONNACK")
    connection.send(frame(packet(0xC0), opcode=TEXT))
    try:
        while True:
            opcode, payload = connection.receive()
            assert opcode == 8, (opcode, payload)
    except (AssertionError, ConnectionError) as error:
        assert "closed" in str(error) or isinstance(error, ConnectionError), error
