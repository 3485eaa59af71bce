#!/usr/bin/python3
"""Listeners: TLS, WebSocket, Unix-domain sockets, the PROXY protocol, limits of their own, by clients of every
protocol and by raw octets where no client goes."""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import confluent_kafka
import confluent_kafka.admin
import kafka
import pika

from lib.broker import BINARY, Broker
from lib.cases import Suite, equal, wait_until
from lib.certificates import Authority
from lib.mqtt_clients import PahoClient
from lib.websocket_raw import CONNECT, RawWebSocket, frame

suite = Suite("listeners")
HERE = os.path.dirname(os.path.abspath(__file__))
NODE_MQTT, NODE_KAFKA, NODE_AMQP = (os.path.join(HERE, "js", name) for name in (
    "mqtt_client.mjs", "kafkajs_client.mjs", "amqplib_client.mjs"))
AUTHORITY = Authority()
SERVER = AUTHORITY.issue("server", "/CN=broker")
DEVICE = AUTHORITY.issue("device", "/O=Example/CN=device-17")
SERVED = [f"tls.certificate={SERVER.file}", f"tls.key={SERVER.key}"]
ASKING = [f"tls.ca={AUTHORITY.ca}", "tls.client_certificates=required"]
CONNECT311 = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03raw"


def broker(*settings, **listeners):
    """All of TLS and WebSocket, unless `listeners` says which."""
    names = listeners or dict.fromkeys(("mqtts", "ws", "wss", "kafkas", "amqps"), "")
    return Broker(SERVED + list(settings), listeners=names)


def run(*command, expect=0, stdin=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, input=stdin)
    if expect is not None:
        assert (done.returncode == 0) == (expect == 0), f"{command}: {done.returncode} {done.stdout[-500:]}"
    return done.stdout


def node(script, *arguments, stdin=b""):
    """What a client in JavaScript prints, over TLS."""
    done = subprocess.run(["node", script, *arguments], stdout=subprocess.PIPE, input=stdin, check=True, timeout=90,
                          env={**os.environ, "POLYLOG_CA": AUTHORITY.ca})
    return json.loads(done.stdout) if done.stdout else None


def tls_socket(port, server_name=None, certificate=None, version=None):
    context = ssl.create_default_context(cafile=AUTHORITY.ca)
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(certificate.file, certificate.key)
    if version:
        context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", port), 20)
    return context.wrap_socket(plain, server_hostname=server_name)


def common_name(connection):
    return dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"]


def over_tls(client):
    client.tls_set(AUTHORITY.ca)


def ended(connection, seconds=5):
    """What came before the other side closed."""
    connection.settimeout(seconds)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


# ---- TLS: MQTT

@suite.case("mosquitto_pub and mosquitto_sub over TLS, 3.1.1 and 5.0")
def mosquitto_tls():
    with broker() as at:
        port = str(at.ports["mqtts"])
        for version in ("311", "5"):
            command = ["-h", "127.0.0.1", "-p", port, "--cafile", AUTHORITY.ca, "-V", version, "-q", "1",
                       "-t", f"tls/{version}"]
            run("mosquitto_pub", *command, "-r", "-m", "over TLS")
            equal(run("mosquitto_sub", *command, "-C", "1", "-W", "10"), b"over TLS\n", "payload")


@suite.case("mosquitto_pub doesn't trust a certificate of another CA")
def mosquitto_distrusts():
    stranger = Authority("Somebody else")
    with broker() as at:
        run("mosquitto_pub", "-h", "127.0.0.1", "-p", str(at.ports["mqtts"]), "--cafile", stranger.ca,
            "-t", "t", "-m", "m", expect=1)


@suite.case("client certificates: required by mosquitto_pub's listener, refused without, of others, and when revoked")
def mosquitto_certificates():
    lost = AUTHORITY.issue("lost", "/CN=lost")
    stranger = Authority("Somebody else").issue("stranger", "/CN=device-17")
    crl = AUTHORITY.revoke(lost)
    with broker(*ASKING, f"tls.crl={crl}") as at:
        def publish(certificate, expect):
            shown = ["--cert", certificate.file, "--key", certificate.key] if certificate else []
            run("mosquitto_pub", "-h", "127.0.0.1", "-p", str(at.ports["mqtts"]), "--cafile", AUTHORITY.ca,
                "-q", "1", "-t", "t/x", "-m", "m", *shown, expect=expect)

        publish(DEVICE, 0)
        for refused in (None, stranger, lost):
            publish(refused, 1)
        log = open(at.log_path).read()
        assert "certificate revoked" in log, log[-800:]
        assert "did not return a certificate" in log, log[-800:]


@suite.case("client certificates, optional: without one too, but none of others")
def optional_certificates():
    with broker(f"tls.ca={AUTHORITY.ca}", "tls.client_certificates=optional") as at:
        port = at.ports["mqtts"]
        for certificate in (None, DEVICE):
            connection = tls_socket(port, certificate=certificate)
            connection.sendall(CONNECT)
            equal(connection.recv(1), b"\x20", "CONNACK")


@suite.case("paho over TLS: large messages, QoS 2, and a will when the connection is cut")
def paho_tls():
    with broker() as at:
        port = at.ports["mqtts"]
        reader = PahoClient(at, "reader", port=port, prepare=over_tls).subscribe("p/#", 2)
        sender = PahoClient(at, "sender", port=port, prepare=over_tls,
                            will={"topic": "p/will", "payload": b"gone"})
        payloads = [os.urandom(size) for size in (0, 1, 16_384, 16_385, 1_000_000, 5_000_000)]
        for payload in payloads:
            sender.publish("p/x", payload, 2)
        seen = reader.expect(len(payloads), 60)
        assert [message.payload for message in seen] == payloads, "payloads differ"
        sender.drop()
        equal(reader.expect(len(payloads) + 1)[-1].payload, b"gone", "the will")


def node_mqtt(at, scheme, path=""):
    url = f"{scheme}://127.0.0.1:{at.ports[scheme]}{path}"
    secure = [AUTHORITY.ca] if scheme in ("mqtts", "wss") else []
    told = node(NODE_MQTT, url, f"node/{scheme}", "40", *secure)
    equal(told["seen"], told["sent"], f"messages over {scheme}")


for scheme in ("mqtts", "ws", "wss"):
    def by_node(scheme=scheme):
        with broker() as at:
            node_mqtt(at, scheme, "/mqtt" if scheme != "mqtts" else "")

    suite.add(f"npm mqtt over {scheme}: 40 messages up to 300 KB come back", by_node)


# ---- TLS: Kafka, AMQP

@suite.case("kcat over TLS, and what is published over MQTT with TLS")
def kcat_tls():
    with broker() as at:
        run("mosquitto_pub", "-h", "127.0.0.1", "-p", str(at.ports["mqtts"]), "--cafile", AUTHORITY.ca, "-q", "1",
            "-t", "k/a", "-m", "by mqtt")
        command = ["kcat", "-b", f"127.0.0.1:{at.ports['kafkas']}", "-X", "security.protocol=ssl",
                   "-X", f"ssl.ca.location={AUTHORITY.ca}", "-t", "k"]
        run(*command, "-P", "-K", ":", stdin=b"b:by kafka\n")
        seen = run(*command, "-C", "-e", "-q", "-o", "beginning", "-f", "%k %s\n")
        equal(seen, b"a by mqtt\nb by kafka\n", "records")


@suite.case("confluent-kafka over TLS with a client certificate: produce, consume as a group")
def confluent_tls():
    with broker(*ASKING) as at:
        common = {"bootstrap.servers": f"127.0.0.1:{at.ports['kafkas']}", "security.protocol": "ssl",
                  "ssl.ca.location": AUTHORITY.ca, "ssl.certificate.location": DEVICE.file,
                  "ssl.key.location": DEVICE.key}
        producer = confluent_kafka.Producer({**common, "enable.idempotence": True})
        values = [os.urandom(20_000) for _ in range(100)]
        for value in values:
            producer.produce("c", value, partition=0)
        equal(producer.flush(30), 0, "left")
        consumer = confluent_kafka.Consumer({**common, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["c"])
        seen = []
        while len(seen) < len(values):
            message = consumer.poll(20)
            assert message is not None and message.error() is None, (len(seen), message)
            seen.append(message.value())
        consumer.close()
        assert seen == values, "values differ"


@suite.case("kafka-python over TLS")
def kafka_python_tls():
    with broker() as at:
        secure = {"bootstrap_servers": f"127.0.0.1:{at.ports['kafkas']}", "security_protocol": "SSL",
                  "ssl_cafile": AUTHORITY.ca}
        producer = kafka.KafkaProducer(acks="all", **secure)
        for number in range(50):
            producer.send("p", b"%d" % number, partition=0).get(20)
        producer.close()
        consumer = kafka.KafkaConsumer("p", auto_offset_reset="earliest", consumer_timeout_ms=20000, **secure)
        seen = []
        for record in consumer:
            seen.append(int(record.value))
            if len(seen) == 50:
                break
        consumer.close()
        equal(seen, list(range(50)), "records")


@suite.case("kafkajs over TLS")
def kafkajs_tls():
    with broker() as at:
        address = f"127.0.0.1:{at.ports['kafkas']}"
        messages = [{"key": None, "value": "YWJj", "timestamp": None, "headers": []}] * 20
        node(NODE_KAFKA, "produce", address, "js", "gzip", stdin=json.dumps(messages).encode())
        seen = node(NODE_KAFKA, "consume", address, "js", "20")
        equal([record["value"] for record in seen], ["YWJj"] * 20, "values")


@suite.case("a Kafka client over plain TCP and one over TLS are each sent where they came from")
def kafka_addresses():
    with broker() as at:
        for protocol, security in (("kafka", "plaintext"), ("kafkas", "ssl")):
            client = confluent_kafka.admin.AdminClient({
                "bootstrap.servers": f"127.0.0.1:{at.ports[protocol]}", "security.protocol": security,
                "ssl.ca.location": AUTHORITY.ca})
            told = {each.port for each in client.list_topics(timeout=20).brokers.values()}
            equal(told, {at.ports[protocol]}, f"ports told over {protocol}")


@suite.case("pika over TLS: confirms, a large message, heartbeats negotiated")
def pika_tls():
    with broker() as at:
        context = ssl.create_default_context(cafile=AUTHORITY.ca)
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", at.ports["amqps"], ssl_options=pika.SSLOptions(context, "127.0.0.1")))
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("tls.jobs", durable=True)
        body = os.urandom(3_000_000)
        channel.basic_publish("", "tls.jobs", body, pika.BasicProperties(delivery_mode=2))
        assert channel.basic_get("tls.jobs", True)[2] == body, "the body differs"
        connection.close()


@suite.case("amqplib over TLS")
def amqplib_tls():
    with broker() as at:
        message = {"exchange": "amq.fanout", "key": "", "content": "aGVsbG8=", "options": {"persistent": True}}
        context = ssl.create_default_context(cafile=AUTHORITY.ca)
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", at.ports["amqps"], ssl_options=pika.SSLOptions(context, "127.0.0.1")))
        channel = connection.channel()
        channel.queue_declare("js.jobs", durable=True)
        channel.queue_bind("js.jobs", "amq.fanout")
        node(NODE_AMQP, "publish", str(at.ports["amqps"]), stdin=json.dumps([message]).encode())
        seen = node(NODE_AMQP, "consume", str(at.ports["amqps"]),
                    stdin=json.dumps({"queue": "js.jobs", "count": 1}).encode())
        equal([each["content"] for each in seen], ["aGVsbG8="], "contents")
        connection.close()


# ---- TLS itself

def s_client(port, *arguments, stdin=b""):
    return run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", AUTHORITY.ca, *arguments,
               stdin=stdin, expect=None).decode(errors="replace")


@suite.case("openssl s_client: TLS 1.2 and 1.3, nothing older; 1.3 alone if so configured")
def versions():
    with broker(mqtts="", kafkas="tls.min_version=1.3") as at:
        for option, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
            told = s_client(at.ports["mqtts"], option)
            assert f"New, {name}" in told and "Verify return code: 0 (ok)" in told, told
            assert "Secure Renegotiation IS supported" in told or name == "TLSv1.3", told
        for port, option in ((at.ports["mqtts"], "-tls1_1"), (at.ports["mqtts"], "-tls1"),
                             (at.ports["kafkas"], "-tls1_2")):
            told = s_client(port, option, "-cipher", "ALL:@SECLEVEL=0")
            assert "Cipher is (NONE)" in told, told
        assert "New, TLSv1.3" in s_client(at.ports["kafkas"])


@suite.case("openssl s_client: renegotiation is refused")
def renegotiation():
    with broker() as at:
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{at.ports['mqtts']}", "-tls1_2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        client.stdin.write(b"R\n")
        client.stdin.flush()  # and left open, or it ends before the answer
        told = b""
        while piece := client.stdout.read1(4096):
            told += piece
            if b"no renegotiation" in told:
                break
        client.kill()
        client.wait()
        assert b"RENEGOTIATING" in told and b"no renegotiation" in told, told[-600:]


@suite.case("ciphers as configured")
def ciphers():
    with broker("tls.ciphers=ECDHE-ECDSA-AES256-GCM-SHA384",
                "tls.ciphersuites=TLS_CHACHA20_POLY1305_SHA256") as at:
        port = at.ports["mqtts"]
        assert "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in s_client(port, "-tls1_2")
        assert "Cipher is (NONE)" in s_client(port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
        assert "Cipher is TLS_CHACHA20_POLY1305_SHA256" in s_client(port, "-tls1_3")


@suite.case("the name that is asked for chooses among certificates (SNI), also for one listener alone")
def server_names():
    other = AUTHORITY.issue("other", "/CN=other", "DNS:*.other.example")
    own = f"tls.certificate={other.file} tls.key={other.key}"
    with Broker([f"tls.certificate={SERVER.file},{other.file}", f"tls.key={SERVER.key},{other.key}"],
                listeners={"mqtts": "", "wss": own}) as at:
        for asked, shown in ((None, "broker"), ("localhost", "broker"), ("a.other.example", "other"),
                             ("nowhere.example", "broker")):
            equal(common_name(tls_socket(at.ports["mqtts"], asked)), shown, f"certificate for {asked}")
        equal(common_name(tls_socket(at.ports["wss"])), "other", "the other listener's certificate")


@suite.case("SIGHUP: new connections see the new certificate, old ones go on; a bad file changes nothing")
def reload():
    import signal
    folder = tempfile.mkdtemp(prefix="polylog-reload-")
    chosen, key = os.path.join(folder, "server.crt"), os.path.join(folder, "server.key")

    def install(certificate):
        for source, target in ((certificate.file, chosen), (certificate.key, key)):
            with open(source) as read, open(target, "w") as write:
                write.write(read.read())

    install(SERVER)
    with Broker([f"tls.certificate={chosen}", f"tls.key={key}"], listeners={"mqtts": ""}) as at:
        port = at.ports["mqtts"]
        steady = PahoClient(at, "steady", port=port, prepare=over_tls).subscribe("r/#", 1)
        install(AUTHORITY.issue("renewed", "/CN=renewed"))
        os.kill(at.pid, signal.SIGHUP)
        wait_until(lambda: common_name(tls_socket(port)) == "renewed", what="the new certificate")
        with open(chosen, "w") as broken:
            broken.write("broken\n")
        os.kill(at.pid, signal.SIGHUP)
        wait_until(lambda: "goes on with the certificates that it has" in open(at.log_path).read(),
                   what="the complaint")
        assert chosen in open(at.log_path).read(), "the file isn't named"
        equal(common_name(tls_socket(port)), "renewed", "certificate after a bad file")
        steady.publish("r/x", b"still here", 1)
        equal(steady.expect(1)[0].payload, b"still here", "the steady client")
        equal(steady.disconnects, [], "disconnections")


@suite.case("a wrong configuration starts nothing and names key, value and remedy")
def wrong_configuration():
    def refused(*arguments):
        data = tempfile.mkdtemp(prefix="polylog-conformance-")
        done = subprocess.run([BINARY, "serve", "--data", data, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=20, text=True)
        equal((done.returncode, done.stdout, os.listdir(data)), (1, "", []), f"outcome of {arguments}")
        return done.stderr

    def served(*settings):
        return [part for setting in (*SERVED, *settings) for part in ("--set", setting)]

    listen = ("--listen", "mqtts=127.0.0.1:0")
    for arguments, parts in (
            ((), ("`tls.certificate` is missing", "`tls.key`")),
            (("--set", "tls.certificate=/none.crt"), ("`tls.certificate: /none.crt`", "No such file")),
            (("--set", f"tls.certificate={SERVER.file}", "--set", f"tls.key={DEVICE.key}"),
             (f"`tls.key: {DEVICE.key}`", "is no private key of the certificate")),
            (served("tls.client_certificates=required"), ("`tls.ca` is missing",)),
            (served(f"tls.ca={AUTHORITY.ca}"), ("has no effect", "tls.client_certificates")),
            (served("tls.min_version=1.1"), ("`tls.min_version: 1.1`", "1.2, 1.3")),
            (served("tls.ciphers=NONE"), ("`tls.ciphers: NONE`", "openssl ciphers")),
            (("--set", "tls.certificat=x"), ("did you mean `tls.certificate`",))):
        told = refused(*listen, *arguments)
        for part in parts:
            assert part in told, f"{part!r} isn't in {told!r}"
    told = refused("--listen", "mqtt=127.0.0.1:0 tls.certificate=x")
    assert "tls.certificate=x" in told, told
    told = refused("--listen", "mqtts=0.0.0.0:0", *served())
    assert "allow_anonymous" in told and "tls.client_certificates" in told, told


@suite.case("hostile: garbage, a plain client and half a hello on a TLS listener harm nobody; stalled ones are reaped")
def hostile_tls():
    with broker("limits.handshake_seconds=1") as at:
        steady = PahoClient(at, "steady", port=at.ports["mqtts"], prepare=over_tls).subscribe("h/#", 1)
        for name in ("mqtts", "wss", "kafkas", "amqps"):
            for garbage in (b"\x00" * 64, b"GET / HTTP/1.1\r\n\r\n", CONNECT, b"AMQP\x00\x00\x09\x01",
                            b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + b"x" * 16384, os.urandom(5000)):
                connection = socket.create_connection(("127.0.0.1", at.ports[name]), 20)
                try:
                    connection.sendall(garbage)
                except OSError:
                    pass
                ended(connection)
        stalled = []
        for start in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            stalled.append(socket.create_connection(("127.0.0.1", at.ports["mqtts"]), 20))
            stalled[-1].sendall(start)
        stalled.append(tls_socket(at.ports["mqtts"]))  # TLS is through, MQTT never begins
        began = time.monotonic()
        for connection in stalled:
            ended(connection, 4)
        assert time.monotonic() - began < 3.5, "not reaped in time"
        steady.publish("h/x", b"fine", 1)
        equal(steady.expect(1)[0].payload, b"fine", "the steady client")


@suite.case("a thousand stalled TLS handshakes stay within 64 KiB each")
def stalled_memory():
    with broker() as at:
        before = at.resident_bytes()
        connections = []
        for _ in range(1000):
            connections.append(socket.create_connection(("127.0.0.1", at.ports["mqtts"]), 20))
            connections[-1].sendall(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + b"x" * 8000)
        PahoClient(at, "after", port=at.ports["mqtts"], prepare=over_tls).close()
        grown = (at.resident_bytes() - before) / 1000
        print(f"    {grown / 1024:.1f} KiB a connection")
        assert grown < 65536, grown
        for connection in connections:
            connection.close()


# ---- WebSocket

def paho_over(scheme):
    with broker() as at:
        secure = over_tls if scheme == "wss" else None
        client = PahoClient(at, "paho", port=at.ports[scheme], transport="websockets", prepare=secure)
        client.subscribe("w/#", 2)
        payloads = [os.urandom(size) for size in (0, 1, 125, 126, 65_535, 65_536, 2_000_000)]
        for payload in payloads:
            client.publish("w/x", payload, 2)
        assert [message.payload for message in client.expect(len(payloads), 60)] == payloads, "payloads differ"
        client.close()


suite.add("paho over ws: large messages at QoS 2", lambda: paho_over("ws"))
suite.add("paho over wss: large messages at QoS 2", lambda: paho_over("wss"))


@suite.case("the paths /mqtt and / are there and others not, unless so configured")
def paths():
    with broker("websocket.paths=/broker") as at:
        equal([RawWebSocket(at.ports["ws"], path).status for path in ("/broker", "/mqtt", "/")], [101, 404, 404],
              "statuses")
    with broker() as at:
        equal([RawWebSocket(at.ports["ws"], path).status for path in ("/mqtt", "/", "/mqtt?x=1", "/other")],
              [101, 101, 101, 404], "statuses")


@suite.case("MQTT packets in fragments, over several frames, and several in one; pings in between")
def framing():
    with broker() as at:
        raw = RawWebSocket(at.ports["ws"])
        for place, octet in enumerate(CONNECT):
            last = place == len(CONNECT) - 1
            raw.send(frame(bytes([octet]), 2 if place == 0 else 0, last), frame(b"ping", 9))
        pongs = 0
        while (answer := raw.receive())[0] == 10:
            equal(answer[1], b"ping", "pong")
            pongs += 1
        equal(answer[1][:1], b"\x20", "CONNACK")
        subscribe = b"\x82\x09\x00\x01\x00\x00\x03f/#\x01"
        publish = b"\x32\x0a\x00\x03f/x\x00\x02\x00hi"
        raw.send(frame(subscribe + publish + b"\xc0\x00"))
        seen = b""
        # SUBACK, PUBACK, PINGRESP and the message itself.
        while not all(part in seen for part in (b"\x90", b"\x40", b"\xd0\x00", b"hi")):
            opcode, payload = raw.receive()
            seen += payload if opcode == 2 else b""
        raw.send(frame(b"\x03\xe8", 8))
        equal(raw.close_code(), 1000, "close code")


@suite.case("MQTT-6.0.0-1: a text frame closes the connection; so does what WebSocket forbids")
def refused_frames():
    with broker() as at:
        steady = PahoClient(at, "steady", port=at.ports["ws"], transport="websockets").subscribe("f/#", 1)
        for frames, code in ((frame(b"\xc0\x00", 1), 1003), (frame(b"\xc0\x00", masked=False), 1002),
                             (frame(b"x", 3), 1002), (frame(b"x" * 126, 9), 1002), (frame(b"x", 0), 1002),
                             (frame(b"\x30", 2, False) + frame(b"\x00", 2), 1002)):
            raw = RawWebSocket(at.ports["ws"]).connected()
            raw.send(frames)
            equal(raw.close_code(), code, f"close code after {frames[:20]!r}")
        steady.publish("f/x", b"fine", 1)
        equal(steady.expect(1)[0].payload, b"fine", "the steady client")


@suite.case("hostile: handshakes that are malformed, oversized, of other versions, pages or protocols are refused")
def refused_upgrades():
    with broker("limits.handshake_seconds=2", "websocket.origins=https://app.example") as at:
        port = at.ports["ws"]
        equal(RawWebSocket(port, protocol="chat").status, 400, "another subprotocol")
        equal(RawWebSocket(port, more="Origin: https://evil.example\r\n").status, 403, "another page")
        equal(RawWebSocket(port, more="Origin: https://app.example\r\n").status, 101, "a page that is listed")
        equal(RawWebSocket(port, more=f"Origin: http://127.0.0.1:{port}\r\n").status, 101, "a page of ours")
        equal(RawWebSocket(port, more="Content-Length: 3\r\n").status, 400, "a body")
        equal(RawWebSocket(port, more="".join(f"X-{n}: y\r\n" for n in range(100))).status, 431, "many headers")
        for start, status in ((b"GET /mqtt HTTP/1.1\r\nCookie: " + b"c" * 9000, b"431"), (b"POST / HTTP/1.1\r\n", b"400"),
                              (CONNECT, b"400"), (b"GET /mqtt HTTP/1.1\r\n\r\n", b"400"),
                              (b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", b"426")):
            raw = RawWebSocket(port, upgrade=False)
            raw.socket.sendall(start)
            equal(ended(raw.socket)[9:12], status, f"status after {start[:30]!r}")
        slow = RawWebSocket(port, upgrade=False)
        slow.socket.sendall(b"GET /mqtt HTTP/1.1\r\n")
        ended(slow.socket, 5)


# ---- Unix-domain sockets, PROXY protocol, limits

@suite.case("mosquitto_pub and mosquitto_sub over a Unix-domain socket; its file goes with the broker and after kill -9")
def unix_socket():
    path = os.path.join(tempfile.mkdtemp(prefix="polylog-unix-"), "mqtt.sock")
    at = Broker(unix=[f"mqtt=unix:{path}"]).start()
    try:
        def talk():
            run("mosquitto_pub", "--unix", path, "-q", "1", "-r", "-t", "u/x", "-m", "by socket")
            equal(run("mosquitto_sub", "--unix", path, "-t", "u/#", "-C", "1", "-W", "10"), b"by socket\n", "payload")

        talk()
        at.restart()  # kill -9 leaves the file
        talk()
        equal(at.stop(), 0, "status")
        assert not os.path.exists(path), "the file is still there"
        with open(path, "w") as file:
            file.write("not a socket")
        done = subprocess.run([BINARY, "serve", "--data", at.data, "--listen", f"mqtt=unix:{path}"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20, text=True)
        assert done.returncode == 1 and path in done.stderr, done
    finally:
        at.kill()


def proxied(port, header, hello=CONNECT311):
    connection = socket.create_connection(("127.0.0.1", port), 20)
    connection.sendall(header + hello)
    return connection


@suite.case("PROXY protocol, versions 1 and 2: the client's address is the one told; without a header nothing goes")
def proxy_protocol():
    version2 = (b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", 12) + socket.inet_aton("192.0.2.9")
                + socket.inet_aton("10.0.0.1") + struct.pack(">HH", 4711, 1883))
    with broker("allow_anonymous=true", mqtt="proxy_protocol=true", mqtts="proxy_protocol=true") as at:
        def peer():
            with urllib.request.urlopen(f"{at.admin}/api/sessions/raw") as answer:
                return json.load(answer)["peer"]

        for header, address in ((b"PROXY TCP4 192.0.2.7 10.0.0.1 51221 1883\r\n", "192.0.2.7:51221"),
                                (b"PROXY TCP6 2001:db8::7 ::1 51221 1883\r\n", "[2001:db8::7]:51221"),
                                (version2, "192.0.2.9:4711")):
            connection = proxied(at.mqtt, header)
            equal(connection.recv(4), b"\x20\x02\x00\x00", "CONNACK")
            equal(peer(), address, "peer")
        own = proxied(at.mqtt, b"PROXY UNKNOWN\r\n")
        equal(own.recv(4), b"\x20\x02\x00\x00", "CONNACK")
        equal(peer(), "127.0.0.1:%d" % own.getsockname()[1], "peer of the proxy's own connection")
        for bad in (b"", b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 1883\r\n", b"PROXY TCP9 a b c d\r\n",
                    b"PROXY " + b"x" * 200, version2.replace(b"\x21\x11", b"\x31\x11")):
            equal(ended(proxied(at.mqtt, bad)), b"", f"answer to {bad!r}")
        # TLS begins behind the header.
        plain = socket.create_connection(("127.0.0.1", at.ports["mqtts"]), 20)
        plain.sendall(b"PROXY TCP4 192.0.2.8 10.0.0.1 51222 8883\r\n")
        context = ssl.create_default_context(cafile=AUTHORITY.ca)
        secure = context.wrap_socket(plain, server_hostname="127.0.0.1")
        secure.sendall(CONNECT311)
        equal(secure.recv(4), b"\x20\x02\x00\x00", "CONNACK over TLS")
        equal(peer(), "192.0.2.8:51222", "peer over TLS")


@suite.case("a listener's own limits: connections at once, and new ones in a second; other listeners go on")
def own_limits():
    with broker(mqtt="limits.listener_connections=3", ws="limits.listener_connection_rate=5", mqtts="") as at:
        def admitted(port, number):
            connections = [proxied(port, b"", b"\x10") for _ in range(number)]
            held = []
            for each in connections:
                each.settimeout(0.3)
                try:
                    if each.recv(1) == b"":
                        continue
                except socket.timeout:
                    held.append(each)
                except ConnectionResetError:
                    continue
            return held

        held = admitted(at.mqtt, 6)
        equal(len(held), 3, "connections at once")
        for each in held:
            each.close()

        def one_more():
            connection = proxied(at.mqtt, b"", CONNECT311)
            try:
                return connection.recv(4) == b"\x20\x02\x00\x00"
            except ConnectionResetError:
                return False

        wait_until(one_more, what="a place")
        raw = [socket.create_connection(("127.0.0.1", at.ports["ws"]), 20) for _ in range(40)]
        served = 0
        for each in raw:
            try:
                each.sendall(b"X")
                served += each.recv(4) == b"HTTP"
            except OSError:
                pass
        assert 5 <= served < 40, f"{served} of 40 were served"
        PahoClient(at, "other", port=at.ports["mqtts"], prepare=over_tls).close()
        with urllib.request.urlopen(f"{at.admin}/metrics") as answer:
            metrics = answer.read().decode()
        for reason in ('protocol="mqtt",reason="listener_max_connections"', 'protocol="ws",reason="rate"'):
            assert f"polylog_connections_refused_total{{{reason}}}" in metrics, reason


@suite.case("the ready line names every listener")
def ready_line():
    path = os.path.join(tempfile.mkdtemp(prefix="polylog-unix-"), "amqp.sock")
    with Broker(SERVED, listeners=dict.fromkeys(("mqtts", "ws", "wss", "kafkas", "amqps"), ""),
                unix=[f"amqp=unix:{path}"]) as at:
        ready = at.ready.split()
        equal([item.split("=")[0] for item in ready],
              ["ready", "mqtt", "kafka", "amqp", "admin", "mqtts", "ws", "wss", "kafkas", "amqps", "amqp"], "names")
        equal(ready[-1], f"amqp=unix:{path}", "the Unix-domain socket")


if __name__ == "__main__":
    sys.exit(suite.run())
