#!/usr/bin/python3
"""The support tables, from what a run of conformance/run printed: who reaches whom in README.md,
every case in docs/clients.md.

    conformance/run | tee LOG; conformance/table.py LOG
"""

import os
import re
import sys

from amqp.differences import DIFFERENCES

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
README = os.path.join(ROOT, "README.md")
CASES = os.path.join(ROOT, "docs", "clients.md")
HEADING = """# What real clients showed

Written by `conformance/table.py` from a run of `conformance/run`: every case that third-party clients (or raw packets, where no
client goes there) showed against the built binary. README.md has the matrix of publishers and consumers.

"""
BEGIN, END = "<!-- conformance table begins -->\n", "<!-- conformance table ends -->\n"
LINE = re.compile(r"^(ok|FAIL) +(\w[\w ]*): (.*?)(?: \([\d.]+ s\)|: \w+(?:Error|Exception|Expired).*)?$")
MATRIX = re.compile(r"(\S+) \((\w+)\) to (\S+) \((\w+)\)")
SEED = re.compile(r" \(seed \d+\)")


def read(path):
    cases = []
    with open(path, errors="replace") as file:
        for line in file:
            match = LINE.match(line.rstrip("\n"))
            # The checker's own tests have no clients; the statements have docs/mqtt.md.
            if match and match[2] not in ("history", "mqtt_statements"):
                cases.append((match[2], SEED.sub("", match[3]), match[1] == "ok"))
    return cases


def matrix(cases):
    results = {}
    for suite, title, passed in cases:
        match = MATRIX.fullmatch(title) if suite == "matrix" else None
        if match:
            results[(f"{match[1]}, {match[2]}", f"{match[3]}, {match[4]}")] = passed
    publishers = list(dict.fromkeys(publisher for publisher, _ in results))
    consumers = list(dict.fromkeys(consumer for _, consumer in results))
    lines = ["| from \\ to | " + " | ".join(consumers) + " |", "|---" * (len(consumers) + 1) + "|"]
    for publisher in publishers:
        cells = ["yes" if results.get((publisher, consumer)) else "**no**" for consumer in consumers]
        lines.append(f"| {publisher} | " + " | ".join(cells) + " |")
    return lines


def others(cases):
    lines = ["| suite | shown by a real client | |", "|---|---|---|"]
    for suite, title, passed in cases:
        if not (suite == "matrix" and MATRIX.fullmatch(title)):
            listed = len(DIFFERENCES.get(title, {})) if suite == "amqp" else 0
            shown = f"but for the {listed} listed below" if listed > 1 else "but for one listed below"
            shown = f"as RabbitMQ, {shown}" if listed else "yes"
            lines.append(f"| {suite} | {title} | {shown if passed else '**no**'} |")
    return lines


def differences():
    lines = ["", "## Where AMQP differs from RabbitMQ 3.10", "",
             "The scenarios of the suite `amqp` run against Debian's rabbitmq-server too. These are all the differences "
             "between what", "they saw there and here; any other fails.", "",
             "| scenario | what | RabbitMQ | Polylog | why |", "|---|---|---|---|---|"]
    for title, labels in DIFFERENCES.items():
        for label, one in labels.items():
            cells = [title, label, f"`{one['rabbitmq']!r}`", f"`{one['polylog']!r}`", one["why"]]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def main():
    cases = read(sys.argv[1])
    with open(README) as file:
        before, rest = file.read().split(BEGIN)
        after = rest.split(END)[1]
    with open(README, "w") as file:
        file.write(before + BEGIN + "\n".join(matrix(cases)) + "\n" + END + after)
    with open(CASES, "w") as file:
        file.write(HEADING + "\n".join(others(cases) + differences()) + "\n")


if __name__ == "__main__":
    main()
