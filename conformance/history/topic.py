"""What publishers did to a topic, transactions included, and what follows for a reader of it. The two
sorts of topics (log.py, queue.py) are made on top of this."""

from .events import HistoryError
from .sets import Runs

OPEN, COMMITTING, COMMITTED, ABORTED = "open", "committing", "committed", "aborted"


class Transaction:
    """COMMITTING lasts until an answer; one that never comes leaves it undecided, which is the same."""

    def __init__(self, name):
        self.name = name
        self.state = OPEN
        self.line = 0  # of the last event about it
        self.told = False  # that it is torn
        self.sends = {}  # (Publications, number) -> acknowledged

    def end(self, state):
        self.state = state
        for (publications, number), acknowledged in self.sends.items():
            publications.decide(self, number, acknowledged)


class Publications:
    """Of one publisher to one topic."""

    def __init__(self, topic, name):
        self.topic = topic
        self.name = name
        self.once = self.ordered = True
        self.gapless = False
        self.connections = []  # the first number of each since the last complete read
        self.sent, self.acknowledged, self.refused = Runs(), Runs(), Runs()
        self.again = Runs()  # sent more than once outside of transactions: copies are no duplicates
        self.transactional = False
        self.attempts = {}  # number -> the transactions it was sent in that aren't over
        self.committed, self.aborted = Runs(), Runs()

    def connect(self, once=True, ordered=True, gapless=False):
        self.once, self.ordered, self.gapless = once, ordered, gapless
        if gapless:
            self.connections.append(self.sent.highest() + 1)

    def send(self, number, transaction):
        new = self.sent.add(number)
        if transaction is None:
            if not new:
                self.again.add(number)
            return
        self.transactional = True
        self.attempts.setdefault(number, []).append(transaction)
        transaction.sends[self, number] = False

    def acknowledge(self, number):
        attempts = self.attempts.get(number)
        if attempts:
            attempts[-1].sends[self, number] = True
        elif number not in self.aborted or number in self.committed or number in self.again:
            self.acknowledged.add(number)

    def decide(self, transaction, number, acknowledged):
        attempts = self.attempts.get(number, [])
        if transaction in attempts:
            attempts.remove(transaction)
            if not attempts:
                del self.attempts[number]
        (self.committed if transaction.state == COMMITTED else self.aborted).add(number)
        if transaction.state == COMMITTED and acknowledged:
            self.acknowledged.add(number)

    def may_repeat(self, number):
        return not self.once or number in self.again

    def in_doubt(self, number):
        """Whether some attempt to send it needn't have left anything behind, however acknowledged."""
        return self.transactional and (number in self.attempts or number in self.aborted)

    def forbids(self, number):
        """The anomaly it is to see `number` as committed now, or None."""
        if self.transactional and number not in self.committed:
            attempts = self.attempts.get(number)
            if attempts:
                doubtful = any(one.state == COMMITTING for one in attempts)
                return None if doubtful else "uncommitted-read"
        if number in self.committed or number in self.again:
            return None
        return "aborted-read" if number in self.aborted or number in self.refused else None


class Topic:
    """Publishers' side of a topic. `source` is a topic whose messages get here as well: of a session's
    inbox, a bound queue, a pipeline's output."""

    def __init__(self, checker, name, source=None):
        self.checker = checker
        self.name = name
        self.source = source
        # What was sent to the source before now needn't get here.
        self.since = {p.name: p.sent.highest() + 1 for p in source.publishers.values()} if source else {}
        self.publishers = {}
        self.seen = {}  # publisher -> Runs of what a reader saw (of a log: as committed)
        self.lost = {}  # publisher -> Runs of what was reported as lost, once
        self.completed = 0  # the line of the last complete read

    def publications(self, name):
        if name not in self.publishers:
            self.publishers[name] = Publications(self, name)
        return self.publishers[name]

    def sender(self, publisher, number):
        """The publications that a message is of, here or in the source; None if nobody sent it."""
        for topic in (self, self.source):
            publications = topic and topic.publishers.get(publisher)
            if publications and number in publications.sent:
                return publications
        return None

    def sent(self, publisher, number):
        publications = self.publishers.get(publisher)
        if publications is None or number not in publications.sent:
            raise HistoryError(f"line {self.checker.line}: {publisher}:{number} was never sent to {self.name}")
        return publications

    def seen_of(self, publisher):
        return self.seen.setdefault(publisher, Runs())

    def report(self, kind, publisher, number, text, count=1):
        message = None if publisher is None else (self.name, publisher, number)
        named = self.name if publisher is None else f"{self.name} {publisher}:{number}"
        self.checker.report.add(kind, self.checker.line, message, f"{named} {text}", count)

    def report_phantom(self, publisher, number, where):
        """`publisher` is None and `number` an excerpt, of what no publisher of ours wrote."""
        message = repr(number) if publisher is None else f"{publisher}:{number}"
        self.checker.report.add("phantom", self.checker.line, None, f"{self.name} {message} {where}")

    def complete(self):
        """All there is has been read: judges what isn't there."""
        self.completed = self.checker.line
        for topic in (self, self.source):
            for publications in topic.publishers.values() if topic else ():
                self._judge_lost(publications, self.since if topic is self.source else {})
        for publications in self.publishers.values():
            self._judge_gaps(publications)

    def accounted(self, publisher):
        """Runs of what an acknowledged message has to be in, for all there is has been read."""
        return self.seen_of(publisher)

    def is_held(self, _publisher, _number):
        """Whether a reader has it in its hands although it isn't accounted for."""
        return False

    def _judge_lost(self, publications, since):
        name = publications.name
        lost = self.lost.setdefault(name, Runs())
        first = since.get(name, 0)
        for start, end in list(publications.acknowledged.minus(self.accounted(name))):
            missing = [number for number in range(max(start, first), end)
                       if number not in lost and not self.is_held(name, number)]
            if not missing:
                continue
            for number in missing:
                lost.add(number)
            upto = f" (and on to {missing[-1]})" if len(missing) > 1 else ""
            delivered = missing[0] in self.seen_of(name)
            self.report("lost-write", name, missing[0], "was acknowledged, "
                        + ("delivered, not acknowledged by the consumer, and never came again"
                           if delivered else "and a complete read didn't find it") + upto, len(missing))

    def _judge_gaps(self, publications):
        """Of what one connection of a gapless publisher sent, a complete read finds all up to some
        number and nothing behind it."""
        name, starts = publications.name, publications.connections
        seen, lost = self.seen_of(name), self.lost.setdefault(name, Runs())
        missing = list(publications.sent.minus(seen)) if starts else []
        for start, end in zip(starts, starts[1:] + [publications.sent.highest() + 1]):
            hole = next((max(first, start) for first, last in missing if last > start), end)
            behind = seen.first_from(hole)
            if hole < end and behind is not None and behind < end and hole not in lost:
                lost.add(hole)
                self.report("gap", name, hole, f"is missing, and {behind}, sent after it on the same "
                            "connection, is there")
        publications.connections = starts[-1:]
