"""What is probably wrong with a job under way. As `job_filter`, this file needs no package of the extra."""

from __future__ import annotations

from enum import Enum


class JobProblem(str, Enum):
    """What is probably wrong with a job under way."""

    SLOW = "slow"
    """It is active for much longer than other jobs of its task."""
    LOST = "lost"
    """It is active on a worker that is gone, or that was started again since."""
    EXPIRED = "expired"
    """It is queued, and its `expires` is in the past."""
    OVERDUE = "overdue"
    """Its ETA is in the past, and it has not started."""
