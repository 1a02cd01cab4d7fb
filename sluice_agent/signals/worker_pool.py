"""The pool of this process's worker, as far as it changes the meaning of what Celery announces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class WorkerPool:
    """The kind of the pool. `WorkerProcess` alone changes it, when the worker is ready."""

    in_greenlets: bool = False
    """True if it executes jobs in greenlets: they end with their process, and Celery counts them like processes."""
