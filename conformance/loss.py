#!/usr/bin/python3
"""No acknowledged message is lost: publishers under load, kill -9 at a random moment, restart, read
back. Everything acknowledged is there, once, in the order sent, per publisher.

    loss.py [--rounds N] [--seed N] [mqtt] [kafka]
"""

import argparse
import random
import sys
import threading
import time

import confluent_kafka

from lib.broker import Broker
from lib.cases import Suite
from lib.mqtt_clients import PahoClient

PUBLISHERS = 4


class MqttLoad:
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


class KafkaLoad:
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
        # Small segments and frequent checkpoints, so that crashes fall into rolls and flushes too.
        with Broker(["storage.segment_bytes=4194304"]) as broker:
            for _ in range(count):
                firsts = dict(numbers)
                publishers = load(broker, numbers)
                time.sleep(dice.uniform(0.05, 1.0))  # the random moment
                broker.kill()
                acknowledged = publishers.stop()
                broker.start()
                records = read_back(broker, load.topic, position)
                acknowledged_in_all += check(records, acknowledged, firsts)
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
    for name, load in (("mqtt", MqttLoad), ("kafka", KafkaLoad)):
        suite.add(f"{name}: {options.rounds} kills under load (seed {options.seed})",
                  rounds(load, options.rounds, options.seed))
    sys.exit(suite.run(options.only))
