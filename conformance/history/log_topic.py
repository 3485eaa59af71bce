"""A topic as a log: records at offsets of partitions, read by any number of readers.

What the readers saw gives each partition's contents. A single read is judged at once by what its
reader saw before, by what is known to be at that offset and by what the publisher did; the order of
the contents, and what they lack, when a complete read is logged, or at the end."""

from .sets import Offsets
from .topic import Topic

NUMBERS = 1 << 40  # a record's identity is its publisher's index and its number in one integer


class Partition:
    def __init__(self):
        self.contents = Offsets()  # negative where only readers of uncommitted records have been
        self.end = 0  # behind the last offset known
        self.judged = 0  # up to where order and duplicates have been judged
        self.forgotten = 0  # up to where contents may have been dropped
        self.expected = {}  # offset -> (publisher, number): acknowledged there, not read yet
        self.last = {}  # publisher -> its last number in the order of offsets, as far as judged
        self.skips = []  # (reader, start, end, line) that a reader passed over


class Reader:
    def __init__(self, name, isolation="committed"):
        self.name = name
        self.committed = isolation == "committed"
        self.positions = {}  # partition -> the next offset


class Log(Topic):
    """`dense`: every offset holds a record; without it, markers and what compaction took may lie between."""

    def __init__(self, checker, name, source=None, dense=False):
        super().__init__(checker, name, source)
        self.dense = dense
        self.readers = {}
        self.partitions = {}
        self.names, self.indexes = [], {}

    def partition(self, number):
        if number not in self.partitions:
            self.partitions[number] = Partition()
        return self.partitions[number]

    def identity(self, publisher, number):
        index = self.indexes.get(publisher)
        if index is None:
            index = self.indexes[publisher] = len(self.names)
            self.names.append(publisher)
        return index * NUMBERS + number + 1

    def message(self, identity):
        index, number = divmod(abs(identity) - 1, NUMBERS)
        return self.names[index], number

    def acknowledged_at(self, publisher, number, place, offset):
        partition = self.partition(place)
        known = partition.contents[offset]
        if known:
            if abs(known) != self.identity(publisher, number):
                self._conflict(place, offset, publisher, number, "is acknowledged",
                               "%s:%d was read there" % self.message(known))
        elif offset in partition.expected and partition.expected[offset] != (publisher, number):
            self._conflict(place, offset, publisher, number, "is acknowledged",
                           "so was %s:%d" % partition.expected[offset])
        elif offset >= partition.forgotten:
            partition.expected[offset] = (publisher, number)

    def _conflict(self, place, offset, publisher, number, what, other):
        self.report("offset-conflict", publisher, number, f"{what} at {place}/{offset}, but {other}")

    def consumer(self, name, **options):
        self.readers[name] = Reader(name, **options)

    def assign(self, name, place, offset):
        self.readers[name].positions[place] = offset

    def read(self, name, publisher, number, place, offset):
        reader, partition = self.readers[name], self.partition(place)
        self._follow(reader, partition, place, offset)
        publications = self.sender(publisher, number) if publisher is not None else None
        if publications is None:
            self.report_phantom(publisher, number, f"at {place}/{offset}, read by {name}")
            return
        forbidden = publications.forbids(number) if reader.committed else None
        if forbidden:
            self.report(forbidden, publisher, number, f"at {place}/{offset}, read by {name}")
        visible = reader.committed or not publications.transactional
        self._place(name, visible, place, offset, publisher, number)

    def _follow(self, reader, partition, place, offset):
        """The reader's position."""
        position = reader.positions.get(place, offset)
        if offset < position:
            self.report("backwards-read", None, None,
                        f"{place}/{offset}: {reader.name} had read up to {position - 1}")
        elif offset > position:
            if self.dense:
                self.report("gap", None, None, f"{place}/{position}: {reader.name} went from "
                            f"{position - 1} on to {offset}", offset - position)
            else:
                partition.skips.append((reader, position, offset, self.checker.line))
        reader.positions[place] = offset + 1

    def _place(self, reader, visible, place, offset, publisher, number):
        """What this offset holds, against what is known about it. `visible`: as committed."""
        partition = self.partition(place)
        identity = self.identity(publisher, number)
        known = partition.contents[offset]
        read = f"was read by {reader}"
        if known and abs(known) != identity:
            self._conflict(place, offset, publisher, number, read,
                           "%s:%d was read there before" % self.message(known))
            return
        if offset < partition.judged:
            if visible and known <= 0:
                self._place_late(partition, place, offset, publisher, number, known, read)
            return
        expected = partition.expected.pop(offset, None)
        if expected and expected != (publisher, number):
            self._conflict(place, offset, publisher, number, read,
                           "%s:%d was acknowledged there" % expected)
        if known <= 0:
            partition.contents[offset] = identity if visible else -identity
        partition.end = max(partition.end, offset + 1)

    def _place_late(self, partition, place, offset, publisher, number, known, read):
        """At an offset that a complete read has passed."""
        if known < 0:  # as not committed, which it is now
            partition.contents[offset] = -known
            if not self.seen_of(publisher).add(number):
                self.report("duplicate", publisher, number, f"is at {place}/{offset} again")
        elif offset >= partition.forgotten or number not in self.seen_of(publisher):
            self._conflict(place, offset, publisher, number, read, "a complete read found it not there")

    def _judge(self):
        """Contents in the order of offsets, from where they were judged last."""
        for place, partition in self.partitions.items():
            for offset, identity in partition.contents.items(partition.judged, partition.end):
                if identity > 0:
                    self._judge_one(place, partition, offset, *self.message(identity))
            partition.judged = partition.end
        for place, partition in self.partitions.items():
            self._judge_skips(place, partition)

    def _judge_one(self, place, partition, offset, publisher, number):
        publications = self.sender(publisher, number)
        last = partition.last.get(publisher, -1)
        if not self.seen_of(publisher).add(number):
            if not publications.may_repeat(number):
                self.report("duplicate", publisher, number, f"is at {place}/{offset} again")
        elif number < last and publications.ordered:
            self.report("reordered", publisher, number, f"at {place}/{offset} comes after {last}")
        partition.last[publisher] = max(last, number)

    def _judge_skips(self, place, partition):
        for reader, start, end, line in partition.skips:
            for offset, identity in partition.contents.items(start, end):
                publisher, number = self.message(identity)
                # An uncommitted reader may have seen an aborted copy of what is elsewhere.
                aborted = identity < 0 and (number in self.seen_of(publisher) or
                                            number not in self.sender(publisher, number).committed)
                if not (aborted and reader.committed):
                    self.report("gap", publisher, number, f"is at {place}/{offset}, which {reader.name} "
                                f"passed over (line {line})")
        partition.skips = []

    def complete(self):
        self._judge()
        super().complete()
        for place, partition in self.partitions.items():
            for offset, (publisher, number) in partition.expected.items():
                elsewhere = number in self.seen_of(publisher)
                if elsewhere and not self.sent(publisher, number).in_doubt(number):
                    self._conflict(place, offset, publisher, number, "was acknowledged", "is elsewhere")
            partition.expected = {}

    def forget(self):
        """Drops the contents read so far; that they were there is kept."""
        for partition in self.partitions.values():
            partition.forgotten = partition.judged
            partition.contents.forget_below(partition.forgotten)

    def leave(self, name):
        del self.readers[name]

    def closed(self, name):
        pass

    def crash(self):
        pass  # what was read stays read, and a reader its position

    def finish(self):
        self._judge()

