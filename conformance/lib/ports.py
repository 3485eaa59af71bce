"""Ports for reference brokers, which, unlike ours, can't be told to pick one."""

import random
import socket


def free_port():
    """One that nobody has, of those that the system gives no outgoing connection meanwhile."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
