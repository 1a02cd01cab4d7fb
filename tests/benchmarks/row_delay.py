"""How long a change takes from the answer to its request to the row that shows it, in a real browser.

The page is the list of all jobs, the newest first. Each job is queued, active and completed in turn, so that an event
is either a new row or a change of one. A row shows an event too if it shows a later one of the same job.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import count, islice
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from playwright.sync_api import Page

from sluice_agent.server.record.ids import job_id
from tests.benchmarks.percentiles import percentile
from tests.benchmarks.served import Served
from tests.support.chromium import chromium, session
from tests.support.server_data import CONNECTIONS

STATES = ("queued", "active", "completed")
_LAGS = (0, 2, 5)  # a job is queued, and active and completed when so many others were queued after it
_CONNECTION = CONNECTIONS[0]
_HEADERS = {"Authorization": "Bearer sk_bench"}
_LIVE = "#live[data-state=live]"
_START_TIMEOUT = 120_000  # milliseconds: the page is ready, and the stream has begun
_WARM_UP = 3.0  # seconds, which are not measured
_LAST_ROW = 10.0  # seconds without a new row: no more will come
_POLL_SECONDS = 0.1
_NOTE_ROWS = """() => {
  window.shown = [];
  const known = new Set();
  const note = () => {
    const now = Date.now();
    for (const row of document.querySelectorAll("tr[data-key]")) {
      const state = row.querySelector(".state").className.match(/state-(\\w+)/)[1];
      const key = `${row.dataset.key} ${state}`;
      if (known.has(key)) continue;
      known.add(key);
      window.shown.push([row.dataset.key, state, now]);
    }
  };
  new MutationObserver(() => requestAnimationFrame(note)).observe(
    document.body, {attributes: true, childList: true, subtree: true});
}"""
"""Notes, in the frame that paints it, when each row has first had each state, in milliseconds since 1970."""


class Change(NamedTuple):
    """A state of a job, by the id that the page has for it."""

    job: str
    state: str


@dataclass(frozen=True, slots=True)
class Load:
    """Batches of so many events, with a pause between them that varies by half of it in either direction."""

    name: str
    batch: int
    pause: float
    most: float
    """The milliseconds that are demanded of the 95th percentile."""


LOADS = (
    Load("an event now and then", batch=1, pause=1.0, most=300),
    Load("100 events/s", batch=10, pause=0.1, most=500),
)


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds from the answer to the row; `shown` of the `sent` events were seen at all."""

    sent: int
    shown: int
    p50: float
    p95: float


def measure(load: Load, seconds: float, server: Served, behind: timedelta) -> Delays:
    """Send events to the server, whose clock is `behind` this machine's, while a browser shows its jobs."""
    url = server.url.removesuffix("/api")
    with chromium() as browser, session(browser, url) as opened, httpx.Client(base_url=server.url) as client:
        page = opened.context.new_page()
        page.goto(f"{url}/jobs?connectionId={_CONNECTION}", timeout=_START_TIMEOUT)
        page.wait_for_selector(_LIVE, timeout=_START_TIMEOUT)
        page.mouse.move(5, 5)  # outside the list: rows of one that is in use do not move
        page.evaluate(_NOTE_ROWS)
        events = _events(behind)
        _send(client, load, _WARM_UP, events)
        answers = _send(client, load, seconds, events)
        return summary(delays(answers, _shown(page, answers)))


def delays(answers: Mapping[Change, float], shown: Iterable[tuple[Change, float]]) -> list[float]:
    """Return the milliseconds from each answer to the first row that shows its change, or a later one of the same job.

    They are infinite for a change that no row has shown, and 0 for a row that was there before the answer. Both times
    are in milliseconds since 1970.
    """
    first: dict[Change, float] = {}
    for (job, state), at in shown:
        if state not in STATES:
            continue
        for earlier in STATES[: STATES.index(state) + 1]:
            change = Change(job, earlier)
            first[change] = min(first.get(change, math.inf), at)
    return [max(first.get(change, math.inf) - answered, 0.0) for change, answered in answers.items()]


def summary(sample: list[float]) -> Delays:
    """Return the percentiles, in which a change that was not shown is one of the longest delays."""
    shown = sum(map(math.isfinite, sample))
    return Delays(len(sample), shown, percentile(sample, 50), percentile(sample, 95))


def _send(client: httpx.Client, load: Load, seconds: float, events: Iterator[dict[str, Any]]) -> dict[Change, float]:
    """Send events for some seconds; return when each of them was answered, in milliseconds since 1970."""
    chance = random.Random(1)
    answers: dict[Change, float] = {}
    next_at = time.monotonic()
    until = next_at + seconds
    while next_at < until:
        time.sleep(max(0.0, next_at - time.monotonic()))
        batch = list(islice(events, load.batch))
        answer = client.post("/ingest", content=json.dumps({"events": batch}), headers=_HEADERS).raise_for_status()
        at = time.time() * 1_000
        if answer.json()["accepted"] != len(batch):
            raise RuntimeError(f"the server did not accept the events: {answer.text}")
        answers |= {Change(job_id(_CONNECTION, each["job"]["externalId"]), each["job"]["state"]): at for each in batch}
        next_at += load.pause * chance.uniform(0.5, 1.5)
    return answers


def _shown(page: Page, answers: Mapping[Change, float]) -> list[tuple[Change, float]]:
    """Return what the rows have shown once they show all changes, or nothing new for some seconds."""
    shown: list[tuple[Change, float]] = []
    changed_at = time.monotonic()
    while not all(map(math.isfinite, delays(answers, shown))) and time.monotonic() - changed_at < _LAST_ROW:
        known = page.evaluate("window.shown")
        if len(known) != len(shown):
            shown = [(Change(job, state), at) for job, state, at in known]
            changed_at = time.monotonic()
        time.sleep(_POLL_SECONDS)
    return shown


def _events(behind: timedelta) -> Iterator[dict[str, Any]]:
    """Yield events without an end, each as it happens."""
    chance = random.Random()
    jobs: list[dict[str, Any]] = []
    for number in count():
        name = f"shop.mail.task_{number % 5 * 5:03}"
        jobs.append({"externalId": str(UUID(int=chance.getrandbits(128))), "name": name, "queue": "queue-00"})
        for state, lag in zip(STATES, _LAGS, strict=True):
            if lag <= number:
                yield _event(jobs[number - lag], state, datetime.now(timezone.utc) - behind)


def _event(job: dict[str, Any], state: str, now: datetime) -> dict[str, Any]:
    """Note in the job that it enters `state`, and return the event."""
    text = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1_000:03}Z"
    job |= {"state": state, {"queued": "createdAt", "active": "startedAt", "completed": "completedAt"}[state]: text}
    if state != "queued":
        job["workerId"] = "celery@worker-07"
    common = {"type": "job_state_change", "framework": "celery", "connectionId": _CONNECTION}
    return {**common, "timestamp": text, "job": dict(job)}
