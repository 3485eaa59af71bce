#!/usr/bin/python3
"""MQTT clients of other hands to each other, over every transport and in both versions: each subscriber
gets what each publisher sends at QoS 0, 1 and 2."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from lib.broker import Broker
from lib.cases import equal, wait_until
from lib.certificates import Authority
from lib.mqtt_clients import Lines, PahoClient
from lib.mqtt_suite import VERSIONS, MqttSuite

suite = MqttSuite("mqtt_matrix")
HERE = os.path.dirname(os.path.abspath(__file__))
NODE = ["node", os.path.join(HERE, "js", "mqtt_matrix.mjs")]
AUTHORITY = Authority()
SERVER = AUTHORITY.issue("server", "/CN=broker")
TRANSPORTS = {"TCP": "mqtt", "TLS": "mqtts", "WebSocket": "ws", "WebSocket with TLS": "wss"}
TOPIC = "m/x"


class Way:
    """How to reach a broker: a listener and a version."""

    def __init__(self, broker, listener, version):
        self.broker, self.listener, self.version = broker, listener, version
        self.port = broker.ports[listener]
        self.secure = listener in ("mqtts", "wss")
        self.web = listener in ("ws", "wss")

    def url(self, plain="mqtt", secure="mqtts"):
        scheme = self.listener if self.web else secure if self.secure else plain
        return f"{scheme}://127.0.0.1:{self.port}" + ("/mqtt" if self.web else "")


def listening(command):
    """A subscriber that prints a line for each message."""
    return Lines(["stdbuf", "-oL", *command], stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90)
    assert done.returncode == 0, f"{command}: {done.returncode} {done.stdout[-400:]}"


class Mosquitto:
    name, says = "mosquitto_pub and _sub", "mosquitto"

    @staticmethod
    def reaches(way):
        return not way.web

    @staticmethod
    def options(way):
        version = {"3.1.1": "mqttv311", "5.0": "mqttv5"}[way.version]
        secure = ["--cafile", AUTHORITY.ca] if way.secure else []
        return ["-h", "127.0.0.1", "-p", str(way.port), "-V", version, "-t", TOPIC, *secure]

    def publish(self, way):
        for qos in "012":
            run("mosquitto_pub", *self.options(way), "-q", qos, "-m", f"mosquitto {qos}")

    def subscribe(self, way):
        return listening(["mosquitto_sub", *self.options(way), "-q", "2", "-i", "mosquitto"])


class PahoC:
    """The programs that paho C comes with, over one of its two interfaces."""

    def __init__(self, name, says, program):
        self.name, self.says, self.program = name, says, program

    @staticmethod
    def reaches(way):
        return True

    @staticmethod
    def options(way):
        version = {"3.1.1": "311", "5.0": "5"}[way.version]
        secure = ["--cafile", AUTHORITY.ca] if way.secure else []
        return ["-c", way.url("tcp", "ssl"), "-V", version, "-t", TOPIC, *secure]

    def publish(self, way):
        for qos in "012":
            run(f"{self.program}_pub", *self.options(way), "-q", qos, "-m", f"{self.says} {qos}",
                "-i", f"{self.says}-pub")

    def subscribe(self, way):
        return listening([f"{self.program}_sub", *self.options(way), "-q", "2", "-i", self.says])


class PahoPython:
    name, says = "paho Python", "paho-python"

    @staticmethod
    def reaches(way):
        return True

    @staticmethod
    def client(way, client_id):
        prepare = (lambda client: client.tls_set(AUTHORITY.ca)) if way.secure else None
        transport = "websockets" if way.web else "tcp"
        return PahoClient(way.broker, client_id, VERSIONS[way.version], port=way.port, transport=transport,
                          prepare=prepare)

    def publish(self, way):
        client = self.client(way, "paho-python-pub")
        for qos in (0, 1, 2):
            client.publish(TOPIC, f"paho-python {qos}", qos)
        client.close()

    class Subscriber:
        def __init__(self, client):
            self.client = client

        @property
        def lines(self):
            return [message.payload.decode() for message in list(self.client.seen)]

        def end(self):
            self.client.close()

    def subscribe(self, way):
        return self.Subscriber(self.client(way, "paho-python").subscribe(TOPIC, 2))


class Npm:
    name, says = "npm mqtt", "npm"

    @staticmethod
    def reaches(way):
        return True

    @staticmethod
    def options(way):
        return [way.url(), TOPIC, {"3.1.1": "4", "5.0": "5"}[way.version], AUTHORITY.ca]

    def publish(self, way):
        run(*NODE, "pub", *self.options(way), "npm-pub")

    def subscribe(self, way):
        return listening([*NODE, "sub", *self.options(way), "npm"])


CLIENTS = [Mosquitto(), PahoC("paho C", "paho-c", "paho_c"),
           PahoC("paho C synchronous", "paho-cs", "paho_cs"), PahoPython(), Npm()]


def subscribed(broker, client_id):
    with urllib.request.urlopen(f"{broker.admin}/api/sessions", timeout=20) as answer:
        sessions = json.load(answer)["sessions"]
    return any(one["client_id"] == client_id and one["subscriptions"] for one in sessions)


def each_to_each(listener, version):
    names = [name for name in TRANSPORTS.values() if name != "mqtt"]
    with Broker([f"tls.certificate={SERVER.file}", f"tls.key={SERVER.key}"],
                listeners=dict.fromkeys(names, "")) as broker:
        way = Way(broker, listener, version)
        clients = [one for one in CLIENTS if one.reaches(way)]
        readers = {}
        try:
            for one in clients:
                readers[one.name] = one.subscribe(way)
            for one in clients:
                wait_until(lambda one=one: subscribed(broker, one.says), 60, f"the subscription of {one.name}")
            for one in clients:
                one.publish(way)
            expected = {f"{one.says} {qos}" for one in clients for qos in (0, 1, 2)}
            for name, reader in readers.items():
                wait_until(lambda: expected <= set(reader.lines), 30,
                           f"{name} got {reader.lines}; all of {sorted(expected)}")
                got = sorted(line for line in reader.lines if line in expected)
                equal(got, sorted(expected), f"messages of {name}")
        finally:
            for reader in readers.values():
                reader.end()


# ---- paho C's examples, as its users begin with them: built from the package's sources

SAMPLES = "/usr/src/paho.mqtt.c-examples"
SAMPLE_TOPIC, SAMPLE_SAYS = "MQTT Examples", "   message: Hello World!"


def built(folder, name):
    """A program of the package's source, for the broker that ADDRESS names."""
    with open(os.path.join(SAMPLES, f"{name}.c")) as file:
        source, found = re.subn(r'(#define ADDRESS\s+)"[^"]*"', r'\1getenv("ADDRESS")', file.read())
    equal(found, 1, f"the address in {name}.c")
    path, program = os.path.join(folder, f"{name}.c"), os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(source)
    library = "-lpaho-mqtt3as" if name.startswith("MQTTAsync") else "-lpaho-mqtt3cs"
    subprocess.run(["gcc", "-w", "-O1", path, "-o", program, library], check=True, timeout=120)
    return program


class Sample(Lines):
    """An example that runs until it is told to quit."""

    def __init__(self, program, environment):
        super().__init__(["stdbuf", "-oL", program], env=environment, stdin=subprocess.PIPE)

    def quit(self):
        self.process.stdin.write("Q\n")
        self.process.stdin.flush()
        return self.process.wait(30)


def samples(listener):
    folder = tempfile.mkdtemp(prefix="polylog-paho-c-")
    try:
        with Broker(listeners={} if listener == "mqtt" else {listener: ""}) as broker:
            environment = {**os.environ, "ADDRESS": Way(broker, listener, "3.1.1").url("tcp")}
            publishers = ["MQTTClient_publish", "MQTTClient_publish_async", "MQTTAsync_publish"]
            for subscriber in ("MQTTClient_subscribe", "MQTTAsync_subscribe"):
                reader = Sample(built(folder, subscriber), environment)
                try:
                    wait_until(lambda: subscribed(broker, "ExampleClientSub"), 30, subscriber)
                    for count, publisher in enumerate(publishers, 1):
                        subprocess.run([built(folder, publisher)], env=environment, check=True, timeout=60,
                                       stdout=subprocess.DEVNULL)
                        wait_until(lambda: reader.lines.count(SAMPLE_SAYS) >= count, 30,
                                   f"the message of {publisher} at {subscriber}: {reader.lines}")
                    equal(reader.lines.count(f"     topic: {SAMPLE_TOPIC}"), len(publishers), "messages")
                    equal(reader.quit(), 0, f"exit status of {subscriber}")
                finally:
                    reader.end()
            # It publishes the time, a hundred times a second, and has no end of its own.
            clock = Sample(built(folder, "MQTTAsync_publish_time"), environment)
            reader = PahoClient(broker, "reader").subscribe("data/time")
            try:
                times = [int(message.payload) for message in reader.expect(50)]
                equal(times, sorted(times), "the times that were published")
            finally:
                clock.end()
                reader.close()
    finally:
        shutil.rmtree(folder)


for transport, listener in TRANSPORTS.items():
    if listener in ("mqtt", "ws"):  # they take nothing that TLS would want said
        suite.add(f"paho C's examples over {transport}: MQTTClient and MQTTAsync, publish and subscribe",
                  lambda listener=listener: samples(listener))

for transport, listener in TRANSPORTS.items():
    for version in VERSIONS:
        web = listener in ("ws", "wss")
        names = ", ".join(one.name for one in CLIENTS if not (web and isinstance(one, Mosquitto)))
        suite.add(f"over {transport}, {version}: {names}, each to each at QoS 0, 1 and 2",
                  lambda listener=listener, version=version: each_to_each(listener, version))

if __name__ == "__main__":
    sys.exit(suite.run())
