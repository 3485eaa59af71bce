"""Two containers that keep millions of a history's numbers in little memory.

Publishers count upwards and logs are read upwards, so what has been sent, acknowledged or seen is a
few long runs of numbers, and what a partition holds is a few chunks of an array."""

from array import array
from bisect import bisect_right


class Runs:
    """A set of integers, kept as runs: memory and most of the time go by the number of holes."""

    def __init__(self):
        self.starts = []
        self.ends = []  # exclusive; of as many runs as there are starts, neither touching the next

    def add(self, number):
        """Whether it is new."""
        starts, ends = self.starts, self.ends
        if not ends or number > ends[-1]:
            starts.append(number)
            ends.append(number + 1)
            return True
        if number == ends[-1]:
            ends[-1] += 1
            return True
        at = bisect_right(starts, number)  # the first run that begins behind it
        if at and number < ends[at - 1]:
            return False
        touches_left, touches_right = at and ends[at - 1] == number, starts[at] == number + 1
        if touches_left and touches_right:
            ends[at - 1] = ends[at]
            del starts[at], ends[at]
        elif touches_left:
            ends[at - 1] += 1
        elif touches_right:
            starts[at] = number
        else:
            starts.insert(at, number)
            ends.insert(at, number + 1)
        return True

    def __contains__(self, number):
        at = bisect_right(self.starts, number)
        return at > 0 and number < self.ends[at - 1]

    def __len__(self):
        return sum(self.ends) - sum(self.starts)

    def __iter__(self):
        for start, end in self.runs():
            yield from range(start, end)

    def runs(self):
        return zip(self.starts, self.ends)

    def first_from(self, number):
        """The smallest member that is `number` or more, or None."""
        if number in self:
            return number
        at = bisect_right(self.starts, number)
        return self.starts[at] if at < len(self.starts) else None

    def highest(self):
        return self.ends[-1] - 1 if self.ends else -1

    def minus(self, other):
        """The runs (start, end) of what is here and not there."""
        at, count = 0, len(other.starts)
        for start, end in self.runs():
            while at < count and other.ends[at] <= start:
                at += 1
            look = at
            while look < count and other.starts[look] < end:
                if other.starts[look] > start:
                    yield start, other.starts[look]
                start = max(start, other.ends[look])
                look += 1
            if start < end:
                yield start, end

    def update(self, other):
        for number in other:
            self.add(number)


class Offsets:
    """What a partition's offsets hold: offset -> an integer other than 0, in chunks."""

    CHUNK = 4096

    def __init__(self):
        self.chunks = {}

    def __getitem__(self, offset):
        """0 if nothing is known."""
        chunk = self.chunks.get(offset // self.CHUNK)
        return chunk[offset % self.CHUNK] if chunk else 0

    def __setitem__(self, offset, value):
        chunk = self.chunks.get(offset // self.CHUNK)
        if chunk is None:
            chunk = self.chunks[offset // self.CHUNK] = array("q", bytes(8 * self.CHUNK))
        chunk[offset % self.CHUNK] = value

    def items(self, start, end):
        """(offset, value) of what is known in [start, end), upwards."""
        for number in sorted(self.chunks):
            first = number * self.CHUNK
            if first >= end or first + self.CHUNK <= start:
                continue
            chunk = self.chunks[number]
            for at in range(max(start - first, 0), min(end - first, self.CHUNK)):
                if chunk[at]:
                    yield first + at, chunk[at]

    def forget_below(self, offset):
        """Chunks that lie below it as a whole."""
        for number in [number for number in self.chunks if (number + 1) * self.CHUNK <= offset]:
            del self.chunks[number]
