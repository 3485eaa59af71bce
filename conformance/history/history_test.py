#!/usr/bin/python3
"""The checker of histories, tested by planting each anomaly in a healthy history: it has to report that one
and no other. Healthy histories with undecided operations and rightful redelivery have to pass.

    history_test.py [WORDS...]
"""

import os
import random
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from history.checker import Checker  # noqa: E402
from history.events import History, HistoryError, about, load, save  # noqa: E402
from history.sets import Offsets, Runs  # noqa: E402
from lib.cases import Suite, equal  # noqa: E402

suite = Suite("history")


def found(*events):
    """The counts of a history's anomalies."""
    return Checker().feed(events).finish().counts


def title(kind, what):
    return suite.case(f"{kind}: {what}")


# The healthy log: p's 0 to 4 acknowledged at offsets 0 to 4, read by a reader, who asked for all.

def sent(*numbers, publisher="p", topic="t", transaction=()):
    return [("send", topic, publisher, number, *transaction) for number in numbers]


def acked(*numbers, publisher="p", topic="t"):
    return [("ack", topic, publisher, number) for number in numbers]


def reads(*pairs, reader="r", publisher="p", topic="t", partition=0):
    """Of (offset, number)."""
    return [("read", topic, reader, publisher, number, partition, offset) for offset, number in pairs]


READER, END = ("consumer", "t", "r", {}), ("complete", "t")
WRITTEN = [("topic", "t", {"kind": "log", "dense": True}), ("publisher", "t", "p", {}),
           *sent(0, 1, 2, 3, 4), *[("ack", "t", "p", number, 0, number) for number in range(5)], READER]
UNPLACED = [*WRITTEN[:2], *sent(0, 1, 2, 3, 4), *acked(0, 1, 2, 3, 4), READER]  # as MQTT acknowledges
ALL = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]


@suite.case("a healthy log passes, and what was counted is told")
def healthy_log():
    report = Checker().feed([*WRITTEN, *reads(*ALL), END]).finish()
    equal(report.counts, {}, "anomalies")
    equal(report.summary(), "5 published, 5 acknowledged, 0 refused, 0 undecided, 5 reads")


@suite.case("undecided publishes may be there or not, over crashes")
def undecided():
    events = [*WRITTEN, *sent(5, 6, 7), ("unknown", "t", "p", 5), ("crash",), ("restart",),
              *reads(*ALL, (5, 5)), END, ("publisher", "t", "p", {"gapless": True}), *sent(8, 9),
              ("crash",), ("restart",), *reads((6, 8)), END]
    equal(found(*events), {})


@suite.case("a publish without an answer may be answered after it was read")
def answered_late():
    equal(found(READER, *sent(0), *reads((0, 0)), ("ack", "t", "p", 0, 0, 0), END), {})


@suite.case("a second reader, a seek and a resumed reader pass")
def readers():
    equal(found(*WRITTEN, *reads(*ALL), ("consumer", "t", "second", {}), *reads(*ALL, reader="second"),
                ("assign", "t", "r", 0, 2), *reads(*ALL[2:]), END, ("forget", "t"),
                ("consumer", "t", "third", {}), *reads(*ALL, reader="third"), END), {})


@suite.case("publishers are ordered each by itself and in each partition")
def interleaved():
    equal(found(*sent(0, 1, 2), *sent(0, 1, publisher="q"), *acked(0, 1, 2), *acked(0, 1, publisher="q"), READER,
                *reads((0, 0)), *reads((1, 0), publisher="q"), *reads((2, 2)), *reads((0, 1), partition=1),
                *reads((3, 1), publisher="q"), END), {})


@suite.case("copies pass where the publisher sent again, or promised no once")
def copies():
    again = [*UNPLACED, *sent(3, 4), *reads(*ALL, (5, 3), (6, 4)), END]
    equal(found(*again), {})
    careless = [UNPLACED[0], ("publisher", "t", "p", {"once": False}), *UNPLACED[2:], *reads(*ALL, (5, 3)), END]
    equal(found(*careless), {})


@title("lost-write", "the last one acknowledged isn't there")
def lost_at_the_end():
    equal(found(*UNPLACED, *reads(*ALL[:4]), END), {"lost-write": 1})


@title("lost-write", "acknowledged at an offset, and the log ends before it")
def lost_tail():
    equal(found(*WRITTEN, *reads(*ALL[:3]), END), {"lost-write": 2})


@title("lost-write", "one in the middle, told once over later rounds")
def lost_in_the_middle():
    shifted = reads((0, 0), (1, 1), (2, 3), (3, 4))
    equal(found(*UNPLACED, *shifted, END, ("forget", "t"), *sent(5), *acked(5), *reads((4, 5)), END, END),
          {"lost-write": 1})


@suite.case("without a complete read nothing counts as lost")
def incomplete():
    equal(found(*WRITTEN, *reads(*ALL[:2])), {})


@title("duplicate", "a record is in the log twice")
def duplicate():
    equal(found(*WRITTEN, *reads(*ALL, (5, 2)), END), {"duplicate": 1})


@title("duplicate", "again after what was there has been forgotten, on another partition")
def duplicate_later():
    equal(found(*WRITTEN, *reads(*ALL), END, ("forget", "t"), *reads((0, 4), partition=1), END), {"duplicate": 1})


@title("reordered", "two records have changed places")
def reordered():
    equal(found(*UNPLACED, *reads((0, 0), (1, 2), (2, 1), (3, 3), (4, 4)), END), {"reordered": 1})


@title("reordered", "an undecided one of an earlier round turns up")
def reordered_later():
    events = [*UNPLACED, *sent(5), ("crash",), ("restart",), *reads(*ALL), END, ("forget", "t"),
              *sent(6), *acked(6), *reads((5, 6), (6, 5)), END]
    equal(found(*events), {"reordered": 1})


@suite.case("a publisher that promised no order may be out of it")
def unordered():
    equal(found(UNPLACED[0], ("publisher", "t", "p", {"ordered": False}), *UNPLACED[2:],
                *reads((0, 0), (1, 2), (2, 1), (3, 3), (4, 4)), END), {})


@title("gap", "an offset of a dense log is passed over")
def gap_dense():
    equal(found(*UNPLACED, *reads((0, 0), (1, 1), (2, 2), (4, 3), (5, 4)), END), {"gap": 1})


@title("gap", "a reader passes over what another one saw")
def gap_by_another():
    events = [("topic", "t", {}), *WRITTEN[1:], *reads(*ALL), ("consumer", "t", "second", {}),
              *reads((0, 0), (1, 1), (4, 4), reader="second"), END]
    equal(found(*events), {"gap": 2})


@title("gap", "of one connection the middle is missing, although undecided")
def gap_of_a_connection():
    events = [UNPLACED[0], ("publisher", "t", "p", {"gapless": True}), *sent(0, 1, 2, 3), *acked(0), READER,
              ("crash",), ("restart",), *reads((0, 0), (1, 1), (2, 3)), END, END]
    equal(found(*events), {"gap": 1})


@suite.case("offsets without records pass where the log needn't be dense")
def sparse():
    equal(found(("topic", "t", {}), *UNPLACED[1:], *reads((0, 0), (1, 1), (2, 2), (7, 3), (9, 4)), END), {})


@title("backwards-read", "a reader's position goes back")
def backwards():
    equal(found(*WRITTEN, *reads(*ALL[:4], *ALL[2:]), END), {"backwards-read": 1})


@title("backwards-read", "the same record comes twice in a row")
def stuttering():
    equal(found(*WRITTEN, *reads(*ALL[:2], *ALL[1:]), END), {"backwards-read": 1})


@title("phantom", "a number nobody sent, a publisher nobody knows, a payload of nobody's")
def phantom():
    events = [*WRITTEN, *reads(*ALL, (5, 7)), *reads((6, 0), publisher="stranger"),
              ("read", "t", "r", None, "\x00\x01", 0, 7), END]
    equal(found(*events), {"phantom": 3})


@title("offset-conflict", "two readers see two records at one offset")
def conflict_of_readers():
    events = [*UNPLACED, *sent(5, 6), *reads(*ALL, (5, 5)), ("crash",), ("restart",),
              ("consumer", "t", "second", {}), *reads(*ALL, (5, 6), reader="second")]
    equal(found(*events), {"offset-conflict": 1})


@title("offset-conflict", "the offset acknowledged holds another record")
def conflict_with_acknowledgement():
    events = [*UNPLACED[:2], *sent(0, 1), ("ack", "t", "p", 0, 0, 0), READER, *reads((0, 1))]
    equal(found(*events), {"offset-conflict": 1})


@title("offset-conflict", "two are acknowledged at one offset")
def conflict_of_acknowledgements():
    equal(found(*sent(0, 1), ("ack", "t", "p", 0, 0, 0), ("ack", "t", "p", 1, 0, 0)), {"offset-conflict": 1})


@title("offset-conflict", "a record is elsewhere than acknowledged")
def conflict_of_places():
    events = [("topic", "t", {}), *sent(0), ("ack", "t", "p", 0, 0, 9), READER, *reads((3, 0)), END]
    equal(found(*events), {"offset-conflict": 1})


@title("offset-conflict", "acknowledged after another was read there")
def conflict_late():
    equal(found(*sent(0, 1), READER, *reads((0, 0)), ("ack", "t", "p", 1, 0, 0)), {"offset-conflict": 1})


@title("offset-conflict", "a record where a complete read found none, forgotten or not")
def conflict_after_all():
    events = [("topic", "t", {}), *sent(0, 1, 2), READER, *reads((0, 0), (2, 1)), END]
    second = [("consumer", "t", "second", {}), *reads((0, 0), (1, 2), (2, 1), reader="second")]
    equal(found(*events, *second), {"offset-conflict": 1})
    equal(found(*events, ("forget", "t"), *second), {"offset-conflict": 1})


# Transactions: x with 0 and 1, y with 2 and 3.

X, Y = sent(0, 1, transaction="x"), sent(2, 3, transaction="y")
COMMIT_X = [*acked(0, 1), ("commit", "x"), ("committed", "x")]
OPEN_LOG = [("topic", "t", {}), READER]


@suite.case("committed, aborted and undecided transactions pass, there or not")
def transactions():
    aborted = [*OPEN_LOG, *X, *COMMIT_X, *Y, *acked(2, 3), ("abort", "y"), ("aborted", "y"), *reads(*ALL[:2]), END]
    equal(found(*aborted), {})
    undecided = [*OPEN_LOG, *X, *COMMIT_X, *Y, *acked(2, 3), ("commit", "y"), ("crash",), ("restart",)]
    equal(found(*undecided, *reads(*ALL[:2]), END), {})
    equal(found(*undecided, *reads(*ALL[:4]), END), {})


@suite.case("what an aborted transaction had may be sent again")
def tried_again():
    again = [*OPEN_LOG, *X, *acked(0, 1), ("abort", "x"), ("aborted", "x"), *sent(0, 1, transaction="y"), *acked(0, 1),
             ("commit", "y"), ("committed", "y")]
    equal(found(*again, *reads((3, 0), (4, 1)), END), {})
    equal(found(*again, *reads((3, 0)), END), {"lost-write": 1})
    eager = [("consumer", "t", "eager", {"isolation": "uncommitted"}),
             *reads((0, 0), (1, 1), (3, 0), (4, 1), reader="eager")]
    equal(found(*again, *eager, *reads((3, 0), (4, 1)), END), {}, "with a reader of all")


@title("lost-write", "of a committed transaction")
def lost_of_transaction():
    equal(found(*OPEN_LOG, *X, *COMMIT_X, *reads((0, 0)), END), {"lost-write": 1})


@title("duplicate", "in two transactions that were both committed")
def duplicate_of_transactions():
    events = [*OPEN_LOG, *X, *COMMIT_X, *sent(1, transaction="y"), *acked(1), ("commit", "y"), ("committed", "y"),
              *reads((0, 0), (1, 1), (3, 1)), END]
    equal(found(*events), {"duplicate": 1})


@title("aborted-read", "of an aborted transaction")
def aborted_read():
    events = [*OPEN_LOG, *X, *acked(0, 1), ("abort", "x"), ("aborted", "x"), *reads((0, 0))]
    equal(found(*events, END), {"aborted-read": 1})


@title("aborted-read", "of a publish that was refused")
def refused_read():
    equal(found(*OPEN_LOG, *sent(0), ("refused", "t", "p", 0), *reads((0, 0)), END), {"aborted-read": 1})


@title("uncommitted-read", "before anybody asked for the commit")
def uncommitted_read():
    events = [*OPEN_LOG, *X, *acked(0, 1), *reads((0, 0)), ("commit", "x"), ("committed", "x"), *reads((1, 1)), END]
    equal(found(*events), {"uncommitted-read": 1})


@suite.case("a reader of uncommitted records may see them, and aborted ones")
def uncommitted_reader():
    events = [("topic", "t", {}), ("consumer", "t", "eager", {"isolation": "uncommitted"}), READER, *X, *COMMIT_X,
              *Y, *reads(*ALL[:4], reader="eager"), ("abort", "y"), *sent(4), *acked(4),
              *reads((0, 0), (1, 1), (6, 4)), END]
    equal(found(*events), {})


@title("gap", "a committed reader passes over what was committed")
def gap_committed():
    events = [("topic", "t", {}), ("consumer", "t", "eager", {"isolation": "uncommitted"}), READER, *X, *COMMIT_X,
              *sent(2), *acked(2), *reads(*ALL[:3], reader="eager"), *reads((0, 0), (2, 2))]
    equal(found(*events), {"gap": 1})


@title("torn-transaction", "half of an undecided transaction is there")
def torn():
    events = [*OPEN_LOG, *Y, *acked(2, 3), ("commit", "y"), ("crash",), ("restart",), *reads((0, 3)), END, END]
    equal(found(*events), {"torn-transaction": 1})


@title("torn-transaction", "over two topics")
def torn_over_topics():
    events = [*OPEN_LOG, ("topic", "u", {}), ("consumer", "u", "r", {}), *sent(0, transaction="x"),
              *sent(0, transaction="x", topic="u"), *acked(0), *acked(0, topic="u"), ("commit", "x"), *reads((0, 0)), END,
              ("complete", "u")]
    equal(found(*events), {"torn-transaction": 1})


# A pipeline reads `in` and writes each of its messages to `t`, in transactions.

PIPELINE = [("topic", "in", {}), ("topic", "t", {"from": "in"}), READER, *sent(0, 1, topic="in"), *acked(0, 1, topic="in")]


@suite.case("a pipeline passes that had to do a transaction again")
def pipeline():
    equal(found(*PIPELINE, *X, *acked(0, 1), ("abort", "x"), ("aborted", "x"), *sent(0, 1, transaction="y"), *acked(0, 1),
                ("commit", "y"), ("committed", "y"), *reads((3, 0), (4, 1)), END), {})


@title("duplicate", "a pipeline's input was worked on twice")
def pipeline_twice():
    equal(found(*PIPELINE, *X, *acked(0, 1), ("commit", "x"), *sent(0, 1, transaction="y"), *acked(0, 1), ("commit", "y"),
                ("committed", "y"), *reads((0, 0), (1, 1), (3, 0), (4, 1)), END), {"duplicate": 2})


@title("lost-write", "a pipeline left out some of its input")
def pipeline_lost():
    equal(found(*PIPELINE, *sent(0, transaction="x"), *acked(0), ("commit", "x"), ("committed", "x"), *reads((0, 0)), END),
          {"lost-write": 1})


# The healthy queue: p's 0 to 4 confirmed, delivered to c.

def came(*numbers, consumer="c", again=False, topic="t"):
    return [("deliver", topic, consumer, "p", number, again) for number in numbers]


def done(*numbers, consumer="c", topic="t"):
    return [("done", topic, consumer, "p", number) for number in numbers]


def begins(consumer, **options):
    return ("consumer", "t", consumer, options)


C, D = begins("c"), begins("d")
QUEUE = [("topic", "t", {"kind": "queue"}), *sent(0, 1, 2, 3, 4), *acked(0, 1, 2, 3, 4), C]
CRASH = [("crash",), ("restart",)]


@suite.case("a healthy queue passes, drained or in the consumer's hands")
def healthy_queue():
    equal(found(*QUEUE, *came(0, 1, 2), *done(0, 1, 2), *came(3, 4), END), {})


@suite.case("rightful redelivery passes: a consumer's end, a return, a crash")
def redelivery():
    left = [*QUEUE, *came(0, 1, 2), *done(0), ("leave", "t", "c"), ("closed", "t", "c"), D]
    equal(found(*left, *came(1, 2, consumer="d", again=True), *came(3, 4, consumer="d"), END), {}, "after an end")
    returned = [*QUEUE, *came(0, 1, 2), ("return", "t", "c", "p", 1), *came(1, again=True), *came(3, 4), END]
    equal(found(*returned), {}, "after a return")
    crashed = [*QUEUE, *came(0, 1, 2), *done(0, 1), *CRASH, D]  # one acknowledgement was faster than the journal
    equal(found(*crashed, *came(1, 2, consumer="d", again=True), *came(3, 4, consumer="d"), END), {}, "after a crash")


@suite.case("an acknowledgement that was cut off with its connection is undecided")
def cut_off():
    equal(found(*QUEUE, *came(0, 1), *done(0, 1), ("leave", "t", "c"), D,
                *came(1, consumer="d", again=True), *came(2, 3, 4, consumer="d"), END), {})


@suite.case("competing consumers may be logged in any order among each other")
def competing():
    equal(found(*QUEUE, D, *came(1, 3), *came(0, 2, 4, consumer="d"), *done(1, 3), *done(0, 2, 4, consumer="d"), END), {})


@suite.case("a message may be flagged that nobody saw: its delivery was on the way")
def flagged_first():
    equal(found(*QUEUE, *CRASH, D, *came(0, 1, consumer="d", again=True), *came(2, 3, 4, consumer="d"), END), {})


@suite.case("flags needn't survive a crash where the broker doesn't promise it")
def flags_lost():
    events = [("topic", "t", {"kind": "queue", "flags_survive": False}), *QUEUE[1:], *came(0, 1), *CRASH, D]
    equal(found(*events, *came(0, 1, 2, 3, 4, consumer="d"), END), {})


@suite.case("a session's inbox gets what was published after it subscribed")
def inbox():
    events = [*sent(0, 1), *acked(0), ("topic", "inbox", {"kind": "queue", "from": "t"}), *acked(1), *sent(2, 3),
              *acked(2, 3), ("consumer", "inbox", "c", {})]
    equal(found(*events, *came(1, 2, 3, topic="inbox"), ("complete", "inbox")), {})
    equal(found(*events, *came(1, 3, topic="inbox"), ("complete", "inbox")), {"lost-write": 1})


@title("lost-write", "confirmed, and not in the queue")
def lost_of_queue():
    equal(found(*QUEUE, *came(0, 1, 2, 4), END), {"lost-write": 1})


@title("lost-write", "delivered, not acknowledged, and never again after a crash or a consumer's end")
def lost_unacknowledged():
    equal(found(*QUEUE, *came(0, 1, 2), *done(0, 2), *CRASH, D, *came(3, 4, consumer="d"), END), {"lost-write": 1})
    equal(found(*QUEUE, *came(0, 1, 2), *done(0, 2), ("leave", "t", "c"), D, *came(3, 4, consumer="d"), END),
          {"lost-write": 1})


@title("duplicate", "in the hands of two consumers at once")
def duplicate_held():
    equal(found(*QUEUE, D, *came(0, 1), *came(1, consumer="d", again=True)), {"duplicate": 1})


@title("duplicate", "again to the consumer that has acknowledged it")
def duplicate_done():
    equal(found(*QUEUE, *came(0, 1, 2), *done(0, 1, 2), *came(1)), {"duplicate": 1})


@title("duplicate", "again after a consumer acknowledged it and closed in order")
def duplicate_settled():
    events = [*QUEUE, *came(0, 1), *done(0, 1), ("leave", "t", "c"), ("closed", "t", "c"), D]
    equal(found(*events, *came(1, consumer="d", again=True)), {"duplicate": 1})


@title("unflagged-redelivery", "after a consumer's end, a return and a crash")
def unflagged():
    equal(found(*QUEUE, *came(0, 1), ("leave", "t", "c"), D, *came(0, consumer="d")), {"unflagged-redelivery": 1})
    equal(found(*QUEUE, *came(0), ("return", "t", "c", "p", 0), *came(0)), {"unflagged-redelivery": 1})
    equal(found(*QUEUE, *came(0, 1), *CRASH, D, *came(0, consumer="d", again=True), *came(1, consumer="d")),
          {"unflagged-redelivery": 1})


@title("reordered", "one consumer gets a later message first")
def reordered_queue():
    equal(found(*QUEUE, *came(0, 2, 1, 3, 4), END), {"reordered": 1})


@title("reordered", "what came back isn't at its old place")
def reordered_redelivery():
    events = [*QUEUE, *came(0, 1, 2), *CRASH, D, *came(1, 2, consumer="d", again=True),
              *came(3, consumer="d"), *came(0, consumer="d", again=True), *came(4, consumer="d"), END]
    equal(found(*events), {"reordered": 1})


@title("reordered", "an undecided one of an earlier round turns up")
def reordered_round():
    events = [*QUEUE, *sent(5, 6), *came(0, 1, 2, 3, 4, 6), END, *CRASH, D, *came(0, 1, 2, 3, 4, consumer="d", again=True)]
    equal(found(*events, *came(6, consumer="d", again=True)), {})
    later = [*CRASH, begins("e"), *came(5, consumer="e")]
    equal(found(*events, *came(6, consumer="d", again=True), *later), {"reordered": 1})


@title("gap", "of one connection to a queue the middle is missing")
def gap_of_queue():
    equal(found(("topic", "t", {"kind": "queue"}), ("publisher", "t", "p", {"gapless": True}), *sent(0, 1, 2), C,
                *came(0, 2), END), {"gap": 1})


@title("phantom", "a delivery of what nobody published")
def phantom_of_queue():
    equal(found(*QUEUE, *came(9), ("deliver", "t", "c", None, "junk", False)), {"phantom": 2})


@title("aborted-read", "from a queue, of an aborted transaction")
def aborted_of_queue():
    equal(found(QUEUE[0], *X, ("abort", "x"), C, *came(0)), {"aborted-read": 1})


@title("uncommitted-read", "from a queue")
def uncommitted_of_queue():
    equal(found(QUEUE[0], *X, C, *came(0), ("commit", "x"), ("committed", "x"), *came(1)), {"uncommitted-read": 1})


# The machinery.

@suite.case("a history that is wrong itself is refused")
def wrong():
    for events in ([("ack", "t", "p", 0)], [*sent(0), ("ack", "t", "p", 1)], [("nonsense",)], [("send", "t")],
                   [("read", "t", "r", "p", 0, 0, 0)], [("topic", "t", {"kind": "heap"})],
                   [*QUEUE, *done(0)], [*X, ("committed", "x"), *sent(2, transaction="x")]):
        try:
            found(*events)
        except HistoryError as error:
            assert f"line {len(events)}" in str(error), error
        else:
            raise AssertionError(f"{events[-1]} was taken")


@suite.case("a report names the messages, and a history on disk has their events")
def looked_up():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "history")
        save(path, [*UNPLACED, *reads(*ALL[:4]), END])
        report = Checker().feed(load(path)).finish()
        text = str(report)
        assert "lost-write: 1 (acknowledged, and not there)" in text, text
        assert "line 18: t p:4 was acknowledged" in text, text
        equal([event[0] for _, event in about(load(path), report.messages())], ["send", "ack", "complete"])
        history = History(path)
        history.log("send", "t", "p", 0)
        equal(history.take(), [("send", "t", "p", 0)])
        history.close()
        equal(list(load(path)), [["send", "t", "p", 0]])


@suite.case("runs are sets")
def runs_are_sets():
    dice = random.Random(1)
    for _ in range(200):
        one, two = (dice.choices(range(60), k=dice.randrange(60)) for _ in range(2))
        runs, other, known = Runs(), Runs(), set()
        for number in one:
            equal(runs.add(number), number not in known, "new")
            known.add(number)
        other.update(two)
        equal(list(runs), sorted(known))
        equal([number in runs for number in range(-1, 61)], [number in known for number in range(-1, 61)])
        equal(len(runs), len(known))
        equal(runs.highest(), max(known, default=-1))
        rest = [number for start, end in runs.minus(other) for number in range(start, end)]
        equal(rest, sorted(known - set(two)), "difference")
        equal([runs.first_from(number) for number in range(60)],
              [min((one for one in known if one >= number), default=None) for number in range(60)])
        assert all(end < start for end, start in zip(runs.ends, runs.starts[1:])), "runs that touch"


@suite.case("offsets are a map")
def offsets_are_a_map():
    offsets = Offsets()
    for offset in (5000, 0, 4095, 4096, 10**12):
        offsets[offset] = offset + 1
    equal([offsets[offset] for offset in (0, 1, 4095, 4096, 5000, 10**12)], [1, 0, 4096, 4097, 5001, 10**12 + 1])
    equal(list(offsets.items(1, 5000)), [(4095, 4096), (4096, 4097)])
    offsets.forget_below(5000)
    equal(list(offsets.items(0, 10**13)), [(4096, 4097), (5000, 5001), (10**12, 10**12 + 1)])


@suite.case("a million events over a hundred crashes take seconds and little memory")
def large():
    def events():
        yield ("topic", "t", {"dense": True})
        offset = number = 0
        for _ in range(100):
            first, number = number, number + 3500
            for publish in range(first, number):
                yield ("send", "t", "p", publish)
                yield ("ack", "t", "p", publish, 0, publish - first + offset) if publish % 100 < 90 else ("note",)
            number += 3  # undecided, and lost
            yield ("crash",)
            yield ("consumer", "t", "r", {})
            for publish in range(first, first + 3500):
                yield ("read", "t", "r", "p", publish, 0, offset)
                offset += 1
            yield ("complete", "t")
            yield ("forget", "t")

    began = time.process_time()  # not the clock on the wall: others may be at work
    checker = Checker()
    report = checker.feed(events()).finish()
    equal(report.counts, {})
    equal(report.reads, 350000)
    topic = checker.topics["t"]
    assert len(topic.partitions[0].contents.chunks) <= 1 and len(topic.seen["p"].starts) == 100
    assert time.process_time() - began < 60


if __name__ == "__main__":
    sys.exit(suite.run())
