"""Publishes no-op tasks: a line on standard input is a number of tasks, and is answered by a line of JSON.

The answer has the median and the 99th percentile of the calls of `delay()`, in microseconds.
"""

from __future__ import annotations

import json
import sys
import time

from tests.benchmarks.app import noop


def main() -> None:
    """Answer lines until standard input ends."""
    for line in sys.stdin:
        calls = []
        for _ in range(int(line)):
            started = time.perf_counter()
            noop.delay()
            calls.append(time.perf_counter() - started)
        calls.sort()
        answer = {"p50": calls[len(calls) // 2] * 1e6, "p99": calls[len(calls) * 99 // 100] * 1e6}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
