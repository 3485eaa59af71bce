#!/usr/bin/python3
"""Users and rules, the same for every protocol, with the protocols' own clients: right and wrong
passwords, none, denied topics both ways, deletion, and all of it after kill -9."""

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import confluent_kafka
import confluent_kafka.admin
import kafka
import kafka.errors
import paho.mqtt.client as paho
import pika
import pika.exceptions
from kafka.admin import (ACL, ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType,
                         KafkaAdminClient, ResourcePattern, ResourcePatternFilter, ResourceType)

from lib.broker import BINARY, Broker
from lib.cases import Suite, equal, wait_until

suite = Suite("auth")
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = {"POLYLOG_USER": "root", "POLYLOG_PASSWORD": "root-secret"}
CLOSED = ("auth.required=true", "auth.default=deny", "auth.superusers=root")


def polylog(broker, *arguments, text="", env=ROOT, status=0):
    done = subprocess.run([BINARY, *arguments, "--admin", broker.admin], input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          env={**os.environ, **(env or {})})
    equal(done.returncode, status, f"status of {' '.join(arguments)} ({done.stderr.strip()})")
    return done.stdout if status == 0 else done.stderr


def user(broker, name, password, **options):
    return polylog(broker, "user", "create", name, text=password + "\n", **options)


def allow(broker, who, operation, name, *more, permission="allow"):
    polylog(broker, "acl", "create", permission, who, operation, name, *more)


@contextlib.contextmanager
def guarded(*settings):
    """A broker with the user root, who may do everything, and ann, who may not do anything yet."""
    with Broker(settings or CLOSED) as broker:
        user(broker, "root", "root-secret", env=None)
        user(broker, "ann", "ann-secret")
        yield broker


# ---------------------------------------------------------------- clients

def mosquitto_pub(broker, topic, who=None, password=None, version="5", status=0):
    command = ["mosquitto_pub", "-p", str(broker.mqtt), "-t", topic, "-m", "m", "-q", "1",
               "-V", version]
    if who is not None:
        command += ["-u", who, "-P", password]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    if status is not None:
        equal(done.returncode, status, f"mosquitto_pub -V {version} as {who}: {done.stdout}")
    return done.stdout


class Paho:
    def __init__(self, broker, who, password, version=paho.MQTTv5, client_id=None):
        self.client = paho.Client(client_id=client_id or f"paho-{who}", protocol=version)
        self.client.username_pw_set(who, password)
        self.code, self.lost = None, threading.Event()
        self.granted, self.got, self.published = {}, [], {}
        self.client.on_connect = lambda c, u, f, code, *p: self._connected(code)
        self.client.on_disconnect = lambda *a: self.lost.set()
        self.client.on_subscribe = lambda c, u, mid, codes, *p: self.granted.update({mid: codes})
        self.client.on_message = lambda c, u, message: self.got.append(message)
        self.client.connect("127.0.0.1", broker.mqtt, 30)
        self.client.loop_start()
        wait_until(lambda: self.code is not None, what="CONNACK")

    def _connected(self, code):
        self.code = getattr(code, "value", code)

    def subscribe(self, topic):
        _, mid = self.client.subscribe(topic, 1)
        wait_until(lambda: mid in self.granted, what="SUBACK")
        return [getattr(code, "value", code) for code in self.granted[mid]][0]

    def close(self):
        self.client.loop_stop()
        self.client.disconnect()


def sasl(broker, mechanism, who, password):
    return {"bootstrap.servers": broker.kafka, "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": mechanism, "sasl.username": who, "sasl.password": password}


def confluent_produce(broker, topic, mechanism, who, password, key=b"k"):
    """The delivery's error, or None; what the client says of failed logins if that is why."""
    said = []
    producer = confluent_kafka.Producer({
        **sasl(broker, mechanism, who, password), "message.timeout.ms": 4000,
        "error_cb": lambda error: said.append(error)})
    outcome = []
    producer.produce(topic, key=key, value=b"m",
                     on_delivery=lambda error, message: outcome.append(error))
    producer.flush(10)
    refused = [e for e in said if e.code() == confluent_kafka.KafkaError._AUTHENTICATION]
    return refused[0] if refused else outcome[0]


def kcat(broker, topic, mechanism, who, password):
    return subprocess.run(
        ["kcat", "-P", "-b", broker.kafka, "-t", topic, "-X", "security.protocol=SASL_PLAINTEXT",
         "-X", f"sasl.mechanism={mechanism}", "-X", f"sasl.username={who}", "-X",
         f"sasl.password={password}", "-X", "message.timeout.ms=3000"],
        input=b"m\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)


def python_kafka(broker, mechanism, who, password):
    return kafka.KafkaProducer(
        bootstrap_servers=broker.kafka, security_protocol="SASL_PLAINTEXT",
        sasl_mechanism=mechanism, sasl_plain_username=who, sasl_plain_password=password,
        api_version=(2, 5, 0), request_timeout_ms=5000, max_block_ms=5000, retries=0)


def admin_client(broker, who, password):
    return KafkaAdminClient(bootstrap_servers=broker.kafka, security_protocol="SASL_PLAINTEXT",
                            sasl_mechanism="SCRAM-SHA-512", sasl_plain_username=who,
                            sasl_plain_password=password)


def rule_of(who, topic, operation, pattern=ACLResourcePatternType.LITERAL):
    return ACL(f"User:{who}", "*", operation, ACLPermissionType.ALLOW,
               ResourcePattern(ResourceType.TOPIC, topic, pattern))


def kafkajs(broker, topic, mechanism, who, password):
    return subprocess.run(
        ["node", os.path.join(HERE, "js", "kafkajs_sasl.mjs"), broker.kafka, topic, mechanism, who,
         password], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


def amqp(broker, who, password):
    return pika.BlockingConnection(pika.ConnectionParameters(
        "127.0.0.1", broker.amqp, credentials=pika.PlainCredentials(who, password), heartbeat=0,
        socket_timeout=20, blocked_connection_timeout=30))


def amqp_publish(broker, who, password, key):
    """The reply code that the channel was closed with, or None."""
    connection = amqp(broker, who, password)
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("amq.topic", key, b"m")
        return None
    except pika.exceptions.ChannelClosedByBroker as error:
        return error.reply_code
    finally:
        connection.close()


# ---------------------------------------------------------------- who gets in

@suite.case("a listener open to others needs auth.required or allow_anonymous")
def open_listener():
    done = subprocess.run([BINARY, "serve", "--data", "/nonexistent", "--listen", "mqtt=0.0.0.0:0"],
                          stderr=subprocess.PIPE, text=True, timeout=30)
    equal(done.returncode, 1, "status")
    assert "auth.required: true" in done.stderr, done.stderr
    both = subprocess.run([BINARY, "serve", "--data", "/nonexistent", "--set", "auth.required=true",
                           "--set", "allow_anonymous=true"], stderr=subprocess.PIPE, text=True,
                          timeout=30)
    equal(both.returncode, 1, "status of both")
    assert "contradict" in both.stderr, both.stderr


@suite.case("the first user is made on this machine without one; from then on the admin API asks")
def bootstrap():
    with Broker(["auth.required=true"]) as broker:
        mosquitto_pub(broker, "t/x", "root", "root-secret", status=134)
        user(broker, "root", "root-secret", env=None)
        refused = user(broker, "eve", "x", env=None, status=1)
        assert "log in" in refused, refused
        wrong = {"POLYLOG_USER": "root", "POLYLOG_PASSWORD": "guess"}
        user(broker, "eve", "x", env=wrong, status=1)
        listed = json.loads(polylog(broker, "user", "list", "--json"))["users"]
        equal([one["name"] for one in listed], ["root"], "users")
        assert "SCRAM-SHA-512" in listed[0]["credentials"], listed
        for path, status in (("/healthz", 200), ("/metrics", 200), ("/api/topics", 401)):
            try:
                code = urllib.request.urlopen(broker.admin + path, timeout=20).status
            except urllib.error.HTTPError as error:
                code = error.code
            equal(code, status, path)


@suite.case("MQTT: mosquitto_pub and paho, 3.1.1 and 5, with the right, a wrong and no password")
def mqtt_logins():
    with guarded("auth.required=true") as broker:
        for version, wrong, none in (("311", 4, 5), ("5", 134, 135)):
            mosquitto_pub(broker, "t/x", "ann", "ann-secret", version)
            mosquitto_pub(broker, "t/x", "ann", "guess", version, wrong)
            mosquitto_pub(broker, "t/x", "nobody", "ann-secret", version, wrong)
            mosquitto_pub(broker, "t/x", version=version, status=none)
        for version, wrong in ((paho.MQTTv311, 4), (paho.MQTTv5, 134)):
            right = Paho(broker, "ann", "ann-secret", version)
            equal(right.code, 0, "paho")
            right.close()
            refused = Paho(broker, "ann", "guess", version)
            equal(refused.code, wrong, "paho with a wrong password")
            refused.close()


@suite.case("Kafka: kcat, confluent-kafka, kafka-python and kafkajs, PLAIN and SCRAM")
def kafka_logins():
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        # A broker each: clients try a wrong password several times, and many failures are throttled.
        with guarded("auth.required=true") as broker:
            equal(kcat(broker, "t", mechanism, "ann", "ann-secret").returncode, 0,
                  f"kcat {mechanism}")
            equal(confluent_produce(broker, "t", mechanism, "ann", "ann-secret"), None,
                  f"confluent-kafka {mechanism}")
            error = confluent_produce(broker, "t", mechanism, "ann", "guess")
            assert error is not None, f"confluent-kafka {mechanism} with a wrong password"
            equal(error.code(), confluent_kafka.KafkaError._AUTHENTICATION, "why")
            producer = python_kafka(broker, mechanism, "ann", "ann-secret")
            producer.send("t", b"m").get(10)
            producer.close()
            try:
                python_kafka(broker, mechanism, "ann", "guess").send("t", b"m").get(10)
                raise AssertionError(f"kafka-python {mechanism} with a wrong password")
            except kafka.errors.KafkaError:
                pass
            right = kafkajs(broker, "t", mechanism, "ann", "ann-secret")
            equal(right.returncode, 0, f"kafkajs {mechanism}: {right.stdout}")
            wrong = kafkajs(broker, "t", mechanism, "ann", "guess")
            equal(wrong.returncode, 3, f"kafkajs {mechanism} with a wrong password: {wrong.stdout}")


@suite.case("Kafka: nothing but ApiVersions is answered before the login")
def kafka_before():
    with guarded("auth.required=true") as broker:
        client = confluent_kafka.admin.AdminClient({
            "bootstrap.servers": broker.kafka, "socket.timeout.ms": 2000})
        try:
            client.list_topics(timeout=2)
            raise AssertionError("topics were listed without a login")
        except confluent_kafka.KafkaException:
            pass


@suite.case("AMQP: pika and amqplib, right and wrong, guest")
def amqp_logins():
    with guarded("auth.required=true") as broker:
        equal(amqp_publish(broker, "ann", "ann-secret", "t.x"), None, "pika")
        for who, password in (("ann", "guess"), ("guest", "guest"), ("nobody", "ann-secret")):
            try:
                amqp(broker, who, password)
                raise AssertionError(f"pika as {who}")
            except pika.exceptions.ProbableAuthenticationError as error:
                assert "403" in str(error) and "ACCESS_REFUSED" in str(error), error
        for password, status in (("ann-secret", 0), ("guess", 3)):
            done = subprocess.run(
                ["node", os.path.join(HERE, "js", "amqplib_login.mjs"),
                 f"amqp://ann:{password}@127.0.0.1:{broker.amqp}"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            equal(done.returncode, status, f"amqplib with {password}: {done.stdout}")


@suite.case("on this machine nobody has to be anybody, unless auth.required says so")
def anonymous():
    with Broker() as broker:
        mosquitto_pub(broker, "t/x")
        equal(amqp_publish(broker, "guest", "guest", "t.x"), None, "guest")
        user(broker, "root", "root-secret", env=None)
        mosquitto_pub(broker, "t/x")
        equal(amqp_publish(broker, "guest", "guest", "t.x"), None, "guest, with users")
        mosquitto_pub(broker, "t/x", "root", "guess", status=134)
        # But nobody makes users any more.
        client = KafkaAdminClient(bootstrap_servers=broker.kafka)
        made = client.create_acls([rule_of("eve", "t", ACLOperation.ALL)])
        equal(made["succeeded"], [], "rules made by nobody")
        equal(made["failed"][0][1], kafka.errors.ClusterAuthorizationFailedError, "why")
        client.close()


# ---------------------------------------------------------------- who may do what

@suite.case("one rule holds for MQTT, Kafka and AMQP, in both directions")
def one_rule():
    with guarded() as broker:
        allow(broker, "ann", "all", "orders")
        allow(broker, "ann", "all", "*", "--resource", "group")
        allow(broker, "ann", "all", "*", "--resource", "queue")
        for topic, allowed in (("orders", True), ("secret", False)):
            mosquitto_pub(broker, f"{topic}/1", "ann", "ann-secret", status=None)
            client = Paho(broker, "ann", "ann-secret")
            equal(client.subscribe(f"{topic}/#"), 1 if allowed else 0x87, f"SUBACK for {topic}")
            client.close()
            error = confluent_produce(broker, topic, "SCRAM-SHA-256", "ann", "ann-secret")
            if allowed:
                equal(error, None, f"produce to {topic}")
            else:
                assert error is not None, f"produce to {topic}"
            equal(amqp_publish(broker, "ann", "ann-secret", f"{topic}.1"),
                  None if allowed else 403, f"AMQP publish to {topic}")
        # What got through, as root sees it: of each protocol one, and nothing of the other topic.
        listed = json.loads(polylog(broker, "topic", "list", "--json"))["topics"]
        equal({one["name"]: one["records"] for one in listed}, {"orders": 3}, "what was stored")
        consumer = confluent_kafka.Consumer({
            **sasl(broker, "PLAIN", "ann", "ann-secret"), "group.id": "g",
            "auto.offset.reset": "earliest"})
        polylog(broker, "topic", "create", "secret")
        consumer.subscribe(["orders"])
        seen = []
        wait_until(lambda: [seen.append(m) for m in [consumer.poll(0.2)] if m and not m.error()]
                   and len(seen) == 3 or len(seen) == 3, 30, "three records")
        consumer.subscribe(["secret"])
        denied = []
        wait_until(lambda: [denied.append(m) for m in [consumer.poll(0.2)] if m and m.error()], 20,
                   "the refusal of a denied topic")
        equal(denied[0].error().code(), confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED, "why")
        consumer.close()
        # Binding a queue to what may not be read is refused as well.
        connection = amqp(broker, "ann", "ann-secret")
        channel = connection.channel()
        channel.queue_declare("q")
        channel.queue_bind("q", "amq.topic", "orders.#")
        try:
            channel.queue_bind("q", "amq.topic", "#")
            raise AssertionError("a queue was bound to every topic")
        except pika.exceptions.ChannelClosedByBroker as error:
            equal(error.reply_code, 403, "reply code")
        connection.close()


@suite.case("a device may use its own topics, by its client id, and sees no others")
def own_topics():
    with guarded() as broker:
        user(broker, "dev", "dev-secret")
        allow(broker, "dev", "all", "devices/%c/#", "--pattern", "filter")
        one = Paho(broker, "dev", "dev-secret", client_id="one")
        two = Paho(broker, "dev", "dev-secret", client_id="two")
        equal(one.subscribe("devices/one/#"), 1, "its own")
        equal(one.subscribe("devices/two/#"), 0x87, "another's")
        equal(two.subscribe("devices/#"), 1, "all, of which it gets its own")
        for client, topic in ((one, "devices/one/a"), (one, "devices/two/a"), (two, "devices/two/b")):
            client.client.publish(topic, topic, 1).wait_for_publish(10)
        wait_until(lambda: two.got, what="its own message")
        equal([m.topic for m in two.got], ["devices/two/b"], "what two got")
        equal([m.topic for m in one.got], ["devices/one/a"], "what one got")
        one.close()
        two.close()


@suite.case("a right that is taken away ends deliveries, live, retained and waiting")
def taken_away():
    with guarded("auth.required=true") as broker:
        eve = {"who": "eve", "password": "eve-secret"}
        user(broker, "eve", "eve-secret")
        client = Paho(broker, **eve)
        client.subscribe("#")
        pub = Paho(broker, "ann", "ann-secret")
        pub.client.publish("secret/1", "before", 1).wait_for_publish(10)
        wait_until(lambda: client.got, what="a message before the rule")
        allow(broker, "eve", "read", "secret", permission="deny")
        pub.client.publish("secret/2", "after", 1, retain=True).wait_for_publish(10)
        pub.client.publish("open/1", "open", 1).wait_for_publish(10)
        stored = json.loads(polylog(broker, "topic", "describe", "secret", "--json"))
        equal(stored["partitions"][0]["records"], 2, "records of the denied topic")
        wait_until(lambda: len(client.got) > 1, what="the message that may be read")
        equal([m.topic for m in client.got], ["secret/1", "open/1"], "what came")
        late = Paho(broker, client_id="late", **eve)
        equal(late.subscribe("secret/#"), 0x87, "SUBACK")
        equal(late.subscribe("+/2"), 1, "SUBACK of a filter that matches others too")
        pub.client.publish("open/2", "open", 1).wait_for_publish(10)
        wait_until(lambda: late.got, what="the message that may be read")
        equal([m.topic for m in late.got], ["open/2"], "what came, retained too")
        polylog(broker, "acl", "delete", "deny", "eve", "read", "secret")
        equal(late.subscribe("secret/#"), 1, "SUBACK once the rule is gone")
        for each in (client, pub, late):
            each.close()


@suite.case("Kafka's own tools make, list and delete rules, and see the same as polylog acl")
def kafka_acls():
    with guarded() as broker:
        client = admin_client(broker, "root", "root-secret")
        rule = rule_of("ann", "app-", ACLOperation.WRITE, ACLResourcePatternType.PREFIXED)
        equal(client.create_acls([rule])["failed"], [], "failed")
        text = polylog(broker, "acl", "list")
        assert "prefixed" in text and "app-" in text, text
        mosquitto_pub(broker, "app-1/x", "ann", "ann-secret")
        every = ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, ResourcePatternFilter(
            ResourceType.ANY, None, ACLResourcePatternType.ANY))
        found, error = client.describe_acls(every)
        equal((found, error), ([rule], kafka.errors.NoError), "described")
        deleted = client.delete_acls([every])
        equal([each[0] for each in deleted[0][1]], [rule], "deleted")
        equal(json.loads(polylog(broker, "acl", "list", "--json"))["acls"], [], "what is left")
        client.close()
        client = admin_client(broker, "ann", "ann-secret")
        refused = client.create_acls([rule])
        equal(refused["failed"][0][1], kafka.errors.ClusterAuthorizationFailedError, "why")
        client.close()


# ---------------------------------------------------------------- what lasts

@suite.case("a deleted user is cut off at once, over every protocol")
def deletion():
    with guarded("auth.required=true") as broker:
        client = Paho(broker, "ann", "ann-secret")
        connection = amqp(broker, "ann", "ann-secret")
        producer = python_kafka(broker, "PLAIN", "ann", "ann-secret")
        producer.send("t", b"m").get(10)
        polylog(broker, "user", "delete", "ann")
        assert client.lost.wait(10), "paho's connection outlived its user"
        client.client.loop_stop()
        try:
            connection.process_data_events(5)
            raise AssertionError("pika's connection outlived its user")
        except pika.exceptions.ConnectionClosedByBroker as error:
            equal(error.reply_code, 320, "reply code")
        try:
            producer.send("t", b"m").get(10)
            raise AssertionError("kafka-python's connection outlived its user")
        except kafka.errors.KafkaError:
            pass
        mosquitto_pub(broker, "t/x", "ann", "ann-secret", status=134)


@suite.case("users, passwords and rules survive kill -9")
def crash():
    with guarded() as broker:
        allow(broker, "ann", "write", "orders")
        user(broker, "gone", "secret")
        polylog(broker, "user", "delete", "gone")
        polylog(broker, "user", "passwd", "ann", text="new-secret\n")
        broker.restart()
        equal(mosquitto_pub(broker, "orders/1", "ann", "new-secret", status=0), b"", "its topic")
        mosquitto_pub(broker, "orders/1", "ann", "ann-secret", status=134)
        mosquitto_pub(broker, "orders/1", "gone", "secret", status=134)
        equal(amqp_publish(broker, "ann", "new-secret", "other.1"), 403, "another topic")


@suite.case("guessing is slowed down, logged in short and counted")
def guessing():
    with guarded("auth.required=true") as broker:
        for _ in range(15):
            mosquitto_pub(broker, "t/x", "ann", "guess", status=134)
        mosquitto_pub(broker, "t/x", "ann", "ann-secret", status=134)
        wait_until(lambda: b"" == mosquitto_pub(broker, "t/x", "ann", "ann-secret", status=None), 20,
                   "the login after a pause")
        with urllib.request.urlopen(broker.admin + "/metrics", timeout=20) as answer:
            metrics = answer.read().decode()
        assert 'polylog_logins_total{protocol="mqtt",result="throttled"}' in metrics, metrics
        with open(broker.log_path) as log:
            lines = [line for line in log if "login of 'ann' refused" in line]
        assert 1 <= len(lines) <= 3, f"{len(lines)} lines in the log"


@suite.case("a user's rules are told when it is deleted, and removed when that is asked; passwords are typed twice")
def small_things():
    with guarded() as broker:
        for topic in ("a", "b"):
            allow(broker, "ann", "read", topic)
        said = polylog(broker, "user", "delete", "ann")
        assert "2" in said and "--rules" in said, said
        assert "ann" in polylog(broker, "acl", "list"), "they stay"
        # Those of one who is gone already can be removed, too.
        polylog(broker, "user", "delete", "ann", "--rules")
        assert "ann" not in polylog(broker, "acl", "list"), "they are gone"
        polylog(broker, "user", "delete", "ann", "--rules", status=1)
        equal(typed(broker, "bob", "bob-secret", "bob-sceret")[0], 1, "two different ones")
        mosquitto_pub(broker, "t", "bob", "bob-secret", status=134)
        equal(typed(broker, "bob", "bob-secret", "bob-secret")[0], 0, "the same twice")
        said = mosquitto_pub(broker, "t", "bob", "bob-secret", status=None)
        assert b"Not authorized" in said, f"logged in, and no rule: {said}"
        polylog(broker, "ban", "add", "client_id", "bad")
        row = polylog(broker, "ban", "list").splitlines()[1]
        equal(row.split()[-1], "root", "by whom")
        assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z +never", row), row
        assert json.loads(polylog(broker, "ban", "list", "--json"))["bans"][0]["created_ms"] > 1_600_000_000_000


def typed(broker, name, *passwords):
    """`user create` at a terminal: its status, and what it has said."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(ROOT)
        os.execv(BINARY, [BINARY, "user", "create", name, "--admin", broker.admin])
    said = b""
    try:
        for prompt, password in zip((b"Password: ", b"again: "), passwords):
            while not said.endswith(prompt):
                assert select.select([terminal], [], [], 20)[0], f"it has said {said} and nothing more"
                said += os.read(terminal, 4096)
            os.write(terminal, password.encode() + b"\n")
        while True:
            said += os.read(terminal, 4096)
    except OSError:  # the terminal's other end is closed
        pass
    finally:
        os.close(terminal)
    assert not any(password.encode() in said for password in passwords), said
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


if __name__ == "__main__":
    sys.exit(suite.run())
