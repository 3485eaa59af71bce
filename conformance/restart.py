#!/usr/bin/python3
"""What is there after kill -9 and start: everything that a client was told is so."""

import os
import socket
import struct
import sys
import time

import confluent_kafka
import kafka
import paho.mqtt.client as paho
import pika
from confluent_kafka.admin import AdminClient, NewTopic
from pika import spec

from amqp.peer import Peer, confirmed, depth, drain
from lib.amqp_raw import Raw, method, publish
from lib.broker import Broker
from lib.cases import Suite, equal
from lib.kafka_clients import read_confluent, read_kafka_python
from lib.mqtt_clients import PahoClient

suite = Suite("restart")


def payloads(messages):
    return [message.payload for message in messages]


@suite.case("topics, their partitions and their records")
def topics():
    with Broker() as broker:
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("orders", 3, 1)])["orders"].result(20)
        producer = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all")
        for number in range(30):
            producer.send("orders", key=b"k%d" % number, value=b"v%d" % number,
                          partition=number % 3).get(20)
        identity = broker_cluster_id(broker)
        broker.restart()
        equal(broker_cluster_id(broker), identity, "cluster id")
        consumer = kafka.KafkaConsumer(bootstrap_servers=broker.kafka, consumer_timeout_ms=20000)
        equal(consumer.partitions_for_topic("orders"), {0, 1, 2}, "partitions")
        consumer.assign([kafka.TopicPartition("orders", 1)])
        consumer.seek_to_beginning()
        values = [next(consumer).value for _ in range(10)]
        equal(values, [b"v%d" % number for number in range(1, 30, 3)], "partition 1")


def broker_cluster_id(broker):
    return AdminClient({"bootstrap.servers": broker.kafka}).list_topics(timeout=20).cluster_id


@suite.case("committed offsets of a consumer group")
def group_offsets():
    with Broker() as broker:
        producer = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all")
        for number in range(100):
            producer.send("jobs", b"%d" % number)
        producer.flush(20)

        def consume(count):
            consumer = confluent_kafka.Consumer({
                "bootstrap.servers": broker.kafka, "group.id": "workers",
                "auto.offset.reset": "earliest", "enable.auto.commit": False})
            consumer.subscribe(["jobs"])
            values = []
            while len(values) < count:
                message = consumer.poll(20)
                assert message is not None and message.error() is None, message
                values.append(int(message.value()))
            consumer.commit(message=message, asynchronous=False)
            consumer.close()
            return values

        equal(consume(40), list(range(40)), "before")
        broker.restart()
        equal(consume(60), list(range(40, 100)), "after")


@suite.case("a member goes on in its group after the restart without being sent away")
def group_member():
    with Broker() as broker:
        producer = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all")
        producer.send("live", b"0").get(20)
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": "stayers",
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 200})
        consumer.subscribe(["live"])
        message = consumer.poll(20)
        equal(message.value(), b"0", "before")
        consumer.commit(message=message, asynchronous=False)
        broker.restart()
        again = kafka.KafkaProducer(bootstrap_servers=broker.kafka, acks="all")
        again.send("live", b"1").get(20)
        for _ in range(40):
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                break
        equal(message and message.value(), b"1", "after")
        consumer.commit(message=message, asynchronous=False)
        consumer.close()


def session_case(version, title, options):
    @suite.case(f"persistent session, MQTT {title}: subscriptions and waiting messages")
    def check():
        with Broker() as broker:
            sleeper = PahoClient(broker, "sleeper", version, clean=False, **options)
            assert not sleeper.session_present
            sleeper.subscribe("alarms/+/fire", 2)
            sleeper.subscribe("news/#", 1)
            sleeper.drop()
            sender = PahoClient(broker, "sender")
            for number in range(20):
                sender.publish(f"alarms/{number}/fire", b"%d" % number, 2)
                sender.publish("news/today", b"n%d" % number, 1)
            sender.publish("news/today", b"not kept", 0)
            sender.client.loop_stop()
            broker.restart()
            back = PahoClient(broker, "sleeper", version, clean=False, **options)
            assert back.session_present, "the session is gone"
            seen = back.expect(40)
            equal([m.payload for m in seen if m.topic.startswith("alarms")],
                  [b"%d" % number for number in range(20)], "QoS 2")
            equal([m.payload for m in seen if m.topic.startswith("news")],
                  [b"n%d" % number for number in range(20)], "QoS 1")
            equal({(m.topic.split("/")[0], m.qos) for m in seen}, {("alarms", 2), ("news", 1)}, "QoS")
            sender = PahoClient(broker, "sender")
            sender.publish("alarms/new/fire", b"live", 1)
            equal(back.expect(41)[-1].payload, b"live", "live delivery")
            back.close()
            # A PUBACK is promised nothing: it is journaled within 100 ms, and its message may come again
            # if a crash is faster.
            time.sleep(0.5)
            broker.restart()
            last = PahoClient(broker, "sleeper", version, clean=False, **options)
            sender = PahoClient(broker, "sender")
            sender.publish("alarms/new/fire", b"once more", 1)
            equal(payloads(last.expect(1)), [b"once more"], "acknowledged messages don't come again")
            last.close()
            sender.close()


session_case(paho.MQTTv311, "3.1.1", {})
session_case(paho.MQTTv5, "5.0", {"expiry": 3600})


@suite.case("a clean session and an expired one are gone")
def sessions_that_end():
    with Broker() as broker:
        for client_id, expiry in (("brief", 1), ("clean", 0)):
            client = PahoClient(broker, client_id, clean=False, expiry=expiry)
            client.subscribe("a/#", 1)
            client.drop()
        kept = PahoClient(broker, "kept", clean=False, expiry=1000)
        kept.subscribe("a/#", 1)
        kept.drop()
        broker.restart()
        assert PahoClient(broker, "kept", clean=False, expiry=1000).session_present
        assert not PahoClient(broker, "clean", clean=False).session_present


@suite.case("retained messages with their properties; cleared ones stay cleared")
def retained():
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    with Broker() as broker:
        sender = PahoClient(broker, "sender")
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "text/plain"
        properties.UserProperty = [("unit", "C"), ("unit", "again")]
        sender.publish("state/kept", b"on", 1, True, properties)
        sender.publish("state/replaced", b"old", 1, True)
        sender.publish("state/replaced", b"new", 1, True)
        sender.publish("state/cleared", b"gone", 1, True)
        sender.publish("state/cleared", b"", 1, True)
        sender.client.loop_stop()
        broker.restart()
        reader = PahoClient(broker, "reader")
        reader.subscribe("state/#", 1)
        sender = PahoClient(broker, "sender")
        sender.publish("state/end", b"end", 1)
        seen = reader.expect(3)
        equal(sorted((m.topic, m.payload, m.retain) for m in seen),
              [("state/end", b"end", False), ("state/kept", b"on", True),
               ("state/replaced", b"new", True)], "retained")
        kept = next(m for m in seen if m.topic == "state/kept").properties
        equal((kept.ContentType, kept.UserProperty),
              ("text/plain", [("unit", "C"), ("unit", "again")]), "properties")


class RawMqtt:
    """MQTT 3.1.1 packets by hand, for what no client library lets one do."""

    def __init__(self, broker, client_id):
        self.socket = socket.create_connection(("127.0.0.1", broker.mqtt), 20)
        body = struct.pack(">H4sBBH", 4, b"MQTT", 4, 0, 60)
        body += struct.pack(">H", len(client_id)) + client_id
        self.send(0x10, body)
        kind, answer = self.receive()
        equal((kind, answer[1]), (0x20, 0), "CONNACK")
        self.session_present = answer[0]

    def send(self, head, body):
        assert len(body) < 128
        self.socket.sendall(bytes([head, len(body)]) + body)

    def receive(self):
        head, size = self._exactly(2)
        assert size < 128
        return head, self._exactly(size)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, "the broker closed the connection"
            data += piece
        return data

    def publish(self, topic, packet_id, payload, duplicate=False):
        self.send(0x34 | (8 if duplicate else 0),
                  struct.pack(">H", len(topic)) + topic + struct.pack(">H", packet_id) + payload)


@suite.case("QoS 2, publisher's half: a repeated PUBLISH after the crash isn't stored twice")
def qos2_in():
    with Broker() as broker:
        client = RawMqtt(broker, b"exact")
        client.publish(b"exact/once", 7, b"payload")
        equal(client.receive(), (0x50, b"\x00\x07"), "PUBREC")
        broker.restart()
        client = RawMqtt(broker, b"exact")
        equal(client.session_present, 1, "session present")
        client.publish(b"exact/once", 7, b"payload", duplicate=True)
        equal(client.receive(), (0x50, b"\x00\x07"), "PUBREC again")
        client.send(0x62, b"\x00\x07")
        equal(client.receive(), (0x70, b"\x00\x07"), "PUBCOMP")
        client.publish(b"exact/once", 7, b"another")
        equal(client.receive(), (0x50, b"\x00\x07"), "PUBREC of the id's next use")
        equal([record.value for record in read_kafka_python(broker, "exact", 2)],
              [b"payload", b"another"], "stored")


@suite.case("QoS 2, subscriber's half: after its PUBREC only PUBREL comes again, same packet id")
def qos2_out():
    with Broker() as broker:
        client = RawMqtt(broker, b"exact")
        client.send(0x82, b"\x00\x01\x00\x03t/#\x02")
        equal(client.receive(), (0x90, b"\x00\x01\x02"), "SUBACK")
        sender = PahoClient(broker, "sender")
        sender.publish("t/x", b"one", 2)
        sender.publish("t/x", b"two", 2)
        first, second = client.receive(), client.receive()
        equal((first[0] & 0xF6, second[0] & 0xF6), (0x34, 0x34), "PUBLISH")
        ids = [packet[1][5:7] for packet in (first, second)]
        client.send(0x50, ids[0])
        equal(client.receive(), (0x62, ids[0]), "PUBREL")
        sender.client.loop_stop()
        broker.restart()
        client = RawMqtt(broker, b"exact")
        came = sorted([client.receive(), client.receive()])
        equal(came[0][0] & 0xF6, 0x34, "the second PUBLISH again")
        equal(came[0][0] & 8, 8, "marked as a duplicate")
        equal(came[0][1][5:], ids[1] + b"two", "same packet id and payload")
        equal(came[1], (0x62, ids[0]), "PUBREL of the first")
        client.send(0x70, ids[0])
        client.send(0x50, ids[1])
        equal(client.receive(), (0x62, ids[1]), "PUBREL of the second")
        client.send(0x70, ids[1])
        client.send(0xC0, b"")
        equal(client.receive(), (0xD0, b""), "nothing else waits")


@suite.case("an idempotent producer goes on with its sequence; its repeats are not stored again")
def idempotent():
    from kafka.protocol.produce import ProduceRequest
    from kafka.record.default_records import DefaultRecordBatchBuilder
    with Broker() as broker:
        read_metadata(broker, "exactly")
        producer_id = init_producer(broker)

        def produce(sequence, texts):
            builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id, 0, sequence, 1 << 20)
            for index, text in enumerate(texts):
                builder.append(index, 1000 + index, None, text, [])
            request = ProduceRequest[7](None, -1, 10000, [("exactly", [(0, bytes(builder.build()))])])
            partition = ask(broker, request).topics[0][1][0]
            return partition[1], partition[2]

        equal(produce(0, [b"a", b"b"]), (0, 0), "first")
        equal(produce(2, [b"c"]), (0, 2), "second")
        broker.restart()
        equal(produce(2, [b"c"]), (0, 2), "the second again: answered as a success")
        equal(produce(0, [b"a", b"b"]), (0, 0), "the first again")
        equal(produce(9, [b"gap"])[0], 45, "a gap: OUT_OF_ORDER_SEQUENCE_NUMBER")
        equal(produce(3, [b"d"]), (0, 3), "third")
        equal([record.value for record in read_kafka_python(broker, "exactly", 4)],
              [b"a", b"b", b"c", b"d"], "stored")
        assert init_producer(broker) != producer_id, "a producer id was given twice"


@suite.case("librdkafka's idempotent producer over a kill -9 in the middle: no gap, no duplicate")
def idempotent_librdkafka():
    with Broker() as broker:
        producer = confluent_kafka.Producer({
            "bootstrap.servers": broker.kafka, "enable.idempotence": True, "linger.ms": 1,
            "reconnect.backoff.max.ms": 100, "message.timeout.ms": 60000})
        failures = []
        for number in range(3000):
            producer.produce("steady", b"%d" % number,
                             on_delivery=lambda error, _: error and failures.append(error))
            producer.poll(0)
            if number in (1000, 2000):
                broker.restart()
        equal(producer.flush(60), 0, "left over")
        equal(failures, [], "delivery errors")
        equal([int(record.value) for record in read_confluent(broker, "steady", 3000)],
              list(range(3000)), "stored")


def ask(broker, request):
    """One request over a connection of kafka-python's, without its client's cleverness."""
    from kafka.conn import BrokerConnection
    host, port = broker.kafka.split(":")
    connection = BrokerConnection(host, int(port), socket.AF_INET, api_version=(2, 0, 0))
    assert connection.connect_blocking(20)
    future = connection.send(request)
    while not future.is_done:
        for response, done in connection.recv():
            done.success(response)
    connection.close()
    if future.failed():
        raise future.exception
    return future.value


def read_metadata(broker, topic):
    """Makes the topic come by itself."""
    kafka.KafkaProducer(bootstrap_servers=broker.kafka).partitions_for(topic)


def init_producer(broker):
    from kafka.protocol.api import Request, Response
    from kafka.protocol.types import Int16, Int32, Int64, Schema, String

    class InitProducerIdResponse(Response):
        API_KEY, API_VERSION = 22, 0
        SCHEMA = Schema(("throttle", Int32), ("error", Int16), ("producer_id", Int64),
                        ("producer_epoch", Int16))

    class InitProducerIdRequest(Request):
        API_KEY, API_VERSION = 22, 0
        RESPONSE_TYPE = InitProducerIdResponse
        SCHEMA = Schema(("transactional_id", String("utf-8")), ("timeout", Int32))

    answer = ask(broker, InitProducerIdRequest(None, 60000))
    equal((answer.error, answer.producer_epoch), (0, 0), "InitProducerId")
    return answer.producer_id


@suite.case("AMQP: durable exchanges, bindings and queues; what waits, what is unacknowledged, in order")
def amqp_queues():
    with Broker() as broker:
        peer = Peer(broker)
        channel = peer.channel
        channel.exchange_declare("e.orders", "topic", durable=True,
                                 arguments={"alternate-exchange": "e.rest"})
        channel.exchange_declare("e.rest", "fanout", durable=True)
        channel.exchange_declare("e.next", "headers", durable=True)
        channel.exchange_declare("e.brief", "direct")
        channel.queue_declare("q.work", durable=True, arguments={"x-queue-mode": "lazy"})
        for name in ("q.rest", "q.next", "q.unbound"):
            channel.queue_declare(name, durable=True)
        channel.queue_declare("q.brief")
        channel.queue_declare("q.mine", durable=True, exclusive=True)
        channel.queue_bind("q.work", "e.orders", "order.#")
        channel.queue_bind("q.unbound", "e.orders", "order.#")
        channel.queue_unbind("q.unbound", "e.orders", "order.#")
        channel.queue_bind("q.rest", "e.rest")
        channel.exchange_bind("e.next", "e.orders", "order.urgent")
        channel.queue_bind("q.next", "e.next", "", {"x-match": "any", "kind": 7})
        sender = peer.open(confirms=True)
        for number in range(20):
            sender.basic_publish("e.orders", "order.new", b"%d" % number, pika.BasicProperties(
                delivery_mode=2, message_id=str(number), headers={"kind": number, "text": "a"}))
        taker = peer.open()
        tags = [taker.basic_get("q.work")[0].delivery_tag for _ in range(8)]
        for tag in tags[:5]:
            taker.basic_ack(tag)
        peer.attempt(lambda c: c.queue_declare("q.work", passive=True))
        # An acknowledgement is promised nothing: it is journaled within 100 ms.
        time.sleep(0.5)
        broker.restart()

        peer = Peer(broker)
        channel = peer.channel
        for name, there in (("q.work", True), ("q.rest", True), ("q.next", True), ("q.unbound", True),
                            ("q.brief", False), ("q.mine", False)):
            equal(peer.attempt(lambda c: c.queue_declare(name, passive=True)) == "fine", there, name)
        for name, there in (("e.orders", True), ("e.rest", True), ("e.next", True), ("e.brief", False)):
            equal(peer.attempt(lambda c: c.exchange_declare(name, passive=True)) == "fine", there, name)
        equal(peer.attempt(lambda c: c.exchange_declare(
            "e.orders", "topic", durable=True, arguments={"alternate-exchange": "e.rest"})), "fine",
            "the same exchange")
        assert "inequivalent arg 'x-queue-mode'" in peer.attempt(
            lambda c: c.queue_declare("q.work", durable=True)), "the queue's arguments"
        equal(depth(channel, "q.work"), (15, 0), "waiting")
        for number in range(5, 20):
            got, properties, body = channel.basic_get("q.work", True)
            equal((body, properties.message_id, properties.headers, properties.delivery_mode),
                  (b"%d" % number, str(number), {"kind": number, "text": "a"}, 2), "message")
            if number < 8:
                equal(got.redelivered, True, f"redelivered flag of {number}")
        # Exchanges and bindings route as before.
        sender = peer.open(confirms=True)
        for key, kind in (("order.urgent", 7), ("order.urgent", 8), ("other", 7)):
            confirmed(peer, "e.orders", [(key, b"%s %d" % (key.encode(), kind))], sender,
                      headers={"kind": kind})
        equal(drain(channel, "q.work"), [b"order.urgent 7", b"order.urgent 8"], "topic binding")
        equal(drain(channel, "q.next"), [b"order.urgent 7"], "exchange binding, headers binding")
        equal(drain(channel, "q.rest"), [b"other 7"], "alternate exchange")
        equal(drain(channel, "q.unbound"), [], "unbound")
        peer.close()


@suite.case("AMQP: one 10 KiB message to a fanout of 1,000 durable queues costs its payload once")
def amqp_fanout():
    with Broker() as broker:
        raw = Raw(broker)
        raw.ask(1, spec.Exchange.Declare(exchange="e.fan", type="fanout", durable=True))
        names = [f"fan.{number}" for number in range(1000)]
        raw.send(b"".join(method(1, which) for name in names for which in (
            spec.Queue.Declare(queue=name, durable=True),
            spec.Queue.Bind(queue=name, exchange="e.fan"))))
        for _ in range(2 * len(names)):
            assert isinstance(raw.receive().method, (spec.Queue.DeclareOk, spec.Queue.BindOk))
        raw.ask(1, spec.Confirm.Select())
        raw.send(publish(1, "", "fan.0", b"warm", b"\x10\x00\x02"))
        assert isinstance(raw.receive().method, spec.Basic.Ack)
        raw.send(method(1, spec.Basic.Get(queue="fan.0", no_ack=True)))
        equal(raw.delivered()[2], b"warm", "the warm-up")
        payload = os.urandom(10240)
        before = broker.data_bytes()
        raw.send(publish(1, "e.fan", "", payload, b"\x10\x00\x02"))
        assert isinstance(raw.receive().method, spec.Basic.Ack)
        grown = broker.data_bytes() - before
        print(f"    the data directory grew by {grown} octets")
        assert grown < 100 << 10, f"the data directory grew by {grown} octets"
        for restarted in (False, True):
            if restarted:
                broker.restart()
                raw = Raw(broker)
            for name in names:
                raw.send(method(1, spec.Basic.Get(queue=name, no_ack=restarted)))
                got, _, body = raw.delivered()
                equal((body, got.message_count), (payload, 0), name)


@suite.case("SIGTERM drains, exits with 0, and the next start finds everything")
def orderly():
    with Broker() as broker:
        client = PahoClient(broker, "sleeper", clean=False, expiry=3600)
        client.subscribe("a/#", 1)
        client.drop()
        sender = PahoClient(broker, "sender")
        sender.publish("a/b", b"waits", 1)
        sender.close()
        equal(broker.stop(), 0, "exit status")
        broker.start()
        equal(payloads(PahoClient(broker, "sleeper", clean=False, expiry=3600).expect(1)),
              [b"waits"], "waiting")


if os.environ.get("BROKER") == "rabbitmq":  # its cases have AMQP in their titles
    from lib.rabbitmq import RabbitMQ as Broker  # noqa: F811

if __name__ == "__main__":
    sys.exit(suite.run())
