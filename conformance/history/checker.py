"""Finds what a broker must not do in a history of what its clients did. README.md describes the model.

    checker = Checker()
    checker.feed(events)      # as often as one likes
    report = checker.finish()
    report.ok, report.counts, str(report)
"""

from .events import HistoryError
from .log_topic import Log
from .queue_topic import Queue
from .report import Report
from .topic import ABORTED, COMMITTED, COMMITTING, OPEN, Transaction


class Checker:
    def __init__(self):
        self.line = 0  # of the event at hand, from 1
        self.report = Report()
        self.topics = {}
        self.transactions = {}  # name -> those that aren't known to be over
        self.over = set()  # names of the others: a name stands for one transaction
        self.handlers = {name: getattr(self, "on_" + name) for name in (
            "topic", "publisher", "consumer", "send", "ack", "refused", "unknown", "commit", "committed",
            "abort", "aborted", "assign", "read", "deliver", "done", "leave", "closed", "crash",
            "restart", "complete", "forget", "note")}
        self.handlers["return"] = self.on_return

    def feed(self, events):
        handlers = self.handlers
        for event in events:
            self.line += 1
            handler = handlers.get(event[0])
            if handler is None:
                raise HistoryError(f"line {self.line}: unknown event {event[0]!r}")
            try:
                handler(*event[1:])
            except (KeyError, TypeError) as error:
                raise HistoryError(f"line {self.line}: {event!r}: {error!r}") from error
        return self

    def finish(self):
        """Judges what can be judged only at the end, and gives the report."""
        for topic in self.topics.values():
            topic.finish()
        self._judge_torn()
        return self.report

    def topic(self, name):
        if name not in self.topics:
            self.topics[name] = Log(self, name)
        return self.topics[name]

    def on_topic(self, name, options):
        if name in self.topics:
            raise HistoryError(f"line {self.line}: {name} is known already")
        options = dict(options)
        kind, source = options.pop("kind", "log"), options.pop("from", None)
        sort = {"log": Log, "queue": Queue}[kind]
        self.topics[name] = sort(self, name, self.topic(source) if source else None, **options)

    def on_publisher(self, topic, publisher, options):
        self.topic(topic).publications(publisher).connect(**options)

    def on_send(self, topic, publisher, number, transaction=None):
        if transaction is not None:
            transaction = self._transaction(transaction)
        self.topic(topic).publications(publisher).send(number, transaction)
        self.report.sent += 1

    def on_ack(self, topic, publisher, number, partition=None, offset=None):
        topic = self.topics[topic]
        topic.sent(publisher, number).acknowledge(number)
        self.report.acknowledged += 1
        if offset is not None:
            topic.acknowledged_at(publisher, number, partition, offset)

    def on_refused(self, topic, publisher, number):
        self.topics[topic].sent(publisher, number).refused.add(number)
        self.report.refused += 1

    def on_unknown(self, topic, publisher, number):
        self.topics[topic].sent(publisher, number)

    def _transaction(self, name):
        if name in self.over:
            raise HistoryError(f"line {self.line}: transaction {name} is over")
        if name not in self.transactions:
            self.transactions[name] = Transaction(name)
        transaction = self.transactions[name]
        transaction.line = self.line
        return transaction

    def on_commit(self, name):
        self._transaction(name).state = COMMITTING

    def on_committed(self, name):
        self._end(name, COMMITTED)

    def on_abort(self, name):
        """Once asked for, and not a commit before, it can come to nothing else."""
        if self._transaction(name).state == OPEN:
            self._end(name, ABORTED)

    def on_aborted(self, name):
        if name not in self.over:
            self._end(name, ABORTED)

    def _end(self, name, state):
        self._transaction(name).end(state)
        del self.transactions[name]
        self.over.add(name)

    def _judge_torn(self):
        """An undecided transaction is there as a whole or not at all, as far as everything was read
        after its end."""
        for transaction in list(self.transactions.values()):
            if transaction.state != COMMITTING or transaction.told:
                continue
            there, missing = [], []
            for (publications, number), acknowledged in transaction.sends.items():
                topic = publications.topic
                if topic.completed <= transaction.line or publications.attempts[number] != [transaction]:
                    continue
                if number in topic.seen_of(publications.name):
                    there.append((topic, publications.name, number))
                elif acknowledged:
                    missing.append((topic, publications.name, number))
            if there and missing:
                topic, publisher, number = missing[0]
                topic.report("torn-transaction", publisher, number,
                             f"of {transaction.name} isn't there, and {there[0][1]}:{there[0][2]} is")
                transaction.told = True

    def on_consumer(self, topic, consumer, options):
        self.topic(topic).consumer(consumer, **options)

    def on_assign(self, topic, consumer, partition, offset):
        self.topics[topic].assign(consumer, partition, offset)

    def on_read(self, topic, consumer, publisher, number, partition, offset):
        self.report.reads += 1
        self.topics[topic].read(consumer, publisher, number, partition, offset)

    def on_deliver(self, topic, consumer, publisher, number, redelivered):
        self.report.reads += 1
        self.topics[topic].deliver(consumer, publisher, number, redelivered)

    def on_done(self, topic, consumer, publisher, number):
        self.topics[topic].acknowledge(consumer, publisher, number)

    def on_return(self, topic, consumer, publisher, number):
        self.topics[topic].give_back(consumer, publisher, number)

    def on_leave(self, topic, consumer):
        self.topics[topic].leave(consumer)

    def on_closed(self, topic, consumer):
        self.topics[topic].closed(consumer)

    def on_crash(self):
        for topic in self.topics.values():
            topic.crash()

    def on_restart(self):
        pass

    def on_complete(self, topic):
        self.topics[topic].complete()
        self._judge_torn()

    def on_forget(self, topic):
        self.topics[topic].forget()

    def on_note(self, *_):
        pass
