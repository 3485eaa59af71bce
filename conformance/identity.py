#!/usr/bin/python3
"""Who says who a client is besides the broker's own users: certificates, tokens, a web service,
pre-shared keys. Each with the protocols' own clients: who gets in, as whom, and who doesn't."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import confluent_kafka
import paho.mqtt.client as paho
import pika
import pika.exceptions

from lib.broker import BINARY, Broker
from lib.cases import Suite, equal, wait_until
from lib.certificates import Authority
from lib.identity import Issuer, Service, Talker
from lib.kafka_raw import Reader, exactly, i16, i32, text

suite = Suite("identity")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = {"POLYLOG_USER": "root", "POLYLOG_PASSWORD": "root-secret"}
CLOSED = ("auth.required=true", "auth.default=deny", "auth.superusers=root")
AUTHORITY = Authority()
SERVER = AUTHORITY.issue("server", "/CN=broker")
DEVICE = AUTHORITY.issue("device", "/O=Example/CN=device-17", "DNS:d17.example,email:d17@example.org")
CERTIFIED = (f"tls.certificate={SERVER.file}", f"tls.key={SERVER.key}", f"tls.ca={AUTHORITY.ca}",
             "tls.client_certificates=required")


def polylog(broker, *arguments, text="", env=ROOT, status=0):
    done = subprocess.run([BINARY, *arguments, "--admin", broker.admin], input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          env={**os.environ, **(env or {})})
    equal(done.returncode, status, f"status of {' '.join(arguments)} ({done.stderr.strip()})")
    return done.stdout if status == 0 else done.stderr


def allow(broker, who, operation, name, *more):
    polylog(broker, "acl", "create", "allow", who, operation, name, *more)


@contextlib.contextmanager
def guarded(*settings, listeners=None, users=("device-17",)):
    """A broker with the superuser root, where `users`, whom its store doesn't know, may use the topic t."""
    with Broker(CLOSED + settings, listeners=listeners) as broker:
        polylog(broker, "user", "create", "root", text="root-secret\n", env=None)
        for who in users:
            allow(broker, who, "all", "t")
            allow(broker, who, "all", "*", "--resource", "group")
            allow(broker, who, "all", "*", "--resource", "queue")
        yield broker


def run(*command, env=None):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          env={**os.environ, **(env or {})})


# ---------------------------------------------------------------- clients

def mosquitto_pub(broker, protocol, topic, *more, version="5", status=0):
    """What it prints; `status`: its own, "refused" for any but 0, or None."""
    done = run("mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.ports[protocol]), "-t", topic, "-m", "m",
               "-q", "1", "-V", version, *more)
    if status == "refused":
        assert done.returncode != 0, f"mosquitto_pub {more}: {done.stdout}"
    elif status is not None:
        equal(done.returncode, status, f"mosquitto_pub {more}: {done.stdout}")
    return done.stdout


def certified_pub(broker, certificate, topic, *more, **options):
    return mosquitto_pub(broker, "mqtts", topic, "--cafile", AUTHORITY.ca, "--cert", certificate.file, "--key",
                         certificate.key, *more, **options)


def confluent_produce(settings, topic):
    """The delivery's error, or what the client says of a refused login; None if it is delivered."""
    said, outcome = [], []
    producer = confluent_kafka.Producer({
        "message.timeout.ms": 6000, **settings, "error_cb": lambda error: said.append(error)})
    producer.produce(topic, b"m", on_delivery=lambda error, message: outcome.append(error))
    producer.flush(15)
    refused = [e for e in said if e.code() == confluent_kafka.KafkaError._AUTHENTICATION]
    return refused[0] if refused else outcome[0]


def kafka_tls(broker, certificate):
    return {"bootstrap.servers": f"127.0.0.1:{broker.ports['kafkas']}", "security.protocol": "ssl",
            "ssl.ca.location": AUTHORITY.ca, "ssl.certificate.location": certificate.file,
            "ssl.key.location": certificate.key}


def external(broker, certificate):
    context = ssl.create_default_context(cafile=AUTHORITY.ca)
    context.load_cert_chain(certificate.file, certificate.key)
    return pika.BlockingConnection(pika.ConnectionParameters(
        "127.0.0.1", broker.ports["amqps"], credentials=pika.credentials.ExternalCredentials(),
        ssl_options=pika.SSLOptions(context, "127.0.0.1")))


def published(connection, topic):
    """None, or the code with which a confirmed publish was refused."""
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("amq.topic", f"{topic}.1", b"m")
        return None
    except pika.exceptions.ChannelClosedByBroker as error:
        return error.reply_code


# ---------------------------------------------------------------- certificates

@suite.case("a certificate's common name is the user: mosquitto_pub, confluent-kafka, pika and amqplib")
def common_name():
    with guarded(*CERTIFIED, "tls.user_from=common_name",
                 listeners=dict.fromkeys(("mqtts", "kafkas", "amqps"), "")) as broker:
        other = AUTHORITY.issue("other", "/O=Example/CN=device-18")
        for version in ("311", "5"):
            equal(certified_pub(broker, DEVICE, "t/x", version=version), b"", "nothing is said")
        assert b"Not authorized" in certified_pub(broker, DEVICE, "secret/x", status=None), "another topic"
        assert b"Not authorized" in certified_pub(broker, other, "t/x", status=None), "another device"
        equal(confluent_produce(kafka_tls(broker, DEVICE), "t"), None, "confluent-kafka")
        refused = confluent_produce(kafka_tls(broker, other), "t")
        assert refused is not None, "another device produced"
        for certificate, code in ((DEVICE, None), (other, 403)):
            connection = external(broker, certificate)
            equal(published(connection, "t"), code, "pika, EXTERNAL")
            connection.close()
        told = run("node", os.path.join(HERE, "js", "amqplib_external.mjs"), str(broker.ports["amqps"]),
                   AUTHORITY.ca, DEVICE.file, DEVICE.key)
        equal(told.returncode, 0, f"amqplib, EXTERNAL: {told.stdout}")
        listed = json.loads(polylog(broker, "topic", "describe", "t", "--json"))
        equal(listed["partitions"][0]["records"], 4, "what was stored")


@suite.case("all of the subject, or an alternative name, is the user where the listener says so")
def other_names():
    names = {"distinguished_name": "CN=device-17,O=Example", "dns": "d17.example", "email": "d17@example.org"}
    for kind, user in names.items():
        with guarded(*CERTIFIED, listeners={"mqtts": f"tls.user_from={kind}", "kafkas": f"tls.user_from={kind}"},
                     users=(user,)) as broker:
            equal(certified_pub(broker, DEVICE, "t/x"), b"", f"mosquitto_pub as {user}")
            equal(confluent_produce(kafka_tls(broker, DEVICE), "t"), None, f"confluent-kafka as {user}")
            if kind != "distinguished_name":
                nameless = AUTHORITY.issue("nameless", "/CN=device-17", "IP:127.0.0.1")
                refused = run("mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.ports["mqtts"]), "-t", "t/x",
                              "-m", "m", "--cafile", AUTHORITY.ca, "--cert", nameless.file, "--key", nameless.key)
                assert refused.returncode != 0, "without such a name"


@suite.case("a password besides the certificate: who gives one logs in by it")
def both():
    with guarded(*CERTIFIED, "tls.user_from=common_name", listeners={"mqtts": ""}) as broker:
        polylog(broker, "user", "create", "ann", text="ann-secret\n")
        allow(broker, "ann", "all", "ann")
        equal(certified_pub(broker, DEVICE, "ann/x", "-u", "ann", "-P", "ann-secret"), b"", "as ann")
        certified_pub(broker, DEVICE, "t/x", "-u", "ann", "-P", "guess", status=134)
        equal(certified_pub(broker, DEVICE, "t/x", "-u", "?SDK=x"), b"", "a user name alone")


@suite.case("a sleeping session is its certificate's, and no other certificate gets it")
def sessions():
    with guarded(*CERTIFIED, "tls.user_from=common_name", listeners={"mqtts": ""},
                 users=("device-17", "device-18")) as broker:
        other = AUTHORITY.issue("other", "/O=Example/CN=device-18")

        def subscribe(certificate, *more):
            return run("mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.ports["mqtts"]), "--cafile",
                       AUTHORITY.ca, "--cert", certificate.file, "--key", certificate.key, "-i", "kept", "-c",
                       "-q", "1", "-t", "t/#", *more)

        equal(subscribe(DEVICE, "-E").returncode, 0, "subscribed")
        certified_pub(broker, DEVICE, "t/x")
        refused = subscribe(other, "-W", "5")
        assert refused.returncode not in (0, 27) and b"m" not in refused.stdout.split(), refused
        equal(subscribe(DEVICE, "-C", "1", "-W", "10").stdout, b"m\n", "what waited")


# ---------------------------------------------------------------- a password file

@suite.case("a password file of mosquitto_passwd's and polylog password's lines: MQTT, Kafka, AMQP; again at SIGHUP")
def password_file():
    with tempfile.TemporaryDirectory(prefix="polylog-passwords-") as folder:
        path = os.path.join(folder, "passwords")
        run("mosquitto_passwd", "-b", "-c", path, "device-17", "seven-secret")
        salted = hashlib.sha512(b"six-secret" + b"saltsaltsalt").digest()
        own = subprocess.run([BINARY, "password", "device-18"], input="own-secret\n", text=True, check=True,
                             stdout=subprocess.PIPE, timeout=60).stdout
        assert own.startswith("device-18:$scrypt$ln=15,r=8,p=1$"), own
        with open(path, "a") as file:
            file.write(f"old:$6${base64.b64encode(b'saltsaltsalt').decode()}${base64.b64encode(salted).decode()}\n")
            file.write(own)
        with guarded(f"auth.password_file={path}", users=("device-17", "device-18", "old")) as broker:
            for user, password in (("device-17", "seven-secret"), ("device-18", "own-secret"), ("old", "six-secret")):
                for _ in range(2):  # the second time known again
                    equal(mosquitto_pub(broker, "mqtt", "t/x", "-u", user, "-P", password), b"", user)
                mosquitto_pub(broker, "mqtt", "t/x", "-u", user, "-P", password[:-1], status=134)
                settings = {"bootstrap.servers": broker.kafka, "security.protocol": "SASL_PLAINTEXT",
                            "sasl.mechanism": "PLAIN", "sasl.username": user, "sasl.password": password}
                equal(confluent_produce(settings, "t"), None, f"confluent-kafka as {user}")
                published(pika.BlockingConnection(pika.ConnectionParameters(
                    "127.0.0.1", broker.amqp, credentials=pika.PlainCredentials(user, password))), "t")
            mosquitto_pub(broker, "mqtt", "t/x", "-u", "nobody", "-P", "x", status=134)
            # The store's own user of a name comes before the file's.
            polylog(broker, "user", "create", "old", text="store-secret\n")
            mosquitto_pub(broker, "mqtt", "t/x", "-u", "old", "-P", "six-secret", status=134)
            run("mosquitto_passwd", "-b", path, "device-17", "new-secret")
            run("mosquitto_passwd", "-D", path, "device-18")
            os.kill(broker.pid, signal.SIGHUP)
            wait_until(lambda: "auth.password_file: read again, 2 users" in logged(broker), 10, "SIGHUP")
            mosquitto_pub(broker, "mqtt", "t/x", "-u", "device-17", "-P", "seven-secret", status=134)
            equal(mosquitto_pub(broker, "mqtt", "t/x", "-u", "device-17", "-P", "new-secret"), b"", "the new one")
            mosquitto_pub(broker, "mqtt", "t/x", "-u", "device-18", "-P", "own-secret", status=134)
            with open(path, "a") as file:
                file.write("eve:plain\n")
            os.kill(broker.pid, signal.SIGHUP)
            wait_until(lambda: "line 3: hashes are" in logged(broker), 10, "the bad line named")
            equal(mosquitto_pub(broker, "mqtt", "t/x", "-u", "device-17", "-P", "new-secret"), b"", "as before")
        with open(os.path.join(folder, "polylog.yaml"), "w") as file:
            file.write(f"auth:\n  password_file: {path}\n")
        checked = run(BINARY, "check-config", os.path.join(folder, "polylog.yaml"))
        assert checked.returncode == 1 and b"polylog password" in checked.stdout, checked


def logged(broker):
    with open(broker.log_path) as log:
        return log.read()


# ---------------------------------------------------------------- tokens

@contextlib.contextmanager
def tokens(*settings, users=("device-17",)):
    with tempfile.TemporaryDirectory(prefix="polylog-issuer-") as folder:
        issuer = Issuer(folder)
        taken = (f"auth.jwt.key_file={issuer.path}", "auth.jwt.issuer=https://id.example",
                 "auth.jwt.audience=polylog", "auth.jwt.leeway_s=0")
        with guarded(*taken, *settings, users=users) as broker:
            yield broker, issuer


def paho_client(broker, password, version=paho.MQTTv5, client_id="paho", user="anything"):
    """A connected client, or the code with which it was refused; `lost` is how it ended."""
    client = paho.Client(client_id=client_id, protocol=version)
    client.username_pw_set(user, password)
    client.code, client.lost = None, []

    def connected(_client, _data, _flags, code, *_more):
        client.code = getattr(code, "value", code)

    client.on_connect = connected
    client.on_disconnect = lambda c, u, code, *more: client.lost.append(getattr(code, "value", code))
    client.connect("127.0.0.1", broker.mqtt, 30)
    client.loop_start()
    wait_until(lambda: client.code is not None, what="CONNACK")
    return client


def codes_of(broker, password, **options):
    client = paho_client(broker, password, **options)
    client.disconnect()
    client.loop_stop()
    return client.code


@suite.case("MQTT: a token is the password of paho and mosquitto_pub; what is wrong with one keeps it out")
def mqtt_tokens():
    with tokens() as (broker, issuer):
        token = issuer.token("device-17")
        for version, wrong in ((paho.MQTTv311, 4), (paho.MQTTv5, 134)):
            equal(codes_of(broker, token, version=version), 0, "a good token")
            equal(codes_of(broker, issuer.token("device-17", seconds=-5), version=version), wrong, "an expired one")
        equal(mosquitto_pub(broker, "mqtt", "t/x", "-u", "x", "-P", token), b"", "mosquitto_pub")
        for topic, each in (("secret/x", token), ("t/x", issuer.token("device-18"))):
            said = mosquitto_pub(broker, "mqtt", topic, "-u", "device-17", "-P", each, status=None)
            assert b"Not authorized" in said, f"the token's user counts: {said}"
        with open(issuer.path) as file:
            public = file.read()
        # PyJWT itself won't sign so: the public key as a shared secret.
        def part(value):
            return base64.urlsafe_b64encode(value).rstrip(b"=")
        head = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(
            {"iss": "https://id.example", "aud": "polylog", "sub": "root", "exp": time.time() + 60}).encode())
        confused = head + b"." + part(hmac.new(public.encode(), head, hashlib.sha256).digest())
        bad = {
            "another issuer": issuer.token("device-17", iss="https://evil.example"),
            "another audience": issuer.token("device-17", aud="other"),
            "no expiry": issuer.token("device-17", exp=None),
            "not yet": issuer.token("device-17", nbf=time.time() + 60),
            "unsigned": issuer.token("root", key="", algorithm="none"),
            "the public key as a secret": confused.decode(),
            "cut short": token[:-4],
        }
        for what, each in bad.items():
            equal(codes_of(broker, each), 134, what)
        with open(broker.log_path) as log:
            written = log.read()
        assert token not in written and "login by token refused" in written, written[-500:]


@suite.case("MQTT: the connection ends with its token, 3.1.1 and 5")
def mqtt_expiry():
    with tokens() as (broker, issuer):
        five = paho_client(broker, issuer.token("device-17", seconds=3), client_id="five")
        three = paho_client(broker, issuer.token("device-17", seconds=3), version=paho.MQTTv311, client_id="three")
        lasting = paho_client(broker, issuer.token("device-17"), client_id="lasting")
        wait_until(lambda: five.lost and three.lost, 15, "the end of both")
        equal(five.lost[0], 0x87, "the reason")
        equal(lasting.lost, [], "another's token")
        for client in (five, three, lasting):
            client.loop_stop()


@suite.case("keys are read again when their file changes")
def new_keys():
    with tokens() as (broker, issuer):
        old = issuer.token("device-17")
        equal(codes_of(broker, old), 0, "by the old key")
        issuer.renew()
        new = issuer.token("device-17")
        wait_until(lambda: codes_of(broker, new) == 0, 10, "the new key")
        equal(codes_of(broker, old), 134, "by the old key, which is gone")


def bearer(broker, token):
    return {"bootstrap.servers": broker.kafka, "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER", "oauth_cb": lambda _: (token(), time.time() + 600)}


@suite.case("Kafka: OAUTHBEARER with confluent-kafka; a refusal is told in RFC 7628's words")
def kafka_tokens():
    with tokens() as (broker, issuer):
        equal(confluent_produce(bearer(broker, lambda: issuer.token("device-17")), "t"), None, "a good token")
        refused = confluent_produce(bearer(broker, lambda: issuer.token("device-17", aud="other")), "t")
        assert refused is not None and "invalid_token" in refused.str(), refused
        assert confluent_produce(bearer(broker, lambda: issuer.token("device-18")), "t") is not None, "no rule"
    with guarded() as broker:
        refused = confluent_produce(bearer(broker, lambda: "a.b.c"), "t")
        assert refused is not None, "where no tokens are taken"


@suite.case("Kafka: kafkajs logs in anew before its token expires, on the connection that it has")
def kafka_renewal():
    with tokens() as (broker, issuer):
        path = os.path.join(issuer.folder, "token")

        def put(**options):
            with open(path, "w") as out:
                out.write(issuer.token("device-17", **options))

        put(seconds=4)
        client = Talker("kafkajs_oauth.mjs", broker.kafka, "t", path)
        client.wait_for("sent")
        first = client.said.count("token")
        put(seconds=600)
        # Within two seconds of the end kafkajs asks for another token when it next has something to send.
        deadline = time.monotonic() + 30
        sent = 1
        while time.monotonic() < deadline and client.said.count("token") == first:
            client.say("")
            sent += 1
            client.wait_for("sent", sent)
            select.select([], [], [], 0.2)
        equal(client.status(), 0, f"kafkajs: {client.said}")
        assert client.said.count("token") > first, client.said


@suite.case("Kafka: the session's lifetime is told, and a connection is closed when its token has expired")
def kafka_expiry():
    with tokens() as (broker, issuer):
        host, port = broker.kafka.split(":")
        with socket.create_connection((host, int(port)), 20) as connection:
            def ask(key, version, body):
                frame = i16(key) + i16(version) + i32(7) + text("raw", False) + body
                connection.sendall(i32(len(frame)) + frame)
                reader = Reader(exactly(connection, int.from_bytes(exactly(connection, 4), "big")), False)
                equal(reader.i32(), 7, "correlation")
                return reader

            told = ask(17, 1, text("OAUTHBEARER", False))
            equal((told.i16(), told.array(told.text)[-1]), (0, "OAUTHBEARER"), "SaslHandshake")
            message = f"n,,\x01auth=Bearer {issuer.token('device-17', seconds=3)}\x01\x01".encode()
            told = ask(36, 1, i32(len(message)) + message)
            equal((told.i16(), told.text(), told.i32()), (0, None, 0), "SaslAuthenticate")
            lifetime = told.i64()
            assert 1000 < lifetime <= 3000, lifetime
            connection.settimeout(10)
            equal(connection.recv(1), b"", "the end")


@suite.case("AMQP: a token is the password of pika, and the connection ends with it unless it is renewed")
def amqp_tokens():
    with tokens() as (broker, issuer):
        def connect(token):
            return pika.BlockingConnection(pika.ConnectionParameters(
                "127.0.0.1", broker.amqp, credentials=pika.PlainCredentials("", token)))

        connection = connect(issuer.token("device-17"))
        equal(published(connection, "t"), None, "publish")
        equal(published(connection, "secret"), 403, "publish elsewhere")
        connection.close()
        try:
            connect(issuer.token("device-17", aud="other"))
            raise AssertionError("a token for another audience")
        except pika.exceptions.ProbableAuthenticationError as error:
            assert "ACCESS_REFUSED" in str(error), error
        short = connect(issuer.token("device-17", seconds=3))
        renewed = Talker("amqplib_token.mjs", str(broker.amqp), issuer.token("device-17", seconds=5), "t.2")
        renewed.say(issuer.token("device-17", seconds=600))
        renewed.wait_for("published")
        try:
            short.process_data_events(20)
            raise AssertionError("the connection outlived its token")
        except pika.exceptions.ConnectionClosedByBroker as error:
            equal((error.reply_code, "expired" in error.reply_text), (320, True), "why")
        # The first token of this one would have expired by now, or will before it says more.
        select.select([], [], [], 3)
        renewed.say("")
        renewed.wait_for("published", 2)
        renewed.say(issuer.token("device-18"))
        equal(renewed.status(), 3, f"another's token: {renewed.said}")
        assert any("530" in line for line in renewed.said), renewed.said


@suite.case("a configuration that says half of what tokens are taken doesn't start")
def half():
    for missing, settings in (("auth.jwt.issuer", ("auth.jwt.audience=a", f"auth.jwt.key_file={SERVER.file}")),
                              ("auth.jwt.audience", ("auth.jwt.issuer=a", f"auth.jwt.key_file={SERVER.file}")),
                              ("auth.jwt.key_file", ("auth.jwt.issuer=a", "auth.jwt.audience=a"))):
        done = run(BINARY, "serve", *(word for each in settings for word in ("--set", each)))
        equal(done.returncode, 1, missing)
        assert f"`{missing}` is missing".encode() in done.stdout, done.stdout


# ---------------------------------------------------------------- a web service

@suite.case("a web service is asked about users whom the broker doesn't know: MQTT, Kafka and AMQP")
def web_service():
    with Service() as service, guarded(f"auth.http.url={service.url}") as broker:
        equal(mosquitto_pub(broker, "mqtt", "t/x", "-u", "device-17", "-P", "pw", "-i", "me"), b"", "MQTT")
        kind, told = service.asked[0]
        host = told.pop("peer")
        assert host.startswith("127.0.0.1:"), host
        equal((kind, told), ("application/json", {"protocol": "mqtt", "username": "device-17", "password": "pw",
                                                  "client_id": "me"}), "what it was told")
        sasl = {"bootstrap.servers": broker.kafka, "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN", "sasl.username": "device-17", "sasl.password": "pw", "client.id": "kafka-me"}
        equal(confluent_produce(sasl, "t"), None, "Kafka")
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", broker.amqp, credentials=pika.PlainCredentials("device-17", "pw")))
        equal(published(connection, "t"), None, "AMQP")
        connection.close()
        equal({each["protocol"] for _, each in service.asked}, {"mqtt", "kafka", "amqp"}, "protocols")
        assert any(each["client_id"] == "kafka-me" for _, each in service.asked), service.asked
        count = len(service.asked)
        mosquitto_pub(broker, "mqtt", "t/x", "-u", "device-17", "-P", "pw", "-i", "me")
        equal(len(service.asked), count, "known again for a while")
        mosquitto_pub(broker, "mqtt", "t/x", "-u", "root", "-P", "guess", status=134)
        equal(len(service.asked), count, "the broker's own user is nobody else's business")
        with open(broker.log_path) as log:
            assert "pw" not in log.read().split(), "a password in the log"


@suite.case("what isn't a plain yes in time keeps the client out, and holds up nobody")
def web_service_fails():
    with Service() as service, guarded(f"auth.http.url={service.url}", "auth.http.timeout_ms=1000",
                                       "auth.http.max_concurrent=2", "workers=1") as broker:
        def code(who, status, said):
            service.answer = (status, said)
            return codes_of(broker, "pw", user=who)

        equal(code("a", 204, b""), 0, "204")
        equal(code("b", 200, b'{"result": "deny"}'), 134, "deny")
        equal(code("c", 403, b""), 134, "403")
        for status, said in ((200, b""), (200, b'{"result": true}'), (200, b"allow"), (201, b'{"result": "allow"}'),
                             (302, b""), (404, b""), (500, b'{"result": "allow"}')):
            equal(code("d", status, said), 0x89, f"{status} {said}")
        # It hangs: others come and go meanwhile, on the one worker there is.
        service.hold.clear()
        service.answer = (204, b"")
        asked = len(service.asked)
        waiting = [paho.Client(client_id=f"w{i}", protocol=paho.MQTTv5) for i in range(5)]
        codes = []
        for client in waiting:
            client.username_pw_set("slow", "pw")
            client.on_connect = lambda c, u, f, code, *p: codes.append(code.value)
            client.connect("127.0.0.1", broker.mqtt, 30)
            client.loop_start()
        wait_until(lambda: len(service.asked) > asked, what="it is asked")
        equal(polylog(broker, "user", "create", "ann", text="ann-secret\n") is not None, True, "the API")
        equal(codes_of(broker, "ann-secret", user="ann"), 0, "another login")
        wait_until(lambda: len(codes) == 5, 15, "the time-outs")
        equal(codes, [0x89] * 5, "codes")
        for client in waiting:
            client.loop_stop()


# ---------------------------------------------------------------- pre-shared keys

@suite.case("TLS with pre-shared keys: mosquitto_pub's identity is the user")
def psk():
    with tempfile.TemporaryDirectory(prefix="polylog-psk-") as folder:
        path = os.path.join(folder, "keys")
        key, other = "00112233445566778899aabbccddeeff", "ff" * 32
        with open(path, "w") as out:
            out.write(f"# devices\ndevice-17:{key}\ndevice-18:{other}\n")
        with guarded(f"tls.certificate={SERVER.file}", f"tls.key={SERVER.key}",
                     listeners={"mqtts": f"tls.psk_file={path}", "wss": ""}) as broker:
            for version in ("tlsv1.2", "tlsv1.3"):
                def publish(identity, secret, status=0):
                    return mosquitto_pub(broker, "mqtts", "t/x", "--psk", secret, "--psk-identity", identity,
                                         "--tls-version", version, status=status)

                equal(publish("device-17", key), b"", f"device-17, {version}")
                assert b"Not authorized" in publish("device-18", other, None), "device-18 has no rule"
                for identity, secret in (("device-17", other), ("nobody", key)):
                    publish(identity, secret, "refused")
            listed = json.loads(polylog(broker, "topic", "describe", "t", "--json"))
            equal(listed["partitions"][0]["records"], 2, "records of device-17 with its key")
            with open(broker.log_path) as log:
                written = log.read()
            assert key not in written and other not in written, "a key in the log"


# ---------------------------------------------------------------- limits

@suite.case("connections that haven't introduced themselves have a limit of their own")
def handshakes():
    with Broker(("limits.max_handshakes=3",)) as broker:
        silent = [socket.create_connection(("127.0.0.1", broker.mqtt)) for _ in range(3)]
        refused = run("mosquitto_pub", "-p", str(broker.mqtt), "-t", "t/x", "-m", "m")
        assert refused.returncode != 0, "over the limit"
        for each in silent:
            each.close()
        wait_until(lambda: run("mosquitto_pub", "-p", str(broker.mqtt), "-t", "t/x", "-m", "m").returncode == 0, 10,
                   "room again")
        with open(broker.log_path) as log:
            assert "limits.max_handshakes" in log.read(), "the key in the log"


if __name__ == "__main__":
    sys.exit(suite.run())
