"""The rules: what is measured, its limit, and who is notified. No file and no database enters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
MINUTE, HOUR, DAY = 60, 3_600, 86_400
"""In seconds."""


@dataclass(frozen=True, slots=True)
class FailureShare:
    """The share of the jobs of `task` that failed, of those that ended in the last `over` seconds: at least
    `at_least`."""

    task: str
    above: float
    over: int = 5 * MINUTE
    at_least: int = 20

    @property
    def text(self) -> str:
        """The condition in words."""
        runs = f"with at least {self.at_least:,} jobs"
        return f"more than {percent(self.above)} of {self.task} fail in {span(self.over)}, {runs}"


@dataclass(frozen=True, slots=True)
class Depth:
    """The jobs in the broker's queue, by its latest snapshot."""

    queue: str
    above: int

    @property
    def text(self) -> str:
        """The condition in words."""
        return f"more than {self.above:,} jobs are in the queue {self.queue}"


@dataclass(frozen=True, slots=True)
class OldestWait:
    """The seconds for which the oldest job of a queue waits to be started."""

    queue: str
    above: int

    @property
    def text(self) -> str:
        """The condition in words."""
        return f"the oldest job of the queue {self.queue} waits for more than {span(self.above)}"


@dataclass(frozen=True, slots=True)
class Silence:
    """The seconds since the last event of a worker, also of one that has reported its end."""

    worker: str
    above: int

    @property
    def text(self) -> str:
        """The condition in words."""
        return f"nothing comes from the worker {self.worker} for more than {span(self.above)}"


Measure: TypeAlias = FailureShare | Depth | OldestWait | Silence


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts are sent. `secret_env` is the variable with the secret that signs them."""

    name: str
    url: str
    secret_env: str
    allows_private: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of one connection, by its name or id. Times are seconds.

    It fires once `measure` is above its limit for `holds_for`, again after each `repeat` (None: never), and is resolved
    once it is not for `resolves_after`.
    """

    name: str
    connection: str
    measure: Measure
    webhook: Webhook
    holds_for: int = 0
    resolves_after: int = 2 * MINUTE
    repeat: int | None = None

    @property
    def text(self) -> str:
        """The condition in words."""
        return f"{self.measure.text}, for {span(self.holds_for)}" if self.holds_for else self.measure.text


def span(seconds: float) -> str:
    """Return a duration as pages show it, with its two largest units: ``1 h 30 min``."""
    rest = round(seconds)
    parts = []
    for unit, length in _UNITS:
        if rest >= length:
            parts.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(parts[:2]) or "0 s"


def percent(share: float) -> str:
    """Return a share of 1 in percent."""
    return f"{share * 100:.3g} %"
