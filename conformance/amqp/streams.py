"""Queues of the type stream: read from where one likes, as often as one likes."""

import datetime

from .peer import Consumer, Peer, confirmed
from .scenario import scenario

STREAM = {"x-queue-type": "stream"}


def reader(peer, queue, offset=None, prefetch=100):
    channel = peer.open()
    channel.basic_qos(prefetch_count=prefetch)
    arguments = {} if offset is None else {"x-stream-offset": offset}
    return Consumer(peer, queue, channel, arguments=arguments)


@scenario("streams: read from first, last, next, a number, a time; again and again, in order")
def offsets(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("s.read", durable=True, arguments=STREAM)
    sender = peer.open(confirms=True)
    for number in range(10):  # one at a time, so that "last" is one message
        confirmed(peer, "", [("s.read", b"%d" % number)], sender)
    waiting = reader(peer, "s.read", "next")
    silent = reader(peer, "s.read")
    for title, offset, count in (("first", "first", 10), ("again", "first", 10), ("number", 4, 6),
                                 ("zero", 0, 10), ("last number", 9, 1), ("last", "last", 1),
                                 ("an hour ago", "1h", 10),
                                 ("time", datetime.datetime(2020, 1, 1), 10)):
        consumer = reader(peer, "s.read", offset)
        see(title, consumer.expect(count))
        see(f"{title}: x-stream-offset", [properties.headers["x-stream-offset"]
                                          for properties in consumer.properties])
        consumer.channel.basic_ack(0, multiple=True)
        consumer.channel.close()
    confirmed(peer, "", [("s.read", b"new")], sender)
    see("next", waiting.expect(1))
    see("no offset", silent.expect(1))
    peer.channel.queue_delete("s.read")
    peer.close()


@scenario("streams: prefetch holds, acknowledging lets more come, nothing is taken away")
def stream_prefetch(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("s.window", durable=True, arguments=STREAM)
    sender = peer.open(confirms=True)
    for number in range(10):
        confirmed(peer, "", [("s.window", b"%d" % number)], sender)
    consumer = reader(peer, "s.window", "first", prefetch=3)
    see("three", consumer.expect(3))
    consumer.channel.basic_ack(consumer.tags[1], multiple=True)
    see("two acknowledged", consumer.expect(5))
    consumer.channel.basic_ack(consumer.tags[4])
    see("one acknowledged", consumer.expect(6))
    consumer.channel.close()
    see("all there", reader(peer, "s.window", "first").expect(10))
    peer.channel.queue_delete("s.window")
    peer.close()


@scenario("streams: refused: no prefetch, no acknowledgements, get, purge, nack, odd offsets")
def stream_refusals(broker, see):
    peer = Peer(broker)
    peer.channel.queue_declare("s.refused", durable=True, arguments=STREAM)
    confirmed(peer, "", [("s.refused", b"x")])

    def ignore(*_):
        pass

    def consume(channel, offset=None, **options):
        channel.basic_qos(prefetch_count=10)
        arguments = {} if offset is None else {"x-stream-offset": offset}
        channel.basic_consume("s.refused", ignore, arguments=arguments, **options)

    def nack(requeue):
        def call(channel):
            channel.basic_qos(prefetch_count=10)
            seen = []
            channel.basic_consume("s.refused", lambda *got: seen.append(got),
                                  arguments={"x-stream-offset": "first"})
            peer.wait(lambda: seen, "a delivery")
            channel.basic_nack(1, requeue=requeue)
        return call

    def globally(channel):
        channel.basic_qos(prefetch_count=10, global_qos=True)
        consume(channel)

    for title, call in (
            ("without prefetch", lambda c: c.basic_consume("s.refused", ignore)),
            ("prefetch by channel", globally),
            ("without acknowledgements", lambda c: consume(c, auto_ack=True)),
            ("get", lambda c: c.basic_get("s.refused")),
            ("purge", lambda c: c.queue_purge("s.refused")),
            ("nack", nack(True)), ("nack without requeue", nack(False)),
            ("exclusive", lambda c: consume(c, exclusive=True)),
            ("offset 5x", lambda c: consume(c, "5x")), ("offset foo", lambda c: consume(c, "foo")),
            ("offset true", lambda c: consume(c, True)),
            ("redeclared as classic", lambda c: c.queue_declare("s.refused", durable=True)),
            ("redeclared", lambda c: c.queue_declare("s.refused", durable=True, arguments=STREAM)),
            ("without a name", lambda c: c.queue_declare("", durable=True, arguments=STREAM)),
            ("passive", lambda c: c.queue_declare("s.refused", passive=True))):
        see(title, peer.attempt(call))
    peer.channel.queue_delete("s.refused")
    peer.close()


@scenario("streams: bound to exchanges; properties and headers of what is read")
def stream_routing(broker, see):
    peer = Peer(broker)
    channel = peer.channel
    channel.queue_declare("s.bound", durable=True, arguments=STREAM)
    channel.queue_declare("s.beside", exclusive=True)
    for queue in ("s.bound", "s.beside"):
        channel.queue_bind(queue, "amq.direct", "s.key")
    confirmed(peer, "amq.direct", [("s.key", b"through")], content_type="text/plain", delivery_mode=1,
              message_id="m", headers={"text": "a", "number": 5, "yes": True, "void": None})
    see("the queue beside", channel.basic_get("s.beside", True)[2])
    consumer = reader(peer, "s.bound", "first")
    see("the stream", consumer.expect(1))
    method, properties = consumer.methods[0], consumer.properties[0]
    see("exchange and key", [method.exchange, method.routing_key])
    see("properties", sorted((name, repr(value)) for name, value in vars(properties).items()
                             if value is not None and name != "headers"))
    see("headers", sorted((name, repr(value)) for name, value in properties.headers.items()))
    channel.queue_delete("s.bound")
    peer.wait(lambda: consumer.cancelled, "basic.cancel")
    see("told of the deletion", consumer.cancelled == [consumer.tag])
    peer.close()
