"""The same by other clients: amqp-tools (librabbitmq) and amqplib."""

import json
import os
import subprocess

from .peer import Peer, confirmed, depth
from .scenario import scenario

AMQPLIB = os.path.join(os.path.dirname(__file__), "..", "js", "amqplib_client.mjs")


def tool(broker, name, *arguments, text=b""):
    """Runs one of amqp-tools: status, output, first line of its complaints."""
    done = subprocess.run([name, f"--url=amqp://guest:guest@127.0.0.1:{broker.amqp}", *arguments],
                          input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return [done.returncode, done.stdout, done.stderr.decode().split("\n")[0]]


@scenario("amqp-tools: declare, publish, get, consume, delete")
def amqp_tools(broker, see):
    peer = Peer(broker)
    see("declare", tool(broker, "amqp-declare-queue", "-q", "a.tools", "-d"))
    see("declare otherwise", tool(broker, "amqp-declare-queue", "-q", "a.tools"))
    see("publish", tool(broker, "amqp-publish", "-r", "a.tools", "-b", "by key", "-p", "-C", "text/plain",
                        "-H", "unit: C", "-t", "answers", "-E", "none"))
    see("publish from standard input", tool(broker, "amqp-publish", "-r", "a.tools",
                                            text=bytes(range(256)) * 4096))
    see("publish lines", tool(broker, "amqp-publish", "-r", "a.tools", "-l", text=b"one\ntwo\nthree\n"))
    see("publish to a missing exchange", tool(broker, "amqp-publish", "-e", "a.none", "-r", "k", "-b", "x"))
    peer.wait(lambda: depth(peer.channel, "a.tools")[0] == 5, "five messages")
    got, properties, body = peer.channel.basic_get("a.tools")
    see("by pika", [body, {name: value for name, value in vars(properties).items() if value is not None}])
    peer.channel.basic_reject(got.delivery_tag)
    see("get", tool(broker, "amqp-get", "-q", "a.tools"))
    see("get a large one", tool(broker, "amqp-get", "-q", "a.tools"))
    see("consume", tool(broker, "amqp-consume", "-q", "a.tools", "-c", "3", "-p", "1", "cat"))
    see("get from an empty queue", tool(broker, "amqp-get", "-q", "a.tools"))
    confirmed(peer, "", [("a.tools", b"x")])
    see("delete if empty", tool(broker, "amqp-delete-queue", "-q", "a.tools", "-e"))
    see("delete", tool(broker, "amqp-delete-queue", "-q", "a.tools"))
    see("get from a missing queue", tool(broker, "amqp-get", "-q", "a.tools"))
    peer.close()


@scenario("amqp-tools: a consumer binds a queue of its own to an exchange")
def amqp_consume(broker, see):
    peer = Peer(broker)
    peer.channel.exchange_declare("a.tools.x", "direct")
    reader = subprocess.Popen(
        ["amqp-consume", f"--url=amqp://guest:guest@127.0.0.1:{broker.amqp}", "-e", "a.tools.x", "-r",
         "key", "-x", "-c", "2", "cat"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    channel = peer.open(confirms=True)

    def routed():
        return not unroutable(channel)

    peer.wait(routed, "binding")
    confirmed(peer, "a.tools.x", [("key", b"second")], channel)
    output, complaints = reader.communicate(timeout=20)
    see("read", [reader.returncode, output])
    see("named", complaints.split(b"amq.gen-")[0])
    peer.channel.exchange_delete("a.tools.x")
    peer.close()


def unroutable(channel):
    from pika.exceptions import UnroutableError
    try:
        channel.basic_publish("a.tools.x", "key", b"first ", mandatory=True)
    except UnroutableError:
        return True
    return False


@scenario("amqplib: declare, bind, publish with confirms, typed headers, return, get, consume, refusals")
def amqplib(broker, see):
    output = subprocess.run(["node", AMQPLIB, "scenario", str(broker.amqp)], stdout=subprocess.PIPE,
                            check=True, timeout=60).stdout
    for label, value in json.loads(output).items():
        see(label, value)
