"""pika with the waiting done, and with what it hides of a refusal: class and method."""

import re
import socket
import time

import pika
from pika import spec
from pika.exceptions import AMQPError

GENERATED = re.compile(r"amq\.gen-[\w-]+")


class Peer:
    """A connection with channels; `channel` is the first."""

    def __init__(self, broker, **parameters):
        parameters = {"heartbeat": 0, "socket_timeout": 20, "blocked_connection_timeout": 30,
                      **parameters}
        self.broker = broker
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", broker.amqp, **parameters))
        self.closes = []
        self.connection._impl.callbacks.add(
            0, spec.Connection.Close, lambda frame: self._closed("connection", frame), False)
        self.channel = self.open()

    def _closed(self, what, frame):
        method = frame.method
        text = GENERATED.sub("amq.gen-...", method.reply_text)
        self.closes.append(f"{what} {method.reply_code} {text} "
                           f"({method.class_id}, {method.method_id})")

    def open(self, confirms=False):
        channel = self.connection.channel()
        channel._impl.callbacks.add(channel.channel_number, spec.Channel.Close,
                                    lambda frame: self._closed("channel", frame), False)
        if confirms:
            channel.confirm_delivery()
        return channel

    def attempt(self, call):
        """Calls it with a channel of its own and tells in words what became of it: "fine", or what
        closed the channel or connection (which is opened anew then)."""
        self.closes.clear()
        channel = self.open()
        try:
            call(channel)
            channel.basic_qos()  # answered after everything before it
        except AMQPError as error:
            if not self.closes:
                self.closes.append(f"the end ({error.__class__.__name__})")
            if not self.connection.is_open:
                closes = self.closes
                self.__init__(self.broker)
                return closes[0]
        else:
            channel.close()
        return self.closes[0] if self.closes else "fine"

    def wait(self, condition, what, timeout=20):
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {what} within {timeout} s")
            self.connection.process_data_events(min(left, 0.05))

    def close(self):
        if self.connection.is_open:
            self.connection.close()

    def drop(self):
        """Cuts the connection without a word."""
        self.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)


class Consumer:
    """Collects a consumer's deliveries: (redelivered, body), with tags apart."""

    def __init__(self, peer, queue, channel=None, **options):
        self.peer, self.channel = peer, channel or peer.channel
        self.seen, self.tags, self.methods, self.properties = [], [], [], []
        self.cancelled = []
        self.channel.add_on_cancel_callback(
            lambda frame: self.cancelled.append(frame.method.consumer_tag))
        self.tag = self.channel.basic_consume(queue, self._take, **options)

    def _take(self, _channel, method, properties, body):
        self.tags.append(method.delivery_tag)
        self.methods.append(method)
        self.properties.append(properties)
        self.seen.append((method.redelivered, body))

    def expect(self, count, timeout=20):
        """Waits for so many in all and returns them."""
        self.peer.wait(lambda: len(self.seen) >= count,
                       f"{count} deliveries (have {len(self.seen)})", timeout)
        return self.seen

    def bodies(self, count):
        return [body for _, body in self.expect(count)]


def confirmed(peer, exchange, messages, channel=None, **options):
    """Publishes (key, body) pairs and returns when the broker has confirmed them."""
    channel = channel or peer.open(confirms=True)
    for key, body in messages:
        channel.basic_publish(exchange, key, body, pika.BasicProperties(**options))
    return channel


def drain(channel, queue, auto_ack=True):
    """Bodies of all that waits in a queue."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack)
        if method is None:
            return bodies
        bodies.append(body)


def depth(channel, queue):
    """(messages ready, consumers)"""
    method = channel.queue_declare(queue, passive=True).method
    return method.message_count, method.consumer_count
