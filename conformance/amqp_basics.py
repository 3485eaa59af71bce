#!/usr/bin/python3
"""What AMQP 0-9-1 clients rely on: routing, queues, refusals, deliveries, contents, frames.

Every scenario runs against Polylog and against Debian's RabbitMQ; what was seen is compared. A
difference passes only if amqp/differences.py lists it with its reason, and one that is listed but
no longer there fails. BROKER=rabbitmq or BROKER=polylog runs against one alone and compares nothing;
VERBOSE=1 prints what was seen.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from amqp import clients, content, delivery, frames, queues, refusals, routing, streams
from amqp.differences import DIFFERENCES
from amqp.scenario import SCENARIOS, Seen
from lib.broker import Broker
from lib.cases import Suite
from lib.rabbitmq import RabbitMQ

KINDS = {"polylog": Broker, "rabbitmq": RabbitMQ}
ORDER = [module.__name__ for module in
         (routing, queues, refusals, delivery, content, frames, streams, clients)]


def compare(title, polylog, rabbitmq):
    """Raises with every difference that isn't listed and every listed one that isn't there."""
    listed = DIFFERENCES.get(title, {})
    wrong = []
    for label in list(dict.fromkeys([*rabbitmq, *polylog, *listed])):
        there = [side.get(label, "(not seen)") for side in (rabbitmq, polylog)]
        if label in listed:
            expected = [listed[label]["rabbitmq"], listed[label]["polylog"]]
            assert listed[label]["why"]
            if there != expected:
                wrong.append(f"{label}: listed as a difference {expected!r}, but was {there!r}")
        elif there[0] != there[1]:
            if os.environ.get("VERBOSE"):  # to be pasted into differences.py, if it is meant
                print(f"    {title!r}: {{{label!r}: {{\n        'rabbitmq': {there[0]!r},\n"
                      f"        'polylog': {there[1]!r},\n        'why': ''}}}},")
            wrong.append(f"{label}:\n        RabbitMQ {there[0]!r}\n        Polylog  {there[1]!r}")
    if wrong:
        raise AssertionError("\n    ".join(["", *wrong]))


def main():
    only = os.environ.get("BROKER")
    brokers = {name: kind() for name, kind in KINDS.items() if only in (None, name)}
    suite = Suite("amqp")

    def case(title, function):
        def run():
            seen = {name: Seen() for name in brokers}

            def against(name):
                try:
                    function(brokers[name], seen[name])
                except Exception as error:
                    raise AssertionError(
                        f"against {name}: {error.__class__.__name__}: {error}") from error

            with ThreadPoolExecutor() as pool:
                list(pool.map(against, brokers))
            if os.environ.get("VERBOSE"):
                for name, one in seen.items():
                    for label, value in one.values.items():
                        print(f"    {name}: {label}: {value!r}")
            if only is None:
                compare(title, seen["polylog"].values, seen["rabbitmq"].values)

        return run

    for title, function in sorted(SCENARIOS, key=lambda entry: ORDER.index(entry[1].__module__)):
        suite.add(title, case(title, function))
    unknown = set(DIFFERENCES) - {title for title, _ in SCENARIOS}
    assert not unknown, f"differences of scenarios that aren't there: {unknown}"
    # RabbitMQ takes its time to start.
    status = 1
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda broker: broker.start(), brokers.values()))
        status = suite.run()
    finally:
        for broker in brokers.values():
            broker.__exit__(None if status == 0 else AssertionError, None, None)
    return status


if __name__ == "__main__":
    sys.exit(main())
