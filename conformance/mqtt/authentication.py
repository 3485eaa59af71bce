"""Enhanced authentication (3.15, 4.12), with SCRAM-SHA-256 (RFC 7677)."""

import base64
import hashlib
import hmac

from lib.cases import equal
from lib.mqtt_raw import AUTH, CONNACK, CONNECT, PUBLISH, connect_body, packet, properties, text

from .scenario import case, refused

METHOD = "SCRAM-SHA-256"
USER, PASSWORD = "ann", "ann-secret"
CONTINUE, AGAIN = 0x18, 0x19


class Scram:
    def __init__(self, password=PASSWORD):
        self.password = password.encode()
        self.bare = f"n={USER},r=cnonce"
        self.first = ("n,," + self.bare).encode()

    def final(self, server_first):
        parts = dict(part.split("=", 1) for part in server_first.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(parts["s"]), int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c=biws,r={parts['r']}"
        message = f"{self.bare},{server_first.decode()},{without}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature))
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        self.server_final = b"v=" + base64.b64encode(server)
        return f"{without},p={base64.b64encode(proof).decode()}".encode()


def begin(at, scram, method=METHOD):
    props = properties(authentication_method=method, authentication_data=scram.first)[1:]
    return at.raw(packet(CONNECT, connect_body(at.id("a"), 5, props=props)))


def auth(code, data, method=METHOD):
    return bytes([code]) + properties(authentication_method=method, authentication_data=data)


def logged_in(at):
    scram = Scram()
    client = begin(at, scram)
    asked = client.next()
    equal((asked.type, asked.code, asked.get("authentication_method")), (AUTH, CONTINUE, METHOD.encode()),
          "AUTH")
    client.send(AUTH, auth(CONTINUE, scram.final(asked.get("authentication_data"))))
    connack = client.next()
    equal((connack.type, connack.code), (CONNACK, 0), "CONNACK")
    equal(connack.get("authentication_method"), METHOD.encode(), "CONNACK's method")
    equal(connack.get("authentication_data"), scram.server_final, "the server's proof")
    return client


@case("a method that isn't known ends the connection, with 0x8C", v5="4.12.0-1 3.1.4-2")
def unknown_method(at):
    client = at.raw(packet(CONNECT, connect_body(at.id("a"), 5, props=b"\x15" + text("unknown"))))
    assert client.ended() in ("closed", 0x8C, 0x87), "end"


@case("without a method there is no AUTH, and none in CONNACK", v5="4.12.0-6")
def no_method(at):
    connack = at.peer().connack
    equal((connack.get("authentication_method"), connack.get("authentication_data")), (None, None), "CONNACK")


@case("a client that named no method and sends AUTH is cut off", v5="4.12.0-7 3.15.1-1 4.13.1-1")
def auth_alone(at):
    refused(at, packet(AUTH), 0x81, 0x82, 0x8C)
    refused(at, packet(AUTH, auth(AGAIN, b"x")), 0x81, 0x82, 0x8C)
    refused(at, packet(AUTH | 1, auth(CONTINUE, b"x")), 0x81)


@case("SCRAM: AUTH 0x18 until CONNACK, all with the method that CONNECT named",
      v5="4.12.0-2 4.12.0-3 4.12.0-5 3.15.2-1 3.15.2-2 3.15.2-3 3.2.0-1", ours=True)
def scram(at):
    logged_in(at).ping()


@case("SCRAM: a wrong password, another method, or another reason code ends the connection",
      v5="4.12.0-4 4.12.0-3 4.12.0-5 3.15.2-1", ours=True)
def wrong_scram(at):
    for code, method, password in ((CONTINUE, METHOD, "guess"), (CONTINUE, "SCRAM-SHA-512", PASSWORD),
                                   (AGAIN, METHOD, PASSWORD), (0x01, METHOD, PASSWORD)):
        scram = Scram(password)
        client = begin(at, scram)
        final = scram.final(client.next().get("authentication_data"))
        client.send(AUTH, auth(code, final, method))
        outcome = client.ended()
        assert outcome == "closed" or outcome >= 0x80, outcome


@case("other packets before CONNACK end an authentication", v5="3.1.2-30 4.12.0-4", ours=True)
def early(at):
    watcher = at.peer("watcher")
    watcher.subscribe(at.topic("#"))
    client = begin(at, Scram())
    client.next()
    client.send(PUBLISH, text(at.topic("x")) + b"\0never")
    outcome = client.ended()
    assert outcome == "closed" or outcome >= 0x80, outcome
    at.publish(at.topic("end"), b"end", 0)
    equal(watcher.message().payload, b"end", "first message")


@case("re-authentication: AUTH 0x19, 0x18 and 0, with the same method", v5="4.12.1-1 3.15.2-1", ours=True)
def again(at):
    client, scram = logged_in(at), Scram()
    client.send(AUTH, auth(AGAIN, scram.first))
    asked = client.next()
    equal((asked.type, asked.code, asked.get("authentication_method")), (AUTH, CONTINUE, METHOD.encode()), "AUTH")
    client.ping()  # other packets go on meanwhile
    client.send(AUTH, auth(CONTINUE, scram.final(asked.get("authentication_data"))))
    done = client.next()
    equal((done.type, done.code, done.get("authentication_data")), (AUTH, 0, scram.server_final), "AUTH")
    client.ping()


@case("a re-authentication that fails, or names another method, ends the connection",
      v5="4.12.1-2 4.12.1-1", ours=True)
def failed_again(at):
    client, scram = logged_in(at), Scram("guess")
    client.send(AUTH, auth(AGAIN, scram.first))
    client.send(AUTH, auth(CONTINUE, scram.final(client.next().get("authentication_data"))))
    outcome = client.ended()
    assert outcome == "closed" or outcome >= 0x80, outcome
    client = logged_in(at)
    client.send(AUTH, auth(AGAIN, Scram().first, "SCRAM-SHA-512"))
    outcome = client.ended()
    assert outcome == "closed" or outcome >= 0x80, outcome
