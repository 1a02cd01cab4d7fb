"""What this version of Celery or kombu does not let the agent see, and what is then not reported.

It is logged as the agent is installed, and `sluice-agent doctor` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sluice_agent.log import logger


class Shortfalls:
    """Methods that can't be listened to, each with the consequence. There are no more than the agent listens to."""

    def __init__(self) -> None:
        self._effects: dict[str, str] = {}
        self._logged = 0

    def add(self, method: str, effect: str) -> None:
        """Record that `method` can't be listened to."""
        self._effects[method] = effect

    def found(self) -> Mapping[str, str]:
        """The consequences, by method."""
        return dict(self._effects)

    def log(self) -> None:
        """Log all of them in one line, unless nothing was added since the last one."""
        if len(self._effects) > self._logged:
            self._logged = len(self._effects)
            effects = "; ".join(f"{method}: {effect}" for method, effect in self._effects.items())
            logger.warning(
                "sluice-agent reports less with this version of Celery and kombu, which differs in what it listens to. "
                "Nothing else is affected. %s.",
                effects,
            )


SHORTFALLS = Shortfalls()
"""Those of this process."""
