"""What pages read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sluice_agent.server.access.setup import Access
from sluice_agent.server.actions.assembly import Acting
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.store.retention import Keep
from sluice_agent.server.store.store import Store


@dataclass(frozen=True, slots=True)
class Sources:
    """The parts of the server, and those of its options that pages show."""

    store: Store
    access: Access
    acting: Acting
    now: Callable[[], datetime]
    keep: Keep
    daily_limit: int | None
    past_sums: PastSums
