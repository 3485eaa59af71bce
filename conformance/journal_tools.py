#!/usr/bin/python3
"""`polylog journal inspect` and `verify` beside a broker under load, after kill -9, and on a journal in
which octets were turned over: what is sound passes, what is damaged is named, the rest stays readable.

    journal_tools.py [--seconds N] [WORDS...]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from lib.broker import BINARY, Broker
from lib.cases import Suite, equal, wait_until
from lib.mqtt_clients import PahoClient

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=4)
parser.add_argument("only", nargs="*")
options = parser.parse_args()

suite = Suite("journal_tools")
# Segments end every moment, and give way to copies as soon as little of them is alive.
SETTINGS = ["storage.segment_bytes=1048576", "storage.checkpoint_bytes=1048576",
            "storage.retention_check_ms=100"]
VALUE = 3000  # octets


def polylog(verb, data, *flags):
    """Exit status, and what was printed, as JSON if --json is among the flags."""
    done = subprocess.run([BINARY, "journal", verb, data, *flags], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=120)
    text = done.stdout if done.returncode < 2 else done.stderr
    return done.returncode, json.loads(text) if "--json" in flags and done.returncode < 2 else text


def sound(data):
    status, report = polylog("verify", data, "--json")
    assert status == 0 and report["sound"], f"status {status}: {report['damage']}"
    equal(report["damage"], [], "damage")
    return report


class Load:
    """Producers over Kafka, of records that stay and of some that retention drops, and mosquitto_pub."""

    def __init__(self, broker):
        self.broker = broker
        self.over = threading.Event()
        self.acknowledged = {}  # offset of topic `kept` -> value
        self.lines = 0
        self.failures = []
        admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
        topics = [NewTopic("kept", 1, 1),
                  NewTopic("doomed", 1, 1, config={"retention.bytes": "100000"})]
        for made in admin.create_topics(topics).values():
            made.result(20)
        # What is produced is linked into its inbox.
        sleeper = PahoClient(broker, "sleeper", clean=False, expiry=3600)
        sleeper.subscribe("kept/#")
        sleeper.close()
        self.threads = [threading.Thread(target=self.guarded, args=(work,))
                        for work in (self.produce, self.publish)]
        for thread in self.threads:
            thread.start()

    def guarded(self, work):
        try:
            work()
        except Exception as error:
            self.failures.append(error)

    def produce(self):
        client = confluent_kafka.Producer({
            "bootstrap.servers": self.broker.kafka, "linger.ms": 2, "log_level": 0,
            "compression.type": "none", "queue.buffering.max.messages": 100,
            "message.timeout.ms": 5000})

        def acknowledged(error, message):
            if error is None and message.topic() == "kept":
                self.acknowledged[message.offset()] = message.value()

        number = 0
        while not self.over.is_set():
            for topic in ("kept", "doomed", "doomed", "doomed"):
                try:
                    value = b"%s %d:".ljust(VALUE, b".") % (topic.encode(), number)
                    client.produce(topic, value, on_delivery=acknowledged)
                except BufferError:
                    client.poll(0.05)
            client.poll(0)
            number += 1
            self.over.wait(0.001)
        client.flush(6)

    def publish(self):
        client = subprocess.Popen(
            ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.broker.mqtt), "-q", "1", "-l",
             "-t", "sensors/kitchen"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            while not self.over.is_set():
                client.stdin.write(b"%d\n" % self.lines)
                client.stdin.flush()
                self.lines += 1
                self.over.wait(0.002)
        finally:
            client.kill()  # it would go on trying to reach a broker that was killed
            client.wait()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures


def read_all(broker, topic):
    """offset -> value of what can be read, and the offsets at which reading failed."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "reader", "enable.auto.commit": False,
        "auto.offset.reset": "error", "enable.partition.eof": True, "log_level": 0})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    found, failed, position = {}, [], 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error() is None:
            found[message.offset()] = message.value()
            position = message.offset() + 1
            continue
        if message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
            consumer.close()
            return found, failed
        failed.append(position)
        position += 1
        consumer.seek(confluent_kafka.TopicPartition(topic, 0, position))
    raise AssertionError(f"no end of {topic} within 20 s, at offset {position}")


def alive(broker):
    with urllib.request.urlopen(broker.admin + "/readyz", timeout=20) as answer:
        return answer.status == 200


class Sample:
    """What a broker under load left when it was killed, for the cases that turn octets over."""

    data = None
    values = {}      # of topic `kept`, by offset: what was acknowledged
    partitions = {}  # number in the journal, by the name that inspect gives it

    @classmethod
    def copy(cls):
        assert cls.data, "the load has to run first"
        target = tempfile.mkdtemp(prefix="polylog-conformance-")
        shutil.copytree(cls.data, target, dirs_exist_ok=True)
        return target


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        octet = file.read(1)[0]
        file.seek(at)
        file.write(bytes([octet ^ 4]))


@suite.case("verify is sound each time beside a broker under load, and after kill -9")
def under_load():
    broker = Broker(SETTINGS).start()
    load = Load(broker)
    names, looks = set(), 0
    try:
        until = time.monotonic() + options.seconds
        rewritten = False
        while time.monotonic() < until or not rewritten:
            assert time.monotonic() < until + 30, "no segment was rewritten"
            sound(broker.data)
            status, report = polylog("inspect", broker.data, "--json", "--partitions")
            equal(status, 0, "status of inspect")
            names |= {segment["file"] for segment in report["segments"]}
            # Whose a partition is, inspect knows while the segment stands in which it was made.
            Sample.partitions.update((one["of"], one["partition"]) for one in report["partitions"]
                                     if "of" in one)
            rewritten = any(segment["status"] == "rewritten" for segment in report["segments"])
            looks += 1
        equal(alive(broker), True, "ready")
        assert len(names) > 5 and looks > 5, f"{len(names)} segments were seen in {looks} looks"
        before = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > before, 20, "an acknowledgement behind it all")
        broker.kill()
    finally:
        broker.kill()
        load.stop()
    report = sound(broker.data)
    print(f"    {looks} looks at {len(names)} segments; {len(load.acknowledged)} records and "
          f"{load.lines} lines; torn tail after kill -9: {report.get('torn_tail', 'none')}")
    Sample.data, Sample.values = broker.data, dict(load.acknowledged)
    again = Broker(SETTINGS, data=Sample.copy())
    with again:
        found, failed = read_all(again, "kept")
        equal(failed, [], "offsets that can't be read")
        wrong = [at for at, value in Sample.values.items() if found.get(at) != value]
        equal(wrong, [], "acknowledged records that differ")
        again.stop()
        sound(again.data)


def inspected(data):
    status, report = polylog("inspect", data, "--json", "--partitions")
    equal(status, 0, "status of inspect")
    return report


@suite.case("inspect counts what is there, and how much of it may be alive")
def counts():
    report = inspected(Sample.data)
    total = report["total"]
    for what in ("octets", "entries", "batches", "records", "offsets"):
        equal(sum(segment[what] for segment in report["segments"]), total[what], what)
    partitions = {one["partition"]: one for one in report["partitions"]}
    kept, doomed = (partitions[Sample.partitions[name]] for name in ("topic kept, 0", "topic doomed, 0"))
    # At the kill some were on disk that nobody had been told of.
    assert kept["end"] > max(Sample.values), kept
    equal(kept["offsets"], kept["end"], "offsets of `kept`")
    assert doomed["log_start"] > 0, doomed
    shares = [segment["alive_octets_at_most"] / segment["batch_octets"]
              for segment in report["segments"]
              if segment["status"] == "sealed" and segment["batch_octets"]]
    # Of four octets three are doomed, and all are old but the last.
    assert shares and min(shares) < 0.5, shares
    assert all("alive_octets_at_most" not in segment for segment in report["segments"]
               if segment["status"] in ("active", "closed")), report["segments"]
    status, text = polylog("inspect", Sample.data)
    equal(status, 0, "status")
    assert "alive" in text.splitlines()[0], text


def place_of_batch(data):
    """A sealed or rewritten segment with records of `kept` in the midst of it: file, and an octet in one."""
    for segment in inspected(data)["segments"]:
        if segment["status"] not in ("sealed", "rewritten"):
            continue
        path = os.path.join(data, "journal", segment["file"])
        with open(path, "rb") as file:
            octets = file.read()
        for value in Sample.values.values():
            at = octets.find(value)
            if at > len(octets) // 4:
                return path, at + VALUE // 2, value
    raise AssertionError("no sealed segment has an acknowledged record")


@suite.case("a damaged batch: verify names partition and offsets, a Kafka consumer reads all the rest")
def damaged_batch():
    data = Sample.copy()
    path, at, value = place_of_batch(data)
    flip(path, at)
    status, report = polylog("verify", data, "--json")
    equal(status, 1, "status")
    equal([fault["file"] for fault in report["damage"]], [os.path.basename(path)], "damaged files")
    fault = report["damage"][0]
    assert fault["octet"] <= at < fault["octet"] + fault["octets"], (at, fault)
    equal(fault["records_lost"], True, "records lost")
    ranges = {lost["partition"]: lost for lost in fault["lost"]}
    equal(len(ranges), len(fault["lost"]), "partitions")
    lost = ranges.pop(Sample.partitions["topic kept, 0"])
    # The session that it was to be delivered to, if its link stands in the same segment.
    assert set(ranges) <= {Sample.partitions["session sleeper"]}, ranges
    gone = set(range(lost["first"], lost["end"]))
    hit = [offset for offset, one in Sample.values.items() if one == value][0]
    assert hit in gone, (hit, lost)
    assert len(gone) < 200, lost
    status, text = polylog("verify", data)
    equal(status, 1, "status")
    assert f"lost: partition {lost['partition']}" in text, text
    assert f"offsets {lost['first']} to {lost['end'] - 1}" in text, text
    broker = Broker(SETTINGS, data=data)
    with broker:
        found, failed = read_all(broker, "kept")
        equal(sorted(failed), sorted(gone), "offsets that can't be read")
        wrong = [offset for offset, one in Sample.values.items()
                 if offset not in gone and found.get(offset) != one]
        equal(wrong, [], "other records that differ")
        equal(gone & set(found), set(), "damaged records that were handed out")


@suite.case("a damaged index: status 1 for footer, map and either copy of the manifest, and nothing is lost")
def damaged_index():
    segments = inspected(Sample.data)["segments"]
    kept = [segment for segment in segments if segment["status"] == "rewritten"][0]
    plain = [segment for segment in segments if segment["status"] == "sealed"][0]
    size = os.path.getsize(os.path.join(Sample.data, "journal", "MANIFEST"))

    def trailer(segment):
        path = os.path.join(Sample.data, "journal", segment["file"])
        with open(path, "rb") as file:
            file.seek(-80, os.SEEK_END)
            octets = file.read()
        equal(octets[:4], b"PLFT", "magic")
        directory, at = (int.from_bytes(octets[i:i + 8], "big") for i in (48, 56))
        return os.path.getsize(path), directory, at, int.from_bytes(octets[40:48], "big")

    length, directory, map_at, partitions = trailer(kept)
    begin = length - 80 - directory - 16 * partitions
    places = {
        "trailer": (plain["file"], plain["octets"] - 30),
        "runs": (plain["file"], 64 + plain["end"] - plain["base"] + 20),
        "map": (kept["file"], begin + map_at + 3),
        "first copy": ("MANIFEST", 30),
        "second copy": ("MANIFEST", size - 30),
    }
    for what, (name, at) in places.items():
        data = Sample.copy()
        flip(os.path.join(data, "journal", name), at)
        status, report = polylog("verify", data, "--json")
        equal(status, 1, f"{what}: status")
        faults = report["damage"]
        equal({fault["file"] for fault in faults}, {name}, f"{what}: files")
        equal([fault for fault in faults if fault["records_lost"]], [], f"{what}: losses")
        covered = [fault for fault in faults
                   if fault["octets"] == 0 or 0 <= at - fault["octet"] < fault["octets"]]
        assert covered, f"{what}: octet {at} isn't in {faults}"
        with Broker(SETTINGS, data=data) as broker:
            found, failed = read_all(broker, "kept")
            equal(failed, [], f"{what}: offsets that can't be read")
            wrong = [at for at, value in Sample.values.items() if found.get(at) != value]
            equal(wrong, [], f"{what}: acknowledged records that differ")


@suite.case("status 2 where there is nothing to read")
def unreadable():
    empty = tempfile.mkdtemp(prefix="polylog-conformance-")
    for verb in ("inspect", "verify"):
        status, text = polylog(verb, empty)
        equal(status, 2, "status")
        assert "holds no journal" in text, text
        status, text = polylog(verb, os.path.join(empty, "none"))
        equal(status, 2, "status")
        assert not os.path.exists(os.path.join(empty, "none")), "it was made"
    equal(os.listdir(empty), [], "files")
    os.rmdir(empty)
    equal(polylog("verify", "/", "--nonsense")[0], 2, "status of a usage error")


if __name__ == "__main__":
    ended = suite.run(options.only)
    if Sample.data and ended == 0:
        shutil.rmtree(Sample.data, ignore_errors=True)
        os.path.exists(Sample.data + ".log") and os.unlink(Sample.data + ".log")
    sys.exit(ended)
