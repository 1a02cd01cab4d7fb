"""What is measured side by side: a bare Celery, the agent, and each peer as its documentation sets it up.

Each runs in a venv that has nothing else, which `make bench` makes from the package index with the same Celery and
kombu: `celery worker` imports every plugin that is installed beside it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.process import ROOT

STATES = ("queued", "active", "completed")
_VENVS = Path(__file__).with_name("venvs")

Marks = Mapping[str, re.Pattern[bytes]]
"""By state, what occurs in a request once for each job that is reported to be in it."""

_CONTRACT: Marks = {state: re.compile(rb'"state": ?"%b"' % state.encode()) for state in STATES}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the worker and the producer."""

    name: str
    venv: str
    """The name of its venv, and of the file of its requirements."""
    marks: Marks = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """Options of the worker's command line."""
    settle_seconds: float = 2.2
    """The time after the last task in which all is sent: two intervals of the agent's shipper, one of a peer's."""
    environment: Mapping[str, str] | None = None
    """In place of this process's, and with its interpreter: the package is another version than this checkout's."""

    @property
    def python(self) -> str:
        """The interpreter."""
        return str(ROOT / f".venv-bench-{self.venv}" / "bin" / "python") if self.environment is None else sys.executable

    @property
    def is_installed(self) -> bool:
        """Whether its venv exists."""
        return Path(self.python).exists()

    @property
    def release(self) -> str:
        """The packages that it adds to Celery from the package index, with their versions."""
        lines = (_VENVS / f"{self.venv}.txt").read_text(encoding="utf-8").splitlines()
        return ", ".join(line.replace("==", " ") for line in lines if "==" in line)

    def variables(self, url: str) -> dict[str, str]:
        """Return the environment of its processes; `url` is the endpoint's, without a path."""
        inherited = os.environ if self.environment is None else self.environment
        kept = {
            name: value for name, value in inherited.items() if not name.startswith(("SLUICE_", "OTEL_", "SENTRY_"))
        }
        return {
            **kept,
            "BENCH_MODE": self.name if self.environment is None else AGENT.name,
            "PYTHONPATH": kept.get("PYTHONPATH", str(ROOT)),
            "SLUICE_API_KEY": "sk_bench",
            "SLUICE_API_URL": f"{url}/api",
            "SLUICE_BASE_URL": url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "SENTRY_DSN": f"{url.replace('://', '://public@')}/1",
        }


BARE = Variant("bare", "celery")
SIGNALS = Variant("signals", "celery")
AGENT = Variant("sluice-agent", "sluice-agent", _CONTRACT)
EVENTS = Variant("Celery -E", "celery", options=("-E",))
PEERS = (
    Variant("sluice-celery", "sluice-celery", _CONTRACT, settle_seconds=5.5),
    Variant(
        "OpenTelemetry",
        "opentelemetry",
        # The span of a run is sent when it has ended: nothing is reported when a job begins.
        {"queued": re.compile(rb"apply_async/"), "completed": re.compile(rb"run/tests")},
        settle_seconds=5.5,
    ),
    Variant("Sentry", "sentry", {"completed": re.compile(rb'"transaction_info":')}),
)
ALL = (BARE, SIGNALS, AGENT, EVENTS, *PEERS)
