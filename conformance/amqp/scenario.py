"""Scenarios: functions of (broker, see) that drive a broker and tell what they saw. The same one runs
against Polylog and RabbitMQ, and what was seen is compared, label by label."""

import hashlib

SCENARIOS = []  # (title, function), in the order that they are written


def scenario(title):
    def register(function):
        assert all(title != other for other, _ in SCENARIOS), title
        SCENARIOS.append((title, function))
        return function

    return register


class Seen:
    """What a scenario saw of one broker: label -> plain value."""

    def __init__(self):
        self.values = {}

    def __call__(self, label, value):
        assert label not in self.values, f"seen twice: {label}"
        self.values[label] = plain(value)
        return value


def plain(value):
    """The value made of lists, strings and numbers; long octets by their length and hash."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        if len(value) > 100:
            return f"{len(value)} octets {hashlib.sha256(value).hexdigest()[:16]}"
        return value.decode("latin-1")
    return value
