#!/usr/bin/python3
"""The README's support table, from what a run of conformance/run printed.

    conformance/run | tee LOG; conformance/table.py LOG          rewrites the table in README.md
    conformance/table.py --check LOG                             fails if README.md says otherwise
"""

import os
import re
import sys

README = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "README.md")
BEGIN, END = "<!-- conformance table begins -->\n", "<!-- conformance table ends -->\n"
LINE = re.compile(r"^(ok|FAIL) +(\w+): (.*?)(?: \([\d.]+ s\)|: \w+(?:Error|Exception|Expired).*)?$")
MATRIX = re.compile(r"(\S+) \((\w+)\) to (\S+) \((\w+)\)")
SEED = re.compile(r" \(seed \d+\)")


def read(path):
    cases = []
    with open(path, errors="replace") as file:
        for line in file:
            match = LINE.match(line.rstrip("\n"))
            if match:
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
        if suite != "matrix":
            lines.append(f"| {suite} | {title} | {'yes' if passed else '**no**'} |")
    return lines


def main():
    check = sys.argv[1] == "--check"
    cases = read(sys.argv[-1])
    table = "\n".join(matrix(cases) + [""] + others(cases)) + "\n"
    with open(README) as file:
        before, rest = file.read().split(BEGIN)
        old, after = rest.split(END)
    if check:
        if old != table:
            print("README.md's support table isn't what the clients showed: run conformance/table.py")
            return 1
        return 0
    with open(README, "w") as file:
        file.write(before + BEGIN + table + END + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
