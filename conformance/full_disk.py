#!/usr/bin/python3
"""A full disk: live publishers over every protocol are refused or held in their protocol's way, reads
go on, space comes back, each goes on by itself, and nothing acknowledged is lost.

The data directory is a tmpfs of 64 MiB, which only root may mount; without that the suite says so and
does nothing."""

import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import confluent_kafka
import paho.mqtt.client as paho
import pika
from confluent_kafka.admin import AdminClient
from pika.exceptions import AMQPError

from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.mqtt_clients import PahoClient

MIB = 1 << 20
SETTINGS = ["storage.segment_bytes=2097152", "storage.checkpoint_bytes=4194304",
            "storage.retention_check_ms=200", "limits.max_message_bytes=1048576",
            f"storage.disk.high_watermark_free_bytes={12 * MIB}",
            f"storage.disk.low_watermark_free_bytes={20 * MIB}"]
HELD_SECONDS = 5  # more than two keep-alives and heartbeats of the publishers
QUOTA_EXCEEDED = 0x97

suite = Suite("full_disk")


class SmallDisk:
    """A tmpfs of 64 MiB and a broker that has its data there."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="polylog-full-disk-")

    def __enter__(self):
        mount(self.path)
        self.broker = Broker(SETTINGS, self.path)
        try:
            return self.broker.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise

    def __exit__(self, kind, *_):
        self.broker.kill()
        if kind is None:
            os.unlink(self.broker.log_path)
        else:
            print(f"    broker log: {self.broker.log_path}")
        subprocess.run(["umount", self.path], check=True)
        os.rmdir(self.path)


def mount(path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", path], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def why_no_mount():
    """Why this user can't mount a tmpfs, or None."""
    path = tempfile.mkdtemp(prefix="polylog-full-disk-")
    try:
        mount(path)
        subprocess.run(["umount", path], check=True)
        return None
    except (OSError, subprocess.CalledProcessError) as error:
        return (getattr(error, "stderr", None) or str(error).encode()).decode().strip()
    finally:
        os.rmdir(path)


def metric(broker, name):
    text = urllib.request.urlopen(broker.admin + "/metrics", timeout=20).read().decode()
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name)]
    assert values, f"no metric {name}"
    return float(values[0])


def log_of(broker):
    with open(broker.log_path) as file:
        return file.read()


class Live:
    """A publisher on a thread of its own that sends numbers, one after the other, and notes which
    were acknowledged."""

    def __init__(self, broker):
        self.broker, self.acknowledged, self.over, self.failure = broker, set(), False, None
        self.thread = threading.Thread(target=self._guarded)
        self.thread.start()

    def _guarded(self):
        try:
            self.run()
        except Exception as error:
            self.failure = error

    def stop(self):
        self.over = True
        self.thread.join(60)
        assert not self.thread.is_alive(), f"{self.name} doesn't end"
        assert self.failure is None, f"{self.name}: {self.failure!r}"

    def await_acknowledged(self, count):
        goal = len(self.acknowledged) + count
        wait_until(lambda: self.failure or len(self.acknowledged) >= goal, 60,
                   f"{self.name}: {count} further acknowledgements")
        assert self.failure is None, f"{self.name}: {self.failure!r}"

    def missing(self):
        return self.acknowledged - self.stored()

    def stored(self):
        return {int(value) for value in read_topic(self.broker, self.name)}


class Mqtt(Live):
    """paho at QoS 1, twenty in flight."""

    def run(self):
        codes, numbers, lock = self.codes, {}, threading.Lock()

        class Client(paho.Client):
            """paho 1.6 doesn't show a PUBACK's reason."""

            def _handle_pubackcomp(self, cmd):
                packet = self._in_packet["packet"]
                mid, code = int.from_bytes(packet[:2], "big"), packet[2] if len(packet) > 2 else 0
                with lock:
                    number = numbers.pop(mid, None)
                    codes[code] = codes.get(code, 0) + 1
                    if code < 0x80 and number is not None:
                        acknowledged.add(number)
                return super()._handle_pubackcomp(cmd)

        acknowledged = self.acknowledged
        client = Client(self.name, protocol=self.version)
        client.reconnect_delay_set(1, 1)
        client.on_disconnect = lambda *_: self.disconnects.append(time.monotonic())
        client.connect("127.0.0.1", self.broker.mqtt, keepalive=2)
        client.loop_start()
        number = 0
        while not self.over:
            if len(numbers) < 20:
                with lock:
                    info = client.publish(f"{self.name}/x", b"%d" % number, 1)
                    numbers[info.mid] = number
                number += 1
            time.sleep(0.005)
        wait_until(lambda: not numbers, 30, f"{self.name}: the last answers")
        client.disconnect()
        client.loop_stop()

    def __init__(self, broker):
        self.codes, self.disconnects = {}, []
        super().__init__(broker)


class Mqtt311(Mqtt):
    name, version = "live-mqtt311", paho.MQTTv311


class Mqtt5(Mqtt):
    name, version = "live-mqtt5", paho.MQTTv5


class Kafka(Live):
    """librdkafka, idempotent: it tries again for as long as it takes."""

    name = "live-kafka"

    def run(self):
        producer = confluent_kafka.Producer({
            "bootstrap.servers": self.broker.kafka, "enable.idempotence": True, "log_level": 0,
            "linger.ms": 1, "retry.backoff.ms": 100})

        def collect(number):
            def told(error, _):
                assert error is None, error
                self.acknowledged.add(number)

            return told

        number = 0
        while not self.over:
            if len(producer) < 100:
                producer.produce(self.name, b"%d" % number, b"k", on_delivery=collect(number))
                number += 1
            producer.poll(0.005)
        equal(producer.flush(30), 0, "undelivered at the end")


class Amqp(Live):
    """pika with confirms and the two callbacks; connects anew when the broker has gone."""

    name = "live-amqp"

    def __init__(self, broker):
        self.blocked, self.closed, self.told = False, 0, []
        super().__init__(broker)

    def run(self):
        self.number = 0
        while not self.over:
            try:
                self._connected()
            except (AMQPError, OSError):
                self.closed += 1
                self.blocked = False
                time.sleep(0.1)

    def _connected(self):
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", self.broker.amqp, heartbeat=2, socket_timeout=20))

        def block(_, frame):
            self.blocked = True
            self.told.append(frame.method.reason)

        def unblock(*_):
            self.blocked = False

        connection.add_on_connection_blocked_callback(block)
        connection.add_on_connection_unblocked_callback(unblock)
        channel = connection.channel()
        channel.queue_declare(self.name, durable=True)
        waiting = {}

        def confirmed(frame):
            answer = frame.method
            assert isinstance(answer, pika.spec.Basic.Ack), f"a confirm was {answer}"
            tags = [answer.delivery_tag]
            if answer.multiple:
                tags = [tag for tag in waiting if tag <= answer.delivery_tag]
            self.acknowledged.update(waiting.pop(tag) for tag in tags)

        channel._impl.confirm_delivery(confirmed, lambda _: None)
        tag = 0
        while not self.over or waiting:
            if len(waiting) < 20 and not self.blocked and not self.over:
                tag += 1
                waiting[tag] = self.number
                channel._impl.basic_publish("", self.name, b"%d" % self.number,
                                            pika.BasicProperties(delivery_mode=2))
                self.number += 1
            connection.process_data_events(0.005)
        connection.close()

    def stored(self):
        return {int(body) for body in drain(self.broker, self.name)}


PUBLISHERS = (Mqtt311, Mqtt5, Kafka, Amqp)


def drain(broker, queue):
    """Takes and acknowledges all that is in a queue."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.amqp))
    channel = connection.channel()
    left = channel.queue_declare(queue, passive=True).method.message_count
    channel.basic_qos(prefetch_count=100)
    bodies = []
    for method, _, body in channel.consume(queue, inactivity_timeout=20) if left else ():
        assert method is not None, f"{left - len(bodies)} of {left} didn't come"
        bodies.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(bodies) == left:
            break
    connection.close()
    return bodies


def read_topic(broker, topic):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "reader", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "check.crcs": True, "log_level": 0})
    place = confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)
    end = consumer.get_watermark_offsets(place, timeout=20)[1]
    consumer.assign([place])
    values, at = [], 0
    deadline = time.monotonic() + 30
    while at < end:
        assert time.monotonic() < deadline, f"{topic}: {at} of {end} within 30 s"
        for message in consumer.consume(1000, timeout=0.2):
            assert message.error() is None, message.error()
            values.append(message.value())
            at = message.offset() + 1
    committed = [confluent_kafka.TopicPartition(topic, 0, at)]
    equal(consumer.commit(offsets=committed, asynchronous=False)[0].error, None, "commit")
    consumer.close()
    return values


def fill(broker, topic):
    """Produces to `topic` until the disk is full, without trying again. Returns the values that were
    acknowledged."""
    errors, kept = [], []
    producer = confluent_kafka.Producer({
        "bootstrap.servers": broker.kafka, "retries": 0, "log_level": 0, "acks": "all",
        "compression.type": "none", "linger.ms": 0})

    def told(error, message):
        if error is None:
            kept.append(message.value())
        else:
            errors.append(error)

    deadline = time.monotonic() + 60
    while not errors:
        assert time.monotonic() < deadline, "the disk isn't full after 60 s"
        if len(producer) < 8:
            producer.produce(topic, os.urandom(64 << 10), on_delivery=told)
        producer.poll(0.005)
    producer.flush(20)
    equal({error.code() for error in errors}, {confluent_kafka.KafkaError.KAFKA_STORAGE_ERROR},
          "Kafka's error")
    return kept


def delete_topic(broker, topic):
    admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    admin.delete_topics([topic])[topic].result(20)


def see_blocked(broker, live):
    """Each publisher is told in its protocol's way, or held; nobody is cut off for it."""
    mqtt311, mqtt5, kafka, amqp = live
    equal(metric(broker, "polylog_disk_full"), 1, "the metric")
    free = os.statvfs(broker.data)
    free = free.f_bavail * free.f_frsize
    assert 8 * MIB < free < 20 * MIB, f"{free} octets are free"
    refusals = mqtt5.codes.get(QUOTA_EXCEEDED, 0)
    wait_until(lambda: mqtt5.codes.get(QUOTA_EXCEEDED, 0) > refusals, 20, "0x97 over MQTT 5")
    wait_until(lambda: amqp.blocked, 20, "connection.blocked")
    equal(set(amqp.told), {"low on disk"}, "the reasons")
    counts = [len(one.acknowledged) for one in live]
    ends = [len(mqtt311.disconnects), len(mqtt5.disconnects), amqp.closed]
    began = time.monotonic()
    # mosquitto's client ends when all is acknowledged: not while the disk is full.
    waiting = subprocess.Popen(
        ["mosquitto_pub", "-p", str(broker.mqtt), "-V", "311", "-q", "1", "-k", "5", "-t",
         "mosquitto/x", "-l"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    waiting.stdin.write(b"".join(b"%d\n" % number for number in range(50)))
    waiting.stdin.close()
    refused = subprocess.run(["mosquitto_pub", "-p", str(broker.mqtt), "-V", "5", "-q", "2", "-t",
                              "mosquitto/x", "-m", "refused"], stderr=subprocess.PIPE, timeout=20)
    assert b"Quota exceeded" in refused.stderr, f"mosquitto_pub over MQTT 5 says {refused.stderr}"
    dropped = metric(broker, 'polylog_dropped_total{reason="not_stored"}')
    client = PahoClient(broker, "qos0")
    for _ in range(10):
        client.publish("live-mqtt5/x", b"-1", 0)
    wait_until(lambda: metric(broker, 'polylog_dropped_total{reason="not_stored"}') >= dropped + 10,
               20, "publishes at QoS 0 counted as dropped")
    see_reads(broker)
    time.sleep(max(0, began + HELD_SECONDS - time.monotonic()))  # that nothing comes
    equal([len(one.acknowledged) for one in live], counts, "acknowledged while the disk is full")
    equal([len(mqtt311.disconnects), len(mqtt5.disconnects), amqp.closed], ends, "disconnections")
    equal(waiting.poll(), None, "mosquitto_pub's status while the disk is full")
    return waiting


def see_reads(broker):
    """Everything else goes on: subscribing, reading, committing, taking and acknowledging."""
    client = PahoClient(broker, "reader", expiry=60).subscribe("live-mqtt5/#", 1)
    client.client.disconnect()
    read_topic(broker, "live-kafka")
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.amqp))
    channel = connection.channel()
    channel.queue_declare("reader", exclusive=True)
    if channel.queue_declare("steady", passive=True).method.message_count:
        method, _, body = channel.basic_get("steady")
        equal(body[:6], b"steady", "a message")
        channel.basic_ack(method.delivery_tag)
    connection.close()


def prepare(broker):
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.amqp))
    channel = connection.channel()
    channel.queue_declare("steady", durable=True)
    channel.confirm_delivery()
    for number in range(10):
        channel.basic_publish("", "steady", b"steady %d" % number, pika.BasicProperties(delivery_mode=2))
    connection.close()


def see_resumed(broker, live, waiting):
    for one in live:
        one.await_acknowledged(100)
    wait_until(lambda: not live[3].blocked, 20, "connection.unblocked")
    equal(metric(broker, "polylog_disk_full"), 0, "the metric")
    if waiting:
        equal(waiting.wait(20), 0, "mosquitto_pub's status")
        waiting.stderr.close()


def check_nothing_lost(live):
    for one in live:
        one.stop()
        missing = one.missing()
        assert not missing, f"{one.name}: {len(missing)} acknowledged lost, first {min(missing)}"
        print(f"    {one.name}: {len(one.acknowledged)} acknowledged, all there")


@suite.case("publishers are refused or held, deleting a topic frees them, also after kill -9")
def fill_free_resume():
    with SmallDisk() as broker:
        prepare(broker)
        live = [publisher(broker) for publisher in PUBLISHERS]
        try:
            for one in live:
                one.await_acknowledged(100)
            fill(broker, "ballast")
            waiting = see_blocked(broker, live)
            delete_topic(broker, "ballast")
            see_resumed(broker, live, waiting)
            text = log_of(broker)
            for line in ("storage.disk.high_watermark_free_bytes is 12582912",
                         "storage.disk.low_watermark_free_bytes is 20971520"):
                assert any(line in each and broker.data in each and "octets are free" in each
                           for each in text.splitlines()), f"no line of the log says {line}"

            kept = fill(broker, "more")
            broker.kill()
            broker.start()
            kept += fill(broker, "more")  # what the crash has given back
            waiting = see_blocked(broker, live)
            assert set(kept) <= set(read_topic(broker, "more")), "acknowledged ballast is lost"
            delete_topic(broker, "more")
            see_resumed(broker, live, waiting)
            check_nothing_lost(live)
            lines = [int(value) for value in read_topic(broker, "mosquitto") if value != b"refused"]
            equal(sorted(set(lines)), list(range(50)), "mosquitto_pub's lines")
            assert b"refused" not in read_topic(broker, "mosquitto"), "what was refused is stored"
        finally:
            for one in live:
                one.over = True


@suite.case("AMQP: a queue that fills the disk blocks its publisher until consumers have taken enough")
def consumers_free():
    with SmallDisk() as broker:
        body = os.urandom(64 << 10)
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", broker.amqp, heartbeat=0))  # it doesn't listen while it drains
        blocked = []
        connection.add_on_connection_blocked_callback(lambda *_: blocked.append(True))
        connection.add_on_connection_unblocked_callback(lambda *_: blocked.append(False))
        channel = connection.channel()
        channel.queue_declare("jobs", durable=True)
        confirms = []
        channel._impl.confirm_delivery(lambda frame: confirms.append(frame.method), lambda _: None)
        sent = 0

        def publish():
            channel._impl.basic_publish("", "jobs", b"%06d" % sent + body,
                                        pika.BasicProperties(delivery_mode=2))

        deadline = time.monotonic() + 60
        while not blocked:
            assert time.monotonic() < deadline, "not blocked within 60 s"
            publish()
            sent += 1
            connection.process_data_events(0.002)
        taken = [int(each[:6]) for each in drain(broker, "jobs")]
        deadline = time.monotonic() + 60
        while blocked[-1]:
            assert time.monotonic() < deadline, "still blocked after 60 s"
            connection.process_data_events(0.05)
        publish()
        sent += 1

        def all_confirmed():
            connection.process_data_events(0.05)
            last = confirms[-1]
            assert isinstance(last, pika.spec.Basic.Ack), f"a confirm was {last}"
            return last.delivery_tag == sent

        wait_until(all_confirmed, 20, "the last confirm")
        taken += [int(each[:6]) for each in drain(broker, "jobs")]
        equal(taken, list(range(sent)), "what came out of the queue")
        connection.close()


if __name__ == "__main__":
    if why := why_no_mount():
        print(f"skip full_disk: it needs a tmpfs of its own, which only root may mount ({why})")
        print("0 passed, 0 failed")
        sys.exit(0)
    sys.exit(suite.run())
