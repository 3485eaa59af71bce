"""Checks histories on disk: `/usr/bin/python3 -m history FILE...` in conformance/. After the report it
prints all that the history has about the examples' messages. Status 1 if there are anomalies."""

import json
import sys

from .checker import Checker
from .events import HistoryError, about, load


def main(paths):
    status = 0
    for path in paths:
        try:
            report = Checker().feed(load(path)).finish()
        except HistoryError as error:
            print(f"{path}: {error}")
            status = 1
            continue
        print(f"{path}\n{report}")
        if not report.ok:
            status = 1
            for line, event in about(load(path), report.messages()):
                print(f"  {line}: {json.dumps(event)}")
    return status


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
