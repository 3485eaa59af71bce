"""Prints "CASES FAILED" of a GoogleTest JSON report. Skipped and disabled cases don't count."""
import json
import sys

with open(sys.argv[1], encoding="utf-8") as report:
    suites = json.load(report)["testsuites"]
run = [case for suite in suites for case in suite["testsuite"]
       if case["status"] == "RUN" and case.get("result") == "COMPLETED"]
print(len(run), sum(1 for case in run if case.get("failures")))
