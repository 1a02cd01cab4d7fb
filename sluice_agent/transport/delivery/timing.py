"""The intervals of a shipper."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a shipper waits, in seconds."""

    first_backoff: float = 0.5
    """At the most before the second attempt; it doubles with each further one."""
    max_backoff: float = 60.0
    """At the most between two attempts."""
    correction: float = 60.0
    """Between two attempts while a person must correct the key or the address."""
    takeover_check: float = 2.0
    """Between two checks whether the shipping process has died."""
    fault_pause: float = 5.0
    """Until the loop goes on after an unexpected error."""
    touch: float = 3.0
    """Between two touches of the lock: an idle host shall not write to its disk every second."""
    write_off: float = 3600.0
    """With the lock before events of a destination that no process ships to are dropped."""


TIMING = Timing()
