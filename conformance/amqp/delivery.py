"""Deliveries: prefetch, turns, acknowledgements, what comes again, returns and confirms."""

import pika
from pika import spec
from pika.exceptions import UnroutableError

from lib.amqp_raw import Raw, method, publish

from .peer import Consumer, Peer, confirmed, depth, drain
from .scenario import scenario


def filled(peer, name, count, **options):
    """An exclusive queue with the bodies 0 to count - 1."""
    peer.channel.queue_declare(name, exclusive=True, **options)
    confirmed(peer, "", [(name, b"%d" % number) for number in range(count)])
    return name


@scenario("prefetch counts by consumer; raised for consumers to come, not for those that are there")
def prefetch(broker, see):
    peer = Peer(broker)
    filled(peer, "d.prefetch", 10)
    channel = peer.open()
    channel.basic_qos(prefetch_count=3)
    first = Consumer(peer, "d.prefetch", channel)
    see("three", first.expect(3))
    see("left", depth(peer.channel, "d.prefetch"))
    channel.basic_qos(prefetch_count=2)
    see("after another qos", depth(peer.channel, "d.prefetch"))
    second = Consumer(peer, "d.prefetch", channel)
    see("a second consumer", second.expect(2))
    see("left by both", depth(peer.channel, "d.prefetch"))
    channel.basic_ack(first.tags[0])
    see("one acknowledged", first.expect(4))
    channel.basic_ack(first.tags[2], multiple=True)
    see("two acknowledged at once", first.expect(6))
    see("left then", depth(peer.channel, "d.prefetch"))
    channel.basic_ack(0, multiple=True)
    peer.wait(lambda: len(first.seen) + len(second.seen) == 10, "the rest")
    see("all", sorted(int(body) for _, body in first.seen + second.seen))
    peer.close()


@scenario("prefetch by channel: shared by its consumers, in force at once, lifted by 0")
def prefetch_global(broker, see):
    peer = Peer(broker)
    filled(peer, "d.global", 10)
    channel = peer.open()
    channel.basic_qos(prefetch_count=3, global_qos=True)
    consumers = [Consumer(peer, "d.global", channel) for _ in range(2)]

    def seen():
        return sorted(int(body) for consumer in consumers for _, body in consumer.seen)

    peer.wait(lambda: len(seen()) == 3, "three deliveries")
    see("left", depth(peer.channel, "d.global"))
    first = consumers[0] if consumers[0].tags else consumers[1]
    channel.basic_ack(first.tags[0])
    peer.wait(lambda: len(seen()) == 4, "another")
    see("one acknowledged", depth(peer.channel, "d.global"))
    channel.basic_qos(prefetch_count=5, global_qos=True)
    peer.wait(lambda: len(seen()) == 6, "two more")
    see("raised to five", depth(peer.channel, "d.global"))
    channel.basic_qos(prefetch_count=0, global_qos=True)
    peer.wait(lambda: len(seen()) == 10, "the rest")
    see("all", seen())
    peer.close()


@scenario("prefetch by channel and by consumer together: the lesser holds; basic.get is free of it")
def prefetch_both(broker, see):
    peer = Peer(broker)
    filled(peer, "d.both", 10)
    channel = peer.open()
    channel.basic_qos(prefetch_count=2)
    channel.basic_qos(prefetch_count=3, global_qos=True)
    consumers = [Consumer(peer, "d.both", channel) for _ in range(2)]
    peer.wait(lambda: sum(len(c.seen) for c in consumers) == 3, "three deliveries")
    see("left", depth(peer.channel, "d.both"))
    see("by consumer", sorted(len(c.seen) for c in consumers))
    see("get", [channel.basic_get("d.both")[2] for _ in range(2)])
    see("left then", depth(peer.channel, "d.both"))
    peer.close()


@scenario("fair dispatch: with a prefetch of 1 the idle consumer gets the next message")
def fair(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("d.fair", exclusive=True)
    consumers = []
    for _ in range(2):
        channel = peer.open()
        channel.basic_qos(prefetch_count=1)
        consumers.append(Consumer(peer, "d.fair", channel))
    busy, idle = consumers
    sender = peer.open(confirms=True)
    for number in range(2):
        confirmed(peer, "", [("d.fair", b"%d" % number)], sender)
    see("one each", [busy.expect(1), idle.expect(1)])
    for number in range(2, 6):
        confirmed(peer, "", [("d.fair", b"%d" % number)], sender)
    for count in range(2, 6):
        idle.channel.basic_ack(idle.tags[-1])
        idle.expect(count)
    see("the idle one", idle.seen)
    see("the busy one", busy.seen)
    see("left", depth(peer.channel, "d.fair"))
    peer.close()


@scenario("consumers of a queue take turns")
def turns(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("d.turns", exclusive=True)
    consumers = [Consumer(peer, "d.turns", peer.open(), auto_ack=True) for _ in range(3)]
    confirmed(peer, "", [("d.turns", b"%d" % number) for number in range(9)])
    see("turns", [consumer.expect(3) for consumer in consumers])
    peer.close()


@scenario("consumers with x-priority go first while they can take more")
def priorities(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("d.first")
    if see("x-priority", peer.attempt(lambda c: c.basic_consume(
            "d.first", lambda *_: None, arguments={"x-priority": 10}))) != "fine":
        return
    low, high = peer.open(), peer.open()
    high.basic_qos(prefetch_count=2)
    low = Consumer(peer, "d.first", low)
    high = Consumer(peer, "d.first", high, arguments={"x-priority": 10})
    confirmed(peer, "", [("d.first", b"%d" % number) for number in range(5)])
    see("the high one", high.expect(2))
    see("the low one", low.expect(3))
    peer.channel.queue_delete("d.first")
    peer.close()


def returned(broker, see, title, give_back):
    """Messages 0 to 4, of which the first three are taken and given back somehow."""
    peer, taker = Peer(broker), Peer(broker)
    peer.channel.queue_declare("d.again", auto_delete=False)
    peer.channel.queue_purge("d.again")
    confirmed(peer, "", [("d.again", b"%d" % number) for number in range(5)])
    channel = taker.open()
    tags = [channel.basic_get("d.again")[0].delivery_tag for _ in range(3)]
    give_back(taker, channel, tags)
    peer.wait(lambda: depth(peer.channel, "d.again")[0] == 5, f"all back ({title})")
    seen = []
    for _ in range(5):
        got, _, body = peer.channel.basic_get("d.again", True)
        seen.append([got.redelivered, body])
    see(title, seen)
    peer.channel.queue_delete("d.again")
    peer.close()
    if taker.connection.is_open:
        taker.close()


@scenario("what is given back comes again in its place, flagged as redelivered")
def redelivery(broker, see):
    returned(broker, see, "nack, all at once",
             lambda _, channel, tags: channel.basic_nack(tags[-1], multiple=True, requeue=True))
    returned(broker, see, "nack, one by one",
             lambda _, channel, tags: [channel.basic_nack(tag, requeue=True) for tag in tags])
    returned(broker, see, "nack, backwards",
             lambda _, channel, tags: [channel.basic_nack(tag, requeue=True) for tag in tags[::-1]])
    returned(broker, see, "reject",
             lambda _, channel, tags: [channel.basic_reject(tag, requeue=True) for tag in tags])
    returned(broker, see, "recover", lambda _, channel, tags: channel.basic_recover(requeue=True))
    returned(broker, see, "channel closed", lambda _, channel, tags: channel.close())
    returned(broker, see, "connection closed", lambda taker, channel, tags: taker.close())

    def cut(taker, channel, tags):
        taker.drop()
        taker.connection = Peer(broker).connection

    returned(broker, see, "connection cut", cut)


@scenario("given back to a waiting consumer: it comes again at once; without requeue it is gone")
def requeue_live(broker, see):
    peer = Peer(broker)
    filled(peer, "d.live", 3)
    channel = peer.open()
    channel.basic_qos(prefetch_count=1)
    consumer = Consumer(peer, "d.live", channel)
    consumer.expect(1)
    channel.basic_nack(consumer.tags[0], requeue=True)
    see("again", consumer.expect(2))
    channel.basic_nack(consumer.tags[1], requeue=False)
    see("dropped", consumer.expect(3))
    channel.basic_reject(consumer.tags[2], requeue=False)
    see("rejected", consumer.expect(4))
    channel.basic_ack(consumer.tags[3])
    see("tags", consumer.tags)
    see("left", depth(peer.channel, "d.live"))
    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="d.recover", exclusive=True))
    raw.send(publish(1, "", "d.recover", b"r"))
    raw.ask(1, spec.Basic.Consume(queue="d.recover", consumer_tag="t"))
    raw.delivered()
    raw.send(method(1, spec.Basic.Recover(requeue=True)))
    said = [str(raw.receive()) for _ in range(4)]
    see("recover to the same consumer", sorted(said))
    see("recover without requeue", raw.outcome(method(1, spec.Basic.Recover(requeue=False))))
    raw = Raw(broker)
    see("recover-async", raw.outcome(
        b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x64\x01\xce", probe=1))
    peer.close()


@scenario("acknowledging: one, several at once, all; what is left comes again")
def acknowledging(broker, see):
    peer = Peer(broker)
    filled(peer, "d.acks", 10)
    channel = peer.open()
    consumer = Consumer(peer, "d.acks", channel)
    consumer.expect(10)
    channel.basic_ack(consumer.tags[4])
    channel.basic_ack(consumer.tags[2], multiple=True)
    channel.basic_nack(consumer.tags[3], requeue=False)
    channel.basic_ack(consumer.tags[9])
    channel.close()
    see("left", drain(peer.channel, "d.acks"))
    filled(peer, "d.acks", 3)
    channel = peer.open()
    Consumer(peer, "d.acks", channel).expect(3)
    channel.basic_ack(0, multiple=True)
    channel.close()
    see("all acknowledged", drain(peer.channel, "d.acks"))
    peer.close()


@scenario("consumers without acknowledgements: nothing is held, nothing comes again; prefetch is for others")
def no_ack(broker, see):
    peer = Peer(broker)
    filled(peer, "d.noack", 5)
    channel = peer.open()
    channel.basic_qos(prefetch_count=1)
    consumer = Consumer(peer, "d.noack", channel, auto_ack=True)
    see("all five", consumer.expect(5))
    channel.close()
    see("left", depth(peer.channel, "d.noack"))
    confirmed(peer, "", [("d.noack", b"x")])
    got, _, _ = peer.channel.basic_get("d.noack", auto_ack=True)
    see("get", [got.message_count, got.redelivered])
    see("after get", depth(peer.channel, "d.noack"))
    see("get of an empty queue", peer.channel.basic_get("d.noack")[0] is None)
    peer.close()


@scenario("cancel: no deliveries after cancel-ok, what is unacknowledged stays with the channel")
def cancel(broker, see):
    peer = Peer(broker)
    raw = Raw(broker)
    peer.channel.queue_declare("d.cancel2")
    confirmed(peer, "", [("d.cancel2", b"%d" % number) for number in range(4)])
    raw.ask(1, spec.Basic.Qos(prefetch_count=2))
    raw.ask(1, spec.Basic.Consume(queue="d.cancel2", consumer_tag="t"))
    tags = [raw.delivered()[0].delivery_tag for _ in range(2)]
    see("cancelled", str(raw.ask(1, spec.Basic.Cancel(consumer_tag="t"))))
    see("ready", depth(peer.channel, "d.cancel2"))
    raw.send(method(1, spec.Basic.Ack(delivery_tag=tags[1], multiple=True)))
    see("acknowledged later", raw.outcome(probe=1))
    see("the tag is free again", str(raw.ask(1, spec.Basic.Consume(queue="d.cancel2", consumer_tag="t"))))
    see("and goes on", [raw.delivered()[2] for _ in range(2)])
    peer.channel.queue_delete("d.cancel2")
    peer.close()


@scenario("mandatory: unroutable ones come back whole, before their confirm; routed ones don't")
def mandatory(broker, see):
    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="d.mandatory", exclusive=True))
    raw.ask(1, spec.Confirm.Select())
    properties = b"\x90\x00\x0atext/plain\x01"  # content type and delivery mode 1
    for title, exchange, key in (("default exchange", "", "d.none"), ("amq.direct", "amq.direct", "d.none"),
                                 ("amq.topic", "amq.topic", "d.none.at.all"), ("amq.fanout", "amq.fanout", "k"),
                                 ("amq.headers", "amq.headers", "k")):
        raw.send(publish(1, exchange, key, b"back", properties, mandatory=True))
        which, head, body = raw.delivered()
        see(title, [which.NAME, which.reply_code, which.reply_text, which.exchange,
                    which.routing_key, head[4:].hex(), body])
        see(f"{title}, confirm", str(raw.receive()))
    raw.send(publish(1, "", "d.mandatory", b"routed", mandatory=True))
    see("routed", str(raw.receive()))
    raw.send(publish(1, "", "d.none", b"not mandatory"))
    see("not mandatory", str(raw.receive()))
    see("left", str(raw.ask(1, spec.Queue.Declare(queue="d.mandatory", passive=True))))
    peer = Peer(broker)
    channel = peer.open(confirms=True)
    try:
        channel.basic_publish("", "d.none", b"x", mandatory=True)
        see("pika", "confirmed")
    except UnroutableError as error:
        see("pika", [message.body for message in error.messages])
    peer.close()


def confirms_of(raw, count):
    """Waits until confirms cover the tags 1 to `count`; gives them as (kind, how many)."""
    open_tags, kinds = set(range(1, count + 1)), {}
    last = 0
    while open_tags:
        answer = raw.receive().method
        tags = ({tag for tag in open_tags if tag <= answer.delivery_tag} if answer.multiple
                else {answer.delivery_tag} & open_tags)
        assert tags, f"a confirm of nothing: {answer}"
        open_tags -= tags
        kinds[answer.NAME] = kinds.get(answer.NAME, 0) + len(tags)
        last = max(last, answer.delivery_tag)
    return kinds


@scenario("confirms: every publish once, from 1 on, unroutable and transient ones too")
def confirms(broker, see):
    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="d.confirms", durable=True, exclusive=True))
    raw.send(publish(1, "", "d.confirms", b"before confirm.select"))
    see("select", str(raw.ask(1, spec.Confirm.Select())))
    raw.send(publish(1, "", "d.confirms", b"1", b"\x10\x00\x02"))
    see("persistent", str(raw.receive()))
    raw.send(publish(1, "", "d.confirms", b"2", b"\x10\x00\x01"))
    see("transient", str(raw.receive()))
    raw.send(publish(1, "", "d.none", b"3", b"\x10\x00\x02"))
    see("unroutable", str(raw.receive()))
    see("select again", str(raw.ask(1, spec.Confirm.Select())))
    raw = Raw(broker)
    raw.ask(1, spec.Queue.Declare(queue="d.confirms2", durable=True, exclusive=True))
    raw.ask(1, spec.Confirm.Select())
    raw.send(b"".join(publish(1, "", "d.confirms2" if number % 3 else "d.none", b"%d" % number,
                              b"\x10\x00" + bytes([1 + number % 2])) for number in range(500)))
    see("five hundred at once", confirms_of(raw, 500))
    see("stored", str(raw.ask(1, spec.Queue.Declare(queue="d.confirms2", passive=True))))
    raw.open(2)
    raw.ask(2, spec.Confirm.Select())
    raw.send(publish(2, "", "d.confirms2"))
    see("another channel counts for itself", str(raw.receive()))
    raw.send(method(1, spec.Confirm.Select(nowait=True)))
    see("no wait", raw.outcome(probe=1))


@scenario("transactions and confirms: not both on a channel, no commit without select")
def modes(broker, see):
    raw = Raw(broker)
    raw.send(method(1, spec.Tx.Select()))
    see("confirm.select after tx.select", raw.outcome(method(1, spec.Confirm.Select())))
    raw = Raw(broker)
    raw.ask(1, spec.Confirm.Select())
    see("tx.select after confirm.select", raw.outcome(method(1, spec.Tx.Select())))
    see("tx.commit without tx.select", Raw(broker).outcome(method(1, spec.Tx.Commit())))
    see("tx.rollback without tx.select", Raw(broker).outcome(method(1, spec.Tx.Rollback())))


@scenario("order: of one channel to one queue, through an exchange, over ten thousand messages")
def order(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("d.order", exclusive=True)
    peer.channel.queue_bind("d.order", "amq.direct", "d.order.key")
    reader = peer.open()
    reader.basic_qos(prefetch_count=200)
    consumer = Consumer(peer, "d.order", reader)
    sender = Raw(broker)
    sender.ask(1, spec.Confirm.Select())
    sender.send(b"".join(publish(1, "amq.direct", "d.order.key", b"%d" % number)
                         for number in range(10000)))
    acknowledged = 0
    while len(consumer.seen) < 10000:
        consumer.expect(min(10000, len(consumer.seen) + 100))
        reader.basic_ack(consumer.tags[-1], multiple=True)
        acknowledged = consumer.tags[-1]
    see("in order", [int(body) for _, body in consumer.seen] == list(range(10000)))
    see("flags", sorted({again for again, _ in consumer.seen}))
    see("last tag", acknowledged)
    see("confirmed", confirms_of(sender, 10000))
    peer.close()
    sender.close()


@scenario("transactions: publishes and acknowledgements at commit, none after rollback")
def transactions(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("d.tx", exclusive=True)
    if see("tx.select", peer.attempt(lambda c: c.tx_select())) != "fine":
        return
    channel = peer.open()
    channel.tx_select()
    for text in (b"1", b"2"):
        channel.basic_publish("", "d.tx", text, pika.BasicProperties(delivery_mode=2))
    see("before commit", depth(peer.channel, "d.tx"))
    channel.tx_commit()
    see("after commit", depth(peer.channel, "d.tx"))
    channel.basic_publish("", "d.tx", b"3")
    channel.tx_rollback()
    see("after rollback", depth(peer.channel, "d.tx"))
    got, _, body = channel.basic_get("d.tx")
    channel.basic_ack(got.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(got.delivery_tag)
    channel.tx_commit()
    channel.basic_recover(requeue=True)
    see("acknowledged", [body, drain(peer.channel, "d.tx")])
    peer.close()
