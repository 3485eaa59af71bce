"""What a client must not do, and the broker's words for it: code, text, class and method."""

from pika import spec

from lib.amqp_raw import BODY, CAPABILITIES, Raw, frame, header, method

from .peer import Consumer, Peer, confirmed
from .scenario import scenario


@scenario("refused: exchanges and queues that are missing, reserved or of an unknown kind")
def names(broker, see):
    peer = Peer(broker)
    for title, call in (
            ("publish to a missing exchange", lambda c: c.basic_publish("f.none", "k", b"")),
            ("bind to a missing exchange", lambda c: c.queue_bind("f.queue", "f.none", "k")),
            ("bind a missing queue", lambda c: c.queue_bind("f.none", "amq.direct", "k")),
            ("bind exchanges, no source", lambda c: c.exchange_bind("amq.direct", "f.none")),
            ("bind exchanges, no target", lambda c: c.exchange_bind("f.none", "amq.direct")),
            ("consume a missing queue", lambda c: c.basic_consume("f.none", lambda *_: None)),
            ("get from a missing queue", lambda c: c.basic_get("f.none")),
            ("purge a missing queue", lambda c: c.queue_purge("f.none")),
            ("passive, missing queue", lambda c: c.queue_declare("f.none", passive=True)),
            ("passive, missing exchange", lambda c: c.exchange_declare("f.none", passive=True)),
            ("declare queue amq.x", lambda c: c.queue_declare("amq.x")),
            ("declare exchange amq.x", lambda c: c.exchange_declare("amq.x")),
            ("declare the default exchange", lambda c: c.exchange_declare("")),
            ("delete the default exchange", lambda c: c.exchange_delete("")),
            ("delete amq.topic", lambda c: c.exchange_delete("amq.topic")),
            ("delete amq.none", lambda c: c.exchange_delete("amq.none")),
            ("bind to the default exchange", lambda c: c.queue_bind("f.queue", "", "k")),
            ("unbind from the default exchange", lambda c: c.queue_unbind("f.queue", "", "k")),
            ("bind exchanges, default source", lambda c: c.exchange_bind("amq.direct", "")),
            ("bind exchanges, default target", lambda c: c.exchange_bind("", "amq.direct")),
            ("exchange of an unknown type", lambda c: c.exchange_declare("f.kind", "odd")),
            ("exchange without a type", lambda c: c.exchange_declare("f.kind", "")),
            ("exchange of the type queue", lambda c: c.exchange_declare("f.kind", "queue")),
            ("alternate exchange that is a number", lambda c: c.exchange_declare(
                "f.kind", "direct", arguments={"alternate-exchange": 1})),
            ("amq.topic as a fanout", lambda c: c.exchange_declare("amq.topic", "fanout")),
            ("a name of 255 octets", lambda c: c.queue_delete(c.queue_declare(
                "q" * 255, exclusive=True).method.queue)),
            ("a name with a quote", lambda c: c.queue_declare("it's", passive=True)),
            ("a name beyond ASCII", lambda c: c.queue_declare("käse", passive=True))):
        peer.channel.queue_declare("f.queue", exclusive=True)
        see(title, peer.attempt(call))
    peer.close()


@scenario("refused: unknown delivery tags, acknowledging twice, acknowledging what asked for none")
def tags(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("f.tags", exclusive=True)
    confirmed(peer, "", [("f.tags", b"%d" % number) for number in range(20)])

    def got(channel, count, **options):
        return [channel.basic_get("f.tags", **options)[0].delivery_tag for _ in range(count)]

    def twice(channel):
        tag, = got(channel, 1)
        channel.basic_ack(tag)
        channel.basic_ack(tag)

    def covered(channel):
        tags = got(channel, 3)
        channel.basic_ack(tags[1], multiple=True)
        channel.basic_ack(tags[0])

    for title, call in (
            ("ack 1, nothing delivered", lambda c: c.basic_ack(1)),
            ("ack 0, nothing delivered", lambda c: c.basic_ack(0)),
            ("ack 0 multiple, nothing delivered", lambda c: c.basic_ack(0, multiple=True)),
            ("ack 1 multiple, nothing delivered", lambda c: c.basic_ack(1, multiple=True)),
            ("nack 7", lambda c: c.basic_nack(7)), ("reject 7", lambda c: c.basic_reject(7)),
            ("nack 0 multiple, nothing delivered", lambda c: c.basic_nack(0, multiple=True)),
            ("twice", twice), ("covered by an earlier multiple", covered),
            ("beyond the last", lambda c: c.basic_ack(got(c, 2)[1] + 1)),
            ("beyond the last, multiple", lambda c: c.basic_ack(got(c, 2)[1] + 1, multiple=True)),
            ("of a delivery without acknowledgements",
             lambda c: c.basic_ack(got(c, 1, auto_ack=True)[0])),
            ("another channel's", lambda c: (got(peer.channel, 1), c.basic_ack(1)))):
        see(title, peer.attempt(call))
    see("left", peer.channel.queue_purge("f.tags").method.message_count)
    peer.close()


@scenario("refused: consumer tags taken, exclusive consumers, prefetch sizes, immediate, flow")
def consumers(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("f.consumed", exclusive=True)
    holder = peer.open()

    def ignore(*_):
        pass

    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="f.raw", exclusive=True))
    raw.ask(1, spec.Basic.Consume(queue="f.raw", consumer_tag="same"))
    see("a consumer tag that is taken", raw.outcome(method(1, spec.Basic.Consume(
        queue="f.raw", consumer_tag="same"))))
    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="f.raw", exclusive=True))
    see("the same tag on another channel", str(raw.ask(1, spec.Basic.Consume(
        queue="f.raw", consumer_tag="same"))))
    raw.open(2)
    see("and on another one", str(raw.ask(2, spec.Basic.Consume(
        queue="f.raw", consumer_tag="same"))))
    see("cancel of a tag that is not", str(raw.ask(2, spec.Basic.Cancel(consumer_tag="none"))))
    holder.basic_consume("f.consumed", ignore, consumer_tag="first")
    see("exclusive, another is there", peer.attempt(
        lambda c: c.basic_consume("f.consumed", ignore, exclusive=True)))
    holder.basic_cancel("first")
    holder.basic_consume("f.consumed", ignore, exclusive=True, consumer_tag="alone")
    see("another, an exclusive is there", peer.attempt(
        lambda c: c.basic_consume("f.consumed", ignore)))
    see("another exclusive", peer.attempt(
        lambda c: c.basic_consume("f.consumed", ignore, exclusive=True)))
    holder.basic_cancel("alone")
    see("cancelled, another", peer.attempt(
        lambda c: c.basic_consume("f.consumed", ignore, exclusive=True)))
    see("prefetch size", Raw(broker).outcome(method(1, spec.Basic.Qos(prefetch_size=100))))
    see("flow off", Raw(broker).outcome(method(1, spec.Channel.Flow(active=False))))
    raw = Raw(broker)
    see("flow on", str(raw.ask(1, spec.Channel.Flow(active=True))))
    see("immediate", raw.outcome(
        method(1, spec.Basic.Publish(exchange="", routing_key="x", immediate=True))
        + header(1, 0)))
    for title, arguments in (("x-priority that is text", {"x-priority": "high"}),
                             ("x-cancel-on-ha-failover that is text", {"x-cancel-on-ha-failover": "x"}),
                             ("an argument nobody knows", {"x-nobody-knows": 1})):
        see(title, peer.attempt(lambda c: c.basic_consume("f.consumed", ignore, arguments=arguments)))
    peer.close()


@scenario("a closed channel drops what still comes, its number can be opened again, others go on")
def closed_channel(broker, see):
    raw = Raw(broker)
    raw.open(2)
    raw.ask(2, spec.Queue.Declare(queue="f.closed", exclusive=True))
    raw.send(method(1, spec.Queue.Purge(queue="f.none")))
    raw.send(method(1, spec.Queue.Delete(queue="f.closed")))  # before it can know
    see("the refusal", str(raw.receive()))
    raw.send(method(1, spec.Queue.Delete(queue="f.closed")))
    raw.send(method(1, spec.Channel.CloseOk()))
    raw.open(1)
    see("what was dropped", str(raw.ask(1, spec.Queue.Declare(queue="f.closed", passive=True))))
    see("another channel", str(raw.ask(2, spec.Queue.Declare(queue="f.closed", passive=True))))
    see("closed by the client", str(raw.ask(1, spec.Channel.Close(200, "enough", 0, 0))))
    see("used after that", raw.outcome(method(1, spec.Queue.Declare(queue="f.closed", passive=True))))


@scenario("refused: a user's header of another user, a body that is too large, bad expirations")
def publishes(broker, see):
    peer = Peer(broker)
    for title, options in (("user-id of another", {"user_id": "somebody"}),
                           ("one's own user-id", {"user_id": "guest"}),
                           ("expiration that is no number", {"expiration": "soon"}),
                           ("negative expiration", {"expiration": "-1"}),
                           ("expiration with a fraction", {"expiration": "1.5"}),
                           ("expiration of 50 days", {"expiration": "4320000000"}),
                           ("empty expiration", {"expiration": ""}),
                           ("expiration of a minute", {"expiration": "60000"}),
                           ("delivery mode 3", {"delivery_mode": 3}),
                           ("delivery mode 0", {"delivery_mode": 0}),
                           ("priority 255", {"priority": 255})):
        see(title, peer.attempt(
            lambda c: confirmed(peer, "amq.fanout", [("f.nowhere", b"x")], c, **options)))
    raw = Raw(broker)
    raw.open(2)
    see("body that claims 2^40 octets", raw.outcome(
        method(1, spec.Basic.Publish(exchange="", routing_key="x")) + header(1, 1 << 40)
        + frame(BODY, 1, b"so far"), probe=2))
    peer.close()


def greeting(raw):
    """What came of a handshake in words."""
    if raw.opened is None:
        return "the end"
    return str(raw.opened)


@scenario("refused: virtual hosts, passwords, mechanisms; what the broker offers in tune and start")
def handshake(broker, see):
    raw = Raw(broker)
    tune = raw.tune
    see("tune", [tune.channel_max, tune.frame_max, tune.heartbeat])
    see("mechanisms", sorted(raw.start.mechanisms.decode().split()))
    see("capabilities", raw.start.server_properties["capabilities"])
    see("versions and locales", [raw.start.version_major, raw.start.version_minor,
                                 raw.start.locales.decode()])
    see("virtual host that isn't there", greeting(Raw(broker, virtual_host="elsewhere")))
    see("mechanism that isn't there", greeting(Raw(broker, mechanism="ODD")))
    see("AMQPLAIN", greeting(Raw(broker, mechanism="AMQPLAIN", response=(
        b"\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest"))))


@scenario("refused: a wrong password, told to clients that understand it")
def password(broker, see):
    wrong = b"\x00guest\x00wrong"
    see("told", greeting(Raw(broker, response=wrong)))
    see("not told", greeting(Raw(broker, response=wrong, capabilities={
        **CAPABILITIES, "authentication_failure_close": False})))


@scenario("a protocol header that the broker doesn't speak is answered with the one it does")
def wrong_header(broker, see):
    for title, hello in (("0-9-2", b"AMQP\x00\x00\x09\x02"), ("0-10", b"AMQP\x01\x01\x00\x0a"),
                         ("0-8", b"AMQP\x01\x01\x08\x00"), ("1.0", b"AMQP\x00\x01\x00\x00"),
                         ("1.0, SASL", b"AMQP\x03\x01\x00\x00"), ("nonsense", b"GET / HT")):
        raw = Raw(broker, handshake=False)
        raw.send(hello)
        answer = b""
        try:
            while len(answer) < 8:
                piece = raw.socket.recv(8 - len(answer))
                if not piece:
                    break
                answer += piece
            if answer.startswith(b"\x01"):
                see(title, "connection.start")
            else:
                see(title, answer)
                see(f"{title}, then", raw.socket.recv(1))
        except ConnectionResetError:
            see(f"{title}, then", answer and b"")


@scenario("connection.close and channel.close are answered; a queue in use tells its consumer")
def closing(broker, see):
    peer = Peer(broker)
    channel = peer.open()
    peer.channel.queue_declare("f.cancelled")
    consumer = Consumer(peer, "f.cancelled", channel)
    other = Peer(broker)
    other.channel.queue_delete("f.cancelled")
    peer.wait(lambda: consumer.cancelled, "basic.cancel")
    see("told of the deletion", consumer.cancelled == [consumer.tag])
    see("the channel goes on", peer.attempt(lambda _: channel.basic_qos()))
    raw = Raw(broker)
    see("channel.close", str(raw.ask(1, spec.Channel.Close(200, "bye", 0, 0))))
    see("connection.close", str(raw.ask(0, spec.Connection.Close(200, "bye", 0, 0))))
    # Without the capability the consumer is told nothing.
    raw = Raw(broker, capabilities={"basic.nack": True})
    raw.ask(1, spec.Queue.Declare(queue="f.cancelled"))
    raw.ask(1, spec.Basic.Consume(queue="f.cancelled", consumer_tag="t"))
    other.channel.queue_delete("f.cancelled")
    see("not told without the capability", raw.outcome(probe=1))
    other.close()
    peer.close()
