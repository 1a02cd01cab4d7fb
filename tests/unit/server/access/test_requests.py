"""Who may do what, on the wire: keys, sessions, addresses, and the answers to those who may not."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, Request

from sluice_agent.commands.key import create
from sluice_agent.errors import ConfigError
from sluice_agent.server.access.accounts import MOST_CONNECTIONS, NewKey
from sluice_agent.server.access.principal import COOKIE, Principal, Role, require_operator, require_viewer
from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.app import create_app
from sluice_agent.server.stream.limits import StreamLimits
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, job_event

PROXIED = {"X-Forwarded-For": "192.0.2.1"}
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
OTHER = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server on loopback, without options, with a route that acts and one that reads."""
    with local_sluice(tmp_path_factory.mktemp("server") / "sluice.db") as server:

        @server.app.get("/test/read")
        def read(principal: Annotated[Principal, Depends(require_viewer)]) -> dict[str, Any]:
            return _shown(principal)

        @server.app.post("/test/act")
        async def act(request: Request, principal: Annotated[Principal, Depends(require_operator)]) -> dict[str, Any]:
            return {**_shown(principal), "bytes": len(await request.body())}

        yield server


def _shown(principal: Principal) -> dict[str, Any]:
    numbers = None if principal.connections is None else sorted(principal.connections)
    return {"who": principal.who, "connections": numbers, "may_act": principal.may_act, "key": principal.is_made_key}


@pytest.fixture(scope="module")
def key_of(server: LocalSluice) -> Callable[[Role], NewKey]:
    """`key_of(role)` is a key of the connection ``shop``."""
    shop, _ = server.access.accounts.open_connection("shop")
    keys = {role: server.access.accounts.create_key(shop, role) for role in Role}
    return keys.__getitem__


def bearer(key: NewKey | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.secret}"}


@pytest.fixture
def send(server: LocalSluice) -> Callable[..., httpx.Response]:
    """`send(method, path, headers)` sends a request with exactly these headers of access."""
    client = server.client({}, path="")

    def send(method: str, path: str, headers: Mapping[str, str], **more: Any) -> httpx.Response:
        return client.request(method, path, headers=headers, **more)

    return send


@pytest.fixture
def cookie(server: LocalSluice, role: Role = Role.OPERATOR) -> dict[str, str]:
    """The header of a browser that has signed in as operator."""
    return signed_in(server, role)


def signed_in(server: LocalSluice, role: Role) -> dict[str, str]:
    session = server.access.sessions.sign_in(server.access.sessions.create_token(role))
    assert session is not None
    return {"Cookie": f"{COOKIE}={session[1]}"}


def refused(response: httpx.Response, status: int, help_text: str) -> str:
    """Check that `response` refuses, and that it says what to do; return its message."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert help_text in error["message"]
    for options in re.findall(r"sluice-agent key create((?: --\S+ \w+)*)", error["message"]):
        create.make_context("create", options.split())  # fails if the command is not whole
    assert error["docs_url"].startswith("https://docs.sluice.sh/troubleshooting/")
    assert ("www-authenticate" in response.headers) is (status == 401)
    return str(error["message"])


Send = Callable[..., httpx.Response]
KeyOf = Callable[[Role], NewKey]


def test_on_loopback_reading_needs_no_key(send: Send, key_of: KeyOf) -> None:
    """The first look at the project would otherwise need a set-up."""
    for headers in ({}, bearer("sk_anything"), bearer(key_of(Role.INGEST)), {"Cookie": f"{COOKIE}=old"}):
        answer = send("GET", "/test/read", headers)
        assert answer.json() == {"who": "loopback", "connections": None, "may_act": False, "key": False}


def test_a_key_reads_its_own_connection(send: Send, key_of: KeyOf) -> None:
    """A team could otherwise read the jobs of another."""
    key = key_of(Role.VIEWER)
    for headers in (bearer(key), {**bearer(key), **PROXIED}):
        answer = send("GET", "/test/read", headers).json()
        assert answer == {"who": f"key {key.id}", "connections": [key.connection.number], "may_act": False, "key": True}


def test_acting_needs_a_session_or_a_key_also_on_loopback(send: Send, key_of: KeyOf, cookie: dict[str, str]) -> None:
    """Any program on the machine could otherwise run tasks."""
    refused(send("POST", "/test/act", {}), 401, "sluice-agent key create --connection NAME --role operator")
    refused(send("POST", "/test/act", bearer("sk_anything")), 401, "sign-in link")
    refused(send("POST", "/test/act", bearer(key_of(Role.INGEST))), 401, "role operator")
    refused(send("POST", "/test/act", bearer(key_of(Role.VIEWER))), 403, "role operator")
    assert send("POST", "/test/act", bearer(key_of(Role.OPERATOR))).json()["may_act"]
    assert send("POST", "/test/act", {**cookie, **SAME_ORIGIN}).json()["who"].startswith("session ")


def test_an_ingest_key_neither_reads_nor_acts_where_others_reach_the_server(send: Send, key_of: KeyOf) -> None:
    """The key lies in the environment of every worker: it must not open their records, and never run a task."""
    headers = {**bearer(key_of(Role.INGEST)), **PROXIED}
    refused(send("GET", "/test/read", headers), 403, "--role viewer")
    refused(send("POST", "/test/act", headers), 403, "--role operator")


def test_a_viewer_reads_and_never_acts(server: LocalSluice, send: Send) -> None:
    """A dashboard on a wall would otherwise retry jobs for whoever touches it."""
    headers = {**signed_in(server, Role.VIEWER), **SAME_ORIGIN, **PROXIED}
    assert send("GET", "/test/read", headers).json()["connections"] is None
    refused(send("POST", "/test/act", headers), 403, "role operator")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via"])
def test_behind_a_proxy_reading_needs_a_key_or_a_session(send: Send, cookie: dict[str, str], header: str) -> None:
    """A proxy on the same machine would otherwise publish every job."""
    proxied = {header: "x"}
    message = refused(send("GET", "/test/read", proxied), 401, "sign-in link")
    assert "key create --connection NAME --role viewer" in message
    refused(send("GET", "/api/jobs", proxied), 401, "sign-in link")
    refused(send("GET", "/test/read", {**proxied, **bearer("sk_anything")}), 401, "--role viewer")
    assert send("GET", "/test/read", {**proxied, **cookie}).status_code == 200
    assert send("GET", "/api/health", proxied).status_code == 200


@pytest.mark.parametrize("site", [None, "cross-site", "same-site", "none", ""])
def test_a_page_elsewhere_can_not_act_with_the_browsers_session(
    send: Send, cookie: dict[str, str], site: str | None
) -> None:
    """A link in a mail could otherwise retry jobs with the session of the one who clicks."""
    headers = cookie if site is None else {**cookie, "Sec-Fetch-Site": site}
    refused(send("POST", "/test/act", headers), 403, "same-origin")
    assert send("GET", "/test/read", headers).status_code == 200


def test_over_plain_http_the_origin_shows_that_a_page_of_the_server_acts(
    server: LocalSluice, send: Send, cookie: dict[str, str]
) -> None:
    """On a server in a local network no button would work: browsers send it no Sec-Fetch-Site."""
    host = server.url.removeprefix("http://")
    own = {**cookie, "Origin": server.url}
    assert send("POST", "/test/act", own).status_code == 200
    proxied = {**cookie, "X-Forwarded-Proto": "https"}
    assert send("POST", "/test/act", {**proxied, "Origin": f"https://{host}"}).status_code == 200
    refused(send("POST", "/test/act", {**proxied, "Origin": server.url}), 403, "Origin")
    for origin in ("null", "http://127.0.0.1", "http://shop.example", f"https://{host}", f"{server.url}.shop.example"):
        refused(send("POST", "/test/act", {**cookie, "Origin": origin}), 403, "Origin")
    refused(send("POST", "/test/act", {**own, "Sec-Fetch-Site": "cross-site"}), 403, "Origin")


def test_a_revoked_key_is_refused_everywhere(server: LocalSluice, send: Send) -> None:
    """A key that has leaked would otherwise still work on loopback, where others need no key."""
    accounts = server.access.accounts
    key = accounts.create_key(accounts.open_connection("old")[0], Role.INGEST)
    event = job_event("active", 0) | {"connectionId": key.connection.id}
    assert send("POST", "/api/ingest", bearer(key), json={"events": [event]}).status_code == 200
    accounts.revoke_key(key.id)
    for method, path in (("POST", "/api/ingest"), ("GET", "/test/read"), ("POST", "/test/act")):
        refused(send(method, path, bearer(key), json={"events": [event]}), 401, "was revoked")
    refused(send("POST", "/api/ingest", bearer("sk_any"), json={"events": [event]}), 401, "its own keys only")


def test_a_key_that_is_revoked_while_a_body_arrives_sends_no_events(server: LocalSluice, send: Send) -> None:
    """Whoever has a leaked key could open requests in advance, and send forged events after its revocation."""
    accounts = server.access.accounts
    key = accounts.create_key(accounts.open_connection("leaked")[0], Role.INGEST)
    event = job_event("active", 0, externalId="forged") | {"connectionId": key.connection.id}

    def body() -> Iterator[bytes]:
        yield b'{"events": ['
        wait_until(lambda: accounts.key_with_id(key.id).last_used_at is not None, 10, "the key is not checked")
        accounts.revoke_key(key.id)
        yield json.dumps(event).encode() + b"]}"

    headers = {**bearer(key), "Content-Type": "application/json"}
    refused(send("POST", "/api/ingest", headers, content=body()), 401, "was revoked")
    assert send("GET", "/api/jobs", {}, params={"search": "forged"}).json()["data"] == []


def test_a_connection_with_keys_takes_no_others(send: Send, key_of: KeyOf) -> None:
    """Forged events of a connection could otherwise be retried: an ingest key must never run a task."""
    key = key_of(Role.INGEST)
    own = job_event("active", 0, externalId="own") | {"connectionId": key.connection.id}
    foreign = job_event("active", 0)
    refused(send("POST", "/api/ingest", bearer("sk_any"), json={"events": [foreign, own]}), 401, "its own keys only")
    assert send("POST", "/api/ingest", bearer("sk_any"), json={"events": [foreign]}).json()["accepted"] == 1
    refused(send("POST", "/api/ingest", bearer(key), json={"events": [own, foreign]}), 401, key.connection.id)
    assert send("POST", "/api/ingest", bearer(key), json={"events": [own]}).json()["accepted"] == 1


def test_events_make_a_bounded_number_of_connections(tmp_path: Path) -> None:
    """Lists read all connections: a script with a random id for each run would in time bring them to a 500."""
    with local_sluice(tmp_path / "s.db") as server:
        client = server.client()

        def post(numbers: range) -> httpx.Response:
            ids = [f"{number:08x}-0000-4000-8000-000000000000" for number in numbers]
            return client.post(
                "/ingest", json={"events": [job_event("active", 0) | {"connectionId": id_} for id_ in ids]}
            )

        assert post(range(MOST_CONNECTIONS)).json()["accepted"] == MOST_CONNECTIONS
        refused(post(range(MOST_CONNECTIONS, MOST_CONNECTIONS + 1)), 403, "key create")
        refused(post(range(MOST_CONNECTIONS + 1)), 403, "key create")
        assert post(range(5)).json()["skipped"] == 5
        assert client.get("/jobs", params={"sortBy": "name"}).status_code == 200


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_ingest_keys_send_events(send: Send, key_of: KeyOf, role: Role) -> None:
    """A key that reads could otherwise forge what it reads."""
    refused(send("POST", "/api/ingest", bearer(key_of(role)), json={"events": []}), 403, "--role ingest")


def test_behind_a_proxy_only_made_keys_send_events(send: Send, key_of: KeyOf) -> None:
    """Everyone on the internet could otherwise fill the database."""
    headers = {**bearer("sk_any"), **PROXIED}
    refused(send("POST", "/api/ingest", headers, json={"events": [job_event("active", 9)]}), 401, "key create")
    headers = {**bearer(key_of(Role.INGEST)), **PROXIED}
    assert send("POST", "/api/ingest", headers, json={"events": []}).status_code == 200


def test_the_agent_of_the_vendor_without_a_connection_is_told_what_to_set(send: Send) -> None:
    """Its default is no UUID: every event would otherwise be rejected, and nobody would know why."""
    event = job_event("active", 0) | {"connectionId": "default"}
    response = send("POST", "/api/ingest", bearer("sk_any"), json={"events": [event]})
    refused(response, 400, "SLUICE_CONNECTION_ID")
    assert response.json()["error"]["details"] == {"connectionId": "must be a UUID"}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1"])
def test_another_name_is_refused(send: Send, host: str) -> None:
    """A page elsewhere that rebinds its name to this address could otherwise read every job."""
    for path in ("/api/jobs", "/api/health", "/login", "/nothing"):
        refused(send("GET", path, {"Host": host}), 421, "--allow-host")


def test_security_headers_are_on_every_answer(send: Send) -> None:
    """A page that is framed or guessed to be a script could otherwise act for its user."""
    answers = [
        send("GET", "/api/jobs", {}),
        send("GET", "/nothing", {}),
        send("POST", "/test/act", {}),
        send("GET", "/api/jobs", {"Host": "evil.example"}),
        send("GET", "/login", {}),
        send("PUT", "/api/ingest", {}),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_head_is_answered_where_get_is(send: Send) -> None:
    """A load balancer that checks by HEAD would otherwise take the server out."""
    for path in ("/api/health", "/api/jobs", "/nothing"):
        get, head = send("GET", path, {}), send("HEAD", path, {})
        assert head.status_code == get.status_code
        assert head.content == b""
    assert send("HEAD", "/api/ingest", {}).status_code == 405


def test_head_of_a_stream_ends(send: Send, key_of: KeyOf) -> None:
    """A stream never ends by itself: a check by HEAD would otherwise hold a connection for ever."""
    path = f"/api/events/stream?connectionId={key_of(Role.INGEST).connection.id}"
    for _ in range(3):  # on one connection
        head = send("HEAD", path, {})
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"].startswith("text/event-stream")
        assert send("GET", "/api/health", {}).status_code == 200


def test_a_stream_ends_when_its_key_is_revoked(tmp_path: Path) -> None:
    """Who has a leaked key could otherwise read on for months."""
    with local_sluice(tmp_path / "s.db", stream_limits=StreamLimits(access=0.05)) as server:
        accounts = server.access.accounts
        key = accounts.create_key(accounts.open_connection("shop")[0], Role.VIEWER)
        client = server.client(bearer(key))
        with client.stream("GET", "/events/stream", params={"connectionId": key.connection.id}) as stream:
            chunks = stream.iter_bytes()
            assert next(chunks)
            accounts.revoke_key(key.id)
            assert list(chunks) == []
        refused(client.get("/events/stream", params={"connectionId": key.connection.id}), 401, "was revoked")


def test_bodies_are_bounded_on_every_route(send: Send, key_of: KeyOf) -> None:
    """One request could otherwise fill the memory of the server."""
    key = bearer(key_of(Role.OPERATOR))
    assert send("POST", "/test/act", key, content=b"x" * 5_000_000).json()["bytes"] == 5_000_000
    refused(send("POST", "/test/act", key, content=b"x" * 5_000_001), 413, "larger than 5000000 bytes")


def test_bodies_of_all_requests_are_bounded(tmp_path: Path) -> None:
    """Slow clients could otherwise fill the memory together, each with a body that is allowed."""
    with local_sluice(tmp_path / "s.db", bodies_limit=1_500_000) as server:
        client = server.client()

        def is_refused() -> bool:
            """Send a body beside two slow ones. If it arrives before them, one of those is refused in its place."""
            slow = [begin_body(server, 1_000_000, 700_000) for _ in range(2)]
            answer = client.post("/ingest", content=b"x" * 500_000)
            for connection in slow:
                connection.close()
            return (answer.status_code, answer.headers.get("retry-after")) == (503, "1")

        wait_until(is_refused)
        wait_until(lambda: client.post("/ingest", content=b"x" * 500_000).status_code == 400)


def begin_body(server: LocalSluice, length: int, sent: int) -> socket.socket:
    """Begin to send a batch of `length` bytes."""
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    head = "POST /api/ingest HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk_test"
    connection.sendall(f"{head}\r\nContent-Length: {length}\r\n\r\n".encode() + b"x" * sent)
    return connection


def test_a_program_that_checks_links_does_not_use_one_up(server: LocalSluice) -> None:
    """Chats and mail servers look at links by HEAD: the user would find that his link was used."""
    link = {"token": server.access.sessions.create_token(Role.OPERATOR)}
    browser = server.client({}, path="")
    assert "set-cookie" not in browser.head("/login", params=link).headers
    assert "Signed in as operator" in browser.get("/login", params=link).text


def test_a_link_signs_a_browser_in_once(server: LocalSluice) -> None:
    """Who finds the link in a log or a history could otherwise use it."""
    token = server.access.sessions.create_token(Role.OPERATOR)
    browser = server.client({}, path="")
    assert "Not signed in" in browser.get("/login").text
    answer = browser.get("/login", params={"token": token})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert token not in answer.text
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "Max-Age=2592000"} <= set(cookie.split("; "))
    assert "samesite=strict" in cookie.lower()
    assert "secure" not in cookie.lower()
    assert "Signed in as operator" in browser.get("/login").text
    assert browser.post("/test/act", headers=SAME_ORIGIN).json()["may_act"]
    again = server.client({}, path="").get("/login", params={"token": token})
    assert again.status_code == 401
    assert "sluice-agent key link" in again.text
    assert "set-cookie" not in again.headers


def test_signing_out_ends_the_session(server: LocalSluice, send: Send) -> None:
    """A cookie that was copied would otherwise remain valid."""
    cookie = signed_in(server, Role.OPERATOR)
    refused(send("POST", "/logout", cookie), 403, "from a page of this server")
    answer = send("POST", "/logout", {**cookie, **SAME_ORIGIN})
    assert "Signed out" in answer.text
    assert f'{COOKIE}=""' in answer.headers["set-cookie"]
    refused(send("POST", "/test/act", {**cookie, **SAME_ORIGIN}), 401, "sign-in link")


def test_the_cookie_is_secure_behind_tls(server: LocalSluice) -> None:
    """A browser would otherwise send it over an unencrypted connection too."""
    token = server.access.sessions.create_token(Role.VIEWER)
    answer = server.client({"X-Forwarded-Proto": "https"}, path="").get("/login", params={"token": token})
    assert "; Secure" in answer.headers["set-cookie"]


def test_an_expired_session_is_refused(tmp_path: Path) -> None:
    """A browser that was given away would otherwise act for ever."""
    now = [datetime(2026, 2, 27, tzinfo=timezone.utc)]
    with local_sluice(tmp_path / "s.db", now=lambda: now[0]) as server:
        client = server.client({**signed_in(server, Role.VIEWER), **PROXIED})
        assert client.get("/jobs").status_code == 200
        now[0] += timedelta(days=30)
        refused(client.get("/jobs"), 401, "sign-in link")


def test_the_one_key_of_a_server(tmp_path: Path) -> None:
    """A user who sets --api-key expects that no other key is accepted."""
    with local_sluice(tmp_path / "s.db", options=AccessOptions(api_key="sk_right")) as server:
        client = server.client({})
        refused(client.post("/ingest", json={"events": []}, headers=bearer("sk_wrong")), 401, "unknown")
        not_ascii = httpx.Headers([(b"authorization", b"Bearer sk_\xff")])
        refused(client.post("/ingest", json={"events": []}, headers=not_ascii), 401, "unknown")
        assert client.post("/ingest", json={"events": []}, headers=bearer("sk_right")).status_code == 200


def test_a_named_connection_takes_made_keys_only(tmp_path: Path) -> None:
    """With --connection a team expects that only its agents can write, also on the server's own machine."""
    database = tmp_path / "s.db"
    with local_sluice(database, options=AccessOptions(connection="shop")) as server:
        key = server.access.new_key
        assert key is not None
        client = server.client(bearer(key))
        event = job_event("active", 0) | {"connectionId": key.connection.id}
        assert client.post("/ingest", json={"events": [event]}).json()["accepted"] == 1
        other = {"events": [job_event("active", 0) | {"connectionId": OTHER}]}
        refused(client.post("/ingest", json=other, headers=bearer("sk_any")), 401, "key create")
    with local_sluice(database, options=AccessOptions(connection="shop")) as server:
        assert server.access.connection == key.connection
        assert server.access.new_key is None
        assert server.client(bearer(key)).post("/ingest", json={"events": [event]}).json()["skipped"] == 1


def test_a_deployment_decides_on_id_and_key(tmp_path: Path) -> None:
    """Agents and server of a compose file are configured together, before either has started."""
    options = AccessOptions("0.0.0.0", connection=CONNECTION, api_key="sk_from_a_secret")
    for _ in range(2):  # a restart changes nothing
        with local_sluice(tmp_path / "s.db", options=options) as server:
            assert server.access.new_key is None
            answer = server.client(bearer("sk_from_a_secret")).post(
                "/ingest", json={"events": [job_event("active", 0)]}
            )
            assert answer.status_code == 200, answer.text
            refused(server.client({}).get("/jobs"), 401, "sign-in link")
    other = AccessOptions(connection="other", api_key="sk_from_a_secret")
    with pytest.raises(ConfigError, match="of another connection or role"):
        create_app(tmp_path / "s.db", options=other)
    with pytest.raises(ConfigError, match="--api-key needs --connection"):
        create_app(tmp_path / "t.db", options=AccessOptions("0.0.0.0", api_key="sk_right"))


def test_a_used_up_limit_asks_to_come_back_after_midnight(tmp_path: Path) -> None:
    """A client would otherwise drop events, or ask all night; each connection has a limit of its own."""
    now = [datetime(2026, 2, 27, 23, 59, 30, tzinfo=timezone.utc)]
    with local_sluice(tmp_path / "s.db", daily_limit=3, now=lambda: now[0]) as server:
        client = server.client()
        batch = {"events": [job_event("active", second) for second in range(5)]}
        crossing = client.post("/ingest", json=batch)
        assert crossing.status_code == 200
        assert (crossing.json()["accepted"], crossing.json()["truncated"]) == (3, 2)
        assert crossing.json()["usage"] == {"day": "2026-02-27", "events": 3, "limit": 3}
        refusal = client.post("/ingest", json=batch)
        refused(refusal, 429, "limit of 3 events a day")
        assert refusal.headers["retry-after"] == "31"
        other = {"events": [job_event("active", 0) | {"connectionId": OTHER}]}
        assert client.post("/ingest", json=other).json()["accepted"] == 1
        now[0] += timedelta(seconds=31)
        assert client.post("/ingest", json=batch).json()["accepted"] == 2
