"""The webhooks of runs while the server is killed, to receivers that fail in each way that there is."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import httpx
import pytest

from sluice_agent.jobs.engine.options import EngineOptions
from tests.faults.conftest import IS_LONG
from tests.support.counting_endpoint import Answer, counting
from tests.support.forked_server import ForkedServer
from tests.support.ingest_server import Exchange
from tests.support.local_sluice import ANY_KEY
from tests.support.stream_client import NO_TLS
from tests.support.waiting import within
from tests.support.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.long

RUNS, KILLS, HANGING = (10_000, 15, 3) if IS_LONG else (100, 2, 0)
"""`HANGING` requests are never answered, of a receiver that answers all others."""

FROZEN = 6  # runs whose receiver never answers
BUSY = 40  # that are answered with 429: of each the receiver asks for a pause
WAYS = ("good", "fails", "busy", "loses", "hangs")
SECRET = "a secret of the jobs"


class Receiver(WebhookReceiver):
    """A receiver whose paths misbehave: at the first attempt of each delivery, but `frozen` at all."""

    def __init__(self) -> None:
        super().__init__()
        self.runs_of: defaultdict[str, set[str]] = defaultdict(set)
        """By webhook-id: the runs."""
        self.taken: Counter[str] = Counter()
        """By run: how often the receiver has taken the webhook."""
        self._attempts: Counter[str] = Counter()
        self._left = {"hangs": HANGING, "busy": BUSY}
        self._counts = Lock()
        self.standing(self._behave)

    def _behave(self, exchange: Exchange) -> bool:
        request = exchange.request
        delivery, run = request.headers["webhook-id"], json.loads(request.raw)["run_id"]
        way = request.path.rpartition("/")[2]
        with self._counts:
            self._attempts[delivery] += 1
            is_first = self._attempts[delivery] == 1
            self.runs_of[delivery].add(run)
            if is_first and way in self._left:
                self._left[way] -= 1
                if self._left[way] < 0:
                    way = "good"
            if way == "hangs" and is_first:
                way = "frozen"
            if way not in ("frozen", "fails", "busy") or (way != "frozen" and not is_first):
                self.taken[run] += 1
        if way == "frozen":
            exchange.wait_for_release()
            exchange.reset()
        elif is_first and way == "loses":
            exchange.reset()
        elif is_first and way in ("fails", "busy"):
            exchange.send(500 if way == "fails" else 429, b"", {} if way == "fails" else {"Retry-After": "2"})
        else:
            exchange.send(200, b"")
        return True


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.release()
    receiver.down()


class Installation:
    """A server that is killed and started again, and its clients."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._starts = 0
        self.server = self._start()

    def kill(self) -> None:
        """Kill the server, and start it again."""
        self.server.kill()
        self.server = self._start()

    def send(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """Send a request, and return the body of its answer."""
        url = f"{self.server.url.removesuffix('/api')}/v1{path}"
        answer = httpx.request(method, url, json=body, params=parameters, headers=ANY_KEY, verify=NO_TLS, timeout=60)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def any(self, path: str, **parameters: Any) -> bool:
        """Return whether a list has items."""
        return bool(self.send("GET", path, project_id="shop", limit=1, **parameters))

    def all(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return all items of a list."""
        items: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = self.send("GET", path, project_id="shop", limit=100, envelope=True, **parameters, **more)
            items += page["data"]
            if not page["has_more"]:
                return items
            more = {"cursor": page["next_cursor"]}

    def _start(self) -> ForkedServer:
        self._starts += 1
        log = self._directory / f"server-{self._starts}"
        options = EngineOptions(slots=20, silence=5.0, grace=5.0)
        return ForkedServer(self._directory / "s.db", log, engine=options)


def test_no_webhook_is_lost_and_each_has_one_id(tmp_path: Path, receiver: Receiver) -> None:
    """Who relies on webhooks would never learn of the end of a run, or take it for two."""

    def answer(run: str, _attempt: int, _path: str) -> Answer:
        return (404 if run[-1] in "0123" else 200), 0.0  # a quarter of the runs fail

    with counting(answer) as endpoint:
        installation = Installation(tmp_path)
        try:
            runs = _trigger(installation, endpoint.url, receiver)
            for _ in range(KILLS):
                time.sleep(random.uniform(0.3, 1.5))
                installation.kill()
            seconds = 1_500 if IS_LONG else 180
            under_way = ("queued", "dequeued", "executing")
            within(
                seconds,
                lambda: not any(installation.any("/runs", status=status) for status in under_way),
                "runs have not ended",
                installation.server.log,
            )
            within(
                seconds,
                lambda: len(installation.all("/webhook-deliveries", state="pending")) == FROZEN,
                "webhooks are not delivered",
                lambda: Counter(row["url"][-5:] for row in installation.all("/webhook-deliveries", state="pending")),
            )
            _check(installation, receiver, runs)
        finally:
            installation.server.kill()


def _trigger(installation: Installation, endpoint: str, receiver: Receiver) -> list[str]:
    """Trigger the runs, and return those whose receivers answer at some time."""
    runs: list[str] = []
    shares = dict.fromkeys(WAYS, RUNS // len(WAYS)) | {"frozen": FROZEN}
    for way, share in sorted(shares.items(), key=lambda item: item[0] != "frozen"):
        job = {"project_id": "shop", "name": way, "slug": way, "endpoint_url": f"{endpoint}/{way}"}
        webhook = {"webhook_url": f"{receiver.hook}/{way}", "webhook_secret": SECRET}
        made = installation.send("POST", "/jobs", {**job, **webhook, "max_attempts": 3})
        for start in range(0, share, 500):
            items = [{"payload": {"number": number}} for number in range(start, min(start + 500, share))]
            results = installation.send("POST", f"/jobs/{made['id']}/trigger/bulk", {"items": items})["results"]
            runs += [] if way == "frozen" else [run["id"] for run in results]
    return runs


def _check(installation: Installation, receiver: Receiver, runs: list[str]) -> None:
    deliveries = installation.all("/webhook-deliveries")
    by_run = {delivery["run_id"]: delivery for delivery in deliveries}
    assert len(by_run) == len(deliveries) == len(runs) + FROZEN, "a run has no webhook, or two"
    assert {row["id"]: row["status"] for row in installation.all("/runs")} == {
        run: delivery["event"].removeprefix("run.") for run, delivery in by_run.items()
    }
    assert set(runs) <= receiver.taken.keys()
    for run in runs:
        assert receiver.runs_of[by_run[run]["id"]] == {run}
    assert sum(map(len, receiver.runs_of.values())) == len(receiver.runs_of), "an id is of two runs"
    assert receiver.runs_of.keys() <= {delivery["id"] for delivery in deliveries}, "a webhook has another id"
    statuses = Counter(delivery["event"] for delivery in by_run.values())
    copies = sum(receiver.taken[run] for run in runs) - len(runs)
    print(f"{len(runs)} runs and webhooks, {KILLS} kills: {dict(statuses)}, {copies} copies")
