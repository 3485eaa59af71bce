"""A topic as a queue: a message goes to one consumer at a time and is gone when that one acknowledges
it. A consumer's end, a crash of the broker and a return bring back what isn't acknowledged."""

from .events import HistoryError
from .sets import Runs
from .topic import Topic


class Consumer:
    """Of a queue. `automatic`: what is delivered to it counts as acknowledged."""

    def __init__(self, queue, name, automatic=False):
        self.name = name
        self.automatic = automatic
        self.began = queue.checker.line
        self.done = {}  # publisher -> Runs of what it acknowledged
        self.last = {}  # publisher -> the highest number it got
        # Of one that left, messages may still be on their way back.
        self.disturbed = any(one.left for one in queue.consumers.values())
        self.left = False


class Queue(Topic):
    """`flags_survive`: the redelivered flag tells of deliveries before a crash as well."""

    def __init__(self, checker, name, source=None, flags_survive=True):
        super().__init__(checker, name, source)
        self.flags_survive = flags_survive
        self.consumers = {}
        self.held = {}  # (publisher, number) -> the consumer that has it and hasn't acknowledged it
        self.delivered = {}  # publisher -> Runs of what has to be flagged when it comes again
        self.done = {}  # publisher -> Runs of what was ever acknowledged by a consumer
        self.settled = {}  # the same, by consumers that closed in order since the last crash
        self.highest = {}  # publisher -> the highest number delivered
        self.floors = {}  # the same, as of the last complete read: what was missing below doesn't come
        self.returned = 0  # the line at which something was last given back by a consumer

    def consumer(self, name, **options):
        self.consumers[name] = Consumer(self, name, **options)

    def deliver(self, name, publisher, number, redelivered):
        consumer = self.consumers[name]
        publications = self.sender(publisher, number) if publisher is not None else None
        if publications is None:
            self.report_phantom(publisher, number, f"came to {name}")
            return
        forbidden = publications.forbids(number)
        if forbidden:
            self.report(forbidden, publisher, number, f"came to {name}")
        repeat = not self.seen_of(publisher).add(number)
        before = self.delivered.setdefault(publisher, Runs())
        again = not before.add(number)
        copies = publications.may_repeat(number)
        taken = self._taken(publisher, number) if repeat and not copies else None
        if taken:
            self.report("duplicate", publisher, number, f"came to {name}, and {taken}")
        elif again and not redelivered and not copies:
            self.report("unflagged-redelivery", publisher, number,
                        f"came to {name}, for another time and without the flag")
        elif publications.ordered and not (repeat and copies):
            self._follow(consumer, publisher, number, redelivered, not repeat)
        consumer.last[publisher] = max(consumer.last.get(publisher, -1), number)
        self.highest[publisher] = max(self.highest.get(publisher, -1), number)
        self.held[publisher, number] = consumer
        if consumer.automatic:
            self.acknowledge(name, publisher, number)

    def _taken(self, publisher, number):
        """Why a message can't come (again) now, or None."""
        holder = self.held.get((publisher, number))
        if holder:
            return f"{holder.name} has it"
        if number in self.settled.get(publisher, ()):
            return "it was acknowledged by a consumer that has closed in order since"
        for consumer in self.consumers.values():
            if not consumer.left and number in consumer.done.get(publisher, ()):
                return f"{consumer.name}, still there, has acknowledged it"
        return None

    def _follow(self, consumer, publisher, number, redelivered, fresh):
        last = consumer.last.get(publisher, -1)
        disturbed = redelivered and (consumer.disturbed or self.returned >= consumer.began)
        if number < last and not disturbed:
            self.report("reordered", publisher, number, f"came to {consumer.name} after {last}")
        elif fresh and number < self.floors.get(publisher, -1):
            self.report("reordered", publisher, number, f"came to {consumer.name} for the first time; a "
                        f"complete read had got as far as {self.floors[publisher]} without it")

    def acknowledge(self, name, publisher, number):
        if self.held.pop((publisher, number), None) is None:
            raise HistoryError(f"line {self.checker.line}: {name} hasn't got {publisher}:{number} of {self.name}")
        self.consumers[name].done.setdefault(publisher, Runs()).add(number)
        self.done.setdefault(publisher, Runs()).add(number)

    def give_back(self, _name, publisher, number):
        self.held.pop((publisher, number), None)
        self.returned = self.checker.line

    def leave(self, name):
        consumer = self.consumers[name]
        consumer.left = True
        self.held = {message: one for message, one in self.held.items() if one is not consumer}
        self.returned = self.checker.line

    def closed(self, name):
        consumer = self.consumers.pop(name, None)
        for publisher, numbers in consumer.done.items() if consumer else ():
            self.settled.setdefault(publisher, Runs()).update(numbers)

    def crash(self):
        """Acknowledgements may be undone by it, if they weren't on disk."""
        self.consumers.clear()
        self.held.clear()
        self.settled.clear()
        if not self.flags_survive:
            self.delivered.clear()

    def accounted(self, publisher):
        return self.done.setdefault(publisher, Runs())

    def is_held(self, publisher, number):
        return (publisher, number) in self.held

    def complete(self):
        super().complete()
        self.floors = dict(self.highest)

    def forget(self):
        pass  # nothing is kept that grows but by the holes

    def finish(self):
        pass
