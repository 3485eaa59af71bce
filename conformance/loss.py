#!/usr/bin/python3
"""No acknowledged message is lost: publishers under load, kill -9 at a random moment, restart, read
back. Everything acknowledged is there, once, in the order sent, per publisher.

    loss.py [--rounds N] [--seed N] [mqtt] [kafka] [amqp]

For AMQP a consumer acknowledges meanwhile: what was confirmed and not acknowledged is there; what was
acknowledged comes again only if the crash was faster than the journal, flagged as redelivered.
"""

import argparse
import os
import random
import sys
import threading
import time

import confluent_kafka
import pika
from pika.exceptions import AMQPError

from lib.amqp_clients import connect
from lib.broker import Broker
from lib.cases import Suite, wait_until
from lib.mqtt_clients import PahoClient

PUBLISHERS = 4
# Small segments and frequent checkpoints, so that crashes fall into rolls and flushes too.
SETTINGS = ["storage.segment_bytes=4194304"]
FLAGS_SURVIVE = True
LOADS = ["mqtt", "kafka", "amqp"]
if os.environ.get("BROKER") == "rabbitmq":  # the AMQP load is sound if it finds nothing there
    from lib.rabbitmq import RabbitMQ as Broker  # noqa: F811
    SETTINGS, LOADS, FLAGS_SURVIVE = [], ["amqp"], False


class LogLoad:
    """A load whose records are read back from the log over Kafka."""

    def verify(self, broker, position, firsts):
        return check(read_back(broker, self.topic, position), self.acknowledged, firsts)


class MqttLoad(LogLoad):
    """Half of the publishers at QoS 1, half at QoS 2; a payload is "publisher:number"."""

    topic = "loss"

    def __init__(self, broker, numbers):
        self.numbers = numbers
        self.acknowledged = {name: set() for name in numbers}
        self.stopped = False
        self.clients = {}
        self.threads = []
        for index, name in enumerate(numbers):
            client = PahoClient(broker, f"load-{name}")
            client.client.on_disconnect = None
            client.client.on_publish = self._collector(name, client)
            client.mids = {}
            self.clients[name] = client
            thread = threading.Thread(target=self._run, args=(name, client, 1 + index % 2))
            self.threads.append(thread)
        for thread in self.threads:
            thread.start()

    def _collector(self, name, client):
        def collect(_client, _userdata, mid):
            self.acknowledged[name].add(client.mids.get(mid))

        return collect

    def _run(self, name, client, qos):
        while not self.stopped:
            if client.client._out_messages.__len__() > 200:
                time.sleep(0.001)
                continue
            number = self.numbers[name]
            self.numbers[name] = number + 1
            # The id is known only after publish(); a lost entry here makes the check weaker, not wrong.
            info = client.client.publish(f"{self.topic}/{name}", b"%s:%d" % (name.encode(), number),
                                         qos)
            client.mids[info.mid] = number

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()
        for client in self.clients.values():
            client.drop()
        return self.acknowledged


class KafkaLoad(LogLoad):
    """librdkafka producers, idempotent and plain by turns, a partition's order checked by number."""

    topic = "loss-kafka"

    def __init__(self, broker, numbers):
        self.numbers = numbers
        self.acknowledged = {name: set() for name in numbers}
        self.stopped = False
        self.producers = []
        self.threads = []
        for index, name in enumerate(numbers):
            producer = confluent_kafka.Producer({
                "bootstrap.servers": broker.kafka, "enable.idempotence": index % 2 == 0,
                "acks": "all", "linger.ms": 2, "message.timeout.ms": 30000,
                "max.in.flight.requests.per.connection": 5 if index % 2 == 0 else 1,
                "message.send.max.retries": 0 if index % 2 else 1000000,
                "compression.type": ["none", "lz4", "zstd", "snappy"][index % 4], "log_level": 0})
            self.producers.append(producer)
            self.threads.append(threading.Thread(target=self._run, args=(name, producer)))
        for thread in self.threads:
            thread.start()

    def _run(self, name, producer):
        while not self.stopped:
            number = self.numbers[name]
            try:
                producer.produce(self.topic, b"%s:%d" % (name.encode(), number), name.encode(),
                                 on_delivery=self._collector(name, number))
            except BufferError:
                producer.poll(0.01)
                continue
            self.numbers[name] = number + 1
            producer.poll(0)
            if len(producer) > 5000:
                producer.poll(0.005)

    def _collector(self, name, number):
        def collect(error, _message):
            if error is None:
                self.acknowledged[name].add(number)

        return collect

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()
        for producer in self.producers:
            producer.purge()
            producer.flush(10)
        return self.acknowledged


class AmqpLoad:
    """pika publishers with confirms, through an exchange to a durable queue; beside them a consumer
    that acknowledges some and leaves some unacknowledged until the crash."""

    queue, exchange = "loss", "loss.exchange"

    def __init__(self, broker, numbers):
        self.numbers = numbers
        self.acknowledged = {name: set() for name in numbers}  # confirmed by the broker
        self.delivered = {name: [] for name in numbers}  # to the consumer, in order
        self.consumed = {name: set() for name in numbers}  # acknowledged by the consumer
        self.stopped = False
        self.failures = []
        connection = connect(broker)
        channel = connection.channel()
        channel.exchange_declare(self.exchange, "fanout", durable=True)
        channel.queue_declare(self.queue, durable=True)
        channel.queue_bind(self.queue, self.exchange)
        connection.close()
        works = [(self._publish, broker, name) for name in numbers] + [(self._consume, broker)]
        self.threads = [threading.Thread(target=self._until_the_crash, args=work) for work in works]
        for thread in self.threads:
            thread.start()

    def _until_the_crash(self, work, *arguments):
        try:
            work(*arguments)
        except AMQPError:
            pass
        except Exception as error:
            self.failures.append(error)

    def _publish(self, broker, name):
        """Up to 100 unconfirmed at a time. BlockingConnection would wait for each, so the channel
        below it takes the confirms."""
        connection = connect(broker)
        channel = connection.channel()._impl
        waiting = {}  # tag -> number

        def confirmed(frame):
            answer = frame.method
            assert isinstance(answer, pika.spec.Basic.Ack), f"a confirm was {answer}"
            tags = [answer.delivery_tag]
            if answer.multiple:
                tags = [tag for tag in waiting if tag <= answer.delivery_tag]
            self.acknowledged[name].update([waiting.pop(tag) for tag in tags])

        channel.confirm_delivery(confirmed, lambda _: None)
        tag = 0
        while not self.stopped:
            while len(waiting) < 100:
                number, tag = self.numbers[name], tag + 1
                self.numbers[name] = number + 1
                waiting[tag] = number
                channel.basic_publish(self.exchange, "", b"%s:%d" % (name.encode(), number),
                                      pika.BasicProperties(delivery_mode=2))
            connection.process_data_events(0.01)

    def _consume(self, broker):
        connection = connect(broker)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=200)
        batch, batches, held = [], 0, 0
        for method, _, body in channel.consume(self.queue, inactivity_timeout=0.05):
            if self.stopped:
                return
            if method is None:
                continue
            name, number = split(body)
            self.delivered[name].append((number, method.redelivered))
            batch.append((name, number, method.delivery_tag))
            if len(batch) < 20:
                continue
            batches += 1
            if batches % 4 == 0 and held < 5:
                held += 1
            else:
                for name, number, _ in batch:  # before it is sent: it may be the last thing that is
                    self.consumed[name].add(number)
                if held == 0:
                    channel.basic_ack(batch[-1][2], multiple=True)
                else:
                    for _, _, tag in batch:
                        channel.basic_ack(tag)
            batch = []

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures
        return self.acknowledged

    def verify(self, broker, consumed, _firsts):
        """`consumed` holds what was ever acknowledged by a consumer, over all rounds."""
        for name in self.numbers:
            consumed.setdefault(name, set()).update(self.consumed[name])
        left = {name: [] for name in self.numbers}
        connection = connect(broker)
        channel = connection.channel()
        count = channel.queue_declare(self.queue, passive=True).method.message_count
        channel.basic_qos(prefetch_count=1000)
        for method, _, body in channel.consume(self.queue, inactivity_timeout=20) if count else ():
            assert method is not None, f"{count} more were announced than came"
            name, number = split(body)
            left[name].append((number, method.redelivered))
            count -= 1
            if count % 500 == 0:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if count == 0:
                break
        connection.close()
        for name in self.numbers:
            missing = self.acknowledged[name] - {number for number, _ in left[name]} - consumed[name]
            assert not missing, f"{name}: {len(missing)} confirmed lost, first {min(missing)}"
            for what, seen in (("delivered", self.delivered[name]), ("left", left[name])):
                numbers = [number for number, _ in seen]
                assert numbers == sorted(set(numbers)), f"{name}: {what} out of order or doubled"
            seen_before = consumed[name] | {number for number, _ in self.delivered[name]}
            if FLAGS_SURVIVE:
                unmarked = [number for number, again in left[name] if number in seen_before and not again]
                assert not unmarked, f"{name}: {len(unmarked)} came again without the flag"
            consumed[name].update(number for number, _ in left[name])
        return sum(len(numbers) for numbers in self.acknowledged.values())


def split(body):
    name, number = body.decode().split(":")
    return name, int(number)


def read_back(broker, topic, position):
    """All records from `position` (a dict of partition to offset, moved on) to the end."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "reader", "enable.auto.commit": False,
        "auto.offset.reset": "error", "check.crcs": True})
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    ends = {p: consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, p), timeout=20)[1]
            for p in partitions}
    consumer.assign([confluent_kafka.TopicPartition(topic, p, position.get(p, 0))
                     for p in partitions])
    records = []
    while any(position.get(p, 0) < end for p, end in ends.items()):
        batch = consumer.consume(10000, timeout=0.2)
        for message in batch:
            assert message.error() is None, message.error()
            expected = position.get(message.partition(), 0)
            assert message.offset() == expected, f"offset {message.offset()} follows {expected - 1}"
            position[message.partition()] = expected + 1
            records.append(message.value())
    consumer.close()
    return records


def check(records, acknowledged, firsts):
    """Raises with what is missing, doubled or out of order."""
    seen = {name: [] for name in acknowledged}
    for record in records:
        name, number = record.decode().split(":")
        seen[name].append(int(number))
    for name, numbers in seen.items():
        missing = sorted(acknowledged[name] - set(numbers) - {None})
        assert not missing, f"{name}: {len(missing)} acknowledged lost, first {missing[0]}"
        assert numbers == sorted(set(numbers)), f"{name}: out of order or doubled"
        assert not numbers or numbers[0] >= firsts[name], f"{name}: {numbers[0]} from an earlier round"
    return sum(len(numbers) for numbers in acknowledged.values())


def rounds(load, count, seed):
    def run():
        dice = random.Random(seed)
        numbers = {f"p{index}": 0 for index in range(PUBLISHERS)}
        position = {}
        acknowledged_in_all = 0
        with Broker(SETTINGS) as broker:
            for number in range(count):
                firsts = dict(numbers)
                publishers = load(broker, numbers)
                if number % 2:  # librdkafka takes most of a second to begin
                    wait_until(lambda: any(publishers.acknowledged.values()), 20, "acknowledgement")
                time.sleep(dice.uniform(0.05, 1.0))  # the random moment
                broker.kill()
                publishers.stop()
                broker.start()
                acknowledged_in_all += publishers.verify(broker, position, firsts)
        assert acknowledged_in_all > count, "the load acknowledged next to nothing"
        print(f"    {acknowledged_in_all} acknowledged over {count} rounds, seed {seed}")

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("only", nargs="*")
    options = parser.parse_args()
    suite = Suite("loss")
    for name, load in (("mqtt", MqttLoad), ("kafka", KafkaLoad), ("amqp", AmqpLoad)):
        if name not in LOADS:
            continue
        suite.add(f"{name}: {options.rounds} kills under load (seed {options.seed})",
                  rounds(load, options.rounds, options.seed))
    sys.exit(suite.run(options.only))
