#!/usr/bin/python3
"""No acknowledged message is lost: publishers under load, kill -9 at a random moment, restart, read
back. What the clients saw is logged as a history, and the checker in history/ judges it after each round:
everything acknowledged is there, once, in the order sent, and what was read stays where it was.

    loss.py [--rounds N] [--seed N] [--history FILE] [mqtt] [kafka] [amqp]

In every other round a reader follows the log while it is written, and what it saw has to be there after
the crash. For AMQP a consumer acknowledges meanwhile: what was confirmed and not acknowledged is there;
what was acknowledged comes again only if the crash was faster than the journal, flagged as redelivered.
With --history the whole history stays on disk, in FILE.PROTOCOL, for `python3 -m history FILE.PROTOCOL`.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time

import confluent_kafka
import pika
from confluent_kafka.admin import AdminClient, NewTopic
from pika.exceptions import AMQPError

from history.checker import Checker
from history.events import History, about, save
from lib.amqp_clients import connect
from lib.broker import Broker
from lib.cases import Suite, wait_until
from lib.mqtt_clients import PahoClient

PUBLISHERS = 4
# Small segments and frequent checkpoints, so that crashes fall into rolls, flushes and rewritings too.
SETTINGS = ["storage.segment_bytes=1048576", "storage.checkpoint_bytes=1048576",
            "storage.retention_check_ms=100"]
FLAGS_SURVIVE = GAPLESS = True
LOADS = ["mqtt", "kafka", "amqp"]
if os.environ.get("BROKER") == "rabbitmq":  # the AMQP load is sound if it finds nothing there
    from lib.rabbitmq import RabbitMQ as Broker  # noqa: F811
    SETTINGS, LOADS, FLAGS_SURVIVE, GAPLESS = [], ["amqp"], False, False


class Doomed:
    """Writes what retention deletes at once, so that the segments that the loads share are rewritten."""

    topic = "doomed"

    def __init__(self, broker):
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": broker.kafka, "acks": "1", "linger.ms": 5, "log_level": 0,
            "message.timeout.ms": 2000})
        self.stopped = False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    @classmethod
    def create(cls, broker):
        admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
        topic = NewTopic(cls.topic, 1, 1, config={"retention.bytes": "100000"})
        admin.create_topics([topic])[cls.topic].result(20)

    def _run(self):
        body = os.urandom(8000)
        while not self.stopped:
            try:
                self.producer.produce(self.topic, body)
                self.producer.poll(0.001)
            except BufferError:
                self.producer.poll(0.01)

    def stop(self):
        self.stopped = True
        self.thread.join()
        self.producer.purge()


def rewritten_segments(broker):
    return {name for name in os.listdir(os.path.join(broker.data, "journal")) if "-" in name}


class Load:
    """Publishers of numbered messages, "publisher:number", to one topic; what they do is logged."""

    options = {}

    def __init__(self, broker, numbers, history):
        self.broker = broker
        self.numbers = numbers  # publisher -> its next number
        self.history = history
        self.acknowledged = False  # anything
        self.stopped = False
        self.threads = []
        self.failures = []

    def begin(self, work, *arguments):
        thread = threading.Thread(target=self._guarded, args=(work, *arguments))
        self.threads.append(thread)
        thread.start()

    def _guarded(self, work, *arguments):
        try:
            work(*arguments)
        except AMQPError:
            pass  # of the crash
        except Exception as error:
            self.failures.append(error)

    def connected(self, name):
        self.history.log("publisher", self.topic, name, {"gapless": GAPLESS})

    def next(self, name):
        """The number to send now, and the message."""
        number = self.numbers[name]
        self.numbers[name] = number + 1
        self.history.log("send", self.topic, name, number)
        return number, b"%s:%d" % (name.encode(), number)

    def confirm(self, name, number, *place):
        self.history.log("ack", self.topic, name, number, *place)
        self.acknowledged = True

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()
        self.disconnect()
        assert not self.failures, self.failures

    def disconnect(self):
        pass


class LogLoad(Load):
    """A load whose records are read back from the log over Kafka."""

    options = {"kind": "log", "dense": True}

    def follow(self, position):
        """Reads what is written, from `position` (a dict of partition to offset) on."""
        if position:
            self.begin(self._follow, dict(position))

    def _follow(self, position):
        consumer = reader(self.broker)
        self._assign(consumer, "follower", position)
        while not self.stopped:
            self._log_reads("follower", consumer.consume(10000, timeout=0.05))
        consumer.close()

    def _assign(self, consumer, name, position):
        consumer.assign([confluent_kafka.TopicPartition(self.topic, *place) for place in position.items()])
        self.history.log("consumer", self.topic, name, {})
        for partition, offset in position.items():
            self.history.log("assign", self.topic, name, partition, offset)

    def _log_reads(self, name, messages):
        for message in messages:
            if message.error() is not None:
                assert self.stopped or name == "follower", message.error()
                continue
            self.history.log("read", self.topic, name, *split(message.value()), message.partition(),
                             message.offset())

    def verify(self, position):
        """Reads all records from `position`, which is moved on, to the end."""
        consumer = reader(self.broker)
        partitions = consumer.list_topics(self.topic, timeout=20).topics[self.topic].partitions
        ends = {p: consumer.get_watermark_offsets(confluent_kafka.TopicPartition(self.topic, p), timeout=20)[1]
                for p in partitions}
        for partition in partitions:
            position.setdefault(partition, 0)
        self._assign(consumer, "reader", position)
        deadline = time.monotonic() + 60
        while any(position[p] < end for p, end in ends.items()):
            batch = consumer.consume(10000, timeout=0.2)
            self._log_reads("reader", batch)
            for message in batch:
                position[message.partition()] = message.offset() + 1
                deadline = time.monotonic() + 60
            assert time.monotonic() < deadline, f"nothing came for a minute at {position} of {ends}"
        consumer.close()
        self.history.log("complete", self.topic)
        self.history.log("forget", self.topic)


class MqttLoad(LogLoad):
    """Half of the publishers at QoS 1, half at QoS 2."""

    topic = "loss"

    def __init__(self, broker, numbers, history):
        super().__init__(broker, numbers, history)
        self.clients = []
        for index, name in enumerate(numbers):
            client = PahoClient(broker, f"load-{name}")
            self.clients.append(client)
            client.client.on_disconnect = None
            # The packet id is known only after publish(), and the acknowledgement may be faster.
            waiting, early, lock = {}, set(), threading.Lock()
            client.client.on_publish = self._collector(name, waiting, early, lock)
            self.connected(name)
            self.begin(self._run, name, client.client, 1 + index % 2, waiting, early, lock)

    def _collector(self, name, waiting, early, lock):
        def collect(_client, _userdata, mid):
            with lock:
                number = waiting.pop(mid, None)
                if number is None:
                    early.add(mid)
                    return
            self.confirm(name, number)

        return collect

    def _run(self, name, client, qos, waiting, early, lock):
        while not self.stopped:
            if len(client._out_messages) > 200:
                time.sleep(0.001)
                continue
            number, message = self.next(name)
            mid = client.publish(f"{self.topic}/{name}", message, qos).mid
            with lock:
                answered = mid in early
                if answered:
                    early.remove(mid)
                else:
                    waiting[mid] = number
            if answered:
                self.confirm(name, number)

    def disconnect(self):
        for client in self.clients:
            client.drop()


class KafkaLoad(LogLoad):
    """librdkafka producers, idempotent and plain by turns."""

    topic = "loss-kafka"

    def __init__(self, broker, numbers, history):
        super().__init__(broker, numbers, history)
        self.producers = []
        for index, name in enumerate(numbers):
            producer = confluent_kafka.Producer({
                "bootstrap.servers": broker.kafka, "enable.idempotence": index % 2 == 0,
                "acks": "all", "linger.ms": 2, "message.timeout.ms": 30000,
                "max.in.flight.requests.per.connection": 5 if index % 2 == 0 else 1,
                "message.send.max.retries": 0 if index % 2 else 1000000,
                "compression.type": ["none", "lz4", "zstd", "snappy"][index % 4], "log_level": 0})
            self.producers.append(producer)
            self.connected(name)
            self.begin(self._run, name, producer)

    def _run(self, name, producer):
        while not self.stopped:
            number, message = self.next(name)
            while not self.stopped:
                try:
                    producer.produce(self.topic, message, name.encode(),
                                     on_delivery=self._collector(name, number))
                    break
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0)
            if len(producer) > 5000:
                producer.poll(0.005)

    def _collector(self, name, number):
        def collect(error, message):
            if error is None:
                self.confirm(name, number, message.partition(), message.offset())

        return collect

    def disconnect(self):
        for producer in self.producers:
            producer.purge()
            producer.flush(10)


class AmqpLoad(Load):
    """pika publishers with confirms, through an exchange to a durable queue; beside them a consumer
    that acknowledges some and leaves some unacknowledged until the crash."""

    topic, exchange = "loss", "loss.exchange"  # the history's topic is the queue
    options = {"kind": "queue", "flags_survive": FLAGS_SURVIVE}

    def __init__(self, broker, numbers, history):
        super().__init__(broker, numbers, history)
        connection = connect(broker)
        channel = connection.channel()
        channel.exchange_declare(self.exchange, "fanout", durable=True)
        channel.queue_declare(self.topic, durable=True)
        channel.queue_bind(self.topic, self.exchange)
        connection.close()
        for name in numbers:
            self.begin(self._publish, name)
        self.begin(self._consume)

    def follow(self, _position):
        pass  # the consumer does so in every round

    def _publish(self, name):
        """Up to 100 unconfirmed at a time. BlockingConnection would wait for each, so the channel
        below it takes the confirms."""
        connection = connect(self.broker)
        channel = connection.channel()._impl
        waiting = {}  # tag -> number

        def confirmed(frame):
            answer = frame.method
            assert isinstance(answer, pika.spec.Basic.Ack), f"a confirm was {answer}"
            tags = [answer.delivery_tag]
            if answer.multiple:
                tags = [tag for tag in waiting if tag <= answer.delivery_tag]
            for tag in tags:
                self.confirm(name, waiting.pop(tag))

        channel.confirm_delivery(confirmed, lambda _: None)
        self.connected(name)
        tag = 0
        while not self.stopped:
            while len(waiting) < 100:
                number, message = self.next(name)
                tag += 1
                waiting[tag] = number
                channel.basic_publish(self.exchange, "", message, pika.BasicProperties(delivery_mode=2))
            connection.process_data_events(0.01)

    def _delivered(self, consumer, body, redelivered):
        """(publisher, number)"""
        message = split(body)
        self.history.log("deliver", self.topic, consumer, *message, redelivered)
        return message

    def _done(self, consumer, messages):
        """To be called before the acknowledgement is sent, as it may be the last thing that is."""
        for message in messages:
            self.history.log("done", self.topic, consumer, *message)

    def _consume(self):
        connection = connect(self.broker)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=200)
        self.history.log("consumer", self.topic, "consumer", {})
        batch, batches, held = [], 0, 0
        for method, _, body in channel.consume(self.topic, inactivity_timeout=0.05):
            if self.stopped:
                return
            if method is None:
                continue
            batch.append((self._delivered("consumer", body, method.redelivered), method.delivery_tag))
            if len(batch) < 20:
                continue
            batches += 1
            if batches % 4 == 0 and held < 5:
                held += 1
            else:
                self._done("consumer", [message for message, _ in batch])
                if held == 0:
                    channel.basic_ack(batch[-1][1], multiple=True)
                else:
                    for _, tag in batch:
                        channel.basic_ack(tag)
            batch = []

    def verify(self, _position):
        connection = connect(self.broker)
        channel = connection.channel()
        count = channel.queue_declare(self.topic, passive=True).method.message_count
        channel.basic_qos(prefetch_count=1000)
        self.history.log("consumer", self.topic, "drain", {})
        batch = []
        for method, _, body in channel.consume(self.topic, inactivity_timeout=20) if count else ():
            assert method is not None, f"{count} more were announced than came"
            batch.append(self._delivered("drain", body, method.redelivered))
            count -= 1
            if count % 500 == 0:
                self._done("drain", batch)
                channel.basic_ack(method.delivery_tag, multiple=True)
                batch = []
            if count == 0:
                break
        self.history.log("complete", self.topic)
        self.history.log("leave", self.topic, "drain")
        connection.close()
        self.history.log("closed", self.topic, "drain")


def reader(broker):
    return confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "reader", "enable.auto.commit": False,
        "auto.offset.reset": "error", "check.crcs": True, "log_level": 0})


def split(body):
    """(publisher, number) of a message, or (None, an excerpt) of what isn't one of ours."""
    name, _, number = body.decode(errors="replace").partition(":")
    return (name, int(number)) if number.isdecimal() else (None, repr(body[:60]))


def judge(checker, events):
    """Raises with what is wrong; prints what a person needs to look it up, and leaves the round's history."""
    first = checker.line
    report = checker.feed(events).finish()
    if report.ok:
        return
    with tempfile.NamedTemporaryFile(prefix="loss-history-", delete=False) as file:
        save(file.name, events)
    print(report)
    print(f"    this round's history, from line {first + 1} on: {file.name}; about the examples:")
    for line, event in about(events, report.messages()):
        print(f"    {first + line}: {json.dumps(event)}")
    raise AssertionError(", ".join(f"{kind}: {count}" for kind, count in report.counts.items()))


def rounds(load, count, seed, path):
    def run():
        dice = random.Random(seed)
        numbers = {f"p{index}": 0 for index in range(PUBLISHERS)}
        position = {}
        history, checker = History(path), Checker()
        history.log("topic", load.topic, load.options)
        rewritten = set()
        with Broker(SETTINGS) as broker:
            if SETTINGS:
                Doomed.create(broker)
            for number in range(count):
                history.log("note", f"round {number}, seed {seed}, {time.ctime()}")
                doomed = SETTINGS and Doomed(broker)
                publishers = load(broker, numbers, history)
                if number // 2 % 2:
                    publishers.follow(position)
                if number % 2:  # librdkafka takes most of a second to begin
                    # Long: a machine's disk may take half a minute over a sync under load.
                    wait_until(lambda: publishers.acknowledged, 120, "acknowledgement")
                # The random moment; now and then late enough for segments to be rewritten.
                time.sleep(dice.uniform(0.05, 1.0) + (dice.uniform(1.0, 3.0) if number % 4 == 2 else 0))
                broker.kill()
                publishers.stop()
                history.log("crash")
                if doomed:
                    doomed.stop()
                    rewritten |= rewritten_segments(broker)
                broker.start()
                history.log("restart")
                publishers.verify(position)
                judge(checker, history.take())
        history.close()
        assert checker.report.acknowledged > count, "the load acknowledged next to nothing"
        assert rewritten or count < 100 or not SETTINGS, "no segment was ever rewritten"
        print(f"    {checker.report.summary()} over {count} rounds, seed {seed}; "
              f"{len(rewritten)} rewritten segments seen")

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--history", metavar="FILE")
    parser.add_argument("only", nargs="*")
    options = parser.parse_args()
    suite = Suite("loss")
    for name, load in (("mqtt", MqttLoad), ("kafka", KafkaLoad), ("amqp", AmqpLoad)):
        if name not in LOADS:
            continue
        suite.add(f"{name}: {options.rounds} kills under load (seed {options.seed})",
                  rounds(load, options.rounds, options.seed,
                         options.history and f"{options.history}.{name}"))
    sys.exit(suite.run(options.only))
