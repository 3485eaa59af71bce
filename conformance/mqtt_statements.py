#!/usr/bin/python3
"""The normative statements of MQTT 3.1.1 and 5.0, one by one: the cases of mqtt/ run against Polylog and
against Debian's mosquitto, many at a time, and the table in docs/mqtt.md says which statement is shown
by which case.

A case that fails against Polylog fails. One that fails against mosquitto has to be listed in
mqtt/differences.py, with which of us is right and why; one that is listed and doesn't fail any more
fails, too. So does a statement that binds the server and is neither shown nor listed as not shown, and
a table in docs/mqtt.md that isn't what the run shows (POLYLOG_UPDATE_DOCS=1 writes it).
BROKER=mosquitto or BROKER=polylog runs against one alone; words choose cases; VERBOSE=1 for traces.
"""

import os
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from lib.broker import BINARY, Broker
from lib.cases import Suite
from lib.mosquitto import Mosquitto
from mqtt import (authentication, connect, flow, other_server, properties, publish, resuming, subscribe, table,
                  websocket, wills)
from mqtt.differences import DIFFERENCES
from mqtt.scenario import CASES, Place

ORDER = [module.__name__ for module in (connect, wills, publish, resuming, subscribe, properties, flow,
                                        authentication, websocket, other_server)]
AT_ONCE = 16
TIMEOUT = 20  # seconds that a case waits for a packet; mosquitto's failures wait less
MOSQUITTO_TIMEOUT = 4


def polylog():
    limited = os.path.join(tempfile.mkdtemp(prefix="polylog-limited-"), "mqtt.sock")
    broker = Broker(listeners={"ws": ""},
                    unix=[f"mqtt=unix:{limited} mqtt.max_qos=1 mqtt.retain_available=false"]).start()
    broker.ports["limited"] = limited
    # In this order: once there is a user, the command line has to log in.
    for arguments, said in ((["acl", "create", "deny", "*", "write", "denied"], ""),
                            (["user", "create", "ann"], "ann-secret\n")):
        subprocess.run([BINARY, *arguments, "--admin", broker.admin], input=said, text=True, check=True,
                       stdout=subprocess.DEVNULL, timeout=60)
    return broker


def mosquitto():
    return Mosquitto(websocket=True, limited=True).start()


def attempt(case, broker, timeout):
    """The seconds that it took, and what went wrong, or None."""
    began = time.monotonic()
    place = Place(broker, case.version, timeout)
    try:
        case.function(place)
    except Exception as error:  # a case may fail in any way
        if os.environ.get("VERBOSE"):
            traceback.print_exc()
        return time.monotonic() - began, error
    finally:
        place.close()
    return time.monotonic() - began, None


def compared(case, error):
    """What is wrong with the way in which mosquitto took it, or None."""
    listed = DIFFERENCES.get(case.name) or DIFFERENCES.get(case.title)
    if error and not listed:
        return f"mosquitto differs, and mqtt/differences.py doesn't list it: {error!r}"
    if listed and not error:
        return "mqtt/differences.py lists what mosquitto does no longer"
    return None


def chosen(words):
    cases = sorted(CASES, key=lambda one: ORDER.index(one.function.__module__))
    names = [one.name for one in cases]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    unknown = {name for name in DIFFERENCES if name not in names and
               name not in {one.title for one in cases}}
    assert not unknown, f"differences of cases that aren't there: {unknown}"
    return [one for one in cases if not words or any(word in one.name for word in words)]


def run(kind, start, cases, timeout):
    """Case -> (seconds, error) against one broker."""
    broker = start()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = dict(zip(cases, pool.map(lambda one: attempt(one, broker, timeout), cases)))
    except BaseException as error:
        broker.__exit__(type(error), error, None)
        raise
    failed = kind == "polylog" and any(error for _, error in results.values())
    broker.__exit__(AssertionError if failed else None, None, None)
    return results


def main():
    words = sys.argv[1:]
    only = os.environ.get("BROKER")
    cases = chosen(words)
    results = {}
    with ThreadPoolExecutor() as pool:
        jobs = {}
        if only != "mosquitto":
            jobs["polylog"] = pool.submit(run, "polylog", polylog, cases, TIMEOUT)
        if only != "polylog":
            jobs["mosquitto"] = pool.submit(run, "mosquitto", mosquitto,
                                            [one for one in cases if not one.ours], MOSQUITTO_TIMEOUT)
        for kind, job in jobs.items():
            results[kind] = job.result()

    suite = Suite("mqtt_statements")

    def judged(case):
        def judge():
            for kind in results:
                _, error = results[kind].get(case, (0, None))
                if kind == "mosquitto" and only is None:
                    wrong = compared(case, error)
                    if wrong:
                        raise AssertionError(wrong)
                elif error:
                    raise error

        return judge

    for case in cases:
        took = max(result.get(case, (0, None))[0] for result in results.values())
        suite.add(f"{case.name} [{took:.1f} s]" if took > 3 else case.name, judged(case))
    if only is None and not words:
        suite.add("every statement that binds a server is shown, or is listed as not shown", table.check)
        suite.add("the table in docs/mqtt.md", table.current)
        print(table.summary())
    return suite.run([])


if __name__ == "__main__":
    sys.exit(main())
