"""The client of any destination: what it makes of a page, a refusal and a lost connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sluice_agent.transport.delivery.client import EndpointClient
from sluice_agent.transport.delivery.destinations import SLUICE
from sluice_agent.transport.delivery.destinations.base import Destination, Request, UnsendableError
from sluice_agent.transport.delivery.responses import Refused, Settled, TryAgain, Unanswered
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import html, reset_before, status
from tests.unit.transport.lines import event

LINES = [event(1), event(2)]


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[EndpointClient]:
    """A client of Sluice."""
    client = client_of(endpoint, SLUICE)
    yield client
    client.close()


def client_of(endpoint: Endpoint, destination: Destination) -> EndpointClient:
    return EndpointClient(destination, f"{endpoint.url}/ingest", "sk_test", lambda: None)


def test_a_page_names_the_variable_with_the_address(endpoint: Endpoint, client: EndpointClient) -> None:
    """A user behind a captive portal would not learn which of his variables is wrong."""
    endpoint.script(html(200))
    reason = "200 with a body that is not a JSON object: check SLUICE_API_URL"
    assert client.send(LINES) == TryAgain(reason, is_foreign=True)


def test_a_refusal_by_a_page_is_the_events_only_if_the_endpoint_is_there(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    """A wrong address would turn the backlog into dead letters; a firewall that dislikes one event would hold it up."""
    endpoint.script(html(400), html(400))
    reason = "400 with a body that is not a JSON object: check SLUICE_API_URL"
    assert client.send(LINES) == TryAgain(reason, until_corrected=True, is_foreign=True)
    endpoint.script(html(400))
    verdict = client.send(LINES)
    assert isinstance(verdict, Refused)
    assert verdict.answer.startswith("400 <html>")


def test_a_destination_that_confirms_no_refusal_is_asked_once(endpoint: Endpoint) -> None:
    """Where each event counts against a limit, a second request for each page would use it up."""
    endpoint.script(html(400))
    client = client_of(endpoint, replace(SLUICE, confirms_refusals=False))
    assert isinstance(client.send(LINES), TryAgain)
    assert len(endpoint.requests) == 1
    client.close()


@pytest.mark.parametrize(("deduplicates", "expected"), [(True, TryAgain), (False, Unanswered)])
def test_a_lost_connection_is_no_answer_where_duplicates_stay(
    endpoint: Endpoint, deduplicates: bool, expected: type
) -> None:
    """The batch would be stored once more with each attempt, or, the other way round, not be sent again."""
    endpoint.script(reset_before)
    client = client_of(endpoint, replace(SLUICE, deduplicates=deduplicates))
    assert isinstance(client.send(LINES), expected)
    client.close()


def test_what_cannot_be_encoded_is_refused_without_a_request(endpoint: Endpoint) -> None:
    """One event that a format can't hold would be tried for ever, before everything else."""

    def refuse(_: list[bytes]) -> Request:
        raise UnsendableError("no such field")

    client = client_of(endpoint, replace(SLUICE, encode=refuse))
    assert client.send(LINES) == Refused("not sent: no such field")
    assert endpoint.requests == []


def test_the_answer_comes_with_the_refusal(endpoint: Endpoint, client: EndpointClient) -> None:
    """A dead letter would hold the answer to another request."""
    endpoint.script(status(422, body='{"error": "no"}'))
    assert client.send(LINES) == Refused('422 {"error": "no"}')
    assert client.send(LINES) == Settled(2, 0, 0)


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("127.0.0.1", "Nothing listens on 127.0.0.1:{port} of this machine or container: start `sluice-agent serve`"),
        ("localhost", "Nothing listens on localhost:{port} of this machine or container"),
        ("unknown.invalid", ""),
    ],
)
def test_nothing_that_listens_here_has_a_remedy(host: str, remedy: str) -> None:
    """The most frequent mistake of a first hour, a server that was not started, reads like a fault of the network."""
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        client = EndpointClient(SLUICE, f"http://{host}:{port}/api/ingest", "sk_test", lambda: None)
        verdict = client.send(LINES)
    assert isinstance(verdict, TryAgain)
    assert verdict.remedy.startswith(remedy.format(port=port))
    assert bool(verdict.remedy) == bool(remedy)


def test_a_refused_key_has_a_remedy(endpoint: Endpoint, client: EndpointClient) -> None:
    """A user would not learn which variable to correct."""
    endpoint.script(status(401))
    verdict = client.send(LINES)
    assert isinstance(verdict, TryAgain)
    assert verdict.remedy == "It refuses SLUICE_API_KEY: `sluice-agent doctor` checks it"
