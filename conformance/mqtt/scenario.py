"""Cases of the specification: functions of a Place that drive a broker at one version and raise where
it breaks the statements that the case names. The same one runs against Polylog and mosquitto."""

import itertools
import os
import socket

from lib.cases import equal
from lib.mqtt_raw import (CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC,
                          PUBREL, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, Packet, RawClient, text,
                          two)

STATEMENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "statements.txt")
LEVELS = {"3.1.1": 4, "5.0": 5}
CASES = []  # in the order that they are written


class Case:
    def __init__(self, function, title, version, numbers, ours):
        self.function, self.title, self.version, self.ours = function, title, version, ours
        self.numbers = numbers
        self.name = f"{title} ({version})"


def case(title, v3="", v5="", ours=False):
    """Runs at 3.1.1 and 5.0, where there are numbers of statements that it shows (without "MQTT-").
    `ours`: it needs what can't be asked of mosquitto (users, rules)."""

    def register(function):
        for version, numbers in (("3.1.1", v3), ("5.0", v5)):
            if numbers:
                CASES.append(Case(function, title, version, numbers.split(), ours))
        return function

    return register


class Statement:
    def __init__(self, line):
        key, self.binds, self.text = (part.strip() for part in line.split("|"))
        self.version, self.number = key.split()


def statements():
    """(version, number) -> Statement, in the specification's order."""
    with open(STATEMENTS) as file:
        lines = [line for line in file if not line.startswith("#")]
    found = [Statement(line) for line in lines]
    return {(one.version, one.number): one for one in found}


class Place:
    """Where a case takes place: a broker, a version, and names that no other case has."""

    counter = itertools.count(1)

    def __init__(self, broker, version, timeout):
        self.broker, self.version, self.level = broker, version, LEVELS[version]
        self.timeout = timeout
        self.prefix = f"c{next(self.counter)}"
        self.peers = []

    @property
    def v5(self):
        return self.level == 5

    def topic(self, rest):
        return f"{self.prefix}/{rest}"

    def id(self, name):
        return f"{self.prefix}{name}"

    def peer(self, name="a", kept=False, **options):
        """A client that is connected; `kept`: its session outlives the connection."""
        options.setdefault("level", self.level)
        if kept:
            options.setdefault("clean", False)
            options.setdefault("expiry", 600 if options["level"] == 5 else 0)
        client = Peer(self.broker, self.id(name), timeout=self.timeout, **options)
        self.peers.append(client)
        if client.connack is not None:
            code = client.connack.code
            assert code == 0, f"CONNACK {code:#x}"
        return client

    def raw(self, *octets, port=None):
        """A connection on which these octets are sent, and nothing else has been."""
        client = Peer(self.broker, "", level=self.level, timeout=self.timeout, connect=False,
                      port=port)
        self.peers.append(client)
        client.connection.sendall(b"".join(octets))
        return client

    def publish(self, topic, payload, qos=1, **options):
        """By somebody else than the case's peers."""
        sender = self.peer("sender", level=5)
        sender.publish(topic, payload, qos, **options)
        if qos == 0:
            sender.ping()  # so that it is through
        sender.close()

    def close(self):
        for peer in self.peers:
            peer.connection.close()


class Peer(RawClient):
    """RawClient with the exchanges that cases have in common."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if self.connack is not None:
            self.connack = Packet(*self.connack, self.level)

    def send_publish(self, topic, payload, qos=0, retain=False, dup=False, identifier=None, **props):
        """PUBLISH alone; its packet identifier."""
        first = PUBLISH | (8 if dup else 0) | qos << 1 | (1 if retain else 0)
        if qos and identifier is None:
            identifier = self.next_id()
        given = props.pop("given", ())
        payload = payload.encode() if isinstance(payload, str) else payload
        body = text(topic) + (two(identifier) if qos else b"") + self.props(given, **props) + payload
        self.send(first, body)
        return identifier

    def publish(self, topic, payload, qos=0, **options):
        """The whole exchange; the reason code of PUBACK or PUBREC."""
        identifier = self.send_publish(topic, payload, qos, **options)
        if qos == 0:
            return 0
        answer = self.wait(PUBACK if qos == 1 else PUBREC)
        equal(answer.identifier, identifier, "packet identifier")
        if qos == 2 and answer.code < 0x80:
            self.send(PUBREL, two(identifier))
            equal(self.wait(PUBCOMP).identifier, identifier, "packet identifier of PUBCOMP")
        return answer.code

    def request(self, first, answer, body, identifier=None, **props):
        identifier = identifier or self.next_id()
        self.send(first, two(identifier) + self.props(**props) + body)
        came = self.wait(answer)
        equal(came.identifier, identifier, "packet identifier")
        return came.codes

    def subscribe(self, *filters, qos=0, **props):
        """The codes of SUBACK. A filter may be (filter, options)."""
        pairs = [one if isinstance(one, tuple) else (one, qos) for one in filters]
        body = b"".join(text(name) + bytes([options]) for name, options in pairs)
        return self.request(SUBSCRIBE, SUBACK, body, **props)

    def unsubscribe(self, *filters):
        return self.request(UNSUBSCRIBE, UNSUBACK, b"".join(map(text, filters)))

    def ping(self):
        self.send(PINGREQ)
        return self.wait(PINGRESP)

    def message(self):
        """The next PUBLISH, unacknowledged."""
        return self.wait(PUBLISH)

    def messages(self, count):
        return [self.message() for _ in range(count)]

    def take(self, count):
        """So many messages, acknowledged at QoS 1 and 2."""
        return [self.finish(self.message()) for _ in range(count)]

    def finish(self, came):
        if came.qos == 1:
            self.ack(came.identifier)
        elif came.qos == 2:
            self.ack(came.identifier, PUBREC)
            equal(self.wait(PUBREL & 0xF0).identifier, came.identifier, "identifier of PUBREL")
            self.ack(came.identifier, PUBCOMP)
        return came

    def drop(self):
        """The connection is lost, as far as the broker can tell."""
        self.connection.close()

    def leave(self):
        """DISCONNECT, and the broker has closed."""
        self.send(DISCONNECT)
        equal(self.until_closed(), [], "after DISCONNECT")
        self.connection.close()

    def ended(self):
        """The reason code of the DISCONNECT (or a refusing CONNACK) that ends the connection, or
        "closed". Fails where it isn't ended, or something else comes."""
        try:
            came = self.until_closed()
        except socket.timeout:
            raise AssertionError("the connection was not closed") from None
        if not came:
            return "closed"
        last = came[-1]
        equal([one for one in came[:-1] if one.type != PUBLISH], [], "before the end")
        assert last.type in (DISCONNECT, CONNACK), f"the last packet was {last}"
        if last.type == DISCONNECT:
            assert self.level == 5, "a 3.1.1 server sends no DISCONNECT"
        return last.code


def refused(at, octets, *codes):
    """These octets, on an open connection, end it: in 5.0 with one of these reason codes or without a
    word, in 3.1.1 without one."""
    client = at.peer("refused")
    client.connection.sendall(octets)
    outcome = client.ended()
    allowed = ("closed", *codes) if at.v5 else ("closed",)
    assert outcome in allowed, f"{outcome if outcome == 'closed' else hex(outcome)}"
    return outcome


def refused_connect(at, octets, *codes):
    """These octets, as a connection's first, end it: 3.1.1 without a CONNACK, 5.0 perhaps with one of
    these."""
    client = at.raw(octets)
    outcome = client.ended()
    allowed = ("closed", *codes) if at.v5 else ("closed",)
    assert outcome in allowed, f"{outcome if outcome == 'closed' else hex(outcome)}"
