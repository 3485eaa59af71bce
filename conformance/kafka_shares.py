#!/usr/bin/python3
"""Kafka's share groups (KIP-932), frame by frame: no client at hand speaks them yet. Records come from
confluent-kafka (librdkafka), which is also who reads them the ordinary way."""

import collections
import random
import subprocess
import threading
import time
import uuid

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from lib import kafka_raw as raw
from lib.broker import BINARY, Broker
from lib.cases import Suite, equal, wait_until
from lib.kafka_raw import TAGS, array, i8, i16, i32, i64, text

suite = Suite("kafka_shares")
SETTINGS = ["kafka.group.share.record_lock_duration_ms=2000",
            "kafka.group.share.session_timeout_ms=6000",
            "kafka.group.share.heartbeat_interval_ms=1000"]
GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)
INVALID_RECORD_STATE, SESSION_NOT_FOUND, INVALID_SESSION_EPOCH = 121, 122, 123


def create(broker, **topics):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    for done in admin.create_topics([NewTopic(n, p, 1) for n, p in topics.items()]).values():
        done.result(20)


def produce(broker, topic, values, partitions=1, **options):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "log_level": 0, **options})
    failed = []
    for i, value in enumerate(values):
        producer.produce(topic, value, partition=i % partitions,
                         on_delivery=lambda error, _: error and failed.append(error))
    equal(producer.flush(30), 0, "records not acknowledged")
    equal(failed, [], "refused records")


def set_group(broker, group="g", **configs):
    """share.auto.offset.reset as share_auto_offset_reset, and so on."""
    entries = [text(k.replace("_", ".")) + i8(0) + text(v) + TAGS for k, v in configs.items()]
    answer = raw.call(broker, 44, 1, array([i8(32) + text(group) + array(entries) + TAGS]) + i8(0) + TAGS)
    answer.i32()
    for error, message, _, _ in answer.array(lambda: answer.struct(answer.i16, answer.text, answer.i8,
                                                                   answer.text)):
        equal(error, 0, f"altering the group's configuration: {message}")


class Refused(Exception):
    def __init__(self, error, message):
        super().__init__(f"{error}: {message}")
        self.error = error


Part = collections.namedtuple("Part", "topic partition error acknowledged records acquired")


class Member:
    """A member on a connection of its own: heartbeats, and one share session."""

    def __init__(self, broker, group="g", topics=("t",), client="share"):
        self.group, self.id, self.epoch, self.session = group, str(uuid.uuid4()), 0, 0
        self.connection = raw.Connection(broker, client)
        self.assignment, self.fetched = {}, set()
        self.beat(topics)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.socket.close()

    def beat(self, topics=None, epoch=None):
        body = text(self.group) + text(self.id) + i32(self.epoch if epoch is None else epoch) + text(None)
        body += array(None if topics is None else [text(t) for t in topics]) + TAGS
        answer = self.connection.ask(76, 1, body)
        answer.i32()
        error, message, member, told, interval = (answer.i16(), answer.text(), answer.text(),
                                                  answer.i32(), answer.i32())
        if error:
            raise Refused(error, message)
        equal(member, self.id, "the member's id")
        assert interval > 0 or told < 0
        self.epoch = told
        if answer.i8() >= 0:
            topics = answer.array(lambda: answer.struct(lambda: answer.take(16),
                                                        lambda: answer.array(answer.i32)))
            answer.tags()
            self.assignment = dict(topics)
        answer.end()
        return self

    def places(self):
        return [(topic, p) for topic, partitions in self.assignment.items() for p in partitions]

    def _said(self, said):
        """{(topic, partition): [(first, last, [types])]} as a request has it, by topic."""
        topics = collections.defaultdict(list)
        for (topic, partition), batches in said.items():
            batches = [i64(a) + i64(b) + array([i8(t) for t in types]) + TAGS for a, b, types in batches]
            topics[topic].append(i32(partition) + array(batches) + TAGS)
        return array([topic + array(parts) + TAGS for topic, parts in topics.items()])

    def _next(self, session):
        self.session = 0 if session == -1 else session + 1

    def fetch(self, said=None, wait=0, most=500, version=2, session=None, exact=True, renew=False,
              places=None, min_bytes=1):
        session = self.session if session is None else session
        said = dict(said or {})
        if session == 0:
            self.fetched = set()
        if session >= 0 and not renew:  # what the session doesn't have yet
            for place in self.places() if places is None else places:
                if place not in self.fetched:
                    said.setdefault(place, [])
                    self.fetched.add(place)
        body = text(self.group) + text(self.id) + i32(session)
        body += (i32(0) * 4 if renew else i32(wait) + i32(min_bytes) + i32(1 << 20) + i32(most)) + i32(0)
        if version >= 2:
            body += i8(1 if exact else 0) + i8(1 if renew else 0)
        body += self._said(said) + array([]) + TAGS
        answer = self.connection.ask(78, version, body)
        answer.i32()
        error, message, lock = answer.i16(), answer.text(), answer.i32()
        if error:
            raise Refused(error, message)
        assert lock > 0
        acquired = lambda: tuple(answer.struct(answer.i64, answer.i64, answer.i16))
        part = lambda: answer.struct(answer.i32, answer.i16, answer.text, answer.i16, answer.text,
                                     lambda: answer.struct(answer.i32, answer.i32), answer.blob,
                                     lambda: answer.array(acquired))
        topics = answer.array(lambda: answer.struct(lambda: answer.take(16), lambda: answer.array(part)))
        answer.array(lambda: None)
        answer.end()
        self._next(session)
        return [Part(topic, p[0], p[1], p[3], decoded(p[6]), p[7]) for topic, parts in topics for p in parts]

    def acknowledge(self, said, version=2, session=None, renew=False):
        """The error of each partition."""
        session = self.session if session is None else session
        body = text(self.group) + text(self.id) + i32(session)
        if version >= 2:
            body += i8(1 if renew else 0)
        answer = self.connection.ask(79, version, body + self._said(said) + TAGS)
        answer.i32()
        error, message = answer.i16(), answer.text()
        if version >= 2:
            answer.i32()
        if error:
            raise Refused(error, message)
        part = lambda: answer.struct(answer.i32, answer.i16, answer.text,
                                     lambda: answer.struct(answer.i32, answer.i32))
        topics = answer.array(lambda: answer.struct(lambda: answer.take(16), lambda: answer.array(part)))
        answer.array(lambda: None)
        answer.end()
        self._next(session)
        return {(topic, p[0]): p[1] for topic, parts in topics for p in parts}

    def take(self, **options):
        """[(place, offset, value, delivery count)] of all that it is given."""
        taken = []
        for part in self.fetch(**options):
            if part.error or part.acknowledged:
                raise Refused(part.error or part.acknowledged, f"partition {part.partition}")
            for first, last, count in part.acquired:
                taken += [((part.topic, part.partition), o, v, count) for o, v in part.records
                          if first <= o <= last]
        return taken


def decoded(octets):
    """[(offset, value)] of the stored batches, control batches left out, by kafka-python's reader."""
    from kafka.record import MemoryRecords
    found, batches = [], MemoryRecords(octets or b"")
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.is_control_batch:
            found += [(record.offset, record.value) for record in batch]
    return found


def refusal(call):
    try:
        call()
    except Refused as refused:
        return refused.error
    return 0


def one_each(taken, kind):
    """What is said of records, one by one."""
    said = collections.defaultdict(list)
    for place, offset, _, _ in sorted(taken, key=lambda t: (t[0], t[1])):
        said[place].append((offset, offset, [kind]))
    return said


def offsets(broker, group="g", version=1):
    """{(topic, partition): (start, lag)}"""
    answer = raw.call(broker, 90, version, array([text(group) + array(None) + TAGS]) + TAGS)
    answer.i32()
    lag = [answer.i64] if version >= 1 else []
    part = lambda: answer.struct(answer.i32, answer.i64, answer.i32, *lag, answer.i16, answer.text)
    topic = lambda: answer.struct(answer.text, lambda: answer.take(16), lambda: answer.array(part))
    [[_, topics, error, message]] = answer.array(
        lambda: answer.struct(answer.text, lambda: answer.array(topic), answer.i16, answer.text))
    answer.end()
    if error:
        raise Refused(error, message)
    return {(name, p[0]): (p[1], p[3] if version >= 1 else None) for name, _, parts in topics for p in parts}


def alter(broker, offset, group="g", topic="t"):
    part = i32(0) + i64(offset) + TAGS
    answer = raw.call(broker, 91, 0, text(group) + array([text(topic) + array([part]) + TAGS]) + TAGS)
    answer.i32()
    error, _ = answer.i16(), answer.text()
    told = answer.array(lambda: answer.struct(answer.text, lambda: answer.take(16), lambda: answer.array(
        lambda: answer.struct(answer.i32, answer.i16, answer.text))))
    answer.end()
    return error or told[0][2][0][1]


def forget(broker, topic="t", group="g"):
    answer = raw.call(broker, 92, 0, text(group) + array([text(topic) + TAGS]) + TAGS)
    answer.i32()
    error, _ = answer.i16(), answer.text()
    told = answer.array(lambda: answer.struct(answer.text, lambda: answer.take(16), answer.i16, answer.text))
    answer.end()
    return error or told[0][2]


def delete_records(broker, topic, before):
    part = i32(0) + i64(before) + TAGS
    answer = raw.call(broker, 21, 2, array([text(topic) + array([part]) + TAGS]) + i32(10_000) + TAGS)
    answer.i32()
    told = answer.array(lambda: answer.struct(answer.text, lambda: answer.array(
        lambda: answer.struct(answer.i32, answer.i64, answer.i16))))
    equal(told[0][1], [[0, before, 0]], "DeleteRecords")


def listed(broker, kind):
    answer = raw.call(broker, 16, 5, array([]) + array([text(kind)]) + TAGS)
    answer.i32()
    equal(answer.i16(), 0, "ListGroups")
    return {(group, type_) for group, _, _, type_ in answer.array(
        lambda: answer.struct(answer.text, answer.text, answer.text, answer.text))}


def described(broker, group="g"):
    """(error, state, assignor, {member: [partitions]})"""
    answer = raw.call(broker, 77, 1, array([text(group)]) + i8(0) + TAGS)
    answer.i32()

    def assignment():
        topics = answer.array(lambda: answer.struct(lambda: answer.take(16), answer.text,
                                                    lambda: answer.array(answer.i32)))
        answer.tags()
        return sorted(p for _, _, partitions in topics for p in partitions)

    member = lambda: answer.struct(answer.text, answer.text, answer.i32, answer.text, answer.text,
                                   lambda: answer.array(answer.text), assignment)
    [told] = answer.array(lambda: answer.struct(
        answer.i16, answer.text, answer.text, answer.text, answer.i32, answer.i32, answer.text,
        lambda: answer.array(member), answer.i32))
    answer.end()
    return told[0], told[3], told[6], {m[0]: m[6] for m in told[7]}


def begun(broker, **topics):
    create(broker, **(topics or {"t": 1}))
    set_group(broker, share_auto_offset_reset="earliest")


# ---------------------------------------------------------------- cases


@suite.case("members share a partition: each record goes to one, until it says what became of it")
def sharing():
    with Broker(SETTINGS) as broker:
        begun(broker)
        produce(broker, "t", [b"r%d" % i for i in range(6)])
        with Member(broker) as a, Member(broker) as b:
            a.beat()
            first, rest = a.take(most=4), b.take()
            equal([v for _, _, v, _ in first], [b"r0", b"r1", b"r2", b"r3"], "the first member's")
            equal([v for _, _, v, _ in rest], [b"r4", b"r5"], "the second member's")
            [place] = a.places()
            said = {place: [(0, 3, [ACCEPT, RELEASE, REJECT, ACCEPT])]}
            equal(a.acknowledge(said), {place: 0}, "what the first says")
            again = b.take()
            equal([(v, n) for _, _, v, n in again], [(b"r1", 2)], "what was released")
            equal(offsets(broker), {("t", 0): (1, 3)}, "where the group is")
            equal(b.acknowledge({place: [(0, 0, [ACCEPT]), (1, 1, [ACCEPT]), (4, 5, [ACCEPT])]}, version=1),
                  {place: 0}, "what the second says (offset 0 is done with already)")
            equal(offsets(broker), {("t", 0): (6, 0)}, "where the group is")
            equal(offsets(broker, version=0), {("t", 0): (6, None)}, "the same, version 0")
            equal(a.take(), [], "what is left")


@suite.case("acknowledgements by who hasn't got the records are refused, as a whole")
def refused():
    with Broker(SETTINGS) as broker:
        begun(broker)
        produce(broker, "t", [b"0", b"1", b"2"])
        with Member(broker) as a, Member(broker) as b:
            a.beat()
            [place] = a.places()
            a.take(most=2)
            b.take()
            equal(a.acknowledge({place: [(1, 2, [ACCEPT])]}), {place: INVALID_RECORD_STATE}, "of another's")
            [part] = a.fetch({place: [(2, 2, [ACCEPT])]})
            equal(part.acknowledged, INVALID_RECORD_STATE, "with a fetch")
            equal(a.acknowledge({place: [(0, 1, [ACCEPT, ACCEPT, ACCEPT])]}), {place: 42}, "too many types")
            equal(a.acknowledge({place: [(0, 1, [ACCEPT])]}), {place: 0}, "of its own")
            equal(a.acknowledge({(b"\7" * 16, 0): [(0, 1, [ACCEPT])]}), {(b"\7" * 16, 0): 100}, "of no topic")


@suite.case("share sessions: epochs, limits, and what ends with them")
def sessions():
    with Broker([*SETTINGS, "kafka.max_share_sessions=2"]) as broker:
        begun(broker)
        with Member(broker) as a, Member(broker) as b, Member(broker) as c:
            a.beat(), b.beat()
            equal(refusal(lambda: a.fetch(session=1)), SESSION_NOT_FOUND, "no session yet")
            equal(refusal(lambda: a.acknowledge({}, session=1)), SESSION_NOT_FOUND, "no session yet")
            a.take(), b.take()
            equal(refusal(lambda: c.take()), 133, "a third session")
            equal(refusal(lambda: a.fetch(session=5)), INVALID_SESSION_EPOCH, "an epoch to come")
            equal(refusal(lambda: a.acknowledge({}, session=0)), INVALID_SESSION_EPOCH, "beginning with that")
            produce(broker, "t", [b"0", b"1"])
            [place] = a.places()
            equal(len(a.take()), 2, "records")
            a.acknowledge({place: [(0, 0, [ACCEPT])]}, session=-1)
            equal([(v, n) for _, _, v, n in c.take(places=[place])], [(b"1", 1)], "what the session had")


@suite.case("what a lost member had goes to another at once; what a slow one has, when its time is over")
def losing():
    with Broker(SETTINGS) as broker:
        begun(broker)
        produce(broker, "t", [b"0", b"1"])
        with Member(broker) as b:
            with Member(broker) as a:
                equal(len(a.take()), 2, "records")
                equal(b.take(places=a.places()), [], "none is left")
            taken = b.take(wait=5000)
            equal([(v, n) for _, _, v, n in taken], [(b"0", 1), (b"1", 1)], "from who has gone")
            with Member(broker) as c:
                [place] = b.places()
                equal(b.acknowledge({place: [(1, 1, [RENEW])]}, renew=True), {place: 0}, "renewing")
                began = time.monotonic()
                taken = c.take(wait=20_000, places=[place], most=1)
                equal([(v, n) for _, _, v, n in taken], [(b"0", 2)], "what took too long")
                assert time.monotonic() - began > 1, "its lock ended too soon"
                equal(b.acknowledge({place: [(0, 0, [ACCEPT])]}), {place: INVALID_RECORD_STATE}, "too late")


@suite.case("a record that is tried five times is given up")
def giving_up():
    with Broker(SETTINGS) as broker:
        begun(broker)
        produce(broker, "t", [b"poison"])
        with Member(broker) as a:
            for count in range(1, 6):
                [(place, offset, _, told)] = a.take()
                equal(told, count, "the delivery count")
                a.acknowledge({place: [(0, 0, [RELEASE])]})
            equal(a.take(), [], "the sixth time")
            equal(offsets(broker), {("t", 0): (1, 0)}, "the group goes on")


@suite.case("a fetch waits for records, and is woken by new and by released ones")
def waiting():
    with Broker(SETTINGS) as broker:
        begun(broker)
        with Member(broker) as a, Member(broker) as b:
            a.beat()
            equal(a.take(), [], "nothing yet")
            [place] = a.places()
            got = []
            waits = threading.Thread(target=lambda: got.extend(b.take(wait=20_000, places=[place])))
            waits.start()
            produce(broker, "t", [b"0"])
            waits.join(15)
            equal([v for _, _, v, _ in got], [b"0"], "what came")
            more = []
            waits = threading.Thread(target=lambda: more.extend(a.take(wait=20_000)))
            waits.start()
            b.acknowledge({place: [(0, 0, [RELEASE])]})
            waits.join(15)
            equal([(v, n) for _, _, v, n in more], [(b"0", 2)], "what was released")


@suite.case("read_committed: aborted records and markers are never delivered, committed ones with the commit")
def committed():
    with Broker(SETTINGS) as broker:
        begun(broker)
        set_group(broker, share_isolation_level="read_committed")
        with Member(broker) as a:
            equal(a.take(), [], "nothing yet")

            def transact(value, commit):
                producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "log_level": 0,
                                                     "transactional.id": "x"})
                producer.init_transactions(30)
                producer.begin_transaction()
                producer.produce("t", value, partition=0)
                producer.flush(10)
                equal(a.take(), [], "of an open transaction")
                producer.commit_transaction(30) if commit else producer.abort_transaction(30)

            transact(b"never", False)
            transact(b"yes", True)
            produce(broker, "t", [b"plain"])
            taken = a.take(wait=10_000)
            equal([v for _, _, v, _ in taken], [b"yes", b"plain"], "what is delivered")
            a.acknowledge(one_each(taken, ACCEPT))
            start, lag = offsets(broker)["t", 0]
            equal((start, lag), (5, 0), "the group is behind all, markers too")


@suite.case("groups are listed, described, moved and deleted as what they are")
def administration():
    with Broker(SETTINGS) as broker:
        begun(broker, t=3)
        produce(broker, "t", [b"0", b"1", b"2"], 3)
        with Member(broker) as a, Member(broker) as b:
            a.beat()
            equal(listed(broker, "share"), {("g", "share")}, "share groups")
            equal(listed(broker, "consumer"), set(), "consumer groups")
            error, state, assignor, members = described(broker)
            equal((error, state, assignor), (0, "Stable", "simple"), "the group")
            equal(sorted(p for ps in members.values() for p in ps), [0, 1, 2], "all partitions")
            equal(len(members), 2, "members")
            equal(alter(broker, 0), 68, "moving a group that has members")
            equal(forget(broker), 68, "forgetting what one that has members read")
            a.beat(epoch=-1), b.beat(epoch=-1)
        with Member(broker) as a:
            a.acknowledge(one_each(a.take(), ACCEPT))
            a.beat(epoch=-1)
        equal({start for start, _ in offsets(broker).values()}, {1}, "where the group is")
        equal(alter(broker, 0), 0, "moving the group")
        equal(offsets(broker)["t", 0], (0, 1), "where it is then")
        equal(alter(broker, 0, topic="none"), 3, "a topic that isn't there")
        equal(forget(broker), 0, "forgetting a topic")
        equal(offsets(broker), {}, "what it knows then")
        answer = raw.call(broker, 42, 2, array([text("g")]) + TAGS)
        answer.i32()
        equal(answer.array(lambda: answer.struct(answer.text, answer.i16)), [["g", 0]], "DeleteGroups")
        equal(described(broker)[0], 69, "a group that isn't there")
        equal(refusal(lambda: offsets(broker)), 69, "a group that isn't there")
        equal(alter(broker, 0), 69, "a group that isn't there")


@suite.case("deleted records and topics are passed over")
def deleting():
    with Broker(SETTINGS) as broker:
        begun(broker)
        produce(broker, "t", [b"%d" % i for i in range(5)])
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        with Member(broker) as a:
            a.take(most=1)
            delete_records(broker, "t", 3)
            equal(offsets(broker), {("t", 0): (3, 2)}, "where the group is")
            taken = a.take()
            equal([v for _, _, v, _ in taken], [b"3", b"4"], "what is left")
            [place] = a.places()
            equal(a.acknowledge({place: [(0, 0, [ACCEPT]), (3, 4, [ACCEPT])]}), {place: 0}, "what it had")
            admin.delete_topics(["t"])["t"].result(20)
            equal([part.error for part in a.fetch(wait=10_000)], [100], "a topic that has gone")


@suite.case("kill -9 under load: every record is accepted, none that was accepted comes again")
def killing():
    total, rounds = 3000, 4
    chance = random.Random(932)
    # Nothing is given up, however often a slow machine lets a lock run out.
    with Broker([*SETTINGS, "kafka.group.share.delivery_count_limit=25"]) as broker:
        begun(broker, t=2)
        produce(broker, "t", [b"%d" % i for i in range(total)], 2)
        accepted, said = set(), collections.Counter()
        errors, lock, over = [], threading.Lock(), threading.Event()

        def work(member_chance):
            """A member that lives as long as its broker, and another after that."""
            while not over.is_set():
                try:
                    with Member(broker) as member:
                        while not over.is_set():
                            member.beat()
                            taken = member.take(wait=200, most=20)
                            with lock:
                                again = [t for t in taken if (t[0], t[1]) in accepted]
                                errors.extend(f"delivered though accepted: {t}" for t in again)
                            keep = [t for t in taken if member_chance.random() < 0.9]
                            back = [t for t in taken if t not in keep]
                            verdicts = collections.defaultdict(list)
                            for one, kind in [(t, ACCEPT) for t in keep] + [(t, RELEASE) for t in back]:
                                verdicts[one[0]].append((one[1], one[1], [kind]))
                            for batches in verdicts.values():
                                batches.sort()
                            if not verdicts:
                                continue
                            with lock:
                                said.update((t[0], t[1]) for t in keep)
                            told = member.acknowledge(verdicts)
                            with lock:
                                accepted.update((t[0], t[1]) for t in keep if told[t[0]] == 0)
                                if len(said) == total and len(accepted) >= total:
                                    over.set()
                except Refused as refused:
                    # Its session or membership went with the broker, or with time.
                    if refused.error not in (25, 69, 110, SESSION_NOT_FOUND, INVALID_SESSION_EPOCH):
                        errors.append(f"refused: {refused}")
                        over.set()
                except (OSError, AssertionError):
                    time.sleep(0.02)  # the broker is down, which sends no event
                except Exception as error:  # else the thread would end without a word
                    errors.append(repr(error))
                    over.set()

        threads = [threading.Thread(target=work, args=(random.Random(i),)) for i in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1, rounds):
            wait_until(lambda: len(accepted) > number * total // (2 * rounds) or over.is_set(), 60, "progress")
            time.sleep(chance.random() * 0.05)  # any moment may be the one
            broker.restart()
        # What was accepted just before a kill, with the answer lost, counts as said and may be done with.
        done = lambda: sum(lag for _, lag in offsets(broker).values()) == 0 or over.is_set()
        try:
            wait_until(done, 90, "the end of the topic")
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
        equal(errors, [], "errors")
        equal(len(said), total, "records that somebody accepted")
        equal({start for start, _ in offsets(broker).values()}, {total // 2}, "where the group is")


@suite.case("members, and what a group that began at the latest has seen, outlive kill -9")
def outliving():
    with Broker(SETTINGS) as broker:
        create(broker, t=1)
        produce(broker, "t", [b"before"])
        with Member(broker) as a:
            equal(a.take(), [], "what was there before the group")
            produce(broker, "t", [b"after"])
            broker.restart()
            b = Member.__new__(Member)
            b.__dict__.update(a.__dict__)
            b.connection = raw.Connection(broker, "share")
            with b:
                b.beat()
                b.session = 0
                equal([v for _, _, v, _ in b.take()], [b"after"], "what came since")


@suite.case("rights that are taken away count from then on, for who is waiting too")
def rights():
    with Broker(SETTINGS) as broker:
        begun(broker, t=1, u=1)

        def deny(name, kind):
            command = [BINARY, "acl", "create", "deny", "ANONYMOUS", "read", name, "--resource", kind]
            done = subprocess.run([*command, "--admin", broker.admin], capture_output=True, text=True)
            equal(done.returncode, 0, f"polylog acl create: {done.stderr}")

        with Member(broker) as a, Member(broker, topics=["u"]) as b:
            [place] = a.places()
            produce(broker, "t", [b"0"])
            equal(len(a.take()), 1, "records")
            a.acknowledge({place: [(0, 0, [ACCEPT])]})
            got = []
            waits = threading.Thread(target=lambda: got.extend(a.fetch(wait=5_000)))
            waits.start()
            deny("t", "topic")
            produce(broker, "t", [b"1"])
            waits.join(15)
            equal([(part.error, part.records) for part in got], [(29, [])], "what who waited gets")
            equal(a.acknowledge({place: [(1, 1, [ACCEPT])]}), {place: 29}, "acknowledging")
            refused = []
            waits = threading.Thread(target=lambda: refused.append(refusal(lambda: b.fetch(wait=5_000))))
            waits.start()
            deny("g", "group")
            waits.join(15)
            equal(refused, [30], "who waits for a group that may not be joined")
            equal(refusal(lambda: a.beat()), 30, "a heartbeat")
            equal(refusal(lambda: a.fetch()), 30, "a fetch")
            equal(refusal(lambda: a.acknowledge({place: [(1, 1, [ACCEPT])]})), 30, "acknowledging")
            equal(refusal(lambda: a.acknowledge({}, session=-1)), 30, "ending a session")


@suite.case("the broker tells the feature share.version and its configuration")
def feature():
    with Broker(SETTINGS) as broker:
        answer = raw.call(broker, 32, 4, array([i8(32) + text("g") + array(None) + TAGS]) + i8(0) + i8(0) + TAGS)
        assert b"share.auto.offset.reset" in answer.octets and b"latest" in answer.octets
        assert b"share.isolation.level" in answer.octets


if __name__ == "__main__":
    raise SystemExit(suite.run())
