"""A history: what clients did, one event after the other. On disk a JSON array a line; in memory the
same as tuples. README.md has the events and the rule for when to log one."""

import json


class HistoryError(Exception):
    """The history itself is wrong: an unknown event, an acknowledgement of what was never sent."""


class History:
    """Takes events from any thread, for take() by one that checks. With a path, a copy goes to disk."""

    def __init__(self, path=None):
        self.events = []
        self.file = open(path, "w") if path else None

    def log(self, *event):
        self.events.append(event)  # one operation of the interpreter, so threads need no lock

    def take(self):
        """The events since the last call. To be called while nobody logs, so that the copy on disk is in the
        same order."""
        events, self.events = self.events, []
        if self.file:
            for event in events:
                self.file.write(json.dumps(event, separators=(",", ":")))
                self.file.write("\n")
            self.file.flush()
        return events

    def close(self):
        if self.file:
            self.file.close()


def save(path, events):
    with open(path, "w") as file:
        for event in events:
            file.write(json.dumps(event, separators=(",", ":")))
            file.write("\n")


def load(path):
    """Streams a file's events."""
    with open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                event = json.loads(line)
            except ValueError as error:
                raise HistoryError(f"line {number}: {error}") from None
            if not isinstance(event, list) or not event:
                raise HistoryError(f"line {number}: not an array")
            yield event


def about(events, messages):
    """(line, event) of those that concern one of `messages`, (topic, publisher, number), and of what
    happened to the whole broker meanwhile."""
    for line, event in enumerate(events, 1):
        kind, fields = event[0], event[1:]
        if kind in ("crash", "restart", "complete"):
            yield line, event
        elif kind in ("read", "deliver", "done", "return"):
            if (fields[0], fields[2], fields[3]) in messages:
                yield line, event
        elif kind in ("send", "ack", "refused", "unknown") and tuple(fields[:3]) in messages:
            yield line, event
