"""The table of docs/mqtt.md: each statement, whom it binds, and the cases that show it."""

import os

from lib.broker import ROOT

from .differences import DIFFERENCES, NOT_SHOWN
from .scenario import CASES, statements

PAGE = os.path.join(ROOT, "docs", "mqtt.md")
BEGIN, END = "<!-- statements begin -->\n", "<!-- statements end -->\n"


def shown():
    """(version, number) -> the titles of the cases that show it."""
    found = {}
    for case in CASES:
        for number in case.numbers:
            found.setdefault((case.version, number), []).append(case.title)
    return found


def state(key, statement, titles):
    """shown, client, or not shown; and the words for the table."""
    by = "; ".join(titles)
    if statement.binds == "client":
        return "client", f"when a client breaks or uses it: {by}" if titles else "not seen by a server"
    if titles:
        return "shown", by
    return "not shown", f"**not shown**: {NOT_SHOWN.get(key, '?')}"


def check():
    known, found = statements(), shown()
    unknown = set(found) - set(known)
    assert not unknown, f"cases name statements that aren't there: {sorted(unknown)}"
    missing = [key for key, one in known.items()
               if one.binds != "client" and key not in found and key not in NOT_SHOWN]
    assert not missing, f"neither shown nor listed in NOT_SHOWN: {missing}"
    stale = [key for key in NOT_SHOWN if key in found or key not in known]
    assert not stale, f"listed in NOT_SHOWN, and shown or unknown: {stale}"


def counts():
    known, found = statements(), shown()
    lines = ["| version | statements | shown | bind clients only | not shown |", "|---|---|---|---|---|"]
    for version in ("3.1.1", "5.0"):
        states = [state(key, one, found.get(key, []))[0] for key, one in known.items() if key[0] == version]
        lines.append(f"| {version} | {len(states)} | {states.count('shown')} | {states.count('client')} | "
                     f"{states.count('not shown')} |")
    return lines


def summary():
    return "\n".join("    " + line for line in counts())


def differences():
    numbers = {}
    for case in CASES:
        for name in (case.name, case.title):
            numbers.setdefault(name, []).extend(f"{case.version}: {number}" for number in case.numbers)
    lines = ["### Where mosquitto 2.0.11 does otherwise", "",
             "The same cases run against Debian's mosquitto. These are all in which it does otherwise.", "",
             "| case | statements | mosquitto | right | why |", "|---|---|---|---|---|"]
    for name, one in DIFFERENCES.items():
        cells = [name, ", ".join(numbers[name]), one["mosquitto"], one["right"], one["why"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def rows():
    known, found = statements(), shown()
    lines = [*counts(), ""]
    for version in ("3.1.1", "5.0"):
        lines += [f"### MQTT {version}", "", "| number | binds | what it asks | shown by |", "|---|---|---|---|"]
        for key, one in known.items():
            if key[0] == version:
                words = state(key, one, found.get(key, []))[1].replace("|", "\\|")
                lines.append(f"| MQTT-{one.number} | {one.binds} | {one.text} | {words} |")
        lines.append("")
    return lines + differences()


def current():
    """That the page has this table; with POLYLOG_UPDATE_DOCS it is made so."""
    with open(PAGE) as file:
        before, rest = file.read().split(BEGIN)
    was, after = rest.split(END)
    now = "\n".join(rows()) + "\n"
    if os.environ.get("POLYLOG_UPDATE_DOCS"):
        with open(PAGE, "w") as file:
            file.write(before + BEGIN + now + END + after)
        return
    assert was == now, "isn't what this run shows: POLYLOG_UPDATE_DOCS=1 conformance/mqtt_statements.py"
