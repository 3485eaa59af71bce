"""Third-party MQTT clients behind one face: publish(broker, topic, samples), and a subscriber that
is subscribed when its constructor returns and gives what it saw."""

import os
import subprocess
import tempfile
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from .cases import wait_until
from .sample import MqttSeen


def topic_name(topic, key):
    return topic if key is None else f"{topic}/{key.decode()}"


class Lines:
    """A process and the lines that it has said."""

    def __init__(self, command, **options):
        self.lines = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def end(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()


class MosquittoPub:
    name = "mosquitto_pub"
    protocol = "mqtt"

    @staticmethod
    def publish(broker, topic, samples):
        for sample in samples:
            command = ["mosquitto_pub", "-p", str(broker.mqtt), "-V", "5", "-q", "1",
                       "-t", topic_name(topic, sample.key)]
            for option, value in (("content-type", sample.content_type),
                                  ("response-topic", sample.reply_to),
                                  ("correlation-data", sample.correlation)):
                if value is not None:
                    command += ["-D", "publish", option, value]
            for name, value in sample.headers:
                command += ["-D", "publish", "user-property", name, value.decode()]
            with tempfile.NamedTemporaryFile() as file:
                file.write(sample.value)
                file.flush()
                # mosquitto_pub refuses an empty file, so that case has an option of its own.
                command += ["-f", file.name] if sample.value else ["-n"]
                subprocess.run(command, check=True, timeout=30)


class PahoPub:
    name = "paho"
    protocol = "mqtt"

    @staticmethod
    def publish(broker, topic, samples):
        client = PahoClient(broker, "matrix-publisher")
        for sample in samples:
            properties = Properties(PacketTypes.PUBLISH)
            if sample.content_type is not None:
                properties.ContentType = sample.content_type
            if sample.reply_to is not None:
                properties.ResponseTopic = sample.reply_to
            if sample.correlation is not None:
                properties.CorrelationData = sample.correlation
            if sample.headers:
                properties.UserProperty = [(name, value.decode()) for name, value in sample.headers]
            client.publish(topic_name(topic, sample.key), sample.value, 2, properties=properties)
        client.close()


class PahoClient:
    """paho with the waiting done: connect, publish and subscribe return when acknowledged."""

    def __init__(self, broker, client_id, version=paho.MQTTv5, clean=True, expiry=None, will=None,
                 keepalive=60, on_message=None, receive_maximum=None, manual_start=False,
                 port=None, transport="tcp", prepare=None):
        self.version = version
        options = {} if version == paho.MQTTv5 else {"clean_session": clean}
        self.client = paho.Client(client_id, protocol=version, transport=transport, **options)
        if prepare:
            prepare(self.client)
        self.client.max_inflight_messages_set(1000)
        self.seen = []
        self.lock = threading.Condition()
        self.acknowledged = set()
        self.session_present = None
        self.connack = None
        self.disconnects = []
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = on_message or self._on_message
        self.client.on_publish = self._on_acknowledged
        self.client.on_subscribe = self._on_acknowledged
        self.client.on_unsubscribe = self._on_acknowledged
        if will:
            self.client.will_set(**will)
        arguments = {"keepalive": keepalive}
        if version == paho.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            if expiry is not None:
                properties.SessionExpiryInterval = expiry
            if receive_maximum is not None:
                properties.ReceiveMaximum = receive_maximum
            arguments.update(clean_start=clean, properties=properties)
        self.client.connect("127.0.0.1", port or broker.mqtt, **arguments)
        if not manual_start:
            self.client.loop_start()
            self._wait(lambda: self.connack is not None, "CONNACK")

    def _on_connect(self, client, userdata, flags, reason, properties=None):
        with self.lock:
            self.session_present = bool(flags["session present"])
            self.connack = reason
            self.lock.notify_all()

    def _on_disconnect(self, client, userdata, reason, properties=None):
        with self.lock:
            self.disconnects.append(reason)
            self.lock.notify_all()

    def _on_message(self, client, userdata, message):
        with self.lock:
            self.seen.append(message)
            self.lock.notify_all()

    def _on_acknowledged(self, client, userdata, mid, *rest):
        with self.lock:
            self.acknowledged.add(mid)
            self.lock.notify_all()

    def _wait(self, condition, what, timeout=20):
        with self.lock:
            if not self.lock.wait_for(condition, timeout):
                raise AssertionError(f"no {what} within {timeout} s")

    def publish(self, topic, payload, qos=1, retain=False, properties=None):
        info = self.client.publish(topic, payload, qos, retain, properties=properties)
        if qos:
            self._wait(lambda: info.mid in self.acknowledged, "acknowledgement")
        return info

    def subscribe(self, topic, qos=1, **options):
        if self.version == paho.MQTTv5:
            _, mid = self.client.subscribe(topic, options=SubscribeOptions(qos=qos, **options))
        else:
            _, mid = self.client.subscribe(topic, qos)
        self._wait(lambda: mid in self.acknowledged, "SUBACK")
        return self

    def unsubscribe(self, topic):
        _, mid = self.client.unsubscribe(topic)
        self._wait(lambda: mid in self.acknowledged, "UNSUBACK")

    def expect(self, count, timeout=20):
        self._wait(lambda: len(self.seen) >= count, f"{count} messages (have {len(self.seen)})",
                   timeout)
        return self.seen

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def drop(self):
        """Cuts the connection without a DISCONNECT and stays away."""
        self.client.on_disconnect = None
        self.client.loop_stop(force=True)
        self.client._sock_close()


class MosquittoSub:
    name = "mosquitto_sub"
    protocol = "mqtt"

    def __init__(self, broker, topic, count):
        self.count = count
        # To a file: with nobody reading, a pipe would hold mosquitto_sub up, and its keep-alive.
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", "-p", str(broker.mqtt), "-V", "5", "-q", "2", "-t",
             f"{topic}/#", "-d", "-C", str(count), "-W", "300", "-F", "REC|%t|%x|%C|%R|%D|%P"],
            stdout=self.output)  # line by line, so that "Subscribed" shows when it is so
        wait_until(lambda: b"\nSubscribed" in self._said(), what="SUBACK")

    def _said(self):
        # Not by way of the file's position, which the process has in common with us.
        descriptor = self.output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def finish(self):
        self.process.wait(60)
        output = self._said()
        seen = []
        for line in output.split(b"\n"):
            if not line.startswith(b"REC|"):
                continue
            _, name, value, content_type, reply_to, correlation, user = line.split(b"|")
            pairs = [pair.split(b":", 1) for pair in user.split(b" ") if pair]
            seen.append(MqttSeen(
                name.decode(), bytes.fromhex(value.decode()), content_type.decode() or None,
                correlation or None, reply_to.decode() or None,
                [(key.decode(), text.decode()) for key, text in pairs]))
        return seen


class PahoSub:
    name = "paho"
    protocol = "mqtt"

    def __init__(self, broker, topic, count):
        self.count = count
        self.client = PahoClient(broker, f"matrix-subscriber-{topic}")
        self.client.subscribe(f"{topic}/#", 2)

    def finish(self):
        seen = []
        for message in self.client.expect(self.count, 60):
            properties = message.properties
            seen.append(MqttSeen(
                message.topic, message.payload, getattr(properties, "ContentType", None),
                getattr(properties, "CorrelationData", None),
                getattr(properties, "ResponseTopic", None),
                list(getattr(properties, "UserProperty", []))))
        self.client.close()
        return seen


PUBLISHERS = [MosquittoPub, PahoPub]
SUBSCRIBERS = [MosquittoSub, PahoSub]
