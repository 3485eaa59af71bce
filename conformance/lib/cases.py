"""Cases: named checks that pass or fail, and the closing line that scripts/test reads."""

import os
import sys
import time
import traceback


class Suite:
    """Collects cases in the order they are written; run() prints a line for each."""

    def __init__(self, name):
        self.name = name
        self.cases = []

    def case(self, title):
        def register(function):
            self.cases.append((title, function))
            return function

        return register

    def add(self, title, function):
        self.cases.append((title, function))

    def run(self, argv=None):
        wanted = (argv if argv is not None else sys.argv[1:]) or None
        passed, failures = 0, []
        for title, function in self.cases:
            if wanted and not any(word in title for word in wanted):
                continue
            began = time.monotonic()
            try:
                function()
            except Exception as error:  # a case may fail in any way
                failures.append(title)
                print(f"FAIL {self.name}: {title}: {error.__class__.__name__}: {error}")
                if os.environ.get("VERBOSE"):
                    traceback.print_exc()
            else:
                passed += 1
                print(f"ok   {self.name}: {title} ({time.monotonic() - began:.1f} s)")
            sys.stdout.flush()
        print(f"{passed} passed, {len(failures)} failed")
        return 1 if failures else 0


def wait_until(condition, timeout=10, what="the condition"):
    """Polls `condition` (for outside facts that send no event) and returns its first true value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} didn't come about within {timeout} s")
        time.sleep(0.01)


def equal(actual, expected, what="value"):
    if actual != expected:
        raise AssertionError(f"{what}: got {brief(actual)}, expected {brief(expected)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 300 else f"{text[:140]} ... {text[-140:]} ({len(text)} characters)"
