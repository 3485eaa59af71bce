"""What a check found: each anomaly's count, and examples that a person can look up."""

EXAMPLES = 10  # of each anomaly

MEANING = {
    "lost-write": "acknowledged, and not there",
    "duplicate": "there more than once, where once was promised",
    "reordered": "behind what its publisher sent later",
    "gap": "passed over, or missing before what its connection sent later",
    "backwards-read": "a reader's position went back by itself",
    "unflagged-redelivery": "delivered again without the redelivered flag",
    "aborted-read": "of an aborted transaction or a refused publish, and read",
    "uncommitted-read": "of a transaction whose commit nobody had asked for, and read",
    "torn-transaction": "of an undecided transaction a part is there and a part isn't",
    "offset-conflict": "an offset that held, or was acknowledged as, another record",
    "phantom": "read, and never published",
}


class Example:
    """`line` is the event of the history (from 1) at which it showed; `message` is (topic, publisher,
    number), or None."""

    def __init__(self, line, message, text):
        self.line, self.message, self.text = line, message, text

    def __str__(self):
        return f"line {self.line}: {self.text}"


class Report:
    def __init__(self):
        self.counts = {}
        self.examples = {}
        self.sent = self.acknowledged = self.refused = self.reads = 0

    def add(self, kind, line, message, text, count=1):
        assert kind in MEANING, kind
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(Example(line, message, text))

    @property
    def ok(self):
        return not self.counts

    def messages(self):
        """Those of the examples."""
        return {example.message for examples in self.examples.values() for example in examples} - {None}

    def summary(self):
        undecided = self.sent - self.acknowledged - self.refused
        return (f"{self.sent} published, {self.acknowledged} acknowledged, {self.refused} refused, "
                f"{undecided} undecided, {self.reads} reads")

    def __str__(self):
        lines = []
        for kind, count in self.counts.items():
            lines.append(f"{kind}: {count} ({MEANING[kind]})")
            lines += [f"  {example}" for example in self.examples[kind]]
        return "\n".join(lines + [self.summary()])
