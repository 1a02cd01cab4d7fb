"""Limits of the requests that an address sends to ``/v1``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.jobs.routes.request_limits import RequestCounts, Wait, kinds_of, request_limits_of
from sluice_agent.server.access.principal import Role
from tests.support.local_sluice import LocalSluice, local_sluice

LIMITS = "create=2, batch=1,trigger=2,bulk=1,all=6"


@dataclass
class Seconds:
    """A clock that only a test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


CLOCK = Seconds()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server with limits, of another clock than the machine's."""
    database = tmp_path_factory.mktemp("server") / "s.db"
    with local_sluice(database, has_jobs=True, request_limits=request_limits_of(LIMITS), clock=CLOCK) as server:
        yield server


@pytest.fixture
def client(server: LocalSluice) -> httpx.Client:
    """An operator behind a proxy of this machine, after all earlier requests were forgotten."""
    CLOCK.now += 60
    accounts = server.access.accounts
    key = accounts.create_key(accounts.open_connection("shop")[0], Role.OPERATOR)
    return server.client({"Authorization": f"Bearer {key.secret}", "X-Forwarded-For": "198.51.100.7"}, "/v1")


def job(slug: str) -> dict[str, str]:
    return {"project_id": "shop", "name": "Mail", "slug": slug, "endpoint_url": "https://example.com/hook"}


def test_a_request_beyond_a_limit_is_taken_after_its_retry_after(client: httpx.Client) -> None:
    """One client would take the server from all others; or obey Retry-After and be refused again."""
    assert client.post("/jobs", json=job("a")).status_code == 201
    CLOCK.now += 20.5
    assert client.post("/jobs", json=job("b")).status_code == 201
    for _ in range(3):  # those that are refused do not count
        refusal = client.post("/jobs", json=job("c"), headers={"X-Request-Id": "mine"})
        error = {
            "code": "rate_limited",
            "message": "The limit of requests a minute from your address is used up: create=2.",
        }
        assert (refusal.status_code, refusal.json()) == (429, {"error": error, "request_id": "mine"})
        assert (refusal.headers["Retry-After"], refusal.headers["X-API-Version"]) == ("40", "v1")
    assert client.get("/jobs").status_code == 200, "reading has a limit of its own"
    CLOCK.now += 39
    assert client.post("/jobs", json=job("c")).headers["Retry-After"] == "1"
    CLOCK.now += 1
    assert client.post("/jobs", json=job("c")).status_code == 201
    assert client.post("/jobs", json=job("d")).headers["Retry-After"] == "20"


def test_each_kind_has_its_limit_and_all_of_them_another(client: httpx.Client) -> None:
    """Triggers in bulk would pass as single ones, or a client exceed the whole by a mixture."""
    made = client.post("/jobs", json=job("kinds")).json()
    path = f"/jobs/{made['id']}/trigger"
    statuses = [client.post(path, json={}).status_code for _ in range(3)]
    assert statuses == [201, 201, 429]
    bulk = [client.post(f"{path}/bulk", json={"items": [{}]}).status_code for _ in range(2)]
    assert bulk == [201, 429]
    batch = [client.post("/jobs/batch-disable", json={"ids": []}).status_code for _ in range(2)]
    assert batch == [400, 429]
    assert [client.get("/jobs").status_code for _ in range(2)] == [200, 429]
    assert client.get("/jobs").json()["error"]["message"].endswith("from your address is used up: all=6.")
    assert client.post(path, json={}).headers["Retry-After"] == "60"


def test_addresses_behind_a_proxy_do_not_share_a_limit(client: httpx.Client) -> None:
    """The first client of a proxy would lock out all others; or one evade its limit by its next IPv6 address."""

    def statuses(address: str, count: int) -> list[int]:
        return [client.get("/jobs", headers={"X-Forwarded-For": address}).status_code for _ in range(count)]

    assert statuses("198.51.100.8", 7) == [*[200] * 6, 429]
    assert statuses("1.1.1.1, 198.51.100.8", 1) == [429], "the header's first address is what a client likes"
    assert statuses("198.51.100.9", 1) == [200]
    assert [statuses(f"2001:db8::{number}", 1)[0] for number in range(1, 8)] == [*[200] * 6, 429]
    assert statuses("2001:db8:0:1::1", 1) == [200]


def test_who_has_no_key_is_limited_too(client: httpx.Client, server: LocalSluice) -> None:
    """Keys could be tried out without end."""
    thief = server.client({"Authorization": "Bearer sk_guess", "X-Forwarded-For": "198.51.100.66"}, "/v1")
    assert [thief.get("/jobs").status_code for _ in range(7)] == [*[401] * 6, 429]
    assert client.get("/jobs").status_code == 200


def test_workers_endpoints_and_events_have_no_such_limit(client: httpx.Client, server: LocalSluice) -> None:
    """Runs would be lost, as a machine with many workers has one address."""
    assert client.get("/jobs").status_code == 200
    local = server.client(path="")
    for _ in range(10):
        assert local.post("/api/internal/runs/x/start", json={}).status_code == 400
        assert local.post("/sdk/v1/runs/x/heartbeat", json={}).status_code == 401
        assert local.get("/api/health").status_code == 200
        assert local.get("/api/jobs").status_code == 200


def test_a_server_without_the_option_has_no_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An installation that is updated would refuse what it has taken."""
    with local_sluice(tmp_path_factory.mktemp("free") / "s.db", has_jobs=True) as server:
        client = server.client(path="/v1")
        assert {client.get("/jobs", params={"project_id": "p"}).status_code for _ in range(110)} == {200}


def test_any_minute_has_no_more_than_the_limit_and_each_wait_is_true() -> None:
    """A limit that begins again with each minute of the clock lets twice as many through."""
    chance, clock = random.Random(3), Seconds(0.0)
    counts = RequestCounts({"all": 5, "trigger": 3}, clock)
    admitted: list[float] = []
    for _ in range(2000):
        clock.now += chance.choice((0.0, 0.25, 1.0, 20.0))
        wait = counts.admit("a", ("trigger", "all"))
        if wait is None:
            admitted.append(clock.now)
            continue
        assert 0 < wait.seconds <= 60
        clock.now += wait.seconds - 0.125
        assert counts.admit("a", ("trigger", "all")) is not None
        clock.now += 0.125
        assert counts.admit("a", ("trigger", "all")) is None
        admitted.append(clock.now)
    assert all(sum(start <= at < start + 60 for at in admitted) <= 3 for start in admitted)


def test_clients_are_forgotten_after_a_minute_and_there_are_never_too_many() -> None:
    """Whoever has many addresses could fill the server's memory."""
    clock = Seconds()
    counts = RequestCounts({"all": 1}, clock, most_clients=100)
    for number in range(1000):
        clock.now += 0.01
        assert counts.admit(f"{number}", ("all",)) is None
    assert len(counts) == 100
    assert counts.admit("999", ("all",)) == Wait("all", 60.0)
    clock.now += 60
    assert counts.admit("one", ("all",)) is None
    assert len(counts) == 1


def test_a_client_that_goes_on_neither_loses_its_count_nor_keeps_others_in_memory() -> None:
    """The busiest client would be free of its limit; or all others be remembered as long as it sends."""
    clock = Seconds()
    counts = RequestCounts({"all": 3}, clock, most_clients=3)
    for name in ("busy", "a", "busy", "b", "busy", "c"):
        clock.now += 15
        assert counts.admit(name, ("all",)) is None
    assert counts.admit("busy", ("all",)) is None, "its first request is a minute ago"
    assert counts.admit("busy", ("all",)) == Wait("all", 15.0)
    clock.now += 45.5
    assert counts.admit("busy", ("all",)) is None
    assert len(counts) == 2


@pytest.mark.parametrize(
    "text",
    ["trigger", "trigger=0", "trigger=-1", "trigger=1.5", "trigger=1000000", "replay=1", "all=1,all=2", "all=1,"],
)
def test_limits_that_are_wrong_are_explained(text: str) -> None:
    """The server would start without the limit that its owner relies on."""
    with pytest.raises(ConfigError, match="create, batch, trigger, bulk, all at most once, such as trigger=10,all=100"):
        request_limits_of(text)


def test_no_limits_are_none() -> None:
    """A variable that is set to nothing would stop the server."""
    assert [request_limits_of(text) for text in (None, "", " ")] == [{}, {}, {}]


def test_the_routes_have_the_kinds_and_describe_the_refusal(server: LocalSluice) -> None:
    """A path that is renamed would lose its limit; or clients made of the description fail at the answer."""
    paths = server.client(path="/v1").get("/openapi.json").json()["paths"]
    found = {kind for path in paths for kind in kinds_of({"method": "POST", "path": path.removeprefix("/v1")})}
    assert found == {"create", "batch", "trigger", "bulk", "all"}
    assert all("429" in described["responses"] for path in paths.values() for described in path.values())
