"""`sluice-agent doctor --send`: an event goes the way of all others, and its end is shown."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from sluice_agent.commands.marked_event import TASK, send_marked_event
from sluice_agent.doctor.findings import Level
from sluice_agent.settings import Settings
from tests.support import misbehaviour
from tests.support.endpoint import Endpoint
from tests.unit.transport.lines import CONNECTION


def settings(endpoint: Endpoint, tmp_path: Path, **options: object) -> Settings:
    """Return the settings of a host that delivers to `endpoint`."""
    given = {"api_key": "sk_test", "api_url": endpoint.url, "flush_interval": 0.05, "heartbeat_interval": 0}
    return Settings(connection_id=UUID(CONNECTION), state_dir=tmp_path, **{**given, **options})


def test_it_arrives(endpoint: Endpoint, tmp_path: Path) -> None:
    """A user who has set everything would still not know whether the first job will be seen."""
    [finding] = send_marked_event(settings(endpoint, tmp_path))
    assert finding.level is Level.OK
    [event] = endpoint.events
    assert (event["job"]["name"], event["job"]["state"]) == (TASK, "completed")
    assert event["job"]["externalId"] in finding.found


def test_a_refusal_is_shown_with_its_reason(endpoint: Endpoint, tmp_path: Path) -> None:
    """An event that ends as a dead letter has been delivered, as far as the journal knows."""
    endpoint.script(misbehaviour.status(422))
    [finding] = send_marked_event(settings(endpoint, tmp_path))
    assert finding.level is Level.FAULT
    assert "was refused: 422" in finding.found


def test_what_holds_it_up_is_shown(endpoint: Endpoint, tmp_path: Path) -> None:
    """The user would wait, and then not know for what."""
    endpoint.standing(misbehaviour.status(401))
    [finding] = send_marked_event(settings(endpoint, tmp_path), timeout=1)
    assert finding.level is Level.FAULT
    assert "has not arrived within 1 s: 401" in finding.found
    assert "SLUICE_API_KEY" in finding.todo
    endpoint.release()


def test_without_a_shipper_that_is_what_is_missing(endpoint: Endpoint, tmp_path: Path) -> None:
    """With SLUICE_SHIP=never a shipper that was forgotten is the most likely cause."""
    [finding] = send_marked_event(settings(endpoint, tmp_path, ship="never"), timeout=0.2)
    assert "no process ships them" in finding.todo
    assert endpoint.events == []


def test_an_agent_that_is_off_sends_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    """Other checks have reported why."""
    assert list(send_marked_event(settings(endpoint, tmp_path, enabled=False))) == []
