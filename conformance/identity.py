#!/usr/bin/python3
"""Who says who a client is besides the broker's own users: certificates. Each with the protocols' own
clients: who gets in, as whom, and who doesn't."""

import contextlib
import json
import os
import ssl
import subprocess
import sys

import confluent_kafka
import pika
import pika.exceptions

from lib.broker import BINARY, Broker
from lib.cases import Suite, equal
from lib.certificates import Authority

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
    done = run("mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.ports[protocol]), "-t", topic, "-m", "m",
               "-q", "1", "-V", version, *more)
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
        assert b"Not authorized" in certified_pub(broker, DEVICE, "secret/x", status=0), "another topic"
        assert b"Not authorized" in certified_pub(broker, other, "t/x", status=0), "another device"
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


if __name__ == "__main__":
    sys.exit(suite.run())
