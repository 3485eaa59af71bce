"""The life of queues."""

from decimal import Decimal

from .peer import Consumer, Peer, confirmed, depth, drain
from .scenario import scenario


@scenario("server-named queues: the name, and '' for the last one declared on the channel")
def server_named(broker, see):
    peer = Peer(broker)
    one = peer.channel.queue_declare("", exclusive=True).method.queue
    two = peer.channel.queue_declare("", exclusive=True).method.queue
    see("prefix", [one[:8], one == two, len(one)])
    peer.channel.queue_bind("", "amq.direct", "named")
    peer.channel.queue_bind("", "amq.direct", "")  # the key is '' too, so it becomes the name
    confirmed(peer, "amq.direct", [("named", b"by the key"), (two, b"by its name")])
    see("last", drain(peer.channel, two))
    see("first", drain(peer.channel, one))
    peer.channel.basic_publish("", two, b"waits")
    see("passive declare of ''", peer.attempt(lambda c: c.queue_declare("", passive=True)))
    see("get of ''", drain(peer.channel, ""))
    see("purge of ''", peer.channel.queue_purge("").method.message_count)
    see("declare a name of that kind", peer.attempt(lambda c: c.queue_declare(one, exclusive=True)))
    see("passively", peer.attempt(lambda c: c.queue_declare(one, passive=True)))
    see("'' on a channel that has declared none", peer.attempt(lambda c: c.queue_purge("")))
    peer.close()


@scenario("exclusive queues: another connection is locked out; they go with their connection")
def exclusive(broker, see):
    owner, other = Peer(broker), Peer(broker)
    owner.channel.queue_declare("q.mine", exclusive=True)
    owner.channel.queue_bind("q.mine", "amq.direct", "x")
    for title, call in (
            ("declare", lambda c: c.queue_declare("q.mine", exclusive=True)),
            ("passive", lambda c: c.queue_declare("q.mine", passive=True)),
            ("not exclusive", lambda c: c.queue_declare("q.mine")),
            ("bind", lambda c: c.queue_bind("q.mine", "amq.direct", "x")),
            ("unbind", lambda c: c.queue_unbind("q.mine", "amq.direct", "x")),
            ("purge", lambda c: c.queue_purge("q.mine")),
            ("delete", lambda c: c.queue_delete("q.mine")),
            ("get", lambda c: c.basic_get("q.mine")),
            ("consume", lambda c: c.basic_consume("q.mine", lambda *_: None))):
        see(f"another's {title}", other.attempt(call))
    confirmed(other, "", [("q.mine", b"from another")])
    see("another's publish", drain(owner.channel, "q.mine"))
    see("its own second channel", owner.attempt(lambda c: c.queue_declare("q.mine", exclusive=True)))
    owner.close()
    see("after its connection", other.attempt(lambda c: c.queue_declare("q.mine", passive=True)))
    owner = Peer(broker)
    owner.channel.queue_declare("q.mine", exclusive=True, durable=True)
    owner.drop()

    def gone():
        return "404" in other.attempt(lambda c: c.queue_declare("q.mine", passive=True))

    other.wait(gone, "end of the exclusive queue")
    other.close()


@scenario("auto-delete queues go with their last consumer, not before their first")
def auto_delete(broker, see):
    peer = Peer(broker)

    def there():
        return peer.attempt(lambda channel: channel.queue_declare("q.auto", passive=True))

    peer.channel.queue_declare("q.auto", auto_delete=True)
    peer.channel.basic_get("q.auto", True)
    see("never consumed", there())
    first, second = (Consumer(peer, "q.auto", peer.open()) for _ in range(2))
    first.channel.basic_cancel(first.tag)
    see("one of two consumers left", there())
    second.channel.close()
    see("the last one's channel closed", there())
    peer.channel.queue_declare("q.auto", auto_delete=True)
    consumer = Consumer(peer, "q.auto")
    peer.channel.basic_cancel(consumer.tag)
    see("the last one cancelled", there())
    peer.close()


@scenario("counts: declare, passive, get, purge and delete tell them; unacknowledged ones apart")
def counts(broker, see):
    peer = Peer(broker)
    channel = peer.channel

    def count(method):
        return method.method.message_count

    see("new", depth(channel, channel.queue_declare("q.counts").method.queue))
    confirmed(peer, "", [("q.counts", b"%d" % number) for number in range(5)])
    see("declared again", count(channel.queue_declare("q.counts")))
    got = [channel.basic_get("q.counts") for _ in range(2)]
    see("get counts", [[method.message_count, method.delivery_tag, method.redelivered]
                       for method, _, _ in got])
    see("ready beside two unacknowledged", depth(channel, "q.counts"))
    see("purged", count(channel.queue_purge("q.counts")))
    see("after purge", depth(channel, "q.counts"))
    channel.basic_nack(0, multiple=True)
    peer.wait(lambda: depth(channel, "q.counts")[0] == 2, "return of two messages")
    see("deleted", count(channel.queue_delete("q.counts")))
    see("deleted again", peer.attempt(lambda c: see("count", count(c.queue_delete("q.counts")))))
    peer.close()


@scenario("delete if unused and if empty; a consumer or a message keeps the queue")
def conditional_delete(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("q.kept")
    confirmed(peer, "", [("q.kept", b"x")])
    see("if empty, one waits", peer.attempt(lambda c: c.queue_delete("q.kept", if_empty=True)))
    method, _, _ = peer.channel.basic_get("q.kept")
    see("if empty, one unacknowledged", peer.attempt(lambda c: see(
        "count", c.queue_delete("q.kept", if_empty=True).method.message_count)))
    peer.channel.queue_declare("q.kept2")
    consumer = Consumer(peer, "q.kept2")
    see("if unused, consumed", peer.attempt(lambda c: c.queue_delete("q.kept2", if_unused=True)))
    peer.channel.basic_cancel(consumer.tag)
    see("if unused, cancelled", peer.attempt(lambda c: c.queue_delete("q.kept2", if_unused=True)))
    peer.close()


ATTRIBUTES = {
    "durable": {"durable": False}, "auto_delete": {"auto_delete": True},
    "exclusive": {"exclusive": True}, "x-queue-mode added": {"arguments": {"x-queue-mode": "lazy"}},
    "x-queue-type added": {"arguments": {"x-queue-type": "stream"}},
    "x-queue-type classic": {"arguments": {"x-queue-type": "classic"}},
    "an argument nobody knows": {"arguments": {"x-nobody-knows": 1}},
}
KEPT = {"x-queue-type": "stream", "x-max-age": "1h", "x-stream-max-segment-size-bytes": 1000000}
ARGUMENTS = {
    "the same": KEPT, "another text": {**KEPT, "x-max-age": "2h"},
    "a larger number": {**KEPT, "x-stream-max-segment-size-bytes": 1000001},
    "the number as text": {**KEPT, "x-stream-max-segment-size-bytes": "1000000"},
    "one left out": {"x-queue-type": "stream", "x-max-age": "1h"},
    "only the type": {"x-queue-type": "stream"}, "none": {},
    "one more": {**KEPT, "x-max-length-bytes": 1 << 30},
}


@scenario("redeclaring with another attribute is refused, naming it; with the same it is fine")
def inequivalent(broker, see):
    peer = Peer(broker)
    declare = {"durable": True}
    peer.channel.queue_declare("q.same", **declare)
    see("the same", peer.attempt(lambda c: c.queue_declare("q.same", **declare)))
    see("passive ignores all", peer.attempt(
        lambda c: c.queue_declare("q.same", passive=True, exclusive=True, auto_delete=True)))
    for title, change in ATTRIBUTES.items():
        see(title, peer.attempt(lambda c: c.queue_declare("q.same", **{**declare, **change})))
    peer.channel.queue_delete("q.same")
    peer.channel.queue_declare("q.args", durable=True, arguments=KEPT)
    for title, arguments in ARGUMENTS.items():
        see(f"arguments: {title}",
            peer.attempt(lambda c: c.queue_declare("q.args", durable=True, arguments=arguments)))
    peer.channel.queue_delete("q.args")
    peer.channel.exchange_declare("q.exchange", "direct")
    for title, change in (("the same", {}), ("type", {"exchange_type": "fanout"}),
                          ("durable", {"durable": True}), ("auto_delete", {"auto_delete": True}),
                          ("internal", {"internal": True}),
                          ("alternate", {"arguments": {"alternate-exchange": "x"}}),
                          ("an argument nobody knows", {"arguments": {"x-nobody-knows": 1}})):
        options = {"exchange_type": "direct", **change}
        see(f"exchange: {title}",
            peer.attempt(lambda c: c.exchange_declare("q.exchange", **options)))
    peer.channel.exchange_delete("q.exchange")
    peer.close()


INVALID = {
    "x-expires": [0, -1, "a", 1 << 40, True, Decimal("1.5")], "x-message-ttl": [-1, "1", 1 << 40],
    "x-max-length": [-1, "1"], "x-max-length-bytes": [-1, "x"], "x-max-priority": [-1, 256, "x"],
    "x-overflow": ["none", 1], "x-queue-type": ["odd", 1], "x-dead-letter-exchange": [1],
    "x-dead-letter-routing-key": ["without an exchange", 1], "x-single-active-consumer": ["x"],
    "x-queue-mode": ["odd", 1], "x-queue-master-locator": ["odd"], "x-queue-version": [7],
}


@scenario("queue arguments that RabbitMQ refuses are refused, in its words")
def invalid_arguments(broker, see):
    peer = Peer(broker)

    def refused(label, **options):
        if see(label, peer.attempt(lambda c: c.queue_declare("q.invalid", **options))) == "fine":
            peer.channel.queue_delete("q.invalid")

    for name, values in INVALID.items():
        for value in values:
            refused(f"{name} = {value!r}", exclusive=True, arguments={name: value})
    for kind, options in (
            ("quorum", {}), ("quorum", {"durable": True, "exclusive": True}),
            ("quorum", {"durable": True, "auto_delete": True}),
            ("quorum", {"durable": True, "arguments": {"x-max-priority": 5}}),
            ("stream", {}), ("stream", {"durable": True, "exclusive": True}),
            ("stream", {"durable": True, "auto_delete": True}),
            ("stream", {"durable": True, "arguments": {"x-max-age": "5 years"}}),
            ("stream", {"durable": True, "arguments": {"x-message-ttl": 1000}}),
            ("stream", {"durable": True, "arguments": {"x-max-length": 1000}})):
        arguments = {"x-queue-type": kind, **options.get("arguments", {})}
        refused(f"{kind} {options!r}", **{**options, "arguments": arguments})
    peer.close()


VALID = {
    "x-expires": 60000, "x-message-ttl": 60000, "x-max-length": 10, "x-max-length-bytes": 1000,
    "x-max-priority": 5, "x-overflow": "reject-publish", "x-dead-letter-exchange": "amq.fanout",
    "x-single-active-consumer": True, "x-queue-mode": "lazy", "x-queue-version": 2,
    "x-queue-master-locator": "client-local", "x-queue-type": "quorum", "x-nobody-knows": 1,
}


@scenario("queue arguments that RabbitMQ takes are taken, or refused rather than passed over")
def valid_arguments(broker, see):
    peer = Peer(broker)
    for name, value in VALID.items():
        if see(name, peer.attempt(lambda c: c.queue_declare(
                "q.valid", durable=True, arguments={name: value}))) == "fine":
            peer.channel.queue_delete("q.valid")
    peer.close()


@scenario("bindings: twice is once, unbinding what isn't there is fine, they go with their queue")
def bindings(broker, see):
    peer = Peer(broker)
    channel = peer.channel
    channel.queue_declare("q.bound")
    for _ in range(2):
        channel.queue_bind("q.bound", "amq.direct", "q.key")
    confirmed(peer, "amq.direct", [("q.key", b"x")])
    see("bound twice", drain(channel, "q.bound"))
    channel.queue_unbind("q.bound", "amq.direct", "q.key")
    confirmed(peer, "amq.direct", [("q.key", b"x")])
    see("unbound once", drain(channel, "q.bound"))
    see("unbind what isn't bound", peer.attempt(
        lambda c: c.queue_unbind("q.bound", "amq.direct", "q.nokey")))
    see("unbind a queue that isn't there", peer.attempt(
        lambda c: c.queue_unbind("q.none", "amq.direct", "q.nokey")))
    see("unbind from an exchange that isn't there", peer.attempt(
        lambda c: c.queue_unbind("q.bound", "q.none", "q.nokey")))
    channel.queue_bind("q.bound", "amq.direct", "q.key")
    channel.queue_delete("q.bound")
    channel.queue_declare("q.bound")
    confirmed(peer, "amq.direct", [("q.key", b"x")])
    see("deleted and declared anew", drain(channel, "q.bound"))
    channel.queue_delete("q.bound")
    peer.close()
