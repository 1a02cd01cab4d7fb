"""What follows an attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sluice_agent.server.timestamps import to_moment
from sluice_agent.server.webhooks.schedule import WAITS, DeliveryState, Outcome, after_attempt
from tests.unit.server.events import TEN

NOW = to_moment(TEN)


def after(
    status: int | None, attempts: int = 1, retry_after: str | None = None, chance: float = 0.0
) -> tuple[str, float]:
    state, due = after_attempt(Outcome(status, retry_after, ""), attempts, NOW, lambda: chance)
    return state.value, (due - NOW) / 1_000_000


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, "delivered"), (204, "delivered"), (299, "delivered"), (410, "gone"), (300, "pending"), (302, "pending"),
     (199, "pending"), (400, "pending"), (401, "pending"), (404, "pending"), (429, "pending"), (500, "pending"),
     (None, "pending")],
)  # fmt: skip
def test_what_ends_a_delivery(status: int | None, state: str) -> None:
    """A receiver that is being deployed would miss an alert, or one that is gone would be asked for a day."""
    assert after(status)[0] == state


def test_attempts_go_on_for_about_a_day() -> None:
    """An alert would be lost as its receiver is away for a night; or one that is gone would be asked for ever."""
    assert [after(500, attempt)[1] for attempt in range(1, len(WAITS) + 1)] == list(WAITS)
    assert timedelta(hours=20) < timedelta(seconds=sum(WAITS)) < timedelta(hours=26)
    assert after(500, len(WAITS) + 1) == ("failed", 0)
    assert after(200, len(WAITS) + 1) == ("delivered", 0)


def test_waits_differ() -> None:
    """All that failed together would come back together, and fail again."""
    assert after(500, 4, chance=1.0)[1] == pytest.approx(1.2 * WAITS[3])


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("60", 60), ("3", 5), ("0", 5), ("Fri, 27 Feb 2026 10:02:00 GMT", 120), ("Fri, 27 Feb 2026 09:00:00 GMT", 5),
     ("99999999999999999999", 21_600), ("Fri, 27 Feb 2099 10:02:00 GMT", 21_600), ("soon", 5), ("-3", 5), ("", 5),
     ("٣٠", 5), (" 60 ", 60)],
)  # fmt: skip
def test_a_busy_endpoint_is_given_its_time(retry_after: str, seconds: float) -> None:
    """An endpoint that asks for a minute would be asked again in it; a senseless header would stop a delivery."""
    assert after(503, 1, retry_after) == (DeliveryState.PENDING.value, seconds)
