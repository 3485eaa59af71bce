"""Which queues a message reaches."""

from decimal import Decimal

from pika.exceptions import UnroutableError

from .peer import Peer, confirmed, drain
from .scenario import scenario


def queue(peer, name, **options):
    peer.channel.queue_declare(name, exclusive=True, **options)
    return name


@scenario("the predeclared exchanges are there, with their types, durable")
def predeclared(broker, see):
    peer = Peer(broker)
    for name, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                       ("amq.headers", "headers"), ("amq.match", "headers")):
        see(name, peer.attempt(lambda channel: channel.exchange_declare(name, kind, durable=True)))
        see(f"{name}, passively",
            peer.attempt(lambda channel: channel.exchange_declare(name, kind, passive=True)))
        see(f"{name}, not durable",
            peer.attempt(lambda channel: channel.exchange_declare(name, kind)))
    peer.close()


@scenario("default exchange: a queue is reached by its name, and by nothing else")
def default(broker, see):
    peer = Peer(broker)
    for name in ("r.default", "r.default.x", "r.*"):
        queue(peer, name)
    confirmed(peer, "", [("r.default", b"1"), ("r.default.x", b"2"), ("r.*", b"3"), ("r.none", b"4"),
                         ("", b"5")])
    for name in ("r.default", "r.default.x", "r.*"):
        see(name, drain(peer.channel, name))
    peer.close()


@scenario("direct exchange: equal keys; two bindings that match give one message")
def direct(broker, see):
    peer = Peer(broker)
    peer.channel.exchange_declare("r.direct", "direct", auto_delete=True)
    for name, keys in (("r.d1", ["red", "green"]), ("r.d2", ["green"]), ("r.d3", [""]),
                       ("r.d4", ["#", "*"])):
        queue(peer, name)
        for key in keys:
            peer.channel.queue_bind(name, "r.direct", key)
    peer.channel.queue_bind("r.d1", "r.direct", "red", {"another": 1})
    confirmed(peer, "r.direct", [(key, key.encode()) for key in
                                 ("red", "green", "", "*", "#", "Red", "red.x", "blue")])
    for name in ("r.d1", "r.d2", "r.d3", "r.d4"):
        see(name, drain(peer.channel, name))
    peer.channel.queue_unbind("r.d1", "r.direct", "red")
    confirmed(peer, "r.direct", [("red", b"bound by the other binding")])
    see("one of two bindings taken off", drain(peer.channel, "r.d1"))
    peer.channel.queue_unbind("r.d1", "r.direct", "red", {"another": 1})
    confirmed(peer, "r.direct", [("red", b"bound no more")])
    see("both taken off", drain(peer.channel, "r.d1"))
    peer.close()


@scenario("fanout exchange: every bound queue, whatever the key")
def fanout(broker, see):
    peer = Peer(broker)
    peer.channel.exchange_declare("r.fanout", "fanout", auto_delete=True)
    for name, key in (("r.f1", ""), ("r.f2", "a"), ("r.f3", "b")):
        queue(peer, name)
        peer.channel.queue_bind(name, "r.fanout", key)
    queue(peer, "r.f4")
    confirmed(peer, "r.fanout", [("", b"1"), ("a", b"2"), ("zebra", b"3")])
    for name in ("r.f1", "r.f2", "r.f3", "r.f4"):
        see(name, drain(peer.channel, name))
    peer.close()


PATTERNS = ["#", "*", "", "a", "a.*", "a.#", "#.c", "*.b", "*.*", "a.*.c", "a.#.c", "#.b.#", "#.#",
            "*.#", "#.*", "a.b.#", "a..c", "a.*.*.d", ".", "*.", "a.#.#.d"]
KEYS = ["", "a", "b", "a.b", "a.c", "a.b.c", "a..c", "a.", ".a", ".", "a.b.c.d", "b.c", "c", "a.b.b.c",
        "A.b", "a.*", "#", "kitchen", "a/b.c"]


def topic_table(broker, see, exchange):
    peer = Peer(broker)
    names = {pattern: f"r.{exchange}.{number}" for number, pattern in enumerate(PATTERNS)}
    for pattern, name in names.items():
        queue(peer, name)
        peer.channel.queue_bind(name, exchange, pattern)
    confirmed(peer, exchange, [(key, b"'%s'" % key.encode()) for key in KEYS])
    for pattern, name in names.items():
        see(f"'{pattern}'", drain(peer.channel, name))
    peer.close()


@scenario("topic exchange: '*' is a word, '#' any number of words, anywhere")
def topic(broker, see):
    peer = Peer(broker)
    peer.channel.exchange_declare("r.topic", "topic", auto_delete=True)
    topic_table(broker, see, "r.topic")
    peer.close()


@scenario("amq.topic: the same keys and patterns")
def predeclared_topic(broker, see):
    topic_table(broker, see, "amq.topic")


@scenario("topic exchange: overlapping bindings of one queue give one message; unbinding")
def topic_overlap(broker, see):
    peer = Peer(broker)
    queue(peer, "r.overlap")
    patterns = ("overlap.#", "overlap.*", "*.x")
    for pattern in patterns:
        peer.channel.queue_bind("r.overlap", "amq.topic", pattern)
    for number, pattern in enumerate(patterns):
        confirmed(peer, "amq.topic", [("overlap.x", b"%d" % number)])
        peer.channel.queue_unbind("r.overlap", "amq.topic", pattern)
    confirmed(peer, "amq.topic", [("overlap.x", b"none")])
    see("arrived", drain(peer.channel, "r.overlap"))
    peer.close()


BINDINGS = {
    "all": {"x-match": "all", "format": "pdf", "pages": 3},
    "any": {"x-match": "any", "format": "pdf", "pages": 3},
    "no x-match": {"format": "pdf", "pages": 3},
    "all, nothing else": {"x-match": "all"},
    "any, nothing else": {"x-match": "any"},
    "void is any value": {"x-match": "all", "format": None},
    "boolean": {"x-match": "all", "draft": True},
    "text of digits": {"x-match": "all", "pages": "3"},
    "fraction": {"x-match": "all", "pages": Decimal("3.0")},
    "large number": {"x-match": "all", "pages": 1 << 40},
    "x- names don't count": {"x-match": "all", "x-other": "?", "format": "pdf"},
    "x- names count with-x": {"x-match": "all-with-x", "x-other": "?", "format": "pdf"},
    "any-with-x": {"x-match": "any-with-x", "x-other": "?"},
    "a table": {"x-match": "all", "where": {"shelf": 1}},
    "an array": {"x-match": "all", "list": ["a", 1]},
    "octets": {"x-match": "all", "format": b"pdf"},
}
MESSAGES = {
    "pdf 3": {"format": "pdf", "pages": 3}, "pdf 4": {"format": "pdf", "pages": 4},
    "pdf only": {"format": "pdf"}, "3 only": {"pages": 3}, "text 3": {"pages": "3"},
    "3.0": {"pages": Decimal("3.0")}, "large": {"pages": 1 << 40}, "draft": {"draft": True}, "not draft": {"draft": False},
    "void": {"format": None}, "with x": {"format": "pdf", "x-other": "?"}, "other x": {"x-other": "!"},
    "table": {"where": {"shelf": 1}}, "other table": {"where": {"shelf": 2}}, "array": {"list": ["a", 1]},
    "more": {"format": "pdf", "pages": 3, "more": 1}, "empty": {}, "none": None,
    "octets": {"format": b"pdf"}, "PDF": {"format": "PDF", "Pages": 3},
}


@scenario("headers exchange: x-match all and any, values of every type")
def headers(broker, see):
    peer = Peer(broker)
    names = {title: f"r.headers.{number}" for number, title in enumerate(BINDINGS)}
    for title, arguments in BINDINGS.items():
        queue(peer, names[title])
        peer.channel.queue_bind(names[title], "amq.headers", "ignored", arguments)
    channel = peer.open(confirms=True)
    for label, table in MESSAGES.items():
        confirmed(peer, "amq.headers", [("", label.encode())], channel, headers=table)
    for title, name in names.items():
        see(title, drain(peer.channel, name))
    see("x-match of another text", peer.attempt(lambda c: c.queue_bind(
        "r.headers.0", "amq.headers", "", {"x-match": "some"})))
    see("x-match that is a number", peer.attempt(lambda c: c.queue_bind(
        "r.headers.0", "amq.headers", "", {"x-match": 1})))
    peer.close()


@scenario("exchange to exchange: chains, a circle, each queue once; unbinding")
def exchanges(broker, see):
    peer = Peer(broker)
    channel = peer.channel
    for name, kind in (("r.in", "direct"), ("r.mid", "topic"), ("r.out", "fanout")):
        channel.exchange_declare(name, kind)
    channel.exchange_bind("r.mid", "r.in", "a.b")
    channel.exchange_bind("r.out", "r.mid", "a.#")
    channel.exchange_bind("r.in", "r.out", "a.b")  # the circle
    for name, exchange, key in (("r.e1", "r.in", "a.b"), ("r.e2", "r.mid", "*.b"), ("r.e3", "r.out", ""),
                                ("r.e3", "r.in", "a.b")):
        queue(peer, name)
        channel.queue_bind(name, exchange, key)
    confirmed(peer, "r.in", [("a.b", b"around"), ("a.c", b"nowhere")])
    confirmed(peer, "r.mid", [("a.c", b"from the middle")])
    for name in ("r.e1", "r.e2", "r.e3"):
        see(name, drain(channel, name))
    channel.exchange_unbind("r.out", "r.mid", "a.#")
    confirmed(peer, "r.mid", [("a.b", b"unbound")])
    for name in ("r.e1", "r.e2", "r.e3"):
        see(f"{name}, unbound", drain(channel, name))
    channel.exchange_delete("r.in")
    confirmed(peer, "r.out", [("a.b", b"only out")])
    see("after an exchange is deleted", [drain(channel, name) for name in ("r.e1", "r.e2", "r.e3")])
    for name in ("r.mid", "r.out"):
        channel.exchange_delete(name)
    peer.close()


@scenario("alternate exchange: gets what isn't routed, a chain of them, one that is missing")
def alternate(broker, see):
    peer = Peer(broker)
    channel = peer.channel
    channel.exchange_declare("r.ae.last", "fanout")
    channel.exchange_declare("r.ae.second", "direct", arguments={"alternate-exchange": "r.ae.last"})
    channel.exchange_declare("r.ae.first", "direct", arguments={"alternate-exchange": "r.ae.second"})
    channel.exchange_declare("r.ae.lost", "direct", arguments={"alternate-exchange": "r.ae.gone"})
    for name, exchange, key in (("r.a1", "r.ae.first", "one"), ("r.a2", "r.ae.second", "two"),
                                ("r.a3", "r.ae.last", "")):
        queue(peer, name)
        channel.queue_bind(name, exchange, key)
    sender = peer.open(confirms=True)
    for key in ("one", "two", "three"):
        sender.basic_publish("r.ae.first", key, key.encode(), mandatory=True)
    for name in ("r.a1", "r.a2", "r.a3"):
        see(name, drain(channel, name))
    try:
        sender.basic_publish("r.ae.lost", "x", b"x", mandatory=True)
        see("missing alternate, mandatory", "confirmed")
    except UnroutableError as error:
        method = error.messages[0].method
        see("missing alternate, mandatory", [method.reply_code, method.reply_text, method.exchange])
    channel.queue_delete("r.a3")
    try:
        sender.basic_publish("r.ae.first", "three", b"", mandatory=True)
        see("nothing behind the alternates", "confirmed")
    except UnroutableError as error:
        method = error.messages[0].method
        see("nothing behind the alternates", [method.reply_code, method.reply_text, method.exchange])
    for name in ("r.ae.first", "r.ae.second", "r.ae.last", "r.ae.lost"):
        channel.exchange_delete(name)
    peer.close()


@scenario("the headers CC and BCC add routing keys; BCC isn't shown")
def copies(broker, see):
    peer = Peer(broker)
    for name in ("r.c1", "r.c2", "r.c3"):
        queue(peer, name)
    sender = Peer(broker)
    if see("CC and BCC", sender.attempt(lambda channel: confirmed(
            sender, "", [("r.c1", b"x")], channel,
            headers={"CC": ["r.c2"], "BCC": ["r.c3"], "other": 1}))) != "fine":
        return
    for name in ("r.c1", "r.c2", "r.c3"):
        method, properties, body = peer.channel.basic_get(name, True)
        see(name, body)
        if method:
            see(f"{name}: key and headers", [method.routing_key, sorted(properties.headers)])
    see("CC that is no array", peer.attempt(lambda channel: confirmed(
        peer, "", [("r.c1", b"x")], channel, headers={"CC": "r.c2"})))
    sender.close()
    peer.close()


@scenario("exchanges: auto-delete goes with its last binding; internal; delete if unused")
def exchange_life(broker, see):
    peer = Peer(broker)

    def there(name):
        return peer.attempt(lambda channel: channel.exchange_declare(name, passive=True))

    channel = peer.channel
    queue(peer, "r.life")
    channel.exchange_declare("r.auto", "topic", auto_delete=True)
    see("auto-delete, never bound", there("r.auto"))
    channel.queue_bind("r.life", "r.auto", "a")
    channel.queue_bind("r.life", "r.auto", "b")
    channel.queue_unbind("r.life", "r.auto", "a")
    see("auto-delete, one left", there("r.auto"))
    channel.queue_unbind("r.life", "r.auto", "b")
    see("auto-delete, none left", there("r.auto"))
    channel.exchange_declare("r.auto", "fanout", auto_delete=True)
    channel.exchange_declare("r.target", "fanout", auto_delete=True)
    channel.exchange_bind("r.target", "r.auto")
    channel.queue_bind("r.life", "r.target")
    channel.queue_delete("r.life")
    see("target of a deleted queue", there("r.target"))
    see("its source", there("r.auto"))
    channel.exchange_declare("r.internal", "fanout", internal=True)
    queue(peer, "r.life")
    channel.queue_bind("r.life", "r.internal")
    see("publish to an internal one", peer.attempt(
        lambda channel: channel.basic_publish("r.internal", "", b"")))
    channel.exchange_declare("r.outer", "fanout")
    channel.exchange_bind("r.internal", "r.outer")
    confirmed(peer, "r.outer", [("", b"through")])
    see("through an internal one", drain(channel, "r.life"))
    see("delete if unused, used", peer.attempt(
        lambda channel: channel.exchange_delete("r.internal", if_unused=True)))
    see("delete if unused, bound as a target only", peer.attempt(
        lambda channel: channel.exchange_delete("r.outer", if_unused=True)))
    channel.exchange_delete("r.outer")
    channel.queue_delete("r.life")
    see("delete if unused, unused", peer.attempt(
        lambda channel: channel.exchange_delete("r.internal", if_unused=True)))
    see("delete what isn't there", peer.attempt(lambda channel: channel.exchange_delete("r.internal")))
    peer.close()
