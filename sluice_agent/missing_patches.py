"""Methods that the agent can't patch in this version of Celery or kombu, and what it does not report for that.

They are logged as the agent is installed, and `sluice-agent doctor` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping

from sluice_agent.log import logger


class MissingPatches:
    """Methods that can't be patched, each with the consequence. Their number is bounded by that of the patches."""

    def __init__(self) -> None:
        self._effects: dict[str, str] = {}
        self._logged = 0

    def add(self, method: str, effect: str) -> None:
        """Record that `method` can't be patched."""
        self._effects[method] = effect

    def effects(self) -> Mapping[str, str]:
        """Return the consequences, by method."""
        return dict(self._effects)

    def log(self) -> None:
        """Log all methods in one line, unless none was added since the last line."""
        if len(self._effects) > self._logged:
            self._logged = len(self._effects)
            effects = "; ".join(f"{method}: {effect}" for method, effect in self._effects.items())
            logger.warning(
                "sluice-agent reports less with this version of Celery and kombu: it could not patch some methods. "
                "Nothing else is affected. %s.",
                effects,
            )


MISSING_PATCHES = MissingPatches()
"""The missing_patches of this process."""
