"""When an alert fires, repeats and is resolved."""

from __future__ import annotations

import pytest

from sluice_agent.server.alerts.rules import Depth
from sluice_agent.server.alerts.state import AlertState, advanced
from tests.unit.server.alerts.conftest import rule

START = 1_000_000_000_000


def notices(readings: dict[float, bool | None], **fields: int | None) -> dict[float, str]:
    """Return what is sent, by the seconds of the readings."""
    state, sent = AlertState(), {}
    for seconds, is_above in readings.items():
        state, notice = advanced(state, is_above, rule(Depth("q", 1), **fields), START + round(seconds * 1_000_000))
        if notice is not None:
            sent[seconds] = notice.value.removeprefix("alert.")
    return sent


def steadily(is_above: bool | None, start: int, stop: int) -> dict[float, bool | None]:
    return dict.fromkeys(range(start, stop, 15), is_above)


def test_it_fires_once_and_is_resolved_once() -> None:
    """Who is on call would be paged each fifteen seconds."""
    readings = {**steadily(False, 0, 60), **steadily(True, 60, 600), **steadily(False, 600, 900)}
    assert notices(readings) == {60: "firing", 600: "resolved"}


def test_the_condition_must_hold_for_a_time() -> None:
    """A peak of a second would page, or a queue that is full for ever would not."""
    assert notices({0: True, 15: True, 59.999: True}, holds_for=60) == {}
    assert notices({0: True, 15: True, 60: True}, holds_for=60) == {60: "firing"}
    assert notices({0: True, 30: False, 45: True, 90: True, 105: True}, holds_for=60) == {105: "firing"}


def test_a_condition_that_comes_and_goes_is_one_alert() -> None:
    """A value at its limit would send a message with each reading."""
    readings = {0: True, 15: False, 30: True, 45: False, 60: False, 104.999: False, 105: False}
    assert notices(readings, resolves_after=60) == {0: "firing", 105: "resolved"}
    assert notices({0: True, 15: False, 60: True, 75: False, 120: True}, resolves_after=60) == {0: "firing"}


def test_it_is_repeated_while_it_fires() -> None:
    """An alert that was overlooked would never be seen again."""
    readings = steadily(True, 0, 700)
    assert notices(readings, repeat=300) == {0: "firing", 300: "repeated", 600: "repeated"}
    assert notices(readings) == {0: "firing"}
    assert notices({0: True, 15: False, 300: False}, repeat=300, resolves_after=400) == {0: "firing"}


def test_what_is_not_known_changes_nothing() -> None:
    """A broken sampler would resolve the alert that it is about, or page for nothing."""
    assert notices({0: True, **steadily(None, 15, 900)}) == {0: "firing"}
    assert notices(steadily(None, 0, 900)) == {}
    assert notices({0: True, 15: None, 30: True, 60: True}, holds_for=60) == {60: "firing"}


@pytest.mark.parametrize(("gap", "sent"), [(120, {120: "firing"}), (121, {})])
def test_a_time_without_readings_does_not_count(gap: float, sent: dict[float, str]) -> None:
    """A server that was stopped for an hour would page, although the condition may have held for a second."""
    assert notices({0: True, gap: True}, holds_for=60) == sent
    assert notices({0: True, 15: False, gap + 15: False}, resolves_after=60) == (
        {0: "firing", **({gap + 15: "resolved"} if sent else {})}
    )


def test_it_goes_on_firing_over_a_restart() -> None:
    """Each deployment of the server would page again for what is known."""
    assert notices({0: True, 3_600: True, 3_615: False}) == {0: "firing", 3_615: "resolved"}
