"""Runs exchanges beside each other, in threads or with gevent: `python -m tests.support.exchanges POOL SECONDS URL…`.

Prints one line of JSON: for each URL what came of the exchange, and after how many seconds.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1] == "gevent":
    from gevent import monkey

    monkey.patch_all()

import json
import time
from concurrent.futures import ThreadPoolExecutor

from sluice_agent.outbound.deadline import Watchdog
from sluice_agent.outbound.http import NoAnswerError, Reading, post

ABORT_SECONDS = 0.2
READING = Reading(success=1_000_000, error=1_000_000, is_required=True)


def exchange(url: str, seconds: float) -> tuple[str, float]:
    """Run one exchange; a path `/abort` is aborted."""
    begin = time.monotonic()
    with Watchdog(seconds) as watchdog:
        if url.endswith("/abort"):
            with ThreadPoolExecutor(1) as other:
                other.submit(lambda: (time.sleep(ABORT_SECONDS), watchdog.abort()))
                return outcome(url, watchdog), time.monotonic() - begin
        return outcome(url, watchdog), time.monotonic() - begin


def outcome(url: str, watchdog: Watchdog) -> str:
    """Return the body of the answer, or why there is none."""
    try:
        return post(url, b"{}", {}, allows_private=True, reading=READING, watchdog=watchdog).text
    except NoAnswerError as error:
        return error.cause


if __name__ == "__main__":
    urls = sys.argv[3:]
    with ThreadPoolExecutor(len(urls)) as threads:
        print(json.dumps(list(threads.map(lambda url: exchange(url, float(sys.argv[2])), urls))))
