"""The broker as a client of another server (7.0): a bridge of its own connects to a server made by hand,
which looks at what comes as a client's conformance has it."""

import contextlib
import socket
import time
from collections import deque

from lib.broker import Broker
from lib.cases import equal
from lib.mqtt_raw import (CONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE,
                          text, two)

from .scenario import Peer, case


class Link(Peer):
    """The server's end of one connection."""

    def __init__(self, connection, level, timeout):
        connection.settimeout(timeout)
        self.connection, self.level, self.timeout = connection, level, timeout
        self.input, self.aside, self.last_id = b"", deque(), 0
        self.clean = self._connect(self.next())

    def _connect(self, first):
        """The first packet is a CONNECT that is in order; whether it asks for a clean session."""
        equal(first.first, CONNECT, "the first packet")
        name, rest = first._text(first.body)
        equal((name, rest[0]), (b"MQTT", self.level), "protocol name and level")
        flags, rest = rest[1], rest[4:]
        equal(flags & ~2, 0, "flags beside a clean session, of a client without a will and a login")
        rest = first._properties(rest) if self.level == 5 else rest
        client_id, rest = first._text(rest)
        assert client_id and client_id.decode(), "client identifier"
        equal(rest, b"", "behind the client identifier")
        return bool(flags & 2)

    def admit(self, present=False, **props):
        self.send(0x20, bytes([present, 0]) + self.props(**props))

    def grant(self):
        """Answers the SUBSCRIBE; its filters."""
        came = self.wait(SUBSCRIBE & 0xF0)
        equal(came.flags, 2, "flags of SUBSCRIBE")
        identifier, rest = came._two(came.body)
        assert identifier, "packet identifier 0"
        rest = came._properties(rest) if self.level == 5 else rest
        filters = []
        while rest:
            each, rest = came._text(rest)
            filters.append((each.decode(), rest[0]))
            rest = rest[1:]
        self.send(SUBACK, two(identifier) + self.props() + bytes(options & 3 for _, options in filters))
        return [name for name, _ in filters]


class OtherServer:
    """It listens; a broker has a bridge to it."""

    def __init__(self, at, broker, listener):
        self.at, self.broker, self.listener = at, broker, listener

    def link(self, present=False, **props):
        """The next connection for which the client wants a session that is kept; before it, it may have one begun
        anew."""
        while True:
            link = Link(self.listener.accept()[0], self.at.level, self.at.timeout)
            self.at.peers.append(link)
            if not link.clean:
                link.admit(present, **props)
                return link
            link.admit()
            link.until_closed()
            link.drop()

    def local(self, name):
        client = Peer(self.broker, name, level=5, timeout=self.at.timeout)
        self.at.peers.append(client)
        return client


@contextlib.contextmanager
def other_server(at, **keys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(at.timeout)
        keys = {"address": f"mqtt=127.0.0.1:{listener.getsockname()[1]}", "topics": "a/# both 2",
                "version": "5" if at.v5 else "3.1.1", "try_private": "false", "reconnect.min_ms": 10,
                "reconnect.max_ms": 100, **keys}
        with Broker([f"bridges.up.{key}={value}" for key, value in keys.items()]) as broker:
            yield OtherServer(at, broker, listener)


@case("the broker as another server's client: what it sends at each QoS, and again on the next connection",
      v3="7.0.0-1 2.3.1-1 2.3.1-3 3.1.0-1 3.1.2-11 3.1.2-13 3.1.2-15 3.1.3-3 3.1.3-4 3.3.1-1 3.8.3-1 3.8.3-3 "
         "4.3.2-1 4.3.3-1 4.4.0-1 4.6.0-1 4.6.0-4", v5="4.6.0-1", ours=True)
def sends(at):
    with other_server(at) as server:
        link = server.link()
        equal(link.grant(), ["a/#"], "filters")
        sender = server.local("sender")
        qos = [1, 2, 0, 2, 1, 2]
        for number, each in enumerate(qos):
            sender.publish(f"a/{number}", b"%d" % number, each)
        sent = link.messages(len(qos))
        for each in range(3):  # of one QoS they are in order
            equal([(one.topic, one.payload, one.dup) for one in sent if one.qos == each],
                  [(b"a/%d" % n, b"%d" % n, False) for n in range(len(qos)) if qos[n] == each], f"at QoS {each}")
        used = [one.identifier for one in sent if one.qos]
        assert all(used) and len(set(used)) == len(used), used
        begun = [one for one in sent if one.qos == 2][:2]
        for each in begun:
            link.ack(each.identifier, PUBREC)
        for each in begun:
            released = link.wait(PUBREL & 0xF0)
            equal((released.first, released.identifier), (PUBREL, each.identifier), "PUBREL")
        link.ack(begun[1].identifier, PUBCOMP)
        sender.ping()
        link.drop()

        link = server.link(present=True)
        due = [one for one in sent if one.qos and one is not begun[1]]
        for before in due:
            again = link.wait(PUBLISH, PUBREL & 0xF0)
            equal(again.identifier, before.identifier, "in the same order")
            if before is begun[0]:
                equal(again.first, PUBREL, "after PUBREC")
                link.ack(again.identifier, PUBCOMP)
                continue
            equal((again.topic, again.payload, again.qos, again.dup), (before.topic, before.payload, before.qos, True),
                  "again")
            if again.qos == 1:
                link.ack(again.identifier)
            else:
                link.ack(again.identifier, PUBREC)
                equal(link.wait(PUBREL & 0xF0).identifier, again.identifier, "PUBREL")
                link.ack(again.identifier, PUBCOMP)
        sender.publish("a/end", b"end", 1)
        equal(link.message().payload, b"end", "nothing else comes again")


@case("the broker as another server's client: what it is sent is acknowledged in order, and taken once",
      v3="7.0.0-1 4.3.2-2 4.3.3-2 4.5.0-2 4.6.0-2 4.6.0-3", v5="4.5.0-2 4.6.0-2 4.6.0-3", ours=True)
def takes(at):
    with other_server(at) as server:
        reader = server.local("reader")
        reader.subscribe("a/#", qos=2)
        link = server.link()
        link.grant()
        for identifier, qos in ((10, 1), (11, 2), (12, 1), (13, 2)):
            link.send_publish("a/x", b"%d" % identifier, qos, identifier=identifier)
        link.send_publish("$nothing/here", b"", 1, identifier=14)
        for kind, identifiers in ((PUBACK, (10, 12, 14)), (PUBREC, (11, 13))):
            equal([link.wait(kind).identifier for _ in identifiers], list(identifiers), "acknowledged")
        link.send_publish("a/x", b"11", 2, identifier=11, dup=True)
        equal(link.wait(PUBREC).identifier, 11, "again")
        for identifier in (11, 13):
            link.ack(identifier, PUBREL)
            equal(link.wait(PUBCOMP).identifier, identifier, "PUBCOMP")
        link.send_publish("a/x", b"new", 2, identifier=11)
        equal(link.wait(PUBREC).identifier, 11, "a new message")
        came = reader.take(5)
        for qos, payloads in ((1, [b"10", b"12"]), (2, [b"11", b"13", b"new"])):
            equal([one.payload for one in came if one.qos == qos], payloads, f"at QoS {qos}")


@case("the broker as another server's client: PINGREQ within the keep-alive, in 5.0 the server's own",
      v3="7.0.0-1 3.1.2-23", v5="3.1.2-20 3.1.2-21 3.2.2-21", ours=True)
def pings(at):
    with other_server(at, keep_alive_s=60 if at.v5 else 5) as server:
        link = server.link(**({"server_keep_alive": 5} if at.v5 else {}))
        link.grant()
        for _ in range(2):
            began = time.monotonic()
            link.wait(PINGREQ)
            assert time.monotonic() - began < 5.5, "too late"
            link.send(PINGRESP)


@case("the broker as another server's client: what breaks the protocol ends the connection",
      v3="7.0.0-1 4.8.0-1", v5="4.13.1-1", ours=True)
def protects(at):
    props = b"\0" if at.v5 else b""
    with other_server(at) as server:
        for first, body in ((0x36, text("a/x") + two(1) + props), (PUBLISH, text("a/#") + props),
                            (PUBLISH, text("a/\0") + props), (PUBLISH | 2, text("a/x") + two(0) + props), (SUBSCRIBE, two(1) + props + text("a") + b"\0"),
                            (PUBREL & 0xF0, two(1)), (0x00, b""), (PINGREQ, b"")):
            link = server.link(present=False)
            link.connection.sendall(bytes([first, len(body)]) + body)
            link.until_closed()
            link.drop()
