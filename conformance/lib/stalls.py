"""How long other publishers wait while a load runs: one of a process of its own, so that a load's threads
don't count as the broker's delay."""

import multiprocessing
import re
import time
import urllib.request

import pika

from .amqp_clients import connect

PAUSE = 0.005


class Stalls:
    """Publishes small persistent messages and waits for each confirm, until end() says how long that
    took, and takes them from their queue again."""

    def __init__(self, broker):
        self.broker = broker
        fork = multiprocessing.get_context("fork")
        self.ours, theirs = fork.Pipe()
        self.process = fork.Process(target=self._run, args=(theirs,), daemon=True)

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()

    def _run(self, pipe):
        channel = connect(self.broker).channel()
        channel.queue_declare("stalls", durable=True)
        channel.confirm_delivery()
        waits = []
        while not pipe.poll(PAUSE):
            began = time.monotonic()
            channel.basic_publish("", "stalls", b".", pika.BasicProperties(delivery_mode=2))
            waits.append(time.monotonic() - began)
            channel.basic_get("stalls", auto_ack=True)
        waits.sort()
        pipe.send(waits)

    def end(self):
        """Median, 99.9th percentile and longest wait, and what the disk had to do with it, as a text."""
        self.ours.send("end")
        waits = self.ours.recv()
        figures = (waits[len(waits) // 2], waits[len(waits) * 999 // 1000], waits[-1])
        return "median {:.1f}, 99.9 % within {:.1f}, longest {:.1f} ms; fsync: {}".format(
            *(1000 * figure for figure in figures), self._syncs())

    def _syncs(self):
        with urllib.request.urlopen(f"{self.broker.admin}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        buckets = [(bound, int(count)) for bound, count in re.findall(
            r'^polylog_journal_fsync_seconds_bucket\{le="(.+)"\} (\d+)$', text, re.MULTILINE)]

        def within(share):
            bound = next(bound for bound, count in buckets if count >= share * buckets[-1][1])
            return f"{1000 * float(bound):.0f}"

        return f"half within {within(0.5)}, 99.9 % within {within(0.999)}, all within {within(1)} ms"
